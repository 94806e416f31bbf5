"""Tasks beyond the table: whose they are, what is copied, how they are ended, and where they can be used from."""

from __future__ import annotations

import asyncio
import threading

import pytest

from otplib import (
    CallTimeout,
    CopyError,
    Exit,
    Machine,
    Raised,
    Supervisor,
    process,
    receive,
    run,
    self_,
    send,
    sleep,
    spawn,
)
from otplib.behaviours.task import Task
from otplib.testing import deterministic
from tests.conformance.processes import end_of, flush, idle
from tests.conformance.servers import exit_of, reports_of


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


def leave(reason):
    raise Exit(reason)


async def wait_and_give(seconds):
    await sleep(seconds)
    return seconds


# ---- whose they are ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [Task.await_, Task.yield_, Task.shutdown, Task.ignore])
def test_only_its_owner_may_ask_a_task_and_the_error_names_it(machine, verb):
    async def main():
        task = Task.async_(idle)

        async def stranger():
            try:
                answer = verb(task)
                if answer is not None:
                    await answer
            except ValueError as error:
                return str(error), self_()

        text, other = await Task.await_(Task.async_(stranger))
        assert text == f"{task!r} must be queried from its owner {self_()!r}, but was queried from {other!r}"
        await Task.shutdown(task)

    machine.run(main)


@pytest.mark.parametrize("verb", [Task.await_many, Task.yield_many])
def test_only_their_owner_may_ask_many_tasks(machine, verb):
    async def main():
        task = Task.async_(idle)

        async def stranger():
            with pytest.raises(ValueError, match="must be queried from its owner"):
                await verb([Task.completed(1), task])

        await Task.await_(Task.async_(stranger))
        await Task.shutdown(task)

    machine.run(main)


def test_a_task_equals_itself_wherever_it_has_been(machine):
    async def main():
        task = Task.async_(lambda: 1)
        echoed = await Task.await_(Task.async_(lambda given: given, task))
        assert (echoed, hash(echoed)) == (task, hash(task))
        assert task != Task.completed(1)
        assert await Task.await_(echoed) == 1

    machine.run(main)


# ---- time ------------------------------------------------------------------------------------------------------------


def test_a_late_task_is_an_exit_and_a_time_out_and_what_it_says_later_is_dropped(machine):
    async def main():
        task = Task.async_(wait_and_give, 1)
        with pytest.raises(CallTimeout) as caught:
            await Task.await_(task, 0.5)
        assert caught.value.reason == ("timeout", ("Task", "await", [task, 0.5]))
        assert str(caught.value).splitlines()[1] == "    ** (EXIT) time out"
        assert process.alive(task.pid)
        await sleep(1)
        assert not process.alive(task.pid)
        return await flush()

    assert machine.run(main) == []


def test_a_late_task_ends_with_an_owner_that_does_not_catch_the_exit(machine):
    async def main():
        tasks = []

        async def owner():
            tasks.append(task := Task.async_(idle))
            await Task.await_(task, 0.5)

        reason = await end_of(owner)
        assert reason == ("timeout", ("Task", "await", [tasks[0], 0.5]))
        assert not process.alive(tasks[0].pid)

    machine.run(main)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_time_out_that_cannot_be_is_refused(machine, timeout):
    async def main():
        with pytest.raises(ValueError, match="timeout of 0 or more seconds"):
            await Task.await_(Task.completed(1), timeout)

    machine.run(main)


def test_many_tasks_share_one_time_out_and_what_is_late_is_dropped(machine):
    async def main():
        tasks = [Task.async_(wait_and_give, seconds) for seconds in (0.3, 0.6)]
        with pytest.raises(CallTimeout) as caught:
            await Task.await_many(tasks, 0.5)
        assert caught.value.reason == ("timeout", ("Task", "await_many", [tasks, 0.5]))
        assert machine.now() == pytest.approx(0.5)
        return await flush(1)

    assert machine.run(main) == []


def test_awaiting_many_ends_with_the_first_that_fails(machine):
    async def main():
        process.flag(trap_exit=True)
        tasks = [Task.completed(1), Task.async_(leave, "bad"), Task.async_(wait_and_give, 0.01)]
        assert await exit_of(Task.await_many(tasks)) == ("bad", ("Task", "await_many", [tasks, 5.0]))
        assert {message[0] for message in await flush()} == {"EXIT"}
        assert await Task.await_many([]) == []
        assert await Task.await_many(iter([Task.completed(1), Task.completed(2)])) == [1, 2]

    machine.run(main)


