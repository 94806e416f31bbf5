"""Section 6 of the table: timers, the process dictionary, group leaders, how terms read, flags, and the end of a script."""

import math
import os
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
    LeaderError,
    Machine,
    NoSuchNameError,
    Ok,
    Raised,
    Reply,
    make_ref,
    process,
    receive,
    run,
    self_,
    send,
    shared,
    sleep,
    spawn,
    spawn_link,
    spawn_monitor,
)
from otplib.behaviours import gen, timer
from otplib.core.errors import MachineError
from otplib.core.inspection import inspect_term
from otplib.core.patterns import matches
from otplib.testing import deterministic
from otplib.vm.waiting import REDUCTIONS
from tests.conformance.processes import dead, end_of, flush, idle


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


def raises(error, use):
    try:
        use()
    except error:
        return True
    return False


# ---- timers ---------------------------------------------------------------------------------------------------------


def test_x01_send_after_read_and_cancel(machine):
    """x01_send_after.exs"""

    async def main():
        me = self_()
        ref = process.send_after(me, "tick", 0.1)
        assert process.read_timer(ref) == pytest.approx(0.1)
        await sleep(0.04)
        assert process.read_timer(ref) == pytest.approx(0.06)
        assert process.cancel_timer(ref) == pytest.approx(0.06)
        assert process.cancel_timer(ref) is None
        assert process.read_timer(ref) is None
        ref = process.send_after(me, "tick", 0.01)
        assert await flush() == ["tick"]
        assert process.cancel_timer(ref) is None
        process.send_after(me, "now", 0)
        assert await flush(0.02) == ["now"]
        with pytest.raises(ValueError, match="expected a timeout of 0 or more seconds, got -1"):
            process.send_after(me, "x", -1)
        ref = process.send_after(me, "x", 0.05)
        assert process.cancel_timer(ref, asynchronous=True) is None
        assert await flush() == [("cancel_timer", ref, pytest.approx(0.05))]

    machine.run(main)


def test_x02_a_name_is_looked_up_when_the_timer_fires(machine):
    """x02_send_after_name.exs"""

    async def main():
        process.send_after("later", "hi", 0.03)
        process.register(self_(), "later")
        assert await flush() == ["hi"]
        to_nobody = process.send_after("nobody", "hi", 0.001)
        to_dead = process.send_after(await dead(), "hi", 0.001)
        assert type(to_nobody) is type(to_dead) is type(make_ref())
        await sleep(0.02)
        assert process.read_timer(to_nobody) is None

    machine.run(main)


def test_x03_start_timer_wraps_its_message(machine):
    """x03_start_timer.exs"""

    async def main():
        ref = process.start_timer(self_(), "payload", 0.01)
        assert await flush() == [("timeout", ref, "payload")]

    machine.run(main)


def test_x05_timers_fire_in_order_and_never_early(machine):
    """x05_timer_order.exs"""

    async def main():
        for milliseconds in (40, 10, 30, 20):
            process.send_after(self_(), milliseconds, milliseconds / 1000)
        assert await flush(0.1) == [10, 20, 30, 40]

    async def lateness():
        start = time.monotonic()
        process.send_after(self_(), "t", 0.02)
        await receive("t")
        return time.monotonic() - start

    machine.run(main)
    with Machine():
        assert run(lateness, timeout=10) >= 0.02


def test_x06_the_timer_module(machine):
    """x06_timer_module.exs; hours and minutes are Python's own to reckon, as all times are seconds"""

    async def main():
        interval = timer.send_interval(0.02, "tick")
        await sleep(0.11)
        assert await flush(0) == ["tick"] * 5
        assert timer.cancel(interval) is True
        assert await flush(0.03) == []
        timer.apply_after(0.01, send, self_(), "applied")
        await sleep(0.04)
        assert await flush(0) == ["applied"]

        async def work():
            await sleep(0.01)
            return "r"

        seconds, result = await timer.tc(work)
        assert (seconds, result) == (pytest.approx(0.01), "r")

    machine.run(main)


def test_timers_of_one_moment_fire_in_the_order_they_were_set(machine):
    async def main():
        for number in range(50):
            process.send_after(self_(), number, 1.0)
        assert await flush(2.0) == list(range(50))

    machine.run(main)


