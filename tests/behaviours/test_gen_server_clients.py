"""The other end of a GenServer: many clients, late answers, requests under way, real threads."""

import asyncio
import random
import threading

import pytest

from otplib import (
    CallTimeout,
    Exit,
    GenServer,
    Machine,
    NoReply,
    Ok,
    Reply,
    StartError,
    Stop,
    process,
    receive,
    run,
    self_,
    send,
    sleep,
    spawn,
    spawn_monitor,
    system,
)
from otplib.process import drive
from otplib.testing import deterministic
from tests.behaviours.served import exit_of, flush


@pytest.fixture(params=[1, 2, 3])
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


class Slow(GenServer):
    """Answers as late as it is asked to, one after the other, or all at once."""

    async def handle_call(self, request, caller, state):
        match request:
            case ("sleep", seconds):
                await sleep(seconds)
                return Reply(("slept", seconds), state + 1)
            case ("later", seconds):

                async def answer():
                    await sleep(seconds)
                    GenServer.reply(caller, ("slept", seconds))

                spawn(answer)
                return NoReply(state + 1)
            case "count":
                return Reply(state, state)
            case "die":
                return Stop("died", state)


def settled(machine, server):
    """What calls have left behind in the books of the machine and the server: nothing, one hopes."""
    record = machine.find(server)
    return len(machine.aliases), len(record.watchers or {})


# ---- late answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sleep", "later"])
def test_an_answer_that_comes_at_the_very_moment_of_the_time_out_is_taken_or_dropped_never_left(kind):
    outcomes = set()
    for seed in range(60):
        with deterministic(seed=seed) as machine:

            async def main():
                pid = await Slow.start_link(0)
                try:
                    answer = await GenServer.call(pid, (kind, 1.0), timeout=1.0)
                    assert answer == ("slept", 1.0)
                    outcomes.add("answered")
                except CallTimeout:
                    outcomes.add("late")
                await sleep(5)
                assert await flush(0) == []
                assert await GenServer.call(pid, "count") == 1

            machine.run(main)
    assert outcomes == {"late", "answered"}, "the seeds show both orders"


def test_late_answers_are_dropped_whatever_the_order_of_events():
    for seed in range(50):
        chance = random.Random(seed)
        plan = [(chance.choice(["sleep", "later"]), chance.randrange(4), chance.randrange(1, 5)) for _ in range(30)]
        with deterministic(seed=seed) as machine:

            async def main(plan=plan):
                pid = await Slow.start_link(0)
                test = self_()

                async def client(kind, seconds, patience):
                    try:
                        answer = await GenServer.call(pid, (kind, seconds), timeout=patience)
                        assert answer == ("slept", seconds)
                    except CallTimeout:
                        pass
                    send(test, ("left over", await flush(200)))

                for step in plan:
                    spawn(client, *step)
                for _ in plan:
                    assert await receive(("left over", ...)) == ("left over", [])
                assert await GenServer.call(pid, "count") == len(plan)
                assert settled(machine, pid) == (0, 0)

            machine.run(main)


