"""What users of other actor libraries asked for or complained about (`peers.md`, section 2), where a test can show it.

Each docstring names the threads. Distribution (threads 30 to 35) is left to the tests of nodes.
"""

import threading

import pytest

from otplib import (
    CallTimeout,
    GenServer,
    Machine,
    Ok,
    StartError,
    Supervisor,
    process,
    receive,
    run,
    self_,
    send,
    sleep,
    spawn,
    spawn_link,
    spawn_monitor,
    system,
)
from otplib.core.child_spec import ChildSpec
from otplib.testing import deterministic
from tests.behaviours.served import Worker, exit_of, flush, kind_of, reports_of, wait


@pytest.fixture(params=[1, 2, 3])
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


async def supervised(**options):
    """A supervisor of one worker that is registered as `worker`; gives both pids."""
    spec = ChildSpec("worker", (start_worker, ()))
    sup = await Supervisor.start_link([spec], strategy="one_for_one", **options)
    return sup, process.whereis("worker")


async def start_worker():
    return await Worker.start_link([], name="worker")


# ---- who is told of a failure --------------------------------------------------------------------------------------


def test_a_failure_after_a_cast_can_be_heard_of(machine):
    """pykka 42: with `tell` there is no way to learn of it."""

    async def main():
        pid = await Worker.start([])
        ref = process.monitor(pid)
        GenServer.cast(pid, "bad news")
        down = await receive(("DOWN", ref, ..., pid, ...))
        assert (kind_of(down.reason), str(down.reason.exception)) == (ValueError, "bad news")

    machine.run(main)


def test_no_process_dies_of_an_error_without_a_word_in_the_log(machine, caplog):
    """pykka 187 (actors die, nothing in the logs), gleam-lang/otp 31 (log as well as gen_server does)."""

    async def main():
        def plain():
            raise ValueError("plain")

        async def waiting():
            await sleep(1)
            raise ValueError("waiting")

        spawn(plain)
        spawn(waiting)
        pid = await Worker.start([], name="worker")
        GenServer.cast(pid, "served")
        await flush(2)

    machine.run(main)
    told = sorted(line for report in reports_of(caplog) for line in report.splitlines() if line.startswith("**"))
    assert told == ["** (ValueError) plain", "** (ValueError) served", "** (ValueError) waiting"]
    served = next(report for report in reports_of(caplog) if "served" in report)
    assert [line.partition(" ")[0] for line in served.splitlines()][0::3] == ["GenServer", "Last"]
    assert "State: []" in served


def test_a_death_has_a_cause_with_the_place_where_it_happened(machine):
    """ray 18586 ("actor died unexpectedly"), PR 20528."""

    async def main():
        pid = await Worker.start([])
        reason, _ = await exit_of(GenServer.call(pid, lambda: 1 / 0))
        assert kind_of(reason) is ZeroDivisionError
        assert [entry.function.rpartition(".")[2] for entry in reason.stacktrace] == ["<lambda>", "handle_call"]
        assert reason.stacktrace[0].file == __file__

    machine.run(main)


def test_a_call_to_a_server_that_is_being_restarted_fails_at_once_and_its_name_works_again_soon(machine):
    """ray 7570 and 13594: calls to a restarting actor wait; handles stay in a bad state."""

    async def main():
        _, pid = await supervised()
        assert (await exit_of(GenServer.call("worker", lambda: process.exit(self_(), "kill"), timeout=None)))[0] == (
            "killed"
        )
        assert (await exit_of(GenServer.call(pid, lambda: 1, timeout=None)))[0] == "noproc"
        assert machine.now() == 0
        await sleep(1)
        assert process.whereis("worker") not in (None, pid)
        assert await GenServer.call("worker", lambda: "back") == "back"

    machine.run(main)


def test_restarts_have_a_limit(machine, caplog):
    """protoactor-go 3 (the limit is ignored), goakt 1268 (a hot loop of restarts)."""

    async def main():
        process.flag(trap_exit=True)
        starts = []

        class Doomed(GenServer):
            def init(self, arg):
                process.send_after(self_(), "die", 0)
                return Ok(arg)

            def handle_info(self, message, state):
                raise ValueError("again")

        async def start():
            starts.append(machine.now())
            return await Doomed.start_link([])

        sup = await Supervisor.start_link(
            [ChildSpec("doomed", (start, ()))], strategy="one_for_one", max_restarts=5, max_seconds=10
        )
        assert await receive() == ("EXIT", sup, "shutdown")
        assert len(starts) == 6

    machine.run(main)
    assert len(reports_of(caplog)) == 6, "each of them is in the log (actor-ts 913: restarts at no level)"


