"""Which message fits which pattern: rows, refusals, and a slow model that Hypothesis holds against the fast code."""

from __future__ import annotations

import asyncio
import functools
import re
import typing
import unittest.mock
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otplib.core.patterns import check_pattern, check_patterns, matches, matches_any
from otplib.core.terms import Atom, Pid, Ref

PID = Pid("nonode@nohost", 1, 0, 1)
NAN = float("nan")


class Color(Enum):
    RED = 1
    BLUE = 2


class Level(IntEnum):
    LOW = 0
    HIGH = 1


class Word(StrEnum):
    OK = "ok"


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass
class Order:
    item: Any
    count: Any
    note: Any = field(default="", compare=False)


@dataclass
class Rush(Order):
    pass


class Answers:
    """Whose == answers what it was told."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __eq__(self, other: object) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    __hash__ = object.__hash__


class Impostor:
    """Whose class cannot be asked for, as in a proxy whose target is gone."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no target")


class CallableOrder(Order):
    def __call__(self, message: Any) -> bool:
        return True


def is_positive(message: Any) -> bool:
    return bool(message > 0)


FITS: list[tuple[Any, Any]] = [
    (..., None),
    (..., (1, 2)),
    ("ok", "ok"),
    ("ok", Atom("ok")),
    (Atom("ok"), "ok"),
    ("ok", Word.OK),
    (Word.OK, "ok"),
    (("ok",), (Atom("ok"),)),
    (0, 0),
    (False, False),
    (0.0, 0.0),
    (0.0, -0.0),
    (1j, 1j),
    (b"x", b"x"),
    (None, None),
    (PID, Pid("nonode@nohost", 1, 0, 1)),
    (Ref("n", 1, 1), Ref("n", 1, 1)),
    (Decimal("1.0"), Decimal(1)),
    (Color.RED, Color.RED),
    (Level.LOW, Level.LOW),
    (int, 3),
    (int, Level.LOW),
    (bool, True),
    (float, 1.5),
    (str, "x"),
    (str, Atom("x")),
    (object, True),
    (tuple, (1, 2)),
    (Pid, PID),
    (Color, Color.BLUE),
    (int | str, "x"),
    (int | None, None),
    (int | bool, True),
    (typing.Optional[int], 3),  # noqa: UP045 - the old spelling must fit too
    (("add", int | str), ("add", "x")),
    (("ping", Pid, int), ("ping", PID, 3)),
    ((), ()),
    ((1, 2), Point(1, 2)),
    (Point(1, int), (1, 2)),
    (Point(..., ...), Point(1, 2)),
    ((("a", int), [int, ...]), (("a", 1), [2, "x"])),
    ([], []),
    ([int, "x"], [1, "x"]),
    ({}, {"a": 1}),
    ({"a": int}, {"a": 1, "b": 2}),
    ({"a": {"b": ...}}, {"a": {"b": None, "c": 1}}),
    ({"a": None}, {"a": None}),
    ({1: "one"}, {1: "one", True + 1: "two"}),
    ({(1, "x"): int}, {(1, "x"): 5}),
    ({"a": 1}, OrderedDict(a=1)),
    ({Color.RED: int}, {Color.RED: 1}),
    (OrderedDict(a=int), {"a": 1}),
    ({1, 2}, {2, 1}),
    ({1, 2}, frozenset({1, 2})),
    (Order("tea", int), Order("tea", 2)),
    (Order("tea", 2, note="pattern"), Order("tea", 2, note="message")),
    (CallableOrder("tea", 2), CallableOrder("tea", 2)),
    (is_positive, 3),
    (callable, print),
    (lambda m: [m], 3),
    ("abc".startswith, "a"),
    (functools.partial(isinstance, 3), int),
    (("n", is_positive), ("n", 3)),
    (unittest.mock.ANY, 3),
    (Answers(True), 3),
    ([object, ...], [Impostor(), Impostor()]),
]

