"""`process.blocking` and `process.from_asyncio`: work on other threads that counts as the process."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading

import pytest

from otplib import (
    Machine,
    MachineError,
    process,
    receive,
    run,
    self_,
    send,
    sleep,
    spawn,
    spawn_monitor,
)

DEADLINE = 30.0


@pytest.fixture
def machine():
    with Machine() as made:
        yield made


# ---- blocking ------------------------------------------------------------------------------------------------------


def test_blocking_gives_result_and_exception_and_counts_as_the_process(machine, capsys):
    def inner(me):
        print("from the thread")
        print("unfinished", end="")
        send(me, "sent from the thread")
        return self_() == me

    def bad():
        raise ValueError("in the thread")

    async def main():
        same = await process.blocking(inner, self_())
        message = await receive(timeout=0)
        with pytest.raises(ValueError, match="in the thread"):
            await process.blocking(bad)
        with pytest.raises(SystemExit):
            await process.blocking(exit_now)
        return same, message

    def exit_now():
        raise SystemExit(1)

    assert run(main, timeout=DEADLINE) == (True, "sent from the thread")
    assert capsys.readouterr().out == "from the thread\nunfinished"


def test_blocking_calls_run_at_the_same_time_and_their_threads_are_used_again(machine):
    barrier = threading.Barrier(5)

    async def one(me):
        await process.blocking(barrier.wait, DEADLINE)
        send(me, "met")

    async def main():
        for _ in range(2):
            for _ in range(5):
                spawn(one, self_())
            for _ in range(5):
                await receive("met")

    run(main, timeout=DEADLINE)
    blocking_threads = [thread for thread in threading.enumerate() if thread.name == "otplib-blocking"]
    assert len(blocking_threads) <= 12


def test_messages_stay_in_the_mailbox_while_a_call_blocks(machine):
    async def main():
        me = self_()
        await process.blocking(lambda: [send(me, number) for number in range(3)])
        return [await receive(timeout=0) for _ in range(3)]

    assert run(main, timeout=DEADLINE) == [0, 1, 2]


def test_a_process_killed_in_a_blocking_call_is_dead_at_once_and_the_result_is_dropped(machine, caplog):
    go = threading.Event()

    async def victim():
        await process.blocking(go.wait, DEADLINE)

    async def main():
        pid, ref = spawn_monitor(victim)
        await sleep(0.01)
        process.exit(pid, "kill")
        return (await receive(("DOWN", ref, "process", pid, ...))).reason

    assert run(main, timeout=DEADLINE) == "killed"
    go.set()
    assert run(lambda: "whole", timeout=DEADLINE) == "whole"
    assert caplog.text == ""


def test_a_dead_group_leader_is_told_to_the_process_whose_blocking_call_printed(machine):
    async def main():
        leader = spawn(receive, "stop")
        process.group_leader(self_(), leader)
        ref = process.monitor(leader)
        send(leader, "stop")
        await receive(("DOWN", ref, ..., ..., ...))
        with pytest.raises(OSError, match="group leader"):
            await process.blocking(lambda: print("unfinished", end=""))
        return "heard"

    assert run(main, timeout=DEADLINE) == "heard"


def test_a_lent_thread_may_run_but_not_await(machine):
    async def main():
        return await process.blocking(lambda: run(lambda: "nested"))

    assert run(main, timeout=DEADLINE) == "nested"

    async def wrong():
        coro = receive()
        return await process.blocking(lambda: coro.send(None))

    with pytest.raises(MachineError, match="cannot await for its process"):
        run(wrong, timeout=DEADLINE)


# ---- asyncio -------------------------------------------------------------------------------------------------------


def test_from_asyncio_gives_result_and_exception_and_counts_as_the_process(machine, capsys):
    mine = contextvars.ContextVar("mine")

    async def inner(me):
        print("from the loop")
        await asyncio.sleep(0.001)
        send(me, "sent from the loop")
        print("unfinished", end="")
        return self_() == me, mine.get()

    async def bad():
        await asyncio.sleep(0)
        raise ValueError("in the loop")

    async def leave():
        raise SystemExit(1)

    async def main():
        mine.set("of the process")
        same = await process.from_asyncio(inner(self_()))
        message = await receive(timeout=0)
        with pytest.raises(ValueError, match="in the loop"):
            await process.from_asyncio(bad())
        with pytest.raises(SystemExit):  # which must not end the loop for the others
            await process.from_asyncio(leave())
        return same, message, await process.from_asyncio(asyncio.sleep(0, "still there"))

    assert run(main, timeout=DEADLINE) == ((True, "of the process"), "sent from the loop", "still there")
    assert capsys.readouterr().out == "from the loop\nunfinished"


def test_asyncios_own_tools_work_in_from_asyncio(machine):
    async def tools():
        async with asyncio.timeout(DEADLINE):
            got = await asyncio.gather(asyncio.sleep(0.001, 1), asyncio.sleep(0.002, 2))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(1000), 0.005)
        return got

    async def main():
        return await process.from_asyncio(tools())

    assert run(main, timeout=DEADLINE) == [1, 2]


@pytest.mark.parametrize("pause", [0, 0.02])
def test_the_awaitable_is_cancelled_when_its_process_dies(machine, pause, recwarn):
    """Without the pause it is cancelled before its first step, and must not complain that nobody awaited it."""
    cancelled = threading.Event()
    started = []

    async def endless():
        started.append(True)
        try:
            await asyncio.sleep(1000)
        finally:
            cancelled.set()

    async def main():
        pid, ref = spawn_monitor(lambda: process.from_asyncio(endless()))
        await sleep(pause)
        process.exit(pid, "kill")
        return (await receive(("DOWN", ref, "process", pid, ...))).reason

    assert run(main, timeout=DEADLINE) == "killed"
    run(lambda: process.from_asyncio(asyncio.sleep(0)), timeout=DEADLINE)  # the loop has done what came before
    assert cancelled.wait(DEADLINE if started else 0.0) == bool(started)
    gc.collect()
    assert not recwarn.list


def test_stopping_the_machine_cancels_what_runs_on_its_loop_and_closes_it_in_silence(caplog, recwarn):
    cancelled = threading.Event()

    async def endless():
        try:
            await asyncio.sleep(1000)
        finally:
            cancelled.set()

    with Machine() as machine:
        for _ in range(20):
            spawn(lambda: process.from_asyncio(endless()))
        run(lambda: process.from_asyncio(asyncio.sleep(0.005)), timeout=DEADLINE)
        loops = [thread for thread in threading.enumerate() if thread.name == "otplib-io"]
    assert cancelled.wait(DEADLINE)
    for thread in loops:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    del machine
    gc.collect()
    assert not recwarn.list
    assert caplog.text == ""


def test_from_asyncio_in_a_task_of_a_foreign_loop_runs_there(machine):
    async def main():
        loop = asyncio.get_running_loop()

        async def which():
            return asyncio.get_running_loop() is loop

        return await process.from_asyncio(which())

    assert asyncio.run(main()) is True


def test_awaiting_asyncio_directly_in_a_process_says_what_to_write(machine):
    async def wrong():
        await asyncio.sleep(0)  # a bare yield
        return "fine?"

    with pytest.raises(TypeError, match="from_asyncio"):
        run(wrong, timeout=DEADLINE)
