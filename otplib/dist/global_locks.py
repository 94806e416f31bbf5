"""Global locks: who has locked what on this node.

A lock is `(resource, requester)`. A resource is locked by one requester at a time, and by any number of processes that
name the same requester; it is free when the last of them has let go or ended. Names are changed under the lock on
`"global"` alone, set on all nodes of a partition.
"""

from __future__ import annotations

from typing import Any, Final

from otplib.core.terms import Atom, Pid
from otplib.vm.global_names import name_key

#: The resource that `global` itself locks.
GLOBAL: Final = Atom("global")


class LockTable:
    """The locks that are set on this node. Mirrors what `:global.set_lock/2` leaves on one node.

    Example:
        >>> one, two = Pid("a@h", 1, 0, 1), Pid("b@h", 1, 0, 1)
        >>> table = LockTable()
        >>> table.set(("door", "me"), one), table.set(("door", "you"), two), table.set(("door", "me"), two)
        (True, False, True)
        >>> table.free(("door", "me"), one)
        >>> table.drop(two)
        >>> table.set(("door", "you"), two)
        True
    """

    def __init__(self) -> None:
        #: resource -> (requester, who locks it); nobody's is not there.
        self._locks: dict[Any, tuple[Any, set[Pid]]] = {}
        self._resources: dict[Pid, set[Any]] = {}
        #: The lock on `"global"` went last because its only holder ended, not because it was freed.
        self.ended_with_holder = False

    def can_set(self, lock: tuple[Any, Any]) -> bool:
        """Tell whether the requester may lock the resource."""
        held = self._locks.get(name_key(lock[0]))
        return held is None or held[0] == name_key(lock[1])

    def set(self, lock: tuple[Any, Any], pid: Pid) -> bool:
        """Lock the resource; False if it is another requester's."""
        if not self.can_set(lock):
            return False
        resource = name_key(lock[0])
        self._locks.setdefault(resource, (name_key(lock[1]), set()))[1].add(pid)
        self._resources.setdefault(pid, set()).add(resource)
        return True

    def free(self, lock: tuple[Any, Any], pid: Pid) -> None:
        """Let go, if the lock is this requester's and this process holds it."""
        held = self._locks.get(name_key(lock[0]))
        if held is not None and held[0] == name_key(lock[1]):
            self._free(name_key(lock[0]), pid, by_end=False)

    def drop(self, pid: Pid) -> None:
        """A process has ended, or is out of reach: it lets go of all."""
        for resource in list(self._resources.get(pid, ())):
            self._free(resource, pid, by_end=True)

    def _free(self, resource: Any, pid: Pid, *, by_end: bool) -> None:
        _, holders = self._locks[resource]
        if pid not in holders:
            return
        holders.discard(pid)
        resources = self._resources[pid]
        resources.discard(resource)
        if not resources:
            del self._resources[pid]
        if not holders:
            del self._locks[resource]
            if resource == name_key(GLOBAL):
                self.ended_with_holder = by_end

    def holds_any(self, pid: Pid) -> bool:
        """Tell whether a process has locked anything."""
        return pid in self._resources

    def holders(self) -> list[Pid]:
        """Give all processes that have locked anything."""
        return list(self._resources)

    def is_set(self, resource: Any = GLOBAL) -> bool:
        """Tell whether anybody has locked the resource."""
        return name_key(resource) in self._locks

    def still_covers(self, source: Any) -> bool:
        """Tell whether a change of names still stands under the lock it was made under.

        `source` is the process that asks for it, or the lock that its message names. A change may arrive late, when
        who made it has died, or its node has gone and come back: the lock has gone with it then, and nobody would take
        the change back.
        """
        held = self._locks.get(name_key(GLOBAL))
        if held is None:
            return not self.ended_with_holder
        if isinstance(source, Pid):
            return source in held[1]
        return isinstance(source, tuple) and len(source) == 2 and name_key(source[1]) == held[0]
