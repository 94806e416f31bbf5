"""Patterns of `receive`: which message fits.

| pattern | fits |
|---|---|
| `...` | anything |
| a type, or a union `A or B` | what `isinstance` says, but `int` is not `bool` |
| a tuple | any tuple of that length (NamedTuples too) whose elements fit its elements |
| a list | a list of that length whose elements fit its elements |
| a dict | a dict that has each of its keys, with a value that fits; other keys do not matter |
| a dataclass instance | an instance of the same class whose compared fields fit |
| a callable | what it returns something truthy for; if it raises, the message does not fit (as an Erlang guard) |
| anything else | what equals it; numbers must also be of the same type, also as keys and inside sets |

Patterns are interpreted, not compiled: a cache would need a key, and `0 == False == 0.0` makes every key a lie.
"""

from __future__ import annotations

import dataclasses
import inspect
import reprlib
import types
import typing
from collections.abc import Callable, Iterable
from enum import Enum
from numbers import Number
from typing import Any, Final, NoReturn

from otplib.core.terms import Atom, Pid, Ref

_ABSENT: Final = object()

#: The type of `typing.Optional[int]`; from 3.14 on the same as that of `int | None`.
_OLD_UNION: Final[type] = type(typing.Union[int, str])  # noqa: UP007 - it is this old form that is looked for


def matches(pattern: Any, message: Any) -> bool:
    """Tell whether `message` fits `pattern`; the module's table says what fits what.

    Whatever raises an `Exception` on the way (a predicate, somebody's `__eq__`) makes the message not fit.
    Mirrors the patterns of Elixir's `receive`.

    Example:
        >>> matches(("add", int, ...), ("add", 1, None)), matches(("add", int), ("add", True))
        (True, False)
        >>> matches({"id": 0}, {"id": 0, "name": "x"}), matches({"id": 0}, {"id": False})
        (True, False)
        >>> matches(lambda n: n > 5, 7), matches(lambda n: n > 5, "seven")
        (True, False)
    """
    kind = type(pattern)
    try:
        if kind is not tuple:
            return _MATCHERS.get(kind, _match_unusual)(pattern, message)
        if (type(message) is not tuple and not isinstance(message, tuple)) or len(pattern) != len(message):
            return False
        # A tag and a type, the commonest parts, are decided in this loop: 0.1 us saved for each. The lengths are
        # equal, and `strict=True` would cost 0.15 us.
        for part, item in zip(pattern, message):  # noqa: B905
            if type(item) is part:
                continue
            kind = type(part)
            if kind is str:
                if part is not item and (part != item if type(item) is str else not _match_equal(part, item)):
                    return False
            elif kind is type:
                if not isinstance(item, part) or (part is int and type(item) is bool):
                    return False
            elif part is not ... and not _MATCHERS.get(kind, _match_unusual)(part, item):
                return False
        return True
    except Exception:
        return False


def matches_any(patterns: tuple[Any, ...], message: Any) -> bool:
    """Tell whether `message` fits one of the patterns; as in `receive()`, no pattern at all takes anything.

    Example:
        >>> matches_any(("stop", ("add", int)), ("add", 1)), matches_any(("stop",), "go"), matches_any((), "go")
        (True, False, True)
    """
    for pattern in patterns:
        if matches(pattern, message):
            return True
    return not patterns


def tester(patterns: tuple[Any, ...]) -> Callable[[Any], bool]:
    """Give the question whether a message fits one of the patterns, for a mailbox to ask of each message.

    A single tuple that begins with a tag, the usual pattern, is refused by its length and tag before anything else is
    looked at: five times faster in a mailbox full of other messages.

    Example:
        >>> fits = tester((("add", int),))
        >>> fits(("add", 1)), fits(("sub", 1)), fits("add")
        (True, False, False)
    """
    if len(patterns) != 1:
        return lambda message: matches_any(patterns, message)
    pattern = patterns[0]
    if type(pattern) is not tuple or not pattern or type(pattern[0]) is not str:
        return lambda message: matches(pattern, message)
    size, tag = len(pattern), pattern[0]

    def fits(message: Any) -> bool:
        if type(message) is tuple:
            if len(message) != size:
                return False
            first = message[0]
            if type(first) is str and first != tag:
                return False
        return matches(pattern, message)

    return fits


def check_patterns(patterns: Iterable[Any]) -> None:
    """Refuse at once what can never be a pattern: `check_pattern` for each.

    Raises:
        TypeError: the first that is none.

    Example:
        >>> check_patterns(("stop", ("add", int)))
    """
    for pattern in patterns:
        if type(pattern) not in _PLAIN:
            check_pattern(pattern)


