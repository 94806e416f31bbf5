"""What other Python actor libraries got wrong when they were run (`peers.md`, the table 1a and section 5.3): not here.

Each docstring names the library in which the bug was seen. What their users asked for is in `test_peers_complaints`.
"""

import pytest

from otplib import (
    CallTimeout,
    Exit,
    GenServer,
    NoProcessError,
    NoReply,
    Reply,
    process,
    receive,
    self_,
    send,
    sleep,
    spawn,
    spawn_link,
    spawn_monitor,
)
from otplib.testing import deterministic
from tests.behaviours.served import exit_of, flush, kind_of, obey, reports_of, wait


@pytest.fixture(params=[1, 2, 3])
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


class Server(GenServer):
    """Crashes, hangs, is slow or answers, as it is asked."""

    async def handle_call(self, request, caller, state):
        match request:
            case "crash":
                raise ValueError("crashed")
            case "exit":
                raise Exit("left")
            case "hang":
                return NoReply(state)
            case ("sleep", seconds):
                await sleep(seconds)
            case ("call", other, question, timeout):
                try:
                    return Reply(await GenServer.call(other, question, timeout), state)
                except Exit as end:
                    return Reply(end.reason, state)
        return Reply(request, state + 1)

    def handle_cast(self, request, state):
        raise ValueError("crashed")


# ---- calls ---------------------------------------------------------------------------------------------------------


def test_a_call_to_a_server_that_crashes_ends_with_its_reason(machine):
    """otpylib and triotp: the caller hangs for ever."""

    async def main():
        pid = await Server.start(0)
        reason, call = await exit_of(GenServer.call(pid, "crash", timeout=None))
        assert (kind_of(reason), str(reason.exception)) == (ValueError, "crashed")
        assert call == ("GenServer", "call", [pid, "crash", None])

    machine.run(main)


@pytest.mark.parametrize("end", ["exit", "kill from outside", "is dead", "never was"])
def test_a_call_to_a_dying_or_missing_server_ends(machine, end):
    """otpylib hangs; Pyrlang waits for its time-out also when nobody has the name."""

    async def main():
        pid = await Server.start(0, name="server")
        match end:
            case "exit":
                reason = await exit_of(GenServer.call(pid, "exit", timeout=None))
                expected = "left"
            case "kill from outside":

                async def killer():
                    await sleep(1)
                    process.exit(pid, "kill")

                spawn(killer)
                reason = await exit_of(GenServer.call(pid, "hang", timeout=None))
                expected = "killed"
            case "is dead":
                await GenServer.stop(pid)
                reason = await exit_of(GenServer.call(pid, "x", timeout=None))
                expected = "noproc"
            case "never was":
                reason = await exit_of(GenServer.call("nobody", "x", timeout=None))
                expected = "noproc"
        assert reason[0] == expected

    machine.run(main)


def test_a_server_that_calls_itself_is_told_at_once(machine):
    """pykka (issues 48, 76), xoscar, otpylib: a deadlock. triotp: a send to oneself blocks."""

    async def main():
        pid = await Server.start(0, name="server")
        for other in (pid, "server"):
            reason = await GenServer.call(pid, ("call", other, "x", 5))
            assert reason[0] == "calling_self"
        assert machine.now() == 0

    machine.run(main)


def test_two_servers_that_call_each_other_come_free_again(machine):
    """xoscar (PR 140): a deadlock which no time-out ends."""

    async def main():
        first, second = await Server.start(0), await Server.start(0)
        reason = await GenServer.call(first, ("call", second, ("call", first, "x", 2), 1), timeout=5)
        assert reason[0] == "timeout"
        assert await GenServer.call(second, "x") == "x"
        assert await flush() == []

    machine.run(main)


def test_the_time_out_of_a_caller_does_no_harm_to_the_server(machine):
    """triotp: the server dies of `ClosedResourceError` when it answers."""

    async def main():
        pid = await Server.start_link(0)
        with pytest.raises(CallTimeout):
            await GenServer.call(pid, ("sleep", 2), timeout=1)
        await sleep(5)
        assert await GenServer.call(pid, "x") == "x"

    machine.run(main)


