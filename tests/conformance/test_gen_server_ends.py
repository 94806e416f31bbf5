"""Section 3 of the table: how servers stop and crash, and when `terminate` runs."""

import pytest

from otplib import Exit, GenServer, Ok, Stop, process, receive, self_, send, sleep, spawn, system
from otplib.testing import deterministic
from tests.conformance.servers import (
    Careless,
    Ending,
    call_of,
    dead,
    down,
    exit_of,
    flush,
    outcome_of,
    plain,
    reports_of,
)


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


# ---- terminate -----------------------------------------------------------------------------------------------------

ENDS = {
    "Stop('normal', s)": (lambda pid: GenServer.cast(pid, "stop"), "normal"),
    "raise": (lambda pid: GenServer.cast(pid, "raise"), (RuntimeError, "x")),
    "raise Exit": (lambda pid: GenServer.cast(pid, "exit"), "via_exit"),
    "GenServer.stop": (GenServer.stop, "normal"),
    "the parent's exit signal": (lambda pid: process.exit(pid, "shutdown"), "shutdown"),
    "the parent's kill": (lambda pid: process.exit(pid, "kill"), None),
}


@pytest.mark.parametrize("trap", [False, True])
@pytest.mark.parametrize("how", ENDS)
def test_g10_when_terminate_runs(machine, how, trap):
    """g10_terminate.exs"""
    end_it, expected = ENDS[how]
    if how == "the parent's exit signal" and not trap:
        expected = None

    async def main():
        me = self_()

        async def starter():
            pid = await Ending.start_link((me, trap))
            process.flag(trap_exit=True)
            waited = end_it(pid)
            if hasattr(waited, "__await__"):
                await waited
            await sleep(0.05)

        await down(starter)
        assert await flush() == ([] if expected is None else [("terminate", expected)])

    machine.run(main)


@pytest.mark.parametrize("reason", ["normal", "shutdown", "boom"])
@pytest.mark.parametrize("trap", [False, True])
def test_g11_what_the_end_of_its_parent_does_to_a_server(machine, trap, reason):
    """g11_parent_exit.exs"""

    async def main():
        me = self_()

        async def parent():
            send(me, ("pid", await Ending.start_link((me, trap))))
            raise Exit(reason)

        await down(parent)
        _, pid = await receive(("pid", ...))
        await sleep(0.03)
        survives = not trap and reason == "normal"
        assert process.alive(pid) is survives
        assert await flush() == ([("terminate", reason)] if trap else [])

    machine.run(main)


def test_a_server_that_was_started_without_a_link_has_no_parent_to_die_with(machine):
    async def main():
        pid = await Ending.start((self_(), True))
        process.exit(pid, "from_starter")
        assert await flush() == [("info", ("EXIT", self_(), "from_starter"))]
        assert process.alive(pid)

    machine.run(main)


def test_a_server_of_a_linked_stranger_hears_of_its_end_in_handle_info(machine):
    async def main():
        pid = await Ending.start_link((self_(), True))

        async def stranger():
            process.link(pid)
            raise Exit("strange")

        other = spawn(stranger)
        assert await flush() == [("info", ("EXIT", other, "strange"))]
        assert process.alive(pid)

    machine.run(main)


class Stopping(GenServer):
    def init(self, test):
        return Ok(test)

    def handle_call(self, request, caller, state):
        match request:
            case ("reply", reason):
                return Stop(reason, state, reply="the_reply")
            case ("noreply", reason):
                return Stop(reason, state)

    def terminate(self, reason, test):
        if test is not None:
            send(test, ("terminate", reason))


@pytest.mark.parametrize(
    ("request_", "outcome"),
    [
        (("reply", "normal"), ("returned", "the_reply")),
        (("reply", "boom"), ("returned", "the_reply")),
        (("noreply", "normal"), ("exit", "normal")),
        (("noreply", "boom"), ("exit", "boom")),
        (("noreply", ("shutdown", "x")), ("exit", ("shutdown", "x"))),
    ],
)
def test_g13_stop_with_and_without_an_answer(machine, request_, outcome):
    """g13_stop_variants.exs"""

    async def main():
        process.flag(trap_exit=True)
        pid = await Stopping.start_link(None)
        how, value = await outcome_of(GenServer.call(pid, request_))
        if how == "exit":
            value, call = value
            assert call == call_of(pid, request_)
        assert (how, value) == outcome
        assert await flush() == [("EXIT", pid, request_[1])]

    machine.run(main)


