"""Supervisors of tasks: what they take, how their tasks end, and what they are asked over the wire."""

from __future__ import annotations

import pytest

from otplib import (
    ChildError,
    Exit,
    GenServer,
    Global,
    Raised,
    Reply,
    StartError,
    Supervisor,
    process,
    receive,
    self_,
    send,
    sleep,
    spawn,
)
from otplib.behaviours.task import Task
from otplib.core.function_names import UndefinedFunctionError
from otplib.testing import deterministic
from tests.conformance.processes import end_of, flush, idle
from tests.conformance.servers import exit_of, reports_of


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


def leave(reason):
    raise Exit(reason)


def test_a_task_of_a_supervisor_runs_a_function_or_what_a_name_means(machine):
    async def main():
        sup = await Task.Supervisor.start_link()
        task = await Task.Supervisor.async_(sup, divmod, 7, 2)
        assert (task.owner, task.mfa) == (self_(), ("builtins", "divmod", 2))
        assert await Task.await_(task) == (3, 1)
        task = await Task.Supervisor.async_(sup, "math.sqrt", 2.25)
        assert task.mfa == ("Elixir.math", "sqrt", 1)
        assert await Task.await_(task) == 1.5
        return await flush()

    assert machine.run(main) == []


def test_a_linked_task_ends_with_its_owner_and_the_owner_with_it(machine):
    async def main():
        sup = await Task.Supervisor.start_link()

        async def failing_task():
            await Task.await_(await Task.Supervisor.async_(sup, leave, "bad"))

        async def failing_owner():
            await Task.Supervisor.async_(sup, idle)
            raise Exit("gone")

        assert await end_of(failing_task) == "bad"
        assert await end_of(failing_owner) == "gone"
        await sleep(0.01)
        return await Task.Supervisor.children(sup)

    assert machine.run(main) == []


def test_a_task_that_is_not_linked_outlives_its_owner(machine):
    async def main():
        sup = await Task.Supervisor.start_link()

        async def owner():
            await Task.Supervisor.async_nolink(sup, idle)
            await sleep(0.01)
            raise Exit("gone")

        assert await end_of(owner) == "gone"
        [pid] = await Task.Supervisor.children(sup)
        await Task.Supervisor.terminate_child(sup, pid)
        assert not process.alive(pid)
        with pytest.raises(ChildError) as caught:
            await Task.Supervisor.terminate_child(sup, pid)
        assert caught.value.reason == "not_found"

    machine.run(main)


def test_a_task_knows_its_supervisor_and_its_owner(machine):
    async def main():
        process.register(self_(), "boss")
        sup = await Task.Supervisor.start_link(name="jobs")

        def look():
            return {key: process.get(key) for key in process.get_keys()}

        found = await Task.await_(await Task.Supervisor.async_("jobs", look))
        assert found["$callers"] == [self_()]
        assert found["$ancestors"] == ["jobs", "boss"]
        assert found["$initial_call"][1:] == (look.__qualname__, 0)
        await Task.Supervisor.start_child(sup, lambda to: send(to, look()), self_())
        assert (await receive())["$callers"] == [self_()]

    machine.run(main)


def test_a_supervisor_that_is_full_refuses_and_says_what_to_do(machine):
    async def main():
        sup = await Task.Supervisor.start_link(max_children=1)
        await Task.Supervisor.start_child(sup, idle)
        for ask in (Task.Supervisor.async_, Task.Supervisor.async_nolink, Task.Supervisor.start_child):
            with pytest.raises(StartError) as caught:
                await ask(sup, idle)
            assert caught.value.reason == "max_children"
            assert "max_children" in caught.value.__notes__[0]
        assert await flush() == []

    machine.run(main)


