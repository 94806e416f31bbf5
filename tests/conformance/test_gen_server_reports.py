"""Section 3 of the table: what is logged of a server's end, and how reasons read."""

import pytest

from otplib import Exit, GenServer, Global, NoReply, Ok, Pid, Reply, Stop, process, receive, self_, sleep, spawn
from otplib.core.reasons import format_exit
from otplib.testing import deterministic
from tests.conformance.servers import (
    Careless,
    exit_of,
    flush,
    plain,
    reports_of,
)


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


# ---- what is logged ------------------------------------------------------------------------------------------------


class StopsAsCast(GenServer):
    def handle_cast(self, request, state):
        return Stop(request, state)


def test_g34_which_ends_are_logged(machine, caplog):
    """g34_log_stop.exs"""

    async def main():
        for reason in ("normal", "shutdown", ("shutdown", "x"), "boom"):
            pid = await StopsAsCast.start({"k": 1})
            GenServer.cast(pid, reason)
            await flush()
        return pid

    pid = machine.run(main)
    assert reports_of(caplog) == [
        f'GenServer {pid!r} terminating\n** (stop) "boom"\nLast message: ("$gen_cast", "boom")\nState: {{"k": 1}}'
    ]
    [record] = [one for one in caplog.records if one.name == "otplib"]
    assert (record.levelname, record.pid, record.reason) == ("ERROR", pid, "boom")


class Adder(GenServer):
    def handle_cast(self, request, state):
        return NoReply(state + request)


def test_g35_the_text_of_a_crash(machine, caplog):
    """g35_log_crash.exs"""

    async def main():
        await Adder.start(7, name="adder")
        GenServer.cast("adder", "x")
        await flush()

    machine.run(main)
    [text] = reports_of(caplog)
    line = Adder.handle_cast.__code__.co_firstlineno + 1
    assert text.splitlines() == [
        'GenServer "adder" terminating',
        "** (TypeError) unsupported operand type(s) for +: 'int' and 'str'",
        f"    {__file__}:{line}: Adder.handle_cast",
        'Last message: ("$gen_cast", "x")',
        "State: 7",
    ]


@pytest.mark.parametrize(("name", "shown"), [(Global("g"), '"g"'), (Global(("a", 1)), '("a", 1)')])
def test_a_server_with_a_global_name_is_reported_by_it(machine, caplog, name, shown):
    async def main():
        pid = await Adder.start(7, name=name)
        GenServer.cast(pid, "x")
        await flush()

    machine.run(main)
    [text] = reports_of(caplog)
    assert text.splitlines()[0] == f"GenServer {shown} terminating"


class Leaving(GenServer):
    """Ends by `raise Exit`, in a callback or in `terminate`."""

    async def handle_call(self, request, caller, state):
        return Reply(await GenServer.call(request, "x"), state)

    def handle_cast(self, request, state):
        raise Exit(request)

    def terminate(self, reason, state):
        if state == "raise":
            raise Exit("in_term")


def line_of(function, offset):
    return f"{__file__}:{function.__code__.co_firstlineno + offset}: {function.__qualname__}"


def test_the_report_of_an_exit_in_a_callback_shows_where_it_was_raised(machine, caplog):
    async def main():
        pid = await Leaving.start(1)
        GenServer.cast(pid, "via_exit")
        await flush()
        quiet = await Leaving.start(1)
        GenServer.cast(quiet, ("shutdown", "x"))
        await flush()
        broken = await Leaving.start("raise")
        reason = await exit_of(GenServer.stop(broken))
        assert reason == ("in_term", ("GenServer", "stop", [broken, "normal", None]))

    machine.run(main)
    first, second = reports_of(caplog)
    assert first.splitlines()[1:] == [
        '** (stop) "via_exit"',
        f"    {line_of(Leaving.handle_cast, 1)}",
        'Last message: ("$gen_cast", "via_exit")',
        "State: 1",
    ]
    assert second.splitlines()[1:] == [
        '** (stop) "in_term"',
        f"    {line_of(Leaving.terminate, 2)}",
        "Last message: []",
        'State: "raise"',
    ]


def test_a_server_that_ends_because_another_did_is_reported_with_all_of_the_story(machine, caplog):
    async def main():
        inner = await Adder.start(7)
        outer = await Leaving.start(1)
        with pytest.raises(Exit) as end:
            await GenServer.call(outer, inner)
        return inner, outer, str(end.value)

    inner, outer, text = machine.run(main)
    cause = f"attempted to call GenServer {inner!r} but no handle_call/3 clause was provided"
    story = [
        f'exited in: GenServer.call({inner!r}, "x", 5.0)',
        "    ** (EXIT) an exception was raised:",
        f"        ** (RuntimeError) {cause}",
    ]
    of_inner, of_outer = reports_of(caplog)
    assert of_inner.splitlines()[:2] == [f"GenServer {inner!r} terminating", f"** (RuntimeError) {cause}"]
    lines = of_outer.splitlines()
    assert lines[:4] == [f"GenServer {outer!r} terminating", f"** (stop) {story[0]}", *story[1:]]
    assert lines[4] == f"    {line_of(Leaving.handle_call, 1)}"
    assert lines[5].startswith("Last message (from ")
    assert text.splitlines() == [
        f"exited in: GenServer.call({outer!r}, {inner!r}, 5.0)",
        f"    ** (EXIT) {story[0]}",
        *("    " + line for line in story[1:]),
    ]