def test_a_timer_for_a_pid_ends_with_its_process(machine):
    async def main():
        pid = spawn(idle)
        ref = process.send_after(pid, "x", 1000)
        named = process.send_after("name", "x", 1000)
        assert process.read_timer(ref) == 1000
        process.exit(pid, "kill")
        await sleep(0)
        await receive_nothing()
        assert process.read_timer(ref) is None
        assert process.cancel_timer(ref) is None
        assert process.read_timer(named) == pytest.approx(1000)
        assert process.cancel_timer(named) == pytest.approx(1000)
        assert len(machine.user_timers) == 0

    machine.run(main)


async def receive_nothing():
    with pytest.raises(TimeoutError):
        await receive(timeout=0.001)


def test_a_timer_of_a_dead_process_still_fires_for_others(machine):
    async def main():
        spawn(lambda to: process.send_after(to, "late", 0.05), self_())
        assert await receive(timeout=1) == "late"

    machine.run(main)


def test_a_process_may_cancel_the_timer_of_another(machine):
    async def main():
        ref = process.send_after(self_(), "x", 0.5)
        spawn(lambda to: send(to, process.cancel_timer(ref)), self_())
        assert await receive(float) == pytest.approx(0.5)
        await receive_nothing()

    machine.run(main)


def test_a_timer_keeps_what_the_message_was_when_it_was_set(machine):
    async def main():
        message = ["now"]
        process.send_after(self_(), message, 0.1)
        message.append("later")
        assert await receive() == ["now"]

    machine.run(main)


@pytest.mark.parametrize(
    ("dest", "seconds", "error"),
    [
        (5, 1, TypeError),
        (("a", 5), 1, TypeError),
        (("a", "b", "c"), 1, TypeError),
        ("a", "1", TypeError),
        ("a", True, TypeError),
        ("a", math.nan, ValueError),
        ("a", math.inf, ValueError),
        ("a", None, ValueError),
    ],
)
def test_a_bad_timer_is_refused_when_it_is_set(machine, dest, seconds, error):
    async def main():
        with pytest.raises(error, match="expected"):
            process.send_after(dest, "x", seconds)
        with pytest.raises(error, match="expected"):
            process.start_timer(dest, "x", seconds)
        assert len(machine.user_timers) == 0

    machine.run(main)


def test_a_timer_for_a_pid_of_another_machine_is_refused_when_it_is_set():
    async def give_pid():
        return self_()

    async def main(stranger):
        with pytest.raises(MachineError, match="belongs to a machine that has stopped or to another one"):
            process.send_after(stranger, "x", 0.001)
        await sleep(0.01)
        return "still running"

    with deterministic() as other:
        stranger = other.run(give_pid)
    with Machine():
        assert run(main, stranger) == "still running"


def test_a_registry_that_raises_when_a_timer_fires_does_not_stop_the_scheduler():
    class Broken:
        def register_name(self, key, pid):
            return True

        def unregister_name(self, key):
            return None

        def whereis_name(self, key):
            raise OSError("the registry is gone")

    async def main():
        from otplib import Via

        process.send_after(Via(Broken(), "k"), "x", 0.001)
        process.send_after(self_(), "after", 0.01)
        return await receive(timeout=5)

    with Machine():
        assert run(main) == "after"


def test_what_is_no_timer_is_refused(machine):
    async def main():
        for use in (process.read_timer, process.cancel_timer):
            with pytest.raises(TypeError, match="expected the reference that send_after gave"):
                use("ref")
            assert use(make_ref()) is None

    machine.run(main)


def test_thousands_of_timers_due_at_once_leave_none_behind():
    async def main():
        refs = [process.send_after(self_(), number, 0) for number in range(5000)]
        got = sorted([await receive(timeout=10) for _ in range(5000)])
        assert got == list(range(5000))
        assert [process.read_timer(ref) for ref in refs] == [None] * 5000

    with Machine() as machine:
        run(main)
        assert len(machine.user_timers) == 0


