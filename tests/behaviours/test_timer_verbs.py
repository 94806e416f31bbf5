"""The timers of one beat: who still gets it, and who does not, once a process has ended or it was cancelled."""

import pytest

from otplib import process, receive, self_, send, sleep, spawn, spawn_monitor, timer
from otplib.testing import deterministic
from tests.behaviours.served import flush, obey


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


def test_what_is_sent_once_comes_in_time_and_only_if_it_was_not_cancelled(machine):
    """x06_timer_module.exs"""

    async def main():
        timer.send_after(2, "late")
        timer.send_after(1, ("early", []))
        never = timer.send_after(1.5, "never")
        assert timer.cancel(never) is True
        assert await receive() == ("early", [])
        assert machine.now() == pytest.approx(1)
        assert await flush(5) == ["late"]
        assert timer.cancel(never) is True

    machine.run(main)


def test_timers_of_one_beat_outlive_who_asked_for_them_and_intervals_do_not(machine):
    """x06_timer_module.exs, and tried in OTP 25 with an owner that ends at once"""

    async def main():
        me = self_()

        def ask():
            timer.send_after(1, "sent", me)
            timer.apply_after(1, send, me, "applied")
            timer.apply_interval(0.5, send, me, "never")

        spawn(ask)
        assert sorted(await flush(5)) == ["applied", "sent"]

    machine.run(main)


def test_a_name_is_looked_up_when_the_time_has_come_and_if_nobody_has_it_nothing_happens(machine):
    async def main():
        timer.send_after(1, "for nobody", "somebody")
        timer.send_after(3, "for me", "somebody")
        await sleep(2)
        process.register(self_(), "somebody")
        assert await flush(5) == ["for me"]

    machine.run(main)


def test_a_process_is_ended_after_a_time_with_a_reason_or_killed(machine):
    async def main():
        ended, ended_ref = spawn_monitor(obey)
        killed, killed_ref = spawn_monitor(obey)
        spared, spared_ref = spawn_monitor(obey)
        timer.exit_after(2, ("enough", 1), ended)
        timer.kill_after(1, killed)
        timer.cancel(timer.kill_after(1, spared))
        assert (await receive(("DOWN", ..., ..., ..., ...)))[1::3] == (killed_ref, "killed")
        assert (await receive(("DOWN", ..., ..., ..., ...)))[1::3] == (ended_ref, ("enough", 1))
        assert machine.now() == pytest.approx(2)
        assert await flush(5) == []
        assert process.alive(spared)
        assert spared_ref is not None

    machine.run(main)


def test_a_process_may_set_the_time_of_its_own_end(machine):
    async def main():
        async def short():
            timer.exit_after(1, "done")
            await sleep(100)

        _, ref = spawn_monitor(short)
        assert (await receive(("DOWN", ref, ..., ..., ...))).reason == "done"

    machine.run(main)


@pytest.mark.parametrize(
    ("use", "error", "text"),
    [
        (lambda: timer.send_after(-1, "x"), ValueError, "0 or more seconds, got -1"),
        (lambda: timer.send_after(1, "x", 5), TypeError, "a pid or a name to send to, got 5"),
        (lambda: timer.exit_after("1", "x"), TypeError, "timeout in seconds or None, got '1'"),
        (lambda: timer.exit_after(1, "x", "name"), TypeError, r"got 'name': write whereis\(name\) for a name"),
        (lambda: timer.kill_after(float("inf")), ValueError, "exit_after takes a number of seconds, got inf"),
    ],
)
def test_a_timer_that_makes_no_sense_is_refused_when_it_is_set(machine, use, error, text):
    async def main():
        before = process.list()
        with pytest.raises(error, match=text):
            use()
        assert process.list() == before

    machine.run(main)
