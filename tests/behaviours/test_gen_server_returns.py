"""What a callback's return asks for besides the state: a time-out, something to do first, hibernation."""

import pytest

from otplib import (
    Continue,
    GenServer,
    NoReply,
    Ok,
    Reply,
    StartError,
    Stop,
    process,
    receive,
    self_,
    send,
    sleep,
    system,
)
from otplib.testing import deterministic
from tests.behaviours.served import Scripted, flush, kind_of, reports_of, start


@pytest.fixture(params=[1, 2, 3])
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


# ---- time-outs of returns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        lambda pid: GenServer.call(pid, lambda test: Reply("ok", test, timeout=2)),
        lambda pid: sleep(GenServer.cast(pid, lambda test: NoReply(test, timeout=2)) or 0),
    ],
)
def test_a_timeout_in_a_return_comes_if_no_message_does(machine, ask):
    async def main():
        pid = await start()
        await ask(pid)
        since = machine.now()
        assert await receive() == ("info", "timeout")
        assert machine.now() - since == pytest.approx(2)
        assert await flush(10) == [], "it comes once"

    machine.run(main)


def test_init_may_ask_for_a_timeout(machine):
    async def main():
        await start(lambda test: Ok(test, timeout=2.5))
        assert await receive() == ("info", "timeout")
        assert machine.now() == pytest.approx(2.5)

    machine.run(main)


def test_a_message_cancels_the_timeout_of_the_return_before(machine):
    async def main():
        pid = await start(lambda test: Ok(test, timeout=2))
        await sleep(1)
        send(pid, "hello")
        return await flush(10)

    assert machine.run(main) == [("info", "hello")]


def test_a_reply_without_a_timeout_cancels_the_one_before(machine):
    async def main():
        pid = await start(lambda test: Ok(test, timeout=2))
        await GenServer.call(pid, lambda test: Reply("ok", test))
        return await flush(10)

    assert machine.run(main) == []


def test_a_timeout_of_zero_comes_unless_a_message_lies_there(machine):
    async def main():
        pid = await start()
        process.suspend(pid)
        GenServer.cast(pid, lambda test: NoReply(test, timeout=0))
        send(pid, "first")
        process.resume(pid)
        assert await flush() == [("info", "first")]
        GenServer.cast(pid, lambda test: NoReply(test, timeout=0))
        assert await flush() == [("info", "timeout")]
        assert machine.now() < 1

    machine.run(main)


def test_an_endless_timeout_is_none(machine):
    async def main():
        pid = await start(lambda test: Ok(test, timeout=float("inf")))
        assert await flush(1000) == []
        assert process.alive(pid)

    machine.run(main)


@pytest.mark.parametrize("wrong", [-1, "soon", True, float("nan")])
def test_a_wrong_timeout_in_a_return_is_a_bad_return_value(machine, caplog, wrong):
    async def main():
        pid = await start()
        GenServer.cast(pid, lambda test: NoReply(test, timeout=wrong))
        tag, reason = await receive()
        assert (tag, reason[0]) == ("terminate", "bad_return_value")
        with pytest.raises(StartError) as refused:
            await start(lambda test: Ok(test, timeout=wrong))
        assert refused.value.reason[0] == "bad_return_value"

    machine.run(main)
    [report] = reports_of(caplog)
    assert "timeout= expected a timeout" in report.splitlines()[-1]


# ---- then ----------------------------------------------------------------------------------------------------------


def test_continues_follow_each_other_before_any_message(machine):
    async def main():
        pid = await start()
        process.suspend(pid)
        GenServer.cast(pid, lambda test: NoReply(test, then=Continue(Continue("second"))))
        send(pid, "message")
        process.resume(pid)
        return await flush()

    assert machine.run(main) == [("continue", Continue("second")), ("continue", "second"), ("info", "message")]


def test_a_continue_may_be_given_with_a_timeout_of_its_own(machine):
    class Later(Scripted):
        def handle_continue(self, arg, state):
            send(state, ("continue", arg))
            return NoReply(state, timeout=arg)

    async def main():
        pid = await Later.start((self_(), None))
        await GenServer.call(pid, lambda test: Reply("ok", test, timeout=1, then=Continue(3)))
        since = machine.now()
        assert await receive() == ("continue", 3)
        assert await receive() == ("info", "timeout")
        assert machine.now() - since == pytest.approx(3)

    machine.run(main)


