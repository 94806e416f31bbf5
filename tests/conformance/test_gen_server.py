"""Section 3 of the table: calls, casts and what else a GenServer is sent. How servers end: `test_gen_server_ends`."""

import pytest

from otplib import (
    Continue,
    Down,
    Exit,
    GenServer,
    Global,
    NoReply,
    Ok,
    Pid,
    Raised,
    Ref,
    Reply,
    Via,
    make_ref,
    process,
    receive,
    self_,
    send,
    sleep,
    spawn,
    system,
)
from otplib.core.errors import CallTimeout
from otplib.testing import deterministic
from tests.conformance.servers import call_of, dead, exit_of, flush, outcome_of, reports_of


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


class Counter(GenServer):
    """Counts the slow calls it has served."""

    async def handle_call(self, request, caller, state):
        match request:
            case ("slow", seconds):
                await sleep(seconds)
                return Reply("late", state + 1)
            case "n":
                return Reply(state, state)


class Empty(GenServer):
    """Nothing but what every server has."""


class NoNames:
    """A registry in which nobody is registered."""

    def register_name(self, key, pid):
        return False

    def unregister_name(self, key):
        pass

    def whereis_name(self, key):
        return None


# ---- the three ways in ---------------------------------------------------------------------------------------------


class Recorder(GenServer):
    def init(self, first):
        return Ok([first])

    def handle_call(self, request, caller, state):
        return Reply((request, *caller, state), state)

    def handle_cast(self, request, state):
        return NoReply([*state, ("cast", request)])

    def handle_info(self, message, state):
        return NoReply([*state, ("info", message)])


def test_g01_calls_casts_and_messages_go_through_one_mailbox_in_order(machine):
    """g01_basics.exs"""

    async def main():
        pid = await Recorder.start_link("init")
        assert GenServer.cast(pid, 1) is None
        send(pid, 2)
        GenServer.cast(pid, 3)
        answer = await GenServer.call(pid, "get")
        assert answer[0] == "get"
        assert answer[1] == self_()
        assert isinstance(answer[2], Ref)
        return answer[3]

    assert machine.run(main) == ["init", ("cast", 1), ("info", 2), ("cast", 3)]


def test_g02_a_late_call_exits_and_the_late_answer_is_dropped(machine):
    """g02_call_timeout.exs"""

    async def main():
        pid = await Counter.start_link(0)
        with pytest.raises(CallTimeout) as late:
            await GenServer.call(pid, ("slow", 0.15), timeout=0.05)
        assert isinstance(late.value, TimeoutError)
        assert late.value.reason == ("timeout", call_of(pid, ("slow", 0.15), 0.05))
        assert str(late.value) == f'exited in: GenServer.call({pid!r}, ("slow", 0.15), 0.05)\n    ** (EXIT) time out'
        await sleep(0.2)
        assert await flush() == []
        assert await GenServer.call(pid, "n") == 1

    machine.run(main)


class Introvert(GenServer):
    async def handle_call(self, request, caller, state):
        target = self_() if request == "me" else "introvert"
        return Reply(await outcome_of(GenServer.call(target, "me")), state)


def test_g03_a_server_that_calls_itself_exits_at_once(machine):
    """g03_call_self.exs"""

    async def main():
        pid = await Introvert.start_link(0, name="introvert")
        assert await GenServer.call(pid, "me") == ("exit", ("calling_self", call_of(pid, "me")))
        assert await GenServer.call(pid, "by_name") == ("exit", ("calling_self", call_of("introvert", "me")))
        return machine.now()

    assert machine.run(main) == 0


def test_g04_a_call_to_nobody_exits_with_noproc(machine):
    """g04_call_noproc.exs"""

    async def main():
        via = Via(NoNames(), "nobody")
        for server in (await dead(), "nobody", Global("nobody"), via, ("nobody", "nonode@nohost")):
            assert await exit_of(GenServer.call(server, "hi")) == ("noproc", call_of(server, "hi"))
        with pytest.raises(Exit) as end:
            await GenServer.call("nobody", "hi")
        assert str(end.value) == (
            'exited in: GenServer.call("nobody", "hi", 5.0)\n'
            "    ** (EXIT) no process: the process is not alive or there's no process currently associated with the "
            "given name, possibly because its application isn't started"
        )
        assert await flush() == []

    machine.run(main)


def test_a_call_to_an_unreachable_node_exits_with_nodedown(machine):
    async def main():
        server = ("nobody", "ghost@host")
        assert await exit_of(GenServer.call(server, "hi")) == (("nodedown", "ghost@host"), call_of(server, "hi"))

    machine.run(main)


