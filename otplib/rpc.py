"""Calling functions on other nodes. Mirrors OTP's `rpc`; `otplib.erpc` tells more about what went wrong.

```python
await rpc.call("foo@vm", "H.say")                    # in the kernel foo, or Elixir's H.say on a BEAM
await rpc.call("foo@vm", ":lists.reverse", [1, 2])   # a function of an Erlang module
await rpc.call("foo@vm", lambda: 6 * 7)              # a function from here, on a Python node
```

What the function prints appears where the caller's output does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from otplib.core.errors import RpcError
from otplib.core.reasons import Raised
from otplib.core.terms import Atom
from otplib.dist.far_spawn import LOST, TIMED_OUT, FarCall, cast_far
from otplib.vm.shell import current_record
from otplib.vm.waiting import deadline_after

Function = Callable[..., Any] | str


async def call(node: str, fn: Function, *args: Any, timeout: float | None = 5.0) -> Any:
    """Run `fn(*args)` on a node, in a process of its own, and give its result. Mirrors `:rpc.call/5`.

    A node that is not connected is connected first.

    Args:
        node: where; this node too.
        fn: a name such as `"H.say"`, `"math.sqrt"` or `":lists.reverse"`, looked up there; or, for a Python node, the
            function itself, plain or async.
        args: what it is called with.
        timeout: seconds to wait; None for ever. The function goes on when they are over.

    Raises:
        RpcError: with what Elixir puts into `{:badrpc, reason}`: `"nodedown"`, `"timeout"`, or `("EXIT", reason)`.
        CopyError: an argument, or the function, cannot be sent to that node.
        TypeError, ValueError: nothing that can be called, or no number of seconds.

    Example:
        >>> from otplib import run
        >>> run(call, "nonode@nohost", "math.sqrt", 2.25)
        1.5
    """
    deadline = deadline_after(current_record(), timeout)
    return _result(await _wait(await FarCall.begin(node, fn, args, deadline), deadline))


def cast(node: str, fn: Function, *args: Any) -> bool:
    """Run `fn(*args)` on a node and hear nothing of it; always True. Mirrors `:rpc.cast/4`."""
    cast_far(node, fn, args)
    return True


async def multicall(
    nodes: Iterable[str], fn: Function, *args: Any, timeout: float | None = None
) -> tuple[list[Any], list[str]]:
    """Run `fn(*args)` on many nodes at once: the results in the order of the nodes, and the nodes that gave none.

    A call that failed on a node that is there counts as a result: `("badrpc", reason)`. Mirrors `:rpc.multicall/5`.
    """
    deadline = deadline_after(current_record(), timeout)
    calls = [await FarCall.begin(node, fn, args, deadline) for node in nodes]
    results: list[Any] = []
    bad: list[str] = []
    for one in calls:
        try:
            results.append(_result(await _wait(one, deadline)))
        except RpcError as error:
            if error.reason in ("nodedown", "timeout"):
                bad.append(one.node)
            else:
                results.append((Atom("badrpc"), error.reason))
    return results, bad


# ---- calls that are waited for later -------------------------------------------------------------------------------


def async_call(node: str, fn: Function, *args: Any) -> FarCall:
    """Begin a call; `yield_` gives its result to the same process. Mirrors `:rpc.async_call/4`."""
    return FarCall(node, fn, args)


async def yield_(key: FarCall) -> Any:
    """Wait for the result of a call that `async_call` began. Mirrors `:rpc.yield/1`.

    Raises:
        RpcError: as `call`.
    """
    return _result(await _wait(key, None))


async def nb_yield(key: FarCall, timeout: float = 0) -> tuple[str, Any] | str:
    """Give `("value", result)` if a call is over within `timeout` seconds, else `"timeout"`; ask again then.

    Mirrors `:rpc.nb_yield/2`.

    Raises:
        RpcError: as `call`.
    """
    outcome = await key.wait(deadline_after(current_record(), timeout))
    return "timeout" if outcome is TIMED_OUT else ("value", _result((key, outcome)))


async def _wait(one: FarCall, deadline: float | None) -> tuple[FarCall, Any]:
    outcome = await one.wait(deadline)
    if outcome is TIMED_OUT:
        one.abandon()
    return one, outcome


def _result(ended: tuple[FarCall, Any]) -> Any:
    one, outcome = ended
    if outcome is TIMED_OUT:
        raise RpcError(Atom("timeout"))
    if outcome is LOST:
        raise RpcError(Atom("nodedown"))
    parts = one.returned(outcome)
    match parts:
        case ("return", (value,)):
            return value
        case ("throw", (value,)):
            return value  # as rpc does: thrown or returned, nobody can tell
        case ("exit", (why,)):
            raise RpcError((Atom("EXIT"), why))
        case ("error", (why, stack)):
            raise _failed(why, stack)
        case _:
            raise RpcError((Atom("EXIT"), outcome))


def _failed(why: Any, stack: Any) -> RpcError:
    """The error of a call that raised there; a Python exception is the cause of it here."""
    if isinstance(why, BaseException):
        error = RpcError((Atom("EXIT"), Raised(why, tuple(stack))))
        error.__cause__ = why
        return error
    return RpcError((Atom("EXIT"), (why, stack)))
