"""Section 2 of the table, first part: sending, receiving, and what a mailbox keeps. Names: `test_names`."""

import math
import threading
from dataclasses import dataclass

import pytest

from otplib import NoSuchNameError, Ref, make_ref, process, receive, self_, send, shared, sleep, spawn
from otplib.testing import assert_receive, deterministic, refute_receive
from tests.conformance.processes import dead, flush, idle


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


def test_m01_send_gives_the_message(machine):
    """m01_send_returns.exs"""

    async def main():
        assert send(self_(), ("hello", 1)) == ("hello", 1)
        assert await flush() == [("hello", 1)]

    machine.run(main)


def test_m02_send_to_the_dead_gives_the_message(machine):
    """m02_send_dead.exs"""

    async def main():
        assert send(await dead(), "hi") == "hi"

    machine.run(main)


def test_m03_send_to_a_name_nobody_has_raises(machine):
    """m03_send_unregistered.exs"""

    async def main():
        with pytest.raises(NoSuchNameError, match="send to 'nobody': no process has registered this name") as caught:
            send("nobody", "hi")
        assert isinstance(caught.value, LookupError)

    machine.run(main)


def test_m04_send_to_name_and_node_is_silent_when_nobody_is_there(machine):
    """m04_send_name_node.exs"""

    async def main():
        assert send(("nobody", self_().node), "hi") == "hi"
        assert send(("nobody", "x@nohost"), "hi") == "hi"

    machine.run(main)


def test_m05_messages_of_one_sender_arrive_in_the_order_sent(machine):
    """m05_fifo.exs"""

    async def count(to):
        for number in range(1, 1001):
            send(to, number)
            if number % 100 == 0:
                await sleep(0)  # let others in, so that the receiver takes some while more come

    async def main():
        spawn(count, self_())
        assert await flush() == list(range(1, 1001))

    machine.run(main)


def test_m06_receive_takes_the_first_that_fits_and_leaves_the_order_of_the_rest(machine):
    """m06_selective.exs"""

    async def main():
        for message in (("b", 1), ("a", 1), ("c", 1), ("a", 2), ("b", 2)):
            send(self_(), message)
        assert await receive(("a", int)) == ("a", 1)
        assert await receive(("a", int)) == ("a", 2)
        assert await flush() == [("b", 1), ("c", 1), ("b", 2)]

    machine.run(main)


def test_m08_receive_with_timeout_0_looks_once_and_prefers_a_message(machine):
    """m08_after_0.exs"""

    async def main():
        with pytest.raises(TimeoutError):
            await receive(timeout=0)
        send(self_(), "m")
        assert await receive(timeout=0) == "m"
        send(self_(), "m")
        with pytest.raises(TimeoutError):
            await receive("other", timeout=0)
        assert await flush() == ["m"]

    machine.run(main)


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        (-1, ValueError),
        (-0.001, ValueError),
        (math.nan, ValueError),
        ("5", TypeError),
        (True, TypeError),
        (1j, TypeError),
    ],
)
def test_m09_a_bad_timeout_raises_and_takes_no_message(machine, timeout, error):
    """m09_after_bad.exs; here at once, also when it would not have to wait, and None is for ever"""

    async def main():
        with pytest.raises(error, match="expected a timeout"):
            await receive("x", timeout=timeout)
        send(self_(), "x")
        with pytest.raises(error, match="expected a timeout"):
            await receive("x", timeout=timeout)
        assert await receive("x", timeout=None) == "x"

    machine.run(main)


def test_m11_a_pattern_whose_test_raises_does_not_fit_and_the_message_stays(machine):
    """m11_guard_fail.exs"""

    async def main():
        send(self_(), ("n", "str"))
        with pytest.raises(TimeoutError):
            await receive(("n", lambda x: x + 1 > 0), timeout=0)
        assert await flush() == [("n", "str")]

    machine.run(main)


def test_m12_an_exception_after_the_match_finds_the_message_gone(machine):
    """m12_fun_clause_in_body.exs"""

    async def take():
        match await receive("m"):
            case "m":
                raise RuntimeError("x")

    async def main():
        send(self_(), "m")
        with pytest.raises(RuntimeError, match="x"):
            await take()
        assert await flush() == []

    machine.run(main)


