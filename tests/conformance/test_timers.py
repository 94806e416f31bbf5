"""Section 6 of the table, first part: timers."""

import math
import re
import time

import pytest

from otplib import (
    Machine,
    Via,
    make_ref,
    process,
    receive,
    run,
    self_,
    send,
    shared,
    sleep,
    spawn,
    spawn_monitor,
)
from otplib.behaviours import timer
from otplib.core.errors import MachineError
from otplib.testing import deterministic
from tests.conformance.processes import dead, flush, idle


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


def test_x01_send_after_read_and_cancel(machine):
    """x01_send_after.exs"""

    async def main():
        me = self_()
        ref = process.send_after(me, "tick", 0.1)
        assert process.read_timer(ref) == pytest.approx(0.1)
        await sleep(0.04)
        assert process.read_timer(ref) == pytest.approx(0.06)
        assert process.cancel_timer(ref) == pytest.approx(0.06)
        assert process.cancel_timer(ref) is None
        assert process.read_timer(ref) is None
        ref = process.send_after(me, "tick", 0.01)
        assert await flush() == ["tick"]
        assert process.cancel_timer(ref) is None
        process.send_after(me, "now", 0)
        assert await flush(0.02) == ["now"]
        with pytest.raises(ValueError, match="expected a timeout of 0 or more seconds, got -1"):
            process.send_after(me, "x", -1)
        ref = process.send_after(me, "x", 0.05)
        assert process.cancel_timer(ref, asynchronous=True) is None
        assert await flush() == [("cancel_timer", ref, pytest.approx(0.05))]

    machine.run(main)


def test_x02_a_name_is_looked_up_when_the_timer_fires(machine):
    """x02_send_after_name.exs"""

    async def main():
        process.send_after("later", "hi", 0.03)
        process.register(self_(), "later")
        assert await flush() == ["hi"]
        to_nobody = process.send_after("nobody", "hi", 0.001)
        to_dead = process.send_after(await dead(), "hi", 0.001)
        assert type(to_nobody) is type(to_dead) is type(make_ref())
        await sleep(0.02)
        assert process.read_timer(to_nobody) is None

    machine.run(main)


def test_x03_start_timer_wraps_its_message(machine):
    """x03_start_timer.exs"""

    async def main():
        ref = process.start_timer(self_(), "payload", 0.01)
        assert await flush() == [("timeout", ref, "payload")]

    machine.run(main)


def test_x05_timers_fire_in_order_and_never_early(machine):
    """x05_timer_order.exs"""

    async def main():
        for milliseconds in (40, 10, 30, 20):
            process.send_after(self_(), milliseconds, milliseconds / 1000)
        assert await flush(0.1) == [10, 20, 30, 40]

    async def lateness():
        start = time.monotonic()
        process.send_after(self_(), "t", 0.02)
        await receive("t")
        return time.monotonic() - start

    machine.run(main)
    with Machine():
        assert run(lateness, timeout=10) >= 0.02


def test_x06_the_timer_module(machine):
    """x06_timer_module.exs; all times are seconds"""

    async def main():
        interval = timer.send_interval(0.02, "tick")
        await sleep(0.11)
        assert await flush(0) == ["tick"] * 5
        assert timer.cancel(interval) is True
        assert await flush(0.03) == []
        timer.apply_after(0.01, send, self_(), "applied")
        await sleep(0.04)
        assert await flush(0) == ["applied"]

        async def work():
            await sleep(0.01)
            return "r"

        seconds, result = await timer.tc(work)
        assert (seconds, result) == (pytest.approx(0.01), "r")
        assert (timer.hours(1), timer.minutes(1), timer.seconds(1)) == (3600, 60, 1)

    machine.run(main)


def test_timers_of_one_moment_fire_in_the_order_they_were_set(machine):
    async def main():
        for number in range(50):
            process.send_after(self_(), number, 1.0)
        assert await flush(2.0) == list(range(50))

    machine.run(main)


