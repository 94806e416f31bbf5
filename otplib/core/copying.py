"""What a message becomes on its way from one process to another: itself if nothing can change it, else a copy.

The rule (design 5.3), in the order in which it is asked:

| value | on its way |
|---|---|
| `shared(obj)` | `obj` itself, wherever it stands in the message |
| str, bytes, int, float, complex, bool, None, `...`, Pid, Ref, Atom, range | itself |
| dates, Decimal, Fraction, UUID, paths, compiled regular expressions, members of enums | itself |
| functions, methods (bound ones too), classes, modules, code | itself |
| tuples, NamedTuples, frozensets and frozen dataclasses that hold only such | itself |
| anything else, exceptions too | a deep copy, by the rules of `copy.deepcopy` and `__deepcopy__` |

One memo serves the whole message: what is the same object twice, or holds itself, is and does so in the copy. This is a
copier of our own because `copy.deepcopy` refuses modules, copies the owner of a bound method, cannot say where in the
message it failed, and takes two to nine times as long on plain data.
"""

from __future__ import annotations

import copyreg
import datetime
import decimal
import fractions
import functools
import operator
import pathlib
import re
import reprlib
import threading
import types
import uuid
import weakref
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, NoReturn

from otplib.core.errors import CopyError
from otplib.core.terms import Atom, Pid, Ref

Memo = dict[int, Any]

#: What a class has that says nothing of its own.
_NEW: Final[Any] = object.__new__
_GETSTATE: Final[Any] = object.__getstate__  # all attributes and slots: None, a dict, or a pair of them


class Shared:
    """What `shared` gives: on its way to another process it becomes `value`, uncopied."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"shared({self.value!r})"

    def __deepcopy__(self, memo: Memo) -> Any:
        # For a `__deepcopy__` of the user's that goes on with `copy.deepcopy` and our memo.
        return _copy_shared(self, memo)


def shared(obj: Any) -> Shared:
    """Hand over `obj` itself instead of a copy: the two processes then share it, in the open.

    It may stand anywhere in the message; the receiver finds `obj` in its place. The BEAM has no counterpart except
    its large binaries. Whoever shares something mutable sees to it that its users do not get in each other's way.

    Example:
        >>> table = {"rows": [1, 2, 3]}
        >>> copied(("load", shared(table)))[1] is table, copied(("load", table))[1] is table
        (True, False)
    """
    return obj if type(obj) is Shared else Shared(obj)


def copied(message: Any) -> Any:
    """The message as its receiver gets it: itself if it is immutable all through, else a copy that shares nothing.

    Mirrors what the BEAM does in `send/2`.

    Raises:
        CopyError: (a `TypeError`) it holds a lock, an open file, a generator, ... ; the text names the place. Or it is
            nested deeper than the interpreter's stack.

    Example:
        >>> orders = [("tea", 2)]
        >>> copied(orders) == orders, copied(orders) is orders, copied(orders)[0] is orders[0]
        (True, False, True)
        >>> copied(("job", {"lock": threading.Lock()}))
        Traceback (most recent call last):
        otplib.core.errors.CopyError: cannot copy message[1]["lock"]: a _thread.lock (cannot pickle '_thread.lock' \
object); send a value that can be copied, or shared(...) to hand over the object itself
    """
    kind = type(message)
    if kind in _BY_REFERENCE:
        return message
    if kind is tuple:
        # Requests are tuples of plain values, calls hold one more tuple: neither needs a memo.
        for item in message:
            kind = type(item)
            if kind not in _BY_REFERENCE:
                if kind is not tuple:
                    return _copy_message(message)
                for leaf in item:
                    if type(leaf) not in _BY_REFERENCE:
                        return _copy_message(message)
        return message
    return _copy_message(message)


def recopied(message: Any) -> Any:
    """As `copied`, but what is `shared` keeps its wrapper: for a value that is stored now and sent on later.

    A supervisor keeps the arguments of its children so, and hands out a fresh copy at every start.

    Example:
        >>> table = {"rows": [1, 2, 3]}
        >>> kept = recopied(("load", shared(table), []))
        >>> copied(kept)[1] is table
        True
    """
    return _copy_message(message, {_KEEP_SHARED: True})


class _Uncopyable(Exception):
    """On its way out it gathers the path, innermost step first. `__cause__`, if any, is the reason."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value
        self.steps: list[str] = []


#: In a memo, whose other keys are ids and so never negative: wrappers stay.
_KEEP_SHARED: Final = -1


def _copy_message(message: Any, memo: Memo | None = None) -> Any:
    memo = {} if memo is None else memo
    # As in `copy.deepcopy`: what has been copied stays alive to the end, else a later object could get its id.
    memo[id(memo)] = []
    try:
        return _copy(message, memo)
    except _Uncopyable as failure:
        raise CopyError(_explain(failure)) from failure.__cause__
    except RecursionError:
        raise CopyError(
            f"cannot copy message: a {_name(type(message))} that is nested too deeply for the interpreter's stack; "
            "send a flatter value (a list instead of a chain), or shared(...) to hand over the object itself"
        ) from None


