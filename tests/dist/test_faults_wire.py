"""Faults of the network between two nodes: cut, half-open, garbage. With a real BEAM behind it, and with a Python."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time

import pytest

from otplib import node, process, receive, rpc, run, self_, send
from otplib.dist import epmd
from tests.conformance.processes import flush
from tests.dist.beam import LIMIT
from tests.dist.node_fixtures import new_name
from tests.dist.nodes import machine_node, perform
from tests.dist.proxy import TO_CALLER, TO_NODE, proxied

R = {
    "elixir": """
        def wait, do: Process.sleep(:infinity)
        def same(x), do: x
        def forward(to) do
            receive do message -> send(to, {:got, message}) end
            forward(to)
        end
        def pour(to, size), do: send(to, String.duplicate("x", size))
    """,
    "python": """
        async def wait(): await receive("never")
        def same(x): return x
        async def forward(to):
            while True: send(to, ("got", await receive()))
        def pour(to, size): send(to, "x" * size)
    """,
}


@pytest.fixture
def foo(kept_peer, tidy):
    kept_peer.reset()
    kept_peer.define("R", **R)
    return kept_peer


@pytest.fixture
def line(foo, epmd_port):
    """The proxy between us and foo, and the port of the epmd by which we find it."""
    with proxied(foo.name, epmd_port) as (proxy, port):
        yield proxy, port


@pytest.fixture
def proxy(line):
    return line[0]


@pytest.fixture
def py(line):
    """A node of ours that meets foo through the proxy."""
    with machine_node(new_name("py"), line[1]) as machine:
        yield machine


async def bonds_with(foo):
    """Connect, and have one of each bond: what must come when the connection ends, each once."""
    process.flag(trap_exit=True)
    linked = await node.spawn_link(foo.name, "R.wait")
    watched = await node.spawn(foo.name, "R.wait")
    ref = process.monitor(watched)
    node.monitor(foo.name)
    node.monitor_nodes(True)
    assert await rpc.call(foo.name, "R.same", 1) == 1
    return [
        ("DOWN", ref, "process", watched, "noconnection"),
        ("EXIT", linked, "noconnection"),
        ("nodedown", foo.name),
        ("nodedown", foo.name),
    ]


async def ends_once(bonds, within=LIMIT):
    """Take what the end of the connection sends, and nothing more may come."""
    got = [await receive(timeout=within) for _ in bonds]
    assert sorted(got, key=lambda message: message[0]) == bonds
    assert [message for message in await flush(0.1) if message[0] != "nodeup"] == []


async def works_again(foo):
    assert await node.connect(foo.name)
    assert await rpc.call(foo.name, "R.same", 2, timeout=LIMIT) == 2


def test_a_connection_that_is_cut_is_noticed_and_the_next_use_connects_anew(py, foo, proxy):
    async def main():
        bonds = await bonds_with(foo)
        proxy.cut()
        await ends_once(bonds)
        await works_again(foo)

    perform(main)


@pytest.mark.parametrize("size", [1, 4, 70, 2_999_999])
def test_a_message_that_is_cut_in_the_middle_never_arrives(py, foo, proxy, size):
    async def main():
        bonds = await bonds_with(foo)
        proxy.cut_after(TO_CALLER, size)
        rpc.cast(foo.name, "R.pour", self_(), 3_000_000)
        await ends_once(bonds)
        await works_again(foo)

    perform(main)


def test_our_message_that_is_cut_in_the_middle_never_arrives_there(py, foo, proxy):
    async def main():
        bonds = await bonds_with(foo)
        there = await node.spawn(foo.name, "R.forward", self_())
        send(there, "whole")
        assert await receive(("got", ...), timeout=LIMIT) == ("got", "whole")
        proxy.cut_after(TO_NODE, 100_000)
        send(there, "x" * 1_000_000)
        await ends_once(bonds)
        await works_again(foo)
        send(there, "after")
        assert await receive(("got", ...), timeout=LIMIT) == ("got", "after")

    perform(main)


@pytest.mark.parametrize("direction", [TO_CALLER, TO_NODE])
@pytest.mark.parametrize("size", [0, 2, 40])
def test_a_handshake_that_is_cut_fails_and_the_next_succeeds(py, foo, proxy, direction, size):
    async def main():
        proxy.cut_after(direction, size)
        assert await node.connect(foo.name) is False
        assert node.list() == []
        assert await node.connect(foo.name) is True

    perform(main)


@pytest.mark.parametrize("directions", [(TO_CALLER, TO_NODE), (TO_CALLER,)], ids=["both ways", "one way"])
def test_a_connection_that_has_gone_silent_ends_with_the_net_tick_time(foo, line, directions):
    proxy, port = line

    async def main():
        bonds = await bonds_with(foo)
        proxy.mute(*directions)
        began = time.monotonic()
        await ends_once(bonds)
        assert 0.4 < time.monotonic() - began < 6.0

    with machine_node(new_name("py"), port, net_tick_time=1.0):
        perform(main)


def garbage():
    """What no node says: what it is, and its bytes."""
    rng = random.Random(4)
    packets = {
        "noise": rng.randbytes(400),
        "another kind of packet": b"q\x83h\x00",
        "a packet without a term": b"p",
        "a term that is cut": b"p\x83h\x03a\x02",
        "an operation that there is not": b"p\x83h\x02a\xc8a\x01",
        "a control message that is no tuple": b"p\x83a\x01",
        "a send without a payload": b"p\x83h\x03a\x02w\x00w\x01a",
        "a link without pids": b"p\x83h\x03a\x01jj",
        "a fragment that nobody has promised": b"\x83E" + bytes(18),
        "a distribution header": b"\x83D\x00h\x01a",
        "compressed nonsense": b"p\x83P" + struct.pack(">I", 2**31 - 1) + b"\x78\x9c\x00\x00\x00",
        "too deep a term": b"p\x83" + b"h\x01" * 100_001,
    }
    for what, packet in packets.items():
        yield pytest.param(struct.pack(">I", len(packet)) + packet, id=what)
    yield pytest.param(struct.pack(">I", 2**32 - 1) + b"p" + rng.randbytes(400), id="a length that no packet has")


@pytest.mark.parametrize("data", [*garbage()])
def test_garbage_after_the_handshake_ends_the_connection_and_nothing_else(py, foo, proxy, data):
    async def main():
        bonds = await bonds_with(foo)
        proxy.inject(TO_CALLER, data)
        began = time.monotonic()
        await ends_once(bonds)
        assert time.monotonic() - began < 5.0, "it was silence that ended it"
        await works_again(foo)

    perform(main)


# ---- strangers ----------------------------------------------------------------------------------------------------


class Strangers:
    """A thousand connections to a node's port that say nothing, something wrong, or half of it, and stay."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sockets: list[socket.socket] = []
        self.made = 0

    def call(self, count: int) -> None:
        rng = random.Random(9)
        for number in range(count):
            stranger = socket.create_connection(("127.0.0.1", self.port))
            self.sockets.append(stranger)
            kinds = [
                b"",
                rng.randbytes(rng.randrange(1, 2000)),
                struct.pack(">H", 65_535) + rng.randbytes(300),
                struct.pack(">H", 40) + b"N" + rng.randbytes(20),
                struct.pack(">HcQIH", 15 + 9, b"N", 2**64 - 1, 5, 9) + b"no node!!",
                b"GET / HTTP/1.1\r\n\r\n",
            ]
            try:
                stranger.sendall(kinds[number % len(kinds)])
            except OSError:
                pass  # it has been shown the door already
            self.made += 1
            if len(self.sockets) > 300:
                self.sockets.pop(0).close()

    def leave(self) -> None:
        for stranger in self.sockets:
            stranger.close()


