"""Whatever is wrong is refused with what was expected, what came and what to write; and the system stays whole."""

from __future__ import annotations

import asyncio
import io
import threading

import pytest

from otplib import (
    CopyError,
    GenServer,
    Global,
    Machine,
    MachineError,
    NameTakenError,
    NoSuchNameError,
    Ok,
    Reply,
    Via,
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
from otplib.vm.shell import current_shell

DEADLINE = 30.0


def refused(kind, wants, call, *, alone=True):
    """Check the refusal in a process and in a shell: the type, every part of the text, and that nothing has changed."""

    async def main():
        before = snapshot()
        with pytest.raises(kind) as caught:
            await in_either_colour(call)
        assert type(caught.value) is kind
        for want in wants:
            assert want in str(caught.value), str(caught.value)
        assert snapshot() == before
        return "done"

    with deterministic() as machine:
        assert machine.run(main) == "done"
        if alone:
            current_shell()
            assert process.drive(main()) == "done"
        assert machine.run(lambda: "whole") == "whole"


async def in_either_colour(call):
    outcome = call()
    return await outcome if hasattr(outcome, "__await__") else outcome


def snapshot():
    machine = current_machine()
    me = machine.table[self_().id]
    return (
        sorted(machine.table),
        sorted(machine.names),
        len(machine.aliases),
        len(machine.timers),
        dict(me.links or {}),
        dict(me.monitors or {}),
        me.mailbox.count() if me.mailbox else 0,
        me.trapping,
        me.priority,
        me.limit,
    )


def current_machine():
    from otplib.vm.shell import current_machine

    return current_machine()


# ---- destinations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dest", [None, 5, 1.5, b"name", [], (), ("a",), ("a", "b", "c"), ("a", 1), object(), self_])
@pytest.mark.parametrize("verb", [send, lambda dest, message: process.send_after(dest, message, 1)])
def test_a_wrong_destination_is_refused(dest, verb):
    refused(TypeError, ["expected", "(name, node)", "destination", repr(dest)], lambda: verb(dest, "hello"))


def test_a_name_that_nobody_has_is_refused():
    refused(NoSuchNameError, ["send to 'nobody'", "no process has registered this name"], lambda: send("nobody", 1))
    refused(NoSuchNameError, ["Global", "no process"], lambda: send(Global("nobody"), 1))


def test_a_via_with_something_that_is_no_registry_is_refused():
    refused(TypeError, ["expected Via(registry, key)", "whereis_name", "'not one'"], lambda: send(Via("not one", 1), 1))


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        (process.link, "process.link"),
        (process.unlink, "process.unlink"),
        (lambda pid: process.exit(pid, "kill"), "process.exit"),
        (process.alive, "process.alive"),
        (process.info, "process.info"),
        (process.suspend, "process.suspend"),
        (process.resume, "process.resume"),
        (lambda pid: process.register(pid, "name"), "process.register"),
        (process.group_leader, None),
    ],
)
@pytest.mark.parametrize("value", ["a name", 5, ("a", "b")])
def test_what_is_no_pid_is_refused_by_every_verb_that_takes_one(verb, name, value):
    hint = ["process.whereis(name)"] if isinstance(value, str) else []
    refused(TypeError, ["takes a pid", repr(value), *([name] if name else []), *hint], lambda: verb(value))


@pytest.mark.parametrize("target", [None, 5, "", ("a",), ("a", 5)])
def test_a_wrong_target_of_a_monitor_is_refused(target):
    refused(
        TypeError,
        ["process.monitor takes a pid, a name or (name, node)", repr(target)],
        lambda: process.monitor(target),
    )


@pytest.mark.parametrize("verb", [process.demonitor, process.cancel_timer, process.read_timer])
@pytest.mark.parametrize("ref", [None, 5, "ref"])
def test_what_is_no_reference_is_refused(verb, ref):
    refused(TypeError, ["reference", repr(ref)], lambda: verb(ref))


async def async_predicate(message):
    return True


def holds_itself():
    pattern = []
    pattern.append(pattern)
    return pattern


# ---- patterns and time-outs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern", [list[int], ("a", list[int]), lambda: True, lambda a, b: True, async_predicate, holds_itself()]
)
def test_a_wrong_pattern_is_refused_at_once_and_the_mailbox_stays(pattern):
    async def main():
        send(self_(), "kept")
        with pytest.raises(TypeError, match=r"expected a pattern, got .*;"):
            await receive(pattern, timeout=0)
        return await receive(timeout=0)

    with deterministic() as machine:
        assert machine.run(main) == "kept"


