"""The measured programs on otplib, third part: between two nodes, each an interpreter of its own."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from otplib import GenServer, Pid, erpc, node, process, receive, rpc, run, self_, send
from tests.benchmarks.figures import Figures, Program, quantile, rate
from tests.benchmarks.on_otplib import nothing
from tests.benchmarks.on_otplib_servers import start_echo

MEGABYTE = b"\xff" * 1_000_000
#: So many binaries are under way at most: a node gives up a peer for which hundreds of megabytes wait.
UNDER_WAY = 100


async def pong() -> None:
    """Answer each message; `"halt"` ends the whole interpreter at once."""
    while True:
        match await receive():
            case ("ping", sender):
                send(sender, "pong")
            case "halt":
                os._exit(0)


async def sink() -> None:
    """Take in what comes, and answer when asked."""
    while True:
        match await receive():
            case ("sync", sender):
                send(sender, "synced")


async def tell_echo(root: Pid) -> None:
    """Start an `Echo` here and tell its pid."""
    send(root, ("echo", await start_echo()))


async def _ping(partner: Pid, n: int) -> None:
    message = ("ping", self_())
    for _ in range(n):
        send(partner, message)
        await receive("pong")


async def ping_pong(n: int, there: str) -> Figures:
    """To the other node and back, one at a time."""
    partner = await node.spawn(there, pong)
    await _ping(partner, 1)
    begun = time.perf_counter()
    await _ping(partner, n)
    return rate(n, begun)


async def sends(n: int, there: str) -> Figures:
    """Small messages one way, until the last has come."""
    target = await node.spawn(there, sink)
    begun = time.perf_counter()
    for i in range(n):
        send(target, ("item", i))
    await _sync(target)
    return rate(n, begun)


async def binaries(n: int, there: str) -> Figures:
    """Megabytes one way, until the last has come."""
    target = await node.spawn(there, sink)
    begun = time.perf_counter()
    for i in range(n):
        send(target, MEGABYTE)
        if i % UNDER_WAY == 0:
            await _sync(target)
    await _sync(target)
    return rate(n, begun)


async def _sync(target: Pid) -> None:
    send(target, ("sync", self_()))
    await receive("synced")


async def _again(n: int, act: Callable[[], Awaitable[Any]]) -> Figures:
    await act()
    begun = time.perf_counter()
    for _ in range(n):
        await act()
    return rate(n, begun)


async def calls_by_rpc(n: int, there: str) -> Figures:
    """`rpc.call` of a function by its name."""
    return await _again(n, lambda: rpc.call(there, "math.sqrt", 4.0))


async def calls_by_erpc(n: int, there: str) -> Figures:
    """`erpc.call` of a function by its name."""
    return await _again(n, lambda: erpc.call(there, "math.sqrt", 4.0))


async def calls(n: int, there: str) -> Figures:
    """`GenServer.call` of a server on the other node."""
    await node.spawn(there, tell_echo, self_())
    _, server = await receive(("echo", Pid))
    return await _again(n, lambda: GenServer.call(server, "request"))


async def spawns(n: int, there: str) -> Figures:
    """`node.spawn` until the pid is here."""
    return await _again(n, lambda: node.spawn(there, nothing))


async def node_down(there: str) -> float:
    """Seconds from the message that ends the other interpreter until this node says so."""
    node.monitor(there)
    partner = await node.spawn(there, pong)
    await _ping(partner, 1)
    begun = time.perf_counter()
    send(partner, "halt")
    await receive(("nodedown", there))
    return time.perf_counter() - begun


async def start_here(name: str) -> None:
    """Make this interpreter a node that nobody else meets."""
    await node.start(name, cookie=secrets.token_hex(16))


async def node_downs(n: int) -> Figures:
    """The median of so many ends, each of a new node."""
    name = f"bench{os.getpid()}"
    await start_here(name)
    process.flag(trap_exit=True)  # a peer that ends takes its owner along
    times = []
    for i in range(n):
        peer = await node.start_peer(f"{name}_{i}")
        times.append(await node_down(peer.node))
    return {"ms": quantile(times, 0.5) * 1e3}


def _between_nodes(body: Callable[[int, str], Awaitable[Figures]]) -> Program:
    async def main(n: int) -> Figures:
        name = f"bench{os.getpid()}"
        await start_here(name)
        peer = await node.start_peer(f"{name}_there")
        figures = await body(n, peer.node)
        await peer.stop()
        return figures

    def program(n: int) -> Figures:
        figures: Figures = run(main, n)
        return figures

    return program


def remote_node_down(n: int) -> Figures:
    """Run `node_downs` as a process."""
    figures: Figures = run(node_downs, n)
    return figures


PROGRAMS: dict[str, Program] = {
    "remote_ping_pong": _between_nodes(ping_pong),
    "remote_sends": _between_nodes(sends),
    "remote_rpc": _between_nodes(calls_by_rpc),
    "remote_erpc": _between_nodes(calls_by_erpc),
    "remote_calls": _between_nodes(calls),
    "remote_spawns": _between_nodes(spawns),
    "remote_binaries": _between_nodes(binaries),
    "remote_node_down": remote_node_down,
}
