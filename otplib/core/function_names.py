"""Functions by name, as nodes ask each other for them: `"H.say"` here, `'Elixir.H':say` on the wire.

| name | here |
|---|---|
| `'Elixir.H':say` | `H.say`: from the kernel's own namespace, else from an importable module |
| `math:sqrt` | `math.sqrt`, likewise |
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

_MISSING: Final = object()


class UndefinedFunctionError(Exception):
    """There is no such function here."""


@lru_cache(maxsize=1_024)
def split_name(name: str) -> tuple[str, str]:
    """Give module and function of a text such as `"H.say"` or `":lists.reverse"`, as the wire does.

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
