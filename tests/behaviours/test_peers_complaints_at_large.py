"""The second part of `test_peers_complaints`: deadlocks and blocking, scale, notebooks."""

import asyncio
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from otplib import (
    CallTimeout,
    Exit,
    GenServer,
    Machine,
    StartError,
    process,
    receive,
    run,
    self_,
    send,
    sleep,
    spawn_link,
    spawn_monitor,
    system,
)
from otplib.testing import deterministic
from tests.behaviours.served import Worker, flush


@pytest.fixture(params=[1, 2, 3])
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


# ---- deadlocks and blocking ----------------------------------------------------------------------------------------


def test_a_server_that_stops_or_calls_itself_is_told_so(machine):
    """pykka 48 and 76: stopping in `on_start`, or a proxy to oneself, is a deadlock."""

    class Confused(GenServer):
        async def init(self, how):
            if how == "stop":
                await GenServer.stop(self_())
            elif how == "call":
                await GenServer.call("confused", "x", timeout=None)
            else:
                await system.get_state(self_(), timeout=None)

    async def main():
        for how in ("stop", "call", "look"):
            with pytest.raises(StartError) as refused:
                await Confused.start(how, name="confused")
            assert refused.value.reason[0] == "calling_self"
        assert process.whereis("confused") is None

    machine.run(main)


def test_awaiting_an_answer_lets_the_asyncio_loop_go_on():
    """pykka 99 and 94, rally PR 1978, dramatiq 238."""

    async def on_loop():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticker = asyncio.create_task(tick())
        pid = await Worker.start([])
        assert await GenServer.call(pid, lambda: sleep(0.2)) is None
        ticker.cancel()
        return ticks

    with Machine():
        assert asyncio.run(on_loop()) > 5


def test_the_library_can_be_used_where_an_event_loop_is_running():
    """jupyter/notebook 3860, jupyterlab 4399, kiwipy 52, QCG-PilotJob 131: "event loop is already running"."""

    async def on_loop():
        pid = run(Worker.start, [])
        return run(GenServer.call, pid, lambda: "from within"), await GenServer.call(pid, lambda: "awaited")

    with Machine():
        assert asyncio.run(on_loop()) == ("from within", "awaited")


def test_a_callback_that_blocks_holds_up_its_own_server_alone():
    """ray 44454 and 44354: a blocking method of an async actor blocks the whole loop."""

    async def main():
        blocked, free = await Worker.start([]), await Worker.start([])
        release = threading.Event()
        asked = GenServer.send_request(blocked, release.wait)
        answers = [await GenServer.call(free, lambda: "free") for _ in range(10)]
        release.set()
        return answers, await GenServer.wait_response(asked, 5)

    with Machine():
        assert run(main) == (["free"] * 10, True)


def test_idle_servers_use_no_processor_time():
    """ray 6871: an idle actor burnt 100 % of a core."""

    async def main():
        for _ in range(1000):
            await Worker.start([])

    with Machine() as machine:
        run(main)
        assert machine.settle(5)
        before = time.process_time()
        threading.Event().wait(0.5)
        assert time.process_time() - before < 0.05


def test_a_call_times_out_in_time_though_the_server_hangs_in_a_loop():
    """xoscar PR 140: `wait_for` around a call never fires. remoulade 65: a thread cannot be killed."""

    async def main():
        pid = await Worker.start([])

        def loop():
            while True:
                pass

        begun = time.monotonic()
        with pytest.raises(CallTimeout):
            await GenServer.call(pid, loop, timeout=0.05)
        ref = process.monitor(pid)
        process.exit(pid, "kill")
        assert (await receive(("DOWN", ref, ..., ..., ...))).reason == "killed"
        return time.monotonic() - begun

    with Machine():
        assert run(main) < 3


def test_an_exit_signal_does_not_queue_behind_messages(machine):
    """Thespian 58: exit requests wait behind all that was sent before, so actors never exit."""

    async def main():
        async def slow():
            while True:
                await receive()
                await sleep(1)

        pid, ref = spawn_monitor(slow)
        for number in range(10_000):
            send(pid, number)
        process.exit(pid, "shutdown")
        assert await receive() == ("DOWN", ref, "process", pid, "shutdown")
        assert machine.now() == 0

    machine.run(main)


def test_messages_sent_before_a_process_dies_come_before_the_news_of_its_death(machine):
    """Pyrlang PR 90: its author doubts that the order between signals and messages is kept."""

    async def main():
        process.flag(trap_exit=True)
        test = self_()
        for _ in range(20):

            async def talker():
                for number in range(3):
                    send(test, number)
                raise Exit("done")

            pid = spawn_link(talker)
            ref = process.monitor(pid)
            assert await flush() in (
                [0, 1, 2, ("EXIT", pid, "done"), ("DOWN", ref, "process", pid, "done")],
                [0, 1, 2, ("DOWN", ref, "process", pid, "done"), ("EXIT", pid, "done")],
            )

    machine.run(main)


# ---- scale, notebooks ----------------------------------------------------------------------------------------------


def test_two_thousand_busy_servers_need_neither_files_nor_threads():
    """Thespian 57 (2,000 actors: memory, time-outs, the limit of `select`), 76 and 91 (20 busy actors freeze)."""

    async def main():
        servers = [await Worker.start([]) for _ in range(2000)]
        asked = [GenServer.send_request(server, lambda: "here") for server in servers]
        answers = [await GenServer.wait_response(one) for one in asked]
        for server in servers:
            await GenServer.stop(server)
        return answers

    with Machine():
        before = threading.active_count()
        assert run(main) == ["here"] * 2000
        assert threading.active_count() < before + 10


def test_a_class_of_the_main_program_can_be_started_and_supervised():
    """Thespian 45 and 8: "module '__main__' has no attribute" for classes of a REPL or a notebook."""
    program = textwrap.dedent(
        """
        from otplib import *

        class Counter(GenServer):
            def handle_call(self, request, caller, state):
                return Reply(state, state + 1)

        class Sup(Supervisor):
            def init(self, arg):
                return Supervise([(Counter, 10)], strategy="one_for_one")

        async def main():
            sup = await Sup.start_link(None)
            [child] = await Supervisor.which_children(sup)
            return [await GenServer.call(child.pid, "n") for _ in range(2)]

        print(run(main))
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[10, 11]\n", "")


def test_two_machines_live_side_by_side():
    """Pyrlang 43: two nodes in one VM, for a tutorial in one kernel."""

    async def main():
        pid = await Worker.start([], name="same name")
        return pid, await GenServer.call("same name", lambda: self_())

    with Machine() as first:
        pid, answered = run(main)
        assert pid == answered
        with Machine() as second:
            other, answered = run(main)
            assert other == answered
            assert other != pid
            assert first.names.keys() == second.names.keys() == {"same name"}
        assert run(GenServer.call, "same name", lambda: "still here") == "still here"
