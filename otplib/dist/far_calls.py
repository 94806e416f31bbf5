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

import importlib
import inspect
import logging
import sys
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Final

from otplib.core.errors import Exit
from otplib.core.reasons import capture
from otplib.core.terms import Atom
from otplib.dist.etf_terms import Export, Fun
from otplib.vm.shell import current_record

log = logging.getLogger("otplib")

_RETURN, _EXIT, _ERROR = Atom("return"), Atom("exit"), Atom("error")
_MISSING: Final = object()


class UndefinedFunctionError(Exception):
    """There is no such function here."""


class _UndefinedExit(Exit):
    """The end of a process that was to run what is not there."""


@lru_cache(maxsize=1_024)
def split_name(name: str) -> tuple[str, str]:
    """Give module and function of a text such as `"H.say"` or `":lists.reverse"`, as a BEAM spells them.

    Raises:
        ValueError: not such a text.

    Example:
        >>> split_name("H.say"), split_name(":lists.reverse"), split_name("otplib.process.alive")
        (('Elixir.H', 'say'), ('lists', 'reverse'), ('Elixir.otplib.process', 'alive'))
        >>> split_name("say")
        ('Elixir.__main__', 'say')
    """
    module, dot, function = name.rpartition(".")
    if not function or (dot and not module.strip(":")) or name != name.strip():
        raise ValueError(f'expected a function such as "H.say", "math.sqrt" or ":lists.reverse"; got {name!r}')
    if not dot:
        module = "__main__"
    return (module[1:] if module.startswith(":") else f"Elixir.{module}"), function


def find_function(module: str, function: str) -> Callable[..., Any]:
    """Give the function of a name, as a BEAM spells it: from the kernel's namespace, else from an importable module.

    Raises:
        UndefinedFunctionError: there is none.
        Exception: whatever the module's import raises.

    Example:
        >>> find_function("math", "sqrt")(2.25), find_function("Elixir.builtins", "len")("abc")
        (1.5, 3)
    """
    path = module.removeprefix("Elixir.")
    found = _follow(vars(sys.modules["__main__"]), path, function)
    if found is _MISSING:
        found = _import(path, function)
    if found is _MISSING or not callable(found):
        raise UndefinedFunctionError(f"{path}.{function}")
    made: Callable[..., Any] = found
    return made


def _follow(namespace: dict[str, Any], path: str, function: str) -> Any:
    if path == "__main__":
        return namespace.get(function, _MISSING)
    first, *rest = path.split(".")
    found = namespace.get(first, _MISSING)
    for name in (*rest, function):
        if found is _MISSING:
            return _MISSING
        found = getattr(found, name, _MISSING)
    return found


def _import(path: str, function: str) -> Any:
    """Import the longest part of the path that is a module, and follow the rest."""
    names = path.split(".")
    for count in range(len(names), 0, -1):
        name = ".".join(names[:count])
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                continue
            raise
        for rest in (*names[count:], function):
            found = getattr(found, rest, _MISSING)
            if found is _MISSING:
                return _MISSING
        return found
    return _MISSING


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
        found = find_function(module, function)
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
