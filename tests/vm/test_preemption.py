"""A process that keeps its thread does not stop the others, can be killed, and costs no thread for good.

Progress is measured in what another process got done meanwhile, never in milliseconds.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import time

import pytest

from otplib import Machine, process, receive, run, self_, send, sleep, spawn, spawn_link, spawn_monitor
from tests.vm.hogs import DEADLINE, busy, new_flag, run_in, spin, ticker


@pytest.fixture
def machine():
    with Machine() as made:
        yield made


# ---- the others go on ----------------------------------------------------------------------------------------------


def test_a_process_in_a_busy_loop_does_not_stop_the_others(machine):
    async def main(flag):
        spawn(busy, flag)
        while not flag["started"]:
            await sleep(0)
        await ticker(50)
        ended_early = flag["ended"]
        flag["stop"] = True
        return ended_early

    assert run_in(machine, main, new_flag()) is False


def test_a_process_in_time_sleep_does_not_stop_the_others(machine):
    async def main():
        order = []
        me = self_()

        def sleeper():
            time.sleep(0.3)
            send(me, "slept")

        spawn(sleeper)
        for _ in range(20):
            await sleep(0.001)
            order.append("tick")
        await receive("slept")
        return len(order)

    assert run_in(machine, main) == 20


def test_a_long_c_call_that_lets_go_of_the_interpreter_does_not_stop_the_others(machine):
    flag = new_flag()

    def hasher():
        flag["started"] = True
        while not flag["stop"]:
            hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 20_000)
        flag["ended"] = True

    async def main():
        spawn(hasher)
        while not flag["started"]:
            await sleep(0)
        await ticker(50)
        ended_early = flag["ended"]
        flag["stop"] = True
        return ended_early

    assert run_in(machine, main) is False


@pytest.mark.parametrize("call", [lambda: sum(range(400_000)), lambda: sorted(range(150_000, 0, -1))])
def test_a_c_call_that_holds_the_interpreter_lets_the_others_go_on_when_it_returns(machine, call):
    async def main():
        flag = new_flag()

        def hog():
            flag["started"] = True
            for _ in range(40):
                call()
            flag["ended"] = True

        spawn(hog)
        ticks = 0
        while not flag["ended"]:
            await sleep(0.0005)
            ticks += 1
        return ticks

    assert run_in(machine, main) > 1  # between two calls, and not only after the last


def test_sixteen_hogs_at_once_do_not_stop_a_seventeenth_process(machine):
    async def main(flag):
        for _ in range(16):
            spawn(busy, flag)
        await ticker(30)
        flag["stop"] = True
        return "done"

    assert run_in(machine, main, new_flag()) == "done"


def test_a_hog_that_ends_gives_its_result_as_any_other(machine):
    def hog():
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            pass
        return "worth it"

    assert run_in(machine, hog) == "worth it"
    assert machine.scheduler.hand_offs >= 1


def test_a_hog_that_crashes_is_reported_with_its_own_exception(machine, caplog):
    def hog():
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            pass
        raise ValueError("after all that")

    async def main():
        _, ref = spawn_monitor(hog)
        return (await receive(("DOWN", ref, "process", ..., ...))).reason

    reason = run_in(machine, main)
    assert type(reason.exception) is ValueError
    assert "after all that" in caplog.text


def test_messages_of_a_hog_arrive_while_it_goes_on(machine):
    async def main(flag):
        me = self_()

        def chatty():
            number = 0
            while not flag["stop"]:
                number += 1
                if number % 20_000 == 0:
                    send(me, number)

        spawn(chatty)
        got = [await receive(int) for _ in range(3)]
        flag["stop"] = True
        return got

    assert run_in(machine, main, new_flag()) == [20_000, 40_000, 60_000]


# ---- fairness ------------------------------------------------------------------------------------------------------


def test_a_pair_that_is_always_runnable_does_not_starve_a_third_process(machine):
    async def pong():
        while True:
            match await receive():
                case ("ping", sender):
                    send(sender, "pong")

    async def ping():
        other = spawn_link(pong)
        while True:
            send(other, ("ping", self_()))
            await receive("pong")

    async def main():
        pair = spawn(ping)
        await ticker(20)
        process.exit(pair, "kill")
        return "had its turns"

    assert run_in(machine, main) == "had its turns"


@pytest.mark.parametrize("patterns", [(), (int,)])
def test_processes_that_never_park_because_they_send_to_themselves_do_not_starve_a_third(machine, patterns):
    async def selfish():
        send(self_(), 0)
        while True:
            send(self_(), await receive(*patterns) + 1)

    async def main():
        selfish_ones = [spawn(selfish) for _ in range(2)]
        await ticker(20)
        reductions = [process.info(pid, "reductions") for pid in selfish_ones]
        for pid in selfish_ones:
            process.exit(pid, "kill")
        return reductions

    assert all(count > 100 for count in run_in(machine, main))


def test_a_process_that_only_looks_into_its_empty_mailbox_does_not_starve_the_others(machine):
    async def impatient():
        while True:
            try:
                await receive(timeout=0)
            except TimeoutError:
                pass

    async def main():
        pid = spawn(impatient)
        await ticker(20)
        process.exit(pid, "kill")

    run_in(machine, main)


def test_an_always_runnable_process_yields_without_the_watchdog(machine):
    """By reductions: the order is certain, so a machine without threads or watchdog shows it."""
    from otplib.testing import deterministic

    async def selfish():
        send(self_(), 0)
        while True:
            await receive()
            send(self_(), 0)

    async def main():
        pid = spawn(selfish)
        for _ in range(10):
            await sleep(0)
        process.exit(pid, "kill")
        return "had its turns"

    with deterministic() as inline:
        assert inline.run(main) == "had its turns"


# ---- threads -------------------------------------------------------------------------------------------------------


def carrier_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("otplib-carrier")]


def test_a_thousand_hogs_in_turn_grow_no_threads(machine):
    def hog():
        time.sleep(0.004)  # longer than a slice

    async def main():
        most = 0
        for _ in range(1_000):
            _, ref = spawn_monitor(hog)
            await receive(("DOWN", ref, "process", ..., "normal"))
            most = max(most, len(machine.scheduler.carriers))
        return most

    assert run_in(machine, main) <= 5
    assert machine.scheduler.hand_offs > 500
    assert machine.settle(DEADLINE)
    assert len(machine.scheduler.carriers) <= 3  # the holder of the role and two spares


def test_the_number_of_carriers_is_bounded_and_all_sleepers_finish():
    with Machine(max_carriers=4) as machine:

        async def main():
            me = self_()

            def sleeper(number):
                time.sleep(0.05)
                send(me, number)

            for number in range(10):
                spawn(sleeper, number)
            most, got = 0, []
            while len(got) < 10:
                got.append(await receive(int))
                most = max(most, len(machine.scheduler.carriers))
            return most, sorted(got)

        most, got = run_in(machine, main)
        assert most <= 4
        assert got == list(range(10))


@pytest.mark.parametrize("bound", [1, 2, 4])
def test_a_busy_loop_can_be_killed_also_when_every_carrier_is_stuck(bound):
    """From outside, as nobody inside can run; the last thread is struck while it holds the scheduler's role."""
    with Machine(max_carriers=bound) as machine:
        hogs = [spawn(spin) for _ in range(bound + 2)]
        for pid in hogs:
            process.exit(pid, "kill")
        assert run(lambda: "free again", timeout=DEADLINE) == "free again"
        assert machine.settle(DEADLINE)
        assert machine.scheduler.busy == 0
        assert len(machine.scheduler.carriers) <= bound


def test_the_switch_interval_is_lowered_while_hogs_run_and_put_back_afterwards(machine):
    usual = sys.getswitchinterval()

    async def main(flag):
        for _ in range(3):
            spawn(busy, flag)
        await ticker(20)
        lowered = sys.getswitchinterval()
        flag["stop"] = True
        return lowered

    assert run_in(machine, main, new_flag()) < usual
    assert machine.settle(DEADLINE)
    while machine.scheduler.busy:
        time.sleep(0.001)
    assert sys.getswitchinterval() == pytest.approx(usual)


def test_two_machines_share_the_switch_interval_and_the_last_hog_puts_it_back():
    usual = sys.getswitchinterval()
    flag = new_flag()
    with Machine() as one:
        spawn(busy, flag)
        with Machine() as two:
            run(ticker, 10, timeout=DEADLINE)
            spawn(spin)
            run(ticker, 10, timeout=DEADLINE)
        assert two.stopped
        assert sys.getswitchinterval() < usual
        flag["stop"] = True
        assert one.settle(DEADLINE)
    deadline = time.monotonic() + DEADLINE
    while sys.getswitchinterval() < usual * 0.9 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert sys.getswitchinterval() == pytest.approx(usual)
