"""Section 3 of the table, second part: how servers start, fail to start, stop and crash, and what is logged of it."""

import pytest

from otplib import (
    Exit,
    ExitMessage,
    GenServer,
    Global,
    Ignore,
    NoReply,
    Ok,
    Raised,
    Reply,
    StartError,
    Stop,
    process,
    receive,
    self_,
    send,
    sleep,
    spawn,
    system,
)
from otplib.testing import deterministic
from tests.conformance.servers import call_of, dead, down, exit_of, flush, idle, outcome_of, reports_of


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


def plain(term):
    """A reason without its trace: an exception stands as its kind and its text."""
    if isinstance(term, Raised):
        return (type(term.exception), str(term.exception))
    if type(term) is ExitMessage:
        return (term.tag, plain(term.reason))
    return tuple(plain(one) for one in term) if type(term) is tuple else term


class Ending(GenServer):
    """Ends as it is told, and tells the test in `terminate`."""

    def init(self, arg):
        test, trap = arg
        process.flag(trap_exit=trap)
        return Ok(test)

    def handle_call(self, request, caller, state):
        raise Exit(request)

    def handle_cast(self, request, state):
        match request:
            case "stop":
                return Stop("normal", state)
            case "raise":
                raise RuntimeError("x")
            case "exit":
                raise Exit("via_exit")

    def handle_info(self, message, state):
        send(state, ("info", message))
        return NoReply(state)

    def terminate(self, reason, state):
        send(state, ("terminate", plain(reason)))


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


# ---- starting ------------------------------------------------------------------------------------------------------


class Choosing(GenServer):
    """Starts as its argument, a function, says."""

    async def init(self, choose):
        outcome = choose()
        return await outcome if hasattr(outcome, "__await__") else outcome


def raise_x():
    raise RuntimeError("x")


def exit_why():
    raise Exit("why")


def test_g14_init_may_choose_not_to_start(machine):
    """g14_init_ignore.exs"""

    async def main():
        process.flag(trap_exit=True)
        assert await Choosing.start_link(Ignore, name="nm") is None
        assert process.whereis("nm") is None
        [message] = await flush()
        assert (message.tag, message.reason) == ("EXIT", "normal")

    machine.run(main)


async def try_start(reason):
    try:
        await Choosing.start_link(lambda: Stop(reason))
    except StartError as error:
        assert error.reason == reason
    await idle()


def test_g15_a_refusing_init_kills_a_linked_caller_that_does_not_trap(machine):
    """g15_init_stop.exs"""

    async def main():
        assert await down(try_start, "boom", timeout=0.2) == "boom"
        assert await down(try_start, "normal", timeout=0.2) == "still_alive"
        with pytest.raises(StartError) as refused:
            await Choosing.start(lambda: Stop("boom"))
        assert refused.value.reason == "boom"
        assert await flush() == []
        process.flag(trap_exit=True)
        with pytest.raises(StartError) as refused:
            await Choosing.start_link(lambda: Stop("boom"))
        assert refused.value.reason == "boom"
        [message] = await flush()
        assert (message.tag, message.reason) == ("EXIT", "boom")

    machine.run(main)


@pytest.mark.parametrize(
    ("choose", "reason"),
    [
        (raise_x, (RuntimeError, "x")),
        (exit_why, "why"),
        (lambda: "bad", ("bad_return_value", "bad")),
    ],
)
def test_g16_an_init_that_fails(machine, caplog, choose, reason):
    """g16_init_raise.exs"""

    async def main():
        process.flag(trap_exit=True)
        with pytest.raises(StartError) as refused:
            await Choosing.start_link(choose, name="nm")
        assert plain(refused.value.reason) == reason
        assert process.whereis("nm") is None
        [message] = await flush()
        assert plain(message) == ("EXIT", reason)

    machine.run(main)
    assert reports_of(caplog) == [], "whoever starts it is told; nobody else is"


async def ready_after(seconds):
    await sleep(seconds)
    return Ok(seconds)


def test_g17_start_link_waits_for_init_but_not_longer_than_told(machine):
    """g17_start_blocks.exs"""

    async def main():
        process.flag(trap_exit=True)
        started = machine.now()
        await Choosing.start_link(lambda: ready_after(0.1))
        assert machine.now() - started >= 0.1
        before = process.list()
        with pytest.raises(StartError) as late:
            await Choosing.start_link(lambda: ready_after(0.5), timeout=0.05)
        assert late.value.reason == "timeout"
        assert await flush() == []
        assert process.list() == before

    machine.run(main)


def test_g18_a_name_that_is_taken(machine):
    """g18_already_started.exs"""

    async def main():
        me = self_()

        def tell(number):
            send(me, ("init", number))
            return Ok(number)

        pid = await Choosing.start_link(lambda: tell(1), name="nm")
        assert await flush() == [("init", 1)]
        with pytest.raises(StartError) as refused:
            await Choosing.start_link(lambda: tell(2), name="nm")
        assert refused.value.reason == ("already_started", pid)
        assert str(refused.value) == f"already started: {pid!r}"
        assert await flush() == []

    machine.run(main)


def test_of_many_that_start_under_one_name_one_does(machine):
    async def main():
        me = self_()

        async def starter():
            try:
                send(me, ("started", await Ending.start((me, False), name="nm")))
            except StartError as error:
                send(me, error.reason)

        for _ in range(10):
            spawn(starter)
        answers = await flush()
        pid = process.whereis("nm")
        assert sorted(tag for tag, _ in answers) == ["already_started"] * 9 + ["started"]
        assert {found for _, found in answers} == {pid}

    machine.run(main)


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


def test_g22_stop_with_another_reason_is_reported(machine, caplog):
    """g22_stop.exs"""

    async def main():
        pid = await Choosing.start(lambda: Ok(0))
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


class Careless(GenServer):
    def handle_call(self, request, caller, state):
        return "oops" if request == "q" else Reply(request - 1, state)


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
    crash = [
        "** (TypeError) unsupported operand type(s) for -: 'str' and 'int'",
        f"    {__file__}:{factorial.__code__.co_firstlineno + 1}: factorial",
        f"    {__file__}:{CoolerFactorialServer.handle_call.__code__.co_firstlineno + 3}: "
        "CoolerFactorialServer.handle_call",
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


def test_a_server_may_be_stopped_by_the_system_verb(machine):
    async def main():
        pid = await Ending.start((self_(), False))
        await system.terminate(pid, "shutdown")
        assert await flush() == [("terminate", "shutdown")]

    machine.run(main)
