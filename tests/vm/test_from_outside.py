"""Ordinary code speaks through shells of its own: scripts, threads, asyncio tasks; and `run` waits for a process."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time

import pytest

from otplib import (
    Down,
    Exit,
    ExitMessage,
    GenServer,
    Machine,
    MachineError,
    Ok,
    Reply,
    process,
    receive,
    run,
    self_,
    send,
    sleep,
    spawn,
    spawn_link,
    spawn_monitor,
)
from otplib.vm.context import runtime

DEADLINE = 30.0


@pytest.fixture
def machine():
    with Machine() as made:
        yield made


class Doubler(GenServer):
    def init(self, arg):
        return Ok(arg)

    def handle_call(self, request, caller, state):
        return Reply(request * 2, state)


def on_threads(machine, count, work):
    """Run `work(number)` on threads of this machine; give the results in order, raise the first error."""
    results, errors = [None] * count, []

    def body(number):
        runtime.local.machines = (machine,)
        try:
            results[number] = work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
    return results


# ---- shells --------------------------------------------------------------------------------------------------------


def test_a_thread_has_one_shell_and_each_thread_its_own(machine):
    assert self_() == self_()
    pids = on_threads(machine, 4, lambda _: (self_(), self_()))
    assert all(one == two for one, two in pids)
    assert len({self_(), *(one for one, _ in pids)}) == 5


def test_a_script_sends_receives_and_calls_through_its_shell(machine):
    me = self_()
    spawn(lambda: send(me, "hello"))
    assert process.drive(receive("hello", timeout=DEADLINE)) == "hello"
    server = process.drive(Doubler.start(None))
    assert process.drive(GenServer.call(server, 21)) == 42


def test_drive_gives_up_after_the_timeout_of_what_it_runs(machine):
    with pytest.raises(TimeoutError, match="no message within"):
        process.drive(receive(timeout=0.01))


def test_drive_passes_exceptions_on_and_the_shell_lives(machine):
    async def bad():
        raise ValueError("from inside")

    me = self_()
    with pytest.raises(ValueError, match="from inside"):
        process.drive(bad())
    assert self_() == me


def test_drive_refuses_what_only_asyncio_can_run(machine):
    coro = asyncio.sleep(0.01)
    with pytest.raises((MachineError, RuntimeError)):
        process.drive(coro)
    coro.close()


def test_each_asyncio_task_has_a_shell_of_its_own_and_they_talk(machine):
    async def pong(parent):
        send(parent, ("hello", self_()))
        message = await receive(("ping", ...), timeout=DEADLINE)
        send(message[1], ("pong", self_()))
        return self_()

    async def main():
        ponger = asyncio.create_task(pong(self_()))
        _, other = await receive(("hello", ...), timeout=DEADLINE)
        send(other, ("ping", self_()))
        answer = await receive(("pong", ...), timeout=DEADLINE)
        assert answer == ("pong", other) == ("pong", await ponger)
        assert other != self_()
        server = await Doubler.start(None)
        return await asyncio.gather(*(GenServer.call(server, number) for number in range(50)))

    assert asyncio.run(main()) == [number * 2 for number in range(50)]


def test_a_waiting_task_leaves_its_loop_free(machine):
    async def main():
        ticks = 0
        waiting = asyncio.create_task(receive(timeout=0.1))
        while not waiting.done():
            await asyncio.sleep(0.005)
            ticks += 1
        with pytest.raises(TimeoutError):
            await waiting
        return ticks

    assert asyncio.run(main()) >= 2


def test_a_cancelled_task_stops_waiting(machine):
    async def main():
        waiting = asyncio.create_task(receive())
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return "cancelled"

    assert asyncio.run(main()) == "cancelled"


def test_the_shell_of_a_finished_thread_is_dead_and_its_links_and_monitors_are_told(machine):
    me = self_()

    async def observer():
        process.flag(trap_exit=True)
        send(me, "ready")
        shell = await receive()
        process.link(shell)
        process.monitor(shell)
        send(me, "linked")
        send(me, [await receive(ExitMessage, Down), await receive(ExitMessage, Down)])

    watcher = spawn(observer)
    process.drive(receive("ready", timeout=DEADLINE))

    def short(_):
        send(watcher, self_())
        while process.info(self_(), "links") == []:
            time.sleep(0.001)
        while not process.info(self_(), "monitored_by"):
            time.sleep(0.001)
        return self_()

    (shell,) = on_threads(machine, 1, short)
    process.drive(receive("linked", timeout=DEADLINE))
    gc.collect()
    told = process.drive(receive(list, timeout=DEADLINE))
    assert sorted(message.tag for message in told) == ["DOWN", "EXIT"]
    assert {message.reason for message in told} == {"normal"}
    assert not process.alive(shell)


def test_the_shell_of_a_finished_task_is_dead(machine):
    async def short():
        return self_()

    async def main():
        pid = await asyncio.create_task(short())
        await asyncio.sleep(0)
        return pid, process.alive(pid), process.alive(self_())

    pid, alive, own = asyncio.run(main())
    assert (alive, own) == (False, True)
    assert not process.alive(pid)


def test_many_threads_in_turn_leave_no_shell_behind(machine):
    run(lambda: None, timeout=DEADLINE)
    size = len(machine.table)
    for _ in range(20):
        on_threads(machine, 5, lambda _: send(self_(), "x"))
    gc.collect()
    assert len(machine.table) <= size
    assert len(machine.at_stop) < 10


def test_a_shell_killed_by_a_link_is_replaced_by_a_fresh_one_and_the_waiting_code_hears_of_it(machine, caplog):
    def bad():
        raise ValueError("boom")

    first = self_()
    spawn_link(bad)
    with pytest.raises(Exit) as caught:
        process.drive(receive(timeout=DEADLINE))
    assert type(caught.value.reason.exception) is ValueError
    assert self_() != first
    assert not process.alive(first)
    assert run(lambda: "whole", timeout=DEADLINE) == "whole"


# ---- run -----------------------------------------------------------------------------------------------------------


def test_run_gives_the_result_of_a_plain_function_and_of_a_coroutine_with_arguments(machine):
    async def add(a, b=0):
        await sleep(0)
        return a + b

    assert run(add, 1, b=2) == 3
    assert run(max, 3, 5) == 5


def test_run_raises_the_processs_own_exception_and_tells_where(machine, caplog):
    async def bad():
        raise LookupError("not here")

    with pytest.raises(LookupError, match="not here") as caught:
        run(bad)
    assert any("raised in process #PID<" in note and "bad" in note for note in caught.value.__notes__)
    assert caplog.text == ""  # it is raised where it is seen, so no report


def test_run_raises_exit_with_the_reason_of_any_other_abnormal_end(machine):
    async def leave():
        raise Exit(("my", "reason"))

    with pytest.raises(Exit) as caught:
        run(leave)
    assert caught.value.reason == ("my", "reason")

    async def killed():
        process.exit(self_(), "kill")

    with pytest.raises(Exit) as caught:
        run(killed)
    assert caught.value.reason == "killed"


def test_run_past_its_timeout_kills_the_process_and_raises(machine):
    pids = []

    async def slow():
        pids.append(self_())
        await sleep(1000)

    with pytest.raises(TimeoutError, match=r"run\(slow\) was not done within 0.02 s and has been killed"):
        run(slow, timeout=0.02)
    assert machine.settle(DEADLINE)
    assert not process.alive(pids[0])


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_system_exit_and_keyboard_interrupt_in_a_process_are_a_crash_of_that_process_alone(machine, caplog, error):
    def leave():
        raise error

    async def main():
        _, ref = spawn_monitor(leave)
        return (await receive(("DOWN", ref, "process", ..., ...))).reason

    reason = run(main, timeout=DEADLINE)
    assert type(reason.exception) is type(error)
    assert type(error).__name__ in caplog.text
    assert run(lambda: "the engine goes on", timeout=DEADLINE) == "the engine goes on"
    with pytest.raises(type(error)):
        run(leave)


def test_keyboard_interrupt_while_run_waits_kills_the_process(machine):
    pids = []

    async def slow():
        pids.append(self_())
        await process.blocking(os.kill, os.getpid(), signal.SIGINT)
        await sleep(1000)

    with pytest.raises(KeyboardInterrupt):
        run(slow)
    assert machine.settle(DEADLINE)
    assert not process.alive(pids[0])


def test_the_result_of_run_is_a_copy(machine):
    kept = []

    async def main():
        value = {"rows": [1]}
        kept.append(value)
        return value

    result = run(main)
    assert result == kept[0]
    assert result is not kept[0]
    assert result["rows"] is not kept[0]["rows"]


def test_a_result_that_cannot_be_copied_raises_in_the_caller_and_harms_nobody(machine):
    with pytest.raises(TypeError, match="lock"):
        run(threading.Lock)

    class Nasty:
        def __deepcopy__(self, memo):
            raise SystemExit("from a copy")

    with pytest.raises((SystemExit, TypeError)):
        run(lambda: Nasty(), timeout=DEADLINE)
    assert run(lambda: "whole", timeout=DEADLINE) == "whole"
    assert threading.active_count() < 50


# ---- many at once --------------------------------------------------------------------------------------------------


def test_eight_threads_lose_nothing_in_thousands_of_calls(machine):
    server = process.drive(Doubler.start(None))

    def work(number):
        return [process.drive(GenServer.call(server, number * 10_000 + i)) for i in range(500)]

    answers = on_threads(machine, 8, work)
    assert answers == [[(number * 10_000 + i) * 2 for i in range(500)] for number in range(8)]
    assert len(machine.aliases) == 0


def test_eight_threads_lose_no_message_and_keep_the_order_of_each(machine):
    async def collect(me, total):
        got = {}
        for _ in range(total):
            sender, number = await receive()
            got.setdefault(sender, []).append(number)
        send(me, ("got", got))

    collector = spawn(collect, self_(), 8 * 2000)

    def work(number):
        for i in range(2000):
            send(collector, (number, i))

    on_threads(machine, 8, work)
    _, got = process.drive(receive(("got", ...), timeout=DEADLINE))
    assert got == {number: list(range(2000)) for number in range(8)}


def test_eight_threads_run_processes_at_once(machine):
    async def double(number):
        await sleep(0)
        return number * 2

    answers = on_threads(machine, 8, lambda number: [run(double, i + number) for i in range(150)])
    assert answers == [[(i + number) * 2 for i in range(150)] for number in range(8)]
    assert machine.settle(DEADLINE)
