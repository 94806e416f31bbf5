"""The mailbox against a plain list: whatever is appended, passed over and taken, order is kept and nothing is lost."""

import sys
import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from otplib.core.mailbox import EMPTY, Mailbox

VALUES = st.integers(0, 5)


class MailboxAgainstAList(RuleBasedStateMachine):
    """The model is a list of all messages in order of arrival."""

    def __init__(self):
        super().__init__()
        self.box = Mailbox()
        self.model = []
        self.number = 0

    def _append(self, value):
        message = (value, self.number)  # numbered, so that equal ones are told apart
        self.number += 1
        self.box.append(message)
        self.model.append(message)

    @rule(value=VALUES)
    def append(self, value):
        self._append(value)

    @rule(values=st.lists(VALUES, min_size=15, max_size=40))
    def append_many(self, values):
        """Beyond the length at which the mailbox changes its manner."""
        for value in values:
            self._append(value)

    @rule()
    def take_first(self):
        taken = self.box.take_first()
        assert taken == (self.model.pop(0) if self.model else EMPTY)

    @rule(wanted=st.sets(VALUES))
    def take(self, wanted):
        """The oldest that fits; the others stay, in order."""
        taken = self.box.take(lambda message: message[0] in wanted)
        fitting = [message for message in self.model if message[0] in wanted]
        assert taken == (fitting[0] if fitting else EMPTY)
        if fitting:
            self.model.remove(fitting[0])

    @rule(wanted=st.sets(VALUES), before=st.lists(VALUES, max_size=3), after=st.lists(VALUES, max_size=20))
    def take_behind_a_mark(self, wanted, before, after):
        """A call marks the mailbox, then looks at nothing that came before."""
        for value in before:
            self._append(value)
        mark = self.box.mark()
        assert mark == len(self.model)
        for value in after:
            self._append(value)
        looked_at = []

        def fits(message):
            looked_at.append(message)
            return message[0] in wanted

        taken = self.box.take(fits, mark)
        fitting = [message for message in self.model[mark:] if message[0] in wanted]
        assert taken == (fitting[0] if fitting else EMPTY)
        assert not set(looked_at) & set(self.model[:mark])
        if fitting:
            self.model.remove(fitting[0])

    @rule(values=st.lists(VALUES, max_size=3))
    def wait_in_vain_then_get_more(self, values):
        """What a `receive` does: what it has seen it does not look at again, and what comes meanwhile it sees."""
        assert self.box.take(lambda message: False) is EMPTY
        seen = len(self.box.saved or ())
        assert seen == len(self.model)
        for value in values:
            self._append(value)
        looked_at = []
        assert self.box.take(lambda message: looked_at.append(message) or False, seen) is EMPTY
        assert looked_at == self.model[seen:]

    @rule(at=st.integers(0, 50))
    def a_predicate_that_raises_loses_nothing(self, at):
        if not self.model:
            return
        victim = self.model[at % len(self.model)]

        def fits(message):
            if message == victim:
                raise ZeroDivisionError
            return False

        with pytest.raises(ZeroDivisionError):
            self.box.take(fits)

    @invariant()
    def it_holds_the_same_in_the_same_order(self):
        assert self.box.messages() == self.model
        assert self.box.count() == len(self.model)


TestMailboxAgainstAList = MailboxAgainstAList.TestCase


@given(st.lists(VALUES, max_size=60), st.lists(st.sets(VALUES), max_size=60))
def test_taking_by_any_sequence_of_patterns_gives_what_a_list_gives(values, patterns):
    box, model = Mailbox(), list(enumerate(values))
    for message in model:
        box.append(message)
    for wanted in patterns:
        taken = box.take(lambda message, wanted=wanted: message[1] in wanted)
        found = next((message for message in model if message[1] in wanted), EMPTY)
        assert taken == found
        if found is not EMPTY:
            model.remove(found)
    assert box.messages() == model


def test_falsy_messages_are_messages():
    box = Mailbox()
    for message in (None, 0, "", (), False):
        box.append(message)
    assert [box.take_first() for _ in range(6)] == [None, 0, "", (), False, EMPTY]


def test_messages_that_refuse_to_be_compared_are_taken_all_the_same():
    class Shy:
        def __eq__(self, other):
            raise TypeError("not comparable")

        __hash__ = None

    box, shy = Mailbox(), [Shy(), Shy(), Shy()]
    for one in shy:
        box.append(one)
    assert box.take(lambda message: message is shy[1]) is shy[1]
    assert box.take_first() is shy[0]
    assert box.take_first() is shy[2]


def test_a_message_that_comes_while_the_owner_looks_is_neither_lost_nor_moved_ahead():
    """A sender appends in the middle of a look: the very moment that threads make possible."""
    box = Mailbox()
    for number in range(40):
        box.append(number)

    def fits(message):
        if message == 20:
            box.append("late")
        return message == 39

    assert box.take(fits) == 39
    assert box.messages() == [*range(39), "late"]
    assert box.take(lambda message: message == "late") == "late"


def test_a_message_that_comes_while_others_are_put_aside_is_not_put_aside_with_them():
    """The narrowest moment, made to happen: between the look at what there is and its removal."""

    class Disturbed(Mailbox):
        def __getitem__(self, index):
            found = super().__getitem__(index)
            if isinstance(index, slice):
                self.append("late")
            return found

    box = Disturbed()
    for number in range(20):
        box.append(number)
    assert box.take(lambda message: message == 19) == 19
    assert box.messages() == [*range(19), "late"]


@pytest.fixture
def restless():
    """Threads take turns as often as the interpreter can, so that the races happen."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize(("selective", "each"), [(False, 4_000), (True, 250)])  # passing over many is quadratic
def test_eight_senders_and_one_owner_lose_nothing_and_keep_each_senders_order(selective, each):
    box, senders = Mailbox(), 8
    gate = threading.Barrier(senders + 1)

    def send_all(sender):
        gate.wait()
        for number in range(each):
            box.append((sender, number))

    threads = [threading.Thread(target=send_all, args=(sender,)) for sender in range(senders)]
    for thread in threads:
        thread.start()
    gate.wait()
    taken = []
    while len(taken) < senders * each:
        # In turn from each sender, so that there is always much to pass over.
        message = box.take(lambda one: one[0] == len(taken) % senders) if selective else EMPTY
        if message is EMPTY:
            message = box.take_first()
        if message is not EMPTY:
            taken.append(message)
    for thread in threads:
        thread.join()
    assert Counter(taken) == Counter((sender, number) for sender in range(senders) for number in range(each))
    for sender in range(senders):
        numbers = [number for who, number in taken if who == sender]
        assert numbers == sorted(numbers)
    assert box.count() == 0


def test_a_long_backlog_is_taken_in_linear_time_from_the_front_and_past_a_mark():
    """Looks are counted, not seconds: a mailbox of 100,000 must not be read again for every message."""
    box, looks = Mailbox(), 0
    for number in range(100_000):
        box.append(number)
    mark = box.mark()
    box.append("answer")

    def fits(message):
        nonlocal looks
        looks += 1
        return message == "answer"

    assert box.take(fits, mark) == "answer"
    assert looks == 1
    assert [box.take_first() for _ in range(100_000)] == list(range(100_000))
    assert box.take_first() is EMPTY