FITS_NOT: list[tuple[Any, Any]] = [
    ("ok", "no"),
    ("ok", b"ok"),
    ("ok", None),
    (0, False),
    (0, 0.0),
    (False, 0),
    (0.0, 0),
    (1, True),
    (True, 1),
    (1, 1 + 0j),
    (1, Decimal(1)),
    (Decimal(1), 1),
    (0, Level.LOW),
    (Level.LOW, 0),
    (NAN, NAN),
    (None, False),
    (PID, Ref("nonode@nohost", 1, 1)),
    (Color.RED, 1),
    (Color.RED, Color.BLUE),
    (int, True),
    (int, 1.0),
    (int | str, True),
    (typing.Optional[int], True),  # noqa: UP045 - as above
    (str, b"x"),
    (Color, 1),
    ((), []),
    ((int,), (True,)),
    ((int, int), (1,)),
    ((int,), (1, 2)),
    ((1, 2), [1, 2]),
    ([1, 2], (1, 2)),
    ([1], [1, 2]),
    ([0], [False]),
    ((int, str), 3),
    ((int, str), "x"),
    ((0, (0,)), (0, (False,))),
    ({"a": int}, {}),
    ({"a": int}, {"a": True}),
    ({"a": 1}, [("a", 1)]),
    ({"a": ...}, {"b": 1}),
    ({1: ...}, {True: "x"}),
    ({1: ...}, {1.0: "x"}),
    ({True: ...}, {1: "x"}),
    ({0.0: ...}, {0: "x"}),
    ({(1, "x"): ...}, {(True, "x"): 5}),
    ({"a": {"b": 0}}, {"a": {"b": False}}),
    ({1, 2}, {True, 2}),
    ({(0, 1)}, {(False, 1)}),
    ({frozenset({0})}, {frozenset({False})}),
    ({1, 2}, [1, 2]),
    (Order("tea", 2), Order("tea", 3)),
    (Order("tea", 0), Order("tea", False)),
    (Order("tea", 2), Rush("tea", 2)),
    (Order("tea", 2), ("tea", 2)),
    (CallableOrder("tea", 2), CallableOrder("tea", 3)),
    (is_positive, -1),
    (is_positive, "x"),
    (("n", is_positive), ("n", None)),
    (lambda m: m["key"], {}),
    (lambda m: Answers(True) if m else None, 0),
    (Answers(ValueError("==")), 3),
    (Answers([1, 2]), 3),
    (Answers(1), 3),
    ("x", Answers(ValueError("=="))),
    ("x", Answers([True])),
    (int, Impostor()),
]


@pytest.mark.parametrize(("pattern", "message"), FITS, ids=lambda value: repr(value)[:40])
def test_a_message_fits(pattern: Any, message: Any) -> None:
    assert matches(pattern, message) is True
    assert matches((pattern,), (message,)) is True
    assert matches([pattern], [message]) is True
    assert matches({"key": pattern}, {"key": message}) is True
    check_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "message"), FITS_NOT, ids=lambda value: "?" if isinstance(value, Impostor) else repr(value)[:40]
)
def test_a_message_does_not_fit(pattern: Any, message: Any) -> None:
    assert matches(pattern, message) is False
    assert matches((pattern,), (message,)) is False
    assert matches([pattern], [message]) is False
    assert matches({"key": pattern}, {"key": message}) is False


def test_a_type_in_a_union_that_cannot_be_asked_does_not_hide_the_next_one() -> None:
    class Meta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            raise ValueError("not today")

    class Moody(metaclass=Meta):
        pass

    assert matches(Moody | int, 3)
    assert not matches(Moody, 3)


def test_looking_for_a_key_does_not_make_a_default_dict_grow() -> None:
    message: Any = defaultdict(list)
    assert not matches({"a": ..., 1: ...}, message)
    assert message == {}


def test_looking_for_a_key_runs_no_code_of_the_messages() -> None:
    class Loud(dict[str, int]):
        def get(self, key: Any, default: Any = None) -> Any:
            raise AssertionError("asked")

    assert matches({"a": int}, Loud(a=1))


def test_a_member_of_an_enum_stands_for_itself_also_when_it_could_be_called() -> None:
    class Action(Enum):
        GO = "go"

        def __call__(self, message: Any) -> bool:
            return True

    assert matches(Action.GO, Action.GO)
    assert not matches(Action.GO, "go")


def test_a_predicate_that_ends_the_process_is_not_silenced() -> None:
    def stop(message: Any) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        matches(("x", stop), ("x", 1))


def test_a_dataclass_with_an_empty_slot_does_not_fit() -> None:
    @dataclass(slots=True)
    class Slotted:
        value: int

    assert not matches(Slotted(1), Slotted.__new__(Slotted))


def test_a_cyclic_message_does_not_hold_up_a_finite_pattern() -> None:
    message: list[Any] = [1]
    message.append(message)
    assert matches([int, [int, list]], message)


def test_a_cyclic_message_against_itself_as_a_literal_does_not_crash() -> None:
    message: list[Any] = []
    message.append(message)
    other: list[Any] = []
    other.append(other)
    assert matches(message, other) is False


