"""The measured programs on otplib, second part: servers, supervisors, tickers, and calls from outside the machine."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

from otplib import (
    GenServer,
    NoReply,
    Ok,
    Pid,
    Reply,
    Supervise,
    Supervisor,
    process,
    receive,
    run,
    self_,
    send,
    sleep,
    spawn,
)
from tests.benchmarks.figures import Figures, Program, lateness, quantile, rate
from tests.benchmarks.on_otplib import in_process, spawn_idle


class Echo(GenServer):
    """Answers with the request, counts casts."""

    def init(self, arg: Any) -> Any:
        return Ok(0)

    def handle_call(self, request: Any, caller: Any, state: int) -> Any:
        return Reply(request, state)

    def handle_cast(self, request: Any, state: int) -> Any:
        return NoReply(state + 1)


async def start_echo() -> Pid:
    """Start an `Echo` that has no name."""
    server = await Echo.start(None)
    assert server is not None
    return server


async def start_phoenix() -> Pid | None:
    """Start what the supervisor keeps alive."""
    return await Echo.start_link(None, name="phoenix")


class Nest(Supervisor):
    """Keeps one `Echo` called "phoenix" alive, however often it is killed."""

    def init(self, arg: Any) -> Any:
        child = Supervisor.child_spec(Echo, start=(start_phoenix, ()))
        return Supervise([child], strategy="one_for_one", max_restarts=1_000_000, max_seconds=1)


async def _calls(server: Pid | str, n: int) -> Figures:
    begun = time.perf_counter()
    for i in range(n):
        await GenServer.call(server, i)
    return rate(n, begun)


async def call_by_pid(n: int) -> Figures:
    """One client, one server."""
    return await _calls(await start_echo(), n)


async def call_by_name(n: int) -> Figures:
    """One client, one server with a name."""
    await Echo.start(None, name="echo_by_name")
    return await _calls("echo_by_name", n)


async def cast(n: int) -> Figures:
    """End to end: the call comes back once the server has handled every cast before it."""
    server = await start_echo()
    begun = time.perf_counter()
    for i in range(n):
        GenServer.cast(server, i)
    await GenServer.call(server, "sync", timeout=None)
    return rate(n, begun)


async def client(server: Pid, n: int, root: Pid) -> None:
    """Call `n` times, then report."""
    for i in range(n):
        await GenServer.call(server, i, timeout=None)
    send(root, "done")


async def clients_100(n: int) -> Figures:
    """A hundred processes call one server."""
    server = await start_echo()
    root = self_()
    begun = time.perf_counter()
    for _ in range(100):
        spawn(client, server, n // 100, root)
    for _ in range(100):
        await receive("done")
    return rate(n // 100 * 100, begun)


async def restart(n: int) -> Figures:
    """From the kill until another pid has the name, polled."""
    await Nest.start_link(None)
    times = []
    for _ in range(n):
        old = process.whereis("phoenix")
        assert old is not None
        begun = time.perf_counter()
        process.exit(old, "kill")
        while process.whereis("phoenix") in (None, old):
            await sleep(0)
        times.append(time.perf_counter() - begun)
    return {"us": quantile(times, 0.5) * 1e6}


async def hog() -> None:
    """Keep a thread busy for ever; the process of the measure is ended from outside."""
    while True:
        pass


async def sleeper() -> None:
    """Block a thread, again and again."""
    while True:
        time.sleep(1)


def settling(n: int) -> float:
    """Give the seconds in which the watchdog finds the hogs before anything is measured; short in a tiny run."""
    return min(0.3, n / 1000)


async def tick(n: int) -> Figures:
    """Lateness: from entering a receive with a time-out of 1 ms until it gives up, minus that millisecond."""
    await sleep(settling(n))
    late = []
    for _ in range(n):
        begun = time.perf_counter()
        try:
            await receive(timeout=0.001)
        except TimeoutError:
            late.append(time.perf_counter() - begun - 0.001)
    return lateness(late)


def _ticker(body: Any, count: int) -> Program:
    def program(n: int) -> Figures:
        for _ in range(count):
            spawn(body)
        figures: Figures = run(tick, n)
        return figures

    return program


def _start_cell(n: int, hogs: int) -> Pid:
    server: Pid = run(start_echo)
    for _ in range(hogs):
        spawn(hog)
    time.sleep(settling(n))
    return server


def _cell_await(hogs: int) -> Program:
    def program(n: int) -> Figures:
        server = _start_cell(n, hogs)

        async def cell() -> list[float]:
            times = []
            for i in range(n):
                begun = time.perf_counter()
                await GenServer.call(server, i)
                times.append(time.perf_counter() - begun)
            return times

        return {"us": quantile(asyncio.run(cell()), 0.5) * 1e6}

    return program


def _cell_run(hogs: int) -> Program:
    def program(n: int) -> Figures:
        server = _start_cell(n, hogs)
        times = []
        for i in range(n):
            begun = time.perf_counter()
            run(GenServer.call, server, i)
            times.append(time.perf_counter() - begun)
        return {"us": quantile(times, 0.5) * 1e6}

    return program


def idle_cpu(milliseconds: int) -> Figures:
    """CPU time of the whole interpreter while 1,000 processes wait, in per cent of one core."""
    run(spawn_idle, [None] * 1000)
    time.sleep(settling(milliseconds))
    gc.collect()
    begun, spent = time.perf_counter(), time.process_time()
    time.sleep(milliseconds / 1000)
    return {"percent": (time.process_time() - spent) / (time.perf_counter() - begun) * 100}


PROGRAMS: dict[str, Program] = {
    "call_by_pid": in_process(call_by_pid),
    "call_by_name": in_process(call_by_name),
    "cast": in_process(cast),
    "clients_100": in_process(clients_100),
    "restart": in_process(restart),
    "ticker_0": _ticker(hog, 0),
    "ticker_1": _ticker(hog, 1),
    "ticker_4": _ticker(hog, 4),
    "ticker_16": _ticker(hog, 16),
    "ticker_sleepers": _ticker(sleeper, 4),
    "cell_await_idle": _cell_await(0),
    "cell_await_busy": _cell_await(1),
    "cell_run_idle": _cell_run(0),
    "cell_run_busy": _cell_run(1),
    "idle_cpu": idle_cpu,
}