def test_late_answers_are_dropped_between_real_threads():
    left, answered, late = [], [], []

    def client(server, seed):
        chance = random.Random(seed)

        async def ask():
            for _ in range(60):
                patience = chance.choice([0, 0.0002, 0.001, 0.003])
                try:
                    answered.append(await GenServer.call(server, ("sleep", 0.0002), timeout=patience))
                except CallTimeout:
                    late.append(patience)

        with machine_of_thread(machine):
            drive(ask())
            drive(sleep(0.3))
            left.extend(drive(flush(0)))

    with Machine() as machine:
        server = run(Slow.start, 0)
        threads = [threading.Thread(target=client, args=(server, seed)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert run(GenServer.call, server, "count", None) == 360
        assert settled(machine, server) == (0, 0)
    assert left == []
    assert len(answered) + len(late) == 360
    assert late


class machine_of_thread:  # reads as the verb it is
    """Makes a machine that of this thread, without stopping it at the end as `with machine:` does."""

    def __init__(self, machine):
        self.machine = machine

    def __enter__(self):
        from otplib.vm.context import runtime

        runtime.local.machines = (self.machine,)

    def __exit__(self, *_):
        from otplib.vm.context import runtime

        runtime.local.machines = ()


def test_a_server_that_dies_right_after_its_answer_sends_no_second_message(machine):
    class Once(GenServer):
        def handle_call(self, request, caller, state):
            GenServer.reply(caller, "answer")
            GenServer.reply(caller, "again")
            raise Exit("over")

    async def main():
        for _ in range(10):
            pid = await Once.start(0)
            assert await GenServer.call(pid, "x") == "answer"
        return await flush()

    assert machine.run(main) == []


def test_an_answer_is_none_if_none_is_given(machine):
    class Falsy(GenServer):
        def handle_call(self, request, caller, state):
            return Reply(request, state)

    async def main():
        pid = await Falsy.start(0)
        for value in (None, 0, "", [], {}, False, ()):
            assert await GenServer.call(pid, value) == value

    machine.run(main)


# ---- many ----------------------------------------------------------------------------------------------------------


class Tickets(GenServer):
    def init(self, arg):
        return Ok(0)

    def handle_call(self, request, caller, state):
        return Reply((request, state), state + 1)


async def thousand_clients():
    pid = await Tickets.start_link()
    test = self_()

    async def client(number):
        for turn in range(3):
            request, ticket = await GenServer.call(pid, (number, turn), timeout=None)
            assert request == (number, turn)
            send(test, ("ticket", ticket))

    for number in range(1000):
        spawn(client, number)
    tickets = [(await receive(("ticket", int)))[1] for _ in range(3000)]
    assert sorted(tickets) == list(range(3000))
    assert await flush(0.01) == []
    return pid


def test_a_thousand_clients_are_all_answered_each_with_its_own():
    with Machine() as machine:
        run(thousand_clients)
        assert len(machine.aliases) == 0


def test_a_thousand_clients_in_any_order(machine):
    machine.run(thousand_clients)
    assert len(machine.aliases) == 0


def test_a_thousand_clients_of_a_server_that_dies_are_all_told(machine):
    class Deaf(GenServer):
        def handle_call(self, request, caller, state):
            return NoReply(state)

    async def main():
        pid = await Deaf.start(0)
        monitors = set()
        for _ in range(1000):

            async def client():
                raise Exit((await exit_of(GenServer.call(pid, "x", timeout=None)))[0])

            monitors.add(spawn_monitor(client)[1])
        await sleep(1)
        process.exit(pid, "kill")
        ends = [await receive(("DOWN", ..., ..., ..., ...)) for _ in range(1000)]
        assert {end.ref for end in ends} == monitors
        assert {end.reason for end in ends} == {"killed"}

    machine.run(main)
    assert len(machine.aliases) == 0


def test_eight_threads_and_an_asyncio_loop_call_one_server_at_once():
    with Machine() as machine:
        server = run(Tickets.start)
        seen = []

        def on_thread():
            with machine_of_thread(machine):
                seen.extend([drive(GenServer.call(server, "x"))[1] for _ in range(100)])

        async def on_loop():
            async def task():
                return [(await GenServer.call(server, "x"))[1] for _ in range(20)]

            return [ticket for tickets in await asyncio.gather(*(task() for _ in range(10))) for ticket in tickets]

        threads = [threading.Thread(target=on_thread) for _ in range(8)]
        for thread in threads:
            thread.start()
        seen.extend(asyncio.run(on_loop()))
        for thread in threads:
            thread.join()
        assert sorted(seen) == list(range(1000))
        assert settled(machine, server) == (0, 0)


# ---- requests under way --------------------------------------------------------------------------------------------


def test_many_requests_may_be_under_way_and_be_answered_in_any_order(machine):
    async def main():
        pid = await Slow.start_link(0)
        asked = {seconds: GenServer.send_request(pid, ("later", seconds)) for seconds in (3, 1, 2)}
        send(self_(), "unrelated")
        for seconds in (1, 2, 3):
            assert await GenServer.wait_response(asked[seconds]) == ("slept", seconds)
        assert machine.now() == pytest.approx(3)
        assert await flush() == ["unrelated"]

    machine.run(main)


def test_a_request_that_was_given_up_leaves_nothing_behind(machine):
    async def main():
        pid = await Slow.start_link(0)
        asked = GenServer.send_request(pid, ("later", 1))
        with pytest.raises(TimeoutError):
            await GenServer.receive_response(asked, 0.5)
        assert await flush(2) == []
        pid = await Slow.start(0)
        asked = GenServer.send_request(pid, ("later", 1))
        with pytest.raises(TimeoutError):
            await GenServer.receive_response(asked, 0.5)
        process.exit(pid, "kill")
        assert await flush(2) == []

    machine.run(main)


def test_a_request_to_a_server_that_ends_fails_with_its_reason(machine):
    async def main():
        pid = await Slow.start(0)
        asked = GenServer.send_request(pid, "die")
        assert await exit_of(GenServer.wait_response(asked, 1)) == ("died", pid)
        asked = GenServer.send_request(pid, "x")
        assert await exit_of(GenServer.wait_response(asked, 1)) == ("noproc", pid)
        assert await flush() == []

    machine.run(main)


def test_a_request_under_way_can_be_passed_around_and_used_by_its_sender_alone(machine):
    async def main():
        server = await Slow.start(41)
        test = self_()

        async def sender():
            asked = GenServer.send_request(server, "count")
            send(test, asked)
            kept = (await receive({"asked": ...}))["asked"]
            send(test, await GenServer.wait_response(kept))

        pid = spawn(sender)
        asked = await receive()
        for ask in (GenServer.wait_response(asked), GenServer.check_response("x", asked)):
            with pytest.raises(ValueError, match=f"was sent by {pid!r}"):
                await ask
        send(pid, {"asked": asked})
        assert await receive() == 41

    machine.run(main)


def test_the_requests_of_a_process_that_ends_are_forgotten(machine):
    async def main():
        pid = await Slow.start(0)

        async def careless():
            for _ in range(10):
                GenServer.send_request(pid, ("later", 5))

        _, ref = spawn_monitor(careless)
        await receive(("DOWN", ref, ..., ..., ...))
        assert settled(machine, pid) == (0, 0)
        await sleep(10)
        assert process.alive(pid)

    machine.run(main)


def test_a_client_that_is_killed_while_it_waits_leaves_nothing_behind(machine):
    async def main():
        pid = await Slow.start(0)

        async def client():
            await GenServer.call(pid, ("later", 5))

        for _ in range(10):
            impatient, ref = spawn_monitor(client)
            await sleep(1)
            process.exit(impatient, "kill")
            await receive(("DOWN", ref, ..., ..., ...))
        assert settled(machine, pid) == (0, 0)
        await sleep(10)
        assert await GenServer.call(pid, "count") == 10

    machine.run(main)


def test_a_caller_must_be_what_handle_call_was_given(machine):
    async def main():
        for wrong in (None, self_(), ("a", "b"), 5):
            with pytest.raises(TypeError, match="the caller that handle_call was given"):
                GenServer.reply(wrong, "x")

    machine.run(main)


def test_a_reply_may_be_sent_after_the_client_is_gone(machine):
    async def main():
        pid = await Slow.start(0)

        async def client():
            await GenServer.call(pid, ("sleep", 5), timeout=1)

        _, ref = spawn_monitor(client)
        down = await receive(("DOWN", ref, ..., ..., ...))
        assert down.reason[0] == "timeout"
        await sleep(10)
        assert process.alive(pid)

    machine.run(main)


# ---- impatient loops -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: GenServer.call("server", "count"),
        lambda: GenServer.call(("server", "nonode@nohost"), "count"),
        lambda: GenServer.stop("server"),
    ],
)
def test_a_loop_of_calls_that_fail_at_once_lets_the_others_have_their_turns(machine, attempt):
    async def main():
        async def impatient():
            while True:
                try:
                    return await attempt()
                except Exit as end:
                    if end.reason[0] != "noproc":
                        raise

        _, ref = spawn_monitor(impatient)
        await sleep(0)
        await Slow.start(0, name="server")
        assert (await receive(("DOWN", ref, ..., ..., ...))).reason == "normal"

    machine.run(main)


def test_a_loop_of_calls_without_patience_lets_the_server_have_its_turn(machine):
    async def main():
        pid = await Slow.start(0)
        failures = 0
        while not await system.get_state(pid):
            for _ in range(40):
                with pytest.raises(CallTimeout):
                    await GenServer.call(pid, ("sleep", 0), timeout=0)
                failures += 1
        assert failures == 40

    machine.run(main)


def test_a_loop_of_starts_under_a_taken_name_lets_its_holder_have_its_turn(machine):
    async def main():
        holder = await Slow.start(0, name="server")
        GenServer.cast(holder, "crash")

        async def starter():
            while True:
                try:
                    return await Slow.start(0, name="server")
                except StartError as refused:
                    if refused.reason != ("already_started", holder):
                        raise

        _, ref = spawn_monitor(starter)
        assert (await receive(("DOWN", ref, ..., ..., ...))).reason == "normal"
        assert process.whereis("server") != holder

    machine.run(main)