def test_any_of_several_patterns_is_enough_and_none_at_all_takes_everything() -> None:
    assert matches_any(("stop", ("add", int)), ("add", 1))
    assert not matches_any(("stop", ("add", int)), ("add", "1"))
    assert matches_any((), "whatever")


# --- refusals -----------------------------------------------------------------------------------------------------


async def ask_later(message: Any) -> bool:
    return True


class AsksLater:
    async def __call__(self, message: Any) -> bool:
        return True


class Speaks(typing.Protocol):
    def speak(self) -> None: ...


class Row(typing.TypedDict):
    name: str


class Method:
    def takes_two(self, left: Any, right: Any) -> bool:
        return True

    def takes_one(self, message: Any) -> bool:
        return message == 1


class Future:
    def __await__(self) -> Any:
        return iter(())


def list_forever(message: Any) -> Any:
    yield True


def needs_a_keyword(message: Any, *, limit: int) -> bool:
    return True


T = typing.TypeVar("T")
UserId = typing.NewType("UserId", int)

REFUSED: list[tuple[Any, str]] = [
    (list[int], "isinstance cannot look inside: write list, or a predicate such as lambda m: isinst"),
    (dict[str, int], "write dict, or a predicate"),
    (typing.List[int], "write list, or a predicate"),  # noqa: UP006 - the old spelling is refused too
    (int | list[int], "write list, or"),
    (typing.Union[int, list[str]], "write list, or"),  # noqa: UP007 - as above
    (typing.Any, "write ... for anything"),
    (typing.Literal["a", "b"], r"write the literals as patterns of their own: receive\('a', 'b'\)"),
    (typing.Annotated[int, "positive"], "annotations are no patterns: write int"),
    (typing.Iterable[int], "write collections.abc.Iterable, or"),
    (typing.Callable, "write callable, which is itself a predicate"),
    (typing.ClassVar, "annotations are no patterns"),
    (T, "annotations are no patterns: write a class"),
    (UserId, "a NewType is no type at run time: write int"),
    (Speaks, "isinstance refuses it .*runtime_checkable"),
    (Row, 'write a dict pattern such as {"key": str}'),
    ((part for part in ("a", "b")), r"write the patterns themselves, as in receive\(\*patterns\)"),
    (Future(), "await it first"),
    (ask_later, "a predicate answers at once: write a plain def or a lambda"),
    (AsksLater(), "a predicate answers at once"),
    (functools.partial(ask_later), "a predicate answers at once"),
    (list_forever, "a predicate answers at once"),
    (lambda: True, "a predicate takes one argument, the message: write lambda message"),
    (lambda left, right: True, "a predicate takes one argument"),
    (Method().takes_two, "a predicate takes one argument"),
    (needs_a_keyword, "a predicate takes one argument"),
    ({...: int}, "the keys of a dict pattern are literals"),
    (Answers([True, False]), "its == gives no bool: write Answers, or a predicate"),
]


@pytest.mark.parametrize(("pattern", "text"), REFUSED, ids=lambda value: repr(value)[:40])
def test_what_cannot_be_a_pattern_is_refused_at_once(pattern: Any, text: str) -> None:
    with pytest.raises(TypeError, match=r"^expected a pattern, got .*" + text):
        check_pattern(pattern)
    for whole in (("job", pattern), [pattern], {"job": (1, pattern)}, Order("tea", pattern), Point(1, pattern)):
        with pytest.raises(TypeError, match=r"^expected a pattern, got .* in .*" + text):
            check_pattern(whole)
    with pytest.raises(TypeError, match=r"^expected a pattern"):
        check_patterns(("fine", pattern))


def test_a_refusal_names_the_part_and_the_whole() -> None:
    with pytest.raises(TypeError, match=r"^expected a pattern, got list\[int\] in \('add', int \| list\[int\]\); "):
        check_pattern(("add", int | list[int]))


def test_a_coroutine_nobody_awaited_is_refused() -> None:
    coroutine = ask_later(1)
    with pytest.raises(TypeError, match="await it first, and write its result"):
        check_pattern(("x", coroutine))
    coroutine.close()


def test_an_asyncio_future_and_an_async_generator_are_refused() -> None:
    async def count() -> Any:
        yield 1

    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(TypeError, match="await it first"):
            check_pattern(loop.create_future())
    finally:
        loop.close()
    with pytest.raises(TypeError, match="write the patterns themselves"):
        check_pattern(count())