@pytest.mark.parametrize("timeout", ["5", [1], True, 1 + 2j, object()])
def test_a_timeout_that_is_no_number_is_refused_by_every_verb_that_waits(timeout):
    wants = ["expected a timeout in seconds", repr(timeout)]
    refused(TypeError, wants, lambda: receive(timeout=timeout))
    refused(TypeError, wants, lambda: receive("x", timeout=timeout))
    refused(TypeError, wants, lambda: sleep(timeout))
    refused(TypeError, wants, lambda: process.send_after(self_(), 1, timeout))
    with Machine(), pytest.raises(TypeError, match="expected a timeout in seconds"):
        run(lambda: None, timeout=timeout)


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), float("-inf")])
def test_a_timeout_below_zero_or_no_number_is_refused(timeout):
    wants = ["expected a timeout of 0 or more seconds", repr(timeout)]
    refused(ValueError, wants, lambda: receive(timeout=timeout))
    refused(ValueError, wants, lambda: sleep(timeout))
    refused(ValueError, wants, lambda: process.send_after(self_(), 1, timeout))


def test_sleeping_for_none_is_refused_and_says_how_to_sleep_for_ever():
    refused(TypeError, ["expected seconds to sleep, got None", "sleep(float('inf'))"], lambda: sleep(None))


def test_a_wrong_timeout_of_a_call_is_refused_before_anything_is_sent():
    class Server(GenServer):
        def init(self, arg):
            return Ok(0)

        def handle_call(self, request, caller, state):
            return Reply(state, state + 1)

    async def main():
        server = await Server.start(None)
        for timeout in ("5", True, -1):
            with pytest.raises((TypeError, ValueError), match="timeout"):
                await GenServer.call(server, "count", timeout=timeout)
        return await GenServer.call(server, "count")

    with deterministic() as machine:
        assert machine.run(main) == 0
        assert len(machine.aliases) == 0


# ---- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, 5, ("a", "b"), b"name"])
def test_a_wrong_name_is_refused(name):
    wants = ["a name is a str, Global(term) or Via(registry, key)", repr(name), 'write name="worker"']
    refused(TypeError, wants, lambda: process.register(self_(), name))
    refused(TypeError, wants, lambda: process.whereis(name))
    refused(TypeError, wants, lambda: process.unregister(name))


@pytest.mark.parametrize("name", ["", "nil", "undefined", "true", "false"])
def test_a_reserved_name_is_refused(name):
    refused(ValueError, [repr(name), "reserved", "take another"], lambda: process.register(self_(), name))


def test_a_taken_name_names_its_holder_and_a_second_name_the_first():
    async def main():
        holder = spawn(receive)
        process.register(holder, "taken")
        with pytest.raises(NameTakenError) as caught:
            process.register(self_(), "taken")
        assert f"the name is taken by {holder!r}" in str(caught.value)
        with pytest.raises(NameTakenError, match="it already has the name 'taken'"):
            process.register(holder, "second")
        return process.registered()

    with deterministic() as machine:
        assert machine.run(main) == ["taken"]


# ---- what cannot be spawned or run ---------------------------------------------------------------------------------


async def worker():
    pass


def generator():
    yield


async def async_generator():
    yield


def hand_over_a_call(verb):
    return verb(worker())


@pytest.mark.parametrize("verb", [spawn, spawn_link, spawn_monitor, run])
@pytest.mark.parametrize(
    ("make", "wants"),
    [
        (worker, ["takes the function itself, not a call of it", "spawn(worker, ...)", "spawn(worker(...))"]),
        (generator, ["got a generator", "`async def`", "`await`"]),
        (async_generator, ["got a generator", "`async def`"]),
        (lambda: generator, ["generator is a generator function", "`async def`", "`yield`"]),
        (lambda: async_generator, ["async_generator is a generator function"]),
        (lambda: None, ["expected a function to run as a process", "spawn(fn, arg)", "None"]),
        (lambda: "worker", ["expected a function to run as a process", "'worker'"]),
        (lambda: 5, ["expected a function", "5"]),
    ],
)
def test_what_cannot_run_as_a_process_is_refused_without_a_warning(verb, make, wants, recwarn):
    with Machine() as machine:
        self_()
        size = len(machine.table)
        with pytest.raises(TypeError) as caught:
            verb(make())
        for want in wants:
            assert want in str(caught.value)
        assert len(machine.table) == size
        assert machine.scheduler.role is None  # nothing was started for it
    assert not recwarn.list


def test_a_generator_function_behind_a_partial_is_refused_too():
    import functools

    refused(TypeError, ["generator function"], lambda: spawn(functools.partial(generator)), alone=False)


# ---- waiting where nothing can wait --------------------------------------------------------------------------------


def test_run_in_a_process_is_refused_and_says_what_to_write():
    refused(
        MachineError,
        ["run(...) blocks its thread", "this is a process", "`await worker(...)`"],
        lambda: run(worker),
        alone=False,
    )


def test_drive_in_a_process_is_refused_and_leaves_no_coroutine_behind(recwarn):
    async def main():
        waiting = receive()
        with pytest.raises(MachineError, match="blocks its thread, and this is a process: write `await"):
            process.drive(waiting)
        waiting.close()

    with deterministic() as machine:
        machine.run(main)


