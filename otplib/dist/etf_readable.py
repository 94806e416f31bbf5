"""Python values that a BEAM has no type for, as terms that read well there.

| here | on a BEAM |
|---|---|
| an exception | `%RuntimeError{message: "ValueError: bad"}` |
| `Raised`, the exit reason of a crash | `{exception, stacktrace}`, which Elixir's reports print as its own |
| a class | a module's name, `Counter` |
| `Down`, `ExitMessage`, `Global` | the tuples they mirror, tags as atoms |
| NamedTuple, Counter, IntEnum, bytearray, ... | the tuple, map, integer, binary that they extend |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from otplib.core.copying import Shared
from otplib.core.reasons import Down, ExitMessage, Raised, StackEntry
from otplib.core.terms import Atom, Global

_BASES: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...]] = (
    (BaseException, lambda value: describe_exception(value)),
    (tuple, lambda value: tuple(tuple.__iter__(value))),
    (list, lambda value: list(list.__iter__(value))),
    (dict, lambda value: dict(dict.items(value))),
    (int, int.__int__),
    (float, float.__float__),
    (str, str.__str__),
    ((bytes, bytearray, memoryview), bytes),
)


def make_readable(value: Any) -> Any:
    """Give what to send instead of `value`; what is inside is dealt with in its turn.

    Raises:
        LookupError: there is nothing like it on a BEAM.

    Example:
        >>> make_readable(Global("svc"))
        (:global, 'svc')
        >>> make_readable(ValueError("bad"))["message"]
        'ValueError: bad'
        >>> make_readable({1, 2})
        Traceback (most recent call last):
        LookupError: set
    """
    match value:
        case Shared():
            return value.value
        case Raised(exception, stacktrace):
            return (exception, list(stacktrace))
        case StackEntry(file, line, function):
            place = [(Atom("file"), [*map(ord, file)]), (Atom("line"), line)]
            return (Atom("Elixir.Python"), Atom(function[:255]), 0, place)
        case Down(tag, ref, kind, pid, reason):
            return (Atom(tag), ref, Atom(kind), pid, reason)
        case ExitMessage(tag, pid, reason):
            return (Atom(tag), pid, reason)
        case Global(term):
            return (Atom("global"), term)
        case type():
            return Atom(f"Elixir.{value.__qualname__}"[:255])
    for base, convert in _BASES:
        if isinstance(value, base):
            return convert(value)
    raise LookupError(type(value).__qualname__)


def describe_exception(error: BaseException) -> dict[Atom, Any]:
    """Give an exception as Elixir's `RuntimeError`, the one exception that is nothing but a text."""
    try:
        text = str(error)
    except Exception:
        text = ""
    name = type(error).__qualname__
    return {
        Atom("__struct__"): Atom("Elixir.RuntimeError"),
        Atom("__exception__"): True,
        Atom("message"): (f"{name}: {text}" if text else name).encode("utf-8", "replace").decode("utf-8"),
    }