def test_m13_a_mailbox_has_no_limit_and_send_never_waits():
    """m13_mailbox_unbounded.exs"""

    async def main():
        heap = spawn(idle)
        for number in range(200_000):
            send(heap, number)
        assert process.info(heap, "message_queue_len") == 200_000

    with deterministic() as machine:
        machine.run(main)


def test_m14_send_to_another_node_does_not_wait_for_it_and_a_bad_name_raises(machine):
    """m14_process_send_opts.exs; there are no options, as send never waits"""

    async def main():
        assert send(self_(), "m") == "m"
        assert send(("x", "a@b"), "m") == "m"
        with pytest.raises(NoSuchNameError):
            send("nobody", "m")

    machine.run(main)


def test_m15_messages_are_copied_but_what_cannot_change_is_not(machine):
    """m15_copy.exs"""

    async def give_back(to):
        got = await receive()
        if isinstance(got, list):
            got.append("changed by the receiver")
        send(to, shared(got))

    async def main():
        large = b"x" * 1_000_000
        send(spawn(give_back, self_()), large)
        assert await receive() is large
        numbers = list(range(1000))
        send(spawn(give_back, self_()), numbers)
        theirs = await receive()
        assert numbers == list(range(1000)), "the receiver changed the sender's list"
        assert theirs == [*numbers, "changed by the receiver"]

    machine.run(main)


def test_m16_receive_with_nothing_to_wait_for_only_sleeps(machine):
    """m16_receive_no_clauses.exs"""

    async def main():
        send(self_(), "kept")
        before = machine.now()
        with pytest.raises(TimeoutError):
            await receive(lambda message: False, timeout=0.01)
        assert machine.now() - before == pytest.approx(0.01)
        await sleep(0.01)
        assert machine.now() - before == pytest.approx(0.02)
        assert await flush() == ["kept"]

    machine.run(main)


@pytest.mark.parametrize("dest", [5, None, b"name", ("a", 5), ("a", "b", "c"), ["name"], object()], ids=repr)
def test_m17_send_to_what_is_no_destination_raises(machine, dest):
    """m17_send_bad_dest.exs; a str is a name here"""

    async def main():
        with pytest.raises(TypeError, match="as destination; got"):
            send(dest, "m")

    machine.run(main)


def test_m18_a_value_in_a_pattern_stands_for_itself(machine):
    """m18_pin.exs"""

    async def main():
        ref = make_ref()
        send(self_(), (make_ref(), "wrong"))
        send(self_(), (ref, "right"))
        assert await receive((ref, ...)) == (ref, "right")
        assert len(await flush()) == 1

    machine.run(main)


def test_m19_two_senders_interleave_and_each_one_s_order_is_kept(machine):
    """m19_fairness.exs"""

    async def count(to, who):
        for number in range(1, 2001):
            send(to, (who, number))
            if number % 50 == 0:
                await sleep(0)

    async def main():
        for who in ("a", "b"):
            spawn(count, self_(), who)
        got = await flush()
        for who in ("a", "b"):
            assert [number for sender, number in got if sender == who] == list(range(1, 2001))
        assert [sender for sender, _ in got] != ["a"] * 2000 + ["b"] * 2000, "the senders took no turns"

    machine.run(main)


def test_m20_a_process_may_send_to_itself_before_it_receives(machine):
    """m20_ping_pong_self.exs"""

    async def main():
        send(self_(), "x")
        assert process.info(self_(), "message_queue_len") == 1
        assert process.info(self_(), "messages") == ["x"]

    machine.run(main)


# ---- what the table does not say --------------------------------------------------------------------------------


def test_order_is_kept_between_threads_too():
    async def collect(to, count):
        send(to, [await receive(timeout=10) for _ in range(count)])

    collector = spawn(collect, self_(), 4000)

    def speak(who):
        for number in range(1000):
            send(collector, (who, number))

    speakers = [threading.Thread(target=speak, args=(who,)) for who in "abcd"]
    for speaker in speakers:
        speaker.start()
    for speaker in speakers:
        speaker.join(10)
    got = process.drive(receive(list, timeout=10))
    for who in "abcd":
        assert [number for sender, number in got if sender == who] == list(range(1000))


