"""Telemetry of servers: who is told of which callback, and that nothing else changes."""

import pytest

from otplib import (
    Continue,
    Exit,
    GenServer,
    Machine,
    NoReply,
    Ok,
    Raised,
    Reply,
    StartError,
    Stop,
    Supervisor,
    process,
    receive,
    run,
    self_,
    send,
    sleep,
    system,
)
from otplib.behaviours import telemetry
from otplib.behaviours.telemetry import CALLBACKS, attach, attached, detach
from otplib.testing import deterministic
from tests.behaviours.served import exit_of, kind_of, reports_of


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


@pytest.fixture
def heard(machine):
    events = []
    attach("test", events.append)
    return events


def short(events):
    return [(event.kind, event.callback, event.message, event.duration) for event in events]


class Working(GenServer):
    """Sleeps as many seconds as it is asked to."""

    async def init(self, seconds):
        await sleep(seconds)
        return Ok("state", then=Continue("go on"))

    async def handle_continue(self, arg, state):
        return NoReply(state)

    async def handle_call(self, seconds, caller, state):
        await sleep(seconds)
        return Reply(seconds, state)

    def handle_cast(self, request, state):
        if request == "stop":
            return Stop("normal", state)
        raise ValueError(request)

    def handle_info(self, message, state):
        raise Exit(message)


def test_each_callback_is_told_of_before_and_after_with_the_seconds_it_took(machine, heard):
    async def main():
        pid = await Working.start(1.5, name="working")
        assert await GenServer.call(pid, 0.25) == 0.25
        GenServer.cast(pid, "stop")
        await sleep(1)
        return pid

    pid = machine.run(main)
    assert short(heard) == [
        ("start", "init", 1.5, None),
        ("stop", "init", 1.5, 1.5),
        ("start", "handle_continue", "go on", None),
        ("stop", "handle_continue", "go on", 0.0),
        ("start", "handle_call", 0.25, None),
        ("stop", "handle_call", 0.25, 0.25),
        ("start", "handle_cast", "stop", None),
        ("stop", "handle_cast", "stop", 0.0),
        ("start", "terminate", "normal", None),
        ("stop", "terminate", "normal", 0.0),
    ]
    assert {(event.server, event.pid, event.name) for event in heard} == {(Working, pid, "working")}
    assert heard[5].outcome == Reply(0.25, "state")
    assert heard[7].outcome == Stop("normal", "state")


def test_a_callback_that_raises_gives_an_exception_event_and_the_server_ends_as_it_would_have(machine, heard, caplog):
    async def main():
        pid = await Working.start(0)
        ref = process.monitor(pid)
        GenServer.cast(pid, "boom")
        return (await receive(("DOWN", ref, ..., ..., ...))).reason

    reason = machine.run(main)
    assert kind_of(reason) is ValueError
    [event] = [one for one in heard if one.kind == "exception"]
    assert (event.callback, event.message, event.duration) == ("handle_cast", "boom", 0.0)
    assert isinstance(event.error, ValueError)
    assert [one.callback for one in heard[-4:]] == ["terminate", "terminate", "format_status", "format_status"]
    assert [entry.function for entry in reason.stacktrace] == ["Working.handle_cast"]


def test_the_report_of_a_crash_is_the_same_with_and_without_a_listener(machine, caplog):
    async def crash():
        pid = await Working.start(0, name="crashing")
        ref = process.monitor(pid)
        GenServer.cast(pid, "boom")
        await receive(("DOWN", ref, ..., ..., ...))

    machine.run(crash)
    attach("test", lambda event: None)
    machine.run(crash)
    plain, measured = reports_of(caplog)
    assert plain == measured


def test_an_exit_is_an_exception_event_too(machine, heard):
    async def main():
        pid = await Working.start(0)
        send(pid, "shutdown")
        await sleep(1)

    machine.run(main)
    [event] = [one for one in heard if one.kind == "exception"]
    assert (event.callback, type(event.error), event.error.reason) == ("handle_info", Exit, "shutdown")


def test_an_init_that_fails_gives_an_exception_event_and_a_start_error(machine, heard):
    async def main():
        class Broken(GenServer):
            def init(self, arg):
                raise RuntimeError("no")

        with pytest.raises(StartError) as refused:
            await Broken.start(None)
        return refused.value.reason

    reason = machine.run(main)
    assert isinstance(reason, Raised)
    assert [(one.kind, one.callback) for one in heard] == [("start", "init"), ("exception", "init")]


def test_a_server_that_is_killed_in_a_callback_gives_an_exception_event(machine, heard):
    async def main():
        pid = await Working.start(0)
        asked = GenServer.send_request(pid, 3600)
        await sleep(2)
        process.exit(pid, "kill")
        assert await exit_of(GenServer.wait_response(asked)) == ("killed", pid)

    machine.run(main)
    assert [(one.kind, one.callback, one.duration) for one in heard[-2:]] == [
        ("start", "handle_call", None),
        ("exception", "handle_call", 2.0),
    ]