def _copy(value: Any, memo: Memo) -> Any:
    kind = type(value)
    if kind in _BY_REFERENCE:
        return value
    known = memo.get(id(value), memo)
    if known is not memo:
        return known
    return _COPIERS.get(kind, _copy_unusual)(value, memo)


def _remember(value: Any, copy: Any, memo: Memo) -> None:
    memo[id(value)] = copy
    memo[id(memo)].append(value)


# --- builtin containers. Each works on a snapshot of its own: the original may belong to threads that change it. ---


def _copy_list(value: list[Any], memo: Memo) -> list[Any]:
    copy = value.copy()
    _remember(value, copy, memo)
    if not _all_by_reference(map(type, copy)):
        _copy_in_place(copy, memo)
    return copy


def _copy_in_place(copy: list[Any], memo: Memo, step: Callable[[int], str] = "[{}]".format) -> None:
    index = 0
    try:
        for index, item in enumerate(copy):
            if type(item) not in _BY_REFERENCE:
                copy[index] = _copy(item, memo)
    except _Uncopyable as failure:
        failure.steps.append(step(index))
        raise


def _copy_dict(value: dict[Any, Any], memo: Memo) -> dict[Any, Any]:
    copy = value.copy()
    _remember(value, copy, memo)
    if _all_by_reference(map(type, copy)):
        _copy_values(copy, memo, _step_key)
        return copy
    pairs = list(copy.items())
    copy.clear()
    for key, item in pairs:
        new_key = _copy_inner(key, memo, f" (the key {_show(key)})")
        copy[new_key] = _copy_inner(item, memo, _step_key(key))
    return copy


def _copy_values(copy: dict[Any, Any], memo: Memo, step: Callable[[Any], str]) -> None:
    if _all_by_reference(map(type, copy.values())):
        return
    key = None
    try:
        for key, item in copy.items():
            if type(item) not in _BY_REFERENCE:
                copy[key] = _copy(item, memo)
    except _Uncopyable as failure:
        failure.steps.append(step(key))
        raise


def _copy_inner(value: Any, memo: Memo, step: str) -> Any:
    try:
        return _copy(value, memo)
    except _Uncopyable as failure:
        failure.steps.append(step)
        raise


def _copy_items(values: Any, memo: Memo, step: Callable[[int], str] = "[{}]".format) -> list[Any]:
    copy = list(values)
    if not _all_by_reference(map(type, copy)):
        _copy_in_place(copy, memo, step)
    return copy


def _same(left: Any, right: Any) -> bool:
    """Whether two collections of the same length hold the very same objects, one by one."""
    return all(map(operator.is_, left, right))


def _copy_tuple(value: tuple[Any, ...], memo: Memo) -> tuple[Any, ...]:
    items = _copy_items(value, memo)
    known = memo.get(id(value), memo)
    if known is not memo:
        # A list inside held this tuple, and copied it while we were copying the list.
        return known  # type: ignore[no-any-return]
    copy = value if _same(items, value) else tuple(items)
    # Also when it is itself: tuples that hold the same tuple twice, 60 levels deep, must not take 2**60 steps.
    _remember(value, copy, memo)
    return copy


def _copy_set(value: set[Any], memo: Memo) -> set[Any]:
    copy: set[Any] = set()
    _remember(value, copy, memo)
    copy.update(_copy_items(value, memo, _step_element))
    return copy


def _copy_frozenset(value: frozenset[Any], memo: Memo) -> frozenset[Any]:
    items = _copy_items(value, memo, _step_element)
    known = memo.get(id(value), memo)
    if known is not memo:
        return known  # type: ignore[no-any-return]
    copy = value if _same(items, value) else frozenset(items)
    _remember(value, copy, memo)
    return copy


def _copy_bytearray(value: bytearray, memo: Memo) -> bytearray:
    copy = value.copy()
    _remember(value, copy, memo)
    return copy


def _copy_shared(value: Shared, memo: Memo) -> Any:
    return value if _KEEP_SHARED in memo else value.value


_COPIERS: Final[dict[type, Callable[[Any, Memo], Any]]] = {
    list: _copy_list,
    dict: _copy_dict,
    tuple: _copy_tuple,
    set: _copy_set,
    frozenset: _copy_frozenset,
    bytearray: _copy_bytearray,
    Shared: _copy_shared,
}