def test_a_late_answer_does_not_stay_in_the_mailbox(machine):
    """otpylib, Pyrlang; also elle 1249, emqx-auth-http 239, elixir-nodejs 51."""

    async def main():
        pid = await Server.start(0)
        for _ in range(5):
            with pytest.raises(CallTimeout):
                await GenServer.call(pid, ("sleep", 2), timeout=1)
        await sleep(20)
        assert await flush() == []

    machine.run(main)


def test_a_call_leaves_all_other_messages_where_they_are(machine):
    """otpylib: `call` silently eats them."""

    async def main():
        pid = await Server.start(0)
        for number in range(5):
            send(self_(), ("mine", number))
        asked = [await GenServer.call(pid, n) for n in range(3)]
        send(self_(), ("mine", 5))
        assert asked == [0, 1, 2]
        await exit_of(GenServer.call(pid, "exit"))
        assert await flush() == [("mine", number) for number in range(6)]

    machine.run(main)


# ---- monitors and links --------------------------------------------------------------------------------------------


def test_down_has_one_shape_however_a_process_ends(machine):
    """otpylib: a 5-tuple after a crash, a 4-tuple after an exit signal."""

    async def main():
        def crash():
            raise ValueError("crash")

        def leave():
            raise Exit("left")

        for body, expected in ((crash, ValueError), (leave, "left"), (lambda: None, "normal")):
            pid, ref = spawn_monitor(body)
            down = await receive()
            reason = kind_of(down.reason) if expected is ValueError else down.reason
            assert (*down[:4], reason) == ("DOWN", ref, "process", pid, expected)
        for signal, expected in (("boom", "boom"), ("kill", "killed"), ("shutdown", "shutdown")):
            pid, ref = spawn_monitor(wait)
            process.exit(pid, signal)
            assert await receive() == ("DOWN", ref, "process", pid, expected)

    machine.run(main)


def test_monitoring_the_dead_gives_down_with_noproc(machine):
    """otpylib: an exception."""

    async def main():
        pid, first = spawn_monitor(lambda: None)
        await receive(("DOWN", first, ..., ..., ...))
        ref = process.monitor(pid)
        assert await receive() == ("DOWN", ref, "process", pid, "noproc")
        with pytest.raises(NoProcessError):
            process.link(pid)

    machine.run(main)


def test_the_reason_of_an_exit_signal_arrives_as_it_was_sent(machine):
    """otpylib: whatever the reason, others see `shutdown`."""

    async def main():
        process.flag(trap_exit=True)
        for reason in ("boom", ("shutdown", "x"), {"why": [1, 2]}, 7):
            pid = spawn_link(wait)
            process.exit(pid, reason)
            assert await receive() == ("EXIT", pid, reason)

    machine.run(main)


def test_an_exception_ends_a_process_for_all_who_watch_it(machine):
    """Pyrlang: no DOWN; a zombie keeps its name."""

    async def main():
        pid = await Server.start(0, name="server")
        ref = process.monitor(pid)
        GenServer.cast(pid, "x")
        down = await receive(("DOWN", ref, ..., pid, ...))
        assert kind_of(down.reason) is ValueError
        assert process.whereis("server") is None
        assert process.info(pid) is None
        assert await Server.start(0, name="server") != pid

    machine.run(main)


def test_trap_exit_can_be_switched_on_by_a_process_that_runs(machine):
    """otpylib: at spawn only. Pyrlang: not at all."""

    async def main():
        assert process.flag(trap_exit=True) is False
        pid = spawn_link(obey)
        send(pid, "boom")
        assert await receive() == ("EXIT", pid, "boom")
        assert process.flag(trap_exit=False) is True

    machine.run(main)


def test_kill_beats_trap_exit(machine):
    """Section 5.3."""

    async def main():
        test = self_()

        async def stubborn():
            process.flag(trap_exit=True)
            send(test, "ready")
            while True:
                await receive()

        pid, ref = spawn_monitor(stubborn)
        await receive("ready")
        for reason in ("normal", "shutdown", "boom"):
            process.exit(pid, reason)
        await sleep(1)
        assert process.alive(pid)
        process.exit(pid, "kill")
        assert await flush() == [("DOWN", ref, "process", pid, "killed")]

    machine.run(main)


