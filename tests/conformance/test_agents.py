"""Section 5 of the table: agents."""

from __future__ import annotations

from otplib import process, self_, sleep, system
from otplib.behaviours.agent import Agent
from tests.conformance.processes import play
from tests.conformance.servers import exit_of


def test_a01_an_agent_gives_and_changes_its_state():
    """a01_agent.exs"""

    async def main():
        agent = await Agent.start_link(lambda: 0)
        assert await Agent.get(agent, lambda state: state) == 0
        assert await Agent.update(agent, lambda state: state + 1) is None
        assert Agent.cast(agent, lambda state: state + 10) is None
        assert await Agent.get_and_update(agent, lambda state: (state, state * 2)) == 11
        assert await system.get_state(agent) == 22
        await Agent.stop(agent)

        def same(state):
            return state

        gone = ("noproc", ("GenServer", "call", [agent, ("get", same, ()), 5.0]))
        assert await exit_of(Agent.get(agent, same)) == gone
        assert not process.alive(agent)

    play(main)


def test_a03_functions_run_in_the_agent_and_keep_it_busy():
    """a03_agent_runs_in_server.exs"""

    async def slow(state):
        await sleep(0.2)
        return state

    async def main():
        agent = await Agent.start_link(lambda: 0)
        assert await Agent.get(agent, lambda _: self_()) == agent
        Agent.cast(agent, slow)

        def same(state):
            return state

        late = ("timeout", ("GenServer", "call", [agent, ("get", same, ()), 0.05]))
        assert await exit_of(Agent.get(agent, same, timeout=0.05)) == late
        assert await Agent.get(agent, same) == 0

    play(main)
