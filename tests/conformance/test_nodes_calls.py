"""Section 7: calls to other nodes: GenServer, rpc and erpc. Each with a real BEAM, and with a Python."""

from __future__ import annotations

import pytest

from otplib import Atom, Exit, GenServer, NoReply, Ok, Reply, RpcError, erpc, node, receive, rpc, self_, send, spawn
from otplib.erpc import RemoteError, Thrown
from tests.conformance.processes import flush
from tests.dist.nodes import perform

GHOST = "ghost@localhost"

#: What the scripts call on the other node, in each language.
C = {
    "elixir": """
        def add(a, b), do: a + b
        def same(x), do: x
        def leave(reason), do: exit(reason)
        def fail, do: raise("bad")
        def wait, do: Process.sleep(:infinity)
        def die_by(reason) do
            Process.exit(self(), reason)
            Process.sleep(:infinity)
        end
        def tell(to), do: send(to, :told)
    """,
    "python": """
        def add(a, b): return a + b
        def same(x): return x
        def leave(reason): raise Exit(reason)
        def fail(): raise ValueError("bad")
        async def wait(): await receive("never")
        async def die_by(reason):
            process.exit(self_(), reason)
            await receive("never")
        def tell(to): send(to, "told")
    """,
}

SERVER = {
    "elixir": """
        defmodule S do
            use GenServer
            def init(x), do: {:ok, x}
            def handle_call(:q, _, s), do: {:reply, s, s}
            def handle_cast(to, s), do: (send(to, {:got, s}); {:noreply, s})
        end
        {:ok, _} = GenServer.start(S, :remote, name: :srv)
    """,
    "python": """
class S(GenServer):
    def init(self, x): return Ok(x)
    def handle_call(self, request, caller, state): return Reply(state, state)
    def handle_cast(self, to, state):
        send(to, ("got", state))
        return NoReply(state)
await S.start("remote", name="srv")
    """,
}
STOP_SERVER = {"elixir": "GenServer.stop(:srv)", "python": "await GenServer.stop('srv')"}


class S(GenServer):
    def init(self, arg):
        return Ok(arg)

    def handle_call(self, request, caller, state):
        return Reply(state, state)

    def handle_cast(self, request, state):
        send(request, ("got", state))
        return NoReply(state)


def test_y09_multi_call_and_abcast_reach_the_servers_of_this_name_on_all_nodes(py, foo):
    """y09_multi_call.exs"""
    foo.tell(**SERVER)

    async def main():
        here = node.self_()
        server = await S.start("local", name="srv")
        answers, bad = await GenServer.multi_call([here, foo.name], "srv", Atom("q"))
        assert dict(answers) == {here: "local", foo.name: "remote"}
        assert bad == []
        answers, bad = await GenServer.multi_call([here, foo.name, GHOST], "srv", Atom("q"))
        assert dict(answers) == {here: "local", foo.name: "remote"}
        assert bad == [GHOST]
        assert GenServer.abcast([here, foo.name, GHOST], "srv", self_()) == "abcast"
        assert sorted(await flush(0.2)) == [("got", "local"), ("got", "remote")]
        await GenServer.stop(server)

    perform(main)
    foo.tell(**STOP_SERVER)


async def reason_of(fn, *args, on, timeout=5.0):
    """What Elixir puts into `{:badrpc, reason}`."""
    with pytest.raises(RpcError) as caught:
        await rpc.call(on, fn, *args, timeout=timeout)
    return caught.value.reason


def test_y10_rpc_call_gives_the_result_or_raises_what_elixir_calls_badrpc(py, foo):
    """y10_rpc.exs"""
    foo.define("C", **C)

    async def main():
        assert await rpc.call(foo.name, "C.add", 1, 2) == 3
        assert await reason_of("C.leave", Atom("boom"), on=foo.name) == ("EXIT", "boom")
        kind, (error, stack) = await reason_of("C.fail", on=foo.name)
        assert kind == "EXIT"
        assert "bad" in str(error)
        assert stack
        kind, (error, stack) = await reason_of("Nope.nope", on=foo.name)
        assert (kind, error) == ("EXIT", "undef")
        assert await reason_of("C.wait", on=GHOST) == "nodedown"
        assert await reason_of("C.wait", on=foo.name, timeout=0.05) == "timeout"
        # What a remote function returns is its result, whatever it looks like.
        assert await rpc.call(foo.name, "C.same", (Atom("badrpc"), Atom("fake"))) == ("badrpc", "fake")

    perform(main)


def test_y10_rpc_call_to_the_own_node_is_wrapped_too(py):
    """y10_rpc.exs"""

    def leave():
        raise Exit("boom")

    async def main():
        assert await rpc.call(node.self_(), "math.sqrt", 4.0) == 2.0
        assert await reason_of(leave, on=node.self_()) == ("EXIT", "boom")

    perform(main)


def test_y10_what_a_beam_throws_is_returned_and_what_is_not_there_reads_as_undef(py, beam):
    """y10_rpc.exs"""

    async def main():
        assert await rpc.call(beam.name, ":erlang.throw", Atom("ball")) == "ball"
        _, (undef, stack) = await reason_of("Nope.nope", on=beam.name)
        assert undef == "undef"
        assert stack == [("Elixir.Nope", "nope", [], [])]

    perform(main)