# ---- messages ------------------------------------------------------------------------------------------------------


def test_falsy_messages_arrive(machine):
    """Pyrlang: `0`, `[]` and None are dropped."""
    falsy = [0, 0.0, "", b"", [], (), {}, None, False, frozenset()]

    async def main():
        for message in falsy:
            send(self_(), message)
        got = await flush()
        assert got == falsy
        assert [type(one) for one in got] == [type(one) for one in falsy]

    machine.run(main)


def test_receive_selects(machine):
    """otpylib: `receive(match=...)` raises AttributeError."""

    async def main():
        for message in (("a", 1), ("b", 2), ("a", 3)):
            send(self_(), message)
        assert await receive(("b", int)) == ("b", 2)
        assert await flush() == [("a", 1), ("a", 3)]

    machine.run(main)


def test_a_waiting_receive_looks_at_each_message_once(machine):
    """Pyrlang: each receive moves the whole mailbox, so that its time grows with the square of it."""
    looked = []

    def wanted(message):
        looked.append(message)
        return message == "wanted"

    async def main():
        me = self_()
        for number in range(1000):
            send(me, number)

        async def sender():
            for number in range(1000, 2000):
                send(me, number)
                await sleep(0.001)
            send(me, "wanted")

        spawn(sender)
        assert await receive(wanted) == "wanted"

    machine.run(main)
    assert len(looked) == 2001


def test_a_call_does_not_look_at_what_came_before_it(machine):
    """Pyrlang: 222 messages a second past a backlog of 5,000."""

    class Seen(tuple):
        looked = 0
        __slots__ = ()

        def __len__(self):
            Seen.looked += 1
            return super().__len__()

    async def main():
        pid = await Server.start(0)
        for number in range(1000):
            send(self_(), Seen((number, number)))
        await GenServer.call(pid, "x")
        Seen.looked = 0
        for _ in range(10):
            await GenServer.call(pid, "x")
        assert Seen.looked == 0
        assert len(await flush()) == 1000

    machine.run(main)


def test_a_send_never_waits_not_even_to_oneself(machine):
    """triotp: every send waits for the receiver, and one to oneself for ever."""

    async def main():
        pid = spawn(wait)
        for number in range(1000):
            send(pid, number)
            send(self_(), number)
        assert machine.now() == 0
        assert process.info(pid, "message_queue_len") == 1000
        assert await flush(0) == [*range(1000)]

    machine.run(main)


def test_messages_are_copies(machine):
    """otpylib, triotp, pykka, and locally xoscar and Pyrlang: sender and receiver share them."""

    async def main():
        message = {"list": [1]}
        send(self_(), message)
        message["list"].append("sender's")
        got = await receive()
        assert got == {"list": [1]}
        assert got is not message

    machine.run(main)


def test_nothing_is_printed_that_nobody_asked_for(machine, capsys):
    """otpylib: debugging lines at each message."""

    async def main():
        pid = await Server.start(0)
        await GenServer.call(pid, "x")
        await GenServer.stop(pid)

    machine.run(main)
    assert capsys.readouterr() == ("", "")


# ---- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["normal", "boom", "kill"])
def test_a_name_is_free_when_its_holder_is_dead(machine, reason):
    """Pyrlang: it stays."""

    async def main():
        for _ in range(3):
            pid, ref = spawn_monitor(wait if reason == "kill" else obey)
            process.register(pid, "holder")
            if reason == "kill":
                process.exit(pid, reason)
            else:
                send(pid, reason)
            await receive(("DOWN", ref, ..., ..., ...))
            assert process.whereis("holder") is None
        assert process.registered() == []

    machine.run(main)


def test_a_crash_is_logged_whoever_was_waiting_for_the_answer(machine, caplog):
    """pykka (issue 70): an error that goes to the caller is told to nobody else."""

    async def main():
        pid = await Server.start(0)
        await exit_of(GenServer.call(pid, "crash"))

    machine.run(main)
    [report] = reports_of(caplog)
    assert "** (ValueError) crashed" in report
