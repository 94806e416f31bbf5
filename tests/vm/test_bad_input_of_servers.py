"""What is wrong with a server or a supervisor is told to whoever started or called it, and leaves nothing behind."""

from __future__ import annotations

import pytest

from otplib import (
    ChildSpec,
    Exit,
    GenServer,
    NoReply,
    Ok,
    Reply,
    StartError,
    Supervisor,
    process,
    receive,
    self_,
)
from otplib.testing import deterministic

DEADLINE = 30.0


def in_process(main):
    with deterministic() as machine:
        result = machine.run(main)
        assert machine.run(lambda: "whole") == "whole"
        machine.wait_until_idle()
        assert not [record for record in machine.table.values() if record.state.value == "runnable"]
        return result


def test_calling_oneself_is_refused_as_otp_does():
    class Selfish(GenServer):
        def init(self, arg):
            return Ok(arg)

        async def handle_call(self, request, caller, state):
            try:
                await GenServer.call(self_(), "again")
            except Exit as error:
                return Reply((error.reason[0], str(error)), state)

    async def main():
        return await GenServer.call(await Selfish.start(None), "go")

    reason, text = in_process(main)
    assert reason == "calling_self"
    assert "process attempted to call itself" in text


@pytest.mark.parametrize("server", [None, 5, ("a",), object])
def test_a_call_or_cast_to_what_is_no_server_is_refused(server):
    with pytest.raises((TypeError, Exit)):
        in_process(lambda: GenServer.call(server, "x"))
    with pytest.raises(TypeError):
        in_process(lambda: GenServer.cast(server, "x"))


@pytest.mark.parametrize("value", [None, 5, ("reply", 1), {"count": 0}])
def test_a_wrong_return_of_init_is_told_to_whoever_started_the_server(value, caplog):
    class Wrong(GenServer):
        def init(self, arg):
            return value

    async def main():
        before = len(process.list())
        with pytest.raises(StartError) as caught:
            await Wrong.start(None)
        assert caught.value.reason == ("bad_return_value", value)
        assert len(process.list()) == before

    in_process(main)


@pytest.mark.parametrize("value", [None, 5, "ok", ("reply", 1, 2)])
def test_a_wrong_return_of_a_callback_ends_the_server_and_shows_the_value(value, caplog):
    class Wrong(GenServer):
        def init(self, arg):
            return Ok(arg)

        def handle_call(self, request, caller, state):
            return value

    async def main():
        server = await Wrong.start(None)
        with pytest.raises(Exit) as caught:
            await GenServer.call(server, "x")
        assert caught.value.reason[0] == ("bad_return_value", value)
        return process.alive(server)

    assert in_process(main) is False
    assert "bad return value" in caplog.text


@pytest.mark.parametrize(
    ("value", "wants"),
    [
        (Reply("v", "s", timeout="5"), ["expected a timeout in seconds", "'5'"]),
        (Reply("v", "s", timeout=-1), ["expected a timeout of 0 or more seconds", "-1"]),
        (NoReply("s", then="soon"), ["then=", "Continue"]),
    ],
)
def test_a_return_with_wrong_parts_ends_the_server_and_says_which(value, wants, caplog):
    class Wrong(GenServer):
        def init(self, arg):
            return Ok(arg)

        def handle_call(self, request, caller, state):
            return value

    async def main():
        server, ref = await Wrong.start(None), None
        ref = process.monitor(server)
        try:
            await GenServer.call(server, "x")
        except Exit:
            pass
        await receive(("DOWN", ref, ..., ..., ...), timeout=10)

    in_process(main)
    for want in wants:
        assert want in caplog.text


class Child(GenServer):
    def init(self, arg):
        return Ok(arg)


@pytest.mark.parametrize(
    ("children", "options", "wants"),
    [
        ([Child], {"strategy": "one_for_some"}, ['invalid strategy: "one_for_some"', '"one_for_one"']),
        ([Child], {"strategy": "one_for_one", "max_restarts": -1}, ["max_restarts", "-1", "integer >= 0"]),
        ([Child], {"strategy": "one_for_one", "max_seconds": 0}, ["max_seconds", "> 0"]),
        (
            [Child, Child],
            {"strategy": "one_for_one"},
            ["more than one child specification has the id", "Supervisor.child_spec"],
        ),
        (
            [ChildSpec("a", (Child.start_link, (0,)), restart="always")],
            {"strategy": "one_for_one"},
            ['invalid restart type: "always"', '"permanent", "transient" or "temporary"'],
        ),
        (
            [ChildSpec("a", (Child.start_link, (0,)), shutdown=-5)],
            {"strategy": "one_for_one"},
            ["invalid shutdown: -5", '"brutal_kill"'],
        ),
        ([ChildSpec("a", Child.start_link)], {"strategy": "one_for_one"}, ["invalid start", "(callable, args)"]),
    ],
)
def test_a_wrong_supervisor_says_what_is_wrong_and_leaves_nothing(children, options, wants, caplog):
    async def main():
        process.flag(trap_exit=True)
        before = len(process.list())
        with pytest.raises((StartError, ValueError, TypeError)) as caught:
            await Supervisor.start_link(children, **options)
        assert len(process.list()) == before
        return str(caught.value)

    text = in_process(main)
    for want in wants:
        assert want in text, text


@pytest.mark.parametrize("child", [5, "Child", None, object, (Child, 1, 2)])
def test_what_is_no_child_is_refused_with_the_forms_there_are(child):
    async def main():
        process.flag(trap_exit=True)
        before = len(process.list())
        with pytest.raises((StartError, ValueError, TypeError)) as caught:
            await Supervisor.start_link([child], strategy="one_for_one")
        assert len(process.list()) == before
        return str(caught.value)

    text = in_process(main)
    assert "Child" in text or "child" in text
    assert len(text) > 30


@pytest.mark.parametrize("value", [None, 5, Ok([]), [Child]])
def test_a_supervisor_whose_init_returns_something_else_is_refused(value, caplog):
    class Wrong(Supervisor):
        def init(self, arg):
            return value

    async def main():
        process.flag(trap_exit=True)
        with pytest.raises(StartError) as caught:
            await Wrong.start_link(None)
        return str(caught.value)

    assert "Supervise" in in_process(main) or "bad value" in in_process(main)
