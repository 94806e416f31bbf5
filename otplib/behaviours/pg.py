"""Process groups: named sets of processes that every node of a cluster knows. Erlang's `:pg`.

```python
await pg.start_link()                             # once on each node: the default scope, "pg"
await pg.join(Atom("workers"), self_())
for pid in pg.get_members(Atom("workers")): send(pid, "hello")
```

A scope is a process registered under its name; those of the same name on connected nodes, Python's or a BEAM's, tell
each other who of theirs is in which group. Nothing is agreed upon: each node says what is so with its own processes,
and a moment later the others know. A process may join a group many times, and is then in it many times; it leaves when
it ends, and those of a node when the node, or its scope, is gone.

Reading is a plain call that asks nobody; `join`, `leave` and the monitors are awaited. A group is any term. As for
`Global`, `Atom("g")` is `:g` on a BEAM and `"g"` is the binary; who asks for either here, and only the other is there,
is given that.

What scopes say to each other, as `pg` of OTP 25:

| message | meaning |
|---|---|
| `("discover", peer)` | here I am: tell me of yours |
| cast `("sync", peer, [(group, pids), ...])` | all that is so with me; forget what you knew of me |
| `("join", peer, group, pid or pids)` | these have joined |
| `("leave", peer, pid or pids, groups)` | these have left each of the groups, once |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from otplib.behaviours.gen_server import GenServer
from otplib.behaviours.pg_scope import Groups, PgScope, find_groups
from otplib.core.child_spec import ChildSpec
from otplib.core.errors import NoSuchNameError
from otplib.core.inspection import inspect_term
from otplib.core.mailbox import EMPTY
from otplib.core.patterns import tester
from otplib.core.terms import Pid, Ref
from otplib.vm.shell import current_machine, current_record
from otplib.vm.transport import is_far

__all__ = [
    "child_spec",
    "demonitor",
    "get_local_members",
    "get_members",
    "join",
    "leave",
    "monitor",
    "monitor_scope",
    "start",
    "start_link",
    "which_groups",
    "which_local_groups",
]

DEFAULT_SCOPE: Final = "pg"


def child_spec(scope: str = DEFAULT_SCOPE) -> ChildSpec:
    """Give the specification under which a supervisor starts a scope; its id is the scope.

    Example:
        >>> child_spec("rooms").id
        'rooms'
    """
    return ChildSpec(_check_scope(scope), (start_link, (scope,)), modules=[PgScope])


# ---- scopes ----------------------------------------------------------------------------------------------------------


async def start_link(scope: str = DEFAULT_SCOPE) -> Pid:
    """Start a scope, linked to the caller; gives its pid. Mirrors `:pg.start_link/0,1`.

    Raises:
        StartError: `("already_started", pid)`: it is there.

    Example:
        >>> from otplib import process, run, self_
        >>> async def main():
        ...     await start_link()
        ...     await join("watchers", self_())
        ...     return get_members("watchers") == [self_()], which_groups()
        >>> run(main)
        (True, ['watchers'])
    """
    pid = await PgScope.start_link(scope, name=_check_scope(scope))
    assert pid is not None
    return pid


async def start(scope: str = DEFAULT_SCOPE) -> Pid:
    """As `start_link`, without the link. Mirrors `:pg.start/1`."""
    pid = await PgScope.start(scope, name=_check_scope(scope))
    assert pid is not None
    return pid


def _check_scope(scope: Any) -> str:
    if not isinstance(scope, str):
        raise TypeError(f'expected the name of a scope, a str such as "pg"; got {scope!r}')
    return scope


# ---- joining and leaving ---------------------------------------------------------------------------------------------


async def join(group: Any, pids: Pid | Iterable[Pid], scope: str = DEFAULT_SCOPE) -> None:
    """Put processes of this node into a group, once for each time they are named. Mirrors `:pg.join/2,3`.

    Raises:
        ValueError: a process of another node (Erlang: `{nolocal, Pid}`): it must join there.
        TypeError: no pids.
        Exit: the scope has not been started.
    """
    await GenServer.call(scope, ("join_local", group, _check_local(pids)), None)


async def leave(group: Any, pids: Pid | Iterable[Pid], scope: str = DEFAULT_SCOPE) -> bool:
    """Take processes of this node out of a group, once for each time they are named; False if none of them was in it
    (Erlang: `not_joined`). Mirrors `:pg.leave/2,3`.

    Raises:
        ValueError, TypeError, Exit: as `join`.
    """
    answer = await GenServer.call(scope, ("leave_local", group, _check_local(pids)), None)
    return bool(answer == "ok")


def _check_local(pids: Any) -> list[Pid]:
    found = [pids] if isinstance(pids, Pid) else list(pids) if isinstance(pids, Iterable) else None
    if found is None or not all(isinstance(pid, Pid) for pid in found):
        raise TypeError(f"expected a pid or several, as in pg.join(group, self_()); got {inspect_term(pids)}")
    for pid in found:
        if is_far(pid):
            raise ValueError(f"{pid!r} is on {pid.node}: only a process of this node can join or leave here")
    return found


# ---- looking ---------------------------------------------------------------------------------------------------------


def get_members(group: Any, scope: str = DEFAULT_SCOPE) -> list[Pid]:
    """Give the members of a group on all nodes, as often as each has joined; a plain call. Mirrors
    `:pg.get_members/1,2`.

    Raises:
        NoSuchNameError: the scope has not been started (Erlang gives `[]`, and hides the mistake).
    """
    return _groups(scope).members(group)


def get_local_members(group: Any, scope: str = DEFAULT_SCOPE) -> list[Pid]:
    """Give the members of a group on this node; a plain call. Mirrors `:pg.get_local_members/1,2`."""
    return _groups(scope).local_members(group)


def which_groups(scope: str = DEFAULT_SCOPE) -> list[Any]:
    """Give the groups that have members; a plain call. Mirrors `:pg.which_groups/0,1`."""
    return _groups(scope).names()


def which_local_groups(scope: str = DEFAULT_SCOPE) -> list[Any]:
    """Give the groups that have members on this node; a plain call. Mirrors `:pg.which_local_groups/0,1`."""
    return _groups(scope).local_names()


def _groups(scope: str) -> Groups:
    found = find_groups(current_machine(), scope)
    if found is None:
        raise NoSuchNameError(f"there is no scope {scope!r} of process groups: await pg.start_link({scope!r}) first")
    return found


# ---- being told ------------------------------------------------------------------------------------------------------


async def monitor(group: Any, scope: str = DEFAULT_SCOPE) -> tuple[Ref, list[Pid]]:
    """Give a reference and the members of a group now; from then on this process is sent `(ref, "join", group, pids)`
    and `(ref, "leave", group, pids)`. Mirrors `:pg.monitor/1,2`.

    Raises:
        Exit: the scope has not been started.

    Example:
        >>> from otplib import receive, run, self_
        >>> async def main():
        ...     await start_link("halls")
        ...     ref, now = await monitor("main", "halls")
        ...     await join("main", self_(), "halls")
        ...     return now, await receive((ref, "join", "main", ...)) == (ref, "join", "main", [self_()])
        >>> run(main)
        ([], True)
    """
    ref, members = await GenServer.call(scope, ("monitor", group), None)
    return ref, members


async def monitor_scope(scope: str = DEFAULT_SCOPE) -> tuple[Ref, dict[Any, list[Pid]]]:
    """As `monitor`, for all groups of a scope: gives a reference, and the members of each group now. Mirrors
    `:pg.monitor_scope/0,1`. A list or dict that is a group stands there as a tuple of its parts, and groups that Python
    calls equal stand together."""
    ref, rows = await GenServer.call(scope, "monitor", None)
    found: dict[Any, list[Pid]] = {}
    for group, pids in rows:
        found.setdefault(_as_key(group), []).extend(pids)
    return ref, found


def _as_key(group: Any) -> Any:
    if isinstance(group, dict):
        return tuple((key, _as_key(value)) for key, value in group.items())
    return tuple(map(_as_key, group)) if isinstance(group, list | tuple) else group


async def demonitor(ref: Ref, scope: str = DEFAULT_SCOPE) -> bool:
    """Stop a monitor; nothing of it comes any more, and what has come is taken away. False if there was none. Mirrors
    `:pg.demonitor/1,2`."""
    answer = await GenServer.call(scope, ("demonitor", ref), None)
    if answer != "ok":
        return False
    mailbox = current_record().mailbox
    while (
        mailbox is not None and mailbox.take(tester(((ref, "join", ..., ...), (ref, "leave", ..., ...)))) is not EMPTY
    ):
        pass
    return True