def check_pattern(pattern: Any) -> None:
    """Refuse at once what can never be a pattern.

    Raises:
        TypeError: a generic such as `list[int]`, another special form of `typing`, a coroutine, a generator,
            a predicate that is `async` or does not take one argument, a type that `isinstance` refuses, a value
            whose `==` gives no bool, a pattern that holds itself.

    Example:
        >>> check_pattern(("add", int))
        >>> check_pattern(("add", list[int]))
        Traceback (most recent call last):
        TypeError: expected a pattern, got list[int] in ('add', list[int]); isinstance cannot look inside: write \
list, or a predicate such as lambda m: isinstance(m, list) and all(...)
    """
    try:
        _check_part(pattern)
    except _NoPattern as refusal:
        part, advice = refusal.args
        where = "" if part is pattern else f" in {_show(pattern)}"
        raise TypeError(f"expected a pattern, got {_show(part)}{where}; {advice}") from None
    except RecursionError:
        raise TypeError(
            f"expected a pattern, got {type(pattern).__name__} nested too deeply (does it hold itself?); "
            "write a predicate instead"
        ) from None


# --- matching, one function for each kind of pattern --------------------------------------------------------------


def _match_anything(pattern: Any, message: Any) -> bool:
    return True


def _match_same(pattern: Any, message: Any) -> bool:
    return pattern is message


def _match_equal(pattern: Any, message: Any) -> bool:
    # `is True`: the answer of a numpy array or of a query builder is no yes.
    return (pattern == message) is True


def _match_number(pattern: Any, message: Any) -> bool:
    return type(pattern) is type(message) and bool(pattern == message)


def _match_type(pattern: Any, message: Any) -> bool:
    return isinstance(message, pattern) and (pattern is not int or type(message) is not bool)


def _match_union(pattern: Any, message: Any) -> bool:
    # By `matches`, not `_match_type`: a member whose isinstance raises must not hide the next one.
    return any(matches(member, message) for member in pattern.__args__)


def _match_list(pattern: Any, message: Any) -> bool:
    if not isinstance(message, list) or len(pattern) != len(message):
        return False
    return all(matches(part, item) for part, item in zip(pattern, message, strict=True))


def _match_dict(pattern: Any, message: Any) -> bool:
    if not isinstance(message, dict):
        return False
    for key, part in pattern.items():
        # `dict.get`, not `message.get`: a default dict must not grow, nor a subclass run code of its own.
        item = dict.get(message, key if type(key) is str else _find_exactly(key), _ABSENT)
        if item is _ABSENT or not matches(part, item):
            return False
    return True


def _match_set(pattern: Any, message: Any) -> bool:
    return isinstance(message, (set, frozenset)) and _exact(frozenset(pattern)) == _exact(frozenset(message))


def _match_dataclass(pattern: Any, message: Any) -> bool:
    if type(pattern) is not type(message):
        return False
    return all(
        matches(getattr(pattern, field.name), getattr(message, field.name))
        for field in dataclasses.fields(pattern)
        if field.compare
    )


def _match_predicate(pattern: Any, message: Any) -> bool:
    return bool(pattern(message))


def _match_unusual(pattern: Any, message: Any) -> bool:
    """Patterns whose type is not in the table: subclasses, members of enums, dataclasses, callable objects."""
    if isinstance(pattern, type):
        return _match_type(pattern, message)
    if isinstance(pattern, Number):
        return _match_number(pattern, message)
    if isinstance(pattern, Enum):
        return _match_equal(pattern, message)
    if dataclasses.is_dataclass(pattern):
        return _match_dataclass(pattern, message)
    if isinstance(pattern, tuple):
        return matches(tuple(pattern), message)
    for base, matcher in ((list, _match_list), (dict, _match_dict), ((set, frozenset), _match_set)):
        if isinstance(pattern, base):
            return matcher(pattern, message)
    return _match_predicate(pattern, message) if callable(pattern) else _match_equal(pattern, message)


_MATCHERS: Final[dict[type, Callable[[Any, Any], bool]]] = {
    type(...): _match_anything,
    type(None): _match_same,
    bool: _match_same,
    int: _match_number,
    float: _match_number,
    complex: _match_number,
    str: _match_equal,
    bytes: _match_equal,
    Atom: _match_equal,
    Pid: _match_equal,
    Ref: _match_equal,
    type: _match_type,
    types.UnionType: _match_union,
    _OLD_UNION: _match_union,
    tuple: matches,
    list: _match_list,
    dict: _match_dict,
    set: _match_set,
    frozenset: _match_set,
    types.FunctionType: _match_predicate,
    types.BuiltinFunctionType: _match_predicate,
    types.MethodType: _match_predicate,
}


# --- numbers as keys and inside sets ------------------------------------------------------------------------------


class _Exactly:
    """A dict key that finds only a key of its own type: `{1: ...}` must not be found in `{True: ...}`.

    The dict compares by hash, then asks the stored key, which does not know this class, then asks us.
    """

    __slots__ = ("exact", "hash")

    def __init__(self, key: Any, exact: Any) -> None:
        self.exact = exact
        self.hash = hash(key)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return bool(self.exact == _exact(other))


def _find_exactly(key: Any) -> Any:
    """`key` itself, or, where it holds numbers, something that a dict takes for exactly `key`."""
    exact = _exact(key)
    return key if exact is key else _Exactly(key, exact)


