"""GenServer beyond the table: what its callbacks may return, be and do. Code that changes: `test_gen_server_code`."""

import threading

import pytest

from otplib import (
    Continue,
    CopyError,
    Exit,
    GenServer,
    Ignore,
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
    spawn,
    system,
)
from otplib.testing import deterministic
from tests.behaviours.served import Scripted, exit_of, flush, kind_of, reports_of, start


@pytest.fixture(params=[1, 2, 3])
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


# ---- self ----------------------------------------------------------------------------------------------------------


def test_self_holds_no_state_and_the_error_says_what_to_write():
    class Forgetful(GenServer):
        def init(self, arg):
            self.count = 0
            return Ok(None)

    async def main():
        with pytest.raises(StartError) as refused:
            await Forgetful.start(None)
        return refused.value.reason.exception

    with deterministic() as machine:
        error = machine.run(main)
    assert type(error) is AttributeError
    assert str(error) == (
        "a GenServer's self holds no state, so self.count cannot be set: put it into the state that the callbacks take "
        "and return, as in return NoReply({**state, ...})"
    )


def test_setting_self_in_a_callback_crashes_the_server_and_leaves_the_class_alone(machine):
    class Forgetful(GenServer):
        count = 0

        def handle_call(self, request, caller, state):
            self.count += 1
            return Reply(self.count, state)

    async def main():
        pid = await Forgetful.start(None)
        reason, _ = await exit_of(GenServer.call(pid, "n"))
        assert kind_of(reason) is AttributeError
        assert Forgetful.count == 0

    machine.run(main)


def test_the_base_class_itself_cannot_be_started(machine):
    async def main():
        with pytest.raises(TypeError, match="start a subclass"):
            await GenServer.start_link(None)

    machine.run(main)


def test_a_server_that_was_given_to_the_verbs_as_a_class_is_explained(machine):
    async def main():
        with pytest.raises(TypeError, match="with the server's pid or name"):
            await GenServer.call(Scripted, "x")

    machine.run(main)


# ---- callbacks that wait -------------------------------------------------------------------------------------------


class Patient(GenServer):
    """Every callback of it waits."""

    async def init(self, test):
        await sleep(1)
        return Ok((test, []), then=Continue("begin"))

    async def handle_continue(self, arg, state):
        return await self.note(arg, state)

    async def handle_call(self, request, caller, state):
        await sleep(1)
        return Reply(state[1], state)

    async def handle_cast(self, request, state):
        return await self.note(request, state)

    async def handle_info(self, message, state):
        return await self.note(message, state)

    async def terminate(self, reason, state):
        await sleep(1)
        send(state[0], ("terminate", reason, state[1]))

    async def code_change(self, old_version, state, extra):
        await sleep(1)
        return Ok((state[0], [*state[1], (old_version, extra)]))

    async def format_status(self, status):
        await sleep(1)
        return {"state": "hidden"}

    async def note(self, what, state):
        await sleep(1)
        return NoReply((state[0], [*state[1], what]))


def test_every_callback_may_wait_and_one_runs_at_a_time(machine):
    async def main():
        pid = await Patient.start(self_())
        assert machine.now() == pytest.approx(1)
        send(pid, "info")
        GenServer.cast(pid, "cast")
        assert await GenServer.call(pid, "log") == ["begin", "info", "cast"]
        assert machine.now() == pytest.approx(5), "one after the other"
        await system.suspend(pid)
        await system.change_code(pid, "v1", "more")
        await system.resume(pid)
        assert (await system.get_status(pid))["state"] == "hidden"
        await GenServer.stop(pid)
        assert await receive() == ("terminate", "normal", ["begin", "info", "cast", ("v1", "more")])

    machine.run(main)


def test_a_server_that_is_killed_in_the_middle_of_a_callback_runs_its_finally_and_no_terminate(machine, caplog):
    class Cleaning(Scripted):
        async def handle_call(self, request, caller, test):
            try:
                await sleep(100)
            finally:
                send(test, "cleaned up")

    async def main():
        test = self_()
        pid = await Cleaning.start((test, None), name="cleaning")

        async def client():
            send(test, await exit_of(GenServer.call(pid, "x")))

        spawn(client)
        await sleep(1)
        process.exit(pid, "kill")
        messages = await flush()
        assert process.whereis("cleaning") is None
        assert messages == ["cleaned up", ("killed", ("GenServer", "call", [pid, "x", 5.0]))]

    machine.run(main)
    assert reports_of(caplog) == []


