"""Services: real processes of the operating system that are sent real signals, and a tree inside a program."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from otplib import (
    ChildError,
    ChildSpec,
    GenServer,
    Ignore,
    MachineError,
    Ok,
    Reply,
    StartError,
    Stop,
    Supervise,
    Supervisor,
    process,
    run,
    self_,
    sleep,
    spawn_link,
)
from otplib.service import run_forever, start_service
from otplib.testing import deterministic

#: Seconds after which a service that should have said something is given up.
PATIENCE = 60

PROGRAM = '''
import os, signal, sys, time
from otplib import ChildSpec, Exit, GenServer, NoReply, Ok, Supervise, Supervisor, process, sleep, spawn
from otplib.service import run_forever, start_service

class Worker(GenServer):
    """Tells when it comes and goes; its argument says how it goes."""
    def init(self, how):
        process.flag(trap_exit=True)
        print("up", how, flush=True)
        return Ok(how)
    async def terminate(self, reason, how):
        print("down", how, reason, flush=True)
        await sleep({"slow": 0.2, "stuck": 3600}.get(how, 0))
        print("gone", how, flush=True)
    def handle_info(self, message, how):
        raise Exit(message)

def worker(how, **options):
    return Supervisor.child_spec((Worker, how), id=how, **options)

class Tree(Supervisor):
    def init(self, hows):
        return Supervise([worker(how) for how in hows], strategy="one_for_one")
'''


@pytest.fixture
def serve(tmp_path):
    """Start a script that ends with these lines, as a process of its own."""
    started = []

    def start(lines):
        script = tmp_path / "service.py"
        script.write_text(PROGRAM + lines, encoding="utf-8")
        made = subprocess.Popen(
            [sys.executable, "-W", "error", str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(made)
        return made

    yield start
    for made in started:
        if made.poll() is None:
            made.kill()
        made.communicate()


def lines_until(service, last):
    """What it prints, up to a certain line."""
    lines = []
    while not lines or lines[-1] != last:
        line = service.stdout.readline()
        assert line, (lines, service.stderr.read())
        lines.append(line.rstrip("\n"))
    return lines


def outcome(service):
    """The rest of what it prints, on both streams, and its exit status."""
    out, err = service.communicate(timeout=PATIENCE)
    return out.splitlines(), err, service.returncode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_tree_in_reverse_order_and_the_script_goes_on_to_its_end_with_status_0(serve, number):
    service = serve('run_forever((Tree, ["first", "slow", "last"]))\nprint("after")')
    lines_until(service, "up last")
    service.send_signal(number)
    assert outcome(service) == (
        [
            "down last shutdown",
            "gone last",
            "down slow shutdown",
            "gone slow",
            "down first shutdown",
            "gone first",
            "after",
        ],
        "",
        0,
    )


def test_a_child_that_does_not_go_within_its_shutdown_time_is_killed_and_the_others_still_stop_in_order(serve):
    service = serve('run_forever([worker("first"), worker("stuck", shutdown=0.3), worker("last")])')
    lines_until(service, "up last")
    service.terminate()
    assert outcome(service) == (
        ["down last shutdown", "gone last", "down stuck shutdown", "down first shutdown", "gone first"],
        "",
        0,
    )


def test_a_tree_that_does_not_stop_within_the_time_for_all_of_it_is_killed_and_the_status_is_1(serve):
    service = serve('run_forever([worker("stuck", shutdown="infinity")], shutdown=0.3)\nprint("after")')
    lines_until(service, "up stuck")
    service.terminate()
    lines, errors, status = outcome(service)
    assert (lines, status) == (["down stuck shutdown"], 1)
    assert "the service has ended: ** (exit) killed" in errors


@pytest.mark.parametrize(("first", "second"), [(signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)])
def test_a_second_signal_ends_a_service_at_once_while_its_tree_is_still_stopping(serve, first, second):
    service = serve('run_forever([worker("stuck", shutdown="infinity")])\nprint("after")')
    lines_until(service, "up stuck")
    service.send_signal(first)
    lines_until(service, "down stuck shutdown")
    service.send_signal(second)
    assert outcome(service) == ([], "", -second)


def test_a_signal_while_the_tree_starts_stops_what_has_come_up(serve):
    service = serve(
        """
class Signalling(GenServer):
    def init(self, arg):
        os.kill(os.getpid(), signal.SIGTERM)
        return Ok(None)
run_forever([worker("first"), Signalling, worker("last")])
print("after")
"""
    )
    assert outcome(service) == (
        ["up first", "up last", "down last shutdown", "gone last", "down first shutdown", "gone first", "after"],
        "",
        0,
    )


def test_a_tree_that_crashes_for_good_gives_status_1_and_says_why(serve):
    service = serve(
        """
class Crashing(GenServer):
    def handle_info(self, message, state):
        raise Exit("broken")
    def init(self, arg):
        return Ok(None, timeout=0)
run_forever(Crashing)
"""
    )
    lines, errors, status = outcome(service)
    assert (lines, status) == ([], 1)
    assert "terminating" in errors
    assert "the service has ended: ** (exit)" in errors


def test_a_tree_that_is_stopped_from_within_gives_status_0(serve):
    service = serve(
        """
class Finishing(GenServer):
    def init(self, arg): return Ok(None, timeout=0)
    async def handle_info(self, message, state):
        spawn(Supervisor.stop, "job")
        return NoReply(state)
class Job(Supervisor):
    @classmethod
    async def start_link(cls, arg): return await super().start_link(arg, name="job")
    def init(self, arg):
        return Supervise([worker("first"), Finishing], strategy="one_for_one")