def test_a_timer_for_a_pid_ends_with_its_process(machine):
    async def main():
        pid = spawn(idle)
        ref = process.send_after(pid, "x", 1000)
        named = process.send_after("name", "x", 1000)
        assert process.read_timer(ref) == 1000
        process.exit(pid, "kill")
        await sleep(0)
        await receive_nothing()
        assert process.read_timer(ref) is None
        assert process.cancel_timer(ref) is None
        assert process.read_timer(named) == pytest.approx(1000)
        assert process.cancel_timer(named) == pytest.approx(1000)
        assert len(machine.user_timers) == 0

    machine.run(main)


async def receive_nothing():
    with pytest.raises(TimeoutError):
        await receive(timeout=0.001)


def test_a_timer_of_a_dead_process_still_fires_for_others(machine):
    async def main():
        spawn(lambda to: process.send_after(to, "late", 0.05), self_())
        assert await receive(timeout=1) == "late"

    machine.run(main)


def test_a_process_may_cancel_the_timer_of_another(machine):
    async def main():
        ref = process.send_after(self_(), "x", 0.5)
        spawn(lambda to: send(to, process.cancel_timer(ref)), self_())
        assert await receive(float) == pytest.approx(0.5)
        await receive_nothing()

    machine.run(main)


def test_a_timer_keeps_what_the_message_was_when_it_was_set(machine):
    async def main():
        message = ["now"]
        process.send_after(self_(), message, 0.1)
        message.append("later")
        assert await receive() == ["now"]

    machine.run(main)


@pytest.mark.parametrize(
    ("dest", "seconds", "error"),
    [
        (5, 1, TypeError),
        (("a", 5), 1, TypeError),
        (("a", "b", "c"), 1, TypeError),
        ("a", "1", TypeError),
        ("a", True, TypeError),
        ("a", math.nan, ValueError),
        ("a", math.inf, ValueError),
        ("a", None, ValueError),
    ],
)
def test_a_bad_timer_is_refused_when_it_is_set(machine, dest, seconds, error):
    async def main():
        with pytest.raises(error, match="expected"):
            process.send_after(dest, "x", seconds)
        with pytest.raises(error, match="expected"):
            process.start_timer(dest, "x", seconds)
        assert len(machine.user_timers) == 0

    machine.run(main)


def test_a_timer_for_a_pid_of_another_machine_is_refused_when_it_is_set():
    async def give_pid():
        return self_()

    async def main(stranger):
        with pytest.raises(MachineError, match="belongs to a machine that has stopped or to another one"):
            process.send_after(stranger, "x", 0.001)
        await sleep(0.01)
        return "still running"

    with deterministic() as other:
        stranger = other.run(give_pid)
    with Machine():
        assert run(main, stranger) == "still running"


def test_a_registry_that_raises_when_a_timer_fires_does_not_stop_the_scheduler():
    class Broken:
        def register_name(self, key, pid):
            return True

        def unregister_name(self, key):
            return None

        def whereis_name(self, key):
            raise OSError("the registry is gone")

    async def main():
        process.send_after(Via(Broken(), "k"), "x", 0.001)
        process.send_after(self_(), "after", 0.01)
        return await receive(timeout=5)

    with Machine():
        assert run(main) == "after"


def test_what_is_no_timer_is_refused(machine):
    async def main():
        for use in (process.read_timer, process.cancel_timer):
            with pytest.raises(TypeError, match="expected the reference that send_after gave"):
                use("ref")
            assert use(make_ref()) is None

    machine.run(main)


def test_thousands_of_timers_due_at_once_leave_none_behind():
    async def main():
        refs = [process.send_after(self_(), number, 0) for number in range(5000)]
        got = sorted([await receive(timeout=10) for _ in range(5000)])
        assert got == list(range(5000))
        assert [process.read_timer(ref) for ref in refs] == [None] * 5000

    with Machine() as machine:
        run(main)
        assert len(machine.user_timers) == 0


