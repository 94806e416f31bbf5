"""How a term reads in a report: Elixir's `inspect/1` in Python dress.

Strings carry double quotes, pids and references their own forms, containers Python's brackets. The text is
bounded, so a huge state cannot fill a log, and a broken `__repr__` cannot break a crash report.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from otplib.core.terms import Atom

MAX_ITEMS: Final = 50
MAX_TEXT: Final = 4000
MAX_DEPTH: Final = 12


def inspect_term(term: Any, depth: int = 0) -> str:
    """Give the text of `term` for people, at most a few thousand characters of it.

    Example:
        >>> print(inspect_term(("factorial", "hello", [1, None])))
        ("factorial", "hello", [1, None])
    """
    if depth > MAX_DEPTH:
        return "..."
    write = _WRITERS.get(type(term))
    if write is not None:
        return write(term, depth)
    if isinstance(term, type):
        return term.__qualname__
    if isinstance(term, tuple) and hasattr(term, "_fields"):
        return _write_named(term, depth)
    return _write_repr(term)


def inspect_call(module: str, function: str, arguments: Iterable[Any]) -> str:
    """Give the text of a call, as in `GenServer.call("1", "hi", 5.0)`."""
    return f"{module}.{function}({', '.join(inspect_term(argument) for argument in arguments)})"


def _write_repr(term: Any) -> str:
    try:
        text = repr(term)
    except Exception as error:  # a report must come out whatever the object does
        text = f"<{type(term).__qualname__} whose repr raised {type(error).__qualname__}>"
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."


def _write_str(term: str, depth: int) -> str:
    text = json.dumps(term[:MAX_TEXT], ensure_ascii=False)
    return text if len(term) <= MAX_TEXT else text + "..."


def _join(items: Iterable[Any], size: int, depth: int) -> str:
    shown = [inspect_term(item, depth + 1) for _, item in zip(range(MAX_ITEMS), items, strict=False)]
    if size > MAX_ITEMS:
        shown.append("...")
    return ", ".join(shown)


def _write_tuple(term: tuple[Any, ...], depth: int) -> str:
    inside = _join(term, len(term), depth)
    return f"({inside},)" if len(term) == 1 else f"({inside})"


def _write_named(term: Any, depth: int) -> str:
    fields = ", ".join(
        f"{name}={inspect_term(value, depth + 1)}" for name, value in zip(term._fields, term, strict=False)
    )
    return f"{type(term).__name__}({fields})"


def _write_dict(term: dict[Any, Any], depth: int) -> str:
    shown = [
        f"{inspect_term(key, depth + 1)}: {inspect_term(value, depth + 1)}"
        for _, (key, value) in zip(range(MAX_ITEMS), term.items(), strict=False)
    ]
    if len(term) > MAX_ITEMS:
        shown.append("...")
    return "{" + ", ".join(shown) + "}"


def _write_int(term: int, depth: int) -> str:
    # Python refuses to print integers of more than 4300 digits, and a report must not fail on one.
    return str(term) if term.bit_length() < 4096 else f"<an integer of {term.bit_length()} bits>"


_WRITERS: dict[type, Callable[[Any, int], str]] = {
    str: _write_str,
    int: _write_int,
    tuple: _write_tuple,
    list: lambda term, depth: f"[{_join(term, len(term), depth)}]",
    set: lambda term, depth: f"{{{_join(term, len(term), depth)}}}" if term else "set()",
    dict: _write_dict,
    Atom: lambda term, depth: repr(term),
}