run_forever(Job)
print("after")
"""
    )
    assert outcome(service) == (["up first", "down first shutdown", "gone first", "after"], "", 0)


def test_a_tree_that_does_not_start_raises_what_a_supervisor_would_and_leaves_nobody_behind(serve):
    service = serve(
        """
class Refusing(GenServer):
    def init(self, arg): raise RuntimeError("no")
try:
    run_forever([worker("first"), Refusing])
finally:
    print("handler is back:", signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
"""
    )
    lines, errors, status = outcome(service)
    assert lines == ["up first", "down first shutdown", "gone first", "handler is back: True"]
    assert "StartError" in errors
    assert "RuntimeError" in errors
    assert status == 1


def test_a_service_that_nobody_stops_is_stopped_in_order_when_the_interpreter_ends(serve):
    service = serve('start_service((Tree, ["first", "last"]))\nprint("main is done", flush=True)')
    assert outcome(service) == (
        [
            "up first",
            "up last",
            "main is done",
            "down last shutdown",
            "gone last",
            "down first shutdown",
            "gone first",
        ],
        "",
        0,
    )


# ---- in this process ------------------------------------------------------------------------------------------------


class Kept(GenServer):
    def init(self, arg):
        return Ok(arg)

    def handle_call(self, request, caller, state):
        return Reply((request, state), state)


class Clerk(Kept):
    @classmethod
    async def start_link(cls, arg):
        return await super().start_link(arg, name="clerk")


class Office(Supervisor):
    def init(self, arg):
        return Supervise([(Clerk, arg)], strategy="one_for_one")


@pytest.fixture(params=range(3))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


@pytest.mark.parametrize("spec", [(Office, 7), Office.child_spec(7), (Clerk, 7), [(Clerk, 7)]], ids=repr)
def test_a_service_is_a_supervisor_or_children_that_get_one(machine, spec):
    with start_service(spec) as service:
        assert run(GenServer.call, "clerk", "hi") == ("hi", 7)
        children = run(Supervisor.which_children, service.pid)
        assert [child.id for child in children] == [Clerk]
        assert service.running
    assert not service.running
    assert process.whereis("clerk") is None
    assert service.reason == "shutdown"
    service.stop()


def test_a_child_of_a_service_is_restarted_as_by_any_supervisor(machine):
    with start_service((Clerk, 7)):
        first = process.whereis("clerk")
        process.exit(first, "kill")
        machine.wait_until_idle()
        assert process.whereis("clerk") not in (None, first)
        assert run(GenServer.call, "clerk", "hi") == ("hi", 7)


def test_the_arguments_of_a_service_are_its_own(machine):
    arg = [1]
    with start_service((Clerk, arg)):
        arg.append(2)
        process.exit(process.whereis("clerk"), "kill")
        machine.wait_until_idle()
        assert run(GenServer.call, "clerk", "hi") == ("hi", [1])


def test_a_service_that_takes_too_long_to_stop_is_killed(machine):
    class Stuck(Kept):
        def init(self, arg):
            process.flag(trap_exit=True)
            return Ok(arg)

        async def terminate(self, reason, state):
            await sleep(10_000)

    service = start_service(Supervisor.child_spec(Stuck, shutdown="infinity"))
    with pytest.raises(TimeoutError, match=r"not down within 2.5 s and has been killed"):
        service.stop(timeout=2.5)
    machine.wait_until_idle()
    assert not service.running
    assert not process.alive(service.pid)


def test_what_went_wrong_at_the_start_is_raised(machine):
    class Refusing(GenServer):
        def init(self, arg):
            return Stop("no")

    class Nobody(Supervisor):
        def init(self, arg):
            return Ignore()

    run(sleep, 0)  # the first process of all brings the group leader with it
    before = process.list()
    with pytest.raises(StartError) as refused:
        start_service(Refusing)
    assert refused.value.reason == ("shutdown", ("failed_to_start_child", Refusing, "no"))
    with pytest.raises(StartError) as refused:
        start_service(Nobody)
    assert refused.value.reason == "ignore"
    with pytest.raises(TypeError, match="supervisors expect each child"):
        start_service([5])
    machine.wait_until_idle()
    assert process.list() == before


def test_run_forever_puts_the_handlers_of_signals_back_however_it_ends(machine):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    async def signalling():
        return spawn_link(os.kill, os.getpid(), signal.SIGTERM)

    run_forever(ChildSpec("signalling", (signalling, ()), restart="temporary"))
    with pytest.raises(StartError):
        run_forever(ChildSpec("wrong", (dict, ())))
    with pytest.raises(TypeError):
        run_forever(5)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_tree_that_ends_badly_is_a_system_exit(machine, caplog):
    async def broken():
        return spawn_link(process.exit, self_(), "broken")

    with pytest.raises(SystemExit) as end:
        run_forever(ChildSpec("top", (broken, ()), type="supervisor"))
    assert end.value.code == 1
    assert "the service has ended: ** (exit)" in caplog.text


def test_a_process_and_a_thread_are_told_what_to_write_instead(machine):
    async def main():
        for verb in (start_service, run_forever):
            with pytest.raises(MachineError, match=r"this is a process: start a supervisor by"):
                verb(Office)

    machine.run(main)
    refused = []

    def elsewhere():
        try:
            run_forever(Office)
        except MachineError as error:
            refused.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert ["only the main thread may" in text for text in refused] == [True]


def test_a_service_may_be_started_at_import_even_where_an_asyncio_loop_runs(machine):
    async def imported():
        return start_service((Clerk, 7))

    with asyncio.run(imported()) as service:
        assert service.running
        assert run(GenServer.call, "clerk", "hi") == ("hi", 7)
        with pytest.raises(ChildError):
            run(Supervisor.delete_child, service.pid, Clerk)