def test_an_interval_ends_with_its_receiver_and_not_with_who_set_it(machine):
    async def main():
        me = self_()
        pid, ref = spawn_monitor(lambda: send(me, timer.send_interval(0.02, "tick", me)))
        interval = await receive(timer.TimerRef)
        await receive(("DOWN", ref, ..., pid, "normal"))
        await sleep(0.05)
        assert await flush(0) == ["tick", "tick"]
        timer.cancel(interval)

        listener = spawn(idle)
        interval = timer.send_interval(0.02, "tick", listener)
        await sleep(0.05)
        assert process.info(listener, "message_queue_len") == 2
        process.exit(listener, "kill")
        await sleep(0.01)
        assert not process.alive(interval.pid)

    machine.run(main)


def test_an_interval_for_a_name_belongs_to_who_has_it_when_it_is_set(machine):
    async def main():
        nobody_s = timer.send_interval(0.02, "tick", "later")
        await sleep(0.01)
        assert not process.alive(nobody_s.pid)
        process.register(self_(), "later")
        mine = timer.send_interval(0.02, "tick", "later")
        await sleep(0.05)
        assert await flush(0) == ["tick", "tick"]
        process.unregister("later")
        await sleep(0.05)
        assert await flush(0) == [], "the name was taken back: those beats are lost"
        assert process.alive(mine.pid)
        timer.cancel(mine)

    machine.run(main)


def test_an_interval_does_not_drift(machine):
    async def main():
        interval = timer.send_interval(0.1, "tick")
        start = machine.now()
        moments = []
        for _ in range(30):
            await receive("tick")
            moments.append(machine.now() - start)
        timer.cancel(interval)
        assert moments == [pytest.approx(0.1 * beat) for beat in range(1, 31)]

    machine.run(main)


def test_an_interval_sends_a_fresh_copy_each_time_and_shares_what_is_shared(machine):
    async def main():
        table = {"rows": 1}
        interval = timer.send_interval(0.1, ([], shared(table)))
        table["rows"] = 2
        for _ in range(3):
            fresh, theirs = await receive()
            assert fresh == []
            fresh.append("mine")
            assert theirs is table
        timer.cancel(interval)

    machine.run(main)


def test_apply_interval_calls_until_its_asker_ends(machine):
    async def main():
        me = self_()

        async def ask():
            timer.apply_interval(0.02, send, me, "applied")
            await sleep(0.05)

        spawn(ask)
        await sleep(0.5)
        assert await flush(0) == ["applied", "applied"]

    machine.run(main)


def test_apply_after_can_be_cancelled_and_outlives_its_asker(machine):
    async def main():
        me = self_()
        timer.cancel(timer.apply_after(0.05, send, me, "never"))
        spawn(lambda: timer.apply_after(0.05, send, me, "late") and None)
        assert await flush(0.2) == ["late"]

    machine.run(main)


def test_a_slow_call_of_apply_after_is_not_ended_by_cancel(machine):
    async def main():
        me = self_()

        async def slow():
            send(me, "begun")
            await sleep(1)
            send(me, "done")

        once = timer.apply_after(0.01, slow)
        assert await receive() == "begun"
        assert timer.cancel(once) is True
        assert await receive() == "done"

    machine.run(main)


def test_timers_say_what_they_want(machine):
    async def main():
        for use, error, text in (
            (lambda: timer.send_interval(0, "x"), ValueError, "more than 0 seconds"),
            (lambda: timer.send_interval(-1, "x"), ValueError, "0 or more seconds"),
            (lambda: timer.send_interval(None, "x"), ValueError, "takes a number of seconds, got None"),
            (lambda: timer.send_interval(1, "x", 5), TypeError, "expected a pid or a name"),
            (lambda: timer.apply_after(1, "f"), TypeError, "takes a function and its arguments"),
            (lambda: timer.apply_after("1", print), TypeError, "expected a timeout in seconds"),
            (lambda: timer.apply_interval(0, print), ValueError, "more than 0 seconds"),
            (lambda: timer.cancel("t"), TypeError, "expected what send_interval or apply_after gave"),
            (lambda: timer.cancel(make_ref()), TypeError, "write process.cancel_timer"),
        ):
            with pytest.raises(error, match=re.escape(text)):
                use()
        with pytest.raises(ZeroDivisionError):
            await timer.tc(lambda: 1 / 0)

    machine.run(main)


# ---- the process's own ----------------------------------------------------------------------------------------------


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
            for who, priority in (("n", "".join(["nor", "mal"])), ("a", "high"), ("b", "high"), ("m", "max"))
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


