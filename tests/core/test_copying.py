"""What goes by reference, what is copied, what is refused and in which words; Hypothesis on nested plain data."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import datetime
import functools
import json
import math
import operator
import pathlib
import re
import socket
import sys
import threading
import types
import uuid
from array import array
from collections import ChainMap, Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from typing import Any, Generic, NamedTuple, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otplib.core.copying import Shared, copied, recopied, shared
from otplib.core.errors import CopyError, Exit
from otplib.core.terms import Atom, Global, Pid, Ref

PID = Pid("nonode@nohost", 1, 0, 1)
T = TypeVar("T")


class Color(Enum):
    RED = 1


class Bits(Flag):
    ONE = 1
    TWO = 2


class Point(NamedTuple):
    x: Any
    y: Any


class LoosePoint(Point):
    """A NamedTuple's child without `__slots__`: it takes attributes."""


@dataclass(frozen=True)
class Frozen:
    a: Any
    b: Any = "b"


@dataclass(frozen=True, slots=True)
class FrozenSlots(Generic[T]):
    a: T
    __hidden: Any = None


@dataclass(frozen=True)
class FrozenCounted:
    """Says itself what its state is: without the lock."""

    value: int
    lock: Any = field(default_factory=threading.Lock)

    def __getstate__(self) -> dict[str, Any]:
        return {"value": self.value}


class UndecoratedChild(Frozen):
    """Takes attributes that its frozen base knows nothing of."""


@dataclass(frozen=True)
class FrozenDict(dict):  # type: ignore[type-arg]
    a: int = 0


@dataclass
class Loose:
    a: Any
    b: Any = "b"


class Slotted:
    __slots__ = ("__dict__", "a", "b")

    def __init__(self, a: Any) -> None:
        self.a = a
        self.extra = [a]


class Text(str):
    notes: list[str]


class Greeter:
    def __init__(self) -> None:
        self.greeted: list[str] = []

    def greet(self, name: str) -> None:
        self.greeted.append(name)


class KeepsItself:
    def __deepcopy__(self, memo: dict[int, Any]) -> KeepsItself:
        return self


class CopiesItself:
    """As people write it: goes on with `copy.deepcopy` and the memo it was given."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.copies = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> CopiesItself:
        self.copies += 1
        return CopiesItself(copy.deepcopy(self.inner, memo))


class Picky:
    def __deepcopy__(self, memo: dict[int, Any]) -> Picky:
        raise ValueError("not today")


class Greedy:
    """Answers to every name, as a proxy does."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__deepcopy__":
            raise AttributeError(name)
        return lambda *args: "an answer"


class Reduced:
    def __init__(self, value: Any) -> None:
        self.value = value
        self.setter_ran = False

    def __reduce__(self) -> Any:
        return Reduced, (None,), self.value, None, None, Reduced._put

    def _put(self, value: Any) -> None:
        self.value, self.setter_ran = value, True


class BadReduce:
    def __reduce__(self) -> Any:
        return (1, 2, 3, 4, 5, 6, 7)


def plain_function() -> None:
    """Goes by reference."""


# --- by reference -------------------------------------------------------------------------------------------------

BY_REFERENCE: list[Any] = [
    "text",
    b"bytes",
    10**30,
    1.5,
    2j,
    True,
    None,
    ...,
    NotImplemented,
    range(3),
    PID,
    Ref("nonode@nohost", 1, 1),
    Atom("ok"),
    Color.RED,
    Bits.ONE | Bits.TWO,
    Color,
    dict,
    list[int],
    int | str,
    plain_function,
    lambda: 1,
    len,
    [].append,
    Greeter().greet,
    str.upper,
    operator.add,
    functools.lru_cache(plain_function),
    json,
    datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    datetime.timedelta(1),
    Decimal("1.10"),
    Fraction(1, 3),
    uuid.UUID(int=7),
    pathlib.PurePath("a/b"),
    pathlib.Path("a/b"),
    re.compile("a+"),
    (),
    ("ping", PID, 3),
    ("$gen_call", (PID, Ref("n", 1, 1)), ("factorial", 5)),
    ("a", ("b", ("c", ("d", frozenset({("e",)}))))),
    frozenset({1, (2, 3)}),
    Point(1, (2, 3)),
    LoosePoint(1, 2),
    Global("name"),
    Frozen(1, Frozen((2, Color.RED))),
    FrozenSlots(1),
    (json, math, plain_function, Greeter().greet),
    KeepsItself(),
]