# ---- the tutorial's crash, golden/03_supervisor.txt ----------------------------------------------------------------


def factorial(n):
    return 1 if n == 0 else n * factorial(n - 1)


class CoolerFactorialServer(GenServer):
    def init(self, arg):
        return Ok({"count": 0})

    def handle_call(self, request, caller, state):
        match request:
            case ("factorial", number):
                return Reply((factorial(number), state["count"]), {**state, "count": state["count"] + 1})


def test_the_crash_of_the_tutorial_is_logged_as_on_the_beam(machine, caplog):
    async def main():
        process.flag(trap_exit=True)
        pid = await CoolerFactorialServer.start_link(None, name="1")
        assert await GenServer.call("1", ("factorial", 5)) == (120, 0)
        with pytest.raises(Exit) as end:
            await GenServer.call("1", ("factorial", "hello"))
        await receive(("EXIT", pid, ...))
        return self_(), str(end.value)

    client, text = machine.run(main)
    called = CoolerFactorialServer.handle_call.__code__.co_firstlineno + 3
    crash = [
        "** (TypeError) unsupported operand type(s) for -: 'str' and 'int'",
        f"    {__file__}:{factorial.__code__.co_firstlineno + 1}: factorial",
        f"    {__file__}:{called}: CoolerFactorialServer.handle_call",
    ]
    [report] = reports_of(caplog)
    lines = report.splitlines()
    assert lines[:8] == [
        'GenServer "1" terminating',
        *crash,
        f'Last message (from {client!r}): ("factorial", "hello")',
        'State: {"count": 1}',
        f"Client {client!r} is alive",
        "",
    ]
    assert [line.split(": ")[-1] for line in lines[8:]] == [main_name := f"{main_of()}.<locals>.main"]
    assert main_name in lines[8]
    assert text.splitlines() == [
        'exited in: GenServer.call("1", ("factorial", "hello"), 5.0)',
        "    ** (EXIT) an exception was raised:",
        *("        " + line for line in crash),
    ]


def main_of():
    return test_the_crash_of_the_tutorial_is_logged_as_on_the_beam.__qualname__


def test_the_report_of_a_crash_names_a_client_by_its_name_and_says_if_it_is_dead(machine, caplog):
    async def main():
        async def client():
            process.register(self_(), "boss")
            await GenServer.call(pid, "x")

        pid = await Waiting.start(0)
        spawn(client)
        await sleep(0.5)
        process.exit(process.whereis("boss"), "kill")
        await sleep(1)

    machine.run(main)
    [report] = reports_of(caplog)
    assert "State: 0" in report
    assert report.splitlines()[-1].startswith("Client #PID<")
    assert report.splitlines()[-1].endswith("> is dead")


class Waiting(GenServer):
    async def handle_call(self, request, caller, state):
        await sleep(1)
        raise ValueError("too late")


def test_the_report_of_a_crash_names_a_living_client_by_its_name(machine, caplog):
    async def main():
        process.register(self_(), "boss")
        pid = await Careless.start(0)
        await exit_of(GenServer.call(pid, "q"))

    machine.run(main)
    [report] = reports_of(caplog)
    assert 'Last message (from "boss"): "q"' in report.splitlines()
    assert 'Client "boss" is alive' in report.splitlines()


def test_the_client_of_an_earlier_call_is_not_blamed(machine, caplog):
    class Later(GenServer):
        def handle_call(self, request, caller, state):
            return NoReply(caller)

        def handle_cast(self, request, state):
            GenServer.reply(state, "now")
            raise ValueError("after the answer")

    async def main():
        pid = await Later.start(0)

        async def client():
            await GenServer.call(pid, "x")

        spawn(client)
        await sleep(0.1)
        GenServer.cast(pid, "go")
        await flush()

    machine.run(main)
    [report] = reports_of(caplog)
    assert "Last message: (" in report
    assert "Client" not in report


def test_the_reason_of_a_failing_terminate_is_the_one_that_counts(machine, caplog):
    class Broken(GenServer):
        def handle_cast(self, request, state):
            return Stop("normal", state)

        def terminate(self, reason, state):
            raise RuntimeError("in terminate")

    async def main():
        process.flag(trap_exit=True)
        pid = await Broken.start_link(3)
        GenServer.cast(pid, "x")
        [message] = await flush()
        assert plain(message) == ("EXIT", (RuntimeError, "in terminate"))

    machine.run(main)
    [report] = reports_of(caplog)
    assert report.splitlines()[1] == "** (RuntimeError) in terminate"


# ---- reasons for people ---------------------------------------------------------------------------------------------


NO_PROCESS = (
    "no process: the process is not alive or there's no process currently associated with the given name, possibly "
    "because its application isn't started"
)


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("normal", "normal"),
        ("noproc", NO_PROCESS),
        ("killed", "killed"),
        ("shutdown", "shutdown"),
        (("shutdown", "x"), 'shutdown: "x"'),
        ("noconnection", "no connection"),
        ("timeout", "time out"),
        ("calling_self", "process attempted to call itself"),
        (("already_started", Pid("nonode@nohost", 96, 0, 1)), "already started: #PID<0.96.0>"),
        ("boom", '"boom"'),
        (("bad_return_value", 1), "bad return value: 1"),
        (("nodedown", "a@b"), "no connection to a@b"),
    ],
)
def test_g42_reasons_for_people(reason, text):
    """g42_format_exit.exs"""
    assert format_exit(reason) == text
    assert str(Exit(reason)) == text