def test_an_owner_with_many_messages_gets_each_answer_and_keeps_the_rest(machine):
    async def main():
        for n in range(100):
            send(self_(), n)
        tasks = [Task.async_(wait_and_give, seconds / 100) for seconds in (3, 1, 2)]
        assert await Task.await_many(tasks) == [0.03, 0.01, 0.02]
        assert [await receive() for _ in range(100)] == [*range(100)]
        return await flush()

    assert machine.run(main) == []


# ---- what is copied --------------------------------------------------------------------------------------------------


def test_arguments_and_values_are_copied(machine):
    async def main():
        kept = [1]

        def change(given, *, more):
            given.append(2)
            more.append(3)
            return given

        value = await Task.await_(Task.async_(change, kept, more=kept))
        assert value == [1, 2]
        assert kept == [1]
        given = [1]
        assert await Task.await_(Task.completed(given)) is not given

    machine.run(main)


def test_a_value_that_cannot_be_copied_is_a_crash_of_the_task(machine, caplog):
    async def main():
        process.flag(trap_exit=True)
        for fn in (threading.Lock, async_lock):
            reason, _ = await exit_of(Task.await_(Task.async_(fn)))
            assert isinstance(reason, Raised)
            assert isinstance(reason.exception, CopyError)

    async def async_lock():
        return threading.Lock()

    machine.run(main)
    assert len(reports_of(caplog)) == 2


def test_what_cannot_run_is_refused_at_once_and_leaves_nothing_behind(machine):
    async def main():
        before = len(machine.aliases)
        for wrong in (5, "math.sqrt", (n for n in [])):
            with pytest.raises(TypeError):
                Task.async_(wrong)
        with pytest.raises(CopyError):
            Task.async_(print, threading.Lock())
        with pytest.raises(TypeError):
            Task.start(5)
        assert len(machine.aliases) == before
        assert await Task.await_(Task.async_(len, "abc")) == 3
        assert len(machine.aliases) == before

    machine.run(main)


def test_a_full_machine_refuses_a_task_and_keeps_no_alias():
    with deterministic(max_processes=5) as machine:

        async def main():
            before = len(machine.aliases)
            tasks = [Task.async_(idle) for _ in range(2)]
            with pytest.raises(Exception, match="the machine is full"):
                Task.async_(idle)
            assert len(machine.aliases) == before + 2
            for task in tasks:
                await Task.shutdown(task)

        machine.run(main)


# ---- ends ------------------------------------------------------------------------------------------------------------


async def stubborn():
    process.flag(trap_exit=True)
    while True:
        await receive()


def test_a_task_that_does_not_heed_the_signal_is_killed_when_its_time_is_over(machine):
    async def main():
        task = Task.async_(stubborn)
        await sleep(0.01)
        assert await Task.shutdown(task, 0.5) == ("exit", "killed")
        assert machine.now() == pytest.approx(0.51)
        task = Task.async_(stubborn)
        await sleep(0.01)
        assert await Task.shutdown(task, "brutal_kill") is None
        return await flush()

    assert machine.run(main) == []


def test_a_task_that_ends_otherwise_when_told_to_says_how(machine):
    async def obliging():
        process.flag(trap_exit=True)
        await receive(("EXIT", ..., "shutdown"))
        return "tidied"

    async def sulking():
        process.flag(trap_exit=True)
        await receive(("EXIT", ..., "shutdown"))
        raise Exit(("shutdown", "sulking"))

    async def main():
        outcomes = []
        for fn in (obliging, sulking):
            task = Task.async_(fn)
            await sleep(0.01)
            outcomes.append(await Task.shutdown(task))
        return outcomes, await flush()

    assert machine.run(main) == ([("ok", "tidied"), ("exit", ("shutdown", "sulking"))], [])


def test_what_was_never_a_process_or_is_over_and_asked_cannot_be_shut_down(machine):
    async def main():
        with pytest.raises(ValueError, match="does not have an associated task process"):
            await Task.shutdown(Task.completed(1))
        task = Task.async_(lambda: 1)
        with pytest.raises(ValueError, match="brutal_kill"):
            await Task.shutdown(task, "soon")
        assert await Task.await_(task) == 1
        assert await Task.shutdown(task) == ("exit", "noproc")

    machine.run(main)


