"""The tutorial's programs reproduce what iex showed of them: `golden/01c` to `golden/03c`, in Python dress.

The transcripts were written from the golden files, line by line: `{:ok, pid}` is the pid, atoms are strings, timeouts
are seconds, an assignment shows nothing, and an exception's own text is Python's. Frames of otplib itself are left out
of traces, as nothing in them is the user's.
"""

import inspect
import threading

import pytest

from otplib import Exit, ExitMessage, GenServer, Raised, process, receive, run, self_
from otplib.testing import deterministic
from otplib.vm.context import runtime
from otplib.vm.machine import Machine
from tests.conformance import factorial as program
from tests.conformance.servers import call_of
from tests.conformance.shell_session import Session, number_pids

NAMES = {**vars(__import__("otplib")), **vars(program)}


@pytest.fixture
def machine():
    with Machine() as made:
        yield made


def play(machine, program, transcript):
    """Run the lines of a transcript, and compare all that was shown with all that stands in it."""
    transcript = inspect.cleandoc(transcript)
    shown = Session(machine, program).show(transcript)
    assert shown.splitlines() == number_pids(transcript).splitlines()


# ---- 01: ping-pong ---------------------------------------------------------------------------------------------------


def test_01c_two_processes_play_one_round_and_end(machine):
    play(
        machine,
        NAMES,
        """
        >>> one = spawn(ping_pong)
        >>> one
        #PID<0.115.0>
        >>> two = spawn(ping_pong)
        >>> two
        #PID<0.117.0>
        >>> send(one, ("ping", two, 0))
        Ping received 0
        Pong received 1
        ("ping", #PID<0.117.0>, 0)
        >>> process.alive(one)
        False
        >>> process.alive(two)
        False
        """,
    )


def test_01d_a_lonely_process_says_so_every_second_until_it_is_killed():
    with deterministic() as machine:
        play(
            machine,
            {**NAMES, "pass_time": machine.advance},
            """
            >>> one = spawn(ping_pong, says_so=True)
            >>> one
            #PID<0.115.0>
            >>> pass_time(3.5)
            No messages received
            No messages received
            No messages received
            >>> process.exit(one, "kill")
            True
            >>> process.alive(one)
            False
            >>> pass_time(3.5)
            """,
        )


# ---- 02: the server --------------------------------------------------------------------------------------------------


def test_02_the_factorial_server_answers_counts_and_has_one_name(machine):
    play(
        machine,
        NAMES,
        """
        >>> factorial(5)
        120
        >>> factorial(0)
        1
        >>> factorial(30)
        265252859812191058636308480000000
        >>> pid = await CoolerFactorialServer.start_link("solo")
        >>> pid
        #PID<0.124.0>
        >>> await GenServer.call(pid, ("factorial", 5))
        (120, 0)
        >>> await GenServer.call("solo", ("factorial", 5))
        (120, 1)
        >>> await CoolerFactorialServer.get_factorial("solo", 6)
        (720, 2)
        >>> await CoolerFactorialServer.start_link("solo")
        ** (otplib.StartError) already started: #PID<0.124.0>
        >>> await system.get_state("solo")
        {"count": 3}
        >>> CoolerFactorialServer.child_spec(1)
        ChildSpec(id=CoolerFactorialServer, start=(CoolerFactorialServer.start_link, (1,)))
        >>> Supervisor.child_spec((CoolerFactorialServer, 1), id="1")
        ChildSpec(id="1", start=(CoolerFactorialServer.start_link, (1,)))
        """,
    )


def test_02b_a_factorial_that_never_ends_times_its_client_out_and_leaves_the_server_at_work_until_it_is_killed(machine):
    async def main():
        pid = await program.CoolerFactorialServer.start_link("neg")
        process.flag(trap_exit=True)
        request = ("endless_factorial", -1)
        with pytest.raises(Exit) as late:
            await GenServer.call(pid, request, timeout=0.2)
        assert late.value.reason == ("timeout", call_of(pid, request, 0.2))
        assert process.alive(pid) is True
        assert process.info(pid, "status") in ("running", "runnable")
        # There the heap's limit ended it; here nothing measures one process's memory, so somebody must.
        process.exit(pid, "kill")
        assert await receive(timeout=20) == ExitMessage("EXIT", pid, "killed")

    run(main)