def _exact(value: Any) -> Any:
    """Something that equals another value's only if the two are equal and their numbers are of the same types."""
    if isinstance(value, Number):
        return (type(value), value)
    if isinstance(value, tuple):
        return (tuple, *map(_exact, value))
    if isinstance(value, frozenset):
        return (frozenset, frozenset(map(_exact, value)))
    return value


# --- checking -----------------------------------------------------------------------------------------------------


class _NoPattern(Exception):
    """args: the part that is no pattern, and what to write instead."""


#: Types whose every value is a pattern. `type` is here for the classes without a metaclass: `isinstance` with
#: them runs nobody's code.
_PLAIN: Final = frozenset(
    {str, int, float, complex, bool, bytes, type(None), type(...), Atom, Pid, Ref, type, types.BuiltinFunctionType}
)


def _check_part(part: Any) -> None:
    kind = type(part)
    if kind in _PLAIN:
        return
    if kind is tuple or kind is list:
        for inner in part:
            if type(inner) not in _PLAIN:
                _check_part(inner)
    elif isinstance(part, dict):
        for key, inner in part.items():
            if key is ...:
                raise _NoPattern(part, 'the keys of a dict pattern are literals: write {"key": ...}, or dict')
            _check_part(inner)
    elif isinstance(part, type):
        _check_type(part)
    elif kind is types.UnionType or kind is _OLD_UNION:
        for member in part.__args__:
            _check_part(member)
    elif kind is types.FunctionType or kind is types.MethodType:
        _check_function(part)
    else:
        _check_unusual(part)


def _check_unusual(part: Any) -> None:
    if isinstance(part, types.GenericAlias) or type(part).__module__ in ("typing", "typing_extensions"):
        _refuse_special_form(part)
    if isinstance(part, types.GeneratorType | types.AsyncGeneratorType):
        raise _NoPattern(part, "write the patterns themselves, as in receive(*patterns)")
    if inspect.isawaitable(part):
        raise _NoPattern(part, "await it first, and write its result")
    if isinstance(part, Enum | Number):
        return
    if dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            _check_part(getattr(part, field.name, ...))
    elif isinstance(part, tuple | list):
        for inner in part:
            _check_part(inner)
    elif callable(part):
        if inspect.iscoroutinefunction(part) or inspect.iscoroutinefunction(type(part).__call__):
            _refuse_async(part)
    elif not _equals_plainly(part):
        raise _NoPattern(part, f"its == gives no bool: write {type(part).__name__}, or a predicate")


def _equals_plainly(part: Any) -> bool:
    try:
        return type(part == part) is bool
    except Exception:
        return True  # then it fits nothing, as any == that raises


def _check_type(part: Any) -> None:
    try:
        isinstance(None, part)
    except TypeError as error:
        if part is typing.Any:
            advice = "write ... for anything"
        elif typing.is_typeddict(part):
            advice = 'write a dict pattern such as {"key": str}'
        else:
            advice = f"isinstance refuses it ({error}): write a class, or a predicate"
        raise _NoPattern(part, advice) from None
    except Exception:
        return  # only for this value, perhaps; where it raises for a message, the message does not fit


def _check_function(part: Any) -> None:
    function = getattr(part, "__func__", part)
    if type(function) is not types.FunctionType:
        return
    code = function.__code__
    if code.co_flags & (inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        _refuse_async(part)
    own = 0 if function is part else 1
    most = float("inf") if code.co_flags & inspect.CO_VARARGS else code.co_argcount - own
    least = code.co_argcount - own - len(function.__defaults__ or ())
    named = code.co_kwonlyargcount - len(function.__kwdefaults__ or ())
    if least > 1 or most < 1 or named:
        raise _NoPattern(part, "a predicate takes one argument, the message: write lambda message: ...")


def _refuse_async(part: Any) -> NoReturn:
    # Its result would be an object that is always truthy: it would take every message.
    raise _NoPattern(part, "a predicate answers at once: write a plain def or a lambda that returns a bool")


def _refuse_special_form(part: Any) -> NoReturn:
    origin = typing.get_origin(part)
    if origin is Callable:
        advice = "write callable, which is itself a predicate"
    elif origin is typing.Annotated:
        advice = f"annotations are no patterns: write {_show(part.__origin__)}"
    elif isinstance(origin, type):
        name = origin.__name__ if origin.__module__ == "builtins" else f"{origin.__module__}.{origin.__name__}"
        advice = (
            f"isinstance cannot look inside: write {name}, "
            f"or a predicate such as lambda m: isinstance(m, {name}) and all(...)"
        )
    elif isinstance(part, typing.NewType):
        advice = f"a NewType is no type at run time: write {_show(part.__supertype__)}"
    elif origin is typing.Literal:
        advice = "write the literals as patterns of their own: receive(" + ", ".join(map(_show, part.__args__)) + ")"
    else:
        advice = "annotations are no patterns: write a class, a union of classes, ... for anything, or a predicate"
    raise _NoPattern(part, advice)


def _show(value: Any) -> str:
    if isinstance(value, type):
        return value.__name__
    try:
        return repr(value) if isinstance(value, tuple | types.GenericAlias) else reprlib.repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