def test_the_answer_of_a_stop_comes_when_terminate_has_run(machine):
    async def main():
        pid = await Stopping.start(self_())
        assert await GenServer.call(pid, ("reply", "normal")) == "the_reply"
        return await receive(timeout=0)

    assert machine.run(main) == ("terminate", "normal")


def test_g44_exit_normal_in_a_callback_stops_without_an_answer(machine, caplog):
    """g44_spawn_link_in_genserver.exs"""

    async def main():
        pid = await Ending.start((self_(), False))
        assert await exit_of(GenServer.call(pid, "normal")) == ("normal", call_of(pid, "normal"))
        assert await flush() == [("terminate", "normal")]

    machine.run(main)
    assert reports_of(caplog) == []


# ---- stopping ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 1)])
def test_g22_stop_runs_terminate_and_waits(machine, caplog, reason):
    """g22_stop.exs"""

    async def main():
        process.flag(trap_exit=True)
        pid = await Ending.start_link((self_(), False))
        assert await GenServer.stop(pid, reason) is None
        assert not process.alive(pid)
        assert await flush() == [("terminate", reason), ("EXIT", pid, reason)]
        gone = await dead()
        for server in (gone, "nobody"):
            expected = ("noproc", ("GenServer", "stop", [server, "normal", None]))
            assert await exit_of(GenServer.stop(server)) == expected

    machine.run(main)
    assert reports_of(caplog) == []


class Bare(GenServer):
    pass


def test_g22_stop_with_another_reason_is_reported(machine, caplog):
    """g22_stop.exs"""

    async def main():
        pid = await Bare.start(0)
        await GenServer.stop(pid, "boom")
        return pid

    pid = machine.run(main)
    assert reports_of(caplog) == [f'GenServer {pid!r} terminating\n** (stop) "boom"\nLast message: []\nState: 0']


def test_a_stop_that_takes_too_long_exits_and_the_server_still_stops(machine):
    async def main():
        pid = await Ending.start((self_(), False))
        process.suspend(pid)
        reason = await exit_of(GenServer.stop(pid, timeout=0.05))
        assert reason == ("timeout", ("GenServer", "stop", [pid, "normal", 0.05]))
        process.resume(pid)
        assert await flush() == [("terminate", "normal")]
        assert not process.alive(pid)

    machine.run(main)


# ---- crashing ------------------------------------------------------------------------------------------------------


def test_g25_a_bad_return_value(machine):
    """g25_bad_return.exs"""

    async def main():
        process.flag(trap_exit=True)
        pid = await Careless.start_link(0)
        assert await exit_of(GenServer.call(pid, "q")) == (("bad_return_value", "oops"), call_of(pid, "q"))
        assert await flush() == [("EXIT", pid, ("bad_return_value", "oops"))]

    machine.run(main)


def test_g26_an_exception_in_a_call_reaches_the_caller_and_the_links(machine):
    """g26_crash_in_call.exs"""

    async def main():
        process.flag(trap_exit=True)
        pid = await Careless.start_link(0)
        reason, call = await exit_of(GenServer.call(pid, "hello"))
        text = "unsupported operand type(s) for -: 'str' and 'int'"
        assert plain(reason) == (TypeError, text)
        assert call == call_of(pid, "hello")
        assert [entry.function for entry in reason.stacktrace] == ["Careless.handle_call"]
        [message] = await flush()
        assert (message.pid, plain(message)) == (pid, ("EXIT", (TypeError, text)))

    machine.run(main)


def test_a_server_may_be_stopped_by_the_system_verb(machine):
    async def main():
        pid = await Ending.start((self_(), False))
        await system.terminate(pid, "shutdown")
        assert await flush() == [("terminate", "shutdown")]

    machine.run(main)
