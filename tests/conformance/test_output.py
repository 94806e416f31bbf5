"""Section 6 of the table, second part: group leaders, and what processes print."""

import re
import sys

import pytest

from otplib import (
    Exit,
    LeaderError,
    Machine,
    Raised,
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
from otplib.testing import deterministic
from tests.conformance.processes import dead, end_of, flush, idle


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


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
            await sleep(0.01)
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
