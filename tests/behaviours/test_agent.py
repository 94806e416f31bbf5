"""Agents beyond the table: how they start and end, what is copied, and async functions."""

from __future__ import annotations

import operator

import pytest

from otplib import CallTimeout, Exit, Machine, Raised, StartError, Supervisor, process, run, self_, sleep, system
from otplib.behaviours.agent import Agent
from otplib.testing import deterministic
from tests.conformance.processes import end_of, flush, idle
from tests.conformance.servers import exit_of, reports_of


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


def same(state):
    return state


def test_functions_may_be_async_and_take_arguments(machine):
    async def first(state, more):
        await sleep(0.1)
        return [state, more]

    async def slowly(state, more):
        await sleep(0.1)
        return [*state, more]

    async def both(state):
        await sleep(0.1)
        return len(state), []

    async def main():
        agent = await Agent.start_link(first, "a", "b")
        await Agent.update(agent, slowly, "c")
        Agent.cast(agent, slowly, "d")
        assert await Agent.get(agent, slowly, "e") == ["a", "b", "c", "d", "e"]
        assert await Agent.get(agent, operator.getitem, 1) == "b"
        assert await Agent.get_and_update(agent, both) == 4
        return await Agent.get(agent, same)

    assert machine.run(main) == []


def test_what_comes_and_goes_is_a_copy(machine):
    async def main():
        start = [1]
        agent = await Agent.start_link(same, start)
        start.append(2)
        (await Agent.get(agent, same)).append(3)
        more = [4]
        await Agent.update(agent, lambda state, given: [*state, given], more)
        more.append(5)
        return await system.get_state(agent)

    assert machine.run(main) == [1, [4]]


def test_a_function_that_raises_ends_the_agent_and_is_told_to_the_caller(machine, caplog):
    async def main():
        agent = await Agent.start(lambda: 0)
        match await exit_of(Agent.update(agent, operator.add, "x")):
            case (Raised(TypeError()), ("GenServer", "call", [_, ("update", operator.add, ("x",)), 5.0])):
                pass
            case other:
                raise AssertionError(other)
        assert not process.alive(agent)
        assert await flush() == []

    machine.run(main)
    [text] = reports_of(caplog)
    assert text.startswith("GenServer #PID<")
    assert text.splitlines()[1].startswith("** (TypeError) unsupported operand")


def test_what_is_no_pair_ends_the_agent(machine, caplog):
    async def main():
        for wrong in (5, [1, 2], (1, 2, 3)):
            agent = await Agent.start(lambda: 0)
            reason, _ = await exit_of(Agent.get_and_update(agent, lambda _, given: given, wrong))
            assert reason == ("bad_return_value", wrong)

    machine.run(main)
    assert len(reports_of(caplog)) == 3


def test_an_agent_that_cannot_start_says_why(machine):
    def broken():
        raise ValueError("no state")

    async def main():
        with pytest.raises(StartError) as caught:
            await Agent.start(broken)
        assert isinstance(caught.value.reason.exception, ValueError)
        with pytest.raises(StartError) as caught:
            await Agent.start(idle, timeout=1)
        assert caught.value.reason == "timeout"
        agent = await Agent.start(lambda: 0, name="count")
        with pytest.raises(StartError) as caught:
            await Agent.start(lambda: 0, name="count")
        assert caught.value.reason == ("already_started", agent)

        async def linked():
            await Agent.start_link(broken)

        assert isinstance(await end_of(linked), Raised)

    machine.run(main)


@pytest.mark.parametrize("verb", [Agent.get, Agent.update, Agent.get_and_update, Agent.cast])
def test_what_is_no_function_is_refused_by_the_caller(machine, verb):
    async def main():
        agent = await Agent.start_link(lambda: 0)

        async def ask():
            outcome = verb(agent, 5)
            if outcome is not None:
                await outcome

        with pytest.raises(TypeError, match="expected a function"):
            await ask()
        with pytest.raises(TypeError, match="expected a function"):
            await Agent.start_link(5)
        return await Agent.get(agent, same)

    assert machine.run(main) == 0


def test_the_end_of_an_agent(machine):
    async def main():
        agent = await Agent.start_link(lambda: 0, name="count")
        process.flag(trap_exit=True)
        await Agent.stop("count", ("shutdown", "enough"))
        assert await flush() == [("EXIT", agent, ("shutdown", "enough"))]
        Agent.cast("count", same)
        assert (await exit_of(Agent.get("count", same)))[0] == "noproc"
        with pytest.raises(CallTimeout):
            await Agent.get(await Agent.start_link(lambda: 0), idle_with, timeout=0.1)

    async def idle_with(state):
        await idle()

    machine.run(main)


def test_the_dictionary_of_an_agent_names_its_first_function(machine):
    async def main():
        agent = await Agent.start_link(same, 1)
        assert process.info(agent, "dictionary") == {"$initial_call": (__name__, "same", 1), "$ancestors": [self_()]}

    machine.run(main)


class Counter(Agent, restart="transient", shutdown=1.0):
    @classmethod
    async def start_link(cls, start):
        return await Agent.start_link(lambda: start, name="counter")

    @staticmethod
    async def next():
        return await Agent.get_and_update("counter", lambda count: (count, count + 1))


def test_an_agent_is_a_child_and_is_restarted_with_its_first_state(machine):
    assert (Counter.child_spec(1).id, Counter.child_spec(1).restart, Counter.child_spec(1).shutdown) == (
        Counter,
        "transient",
        1.0,
    )

    class Other(Counter, id="other"):
        pass

    assert (Other.child_spec(1).id, Other.child_spec(1).restart) == ("other", "transient")

    async def main():
        sup = await Supervisor.start_link([(Agent, dict), (Counter, 7)], strategy="one_for_one")
        assert [await Counter.next(), await Counter.next()] == [7, 8]
        process.exit(process.whereis("counter"), "kill")
        await sleep(0.01)
        assert await Counter.next() == 7
        await Supervisor.stop(sup)

    machine.run(main)


def test_the_state_is_the_users_own_for_those_who_look(machine):
    async def main():
        agent = await Agent.start_link(lambda: {"a": 1})
        assert await system.replace_state(agent, lambda state: {**state, "b": 2}) == {"a": 1, "b": 2}
        await system.suspend(agent)
        await system.change_code(agent, None, lambda state: [*state])
        await system.resume(agent)
        return await Agent.get(agent, same)

    assert machine.run(main) == ["a", "b"]


def test_ordinary_code_has_agents_too():
    with Machine():
        agent = process.drive(Agent.start(lambda: 41))
        process.drive(Agent.update(agent, operator.add, 1))
        assert process.drive(Agent.get(agent, same)) == 42
        assert run(Agent.get, agent, same) == 42
        with pytest.raises(Exit):
            process.drive(Agent.get("nobody", same))
