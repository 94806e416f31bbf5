"""What other nodes run here: a function by its name, or one that was sent.

| asked for | run here |
|---|---|
| `'Elixir.H':say()` , `builtins:print("hi")` | `H.say`, `builtins.print`: from the kernel's namespace, else imported |
| `erlang:apply(fn, args)` | a function that a Python node has sent |
| `erpc:execute_call(ref, m, f, args)` | the function; its outcome is the reason with which the process ends |
| `erpc:execute_cast(m, f, args)` | the function, for nothing |

A name is looked up in the process that runs it, so whatever an import does, or fails to do, is its affair alone.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from otplib.core.errors import Exit
from otplib.core.function_names import UndefinedFunctionError, find_function
from otplib.core.reasons import capture
from otplib.core.terms import Atom
from otplib.dist.etf_terms import Export, Fun
from otplib.dist.global_conflicts import resolve_it
from otplib.vm.shell import current_record

log = logging.getLogger("otplib")

_RETURN, _EXIT, _ERROR = Atom("return"), Atom("exit"), Atom("error")


#: Functions of Erlang modules that BEAMs ask every node for.
_OTP: Final[dict[tuple[str, str], Callable[..., Any]]] = {("global", "resolve_it"): resolve_it}


class _UndefinedExit(Exit):
    """The end of a process that was to run what is not there."""


async def run_function(module: str, function: str, args: list[Any]) -> Any:
    """The body of a process that another node has asked for."""
    special = _SPECIAL.get((str(module), str(function), len(args)))
    if special is not None:
        return await special(*args)
    try:
        return await _apply(module, function, args)
    except _UndefinedExit:
        # An `rpc` is told; whoever spawned it may not listen.
        name = f"{module.removeprefix('Elixir.')}.{function}"
        log.error("Process %r was to run %s for another node: there is no such function", current_record().pid, name)
        raise


async def _apply(module: str, function: str, args: list[Any]) -> Any:
    if (module, function) == ("erlang", "apply") and len(args) == 2:
        return await _apply_sent(args[0], args[1])
    try:
        found = _OTP.get((module, function)) or find_function(module, function)
    except UndefinedFunctionError:
        raise _UndefinedExit((Atom("undef"), [(Atom(module), Atom(function), args, [])])) from None
    return await _call(found, args)


async def _apply_sent(fn: Any, args: Any) -> Any:
    if isinstance(fn, Export):
        return await _apply(fn.module, fn.function, list(args))
    if isinstance(fn, Fun):
        raise _UndefinedExit((Atom("undef"), [(fn, list(args), [])]))
    if not callable(fn):
        raise Exit((Atom("badfun"), fn))
    return await _call(fn, list(args))


async def _call(fn: Callable[..., Any], args: list[Any]) -> Any:
    outcome = fn(*args)
    return await outcome if inspect.isawaitable(outcome) else outcome


async def _execute_call(ref: Any, module: Any, function: Any, args: Any) -> None:
    """End with what came of it, as `erpc` expects (rows y10 and y11)."""
    if not (isinstance(module, str) and isinstance(function, str) and isinstance(args, list)):
        raise Exit((ref, _ERROR, Atom("badarg"), []))
    try:
        result = await _apply(module, function, args)
    except _UndefinedExit as error:
        raise Exit((ref, _ERROR, *error.reason)) from None
    except Exit as error:
        raise Exit((ref, _EXIT, error.reason)) from None
    except Exception as error:
        raised = capture(error, current_record().machine.hooks.describe_file)
        raise Exit((ref, _ERROR, raised.exception, list(raised.stacktrace))) from None
    raise Exit((ref, _RETURN, result))


async def _execute_cast(module: Any, function: Any, args: Any) -> None:
    await _apply(module, function, args)


_SPECIAL: Final[dict[tuple[str, str, int], Callable[..., Awaitable[None]]]] = {
    ("erpc", "execute_call", 4): _execute_call,
    ("erpc", "execute_cast", 3): _execute_cast,
}