def test_a_message_for_a_later_pattern_wakes_nobody_for_good(machine):
    async def main():
        me = self_()

        async def tempt():
            for number in range(50):
                send(me, ("noise", number))
                await sleep(0)
            send(me, "signal")

        spawn(tempt)
        assert await receive("signal", timeout=1) == "signal"
        assert await flush() == [("noise", number) for number in range(50)]

    machine.run(main)


def test_several_patterns_are_one_look_in_the_order_of_the_mailbox(machine):
    async def main():
        for message in (3, "three", ("t", 3)):
            send(self_(), message)
        assert await receive(("t", ...), str) == "three", "the older one, not the one whose pattern stands first"
        assert await receive(("t", ...), int) == 3

    machine.run(main)


def test_numbers_in_patterns_are_exact_as_on_the_beam(machine):
    async def main():
        for message in (True, 1.0, 1, 0, False):
            send(self_(), message)
        one = await receive(1)
        assert (type(one), one) == (int, 1)
        nothing = await receive(0)
        assert (type(nothing), nothing) == (int, 0)
        assert repr(await receive(int, 1.0)) == "1.0"
        assert await flush() == [True, False]

    machine.run(main)


def test_a_message_that_comes_as_the_time_runs_out_is_not_lost(machine):
    async def main():
        process.send_after(self_(), "late", 1.0)
        try:
            got = await receive("late", timeout=1.0)
        except TimeoutError:
            got = await receive("late", timeout=0)
        assert got == "late"
        assert await flush() == []

    machine.run(main)


def test_a_timeout_in_one_receive_does_not_end_the_next(machine):
    async def main():
        me = self_()
        with pytest.raises(TimeoutError):
            await receive("never", timeout=0.5)

        async def answer():
            await sleep(2)
            send(me, "answer")

        spawn(answer)
        assert await receive("answer", timeout=5) == "answer"
        before = machine.now()
        with pytest.raises(TimeoutError):
            await receive(timeout=3)
        assert machine.now() - before == pytest.approx(3)

    machine.run(main)


@pytest.mark.parametrize("seconds", [math.inf, 1e300, 10**400])
def test_no_number_of_seconds_is_too_large(machine, seconds):
    async def main():
        me = self_()

        async def answer():
            await sleep(3600)
            send(me, "answer")

        spawn(answer)
        return await receive("answer", timeout=seconds)

    assert machine.run(main) == "answer"


def test_what_cannot_be_copied_raises_in_the_sender_and_is_not_sent(machine):
    async def main():
        lock = threading.Lock()
        with pytest.raises(TypeError, match=r"cannot copy message\[1\]"):
            send(self_(), ("job", lock))
        assert await flush() == []
        send(self_(), ("job", shared(lock)))
        assert (await receive())[1] is lock

    machine.run(main)


@dataclass(frozen=True)
class Order:
    item: str
    count: int


def test_a_frozen_value_travels_as_itself_and_matches_by_its_fields(machine):
    async def main():
        order = Order("tea", 2)
        send(self_(), order)
        assert await receive(Order("tea", ...)) is order

    machine.run(main)


def test_an_alias_takes_messages_until_it_is_taken_back(machine):
    async def main():
        alias = process.alias()
        assert isinstance(alias, Ref)
        send(alias, 1)
        assert process.unalias(alias) is True
        assert send(alias, 2) == 2
        assert process.unalias(alias) is False
        assert await flush() == [1]

    machine.run(main)


def test_sending_to_a_plain_reference_is_silent(machine):
    async def main():
        ref = make_ref()
        assert send(ref, "x") == "x"
        assert await flush() == []

    machine.run(main)


def test_assert_receive_shows_the_mailbox_when_nothing_fits(machine):
    async def main():
        send(self_(), ("other", "thing"))
        with pytest.raises(AssertionError, match=r'no message that fits "wanted".*\[\("other", "thing"\)\]'):
            await assert_receive("wanted")
        with pytest.raises(AssertionError, match="expected no such message"):
            await refute_receive(("other", ...))
        await refute_receive("wanted")

    machine.run(main)