def test_a_pattern_that_holds_itself_is_refused() -> None:
    pattern: list[Any] = [1]
    pattern.append(pattern)
    with pytest.raises(TypeError, match="got list nested too deeply"):
        check_pattern(pattern)


def test_a_long_pattern_is_shown_by_a_short_text() -> None:
    with pytest.raises(TypeError) as caught:
        check_pattern([*range(10_000), list[int]])
    assert len(str(caught.value)) < 400


ACCEPTED: list[Callable[..., Any]] = [
    lambda *parts: True,
    lambda message, limit=3: True,
    Method().takes_one,
    re.compile("x").match,
    functools.partial(isinstance, 3),
    Method,
]


@pytest.mark.parametrize("pattern", ACCEPTED, ids=repr)
def test_a_callable_that_takes_one_argument_is_accepted(pattern: Any) -> None:
    check_pattern(pattern)
    check_patterns((pattern, "x", (pattern, [pattern])))


# --- the slow model -----------------------------------------------------------------------------------------------


def fits_by_the_book(pattern: Any, message: Any) -> bool:
    """The table of the module, one line for each row, with no thought of speed."""
    if pattern is ...:
        return True
    if isinstance(pattern, type):
        return isinstance(message, pattern) and not (pattern is int and isinstance(message, bool))
    if isinstance(pattern, tuple | list):
        base = tuple if isinstance(pattern, tuple) else list
        same = isinstance(message, base) and len(pattern) == len(message)
        return same and all(fits_by_the_book(pattern[i], message[i]) for i in range(len(pattern)))
    if isinstance(pattern, dict):
        return isinstance(message, dict) and all(
            any(spell(key) == spell(other) and fits_by_the_book(part, message[other]) for other in message)
            for key, part in pattern.items()
        )
    if isinstance(pattern, Order):
        return (
            type(message) is type(pattern)
            and fits_by_the_book(pattern.item, message.item)
            and fits_by_the_book(pattern.count, message.count)
        )
    return spell(pattern) == spell(message)


def spell(value: Any) -> str:
    """A text that tells `0`, `False` and `0.0` apart, but no atom from its string."""
    if isinstance(value, str):
        return "str " + str(value)
    if isinstance(value, frozenset):
        return "set " + str(sorted(map(spell, value)))
    if isinstance(value, tuple):
        return "tuple " + str([spell(item) for item in value])
    return f"{type(value).__name__} {value!r}"


# Few values, so that 0, False and 0.0, "a" and :a meet often.
LEAVES = st.sampled_from([0, 1, False, True, 0.0, 1.0, "a", "b", Atom("a"), b"a", None, PID])
KEYS = LEAVES | st.tuples(LEAVES) | st.frozensets(LEAVES, max_size=2)
TYPES: st.SearchStrategy[Any] = st.sampled_from([..., int, bool, float, str, Atom, Pid, tuple, list, dict, object])


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves | st.frozensets(LEAVES, max_size=2),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(KEYS, inner, max_size=3)
            | st.builds(Point, inner, inner)
            | st.builds(Order, inner, inner)
            | st.builds(Rush, inner, inner)
        ),
        max_leaves=8,
    )


MESSAGES = nested(LEAVES)
PATTERNS = nested(LEAVES | TYPES)


@st.composite
def blurred(draw: st.DrawFn, value: Any) -> Any:
    """A pattern like `value`, with some parts replaced: so that deep pairs often fit, or nearly do."""
    what = draw(st.integers(0, 9))
    if what == 0:
        return draw(LEAVES | TYPES)
    if isinstance(value, Point):
        return Point(*(draw(blurred(item)) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(draw(blurred(item)) for item in value)
    if isinstance(value, dict):
        return {key: draw(blurred(item)) for key, item in value.items() if draw(st.integers(0, 3))}
    if isinstance(value, Order):
        return type(value)(draw(blurred(value.item)), draw(blurred(value.count)))
    return type(value) if what == 1 and not isinstance(value, frozenset) else value


@given(PATTERNS, MESSAGES)
def test_matching_is_what_the_book_says(pattern: Any, message: Any) -> None:
    assert matches(pattern, message) is fits_by_the_book(pattern, message)


@given(st.data(), MESSAGES)
def test_matching_is_what_the_book_says_for_patterns_near_the_message(data: st.DataObject, message: Any) -> None:
    pattern = data.draw(blurred(message))
    assert matches(pattern, message) is fits_by_the_book(pattern, message)


@given(MESSAGES)
def test_a_message_of_plain_values_fits_itself(message: Any) -> None:
    assert matches(message, message)
    check_pattern(message)