# ---- output ---------------------------------------------------------------------------------------------------------


async def collect(to):
    """Be a group leader: hand each request on, and answer it."""
    while True:
        match await receive():
            case ("io_request", sender, reply_as, request):
                send(to, ("gl_got", sender, request))
                send(sender, ("io_reply", reply_as, "ok"))


def test_x08_the_group_leader_is_inherited_and_gets_the_output(machine):
    """x08_group_leader.exs"""

    async def main():
        me = self_()
        mine = process.group_leader()
        spawn(lambda: send(me, ("inherited", process.group_leader() == mine)))
        assert await receive() == ("inherited", True)
        leader = spawn(collect, me)

        def grandchild():
            send(me, ("grandchild_gl", self_(), process.group_leader() == leader))
            print("hello")

        def child():
            process.group_leader(self_(), leader)
            spawn(grandchild)

        spawn(child)
        (_, pid, same), *rest = await flush()
        assert same is True
        assert rest == [("gl_got", pid, ("put_chars", "unicode", "hello\n"))]

    machine.run(main)


def test_x09_output_to_a_dead_group_leader_raises(machine):
    """x09_gl_dead.exs"""

    async def main():
        gone = await dead()

        def speak():
            process.group_leader(self_(), gone)
            try:
                print("x")
            except LeaderError as error:
                raise Exit(("error", str(error))) from None

        kind, text = await end_of(speak)
        assert kind == "error"
        assert re.fullmatch(rf"cannot write: the group leader {gone!r} of #PID<.*> is dead", text)
        assert issubclass(LeaderError, OSError)

    machine.run(main)


def test_x21_lines_of_many_processes_are_whole(machine):
    """x21_io_atomic.exs"""

    async def speak(digit, leader, to):
        process.group_leader(self_(), leader)
        for _ in range(20):
            print(digit * 40)
            await sleep(0)
        send(to, "spoken")

    async def main():
        me = self_()
        leader = spawn(collect, me)
        for number in range(50):
            spawn(speak, str(number % 10), leader, me)
        for _ in range(50):
            await receive("spoken")
        got = [message[2] for message in await flush() if message[0] == "gl_got"]
        assert {request[:2] for request in got} == {("put_chars", "unicode")}
        lines = "".join(text for _, _, text in got).splitlines()
        assert len(lines) == 1000
        assert all(line == line[0] * 40 for line in lines)

    machine.run(main)


def test_a_process_gets_no_message_from_its_own_prints(machine):
    async def main():
        me = self_()

        async def speak():
            print("one")
            print("two", end="")
            await sleep(0.1)
            send(me, ("mailbox", process.info(self_(), "messages")))

        process.group_leader(self_(), spawn(collect, me))
        spawn(speak)
        got = await flush()
        assert [message[2][2] for message in got if message[0] == "gl_got"] == ["one\n", "two"]
        assert ("mailbox", []) in got

    machine.run(main)


def test_an_unfinished_line_is_seen_when_its_process_waits(machine):
    async def main():
        me = self_()

        async def speak():
            for _ in range(3):
                print(".", end="")
                await sleep(0.01)
            print("", end="", flush=True)
            sys.stdout.write("a")
            sys.stdout.write("b")
            sys.stdout.flush()

        process.group_leader(self_(), spawn(collect, me))
        spawn(speak)
        assert [message[2][2] for message in await flush()] == [".", ".", ".", "ab"]

    machine.run(main)


@pytest.mark.parametrize("kind", ["deterministic", "threads"])
def test_an_unfinished_line_that_cannot_be_written_hurts_its_own_process_alone(kind, caplog):
    async def waits(gone):
        process.group_leader(self_(), gone)
        print("unfinished", end="")
        try:
            await sleep(10)
        except LeaderError:
            raise Exit("heard of it where it waited") from None

    async def ends(gone):
        process.group_leader(self_(), gone)
        print("unfinished", end="")

    async def crashes(gone):
        process.group_leader(self_(), gone)
        print("unfinished", end="")
        raise Exit("own reason")

    async def killed(gone):
        process.group_leader(self_(), gone)
        try:
            await idle()
        finally:
            print("unfinished", end="")

    async def main():
        gone = await dead()
        assert await end_of(waits, gone) == "heard of it where it waited"
        reason = await end_of(ends, gone)
        assert isinstance(reason, Raised)
        assert isinstance(reason.exception, LeaderError)
        assert await end_of(crashes, gone) == "own reason"
        pid, ref = spawn_monitor(killed, gone)
        await sleep(0.01)
        process.exit(pid, "stop")
        assert (await receive(("DOWN", ref, ..., ..., ...))).reason == "stop"
        return "all is well"

    if kind == "threads":
        with Machine():
            assert run(main, timeout=20) == "all is well"
    else:
        with deterministic() as machine:
            assert machine.run(main) == "all is well"