#: Types of which every value goes as it is. Exact types: a subclass may carry mutable attributes.
_BY_REFERENCE: Final = frozenset(
    {
        *(str, bytes, int, float, complex, bool, type(None), type(...), type(NotImplemented), range),
        *(Pid, Ref, Atom, decimal.Decimal, fractions.Fraction, uuid.UUID, re.Pattern),
        *(datetime.date, datetime.time, datetime.datetime, datetime.timedelta, datetime.timezone),
        *(pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath),
        *(type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, types.CodeType),
        *(types.MethodDescriptorType, types.ClassMethodDescriptorType, types.WrapperDescriptorType),
        *(types.MethodWrapperType, types.GetSetDescriptorType, types.MemberDescriptorType),
        *(property, staticmethod, classmethod, types.GenericAlias, types.UnionType, weakref.ref),
        type(functools.lru_cache(lambda: None)),
    }
)

#: `_all_by_reference(map(type, values))` asks the table in C, ten times as fast as a loop.
_all_by_reference: Final = _BY_REFERENCE.issuperset


# --- everything else ----------------------------------------------------------------------------------------------


def _copy_unusual(value: Any, memo: Memo) -> Any:
    """Values whose exact type stands in neither table."""
    kind = type(value)
    # `issubclass`, since `isinstance` also asks `value.__class__`, which in a proxy is anybody's code.
    if issubclass(kind, (type, Enum, types.ModuleType)):
        return value
    if issubclass(kind, threading.Thread):
        # Without this the text would name a lock deep inside it.
        _refuse(value)
    # From the class: an object that answers to every name (a proxy) is not asked.
    own_way = getattr(kind, "__deepcopy__", None)
    if own_way is not None:
        copy = _call(value, own_way, value, memo)
        if copy is not value:
            _remember(value, copy, memo)
        return copy
    if _is_frozen_dataclass(kind):
        return _copy_frozen_dataclass(value, memo)
    if issubclass(kind, tuple) and _has_default_reduce(kind) and not getattr(value, "__dict__", None):
        items = _copy_items(value, memo)
        if _same(items, value):
            _remember(value, value, memo)
            return value
    reduced = _reduce(value, kind)
    if isinstance(reduced, str):
        return value  # the name of something global, as of a numpy ufunc
    if not isinstance(reduced, tuple) or not 2 <= len(reduced) <= 6:
        _refuse(value, TypeError("its __reduce_ex__(4) gives neither a str nor a tuple of 2 to 6 items"))
    return _rebuild(value, memo, *reduced)


def _refuse(value: Any, cause: Exception | None = None) -> NoReturn:
    raise _Uncopyable(value) from cause


def _call(value: Any, function: Callable[..., Any], *args: Any) -> Any:
    """Call code that is not ours on behalf of `value`."""
    try:
        return function(*args)
    except RecursionError:
        raise
    except Exception as error:
        _refuse(value, error)


def _has_default_reduce(kind: Any) -> bool:
    """Whether nobody but C code says how a value of this class is taken apart and put together."""
    return (
        kind.__reduce_ex__ is object.__reduce_ex__
        and not isinstance(kind.__reduce__, types.FunctionType)
        and kind not in copyreg.dispatch_table
    )


def _is_frozen_dataclass(kind: Any) -> bool:
    # Asked of the class itself: an undecorated subclass of a frozen dataclass takes new attributes.
    params = kind.__dict__.get("__dataclass_params__")
    if params is None or not params.frozen or not _has_default_reduce(kind):
        return False
    # Neither built on a container (those have a `__new__` of their own), nor with a say in what its state is.
    getstate = kind.__getstate__
    plain = getstate is _GETSTATE or getattr(getstate, "__module__", None) == "dataclasses"
    return plain and kind.__new__ is _NEW


def _copy_frozen_dataclass(value: Any, memo: Memo) -> Any:
    state = _GETSTATE(value)
    groups = [group for group in (state if isinstance(state, tuple) else (state,)) if group]
    if all(_all_by_reference(map(type, group.values())) for group in groups):
        return value
    copy = _call(value, object.__new__, type(value))
    # First of all: it may hold itself by way of a list.
    _remember(value, copy, memo)
    changed = False
    for group in groups:
        new = dict(group)
        _copy_values(new, memo, ".{}".format)
        changed = changed or not _same(new.values(), group.values())
        for name, item in new.items():
            object.__setattr__(copy, name, item)
    if not changed:
        memo[id(value)] = copy = value
    return copy


def _reduce(value: Any, kind: type) -> Any:
    reducer = copyreg.dispatch_table.get(kind)
    if reducer is not None:
        return _call(value, reducer, value)
    return _call(value, kind.__reduce_ex__, value, 4)