@pytest.mark.parametrize("value", BY_REFERENCE, ids=lambda value: repr(value)[:50])
def test_what_nobody_can_change_goes_as_it_is(value: Any) -> None:
    assert copied(value) is value
    for whole in ((value,), (1, (2, value)), Frozen(value), Point(value, 1), FrozenSlots(value)):
        assert copied(whole) is whole
    assert copied([value])[0] is value
    assert copied({"key": value})["key"] is value
    assert copied(Loose(value)).a is value


# --- copies -------------------------------------------------------------------------------------------------------

COPIED: list[Any] = [
    [1, [2, "x"]],
    {"a": {"b": [1]}},
    {1, 2},
    bytearray(b"abc"),
    deque([1, [2]], maxlen=5),
    defaultdict(list, {"a": [1]}),
    OrderedDict(b=1, a=[2]),
    Counter("abca"),
    ChainMap({"a": 1}, {"b": 2}),
    array("i", [1, 2]),
    Loose(1, [2]),
    (1, [2]),
    ("call", (PID, Ref("n", 1, 1)), [1]),
    Point(1, [2]),
    LoosePoint([1], 2),
    Frozen([1], {"b": 2}),
    FrozenSlots([1]),
    types.SimpleNamespace(a=[1]),
    slice(1, [2]),
]


@pytest.mark.parametrize("value", COPIED, ids=lambda value: repr(value)[:50])
def test_what_can_be_changed_is_copied(value: Any) -> None:
    for original in (value, [value], (1, (value,)), {"key": value}, Loose(value), Frozen(value), Point(value, value)):
        result = copied(original)
        assert result is not original
        assert type(result) is type(original)
        assert result == original
        assert not (ids_of_mutables(result) & ids_of_mutables(original))


def ids_of_mutables(value: Any) -> set[int]:
    """The ids of all lists, dicts, sets, bytearrays and plain objects in `value`; slow, and not by our own rules."""
    found: dict[int, Any] = {}
    stack = [value]
    while stack:
        item = stack.pop()
        if id(item) in found or isinstance(item, type | types.FunctionType | types.ModuleType):
            continue
        if isinstance(item, list | deque | set | frozenset | tuple):
            stack += item
        elif isinstance(item, dict):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, slice):
            stack += [item.start, item.stop, item.step]
        stack += getattr(item, "__dict__", {}).values()
        if isinstance(item, Frozen | FrozenSlots):
            stack += [item.a, getattr(item, "b", None)]
        elif isinstance(item, list | deque | set | dict | bytearray | array | Loose | ChainMap):
            found[id(item)] = item
    return set(found)


def test_a_dict_keeps_its_order_also_when_keys_are_copied() -> None:
    key = Point(2, shared("k"))
    result = copied({"z": 1, key: [2], "a": 3})
    assert list(result) == ["z", Point(2, "k"), "a"]


def test_a_default_dict_keeps_its_factory_and_a_deque_its_bound() -> None:
    result = copied(defaultdict(list, a=[1]))
    assert result.default_factory is list
    assert copied(deque([1], maxlen=3)).maxlen == 3


def test_attributes_and_slots_are_copied() -> None:
    original = Slotted([1])
    result = copied(original)
    assert (result.a, result.extra) == ([1], [[1]])
    assert result.a is not original.a
    assert result.extra[0] is result.a
    assert not hasattr(result, "b")


def test_private_slots_of_a_frozen_dataclass_are_copied() -> None:
    original: Any = FrozenSlots(1, [2])
    result = copied(original)
    assert result == original
    assert result._FrozenSlots__hidden is not original._FrozenSlots__hidden


def test_a_subclass_of_str_is_copied_with_its_attributes() -> None:
    original = Text("hello")
    original.notes = ["a"]
    result = copied(original)
    assert (result, result.notes, type(result)) == ("hello", ["a"], Text)
    assert result.notes is not original.notes


def test_a_named_tuple_that_took_attributes_is_copied_with_them() -> None:
    original = LoosePoint(1, 2)
    original.extra = [3]  # type: ignore[attr-defined]
    result: Any = copied(original)
    assert (result, result.extra) == ((1, 2), [3])
    assert result.extra is not original.extra  # type: ignore[attr-defined]