def test_g05_a_cast_to_nobody_is_no_error(machine):
    """g05_cast_nothing.exs"""

    async def main():
        names = ("nobody", Global("nobody"), ("nobody", "nonode@nohost"), ("nobody", "ghost@host"))
        return [GenServer.cast(server, "hi") for server in (await dead(), *names)]

    assert machine.run(main) == [None] * 5


# ---- callbacks that are not there ----------------------------------------------------------------------------------


def test_g06_the_default_handle_info_logs_the_message_and_goes_on(machine, caplog):
    """g06_handle_info_default.exs"""

    async def main():
        pid = await Empty.start_link({"k": 1})
        send(pid, ("surprise", 1))
        assert await system.get_state(pid) == {"k": 1}
        assert process.alive(pid)
        return pid

    pid = machine.run(main)
    [text] = reports_of(caplog)
    assert text == f'Empty {pid!r} received unexpected message in handle_info/2: ("surprise", 1)'
    assert caplog.records[0].levelname == "ERROR"


def test_g07_a_call_or_cast_without_its_callback_crashes_the_server(machine):
    """g07_no_handle_call.exs"""

    async def main():
        process.flag(trap_exit=True)
        pid = await Empty.start_link(0)
        reason, call = await exit_of(GenServer.call(pid, "hi"))
        text = f"attempted to call GenServer {pid!r} but no handle_call/3 clause was provided"
        assert type(reason) is Raised
        assert (type(reason.exception), str(reason.exception)) == (RuntimeError, text)
        assert call == call_of(pid, "hi")
        [(tag, dead_pid, seen)] = await flush()
        assert (tag, dead_pid, str(seen.exception)) == ("EXIT", pid, text)

        pid = await Empty.start_link(0, name="empty")
        assert GenServer.cast(pid, "hi") is None
        [(tag, dead_pid, seen)] = await flush()
        text = 'attempted to cast GenServer "empty" but no handle_cast/2 clause was provided'
        assert (tag, dead_pid, str(seen.exception)) == ("EXIT", pid, text)

    machine.run(main)


class OnlyA(GenServer):
    def handle_call(self, request, caller, state):
        match request:
            case "a":
                return Reply("a", state)


def test_g08_a_request_that_no_case_fits_crashes_the_server(machine, caplog):
    """g08_no_clause.exs: Python's `match` falls through, so the callback returns None, and the report says so."""

    async def main():
        process.flag(trap_exit=True)
        pid = await OnlyA.start_link(0)
        assert await exit_of(GenServer.call(pid, "b")) == (("bad_return_value", None), call_of(pid, "b"))
        assert await flush() == [("EXIT", pid, ("bad_return_value", None))]

    machine.run(main)
    [text] = reports_of(caplog)
    assert text.splitlines()[1] == "** (stop) bad return value: None"
    assert text.splitlines()[-1] == (
        "handle_call must return Reply(value, state), NoReply(state) or Stop(reason, state); it returned None: "
        "did no case match, or is a return missing?"
    )


# ---- continue ------------------------------------------------------------------------------------------------------


class Continuing(GenServer):
    def init(self, test):
        send(self_(), "queued_in_init")
        return Ok((test, ["init"]), then=Continue("c1"))

    def handle_continue(self, arg, state):
        test, log = state
        send(test, ("continue_ran", arg))
        return NoReply((test, [*log, arg]))

    def handle_info(self, message, state):
        test, log = state
        return NoReply((test, [*log, message]))

    def handle_call(self, request, caller, state):
        if request == "more":
            return Reply("replied", state, then=Continue("c2"))
        return Reply(state[1], state)


def test_g09_handle_continue_runs_before_any_queued_message(machine):
    """g09_continue.exs"""

    async def main():
        pid = await Continuing.start_link(self_())
        assert await GenServer.call(pid, "get") == ["init", "c1", "queued_in_init"]
        assert await GenServer.call(pid, "more") == "replied"
        assert await GenServer.call(pid, "get") == ["init", "c1", "queued_in_init", "c2"]

    machine.run(main)


# ---- answers by other ways -----------------------------------------------------------------------------------------


class Delegating(GenServer):
    def handle_call(self, request, caller, state):
        async def answer():
            await sleep(0.02)
            GenServer.reply(caller, ("from_other", "x"))

        spawn(answer)
        return NoReply(state)


def test_g19_another_process_may_answer(machine):
    """g19_reply_elsewhere.exs"""

    async def main():
        pid = await Delegating.start_link(0)
        assert await GenServer.call(pid, "q") == ("from_other", "x")
        assert await flush() == []

    machine.run(main)


class Named(GenServer):
    def init(self, test):
        return Ok(test)

    def handle_call(self, request, caller, state):
        return Reply("st", state)

    def handle_cast(self, request, test):
        send(test, ("cast_got", request))
        return NoReply(test)