def _rebuild(
    value: Any,
    memo: Memo,
    make: Callable[..., Any],
    args: tuple[Any, ...],
    state: Any = None,
    items: Any = None,
    pairs: Any = None,
    set_state: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Carry out what `__reduce_ex__` says, with everything in it copied."""
    fault = issubclass(type(value), BaseException)
    new_args = _copy_items(args, memo, (".args[{}]" if fault else ".__reduce_ex__(4)[1][{}]").format)
    known = memo.get(id(value), memo)
    if known is not memo:
        return known  # an argument held the object itself
    if fault and make is type(value) and _has_default_reduce(make):
        copy = _call(value, _make_exception, make, new_args)
    else:
        copy = _call(value, make, *new_args)
    _remember(value, copy, memo)
    if state is not None:
        _call(value, _set_state, copy, _copy_state(state, memo), set_state)
    if items is not None:
        for index, item in enumerate(_call(value, list, items)):
            _call(value, copy.append, _copy_inner(item, memo, f"[{index}]"))
    if pairs is not None:
        for key, item in _call(value, list, pairs):
            new_key = _copy_inner(key, memo, f" (the key {_show(key)})")
            _call(value, copy.__setitem__, new_key, _copy_inner(item, memo, _step_key(key)))
    if fault:
        _copy_chain(value, copy, memo)
    return copy


def _copy_state(state: Any, memo: Memo) -> Any:
    if type(state) is dict:
        new = state.copy()
        _copy_values(new, memo, ".{}".format)
        return new
    if type(state) is tuple and len(state) == 2 and all(group is None or type(group) is dict for group in state):
        return tuple(group and _copy_state(group, memo) for group in state)
    return _copy_inner(state, memo, ".__reduce_ex__(4)[2]")


def _set_state(copy: Any, state: Any, set_state: Callable[[Any, Any], Any] | None) -> None:
    set_state = set_state or getattr(type(copy), "__setstate__", None)
    if set_state is not None:
        set_state(copy, state)
        return
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if attributes:
        copy.__dict__.update(attributes)
    for name, item in (slots or {}).items():
        setattr(copy, name, item)


# --- exceptions ---------------------------------------------------------------------------------------------------


def _make_exception(kind: type[BaseException], args: list[Any]) -> BaseException:
    """An exception with these `args`.

    `kind(*args)`, which pickle and deepcopy do, is wrong where `__init__` takes other arguments than it hands on: it
    raises, or it wraps the text a second time. So only the `__init__` written in C is run, which fills `errno`
    and such.
    """
    if not isinstance(kind.__init__, types.FunctionType):
        return kind(*args)
    copy = kind.__new__(kind, *args)
    for base in kind.__mro__:
        builtin = base.__dict__.get("__init__")
        if builtin is not None and not isinstance(builtin, types.FunctionType):
            builtin(copy, *args)
            break
    return copy


def _copy_chain(value: BaseException, copy: BaseException, memo: Memo) -> None:
    """`raise ... from ...` and notes are kept; tracebacks are not, they would keep the sender's frames alive."""
    for name in ("__cause__", "__context__"):
        link = getattr(value, name)
        if link is not None:
            try:
                setattr(copy, name, _copy(link, memo))
            except (_Uncopyable, RecursionError):
                # A crash must reach its observers even if what came before it holds a lock, or is a long story.
                setattr(copy, name, None)
    copy.__suppress_context__ = value.__suppress_context__
    if hasattr(value, "__notes__") and not hasattr(copy, "__notes__"):
        copy.__notes__ = list(value.__notes__)  # a `__reduce__` of the user's own does not know of them


# --- the text of a refusal ----------------------------------------------------------------------------------------


def _step_key(key: Any) -> str:
    return f"[{_show(key)}]"


def _step_element(index: int) -> str:
    return " (an element of the set)"


def _show(value: Any) -> str:
    if type(value) is str and len(value) <= 40:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    try:
        return reprlib.repr(value)
    except Exception:
        return f"<{_name(type(value))}>"


def _name(kind: type) -> str:
    known = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if known else f"{kind.__module__}.{kind.__qualname__}"


def _text_of(error: BaseException, named: bool = True) -> str:
    try:
        text = str(error)
    except Exception:
        return type(error).__name__
    text = text if len(text) <= 200 else text[:200] + "..."
    return f"{type(error).__name__}: {text}" if named else text


def _explain(failure: _Uncopyable) -> str:
    steps = failure.steps[::-1]
    if len(steps) > 12:
        steps = [*steps[:6], " ... ", *steps[-6:]]
    name = _name(type(failure.value))
    article = "an" if name.lstrip("_")[:1].lower() in "aeio" else "a"
    cause = failure.__cause__
    if cause is None:
        why = ""
    elif type(cause) is TypeError:
        why = f" ({_text_of(cause, named=False)})"
    else:
        why = f" ({_text_of(cause)})"
    return (
        f"cannot copy message{''.join(steps)}: {article} {name}{why}; "
        "send a value that can be copied, or shared(...) to hand over the object itself"
    )