def test_every_start_is_followed_by_one_end_whatever_happens(machine, heard, caplog):
    async def main():
        for act in (
            lambda pid: GenServer.cast(pid, "boom"),
            lambda pid: GenServer.cast(pid, "stop"),
            lambda pid: send(pid, "reason"),
            lambda pid: process.exit(pid, "kill"),
        ):
            pid = await Working.start(0.5)
            asked = GenServer.send_request(pid, 0.1)
            act(pid)
            await exit_of_or_answer(asked)
            await sleep(1)

    async def exit_of_or_answer(asked):
        try:
            await GenServer.wait_response(asked)
        except Exit:
            pass

    machine.run(main)
    open_ones = {}
    for event in heard:
        key = (event.pid, event.callback)
        if event.kind == "start":
            assert key not in open_ones
            open_ones[key] = event
        else:
            del open_ones[key]
    assert open_ones == {}
    assert len(heard) >= 24


def test_a_living_server_is_heard_from_the_next_message_on_and_no_more_once_it_is_detached(machine):
    events = []

    async def main():
        pid = await Working.start(0)
        await GenServer.call(pid, 1)
        attach("late", events.append)
        await GenServer.call(pid, 2)
        assert attached() == ["late"]
        assert detach("late") is True
        await GenServer.call(pid, 3)
        assert detach("late") is False
        assert attached() == []

    machine.run(main)
    assert [event.message for event in events] == [2, 2]


def test_a_handler_hears_only_the_classes_and_callbacks_it_asked_for(machine):
    class Other(Working):
        pass

    calls, others = [], []

    async def main():
        attach("calls", calls.append, callbacks=["handle_call"])
        attach("others", others.append, server=Other)
        for cls in (Working, Other):
            pid = await cls.start(0)
            await GenServer.call(pid, 1)

    machine.run(main)
    assert [(event.server, event.kind) for event in calls] == [
        (Working, "start"),
        (Working, "stop"),
        (Other, "start"),
        (Other, "stop"),
    ]
    assert {event.server for event in others} == {Other}
    assert [event.callback for event in others if event.kind == "start"] == ["init", "handle_continue", "handle_call"]


def test_handlers_are_called_in_the_order_in_which_they_were_attached_and_in_the_servers_own_process(machine):
    order = []

    async def main():
        attach("one", lambda event: order.append(("one", self_())), callbacks="handle_call")
        attach("two", lambda event: order.append(("two", self_())), callbacks="handle_call")
        pid = await Working.start(0)
        await GenServer.call(pid, 0)
        return pid

    pid = machine.run(main)
    assert order == [("one", pid), ("two", pid), ("one", pid), ("two", pid)]


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), Exit("oops")])
def test_a_handler_that_raises_is_detached_with_a_report_and_the_server_goes_on(machine, caplog, error):
    def broken(event):
        raise error

    good = []

    async def main():
        pid = await Working.start(0)
        attach("broken", broken)
        attach("good", good.append)
        assert await GenServer.call(pid, 1) == 1
        assert attached() == ["good"]

    machine.run(main)
    assert len(good) == 2
    [report] = reports_of(caplog)
    assert report.startswith(f'telemetry handler "broken" raised {type(error).__name__}')
    assert report.endswith(", and has been detached")


def test_state_code_and_status_are_reached_through_measured_callbacks_as_well(machine, heard):
    async def main():
        pid = await Working.start(0)
        assert await system.get_state(pid) == "state"
        assert (await system.get_status(pid))["state"] == "state"
        await system.suspend(pid)
        await system.change_code(pid, "1.0")
        await system.resume(pid)

    machine.run(main)
    told = [event.callback for event in heard if event.kind == "stop"]
    assert told == [
        "init",
        "handle_continue",
        "format_status",
        "format_status",
        "code_change",
    ]  # it asks for the status


def test_supervisors_are_heard_of_too(machine, heard):
    async def main():
        supervisor = await Supervisor.start_link([(Working, 0)], strategy="one_for_one")
        await Supervisor.count_children(supervisor)
        await Supervisor.stop(supervisor)

    machine.run(main)
    assert {event.server.__name__ for event in heard} == {"SupervisorServer", "Working"}


def test_two_machines_have_handlers_of_their_own():
    events = []
    with Machine() as first:
        attach("mine", events.append)

        async def main():
            pid = await Working.start(0)
            return await GenServer.call(pid, 0)

        with Machine():
            assert attached() == []
            run(main, timeout=60)
            assert events == []
        assert telemetry.telemetry_of(first).handlers
        run(main, timeout=60)
    assert len(events) == 6


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        (("id", "no function"), {}, TypeError, r"plain function that takes one event.*'no function'"),
        (("id", exit_of), {}, TypeError, "a handler cannot wait"),
        (("id", print), {"server": Working.__new__(Working)}, TypeError, "server to be a class"),
        (("id", print), {"callbacks": ["handle_calls"]}, ValueError, "no callback 'handle_calls': there are init"),
        (("id", print), {"callbacks": []}, ValueError, "no callbacks given"),
        (("taken", print), {}, ValueError, r"'taken' is attached already: detach\('taken'\) first"),
    ],
)
def test_what_is_no_handler_is_refused_when_it_is_attached(machine, arguments, options, error, text):
    attach("taken", print)
    with pytest.raises(error, match=text):
        attach(*arguments, **options)
    assert attached() == ["taken"]


def test_every_callback_of_the_contract_is_measured():
    documented = {name for name in vars(GenServer) if name.startswith("handle_")}
    assert documented | {"init", "terminate", "code_change", "format_status"} == set(CALLBACKS)