def test_drive_on_the_thread_of_a_running_loop_is_refused():
    async def main():
        waiting = receive()
        with pytest.raises(MachineError, match="an asyncio loop runs on it: write `await"):
            process.drive(waiting)
        waiting.close()

    with Machine():
        asyncio.run(main())


def test_awaiting_a_verb_where_no_machine_can_run_it_says_how():
    """Driven by hand: neither a process nor a task of a loop is there."""
    with Machine():
        waiting = receive()
        with pytest.raises(MachineError) as caught:
            waiting.send(None)
        waiting.close()
        assert "process.drive(" in str(caught.value)
        assert run(lambda: "whole", timeout=DEADLINE) == "whole"


def test_awaiting_something_of_asyncio_in_a_process_is_refused_and_the_process_may_go_on():
    async def main():
        loop = asyncio.new_event_loop()
        try:
            with pytest.raises(TypeError) as caught:
                await loop.create_future()
        finally:
            loop.close()
        assert "process.from_asyncio" in str(caught.value)
        assert "process.blocking" in str(caught.value)
        return "went on"

    with deterministic() as machine:
        assert machine.run(main) == "went on"


@pytest.mark.parametrize("value", [None, 5, "x", lambda: None])
def test_from_asyncio_of_what_cannot_be_awaited_is_refused(value):
    refused(TypeError, ["expected an awaitable", "from_asyncio(client.get(url))"], lambda: process.from_asyncio(value))


@pytest.mark.parametrize("value", [None, 5, "x"])
def test_blocking_of_what_cannot_be_called_is_refused(value):
    refused(TypeError, ["expected a function to call on a thread", repr(value)], lambda: process.blocking(value))


# ---- messages that cannot be copied --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda: threading.Lock(), "lock"),
        (lambda: {"deep": [1, (2, threading.Lock())]}, "deep"),
        (lambda: generator(), "generator"),
        (lambda: io.TextIOWrapper(io.BytesIO()), "TextIOWrapper"),
    ],
)
def test_a_message_that_cannot_be_copied_is_refused_in_the_sender(make, place):
    thing = make()
    for call in (
        lambda: send(self_(), ("job", thing)),
        lambda: process.send_after(self_(), ("job", thing), 1),
        lambda: spawn(print, thing),
        lambda: spawn(print, file=thing),
        lambda: process.exit(self_(), ("why", thing)),
        lambda: GenServer.cast(self_(), thing),
    ):
        refused(CopyError, [place], call)


def test_a_call_whose_request_cannot_be_copied_leaves_no_monitor_and_no_alias():
    class Server(GenServer):
        def init(self, arg):
            return Ok(arg)

        def handle_call(self, request, caller, state):
            return Reply("fine", state)

    async def main():
        server = await Server.start(None)
        with pytest.raises(CopyError):
            await GenServer.call(server, threading.Lock())
        return await GenServer.call(server, "ask"), process.info(server, "monitored_by")

    with deterministic() as machine:
        assert machine.run(main) == ("fine", [])
        assert len(machine.aliases) == 0


# ---- flags and options ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "kind", "wants"),
    [
        ({}, TypeError, ["process.flag(trap_exit=True)"]),
        ({"trap_exit": 1}, TypeError, ["trap_exit takes True or False", "1"]),
        ({"priority": "urgent"}, ValueError, ["low, normal, high, max", "'urgent'"]),
        ({"max_mailbox": "many"}, TypeError, ["max_mailbox takes a number of messages or None", "'many'"]),
        ({"max_mailbox": -1}, TypeError, ["max_mailbox", "-1"]),
        ({"max_mailbox": True}, TypeError, ["max_mailbox", "True"]),
        ({"trap_exits": True}, TypeError, ["no process flag 'trap_exits'", "trap_exit, priority and max_mailbox"]),
        ({"trap_exit": True, "priority": "urgent"}, ValueError, ["'urgent'"]),  # nothing is set by half
    ],
)
def test_wrong_flags_are_refused(flags, kind, wants):
    refused(kind, wants, lambda: process.flag(**flags))


def test_an_unknown_item_of_info_is_refused_and_the_known_ones_are_listed():
    refused(ValueError, ["'link'", "links", "message_queue_len"], lambda: process.info(self_(), "link"))


@pytest.mark.parametrize("text", ["", "0.1.2", "<0.1>", "<a.b.c>", "pid"])
def test_the_text_of_no_pid_is_refused(text):
    refused(ValueError, [repr(text)], lambda: process.pid(text))


def test_suspending_oneself_and_resuming_the_unsuspended_are_refused():
    refused(ValueError, ["cannot suspend", "oneself"], lambda: process.suspend(self_()))
    refused(ValueError, ["cannot resume", "has not suspended it"], lambda: process.resume(self_()))


def test_hibernating_with_what_cannot_run_is_refused():
    refused(TypeError, ["expected a function"], lambda: process.hibernate(5))