def test_an_ignored_task_goes_on_alone(machine):
    async def main():
        task = Task.async_(wait_and_give, 0.5)
        assert Task.ignore(task) is None
        assert process.info(task.pid, "links") == []
        assert process.alive(task.pid)
        assert await flush(1) == []
        assert not process.alive(task.pid)
        task = Task.async_(lambda: 1)
        await sleep(0.01)
        assert Task.ignore(task) == ("ok", 1)
        process.flag(trap_exit=True)
        task = Task.async_(leave, "bad")
        await sleep(0.01)
        assert Task.ignore(task) == ("exit", "bad")
        assert await flush() == [("EXIT", task.pid, "bad")]
        assert Task.ignore(Task.completed(2)) == ("ok", 2)

    machine.run(main)


def test_a_killed_task_is_not_reported_and_its_owner_hears_of_it(machine, caplog):
    async def main():
        process.flag(trap_exit=True)
        task = Task.async_(idle)
        process.exit(task.pid, "kill")
        return await Task.yield_(task), await flush()

    (outcome, messages) = machine.run(main)
    assert outcome == ("exit", "killed")
    assert [message[2] for message in messages] == ["killed"]
    assert reports_of(caplog) == []


def test_a_task_may_end_without_a_value_and_without_a_report(machine, caplog):
    async def main():
        process.flag(trap_exit=True)
        return [await Task.yield_(Task.async_(leave, reason)) for reason in ("normal", "shutdown")]

    assert machine.run(main) == [("exit", "normal"), ("exit", "shutdown")]
    assert reports_of(caplog) == []


def test_the_end_of_the_owner_is_the_end_of_its_tasks(machine):
    async def main():
        async def owner(watcher):
            send(watcher, Task.async_(idle))
            raise Exit("gone")

        spawn(owner, self_())
        task = await receive(Task)
        ref = process.monitor(task.pid)
        assert (await receive(("DOWN", ref, ..., ..., ...))).reason in ("gone", "noproc")

    machine.run(main)


def test_a_look_into_a_task_shows_what_it_runs(machine):
    async def main():
        task = Task.async_(wait_and_give, 1)
        await sleep(0.01)
        assert process.info(task.pid, "dictionary")["$initial_call"] == (__name__, "wait_and_give", 1)
        assert task.mfa == (__name__, "wait_and_give", 1)
        await Task.shutdown(task)

    machine.run(main)


# ---- as a child ------------------------------------------------------------------------------------------------------


class Greeter(Task, restart="transient"):
    @classmethod
    def start_link(cls, arg):
        return Task.start_link(cls.greet, arg)

    @staticmethod
    def greet(arg):
        send(arg, "hello")


def test_a_task_is_a_temporary_child_and_a_subclass_may_be_another(machine):
    assert (Task.child_spec(idle).restart, Task.child_spec(idle).id) == ("temporary", Task)
    assert (Greeter.child_spec(1).restart, Greeter.child_spec(1).modules) == ("transient", [Greeter])

    async def main():
        sup = await Supervisor.start_link([(Task, idle), (Greeter, self_())], strategy="one_for_one")
        assert await receive() == "hello"
        await sleep(0.01)
        rows = {row.id: row.pid for row in await Supervisor.which_children(sup)}
        assert rows[Greeter] is None
        assert process.info(rows[Task], "dictionary")["$ancestors"] == [sup, self_()]
        await Supervisor.stop(sup)
        assert not process.alive(rows[Task])

    machine.run(main)


# ---- from ordinary code ----------------------------------------------------------------------------------------------


def test_a_script_has_tasks_too():
    with Machine():
        task = Task.async_(wait_and_give, 0)
        assert task.owner == self_()
        assert process.drive(Task.await_(task)) == 0
        tasks = [Task.async_(pow, 2, n) for n in range(50)]
        assert process.drive(Task.await_many(tasks)) == [2**n for n in range(50)]
        assert process.info(self_(), "messages") == []


def test_code_of_asyncio_has_tasks_too():
    async def main():
        task = Task.async_(wait_and_give, 0.001)
        assert await Task.yield_(task, 0) is None
        return await Task.await_(task), [one async for one in Task.async_stream([1, 2, 3], pow, 2)]

    with Machine():
        assert asyncio.run(main()) == (0.001, [("ok", 1), ("ok", 4), ("ok", 9)])


def test_tasks_of_many_owners_on_real_threads_come_to_their_own():
    async def owner(n):
        values = [await Task.await_(Task.async_(lambda a, b: (a, b), n, m)) for m in range(200)]
        assert values == [(n, m) for m in range(200)]
        return process.info(self_(), "messages")

    async def main():
        return await Task.await_many([Task.async_(owner, n) for n in range(10)], 30)

    with Machine() as machine:
        assert run(main) == [[]] * 10
        assert len(machine.aliases) == 0