def test_02b_as_the_tutorial_writes_it_the_recursion_ends_at_pythons_limit_and_crashes_the_server(machine):
    async def main():
        process.flag(trap_exit=True)
        pid = await program.CoolerFactorialServer.start_link("neg")
        with pytest.raises(Exit) as end:
            await program.CoolerFactorialServer.get_factorial(pid, -1)
        reason, call = end.value.reason
        assert call == call_of(pid, ("factorial", -1))
        assert isinstance(reason, Raised)
        assert isinstance(reason.exception, RecursionError)
        assert {entry.function for entry in reason.stacktrace} == {"factorial"}  # the innermost twenty
        assert (await receive()).pid == pid

    run(main)


# ---- 03: the supervisor ----------------------------------------------------------------------------------------------


def test_03_hello_crashes_child_1_and_it_comes_back_with_a_new_pid_and_a_count_of_0(machine):
    play(
        machine,
        NAMES,
        """
        >>> self_()
        #PID<0.119.0>
        >>> pid = await FactorialSupervisor.start_link([])
        >>> pid
        #PID<0.122.0>
        >>> await Supervisor.which_children(pid)
        [
          Child(id="3", pid=#PID<0.125.0>, type="worker", modules=[CoolerFactorialServer]),
          Child(id="2", pid=#PID<0.124.0>, type="worker", modules=[CoolerFactorialServer]),
          Child(id="1", pid=#PID<0.123.0>, type="worker", modules=[CoolerFactorialServer])
        ]
        >>> await GenServer.call("1", ("factorial", 5))
        (120, 0)
        >>> await CoolerFactorialServer.get_factorial("1", "hello")
        [error] GenServer "1" terminating
        ** (TypeError) unsupported operand type(s) for -: 'str' and 'int'
            factorial.py:24: factorial
            factorial.py:46: CoolerFactorialServer.handle_call
        Last message (from #PID<0.119.0>): ("factorial", "hello")
        State: {"count": 1}
        Client #PID<0.119.0> is alive
        ** (exit) exited in: GenServer.call("1", ("factorial", "hello"), 5.0)
            ** (EXIT) an exception was raised:
                ** (TypeError) unsupported operand type(s) for -: 'str' and 'int'
                    factorial.py:24: factorial
                    factorial.py:46: CoolerFactorialServer.handle_call
        >>> await Supervisor.which_children(pid)
        [
          Child(id="3", pid=#PID<0.125.0>, type="worker", modules=[CoolerFactorialServer]),
          Child(id="2", pid=#PID<0.124.0>, type="worker", modules=[CoolerFactorialServer]),
          Child(id="1", pid=#PID<0.129.0>, type="worker", modules=[CoolerFactorialServer])
        ]
        >>> await CoolerFactorialServer.get_factorial("1", 5)
        (120, 0)
        >>> await CoolerFactorialServer.get_factorial("1", 5)
        (120, 1)
        >>> await CoolerFactorialServer.get_factorial(process.whereis("1"), "hello")
        [error] GenServer "1" terminating
        ** (TypeError) unsupported operand type(s) for -: 'str' and 'int'
            factorial.py:24: factorial
            factorial.py:46: CoolerFactorialServer.handle_call
        Last message (from #PID<0.119.0>): ("factorial", "hello")
        State: {"count": 2}
        Client #PID<0.119.0> is alive
        ** (exit) exited in: GenServer.call(#PID<0.129.0>, ("factorial", "hello"), 5.0)
            ** (EXIT) an exception was raised:
                ** (TypeError) unsupported operand type(s) for -: 'str' and 'int'
                    factorial.py:24: factorial
                    factorial.py:46: CoolerFactorialServer.handle_call
        >>> await Supervisor.count_children(pid)
        {"active": 3, "specs": 3, "supervisors": 0, "workers": 3}
        >>> self_()
        #PID<0.119.0>
        """,
    )


def test_03b_the_fourth_crash_ends_the_supervisor_and_the_shell_that_started_it(machine):
    play(
        machine,
        NAMES,
        """
        >>> self_()
        #PID<0.119.0>
        >>> pid = await FactorialSupervisor.start_link([])
        >>> pid
        #PID<0.122.0>
        >>> await crash()
        #PID<0.128.0>
        >>> await crash()
        #PID<0.130.0>
        >>> await crash()
        #PID<0.132.0>
        >>> await crash()
        ** (EXIT from #PID<0.119.0>) shell process exited with reason: shutdown
        >>> self_()
        #PID<0.134.0>
        >>> process.alive(pid)
        False
        >>> process.whereis("2")
        """,
    )