def test_a_transient_child_runs_again_until_it_ends_well(machine, caplog):
    tries = []

    def moody(to):
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not today")
        send(to, "done")

    async def main():
        sup = await Task.Supervisor.start_link()
        await Task.Supervisor.start_child(sup, moody, self_(), restart="transient")
        assert await receive(timeout=1) == "done"
        await sleep(0.01)
        return await Task.Supervisor.children(sup)

    assert machine.run(main) == []
    assert len(tries) == 3
    assert len(reports_of(caplog)) == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"restart": "sometimes"}, ("invalid_restart_type", "sometimes")),
        ({"shutdown": "now"}, ("invalid_shutdown", "now")),
    ],
)
def test_a_wrong_option_is_refused(machine, options, reason):
    async def main():
        sup = await Task.Supervisor.start_link()
        with pytest.raises(StartError) as caught:
            await Task.Supervisor.start_child(sup, idle, **options)
        assert caught.value.reason == reason

    machine.run(main)


@pytest.mark.parametrize(("shutdown", "seconds"), [(0.5, 0.5), ("brutal_kill", 0), (None, 5)])
def test_a_supervisor_that_stops_gives_its_tasks_the_time_they_were_promised(machine, shutdown, seconds):
    async def stubborn():
        process.flag(trap_exit=True)
        while True:
            await receive()

    async def main():
        sup = await Task.Supervisor.start_link()
        pid = await Task.Supervisor.start_child(sup, stubborn, shutdown=shutdown)
        await sleep(1)
        await Task.Supervisor.stop(sup)
        assert machine.now() == pytest.approx(1 + seconds)
        assert not process.alive(pid)

    machine.run(main)


def test_what_cannot_be_found_or_called_or_asked_is_an_error(machine, caplog):
    async def main():
        sup = await Task.Supervisor.start_link()
        task = await Task.Supervisor.async_nolink(sup, "nowhere.at_all", 1)
        match await Task.yield_(task):
            case ("exit", Raised(UndefinedFunctionError())):
                pass
            case other:
                raise AssertionError(other)
        with pytest.raises(TypeError):
            await Task.Supervisor.async_(sup, 5)
        with pytest.raises(ValueError, match="expected a function such as"):
            await Task.Supervisor.async_(sup, "no such name.")
        reason, _ = await exit_of(Task.Supervisor.async_("nobody", idle))
        assert reason == "noproc"
        assert await Task.Supervisor.children(sup) == []

        class Stranger(GenServer):
            def handle_call(self, request, caller, state):
                return Reply("what?", state)

        with pytest.raises(TypeError, match=r"expected a Task.Supervisor"):
            await Task.Supervisor.async_(await Stranger.start_link(), idle)

    machine.run(main)
    [text] = reports_of(caplog)
    assert text.splitlines()[-2:] == ["Function: nowhere.at_all", "    Args: [1]"]


def test_a_task_whose_owner_ends_before_it_says_what_to_run_ends_too(machine):
    async def main():
        sup = await Task.Supervisor.start_link()

        async def owner(to):
            args = [("nonode@nohost", self_(), self_()), "monitor"]
            _, pid = await GenServer.call(sup, ("start_task", args, "temporary", None))
            send(to, pid)
            await receive("go")
            raise Exit("gone")

        first = spawn(owner, self_())
        ref = process.monitor(await receive())
        await sleep(0.01)
        send(first, "go")
        assert (await receive(("DOWN", ref, ..., ..., ...))).reason == ("shutdown", "gone")
        spawn(owner, self_())
        ref = process.monitor(await receive())
        assert (await receive(("DOWN", ref, ..., ..., ...))).reason == "timeout"
        assert machine.now() == pytest.approx(5.01)

    machine.run(main)


def test_a_supervisor_of_tasks_is_a_child_by_its_options(machine):
    spec = Task.Supervisor.child_spec({"name": Global("jobs"), "max_children": 2})
    assert (spec.id, spec.type, spec.shutdown) == ("jobs", "supervisor", "infinity")
    assert Task.Supervisor.child_spec().id is Task.Supervisor
    with pytest.raises(TypeError, match=r"expected the options of a Task\.Supervisor as a dict"):
        Task.Supervisor.child_spec("jobs")

    async def main():
        await Supervisor.start_link([(Task.Supervisor, {"name": "jobs"})], strategy="one_for_one")
        return await Task.await_(await Task.Supervisor.async_("jobs", abs, -1))

    assert machine.run(main) == 1
