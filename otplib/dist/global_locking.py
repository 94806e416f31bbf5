"""Setting a lock on many nodes: what the locker and the registrar of `global` have in common.

The process that sets a lock holds it: the name server of each node watches it, and frees what a dead one has locked.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from otplib.behaviours.gen_server import GenServer
from otplib.core.terms import Atom, Pid
from otplib.dist.global_protocol import LockId
from otplib.process import sleep
from otplib.vm.shell import current_machine

#: Under what name each node's name server is registered.
SERVER = "global_name_server"


async def ask(request: Any) -> Any:
    """Ask the name server of this node."""
    return await GenServer.call(SERVER, request, None)


async def ask_all(nodes: Iterable[str], request: Any) -> list[Any]:
    """Ask the name servers of many nodes; those that are down give no answer."""
    answers, _ = await GenServer.multi_call(nodes, SERVER, request)
    return [answer for _, answer in answers]


async def set_lock(lock: LockId, nodes: list[str]) -> bool:
    """Try to lock on all these nodes that are up: all, or none. Mirrors `:global.set_lock/3` without retries."""
    if not nodes:
        return True
    if len(nodes) > 1 and current_machine().node in nodes and not await ask(("can_set_lock", lock)):
        return False  # seen here, before others are troubled
    answers, _ = await GenServer.multi_call(nodes, SERVER, (Atom("set_lock"), lock))
    if all(answer is True for _, answer in answers):
        return True
    await del_lock(lock, [node for node, answer in answers if answer is True])
    return False


async def del_lock(lock: LockId, nodes: list[str]) -> None:
    """Free the lock on these nodes. Mirrors `:global.del_lock/2`."""
    if nodes:
        await ask_all(nodes, (Atom("del_lock"), lock))


async def del_lock_boss_last(lock: LockId, nodes: Iterable[str]) -> None:
    """Free a lock that was set on the boss first: who waits for it finds all others free when the boss is."""
    boss = max(nodes)
    await del_lock(lock, [node for node in dict.fromkeys(nodes) if node != boss])
    await del_lock(lock, [boss])


async def sleep_random(times: int) -> None:
    """Wait before the next try, longer with each: up to 1/8 s, doubled up to 8 s."""
    await sleep(random.uniform(0.0, min(8.0, 2**times / 8)))


def term_order(pid: Pid) -> tuple[Any, ...]:
    """Give what pids of several nodes are sorted by on a BEAM: two lockers must name their common lock alike.

    Example:
        >>> one, two, three = Pid("b@h", 1, 0, 7), Pid("a@h", 2, 0, 7), Pid("a@h", 1, 1, 7)
        >>> sorted([three, two, one], key=term_order) == [one, two, three]
        True
    """
    return (pid.serial, pid.id, pid.node, pid.creation)
