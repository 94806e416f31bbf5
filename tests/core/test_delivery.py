"""The truth table of exit signals: every row, for every kind of receiver."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otplib.core.delivery import Effect, copied_reason, effect_of
from otplib.core.reasons import Raised
from otplib.core.terms import Atom

NOTHING, MESSAGE, DEATH = Effect.NOTHING, Effect.MESSAGE, Effect.DEATH

# (reason, trapping, by_link, from_self) -> (effect, the reason that goes with it); rows p02 to p16.
TABLE = {
    # `exit(pid, "kill")` cannot be trapped, and those who are told hear "killed" (p10).
    ("kill", False, False, False): (DEATH, "killed"),
    ("kill", True, False, False): (DEATH, "killed"),
    ("kill", False, False, True): (DEATH, "killed"),
    ("kill", True, False, True): (DEATH, "killed"),
    # The same word by a link is a reason like any other (p11).
    ("kill", False, True, False): (DEATH, "kill"),
    ("kill", True, True, False): (MESSAGE, "kill"),
    # "killed" is an ordinary, trappable reason (p13).
    ("killed", False, False, False): (DEATH, "killed"),
    ("killed", True, False, False): (MESSAGE, "killed"),
    ("killed", False, True, False): (DEATH, "killed"),
    ("killed", True, True, False): (MESSAGE, "killed"),
    # "normal" ends nobody but oneself (p03, p05, p06, p07, p08).
    ("normal", False, False, False): (NOTHING, "normal"),
    ("normal", True, False, False): (MESSAGE, "normal"),
    ("normal", False, True, False): (NOTHING, "normal"),
    ("normal", True, True, False): (MESSAGE, "normal"),
    ("normal", False, False, True): (DEATH, "normal"),
    ("normal", True, False, True): (MESSAGE, "normal"),
    # "shutdown" is abnormal to a link (p15), and so is everything else (p02, p04, p35).
    ("shutdown", False, False, False): (DEATH, "shutdown"),
    ("shutdown", True, False, False): (MESSAGE, "shutdown"),
    ("shutdown", False, True, False): (DEATH, "shutdown"),
    ("shutdown", True, True, False): (MESSAGE, "shutdown"),
    (("shutdown", "x"), False, True, False): (DEATH, ("shutdown", "x")),
    (("shutdown", "x"), True, True, False): (MESSAGE, ("shutdown", "x")),
    ("boom", False, False, True): (DEATH, "boom"),
    ("boom", True, False, True): (MESSAGE, "boom"),
}


@pytest.mark.parametrize(("signal", "expected"), TABLE.items())
def test_every_row_of_the_table_holds(signal, expected):
    reason, trapping, by_link, from_self = signal
    assert effect_of(reason, trapping=trapping, by_link=by_link, from_self=from_self) == expected


# Whatever can be a reason, the words with a meaning of their own among them, and what only looks like them.
REASONS = st.one_of(
    st.sampled_from(["normal", "kill", "killed", "shutdown", "noproc", Atom("kill"), Atom("normal")]),
    st.text(max_size=5),
    st.integers(),
    st.none(),
    st.booleans(),
    st.binary(max_size=3),
    st.tuples(st.sampled_from(["normal", "kill", "shutdown"]), st.integers()),
    st.tuples(st.sampled_from(["normal", "kill"])),
    st.lists(st.sampled_from(["normal", "kill"]), max_size=2),
    st.builds(lambda: Raised(ValueError("x"), ())),
)


@given(REASONS, st.booleans(), st.booleans(), st.booleans())
def test_the_table_is_complete_and_three_questions_decide(reason, trapping, by_link, from_self):
    """A model in other words: is it an unconditional kill, is it trapped, is it somebody else's normal end?"""
    from_self = from_self and not by_link  # nobody is linked to itself (p20)
    effect, why = effect_of(reason, trapping=trapping, by_link=by_link, from_self=from_self)
    is_word = isinstance(reason, str)
    if is_word and reason == "kill" and not by_link:
        assert (effect, why) == (DEATH, "killed")
        return
    assert why is reason  # in every other case whoever hears of it hears the very reason
    if trapping:
        assert effect is MESSAGE
    elif is_word and reason == "normal" and not from_self:
        assert effect is NOTHING
    else:
        assert effect is DEATH


@pytest.mark.parametrize("reason", [b"kill", b"normal", ("kill",), ["normal"], ("normal", "x")])
def test_only_the_words_themselves_have_a_meaning_of_their_own(reason):
    assert effect_of(reason, trapping=False, by_link=False, from_self=False) == (DEATH, reason)
    assert effect_of(reason, trapping=True, by_link=False, from_self=False) == (MESSAGE, reason)


def test_a_reason_that_compares_in_a_strange_way_is_no_word():
    class Yes:
        def __eq__(self, other):
            return True

        __hash__ = None

    reason = Yes()
    effect, why = effect_of(reason, trapping=False, by_link=False, from_self=False)
    assert (effect, why is reason) == (DEATH, True)


def test_each_that_is_told_gets_a_reason_of_its_own():
    reason = ("bad_order", [7], {"a": [1]})
    told = copied_reason(reason)
    assert told == reason
    assert told[1] is not reason[1]
    assert told[2]["a"] is not reason[2]["a"]


def test_a_reason_that_cannot_be_copied_is_told_as_it_is():
    reason = ("broken", threading.Lock())
    assert copied_reason(reason) is reason


def test_an_exception_arrives_as_a_copy_of_the_same_kind_and_text():
    error = ValueError("bad", [1])
    told = copied_reason(Raised(error, ()))
    assert isinstance(told, Raised)
    assert type(told.exception) is ValueError
    assert str(told.exception) == str(error)
