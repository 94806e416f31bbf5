"""The locker: the process that locks our partition when a node of another one has come up.

It takes the nodes that wait one at a time, and holds the lock until the name server has agreed with that node:

    we choose                                            the other node has chosen us
    lock our partition and him                           lock_set(True) comes from its locker
    lock_set(True) to his locker                         lock our partition: lock_set(True), or (False), back
    his lock_set(True): tell the server lock_is_set      tell the server lock_is_set
      (False: unlock, try again later)
    the server's cancel: cast its farewell, unlock       the same

Both lockers name the lock by their two pids, so that they do not shut each other out where their partitions overlap.
Before it chooses it waits, as anybody else of the partition may be quicker. Lockers speak through the name servers, so
that nothing of them overtakes a node_up or node_down.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any, NamedTuple

from otplib.behaviours import gen
from otplib.core.terms import Atom, Pid
from otplib.dist.global_locking import SERVER, ask, del_lock, del_lock_boss_last, set_lock, term_order
from otplib.dist.global_locks import GLOBAL
from otplib.dist.global_protocol import VERIFIES_CONNECT, Cast, LockId
from otplib.process import receive, self_


class Waiting(NamedTuple):
    """A node whose partition is to be joined with ours."""

    node: str
    locker: Pid
    version: int
    my_tag: int
    his_tag: Any


class Queue:
    """The nodes we know and those that wait: which to take next, and when.

    Args:
        here: the name of this node.
    """

    def __init__(self, here: str) -> None:
        self.here = here
        self.known: list[str] = []
        self.waiting: list[Waiting] = []
        #: The last one has just been served: the next need not wait.
        self.just_synced = False

    def patience(self) -> float | None:
        """Give the seconds to wait for messages before one is chosen; None if there is none.

        Longer in a larger partition: if all its nodes tried again at once, none would get the lock.

        Example:
            >>> queue = Queue("a@h")
            >>> queue.patience(), queue.add(Waiting("b@h", Pid("b@h", 1, 0, 1), 8, 1, 1)), queue.patience()
            (None, None, 0.2)
            >>> queue.change_known([Atom("c@h")]), queue.patience()
            (None, 1.1)
        """
        if not self.waiting:
            return None
        if self.just_synced:
            return 0.0
        return min(1.0 + 0.1 * len(self.known), 3.0) if self.known else 0.2

    def boss(self) -> str:
        """Give the node that all of the partition lock first."""
        return max([self.here, *self.known])

    def add(self, waiting: Waiting) -> None:
        """Let a node wait."""
        self.waiting.append(waiting)

    def remove(self, node: str, my_tag: Any) -> None:
        """Let it wait no longer."""
        self.waiting = [entry for entry in self.waiting if (entry.node, entry.my_tag) != (node, my_tag)]

    def find(self, node: str) -> Waiting | None:
        """Give the one that waits for this node."""
        return next((entry for entry in self.waiting if entry.node == node), None)

    def change_known(self, added: Iterable[str] = (), removed: str | None = None) -> None:
        """Hear of the nodes of our partition."""
        known = dict.fromkeys([*self.known, *added])
        self.known = [node for node in known if node != removed]

    def choose(self) -> Waiting | None:
        """Give the next, at random, nodes of this host before others; those that we know by now wait no longer."""
        self.waiting = [entry for entry in self.waiting if entry.node not in self.known]
        host = self.here.partition("@")[2]
        near = [entry for entry in self.waiting if entry.node.partition("@")[2] == host]
        return random.choice(near or self.waiting) if self.waiting else None


async def run_locker(here: str) -> None:
    """Serve as the locker of node `here`; linked to its name server."""
    await _Locker(here).serve()


class _Locker:
    def __init__(self, here: str) -> None:
        self._queue = Queue(here)

    async def serve(self) -> None:
        queue = self._queue
        while True:
            patience = queue.patience()
            queue.just_synced = False
            try:
                message = await receive(timeout=patience)
            except TimeoutError:
                if not await ask("is_locked"):
                    await self._choose()
            else:
                await self._take(message)

    async def _take(self, message: Any) -> None:
        match message:
            case ("his_the_locker", locker, version, his_tag, my_tag):
                self._queue.add(Waiting(locker.node, locker, version, my_tag, his_tag))
            case ("cancel", node, tag, farewell):
                _cast_all(farewell)
                self._queue.remove(node, tag)
            case ("lock_set", Pid() as locker, True, _, *tags):
                await self._follow(locker, tags)
            case ("lock_set", *_):
                pass  # refused after we have stopped waiting for it
            case _:
                self._hear_of_nodes(message)

    def _hear_of_nodes(self, message: Any) -> None:
        match message:
            case ("add_to_known", nodes):
                self._queue.change_known(added=nodes)
            case ("remove_from_known", node):
                self._queue.change_known(removed=node)

    # ---- the two sides ---------------------------------------------------------------------------------------

    async def _follow(self, locker: Pid, tags: list[Any]) -> None:
        """His side has locked: lock ours too."""
        him = self._queue.find(locker.node)
        if him is None or (tags and tags[0] != him.my_tag):
            self._answer(Waiting(locker.node, locker, 0, 0, None), False)
            return
        lock = lock_id(locker)
        is_set = await self._lock_partition(lock, [])
        self._answer(him, is_set)
        if is_set:
            await self._hold(him, lock, [self._queue.here, *self._queue.known])

    async def _choose(self) -> None:
        """Lock our side, and ask one that waits to lock his."""
        him = self._queue.choose()
        if him is None:
            return
        lock = lock_id(him.locker)
        # His node too: should he choose us at this moment, one of us fails at once instead of both for ever.
        if not await self._lock_partition(lock, [him.node]):
            return
        locked = [self._queue.here, him.node, *self._queue.known]
        self._answer(him, True)
        match await receive(lambda message: _concerns(message, him)):
            case ("lock_set", _, True, *_):
                await self._hold(him, lock, locked)
            case ("lock_set", *_):
                await del_lock_boss_last(lock, locked)
            case ("cancel", _, _, farewell):
                _cast_all(farewell)
                await del_lock_boss_last(lock, locked)
                self._queue.remove(him.node, him.my_tag)

    async def _hold(self, him: Waiting, lock: LockId, locked: list[str]) -> None:
        """Both sides have locked: keep it until the server says so. It does if his node goes down, too."""
        gen.cast(SERVER, ("lock_is_set", him.node, him.my_tag, lock))
        *_, farewell = await receive(("cancel", him.node, him.my_tag, ...))
        _cast_all(farewell)
        await del_lock_boss_last(lock, locked)
        self._queue.remove(him.node, him.my_tag)
        self._queue.just_synced = True

    def _answer(self, him: Waiting, is_set: bool) -> None:
        known = [Atom(node) for node in self._queue.known]
        answer = (Atom("lock_set"), self_(), is_set, known)
        tag = (him.his_tag,) if him.version >= VERIFIES_CONNECT else ()
        gen.cast((SERVER, him.node), answer + tag)

    async def _lock_partition(self, lock: LockId, extra: list[str]) -> bool:
        """Lock our partition, the boss first: of all that try at once one gets it, and the others stop there."""
        queue = self._queue
        boss = queue.boss()
        if boss != queue.here and not await ask(("can_set_lock", lock)):
            return False
        if not await set_lock(lock, [boss]):
            return False
        await self._hear_of_all_nodes()
        second = [node for node in (queue.here, *extra) if node != boss]
        if not await set_lock(lock, second):
            await del_lock(lock, [boss])
            return False
        if not await set_lock(lock, [node for node in queue.known if node != boss]):
            await del_lock(lock, [boss, *second])
            return False
        return True

    async def _hear_of_all_nodes(self) -> None:
        try:
            while True:
                self._hear_of_nodes(await receive(("add_to_known", ...), ("remove_from_known", ...), timeout=0))
        except TimeoutError:
            return


def lock_id(locker: Pid) -> LockId:
    """Give the lock that this process and that locker set together."""
    return (GLOBAL, sorted([self_(), locker], key=term_order))


def _concerns(message: Any, him: Waiting) -> bool:
    match message:
        case ("lock_set", Pid() as locker, bool(), _, *tags):
            return locker.node == him.node and (not tags or tags[0] == him.my_tag)
        case ("cancel", node, tag, _):
            return bool(node == him.node and tag == him.my_tag)
    return False


def _cast_all(casts: list[Cast]) -> None:
    for cast in casts:
        gen.cast((SERVER, cast.node), cast.request)