def test_an_undecorated_child_of_a_frozen_dataclass_counts_as_mutable() -> None:
    assert copied(plain := UndecoratedChild(1)) is not plain
    original = UndecoratedChild(1)
    object.__setattr__(original, "extra", [1])
    result: Any = copied(original)
    assert result is not original
    assert result.extra == [1]
    assert result.extra is not original.extra  # type: ignore[attr-defined]


def test_a_frozen_dataclass_that_is_a_dict_is_copied_as_a_dict() -> None:
    original = FrozenDict(3)
    original["key"] = [1]
    result = copied(original)
    assert (dict(result), result.a) == ({"key": [1]}, 3)
    assert result["key"] is not original["key"]


def test_a_frozen_dataclass_with_hidden_attributes_is_not_by_reference() -> None:
    original = Frozen(1)
    object.__setattr__(original, "cache", [1])
    result: Any = copied(original)
    assert result == original
    assert result.cache == [1]
    assert result.cache is not original.cache  # type: ignore[attr-defined]


def test_a_class_that_says_what_its_state_is_is_heard() -> None:
    result = copied(FrozenCounted(3))
    assert result.value == 3
    assert "lock" not in vars(result)


def test_the_six_part_form_of_reduce_is_carried_out() -> None:
    original = Reduced([1])
    result = copied(original)
    assert result.setter_ran
    assert result.value == [1]
    assert result.value is not original.value


def test_a_partial_is_copied_but_the_owner_of_its_method_is_not() -> None:
    greeter = Greeter()
    names = ["x"]
    result = copied(functools.partial(greeter.greet, names))
    assert result.func.__self__ is greeter
    assert result.args == (["x"],)
    assert result.args[0] is not names


def test_a_bound_method_goes_by_reference_also_deep_inside() -> None:
    greeter = Greeter()
    assert copied([{"callback": greeter.greet}])[0]["callback"].__self__ is greeter


def test_a_list_that_a_sender_changes_afterwards_does_not_reach_the_receiver() -> None:
    basket = ["tea"]
    message = copied(("order", basket))
    basket.append("coffee")
    assert message == ("order", ["tea"])


def test_a_proxy_that_answers_to_every_name_is_copied_as_the_object_it_is() -> None:
    original = Greedy()
    original.target = [1]
    result = copied(original)
    assert type(result) is Greedy
    assert result.target == [1]
    assert result.target is not original.target


def test_a_users_own_deepcopy_runs_once_and_shares_our_memo() -> None:
    inner = [1]
    original = CopiesItself(inner)
    result = copied((original, inner, original))
    assert original.copies == 1
    assert result[0] is result[2]
    assert result[0].inner is result[1]


# --- one memo -----------------------------------------------------------------------------------------------------


def test_what_is_one_object_twice_stays_one_object() -> None:
    inner = [1]
    loose = Loose(inner)
    result = copied(([inner], {"a": inner}, loose, Point(inner, loose), Frozen(inner), deque([inner])))
    same = result[0][0]
    assert same is not inner
    assert all(other is same for other in (result[1]["a"], result[2].a, result[3].x, result[4].a, result[5][0]))
    assert result[3].y is result[2]


@pytest.mark.parametrize("wrap", [lambda x: (x,), lambda x: Point(x, 1), lambda x: Frozen(x), lambda x: FrozenSlots(x)])
def test_a_cycle_through_something_immutable_stays_a_cycle(wrap: Any) -> None:
    inner: list[Any] = []
    whole = wrap(inner)
    inner.append(whole)
    result = copied(whole)
    first = result[0] if isinstance(result, tuple) else result.a
    assert first is not inner
    assert first[0] is result
    result = copied(inner)
    again = result[0]
    assert (again[0] if isinstance(again, tuple) else again.a) is result


def test_lists_dicts_and_objects_may_hold_themselves() -> None:
    as_list: list[Any] = []
    as_list.append(as_list)
    assert copied(as_list)[0] is not as_list
    as_dict: dict[str, Any] = {}
    as_dict["self"] = as_dict
    result = copied(as_dict)
    assert result["self"] is result
    loose = Loose(None)
    loose.a = [loose]
    other = copied(loose)
    assert other is not loose
    assert other.a[0] is other


