"""The measured programs on otplib, third part: tasks, agents, registries and dynamic supervisors."""

from __future__ import annotations

import time
from typing import Any

from otplib import Agent, ChildSpec, DynamicSupervisor, GenServer, Ok, Registry, Task, process, receive
from otplib.core.reasons import Down
from tests.benchmarks.figures import Figures, Program, rate
from tests.benchmarks.on_otplib import in_process


class Idle(GenServer):
    """Does nothing, as a child of others."""

    def init(self, arg: Any) -> Any:
        return Ok(arg)


def nothing() -> int:
    """What a task has to do."""
    return 1


async def task(n: int) -> Figures:
    """Start a task and take its result, one after the other."""
    begun = time.perf_counter()
    for _ in range(n):
        await Task.await_(Task.async_(nothing))
    return rate(n, begun)


async def agent_get(n: int) -> Figures:
    """Read an agent's state."""
    agent = await Agent.start_link(lambda: 1)
    begun = time.perf_counter()
    for _ in range(n):
        await Agent.get(agent, _same)
    return rate(n, begun)


def _same(state: Any) -> Any:
    return state


async def registry_lookup(n: int) -> Figures:
    """Look up a key of a unique registry."""
    await Registry.start_link(keys="unique", name="bench")
    Registry.register("bench", "key", 1)
    begun = time.perf_counter()
    for _ in range(n):
        Registry.lookup("bench", "key")
    return rate(n, begun)


async def dynamic_children(n: int) -> Figures:
    """Start children under a dynamic supervisor, then stop them all with it."""
    supervisor = await DynamicSupervisor.start_link(None)
    spec = ChildSpec("child", (Idle.start_link, (None,)), restart="temporary")
    begun = time.perf_counter()
    for _ in range(n):
        await DynamicSupervisor.start_child(supervisor, spec)
    started = time.perf_counter()
    process.unlink(supervisor)
    process.monitor(supervisor)
    process.exit(supervisor, "shutdown")
    await receive(Down)
    return {"rate": n / (started - begun), "stop": time.perf_counter() - started}


PROGRAMS: dict[str, Program] = {
    "task": in_process(task),
    "agent_get": in_process(agent_get),
    "registry_lookup": in_process(registry_lookup),
    "dynamic_children": in_process(dynamic_children),
}