@pytest.mark.parametrize("turn", range(10))  # the answer and the link's exit race to the shell
def test_03c_a_second_start_fails_on_the_names_and_takes_the_shell_along(machine, turn):
    play(
        machine,
        NAMES,
        """
        >>> self_()
        #PID<0.119.0>
        >>> pid = await FactorialSupervisor.start_link([])
        >>> pid
        #PID<0.121.0>
        >>> process.whereis("1")
        #PID<0.122.0>
        >>> await FactorialSupervisor.start_link([])
        ** (EXIT from #PID<0.119.0>) shell process exited with reason: shutdown: failed to start child: "1"
            ** (EXIT) already started: #PID<0.122.0>
        >>> self_()
        #PID<0.134.0>
        >>> process.alive(pid)
        False
        >>> process.whereis("1")
        """,
    )


# ---- how a shell dies, in the neighbourhood of 03b and 03c -----------------------------------------------------------


async def end_with(reason):
    raise Exit(reason)


def test_a_shell_that_waits_for_a_message_when_its_link_breaks_gets_the_exit_and_a_successor(machine):
    died = []
    machine.hooks.shell_died = lambda *news: died.append(news)
    me = self_()
    process.spawn_link(end_with, "boom")
    with pytest.raises(Exit) as end:
        process.drive(receive(timeout=20))
    assert end.value.reason == "boom"
    assert died == []  # whoever waits is told by the exit, not twice
    assert self_() != me
    assert not process.alive(me)


def test_a_shell_that_does_something_else_when_its_link_breaks_is_told_by_the_hook(machine):
    died = []
    machine.hooks.shell_died = lambda *news: died.append(news)
    me = self_()
    process.spawn_link(end_with, "boom")
    assert machine.settle(5)
    assert died == [(me, "boom")]
    assert self_() != me


def test_without_a_host_the_end_of_a_shell_is_logged(machine, caplog):
    me = self_()
    process.spawn_link(end_with, ("shutdown", "enough"))
    assert machine.settle(5)
    assert [one.getMessage() for one in caplog.records] == [
        f'** (EXIT from {me!r}) shell process exited with reason: shutdown: "enough"'
    ]


def test_a_shell_that_traps_exits_survives_and_reads_the_reason(machine):
    me = self_()
    process.flag(trap_exit=True)
    pid = process.spawn_link(end_with, "boom")
    assert process.drive(receive(timeout=20)) == ("EXIT", pid, "boom")
    assert self_() == me


def test_a_shell_ends_normally_with_its_thread_and_nothing_keeps_it(machine):
    me, ends = self_(), []
    run(lambda: None)  # the default group leader is born with the first process
    processes = process.list()

    def become_a_shell():
        runtime.local.machines = (machine,)
        ends.append(self_())
        process.spawn(tell_end, me, self_())

    async def tell_end(test, shell):
        ref = process.monitor(shell)
        process.send(test, (await receive(("DOWN", ref, ..., ..., ...))).reason)

    for _ in range(20):
        thread = threading.Thread(target=become_a_shell)
        thread.start()
        thread.join()
    # "noproc" where the thread had ended before it could be watched.
    assert {process.drive(receive(timeout=20)) for _ in range(20)} <= {"normal", "noproc"}
    assert len(set(ends)) == 20
    assert machine.settle(5)
    assert process.list() == processes


def test_a_message_and_the_end_of_the_shell_may_come_together(machine):
    """Both ring the bell of a shell that waits; the second ring once broke the scheduler's thread."""

    async def send_and_end(shell):
        process.send(shell, "last words")
        raise Exit("boom")

    machine.hooks.shell_died = lambda pid, reason: None
    for _ in range(200):
        process.spawn_link(send_and_end, self_())
        try:
            assert process.drive(receive(timeout=0.05)) == "last words"
            process.drive(receive(timeout=0.05))
        except (Exit, TimeoutError):  # the latter if it died between two waits, and its successor waited for nobody
            pass
        assert machine.settle(5)
    assert run(lambda: "alive") == "alive"
