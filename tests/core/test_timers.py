"""The heap of timers against a sorted list."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from otplib.core.timers import TimerHeap

MOMENTS = st.floats(0, 100) | st.integers(0, 5)  # the integers make for timers of the same moment


class TimersAgainstASortedList(RuleBasedStateMachine):
    """The model keeps what is set as `(when, order, name)`, sorted; it shares no code with the heap."""

    timers = Bundle("timers")

    def __init__(self):
        super().__init__()
        self.heap = TimerHeap()
        self.model = []
        self.fired = []
        self.count = 0
        self.now = 0.0

    @rule(target=timers, when=MOMENTS)
    def add(self, when):
        name = self.count
        self.count += 1
        timer = self.heap.add(when, lambda: self.fired.append(name))
        assert timer.when == when
        self.model = sorted([*self.model, (when, name)])
        return name, timer

    @rule(timer=timers)
    def cancel(self, timer):
        name, handle = timer
        was_set = [one for one in self.model if one[1] == name]
        assert self.heap.cancel(handle) is bool(was_set)
        assert not self.heap.cancel(handle)  # the second time there is nothing to cancel
        self.model = [one for one in self.model if one[1] != name]

    @rule(timers_=st.lists(consumes(timers), max_size=8))
    def cancel_many(self, timers_):
        for timer in timers_:
            self.cancel(timer)

    @rule(seconds=st.floats(0, 30))
    def let_time_pass(self, seconds):
        self.now += seconds
        expected = [name for when, name in self.model if when <= self.now]
        self.model = [one for one in self.model if one[0] > self.now]
        self.fired = []
        while (action := self.heap.pop_due(self.now)) is not None:
            action()
        assert self.fired == expected

    @rule()
    def fire_one(self):
        action = self.heap.pop_due(self.now)
        if self.model and self.model[0][0] <= self.now:
            self.fired = []
            action()
            assert self.fired == [self.model.pop(0)[1]]
        else:
            assert action is None

    @invariant()
    def the_next_moment_and_the_number_agree(self):
        assert self.heap.next_time() == (self.model[0][0] if self.model else None)
        assert len(self.heap) == len(self.model)


TestTimersAgainstASortedList = TimersAgainstASortedList.TestCase


@given(st.lists(st.tuples(MOMENTS, st.booleans()), max_size=300))
def test_whatever_is_cancelled_the_rest_fires_in_order_of_moment_and_of_setting(entries):
    heap, fired = TimerHeap(), []
    set_ = [heap.add(when, lambda n=number: fired.append(n)) for number, (when, _) in enumerate(entries)]
    for timer, (_, cancelled) in zip(set_, entries, strict=True):
        if cancelled:
            assert heap.cancel(timer)
    while (action := heap.pop_due(1000)) is not None:
        action()
    kept = [(when, number) for number, (when, cancelled) in enumerate(entries) if not cancelled]
    assert fired == [number for _, number in sorted(kept)]
    assert len(heap) == 0


def test_a_timer_that_has_fired_cannot_be_cancelled():
    heap = TimerHeap()
    timer = heap.add(1.0, list)
    assert heap.pop_due(0.5) is None
    assert heap.pop_due(1.0) is list
    assert not heap.cancel(timer)
    assert timer.action is None
    assert len(heap) == 0


def test_a_timer_may_be_set_for_a_moment_that_has_passed():
    heap = TimerHeap()
    heap.add(5.0, dict)
    heap.add(-1.0, list)
    assert heap.pop_due(0.0) is list
    assert heap.pop_due(0.0) is None


@pytest.mark.parametrize("order", [1, -1])
def test_cancelled_timers_do_not_pile_up(order):
    """A call sets a timer and cancels it: a day of calls must not leave a day of entries."""
    heap = TimerHeap()
    kept = [heap.add(1e6 + number, list) for number in range(10)]
    for number in range(100_000):
        heap.cancel(heap.add(1e6 - order * number, list))
    assert len(heap) == len(kept)
    assert len(heap._entries) < 200
    assert [heap.pop_due(2e6) for _ in range(11)] == [list] * 10 + [None]


def test_after_many_have_been_cancelled_the_others_still_fire_in_order():
    """So many that the heap is built anew."""
    draw = random.Random(7)
    heap, fired = TimerHeap(), []
    moments = [draw.uniform(0, 1000) for _ in range(2_000)]
    timers = [heap.add(when, lambda when=when: fired.append(when)) for when in moments]
    cancelled = set(draw.sample(range(2_000), 1_700))
    for number in cancelled:
        heap.cancel(timers[number])
    while (action := heap.pop_due(1000)) is not None:
        action()
    assert fired == sorted(when for number, when in enumerate(moments) if number not in cancelled)


def test_cancelling_a_large_crowd_in_any_order_stays_cheap():
    heap = TimerHeap()
    timers = [heap.add(number % 997, list) for number in range(50_000)]
    for timer in timers[::2] + timers[1::2]:
        assert heap.cancel(timer)
    assert len(heap) == 0
    assert heap.next_time() is None


def test_what_an_action_holds_is_let_go_when_it_is_cancelled():
    class Held:
        gone = False

        def __del__(self):
            Held.gone = True

    heap, held = TimerHeap(), Held()
    timer = heap.add(1e9, lambda held=held: held)
    del held
    assert not Held.gone
    heap.cancel(timer)
    assert Held.gone
