"""A process with a limit to its mailbox: killed at it, or closed to calls."""

import pytest

from otplib import (
    Atom,
    CallTimeout,
    Exit,
    GenServer,
    NoReply,
    Ok,
    Reply,
    node,
    process,
    receive,
    rpc,
    self_,
    send,
    sleep,
    spawn_link,
    spawn_monitor,
    system,
)
from otplib.testing import deterministic
from tests.behaviours.served import exit_of, reports_of
from tests.dist.node_fixtures import epmd_port as epmd_port
from tests.dist.node_fixtures import foo as foo
from tests.dist.node_fixtures import kept_peer as kept_peer
from tests.dist.node_fixtures import py as py
from tests.dist.node_fixtures import tidy as tidy
from tests.dist.nodes import perform


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


class Slow(GenServer):
    """Takes its time: an hour for each request, unless it is told to hurry."""

    def init(self, flags):
        process.flag(**flags)
        return Ok(0)

    async def handle_call(self, request, caller, count):
        await sleep(3600)
        return Reply(("done", request), count + 1)

    async def handle_cast(self, request, count):
        await sleep(3600)
        return NoReply(count + 1)

    def handle_info(self, message, count):
        return NoReply(count + 1)


async def start_slow(**flags):
    return await Slow.start(flags)


def test_a_call_to_a_full_server_that_refuses_fails_at_once_and_names_the_call(machine):
    async def main():
        pid = await start_slow(max_mailbox=3, on_full="refuse")
        GenServer.cast(pid, "keep busy")
        await sleep(1)
        for number in range(3):
            GenServer.cast(pid, number)
        begun = machine.now()
        reason = await exit_of(GenServer.call(pid, "hi", timeout=10.0))
        assert reason == ("overloaded", ("GenServer", "call", [pid, "hi", 10.0]))
        assert machine.now() == begun
        assert process.alive(pid)
        assert process.info(pid, "message_queue_len") == 3
        assert process.info(self_(), "message_queue_len") == 0

    machine.run(main)


def test_the_text_of_a_refusal_says_that_the_server_is_overloaded(machine):
    async def main():
        pid = await start_slow(max_mailbox=0, on_full="refuse")
        with pytest.raises(Exit, match=r"(?s)exited in: GenServer\.call\(.*overloaded"):
            await GenServer.call(pid, "hi")

    machine.run(main)


def test_a_server_that_refused_answers_again_once_it_has_room(machine):
    async def main():
        pid = await start_slow(max_mailbox=1, on_full="refuse")
        GenServer.cast(pid, "an hour")
        await sleep(1)
        GenServer.cast(pid, "another")
        assert (await exit_of(GenServer.call(pid, "x")))[0] == "overloaded"
        await sleep(2 * 3600)
        assert await GenServer.call(pid, "y", timeout=None) == ("done", "y")

    machine.run(main)


def test_of_many_callers_as_many_wait_as_there_is_room_for_and_the_others_hear_at_once(machine):
    async def main():
        pid = await start_slow(max_mailbox=5, on_full="refuse")
        GenServer.cast(pid, "keep busy")
        await sleep(1)
        me = self_()

        async def client(number):
            try:
                send(me, await GenServer.call(pid, number, timeout=None))
            except Exit as end:
                send(me, end.reason[0])

        for number in range(12):
            spawn_link(client, number)
        await sleep(1)
        assert [await receive() for _ in range(7)] == ["overloaded"] * 7
        answers = [await receive() for _ in range(5)]
        assert len(set(answers)) == 5
        assert all(word == "done" for word, _ in answers)

    machine.run(main)


def test_a_refused_request_that_was_sent_ahead_gives_its_reason_to_whoever_waits_for_it(machine):
    async def main():
        pid = await start_slow(max_mailbox=0, on_full="refuse")
        asked = GenServer.send_request(pid, "x")
        assert await exit_of(GenServer.wait_response(asked)) == ("overloaded", pid)
        assert process.info(pid, "monitored_by") == []

    machine.run(main)


def test_an_operator_can_still_look_into_a_server_that_refuses_calls(machine):
    async def main():
        pid = await start_slow(max_mailbox=1, on_full="refuse")
        GenServer.cast(pid, "an hour")
        await sleep(1)
        GenServer.cast(pid, "another")
        assert (await exit_of(GenServer.call(pid, "x")))[0] == "overloaded"
        return await system.get_state(pid, timeout=3 * 3600)

    assert machine.run(main) == 2