def test_a_process_that_is_its_own_group_leader_cannot_print(machine):
    async def main():
        def speak():
            process.group_leader(self_(), self_())
            print("x")

        reason = await end_of(speak)
        assert isinstance(reason.exception, LeaderError)
        assert "its own group leader" in str(reason.exception)

    machine.run(main)


def test_the_standard_error_goes_to_the_group_leader_too(machine):
    async def main():
        me = self_()
        process.group_leader(self_(), spawn(collect, me))
        spawn(lambda: print("trouble", file=sys.stderr))
        assert [message[2] for message in await flush()] == [("put_chars", "unicode", "trouble\n")]

    machine.run(main)


def test_the_leader_of_another_can_be_read_and_set(machine):
    async def main():
        me = self_()
        pid, leader = spawn(idle), spawn(collect, me)
        process.group_leader(pid, leader)
        assert process.group_leader(pid) == leader
        assert process.info(pid, "group_leader") == leader
        assert process.group_leader() != leader
        for bad in ("name", 5):
            with pytest.raises(TypeError, match="takes a pid"):
                process.group_leader(pid, bad)
        assert process.group_leader(await dead(), leader) == leader

    machine.run(main)


def test_by_default_output_is_the_standard_output(capsys):
    async def main():
        print("from a process")
        spawn_link(lambda: print("from its child"))
        await sleep(0.01)

    with deterministic() as machine:
        machine.run(main)
    assert capsys.readouterr().out == "from a process\nfrom its child\n"


# ---- terms ----------------------------------------------------------------------------------------------------------


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
        assert inspect_term("it's \"so\"\n") == r'"it' + "'" + r's \"so\"\n"'

    machine.run(main)


def test_x12_pids_and_references_sort_by_age_and_numbers_match_exactly(machine):
    """x12_term_order.exs; Python gives no order across types"""

    async def main():
        pids = [spawn(idle) for _ in range(20)]
        assert sorted(pids[::-1]) == pids
        refs = [make_ref() for _ in range(20)]
        assert sorted(refs[::-1]) == refs
        for mixed in ([self_(), make_ref()], [1, self_()], ["name", self_()]):
            assert raises(TypeError, lambda: sorted(mixed)), mixed  # noqa: B023
        assert (1 == 1.0, matches(1, 1.0), matches(1, 1)) == (True, False, True)  # noqa: PLR0133

    machine.run(main)


def test_x22_the_numbers_a_tutorial_quotes(machine):
    """x22_gen_statem_exists.exs; what stands for them here"""
    assert machine.max_processes == 4_000_000
    assert Machine(max_processes=262_144).max_processes == 262_144
    assert machine.scheduler.max_carriers == 256
    assert REDUCTIONS == 512
    assert sys.version_info >= (3, 11)
    assert struct.calcsize("P") == 8
    assert os.cpu_count() >= 1


# ---- scripts --------------------------------------------------------------------------------------------------------


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


def test_a_reply_that_nobody_waits_for_is_not_an_error(machine):
    class Server(GenServer):
        def handle_call(self, request, caller, state):
            process.send_after(self_(), ("answer", caller), 1.0)
            return Reply("first", state)

        def handle_info(self, message, state):
            from otplib import NoReply

            GenServer.reply(message[1], "second")
            return NoReply(state)

    async def main():
        pid = await Server.start_link(0)
        assert await GenServer.call(pid, "q") == "first"
        assert await flush(2.0) == []
        with pytest.raises(NoSuchNameError):
            send("nobody", "x")

    machine.run(main)