def test_tuples_shared_over_sixty_levels_do_not_take_two_to_the_sixtieth_steps() -> None:
    plain: Any = (object,)
    mutable: Any = ([],)
    for _ in range(60):
        plain = (plain, plain)
        mutable = (mutable, mutable)
    assert copied((plain,))[0] is plain
    result = copied(mutable)
    assert result is not mutable
    assert result[0] is result[1]


# --- shared -------------------------------------------------------------------------------------------------------


def test_what_is_shared_arrives_as_itself_wherever_it_stands() -> None:
    table = {"rows": [1]}
    assert copied(shared(table)) is table
    assert copied(("load", shared(table)))[1] is table
    assert copied([shared(table)])[0] is table
    assert copied({"table": shared(table)})["table"] is table
    assert copied(Frozen(shared(table))).a is table
    assert copied(Loose(shared(table))).a is table
    assert copied(Point(1, shared(table))).y is table
    assert copied(deque([shared(table)]))[0] is table
    assert copied(CopiesItself([shared(table)])).inner[0] is table
    assert copied((1, (2, shared(table))))[1][1] is table
    assert copied({shared("key"): 1, "other": 2}) == {"key": 1, "other": 2}
    assert copied({shared("element")}) == {"element"}
    assert copied(frozenset({shared("element")})) == frozenset({"element"})


def test_a_lock_can_be_shared() -> None:
    lock = threading.Lock()
    assert copied({"lock": shared(lock)})["lock"] is lock


def test_sharing_twice_is_sharing_once() -> None:
    table: list[int] = []
    assert copied(shared(shared(table))) is table
    assert repr(shared(table)) == "shared([])"


def test_recopied_copies_but_keeps_the_wrappers() -> None:
    table: list[int] = []
    own = [1]
    kept = recopied(("load", [shared(table)], own, CopiesItself([shared(table)])))
    assert type(kept[1][0]) is Shared
    assert kept[2] == own
    assert kept[2] is not own
    assert copied(kept)[1][0] is table
    assert copied(kept)[3].inner[0] is table
    assert recopied("x") == "x"


# --- refusals -----------------------------------------------------------------------------------------------------


def count() -> Iterator[int]:
    yield 1


async def pause() -> None:
    """Is never awaited here."""


def refusal_of(message: Any) -> str:
    with pytest.raises(CopyError) as failure:
        copied(message)
    assert isinstance(failure.value, TypeError)
    return str(failure.value)


ADVICE = "; send a value that can be copied, or shared(...) to hand over the object itself"

LOCK = threading.Lock()

PLACES: list[tuple[Any, str]] = [
    (LOCK, "message"),
    ([1, LOCK], "message[1]"),
    (("job", {"lock": LOCK}), 'message[1]["lock"]'),
    ({7: (1, LOCK)}, "message[7][1]"),
    ({'a"b': LOCK}, 'message["a\\"b"]'),
    ({(1, 2): LOCK}, "message[(1, 2)]"),
    ({(1, LOCK): 1}, "message (the key (1, <unlocked _th...xADDRESS>))[1]"),
    ({LOCK}, "message (an element of the set)"),
    (frozenset({LOCK}), "message (an element of the set)"),
    (Loose([LOCK]), "message.a[0]"),
    (Frozen("x", LOCK), "message.b"),
    (FrozenSlots({"x": LOCK}), 'message.a["x"]'),
    (Slotted(LOCK), "message.extra[0]"),
    (Point(1, LOCK), "message[1]"),
    (deque([1, LOCK]), "message[1]"),
    (OrderedDict(a=LOCK), 'message["a"]'),
    (ValueError("x", LOCK), "message.args[1]"),
    (functools.partial(print, LOCK), "message.__reduce_ex__(4)[2][1][0]"),
    (Reduced(LOCK), "message.__reduce_ex__(4)[2]"),
    (slice(1, LOCK), "message.__reduce_ex__(4)[1][1]"),
    ([[[[[[[[[[[[[[LOCK]]]]]]]]]]]]]], "message[0][0][0][0][0][0] ... [0][0][0][0][0][0]"),
]


@pytest.mark.parametrize(("message", "place"), PLACES, ids=lambda value: repr(value)[:40])
def test_a_refusal_names_the_place(message: Any, place: str) -> None:
    text = re.sub("0x[0-9a-f]+|[0-9a-f]+(?=>)", "ADDRESS", refusal_of(message))
    assert text == f"cannot copy {place}: a _thread.lock (cannot pickle '_thread.lock' object){ADVICE}"