def test_a_node_keeps_answering_while_a_thousand_strangers_call(tidy, foo, epmd_port):
    with machine_node(new_name("py"), epmd_port) as py:
        entry = epmd.port_please(py.node.split("@")[0], epmd_port=epmd_port)
        strangers = Strangers(entry.port)
        thread = threading.Thread(target=strangers.call, args=(1000,))

        async def main():
            assert await rpc.call(foo.name, "R.same", 1) == 1
            thread.start()
            worst, calls = 0.0, 0
            while thread.is_alive() or calls < 200:
                began = time.monotonic()
                assert await rpc.call(foo.name, "R.same", calls) == calls
                worst = max(worst, time.monotonic() - began)
                calls += 1
            return worst

        try:
            worst = perform(main)
            assert strangers.made == 1000
            assert worst < 0.5, f"a call took {worst:.3f} s"
            assert run(node.list) == [foo.name]
            # one that knows the way still gets in
            shown = foo.eval(elixir=f"Node.ping(:{py.node})", python=f"await node.ping('{py.node}')")
            assert "pong" in shown
        finally:
            thread.join(LIMIT)
            strangers.leave()


def test_servers_here_are_reached_through_a_line_that_stutters(py, foo, proxy):
    """Many small packets, cut into pieces as the network likes: none is lost, doubled, or out of order."""

    async def main():
        there = await node.spawn(foo.name, "R.forward", self_())
        for number in range(2000):
            send(there, number)
        assert [await receive(timeout=LIMIT) for _ in range(2000)] == [("got", number) for number in range(2000)]

    perform(main)