def test_what_cannot_be_refused_is_let_in_up_to_twice_the_limit_and_then_kills(machine, caplog):
    async def main():
        pid = await start_slow(max_mailbox=5, on_full="refuse")
        ref = process.monitor(pid)
        GenServer.cast(pid, "keep busy")
        await sleep(1)
        for number in range(10):
            send(pid, number)
        assert process.alive(pid)
        send(pid, "one too many")
        return (await receive(("DOWN", ref, "process", pid, ...))).reason

    assert machine.run(main) == "killed"
    [report] = reports_of(caplog)
    assert "max_mailbox=5 messages, twice over: only calls can be refused" in report


def test_by_default_a_call_that_is_one_too_many_kills_and_its_caller_hears_of_it(machine, caplog):
    async def main():
        pid = await start_slow(max_mailbox=2)
        GenServer.cast(pid, "keep busy")
        await sleep(1)
        GenServer.cast(pid, 1)
        GenServer.cast(pid, 2)
        return (await exit_of(GenServer.call(pid, "x")))[0]

    assert machine.run(main) == "killed"
    assert "max_mailbox=2" in reports_of(caplog)[0]


def test_a_message_that_only_looks_like_a_call_is_let_in_for_nobody_could_be_told(machine):
    async def main():
        pid = await start_slow(max_mailbox=1, on_full="refuse")
        GenServer.cast(pid, "keep busy")
        await sleep(1)
        GenServer.cast(pid, 1)
        send(pid, ("$gen_call", (self_(), process.make_ref()), "x"))
        assert process.info(pid, "message_queue_len") == 2
        send(pid, ("$gen_call", "nonsense", "x"))

    machine.run(main)


def test_a_call_that_gave_up_is_not_told_afterwards(machine):
    async def main():
        pid = await start_slow(max_mailbox=1, on_full="refuse")
        with pytest.raises(CallTimeout):
            await GenServer.call(pid, "late", timeout=1.0)
        GenServer.cast(pid, 1)
        assert (await exit_of(GenServer.call(pid, 2)))[0] == "overloaded"
        await sleep(4 * 3600)
        assert process.info(self_(), "message_queue_len") == 0

    machine.run(main)


def test_the_flags_give_their_old_values_and_one_of_them_may_be_changed_alone(machine):
    async def main():
        assert process.flag(max_mailbox=10, on_full="refuse") == {"max_mailbox": None, "on_full": "kill"}
        assert process.flag(max_mailbox=20) == 10
        assert process.flag(on_full="kill") == "refuse"
        assert process.flag(on_full="refuse", trap_exit=True) == {"on_full": "kill", "trap_exit": False}
        assert process.info(self_(), "max_mailbox") == 20
        assert process.flag(max_mailbox=None) == 20
        assert process.flag(max_mailbox=5) is None
        assert process.flag(on_full="kill") == "kill"

    machine.run(main)


def test_a_choice_without_a_limit_or_that_is_none_is_refused_and_changes_nothing(machine):
    async def main():
        with pytest.raises(ValueError, match=r"needs a limit: write process\.flag\(max_mailbox=1000"):
            process.flag(trap_exit=True, on_full="refuse")
        with pytest.raises(ValueError, match='on_full takes "kill" or "refuse", got \'drop\''):
            process.flag(max_mailbox=3, on_full="drop")
        assert process.flag(trap_exit=False) is False
        assert process.info(self_(), "max_mailbox") is None

    machine.run(main)


def test_a_new_group_leader_does_not_change_the_choice(machine):
    async def main():
        me = self_()

        async def worker():
            process.flag(max_mailbox=1, on_full="refuse")
            process.group_leader(self_(), me)
            send(me, "ready")
            await receive("never")

        pid, _ = spawn_monitor(worker)
        await receive("ready")
        send(pid, 1)
        assert (await exit_of(GenServer.call(pid, "x")))[0] == "overloaded"

    machine.run(main)


# ---- callers on other nodes ---------------------------------------------------------------------------------------


CALLER = {
    "elixir": """
        def call(server) do
            try do
                GenServer.call(server, :hi)
            catch
                :exit, {reason, {GenServer, :call, [^server, :hi, 5000]}} -> {:refused, reason}
            end
        end
    """,
    "python": """
        async def call(server):
            try:
                return await GenServer.call(server, "hi")
            except Exit as end:
                assert end.reason[1] == ("GenServer", "call", [server, "hi", 5.0])
                return ("refused", end.reason[0])
    """,
}


def test_a_caller_on_another_node_is_refused_as_one_here_and_nothing_is_left_of_its_monitor(py, foo):
    foo.define("C", **CALLER)

    async def main():
        pid = await Slow.start({"max_mailbox": 0, "on_full": "refuse"}, name="full")
        for server in (pid, (Atom("full"), Atom(node.self_()))):
            assert await rpc.call(foo.name, "C.call", server) == ("refused", Atom("overloaded"))
        assert process.info(pid, "monitored_by") == []
        assert process.info(pid, "message_queue_len") == 0

    perform(main)
