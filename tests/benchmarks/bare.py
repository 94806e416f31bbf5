"""The bare limit of each measure: what plain CPython allows when nothing is promised.

Coroutines are driven by `.send` from one loop with a `deque` as run queue; a message is a pair in that queue. There
are no pids, mailboxes, copies, links, locks, threads or turns: what otplib costs above this is the price of its
semantics. Where the subject is threads, two plain threads stand in; a ticker is `time.sleep(0.001)` on the main
thread beside hogs that are threads, at the interpreter's usual switch interval.
"""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from tests.benchmarks.figures import Figures, Program, lateness, quantile, rate, resident_bytes

Process = Coroutine[None, Any, Any]
RunQueue = deque[tuple[Process, Any]]


@types.coroutine
def bare_receive() -> Generator[None, Any, Any]:
    """Stop until somebody sends a value in."""
    return (yield)


def start(process: Process) -> Process:
    """Run a coroutine to its first wait."""
    process.send(None)
    return process


def drive(run_queue: RunQueue) -> None:
    """Hand out values until none is left; a coroutine that ends is simply gone."""
    while run_queue:
        process, message = run_queue.popleft()
        try:
            process.send(message)
        except StopIteration:
            pass


async def bare_idle() -> None:
    """Wait for one value."""
    await bare_receive()


async def bare_nothing() -> None:
    """End at once."""


