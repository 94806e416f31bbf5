"""Calling functions on other nodes, with everything that may become of it told apart. Mirrors OTP's `erpc`.

| what becomes of the call | `call` |
|---|---|
| it returns | gives the value |
| it raises a Python exception | raises `RemoteError`, whose cause is that exception |
| it raises `Exit(reason)` | raises `Exit(("exception", reason))` |
| its process is killed by a signal | raises `Exit(("signal", reason))` |
| the node cannot be reached, or goes away | raises `RemoteError(("erpc", "noconnection"))` |
| it takes too long | raises `RemoteError(("erpc", "timeout"))` |
| it throws, on a BEAM | raises `Thrown(value)` |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from otplib.core.errors import Exit, RemoteError, Thrown
from otplib.core.terms import Atom
from otplib.dist.far_spawn import LOST, TIMED_OUT, FarCall, cast_far
from otplib.vm.shell import current_record
from otplib.vm.waiting import deadline_after

Function = Callable[..., Any] | str


async def call(node: str, fn: Function, *args: Any, timeout: float | None = None) -> Any:
    """Run `fn(*args)` on a node and give its result. Mirrors `:erpc.call/5`; arguments as `rpc.call`.

    Raises:
        RemoteError, Thrown, Exit: see the table above.
        CopyError: an argument, or the function, cannot be sent to that node.

    Example:
        >>> from otplib import run
        >>> run(call, "nonode@nohost", "math.sqrt", 2.25)
        1.5
    """
    deadline = deadline_after(current_record(), timeout)
    return await receive_response(await FarCall.begin(node, fn, args, deadline), deadline=deadline)


def cast(node: str, fn: Function, *args: Any) -> None:
    """Run `fn(*args)` on a node and hear nothing of it. Mirrors `:erpc.cast/4`."""
    cast_far(node, fn, args)


async def multicall(
    nodes: Iterable[str], fn: Function, *args: Any, timeout: float | None = None
) -> list[tuple[str, Any]]:
    """Run `fn(*args)` on many nodes at once. Mirrors `:erpc.multicall/5`.

    Gives for each node, in order, `("ok", value)`, `("error", reason)`, `("exit", reason)` or `("throw", value)`.
    """
    deadline = deadline_after(current_record(), timeout)
    outcomes: list[tuple[str, Any]] = []
    for one in [await FarCall.begin(node, fn, args, deadline) for node in nodes]:
        try:
            outcomes.append((Atom("ok"), await receive_response(one, deadline=deadline)))
        except RemoteError as error:
            outcomes.append((Atom("error"), error.reason))
        except Thrown as thrown:
            outcomes.append((Atom("throw"), thrown.value))
        except Exit as left:
            outcomes.append((Atom("exit"), left.reason))
    return outcomes


def send_request(node: str, fn: Function, *args: Any) -> FarCall:
    """Begin a call; `receive_response` gives its result to the same process. Mirrors `:erpc.send_request/4`."""
    return FarCall(node, fn, args)


async def receive_response(request: FarCall, timeout: float | None = None, *, deadline: float | None = None) -> Any:
    """Wait for the result of a call that `send_request` began; past the time it is given up. Mirrors
    `:erpc.receive_response/2`.

    Raises:
        RemoteError, Thrown, Exit: see the table above.
    """
    if deadline is None:
        deadline = deadline_after(current_record(), timeout)
    outcome = await request.wait(deadline)
    if outcome is TIMED_OUT:
        request.abandon()
        raise RemoteError((Atom("erpc"), Atom("timeout")))
    if outcome is LOST:
        raise RemoteError((Atom("erpc"), Atom("noconnection")))
    match request.returned(outcome):
        case ("return", (value,)):
            return value
        case ("throw", (value,)):
            raise Thrown(value)
        case ("exit", (why,)):
            raise Exit((Atom("exception"), why))
        case ("error", (why, stack)):
            error = RemoteError((Atom("exception"), why, stack))
            raise error from why if isinstance(why, BaseException) else None
        case _:
            raise Exit((Atom("signal"), outcome))