@pytest.mark.parametrize("trap", [False, True])
def test_a_finally_that_fails_while_a_server_is_killed_does_not_run_terminate(machine, caplog, trap):
    class Clumsy(Scripted):
        def init(self, test):
            process.flag(trap_exit=trap)
            return Ok(test)

        async def handle_cast(self, request, test):
            try:
                await sleep(100)
            finally:
                raise ValueError("in finally")

    async def main():
        pid = await Clumsy.start(self_())
        ref = process.monitor(pid)
        GenServer.cast(pid, "x")
        await sleep(1)
        process.exit(pid, "kill")
        assert await flush() == [("DOWN", ref, "process", pid, "killed")]

    machine.run(main)
    [report] = reports_of(caplog)
    assert "ValueError" in report


def test_an_exit_signal_in_the_middle_of_a_callback_waits_for_its_end_if_the_server_traps(machine):
    class Trapping(Patient):
        async def init(self, test):
            process.flag(trap_exit=True)
            return Ok((test, []))

    async def main():
        test = self_()

        async def parent():
            pid = await Trapping.start_link(test)
            GenServer.cast(pid, "slow")
            await sleep(0.5)
            raise Exit("shutdown")

        spawn(parent)
        assert await receive() == ("terminate", "shutdown", ["slow"])
        assert machine.now() == pytest.approx(2)

    machine.run(main)


def test_a_callback_that_awaits_something_foreign_is_told_what_to_write(machine):
    import asyncio

    class Foreign(GenServer):
        async def handle_call(self, request, caller, state):
            await asyncio.sleep(0)

    async def main():
        pid = await Foreign.start(None)
        reason, _ = await exit_of(GenServer.call(pid, "x"))
        assert kind_of(reason) is TypeError
        assert "process.from_asyncio" in str(reason.exception)

    machine.run(main)


# ---- what cannot be copied -----------------------------------------------------------------------------------------


def test_an_answer_that_cannot_be_copied_crashes_the_server_and_the_caller_is_told(machine, caplog):
    async def main():
        for answer in (
            lambda test: Reply(threading.Lock(), test),
            lambda test: Stop("normal", test, reply=threading.Lock()),
        ):
            pid = await start()
            reason, _ = await exit_of(GenServer.call(pid, answer))
            assert kind_of(reason) is CopyError
            [(tag, seen)] = await flush()
            assert (tag, kind_of(seen)) == ("terminate", CopyError)

    machine.run(main)
    assert len(reports_of(caplog)) == 2


def test_a_state_that_cannot_be_copied_is_no_danger_to_the_server(machine):
    class Locked(GenServer):
        def init(self, arg):
            return Ok({"lock": threading.Lock()})

        def handle_call(self, request, caller, state):
            return Reply(sorted(state), state)

        def format_status(self, status):
            return {**status, "state": "a lock"}

    async def main():
        pid = await Locked.start(None)
        with pytest.raises(CopyError, match="lock"):
            await system.get_state(pid)
        assert (await system.get_status(pid))["state"] == "a lock"
        assert await GenServer.call(pid, "keys") == ["lock"]

    machine.run(main)


def test_a_request_that_cannot_be_copied_is_the_callers_fault(machine):
    async def main():
        pid = await start()
        with pytest.raises(CopyError):
            await GenServer.call(pid, threading.Lock())
        for ask in (GenServer.cast, GenServer.send_request):
            with pytest.raises(CopyError):
                ask(pid, threading.Lock())
        assert process.alive(pid)
        assert await flush() == []

    machine.run(main)


def test_neither_state_nor_argument_nor_answer_is_shared_with_anybody(machine):
    class Keeper(GenServer):
        def handle_call(self, request, caller, state):
            state.append(request)
            return Reply(state, state)

    async def main():
        argument, request = [1], [2]
        pid = await Keeper.start(argument)
        argument.append("mine")
        answer = await GenServer.call(pid, request)
        request.append("mine")
        answer.append("mine")
        assert await system.get_state(pid) == [1, [2]]

    machine.run(main)


def test_ignoring_and_refusing_starts_leave_no_process_behind(machine):
    async def main():
        before = process.list()
        assert await start(lambda test: Ignore()) is None
        for refusal in (lambda test: Stop("no"), lambda test: 5, lambda test: 1 / 0):
            with pytest.raises(StartError):
                await start(refusal)
        await sleep(0.1)
        assert process.list() == before
        assert await flush() == []

    machine.run(main)