def spawn_exit(n: int) -> Figures:
    """Make and finish coroutines through the run queue, a thousand at a time."""
    begun = time.perf_counter()
    for _ in range(n // 1000):
        run_queue: RunQueue = deque()
        for _ in range(1000):
            process: Process = bare_nothing()
            run_queue.append((process, None))
        drive(run_queue)
    return rate(n // 1000 * 1000, begun)


def memory(n: int) -> Figures:
    """Weigh a coroutine that waits, with nothing around it."""
    holder: list[Any] = [None] * n
    gc.collect()
    before = resident_bytes()
    for i in range(n):
        holder[i] = start(bare_idle())
    gc.collect()
    return {"bytes": (resident_bytes() - before) / n}


def _million(n: int, stop: Callable[[list[Process]], None]) -> Figures:
    begun = time.perf_counter()
    processes = [start(bare_idle()) for _ in range(n)]
    waiting = time.perf_counter()
    stop(processes)
    return {"spawn": waiting - begun, "stop": time.perf_counter() - waiting}


def million_by_message(n: int) -> Figures:
    """Make `n` waiting coroutines, then end each by a value."""
    return _million(n, lambda processes: drive(deque((process, "stop") for process in processes)))


def million_by_exit(n: int) -> Figures:
    """Make `n` waiting coroutines, then close each."""

    def close_all(processes: list[Process]) -> None:
        for process in processes:
            process.close()

    return _million(n, close_all)


def ping_pong(n: int) -> Figures:
    """Two coroutines hand a value to and fro."""
    run_queue: RunQueue = deque()

    async def pong() -> None:
        while True:
            sender = await bare_receive()
            run_queue.append((sender, "pong"))

    async def ping() -> None:
        for _ in range(n):
            run_queue.append((partner, me))
            await bare_receive()

    partner = start(pong())
    me = ping()
    begun = time.perf_counter()
    me.send(None)
    drive(run_queue)
    return rate(n, begun)


def _ring(hops: int, tokens: int) -> Figures:
    run_queue: RunQueue = deque()
    following: dict[int, Process] = {}

    async def forward(me: int) -> None:
        while True:
            left = await bare_receive()
            if left:
                run_queue.append((following[me], left - 1))

    processes = [start(forward(i)) for i in range(1000)]
    following.update({i: processes[(i + 1) % 1000] for i in range(1000)})
    each = hops // tokens
    begun = time.perf_counter()
    run_queue.extend([(processes[0], each)] * tokens)
    drive(run_queue)
    return rate(each * tokens, begun)


def _calls(n: int, clients: int, name: str | None = None) -> Figures:
    run_queue: RunQueue = deque()
    names: dict[str, Process] = {}

    async def serve() -> None:
        while True:
            client, tag, request = await bare_receive()
            run_queue.append((client, (tag, request)))

    async def call_all(count: int, me: list[Process]) -> None:
        for tag in range(count):
            run_queue.append((server if name is None else names[name], (me[0], tag, "request")))
            while (await bare_receive())[0] != tag:
                pass

    server = start(serve())
    names["echo"] = server
    begun = time.perf_counter()
    for _ in range(clients):
        me: list[Process] = []
        me.append(call_all(n // clients, me))
        run_queue.append((me[0], None))
    drive(run_queue)
    return rate(n // clients * clients, begun)


def cast(n: int) -> Figures:
    """One coroutine puts values into the run queue for another, which counts them."""
    run_queue: RunQueue = deque()

    async def serve() -> None:
        state = 0
        while True:
            await bare_receive()
            state += 1

    server = start(serve())
    begun = time.perf_counter()
    for i in range(n):
        run_queue.append((server, i))
    drive(run_queue)
    return rate(n, begun)


def fan_in(n: int) -> Figures:
    """A thousand coroutines put values into the run queue for one."""
    run_queue: RunQueue = deque()
    each = n // 1000

    async def consume() -> None:
        while True:
            await bare_receive()

    async def produce() -> None:
        await bare_receive()
        for i in range(each):
            run_queue.append((consumer, ("item", i)))

    consumer = start(consume())
    run_queue.extend((start(produce()), "go") for _ in range(1000))
    begun = time.perf_counter()
    drive(run_queue)
    return rate(each * 1000, begun)


def backlog(n: int) -> Figures:
    """Look for the last of `n` values in a deque and take it out."""
    box: deque[tuple[str, int]] = deque(("noise", i) for i in range(n))
    times = []
    for i in range(20):
        wanted = ("wanted", i)
        box.append(wanted)
        begun = time.perf_counter()
        for index, message in enumerate(box):
            if message == wanted:
                del box[index]
                break
        times.append(time.perf_counter() - begun)
    return {"us": quantile(times, 0.5) * 1e6}


def _close_linked(peers: dict[int, set[int]], first: int) -> Figures:
    processes = {i: start(bare_idle()) for i in peers}
    begun = time.perf_counter()
    doomed = deque([first])
    while doomed:
        dead = doomed.popleft()
        processes.pop(dead).close()
        for peer in peers.pop(dead):
            if peer in peers:
                peers[peer].discard(dead)
                doomed.append(peer)
    assert not processes
    return {"ms": (time.perf_counter() - begun) * 1e3}


def link_chain(n: int) -> Figures:
    """Close coroutines one after another along a chain of sets."""
    return _close_linked({i: {j for j in (i - 1, i + 1) if 0 <= j < n} for i in range(n)}, 0)


def link_star(n: int) -> Figures:
    """Close a coroutine and the `n` it is linked to."""
    return _close_linked({0: set(range(1, n + 1)), **{i: {0} for i in range(1, n + 1)}}, 0)


def restart(n: int) -> Figures:
    """Close a coroutine, start another, enter it into a dict."""
    names = {"phoenix": start(bare_idle())}
    times = []
    for _ in range(n):
        begun = time.perf_counter()
        names.pop("phoenix").close()
        names["phoenix"] = start(bare_idle())
        times.append(time.perf_counter() - begun)
    return {"us": quantile(times, 0.5) * 1e6}


def _ticker(n: int, hogs: int) -> Figures:
    stop = False

    def hog() -> None:
        while not stop:
            pass

    threads = [threading.Thread(target=hog, daemon=True) for _ in range(hogs)]
    for thread in threads:
        thread.start()
    late = []
    for _ in range(n):
        begun = time.perf_counter()
        time.sleep(0.001)
        late.append(time.perf_counter() - begun - 0.001)
    stop = True
    for thread in threads:
        thread.join()
    return lateness(late)


def ticker_sleepers(n: int) -> Figures:
    """A ticker beside four threads in `time.sleep(1)`."""

    def sleeper() -> None:
        while True:
            time.sleep(1)

    for _ in range(4):
        threading.Thread(target=sleeper, daemon=True).start()
    return _ticker(n, 0)


def _thread_echo(hogs: int) -> tuple[queue.SimpleQueue[Any], list[bool]]:
    """Start a thread that answers what comes through a queue, beside hogs that stop when the list says so."""
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stop = [False]

    def echo() -> None:
        while True:
            answer, value = requests.get()
            answer(value)

    def hog() -> None:
        while not stop[0]:
            pass

    for target in (echo, *[hog] * hogs):
        threading.Thread(target=target, daemon=True).start()
    return requests, stop


def _cell_run(n: int, hogs: int) -> Figures:
    requests, stop = _thread_echo(hogs)
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    times = []
    for i in range(n):
        begun = time.perf_counter()
        requests.put((answers.put, i))
        answers.get()
        times.append(time.perf_counter() - begun)
    stop[0] = True
    return {"us": quantile(times, 0.5) * 1e6}


def _cell_await(n: int, hogs: int) -> Figures:
    requests, stop = _thread_echo(hogs)

    async def cell() -> list[float]:
        loop = asyncio.get_running_loop()
        times = []
        for i in range(n):
            begun = time.perf_counter()
            answer = loop.create_future()
            requests.put((lambda value, to=answer: loop.call_soon_threadsafe(to.set_result, value), i))
            await answer
            times.append(time.perf_counter() - begun)
        return times

    times = asyncio.run(cell())
    stop[0] = True
    return {"us": quantile(times, 0.5) * 1e6}


PROGRAMS: dict[str, Program] = {
    "spawn_exit": spawn_exit,
    "memory_10k": memory,
    "memory_100k": memory,
    "memory_1m": memory,
    "million_by_message": million_by_message,
    "million_by_exit": million_by_exit,
    "ping_pong": ping_pong,
    "ring_1": lambda n: _ring(n, 1),
    "ring_100": lambda n: _ring(n, 100),
    "call_by_pid": lambda n: _calls(n, 1),
    "call_by_name": lambda n: _calls(n, 1, "echo"),
    "cast": cast,
    "clients_100": lambda n: _calls(n, 100),
    "fan_in": fan_in,
    "backlog": backlog,
    "link_chain": link_chain,
    "link_star": link_star,
    "restart": restart,
    "ticker_0": lambda n: _ticker(n, 0),
    "ticker_1": lambda n: _ticker(n, 1),
    "ticker_4": lambda n: _ticker(n, 4),
    "ticker_16": lambda n: _ticker(n, 16),
    "ticker_sleepers": ticker_sleepers,
    "cell_await_idle": lambda n: _cell_await(n, 0),
    "cell_await_busy": lambda n: _cell_await(n, 1),
    "cell_run_idle": lambda n: _cell_run(n, 0),
    "cell_run_busy": lambda n: _cell_run(n, 1),
}