def test_generators_coroutines_files_sockets_threads_frames_and_futures_are_refused() -> None:
    coroutine = pause()
    traceback = caught(ValueError()).__traceback__
    with (
        pathlib.Path(__file__).open() as file,
        socket.socket() as open_socket,
        contextlib.closing(asyncio.new_event_loop()) as loop,
        contextlib.closing(coroutine),
    ):
        refused = {
            "generator": count(),
            "coroutine": coroutine,
            "_io.TextIOWrapper": file,
            "socket.socket": open_socket,
            "threading.Thread": threading.Thread(target=print),
            "traceback": traceback,
            "frame": sys._getframe(),
            "_asyncio.Future": loop.create_future(),
            "memoryview": memoryview(b"x"),
            "mappingproxy": types.MappingProxyType({}),
            "_thread.RLock": threading.RLock(),
        }
        for name, value in refused.items():
            text = refusal_of(("job", {"it": value}))
            assert text.replace(": an ", ": a ").startswith(f'cannot copy message[1]["it"]: a {name}'), text
            assert text.endswith(ADVICE), text


def test_an_object_with_a_lock_inside_is_refused_at_the_lock() -> None:
    assert refusal_of([threading.Event()]).startswith("cannot copy message[0]._cond._lock: a _thread.lock (")


def test_the_article_fits_the_name() -> None:
    class Odd:
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise TypeError("no")

    Odd.__qualname__, Odd.__module__ = "Odd", "builtins"
    assert ": an Odd (no);" in refusal_of(Odd())


def test_a_users_own_error_is_told_and_kept_as_the_cause() -> None:
    with pytest.raises(CopyError, match=r"message\[0\]: a .*Picky \(ValueError: not today\); send") as failure:
        copied([Picky()])
    assert isinstance(failure.value.__cause__, ValueError)


def test_an_error_whose_text_raises_or_runs_on_does_not_get_in_the_way() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    class Fails:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def __reduce_ex__(self, protocol: Any) -> Any:
            raise self.error

        def __repr__(self) -> str:
            raise ValueError

    assert "Fails (Mute); send" in refusal_of(Fails(Mute()))
    assert len(refusal_of([Fails(ValueError("x" * 10_000))])) < 500
    assert "<" in refusal_of({frozenset({Fails(ValueError("y"))}): 1})


@pytest.mark.parametrize("bad", [BadReduce(), type("Half", (), {"__getstate__": lambda self: ({"a": 1}, [2])})()])
def test_a_malformed_reduce_is_a_copy_error(bad: Any) -> None:
    assert refusal_of([bad]).startswith("cannot copy message[0]: ")


def test_a_process_that_is_told_to_end_while_it_copies_ends() -> None:
    class Ends:
        def __deepcopy__(self, memo: dict[int, Any]) -> Any:
            raise Exit("shutdown")

    with pytest.raises(Exit):
        copied([Ends()])


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: (x, []), lambda x: {"next": x}, lambda x: Loose(x)])
def test_ten_thousand_levels_are_refused_and_do_no_harm(wrap: Any) -> None:
    message: Any = []
    for _ in range(10_000):
        message = wrap(message)
    text = refusal_of(message)
    assert "nested too deeply for the interpreter's stack; send a flatter value" in text
    assert copied([1]) == [1]


def test_two_hundred_levels_are_no_trouble() -> None:
    message: Any = []
    for _ in range(200):
        message = [message]
    assert copied(message) == message


# --- exceptions ---------------------------------------------------------------------------------------------------


class Wraps(Exception):
    """Its `__init__` hands other arguments on than it takes: `Wraps(*self.args)` is not the same exception."""

    def __init__(self, code: int, *, hint: Any = None) -> None:
        super().__init__(f"failed with {code}")
        self.code = code
        self.hint = hint


class TakesTwo(Exception):
    def __init__(self, left: Any, right: Any) -> None:
        super().__init__("one text")
        self.both = [left, right]


class OwnReduce(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"own {code}")
        self.code = code

    def __reduce__(self) -> Any:
        return OwnReduce, (self.code,)