def test_a_start_that_fails_leaves_no_zombie(machine):
    """actor-ts 913: a constructor that fails leaves one."""

    async def main():
        process.flag(trap_exit=True)

        class Faulty(GenServer):
            def init(self, arg):
                raise OSError("no disk")

        before = process.list()
        with pytest.raises(StartError):
            await Faulty.start_link(0, name="faulty")
        with pytest.raises(StartError):
            await Supervisor.start_link([Faulty], strategy="one_for_one", name="sup")
        await flush()
        assert process.list() == before
        assert process.registered() == []

    machine.run(main)


def test_a_monitor_never_does_nothing(machine):
    """actor-ts 913: `watch` of some references is a silent no-op."""

    async def main():
        pid = spawn(wait)
        process.register(pid, "waits")
        here = "nonode@nohost"
        by_pid, by_name, by_both = (process.monitor(target) for target in (pid, "waits", ("waits", here)))
        nobody = process.monitor("nobody")
        process.exit(pid, "kill")
        assert sorted((await flush()), key=lambda down: down.ref) == [
            ("DOWN", by_pid, "process", pid, "killed"),
            ("DOWN", by_name, "process", ("waits", here), "killed"),
            ("DOWN", by_both, "process", ("waits", here), "killed"),
            ("DOWN", nobody, "process", ("nobody", here), "noproc"),
        ]

    machine.run(main)


def test_the_children_of_a_supervisor_end_with_it_whatever_they_do(machine):
    """gleam-lang/otp PR 65: `exit(pid, normal)` kills nobody, and a week's children pile up."""

    async def main():
        before = process.list()

        async def stubborn():
            process.flag(trap_exit=True)
            while True:
                await receive()

        children = [ChildSpec(n, (spawn_link, (stubborn if n % 2 else wait,)), shutdown=1) for n in range(6)]
        sup = await Supervisor.start_link(children, strategy="one_for_one")
        await sleep(1)
        process.exit(sup, "normal")
        await sleep(10)
        assert process.list() == before, "the parent's exit signal ends it, and all below"

    machine.run(main)


# ---- looking -------------------------------------------------------------------------------------------------------


def test_one_can_see_why_a_server_does_not_answer(machine):
    """Thespian 64: an actor stops receiving, and there is no way to look inside."""

    async def stuck():
        await receive("what nobody sends")

    async def main():
        pid = await Worker.start([])
        with pytest.raises(CallTimeout):
            await GenServer.call(pid, stuck, timeout=1)
        send(pid, "one")
        await sleep(1)
        seen = process.info(pid, "status", "message_queue_len", "messages", "current_stacktrace")
        assert seen["status"] == "waiting"
        assert (seen["message_queue_len"], seen["messages"]) == (1, ["one"])
        assert seen["current_stacktrace"][0].function.endswith("stuck")

    machine.run(main)


def test_one_can_see_which_process_hogs_the_thread():
    """greenlet 5, gevent 1143 and 1665."""

    async def main():
        test = self_()
        go_on = threading.Event()

        def hog():
            send(test, "begun")
            while not go_on.is_set():
                pass

        pid = spawn(hog)
        try:
            await receive("begun")
            return process.info(pid, "status"), process.info(pid, "current_function")[1].rpartition(".")[2]
        finally:
            go_on.set()

    with Machine():
        assert run(main) == ("running", "hog")


# ---- mailboxes, timers ---------------------------------------------------------------------------------------------


def test_a_mailbox_may_have_a_limit(machine, caplog):
    """ractor 84, protoactor-go 83, hollywood 43: unbounded by default is "notoriously bad"."""

    async def main():
        async def lazy():
            process.flag(max_mailbox=100)
            await sleep(float("inf"))

        pid, ref = spawn_monitor(lazy)
        await sleep(1)
        for number in range(100):
            send(pid, number)
        assert process.alive(pid)
        send(pid, "one too many")
        assert await receive() == ("DOWN", ref, "process", pid, "killed")

    machine.run(main)
    assert "max_mailbox=100" in reports_of(caplog)[0]


def test_a_process_may_put_messages_off(machine):
    """pykka 38: become and stash are "not feasible with a standard Queue"."""

    async def main():
        test = self_()

        async def door():
            while True:
                await receive("open")
                while await receive("close", ("enter", str)) != "close":
                    send(test, "somebody entered")

        pid = spawn(door)
        for message in (("enter", "early"), "open", ("enter", "late"), "close", ("enter", "too late")):
            send(pid, message)
        assert await flush() == ["somebody entered", "somebody entered"]
        assert process.info(pid, "messages") == [("enter", "too late")]

    machine.run(main)


def test_messages_may_be_sent_later_and_taken_back(machine):
    """pykka 53, PR 95, PR 102: delayed messages, unmerged for years. Thespian: not cancellable."""

    async def main():
        pid = await Worker.start([])
        process.send_after(pid, "later", 2)
        timer = process.send_after(pid, "never", 3)
        process.send_after(pid, "soon", 1)
        await sleep(2.5)
        assert process.cancel_timer(timer) == pytest.approx(0.5)
        await sleep(10)
        assert await system.get_state(pid) == ["soon", "later"]

    machine.run(main)