def test_an_interval_ends_with_its_receiver_and_not_with_who_set_it(machine):
    async def main():
        me = self_()
        pid, ref = spawn_monitor(lambda: send(me, timer.send_interval(0.02, "tick", me)))
        interval = await receive(timer.TimerRef)
        await receive(("DOWN", ref, ..., pid, "normal"))
        await sleep(0.05)
        assert await flush(0) == ["tick", "tick"]
        timer.cancel(interval)

        listener = spawn(idle)
        interval = timer.send_interval(0.02, "tick", listener)
        await sleep(0.05)
        assert process.info(listener, "message_queue_len") == 2
        process.exit(listener, "kill")
        await sleep(0.01)
        assert not process.alive(interval.pid)

    machine.run(main)


def test_an_interval_for_a_name_belongs_to_who_has_it_when_it_is_set(machine):
    async def main():
        nobody_s = timer.send_interval(0.02, "tick", "later")
        await sleep(0.01)
        assert not process.alive(nobody_s.pid)
        process.register(self_(), "later")
        mine = timer.send_interval(0.02, "tick", "later")
        await sleep(0.05)
        assert await flush(0) == ["tick", "tick"]
        process.unregister("later")
        await sleep(0.05)
        assert await flush(0) == [], "the name was taken back: those beats are lost"
        assert process.alive(mine.pid)
        timer.cancel(mine)

    machine.run(main)


def test_an_interval_does_not_drift(machine):
    async def main():
        interval = timer.send_interval(0.1, "tick")
        start = machine.now()
        moments = []
        for _ in range(30):
            await receive("tick")
            moments.append(machine.now() - start)
        timer.cancel(interval)
        assert moments == [pytest.approx(0.1 * beat) for beat in range(1, 31)]

    machine.run(main)


def test_an_interval_sends_a_fresh_copy_each_time_and_shares_what_is_shared(machine):
    async def main():
        table = {"rows": 1}
        interval = timer.send_interval(0.1, ([], shared(table)))
        table["rows"] = 2
        for _ in range(3):
            fresh, theirs = await receive()
            assert fresh == []
            fresh.append("mine")
            assert theirs is table
        timer.cancel(interval)

    machine.run(main)


def test_apply_interval_calls_until_its_asker_ends(machine):
    async def main():
        me = self_()

        async def ask():
            timer.apply_interval(0.02, send, me, "applied")
            await sleep(0.05)

        spawn(ask)
        await sleep(0.5)
        assert await flush(0) == ["applied", "applied"]

    machine.run(main)


def test_apply_after_can_be_cancelled_and_outlives_its_asker(machine):
    async def main():
        me = self_()
        timer.cancel(timer.apply_after(0.05, send, me, "never"))
        spawn(lambda: timer.apply_after(0.05, send, me, "late") and None)
        assert await flush(0.2) == ["late"]

    machine.run(main)


def test_a_slow_call_of_apply_after_is_not_ended_by_cancel(machine):
    async def main():
        me = self_()

        async def slow():
            send(me, "begun")
            await sleep(1)
            send(me, "done")

        once = timer.apply_after(0.01, slow)
        assert await receive() == "begun"
        assert timer.cancel(once) is True
        assert await receive() == "done"

    machine.run(main)


def test_timers_say_what_they_want(machine):
    async def main():
        for use, error, text in (
            (lambda: timer.send_interval(0, "x"), ValueError, "more than 0 seconds"),
            (lambda: timer.send_interval(-1, "x"), ValueError, "0 or more seconds"),
            (lambda: timer.send_interval(None, "x"), ValueError, "takes a number of seconds, got None"),
            (lambda: timer.send_interval(1, "x", 5), TypeError, "expected a pid or a name"),
            (lambda: timer.apply_after(1, "f"), TypeError, "takes a function and its arguments"),
            (lambda: timer.apply_after("1", print), TypeError, "expected a timeout in seconds"),
            (lambda: timer.apply_interval(0, print), ValueError, "more than 0 seconds"),
            (lambda: timer.cancel("t"), TypeError, "expected what send_interval or apply_after gave"),
            (lambda: timer.cancel(make_ref()), TypeError, "write process.cancel_timer"),
        ):
            with pytest.raises(error, match=re.escape(text)):
                use()
        with pytest.raises(ZeroDivisionError):
            await timer.tc(lambda: 1 / 0)

    machine.run(main)