class LostFile(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "no such file", path)


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as same:
        return same


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x", 1),
        KeyError("k"),
        Wraps(5, hint=[1]),
        TakesTwo(1, 2),
        OwnReduce(7),
        LostFile("/nowhere"),
        FileNotFoundError(2, "gone", "/here"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        StopIteration(3),
        SystemExit(4),
        ImportError("no", name="n", path="p"),
        Exit(("shutdown", [1])),
        ExceptionGroup("many", [ValueError(1), TakesTwo(1, 2)]),
    ],
    ids=repr,
)
def test_an_exception_is_copied_whole_but_without_its_traceback(error: BaseException) -> None:
    error.add_note("a note")
    result = copied(caught(error))
    assert result is not error
    assert type(result) is type(error)
    assert (str(result), repr(result.args), repr(vars(result))) == (str(error), repr(error.args), repr(vars(error)))
    assert result.__traceback__ is None
    assert error.__traceback__ is not None
    for name in ("errno", "filename", "start", "reason", "value", "code", "name", "path"):
        assert repr(getattr(result, name, None)) == repr(getattr(error, name, None))


def test_what_an_exception_holds_is_copied() -> None:
    error = Wraps(5, hint=[1])
    result = copied(("failed", error, error.hint))
    assert result[1].hint == [1]
    assert result[1].hint is not error.hint
    assert result[1].hint is result[2]


def test_the_cause_and_the_context_of_an_exception_come_along_without_tracebacks() -> None:
    def fail() -> None:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise ValueError("second") from first

    with pytest.raises(ValueError, match="second") as failure:
        fail()
    result = copied(failure.value)
    assert type(result.__cause__) is KeyError
    assert result.__cause__ is result.__context__
    assert result.__cause__ is not failure.value.__cause__
    assert result.__cause__.__traceback__ is None
    assert result.__suppress_context__


def test_a_cause_that_cannot_be_copied_is_left_behind() -> None:
    error = ValueError("second")
    error.__cause__ = ValueError(LOCK)
    assert copied(error).__cause__ is None


def test_a_context_of_ten_thousand_exceptions_does_not_keep_the_last_one_from_arriving() -> None:
    error = ValueError(0)
    for number in range(1, 10_000):
        following = ValueError(number)
        following.__context__ = error
        error = following
    result = copied(error)
    assert result.args == (9_999,)
    assert result.__context__.args == (9_998,)


# --- properties ---------------------------------------------------------------------------------------------------

ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3) | st.just(PID)
FROZEN = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.frozensets(inner, max_size=3)
        | st.builds(Point, inner, inner)
        | st.builds(Frozen, inner, inner)
        | st.builds(FrozenSlots, inner)
    ),
    max_leaves=10,
)
DATA = st.recursive(
    FROZEN,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(inner, max_size=4).map(deque)
        | st.dictionaries(FROZEN, inner, max_size=4)
        | st.sets(FROZEN, max_size=4)
        | st.builds(Point, inner, inner)
        | st.builds(Frozen, inner, inner)
        | st.builds(Loose, inner, inner)
        | st.lists(inner, min_size=1, max_size=1).map(lambda one: [one, one, (one, *one)])
    ),
    max_leaves=20,
)


@given(FROZEN)
def test_immutable_data_is_never_copied(value: Any) -> None:
    assert copied(value) is value


@given(DATA)
def test_a_copy_equals_its_original_and_shares_nothing_with_it(value: Any) -> None:
    result = copied(value)
    assert result == value
    assert type(result) is type(value)
    assert not (ids_of_mutables(result) & ids_of_mutables(value))


@given(DATA)
def test_a_copy_has_as_many_distinct_mutable_objects_as_its_original(value: Any) -> None:
    assert len(ids_of_mutables(copied(value))) == len(ids_of_mutables(value))


def spell(value: Any) -> str:
    """A text that tells 0, False and 0.0 apart, and does not depend on the order of sets."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__} {sorted(map(spell, value))}"
    if isinstance(value, list | tuple | deque):
        return f"{type(value).__name__} {[spell(item) for item in value]}"
    if isinstance(value, dict):
        return f"dict {[(spell(key), spell(item)) for key, item in value.items()]}"
    if isinstance(value, Frozen | Loose):
        return f"{type(value).__name__} {spell(value.a)} {spell(value.b)}"
    return f"FrozenSlots {spell(value.a)}" if isinstance(value, FrozenSlots) else repr(value)


@given(DATA)
def test_a_copy_is_what_deepcopy_gives(value: Any) -> None:
    assert spell(copied(value)) == spell(copy.deepcopy(value)) == spell(value)
