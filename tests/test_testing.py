"""`otplib.testing`: the same seed gives the same run, the clock jumps, and what fails says why."""

from __future__ import annotations

import threading
import time

import pytest

from otplib import GenServer, MachineError, Ok, Reply, process, receive, run, self_, send, sleep, spawn
from otplib.testing import assert_receive, deterministic, refute_receive


async def race():
    """Whoever runs first speaks first."""
    me = self_()

    async def racer(name):
        for step in range(3):
            send(me, (name, step))
            await sleep(0)

    for name in "abcde":
        spawn(racer, name)
    return [await receive(tuple) for _ in range(15)]


def order_of(seed):
    with deterministic(seed=seed) as machine:
        return machine.run(race)


def test_the_same_seed_gives_the_same_run():
    assert [order_of(7) for _ in range(5)] == [order_of(7)] * 5


def test_different_seeds_give_different_orders():
    orders = {tuple(order_of(seed)) for seed in range(10)}
    assert len(orders) >= 8
    for order in orders:  # whatever the order, each racer's own steps keep theirs
        for name in "abcde":
            assert [step for racer, step in order if racer == name] == [0, 1, 2]


def test_no_thread_is_started():
    before = threading.active_count()
    with deterministic() as machine:
        machine.run(race)
        assert threading.active_count() == before


def test_the_clock_jumps_so_a_day_takes_no_time():
    async def main():
        await sleep(86_400)
        with pytest.raises(TimeoutError):
            await receive("never", timeout=86_400)
        return "two days later"

    begin = time.monotonic()
    with deterministic() as machine:
        assert machine.run(main) == "two days later"
        assert machine.now() == pytest.approx(2 * 86_400)
    assert time.monotonic() - begin < 10


def test_the_clock_stands_still_while_anybody_can_run():
    async def main(machine):
        begin = machine.now()
        for _ in range(100):
            await sleep(0)
        return machine.now() - begin

    with deterministic() as machine:
        assert machine.run(lambda: main(machine)) == 0


def test_timers_fire_in_the_order_of_their_moments_whatever_the_seed():
    async def main():
        for number in (3, 1, 2):
            process.send_after(self_(), number, number * 10.0)
        return [await receive() for _ in range(3)]

    for seed in range(5):
        with deterministic(seed=seed) as machine:
            assert machine.run(main) == [1, 2, 3]


def test_advance_lets_time_pass_and_fires_what_falls_due():
    got = []

    async def ticker():
        while True:
            await sleep(10)
            got.append("tick")

    with deterministic() as machine:
        spawn(ticker)
        machine.advance(35)
        assert got == ["tick"] * 3
        machine.advance(4.9)
        assert got == ["tick"] * 3
        machine.advance(0.2)
        assert got == ["tick"] * 4
        assert machine.now() == pytest.approx(40.1)


def test_wait_until_idle_steps_everybody_and_leaves_the_clock():
    got = []

    async def worker():
        got.append(await receive())
        await sleep(1)
        got.append("too late")

    with deterministic() as machine:
        pid = spawn(worker)
        send(pid, "work")
        machine.wait_until_idle()
        assert got == ["work"]
        assert machine.now() == 0.0


def test_nothing_runs_before_it_is_asked_to():
    ran = []
    with deterministic() as machine:
        spawn(lambda: ran.append(1))
        assert ran == []
        machine.wait_until_idle()
        assert ran == [1]


def test_run_raises_what_the_process_raises():
    async def bad():
        raise LookupError("in the test")

    with deterministic() as machine, pytest.raises(LookupError, match="in the test"):
        machine.run(bad)


def test_run_gives_up_after_its_timeout_of_the_jumping_clock():
    with deterministic() as machine:
        begin = time.monotonic()
        with pytest.raises(TimeoutError, match="not done within 3600"):
            machine.run(receive, timeout=3600)
        assert time.monotonic() - begin < 10


def test_a_deadlock_is_an_error_that_lists_who_waits():
    async def main():
        process.register(self_(), "main_one")
        spawn(receive)
        await receive("never")

    with deterministic() as machine:
        with pytest.raises(MachineError) as caught:
            machine.run(main)
        text = str(caught.value)
        assert "every process waits and no timer is set, so this would wait for ever" in text
        assert '"main_one" waiting' in text
        assert machine.run(lambda: "usable still") == "usable still"


def test_assert_receive_gives_the_message_and_leaves_the_others():
    async def main():
        send(self_(), ("a", 1))
        send(self_(), ("b", 2))
        assert await assert_receive(("b", int)) == ("b", 2)
        return await receive(timeout=0)

    with deterministic() as machine:
        assert machine.run(main) == ("a", 1)


def test_assert_receive_shows_the_mailbox_when_nothing_fits():
    async def main():
        send(self_(), ("a", 1))
        await assert_receive(("b", int), "c", timeout=5)

    with deterministic() as machine:
        with pytest.raises(AssertionError) as caught:
            machine.run(main)
        text = str(caught.value)
        assert text.startswith("no message that fits")
        assert "within 5 s; the mailbox holds" in text
        assert '("a", 1)' in text
        assert '"c"' in text
        assert machine.now() == 5


def test_refute_receive_fails_with_the_message_that_came():
    async def main():
        process.send_after(self_(), ("late", 1), 0.05)
        await refute_receive("other")
        send(self_(), ("oh", 1))
        await refute_receive(("oh", int))

    with deterministic() as machine, pytest.raises(AssertionError, match=r'expected no such message, got \("oh", 1\)'):
        machine.run(main)


def test_refute_receive_waits_its_whole_time_and_leaves_other_messages():
    async def main():
        send(self_(), "other")
        await refute_receive("unwanted", timeout=3)
        return await receive(timeout=0)

    with deterministic() as machine:
        assert machine.run(main) == "other"
        assert machine.now() == 3


def test_a_server_of_the_users_can_be_tested_with_every_seed():
    class Account(GenServer):
        def init(self, balance):
            return Ok(balance)

        def handle_call(self, request, caller, state):
            return Reply(state + request, state + request)

    async def main():
        account = await Account.start_link(0)
        me = self_()

        async def depositor(amount):
            send(me, await GenServer.call(account, amount))

        for amount in (1, 10, 100):
            spawn(depositor, amount)
        seen = [await assert_receive(int) for _ in range(3)]
        assert max(seen) == 111
        return tuple(sorted(seen))

    outcomes = set()
    for seed in range(20):
        with deterministic(seed=seed) as machine:
            outcomes.add(machine.run(main))
    assert len(outcomes) > 1  # the seeds do reach different orders


def test_work_on_real_threads_is_waited_for():
    async def main():
        return await process.blocking(lambda: time.sleep(0.01) or "from a thread")

    with deterministic() as machine:
        assert machine.run(main) == "from a thread"


def test_leaving_the_block_closes_every_process():
    ends = []

    async def tidy():
        try:
            await receive()
        finally:
            ends.append("closed")

    with deterministic() as machine:
        spawn(tidy)
        machine.wait_until_idle()
    assert ends == ["closed"]
    assert machine.stopped


def test_options_reach_the_machine():
    from otplib import SystemLimitError

    with deterministic(max_processes=3) as machine, pytest.raises(SystemLimitError):
        machine.run(lambda: [spawn(receive) for _ in range(5)])


def test_a_deterministic_machine_stands_beside_a_real_one():
    assert run(lambda: "real", timeout=30) == "real"
    with deterministic():
        assert run(lambda: "inline") == "inline"
    assert run(lambda: "real", timeout=30) == "real"
