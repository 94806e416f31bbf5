"""Section 6 of the table, third part: the process's own, how terms read and compare, and the end of a script."""

import itertools
import math
import re
import struct
import subprocess
import sys
import textwrap
import time

import pytest

from otplib import (
    Atom,
    Exit,
    GenServer,
    Machine,
    Ok,
    Raised,
    make_ref,
    process,
    receive,
    run,
    self_,
    send,
    sleep,
    spawn,
)
from otplib.behaviours import gen
from otplib.core.inspection import inspect_term
from otplib.core.patterns import matches
from otplib.testing import deterministic
from otplib.vm.waiting import REDUCTIONS
from tests.conformance.processes import end_of, flush, idle


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


def run_script(text, *, timeout=20):
    """Run a script on an interpreter of its own; give its exit status and both outputs."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, timeout=timeout, check=False
    )
    return done.returncode, done.stdout, done.stderr


# ---- the process's own --------------------------------------------------------------------------------------


def test_x07_the_process_dictionary(machine):
    """x07_pdict.exs"""

    async def main():
        assert process.put("k", 1) is None
        assert process.put("k", 2) == 1
        assert process.get("k") == 2
        assert process.get("none", "d") == "d"
        spawn(lambda to: send(to, ("child sees", process.get("k"))), self_())
        assert await receive() == ("child sees", None)
        assert process.delete("k") == 2
        assert process.get("k") is None
        assert process.get_keys() == []
        process.put("a", 1)
        process.put("b", None)
        assert process.get_keys() == ["a", "b"]
        assert process.info(self_(), "dictionary") == {"a": 1, "b": None}

    machine.run(main)


def test_x13_priorities_are_taken_and_the_old_one_given(machine):
    """x13_priority.exs"""

    async def main():
        assert process.flag(priority="high") == "normal"
        assert process.info(self_(), "priority") == "high"
        with pytest.raises(ValueError, match="the flag priority takes one of low, normal, high, max; got 'urgent'"):
            process.flag(priority="urgent")
        assert process.flag(priority="max") == "high"
        assert process.flag(priority="low") == "max"
        assert process.flag(priority="normal") == "low"

    machine.run(main)


def test_urgent_processes_go_first_and_take_turns_among_themselves():
    async def count(who, priority, to):
        process.flag(priority=priority)
        await receive("go")
        for _ in range(4):
            send(to, who)
            await sleep(0)

    async def main():
        me = self_()
        racers = {
            who: spawn(count, who, priority, me)
            for who, priority in (("n", "NORMAL".lower()), ("a", "high"), ("b", "high"), ("m", "max"))
        }
        await sleep(0.05)
        process.flag(priority="max")  # nobody may begin before all have been told
        for pid in racers.values():
            send(pid, "go")
        process.flag(priority="low")
        return "".join([await receive(timeout=10) for _ in range(16)])

    with Machine():
        assert run(main) == "mmmm" + "abababab" + "nnnn"


def test_x14_flags_that_do_not_exist_or_take_another_value_raise(machine):
    """x14_flags.exs"""

    async def main():
        with pytest.raises(TypeError, match="no process flag 'nope'; there are trap_exit, priority and max_mailbox"):
            process.flag(nope=1)
        with pytest.raises(TypeError, match="the flag trap_exit takes True or False, got 5"):
            process.flag(trap_exit=5)
        with pytest.raises(TypeError, match="no process flag"):
            process.flag(trap_exit=True, nope=1)
        assert process.info(self_(), "trap_exit") is False, "one bad flag, and none is set"
        with pytest.raises(TypeError, match="takes a flag"):
            process.flag()

    machine.run(main)


def test_x15_a_process_that_sleeps_for_ever_still_takes_exit_signals(machine):
    """x15_await_down_helper.exs"""

    async def main():
        pid = spawn(sleep, math.inf)
        ref = process.monitor(pid)
        process.exit(pid, "stop")
        assert await flush() == [("DOWN", ref, "process", pid, "stop")]

    machine.run(main)


def test_x19_a_process_reports_that_it_has_started_and_may_end_later(machine):
    """x19_proc_lib.exs"""

    async def body(starter):
        starter.ready()
        raise Exit("bye")

    async def main():
        process.flag(trap_exit=True)
        pid = await gen.start(body, link=True)
        assert [tuple(message) for message in await flush()] == [("EXIT", pid, "bye")]

    machine.run(main)


def test_x23_the_exit_of_a_call_can_be_caught_but_not_the_link_s(machine):
    """x23_shell_survives.exs"""

    class Server(GenServer):
        def init(self, arg):
            return Ok(arg)

        def handle_call(self, request, caller, state):
            raise RuntimeError("x")

    async def call(start):
        pid = await start(0)
        with pytest.raises(Exit) as caught:
            await GenServer.call(pid, "q")
        assert isinstance(caught.value.reason[0], Raised)
        await sleep(0.05)
        raise Exit("survived")

    async def main():
        assert await end_of(call, Server.start) == "survived"
        reason = await end_of(call, Server.start_link)
        assert isinstance(reason, Raised)
        assert repr(reason.exception) == "RuntimeError('x')"

    machine.run(main)


# ---- terms -------------------------------------------------------------------------------------------------


def test_x11_how_terms_read(machine):
    """x11_inspect_shapes.exs; containers and functions read as Python's"""

    async def main():
        assert re.fullmatch(r"#PID<0\.\d+\.0>", inspect_term(self_()))
        assert re.fullmatch(r"#Reference<0(\.\d+)+>", inspect_term(make_ref()))
        assert inspect_term(str.upper) == "<method 'upper' of 'str' objects>"
        assert inspect_term(lambda x: x).startswith("<function ")
        term = {"s": None, Atom("b"): 1, Atom("a"): [1, "two", Atom("three"), (4, 5.0)]}
        assert inspect_term(term) == '{"s": None, :b: 1, :a: [1, "two", :three, (4, 5.0)]}'
        assert inspect_term([97, 98, 99]) == "[97, 98, 99]"
        assert inspect_term([(Atom("key"), 1)]) == "[(:key, 1)]"
        assert inspect_term(Atom("3")) == ':"3"'
        assert inspect_term(b"\xff\x01") == r"b'\xff\x01'"
        assert inspect_term('it\'s "so"\n') == r'"it' + "'" + r's \"so\"\n"'

    machine.run(main)