def test_y10_a_node_that_is_killed_in_the_middle_of_a_call_is_down(py, start):
    """y10_rpc.exs"""
    foo = start()
    foo.define("C", **C)

    async def main():
        async def kill():
            await rpc.call(foo.name, "C.same", 1)  # the call below is under way
            foo.kill()

        assert await rpc.call(foo.name, "C.same", 1) == 1
        spawn(kill)
        assert await reason_of("C.wait", on=foo.name, timeout=None) == "nodedown"

    perform(main)


async def error_of(fn, *args, on, timeout=5.0):
    """How `erpc.call` ended: the class of what it raised, and the reason."""
    with pytest.raises((RemoteError, Exit)) as caught:
        await erpc.call(on, fn, *args, timeout=timeout)
    return type(caught.value), caught.value.reason


def test_y11_erpc_call_raises_what_the_function_raised_and_names_what_erpc_itself_met(py, foo):
    """y11_erpc.exs"""
    foo.define("C", **C)

    async def main():
        assert await erpc.call(foo.name, "C.add", 1, 2) == 3
        assert await error_of("C.leave", Atom("boom"), on=foo.name) == (Exit, ("exception", "boom"))
        kind, (tag, error, stack) = await error_of("C.fail", on=foo.name)
        assert (kind, tag) == (RemoteError, "exception")
        assert "bad" in str(error)
        assert stack
        kind, (tag, error, stack) = await error_of("Nope.nope", on=foo.name)
        assert (kind, tag, error) == (RemoteError, "exception", "undef")
        assert await error_of("C.wait", on=GHOST) == (RemoteError, ("erpc", "noconnection"))
        assert await error_of("C.wait", on=foo.name, timeout=0.05) == (RemoteError, ("erpc", "timeout"))
        for signal, reason in ("kill", "killed"), ("boom", "boom"), ("normal", "normal"):
            assert await error_of("C.die_by", Atom(signal), on=foo.name) == (Exit, ("signal", reason))

    perform(main)


def test_y11_what_a_beam_throws_is_thrown_here(py, beam):
    """y11_erpc.exs"""

    async def main():
        with pytest.raises(Thrown) as caught:
            await erpc.call(beam.name, ":erlang.throw", Atom("ball"))
        assert caught.value.value == "ball"

    perform(main)


def test_y11_a_node_that_dies_in_the_middle_of_an_erpc_call_is_no_connection(py, start):
    """y11_erpc.exs"""
    foo = start()
    foo.define("C", **C)

    async def main():
        async def kill():
            await erpc.call(foo.name, "C.same", 1)
            foo.kill()

        assert await erpc.call(foo.name, "C.same", 1) == 1
        spawn(kill)
        assert await error_of("C.wait", on=foo.name, timeout=None) == (RemoteError, ("erpc", "noconnection"))

    perform(main)


def test_y12_many_nodes_at_once_and_calls_whose_result_is_taken_later(py, foo):
    """y12_rpc_multi.exs"""
    foo.define("C", **C)

    async def main():
        assert await rpc.multicall([foo.name, GHOST, foo.name], "C.add", 1, 2) == ([3, 3], [GHOST])
        outcomes = await erpc.multicall([foo.name, foo.name, GHOST], "C.add", 1, 2)
        assert outcomes == [("ok", 3), ("ok", 3), ("error", ("erpc", "noconnection"))]
        key = rpc.async_call(foo.name, "C.add", 1, 2)
        assert await rpc.yield_(key) == 3
        assert rpc.cast(foo.name, "C.tell", self_()) is True
        assert await flush(0.3) == ["told"]
        request = erpc.send_request(foo.name, "C.add", 1, 2)
        assert await erpc.receive_response(request) == 3

    perform(main)


def test_y12_a_result_is_found_whatever_else_was_received_since_the_call_began(py, foo):
    """y12_rpc_multi.exs, the case in which the result came before other messages were taken"""
    foo.define("C", **C)

    async def main():
        here = self_()
        for begin, finish in (rpc.async_call, rpc.yield_), (erpc.send_request, erpc.receive_response):
            send(here, "before")
            key = begin(foo.name, "C.add", 1, 2)
            assert await rpc.call(foo.name, "C.add", 0, 0) == 0  # the result is here by now
            send(here, "after")
            assert await receive("before") == "before"
            assert await receive("after") == "after"
            assert await finish(key) == 3
            assert await flush() == []

    perform(main)


def test_y12_multicall_with_this_node_among_the_nodes(py, foo):
    """y12_rpc_multi.exs"""

    async def main():
        nodes = [node.self_(), foo.name, GHOST]
        assert await rpc.multicall(nodes, ":math.sqrt", 2.25) == ([1.5, 1.5], [GHOST])
        outcomes = await erpc.multicall(nodes, ":math.sqrt", 2.25)
        assert outcomes == [("ok", 1.5), ("ok", 1.5), ("error", ("erpc", "noconnection"))]

    perform(main)