def test_the_report_of_a_crash_in_a_continue_shows_what_it_was_to_continue(machine, caplog):
    class Faulty(GenServer):
        def init(self, arg):
            return Ok(arg, then=Continue("load"))

        def handle_continue(self, arg, state):
            raise OSError("no file")

    async def main():
        process.flag(trap_exit=True)
        pid = await Faulty.start_link(5)
        [(_, dead, reason)] = await flush()
        assert (dead, kind_of(reason)) == (pid, OSError)

    machine.run(main)
    [report] = reports_of(caplog)
    assert report.splitlines()[-2:] == ['Last message: ("continue", "load")', "State: 5"]


def test_then_takes_a_continue_and_nothing_else(machine, caplog):
    async def main():
        pid = await start()
        GenServer.cast(pid, lambda test: NoReply(test, then="load"))
        tag, reason = await receive()
        assert (tag, reason) == ("terminate", ("bad_return_value", NoReply(self_(), then="load")))

    machine.run(main)
    assert reports_of(caplog)[0].endswith("then= takes Continue(arg), got 'load'")


# ---- hibernate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        lambda pid: GenServer.call(pid, lambda test: Reply("ok", test, hibernate=True)),
        lambda pid: sleep(GenServer.cast(pid, lambda test: NoReply(test, hibernate=True)) or 0),
    ],
)
def test_a_hibernating_server_has_no_stack_and_loses_nothing(machine, ask):
    async def main():
        pid = await start()
        asleep = ("otplib.process", "hibernate")
        await ask(pid)
        await flush()
        assert process.info(pid, "current_function") == asleep
        for number in range(3):
            send(pid, number)
        assert await flush() == [("info", 0), ("info", 1), ("info", 2)]
        assert process.info(pid, "current_function") != asleep
        await ask(pid)
        await flush()
        assert await system.get_state(pid) == self_()
        await sleep(1)
        assert process.info(pid, "current_function") == asleep, "a system request is no message"
        await GenServer.stop(pid, "shutdown")
        assert await flush() == [("terminate", "shutdown")]

    machine.run(main)


def test_a_server_may_hibernate_from_init_on_and_is_still_killed_by_a_signal(machine):
    async def main():
        pid = await start(lambda test: Ok(test, hibernate=True))
        await sleep(1)
        ref = process.monitor(pid)
        process.exit(pid, "boom")
        assert await receive() == ("DOWN", ref, "process", pid, "boom")
        assert await flush() == []

    machine.run(main)


def test_what_lies_in_the_mailbox_wakes_a_server_that_hibernates(machine):
    async def main():
        pid = await start()
        process.suspend(pid)
        GenServer.cast(pid, lambda test: NoReply(test, hibernate=True))
        send(pid, "there already")
        process.resume(pid)
        return await flush()

    assert machine.run(main) == [("info", "there already")]


# ---- what is no return ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "hint"),
    [
        (None, "it returned None: did no case match, or is a return missing?"),
        (("ok", 1), 'it returned ("ok", 1)'),
        (Stop, "it returned Stop"),
        (Ok(1), "it returned Ok(state=1"),
        (Reply(1, 2), "it returned Reply(value=1, state=2"),
        (Stop("normal", 1, reply="to whom?"), "it returned Stop(reason='normal', state=1, reply='to whom?')"),
    ],
)
def test_a_wrong_return_of_a_callback_is_explained_in_the_report(machine, caplog, outcome, hint):
    async def main():
        pid = await start()
        GenServer.cast(pid, lambda test: outcome)
        assert await receive() == ("terminate", ("bad_return_value", outcome))

    machine.run(main)
    [report] = reports_of(caplog)
    last = report.splitlines()[-1]
    assert last.startswith("handle_cast must return NoReply(state) or Stop(reason, state); it returned")
    assert hint in last


def test_a_wrong_return_of_init_is_explained_to_the_starter(machine):
    async def main():
        with pytest.raises(StartError) as refused:
            await start(lambda test: None)
        assert refused.value.reason == ("bad_return_value", None)
        [note] = refused.value.__notes__
        assert note.startswith("init must return Ok(state), Ignore() or Stop(reason); it returned None: did no case")
        with pytest.raises(StartError) as refused:
            await start(lambda test: Ok(test, then="load"))
        assert refused.value.__notes__ == ["then= takes Continue(arg), got 'load'"]

    machine.run(main)