def test_x12_pids_and_references_sort_by_age_and_numbers_match_exactly(machine):
    """x12_term_order.exs; Python gives no order across types"""

    async def main():
        pids = [spawn(idle) for _ in range(20)]
        assert sorted([*pids[10:], *pids[:10]]) == pids
        refs = [make_ref() for _ in range(20)]
        assert sorted([*refs[10:], *refs[:10]]) == refs
        for mixed in ([self_(), make_ref()], [1, self_()], ["name", self_()]):
            with pytest.raises(TypeError, match="not supported between instances"):
                sorted(mixed)
        assert (matches(1, 1.0), matches(1, 1)) == (False, True)

    machine.run(main)


def test_x22_the_numbers_a_tutorial_quotes(machine):
    """x22_gen_statem_exists.exs; what stands for them here"""
    assert machine.max_processes == 4_000_000
    assert machine.scheduler.max_carriers == 256
    assert struct.calcsize("P") == 8
    assert REDUCTIONS == 512
    turns = []

    async def take(who):
        for _ in range(2000):
            await receive()
            turns.append(who)

    async def main():
        for who in "ab":
            pid = spawn(take, who)
            for number in range(2000):
                send(pid, number)
        while len(turns) < 4000:
            await sleep(0.01)

    with Machine():
        run(main)
    lengths = [len(list(turn)) for _, turn in itertools.groupby(turns)]
    assert sum(lengths) == 4000
    assert max(lengths) <= REDUCTIONS


# ---- scripts -----------------------------------------------------------------------------------------------


def test_x17_any_process_can_end_the_interpreter_with_a_status():
    """x17_exit_status.exs; os._exit is Python's System.halt"""
    status, out, _ = run_script("""
        import os
        from otplib import run, sleep, spawn

        async def halt():
            await sleep(0.05)
            print("halting", flush=True)
            os._exit(7)

        async def main():
            spawn(halt)
            await sleep(float("inf"))

        run(main)
    """)
    assert (status, out) == (7, "halting\n")


def test_sys_exit_in_a_process_ends_that_process_alone():
    status, out, err = run_script("""
        import sys
        from otplib import Down, receive, run, spawn_monitor

        async def main():
            spawn_monitor(sys.exit, 7)
            down = await receive(Down)
            print(repr(down.reason.exception))

        run(main)
    """)
    assert (status, out) == (0, "SystemExit(7)\n")
    assert "raised an exception" in err


def test_x18_an_uncaught_exception_in_a_script_is_told_and_gives_status_1():
    """x18_raise_main.exs"""
    for text in (
        'import otplib\notplib.spawn(print, "x")\nraise ValueError("bad thing")\n',
        'from otplib import run\ndef main(): raise ValueError("bad thing")\nrun(main)\n',
        'from otplib import run\nasync def main(): raise ValueError("bad thing")\nrun(main)\n',
    ):
        status, _, err = run_script(text)
        assert status == 1
        assert err.startswith("Traceback (most recent call last):")
        assert "ValueError: bad thing" in err
        assert err.count("Traceback") == 1, err


def test_the_exception_of_run_says_where_in_which_process_it_was_raised():
    status, _, err = run_script("""
        from otplib import run

        def inner():
            raise ValueError("bad thing")

        async def main():
            inner()

        run(main)
    """)
    assert status == 1
    assert re.search(r"ValueError: bad thing\nraised in process #PID<0\.\d+\.0>:\n    <string>:5: inner\n", err), err


def test_the_end_of_a_script_ends_its_processes_at_once_and_quietly():
    start = time.monotonic()
    status, out, err = run_script("""
        from otplib import run, sleep, spawn

        def hog():
            while True:
                pass

        async def idle():
            await sleep(float("inf"))

        async def main():
            spawn(idle)
            spawn(hog)
            print("main is done")

        run(main)
    """)
    assert (status, out, err) == (0, "main is done\n", "")
    assert time.monotonic() - start < 10


def test_an_exit_of_the_main_process_is_an_uncaught_exit_in_the_script():
    status, _, err = run_script("""
        from otplib import Exit, run

        async def main():
            raise Exit(("shutdown", "why"))

        run(main)
    """)
    assert status == 1
    assert 'otplib.core.errors.Exit: shutdown: "why"' in err
