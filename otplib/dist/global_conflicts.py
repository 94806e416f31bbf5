"""Two processes have one name: which keeps it, and what becomes of the other.

Each name has a method, a function of the name and the two pids that gives the one which keeps it, or "none". The usual
one is OTP's `random_exit_name`, which is not random at all: the process on the node with the smaller name keeps it, the
other is killed (row y15). The methods of `:global` we carry out ourselves; any other is a function of some BEAM, and is
asked for on the node that has it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from otplib.behaviours.gen_server import GenServer
from otplib.core.errors import Exit
from otplib.core.terms import Atom, Pid
from otplib.dist.etf_terms import Export
from otplib.dist.global_locking import SERVER
from otplib.dist.global_protocol import Operations
from otplib.process import exit, group_leader, send
from otplib.vm.global_names import GlobalNames, Named
from otplib.vm.shell import current_machine

log = logging.getLogger("otplib")

NONE: Final = Atom("none")


def random_exit_name(name: Any, one: Pid, two: Pid) -> Pid:
    """Kill the process on the node with the greater name."""
    winner, loser = _by_node(one, two)
    log.info("global: name conflict, terminating %r, which has the name %r too", loser, name)
    exit(loser, Atom("kill"))
    return winner


def random_notify_name(name: Any, one: Pid, two: Pid) -> Pid:
    """Tell the process on the node with the greater name that it has lost its name."""
    winner, loser = _by_node(one, two)
    send(loser, (Atom("global_name_conflict"), name))
    return winner


def notify_all_name(name: Any, one: Pid, two: Pid) -> Atom:
    """Tell both that they have lost their name."""
    send(one, (Atom("global_name_conflict"), name, two))
    send(two, (Atom("global_name_conflict"), name, one))
    return NONE


def _by_node(one: Pid, two: Pid) -> tuple[Pid, Pid]:
    return (one, two) if one.node < two.node else (two, one)


#: The method of a name that was registered here.
USUAL: Final = Export("global", "random_exit_name", 3)

_METHODS: Final[dict[Any, Callable[[Any, Pid, Pid], Any]]] = {
    None: random_exit_name,
    USUAL: random_exit_name,
    Export("global", "random_notify_name", 3): random_notify_name,
    Export("global", "notify_all_name", 3): notify_all_name,
}


def resolve_it(method: Any, name: Any, one: Pid, two: Pid) -> Any:
    """Carry a method out, for another node that has found the conflict. Mirrors `:global.resolve_it/4`.

    Gives what the method gives; for a function that is not known here, what the other node takes as "none".
    """
    known = _METHODS.get(method)
    return known(name, one, two) if known is not None else (Atom("EXIT"), (Atom("undef"), method))


async def decide(mine: Named, pid: Pid) -> Pid | Atom | None:
    """Decide who keeps the name: one of the two, "none", or None if the node that knows the method is out of reach."""
    if mine.method in _METHODS:
        return resolve_it(mine.method, mine.term, pid, mine.pid)  # type: ignore[no-any-return]  # methods are typed Any
    arguments = [mine.method, mine.term, pid, mine.pid]
    request = (Atom("call"), Atom("global"), Atom("resolve_it"), arguments, group_leader())
    try:
        winner = await GenServer.call(("rex", mine.pid.node), request, None)
    except Exit as why:
        log.info("global: %r when conflicting name %r was found", why.reason, mine.term)
        return None
    if isinstance(winner, tuple) and winner[:1] == ("badrpc",):
        return None
    return winner if winner in (pid, mine.pid) else NONE


async def compare(node: str, theirs: list[Any], names: GlobalNames) -> tuple[Operations, Operations]:
    """Compare the names that a node has sent with ours: what changes here, and what changes there.

    Conflicts are decided on the side of the smaller of the two nodes that have met, so each is decided once.
    """
    here: Operations = []
    there: Operations = []
    for name, pid, method in theirs:
        mine = names.find_agreed(name)
        if mine is not None and mine.pid == pid:
            continue
        insert = (Atom("insert"), (name, pid, method))
        if mine is None:
            here.append(insert)
        elif current_machine().node < node:
            winner = await decide(mine, pid)
            if winner is None or winner == pid:
                here.append(insert)
            elif winner == mine.pid:
                there.append((Atom("insert"), (name, mine.pid, mine.method or USUAL)))
            else:
                here.append((Atom("delete"), name))
                there.append((Atom("delete"), name))
    return here, there


async def run_resolver(node: str, tag: int, theirs: list[Any]) -> None:
    """Compare, in a process of its own, as a method may take its time; then tell the name server."""
    ops, resolved = await compare(node, theirs, current_machine().global_names)
    GenServer.cast(SERVER, ("exchange_ops", node, tag, ops, resolved))
