"""What the scripts of the table say with `h.exs`: drain a mailbox, see how a process ends, have a dead one at hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from otplib import Pid, receive, sleep, spawn_monitor
from otplib.testing import deterministic

SEEDS = range(5)


def play(scenario: Callable[..., Any], *args: Any, **options: Any) -> list[Any]:
    """Run a scenario as a process, once for each of several orders of turns; give what each run gave."""
    results = []
    for seed in SEEDS:
        with deterministic(seed, **options) as machine:
            results.append(machine.run(scenario, *args))
    return results


async def flush(quiet: float = 0.06) -> list[Any]:
    """Take all messages until none has come for `quiet` seconds (`H.flush`)."""
    taken = []
    while True:
        try:
            taken.append(await receive(timeout=quiet))
        except TimeoutError:
            return taken


async def end_of(fn: Callable[..., Any], *args: Any, timeout: float = 2.0) -> Any:
    """Run `fn` in a new process and give its exit reason, or "still_alive" (`H.down`)."""
    pid, ref = spawn_monitor(fn, *args)
    try:
        down = await receive(("DOWN", ref, "process", pid, ...), timeout=timeout)
    except TimeoutError:
        return "still_alive"
    return down.reason


async def idle() -> None:
    """Wait for ever (`H.idle`)."""
    await sleep(math.inf)


async def dead() -> Pid:
    """Give the pid of a process that has ended (`H.dead`)."""
    pid, ref = spawn_monitor(lambda: None)
    await receive(("DOWN", ref, ..., ..., ...))
    return pid
