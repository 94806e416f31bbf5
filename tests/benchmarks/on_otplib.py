"""The measured programs on otplib: ordinary user code, default settings, the garbage collector as otplib leaves it."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable
from typing import Any

from otplib import Pid, process, receive, run, self_, send, sleep, spawn, spawn_link, spawn_monitor
from tests.benchmarks.figures import Figures, Program, rate, resident_bytes

BATCH = 1000


def in_process(body: Callable[[int], Awaitable[Figures]]) -> Program:
    """Give a program that runs `body` as a process and waits for its figures."""

    def program(n: int) -> Figures:
        figures: Figures = run(body, n)
        return figures

    return program


async def idle() -> None:
    """Wait for one message and end."""
    await receive()


async def nothing() -> None:
    """End at once."""


async def tell(root: Pid) -> None:
    """Report and end: what was spawned before has had its first step by then, as the run queue is first come."""
    send(root, "done")


async def spawn_exit(n: int) -> Figures:
    """The last process of each batch reports, so no more than a batch is alive at once."""
    root = self_()
    begun = time.perf_counter()
    for _ in range(n // BATCH):
        for _ in range(BATCH - 1):
            spawn(nothing)
        spawn(tell, root)
        await receive()
    return rate(n // BATCH * BATCH, begun)


async def spawn_idle(holder: list[Any]) -> None:
    """Fill `holder` with pids of processes that all wait."""
    for i in range(len(holder)):
        holder[i] = spawn(idle)
    spawn(tell, self_())
    await receive("done")
    for pid in holder[-3:]:
        while process.info(pid, "status") != "waiting":
            await sleep(0)


async def memory(n: int) -> Figures:
    """Weigh processes that wait; the list of their pids is there before."""
    holder: list[Any] = [None] * n
    await sleep(0.01)
    gc.collect()
    before = resident_bytes()
    await spawn_idle(holder)
    gc.collect()
    return {"bytes": (resident_bytes() - before) / n}


def _million(stop: Callable[[Pid], Any]) -> Program:
    async def program(n: int) -> Figures:
        holder: list[Any] = [None] * n
        others = len(process.list())
        begun = time.perf_counter()
        await spawn_idle(holder)
        waiting = time.perf_counter()
        last = process.monitor(holder[-1])
        for pid in holder:
            stop(pid)
        await receive(("DOWN", last, ..., ..., ...))
        while process.alive(holder[0]) or process.alive(holder[n // 2]):
            await sleep(0)
        gone = time.perf_counter()
        left = len(process.list()) - others
        if left > 0:
            raise AssertionError(f"{left} of {n} processes are still alive")
        return {"spawn": waiting - begun, "stop": gone - waiting}

    return in_process(program)


async def pong() -> None:
    """Answer each ping."""
    while True:
        match await receive():
            case ("ping", sender):
                send(sender, ("pong", self_()))


async def ping_pong(n: int) -> Figures:
    """Two processes, each message a tuple with a pid in it."""
    partner = spawn(pong)
    me = self_()
    begun = time.perf_counter()
    for _ in range(n):
        send(partner, ("ping", me))
        match await receive():
            case ("pong", _):
                pass
    return rate(n, begun)


async def forward(following: Pid | None, root: Pid) -> None:
    """Pass each token on, one less at each hop; a token of 0 is reported."""
    if following is None:
        following = (await receive(("next", Pid)))[1]
    while True:
        left = await receive()
        if left:
            send(following, left - 1)
        else:
            send(root, "done")


def _ring(tokens: int) -> Program:
    async def program(hops: int) -> Figures:
        root = self_()
        first = last = spawn(forward, None, root)
        for _ in range(999):
            last = spawn(forward, last, root)
        send(first, ("next", last))
        await sleep(0.01)
        each = hops // tokens
        begun = time.perf_counter()
        for _ in range(tokens):
            send(first, each)
        for _ in range(tokens):
            await receive("done")
        return rate(each * tokens, begun)

    return in_process(program)


async def produce(root: Pid) -> None:
    """Send as many items as it is told to."""
    for i in range(await receive(int)):
        send(root, ("item", i))


async def fan_in(n: int) -> Figures:
    """A thousand senders, one receiver."""
    each = n // 1000
    producers = [spawn(produce, self_()) for _ in range(1000)]
    await sleep(0.01)
    begun = time.perf_counter()
    for pid in producers:
        send(pid, each)
    for _ in range(each * 1000):
        await receive()
    return rate(each * 1000, begun)


async def backlog(n: int) -> Figures:
    """Look for the last of `n` messages by a pattern, twenty times."""
    me = self_()
    for i in range(n):
        send(me, ("noise", i))
    times = []
    for i in range(20):
        send(me, ("wanted", i))
        begun = time.perf_counter()
        await receive(("wanted", i))
        times.append(time.perf_counter() - begun)
    return {"us": sorted(times)[10] * 1e6}


async def chain(length: int, root: Pid) -> None:
    """Link to the next of the chain, and wait; the last one reports."""
    if length > 1:
        spawn_link(chain, length - 1, root)
    else:
        send(root, ("end", self_()))
    await receive()


async def link_chain(n: int) -> Figures:
    """The first one is monitored, the last one is hit: the signal walks the whole chain."""
    _, watch = spawn_monitor(chain, n, self_())
    _, last = await receive(("end", Pid))
    begun = time.perf_counter()
    process.exit(last, "boom")
    await receive(("DOWN", watch, ..., ..., ...))
    return {"ms": (time.perf_counter() - begun) * 1e3}


async def hub(n: int, root: Pid) -> None:
    """Be linked to `n` processes that wait."""
    send(root, ("leaves", tuple(spawn_link(idle) for _ in range(n))))
    await receive()


async def link_star(n: int) -> Figures:
    """The hub is hit; the end is when every leaf is known to be down."""
    middle = spawn(hub, n, self_())
    _, leaves = await receive(("leaves", tuple))
    refs = [process.monitor(leaf) for leaf in leaves]
    begun = time.perf_counter()
    process.exit(middle, "boom")
    for _ in refs:
        await receive(("DOWN", ..., ..., ..., "boom"))
    return {"ms": (time.perf_counter() - begun) * 1e3}


PROGRAMS: dict[str, Program] = {
    "spawn_exit": in_process(spawn_exit),
    "memory_10k": in_process(memory),
    "memory_100k": in_process(memory),
    "memory_1m": in_process(memory),
    "million_by_message": _million(lambda pid: send(pid, "stop")),
    "million_by_exit": _million(lambda pid: process.exit(pid, "shutdown")),
    "ping_pong": in_process(ping_pong),
    "ring_1": _ring(1),
    "ring_100": _ring(100),
    "fan_in": in_process(fan_in),
    "backlog": in_process(backlog),
    "link_chain": in_process(link_chain),
    "link_star": in_process(link_star),
}