def test_g21_multi_call_and_abcast_on_one_node(machine):
    """g21_multi_call.exs"""
    here = "nonode@nohost"

    async def main():
        await Named.start_link(self_(), name="nm")
        assert await GenServer.multi_call([here], "nm", "q") == ([(here, "st")], [])
        assert await GenServer.multi_call([here], "nobody", "q") == ([], [here])
        assert await GenServer.multi_call([here, "ghost@host"], "nm", "q") == ([(here, "st")], ["ghost@host"])
        assert GenServer.abcast([here], "nm", "hello") == "abcast"
        assert await receive() == ("cast_got", "hello")
        assert GenServer.abcast(["ghost@host"], "nm", "hello") == "abcast"
        assert await flush() == []

    machine.run(main)


def test_a_multi_call_that_some_do_not_answer_in_time_leaves_nothing_behind(machine):
    async def main():
        await Counter.start_link(0, name="counter")
        answers, bad = await GenServer.multi_call(["nonode@nohost"], "counter", ("slow", 1.0), timeout=0.1)
        assert (answers, bad) == ([], ["nonode@nohost"])
        await sleep(2.0)
        assert await flush() == []

    machine.run(main)


def test_g30_the_shapes_on_the_wire(machine):
    """g30_wire.exs"""

    async def main():
        me = self_()

        async def client():
            send(me, ("result", await GenServer.call(me, "question")))

        spawn(client)
        label, caller, request = await receive()
        assert (label, request) == ("$gen_call", "question")
        pid, tag = caller
        assert isinstance(pid, Pid)
        assert isinstance(tag, Ref)
        GenServer.reply(caller, "answer")
        assert await flush() == [("result", "answer")]
        GenServer.cast(me, "c")
        assert await flush() == [("$gen_cast", "c")]
        tag = make_ref()
        GenServer.reply((me, tag), "x")
        assert await flush() == [(tag, "x")]

    machine.run(main)


def test_a_call_may_be_answered_by_a_plain_message(machine):
    async def main():
        me = self_()

        async def client():
            send(me, ("result", await GenServer.call(me, "question")))

        spawn(client)
        _, (_, tag), _ = await receive()
        send(tag, (tag, "by hand"))
        assert await receive() == ("result", "by hand")
        send(tag, (tag, "once more"))
        assert await flush() == []

    machine.run(main)


def test_g32_a_client_that_dies_before_the_answer_does_not_touch_the_server(machine):
    """g32_client_dies.exs"""

    async def main():
        pid = await Counter.start_link(0)

        async def client():
            await GenServer.call(pid, ("slow", 0.06))

        impatient = spawn(client)
        await sleep(0.02)
        process.exit(impatient, "kill")
        assert await GenServer.call(pid, "n") == 1

    machine.run(main)


def test_g38_a_request_may_be_sent_and_its_answer_taken_later(machine):
    """g38_async_request.exs"""

    async def main():
        pid = await Counter.start_link(0)
        asked = GenServer.send_request(pid, ("slow", 0.03))
        with pytest.raises(TimeoutError):
            await GenServer.wait_response(asked, 0.005)
        assert await GenServer.wait_response(asked, 0.5) == "late"
        nobody = GenServer.send_request("nobody", "q")
        assert await exit_of(GenServer.wait_response(nobody, 0.5)) == ("noproc", "nobody")
        assert await flush() == []

    machine.run(main)


def test_an_answer_that_is_received_by_hand_can_be_told_from_other_messages(machine):
    async def main():
        pid = await Counter.start_link(7)
        asked = GenServer.send_request(pid, "n")
        answer = await receive()
        assert await GenServer.check_response("other", asked) == "no_reply"
        assert await GenServer.check_response(answer, asked) == ("reply", 7)

        process.flag(trap_exit=True)
        asked = GenServer.send_request(pid, ("slow", 1.0))
        process.exit(pid, "kill")
        ended = await receive(Down)
        assert await GenServer.check_response(ended, asked) == ("error", ("killed", pid))

    machine.run(main)


def test_g39_which_timeouts_a_call_takes(machine):
    """g39_call_timeout_bad.exs: None is Python's word for `:infinity`."""

    async def main():
        pid = await Counter.start_link("ans")
        assert await GenServer.call(pid, "n", timeout=None) == "ans"
        assert await GenServer.call(pid, "n", timeout=float("inf")) == "ans"
        assert (await exit_of(GenServer.call(pid, "n", timeout=0)))[0] == "timeout"
        with pytest.raises(ValueError, match="0 or more"):
            await GenServer.call(pid, "n", timeout=-1)
        for wrong in ("infinity", True, [1]):
            with pytest.raises(TypeError, match="seconds or None"):
                await GenServer.call(pid, "n", timeout=wrong)
        assert await flush() == []

    machine.run(main)
