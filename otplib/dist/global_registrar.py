"""The registrar: the process that registers names on all nodes of our partition, under its lock.

| job | what it does under the lock |
|---|---|
| `("register", term, pid, caller)` | register unless somebody has the name; answers the caller True or False |
| `("claim", term, pid)` | what `process.register` has entered here already becomes agreed, or is a conflict |
| `("unregister", term, pid)` | take the name from `pid` on all nodes |
"""

from __future__ import annotations

from typing import Any, Final

from otplib.behaviours import gen
from otplib.core.terms import Atom, Pid
from otplib.dist.global_conflicts import USUAL, decide
from otplib.dist.global_locking import ask, ask_all, del_lock, del_lock_boss_last, set_lock, sleep_random
from otplib.dist.global_locks import GLOBAL
from otplib.dist.global_protocol import LockId
from otplib.process import receive, self_
from otplib.vm.shell import current_machine

#: Jobs that are done under one lock, before others get their turn.
AT_ONCE: Final = 100

_JOBS: Final = (("register", ..., ..., ...), ("claim", ..., ...), ("unregister", ..., ...))


async def run_registrar(here: str) -> None:
    """Serve as the registrar of node `here`; linked to its name server."""
    lock = (GLOBAL, self_())
    while True:
        first = await receive(*_JOBS)
        nodes = await lock_all_known(here, lock)
        for job in [first, *await _more(AT_ONCE - 1)]:
            await _do(job, nodes)
        await del_lock_boss_last(lock, nodes)


async def lock_all_known(here: str, lock: LockId) -> list[str]:
    """Lock this node and all that it knows; give them, once no other has become known meanwhile."""
    times = 0
    while True:
        known: list[str] = await ask("get_known")
        nodes = [here, *known]
        boss = max(nodes)
        # The boss first, as the lockers do: of all that try at once one gets it.
        if await set_lock(lock, [boss]):
            if await set_lock(lock, nodes):
                if set(await ask("get_known")) <= set(known):
                    return nodes
                await del_lock(lock, [node for node in nodes if node != boss])
            await del_lock(lock, [boss])
        await sleep_random(times)
        times += 1


async def _more(at_most: int) -> list[Any]:
    jobs: list[Any] = []
    try:
        while len(jobs) < at_most:
            jobs.append(await receive(*_JOBS, timeout=0))
    except TimeoutError:
        pass
    return jobs


async def _do(job: Any, nodes: list[str]) -> None:
    names = current_machine().global_names
    match job:
        case ("register", term, pid, caller):
            is_free = not names.is_taken(term)
            if is_free:
                await _register(term, pid, nodes)
            gen.reply(caller, is_free)
        case ("claim", term, pid):
            await _settle(term, pid, nodes)
        case ("unregister", term, pid):
            agreed = names.find_agreed(term)
            # Agreed again, with somebody else, since it was taken back here: that is not ours to undo.
            if agreed is None or agreed.pid == pid:
                await ask_all(nodes, (Atom("unregister"), term))


async def _settle(term: Any, pid: Pid, nodes: list[str]) -> None:
    names = current_machine().global_names
    claimant = names.find_claimant(term)
    if claimant is None or claimant.pid != pid:
        return  # it has ended, or given the name back
    agreed = names.find_agreed(term)
    if agreed is None:
        await _register(term, pid, nodes)
        return
    # Registered here, and elsewhere before this node could be asked: a conflict, as after a split.
    winner = await decide(agreed, pid)
    if winner == pid:
        await _register(term, pid, nodes)
        return
    names.withdraw(term, claimant)
    if winner != agreed.pid:
        await ask_all(nodes, (Atom("unregister"), term))


async def _register(term: Any, pid: Pid, nodes: list[str]) -> None:
    await ask_all(nodes, (Atom("register"), term, pid, USUAL))
