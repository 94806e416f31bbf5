"""Section 7: becoming a node and ceasing to be one, cookies, output of other nodes, and a node that freezes."""

from __future__ import annotations

import time

import pytest

from otplib import (
    Atom,
    Down,
    LeaderError,
    Machine,
    NodeError,
    RpcError,
    node,
    process,
    receive,
    rpc,
    run,
    self_,
    send,
    spawn,
)
from tests.conformance.processes import flush
from tests.dist.beam import COOKIE, LIMIT
from tests.dist.node_fixtures import new_name
from tests.dist.nodes import machine_node, perform, showing, until

R = {
    "elixir": """
        def say(x), do: IO.puts("this line was printed by a process on the peer: #{node() == x}")
        def wait, do: Process.sleep(:infinity)
    """,
    "python": """
        def say(x): print("this line was printed by a process on the peer:", node.self_() == x)
        async def wait(): await receive("never")
    """,
}


def test_y16_a_process_on_another_node_prints_where_it_was_spawned(py, foo):
    """y16_group_leader.exs"""
    foo.define("R", **R)

    async def main():
        _, ref = await node.spawn_monitor(foo.name, "R.say", Atom(foo.name))
        assert (await receive(("DOWN", ref, ..., ..., ...))).reason == "normal"

    with showing() as screen:
        perform(main)
        screen.shows(f"this line was printed by a process on the peer: {foo.eval(elixir='true', python='True')}\n")
    assert not any("this line" in line for line in foo.output)


def test_y16_when_the_leader_s_node_is_gone_output_fails(py, start):
    """y16_group_leader.exs"""
    foo = start()
    foo.define("R", **R)

    async def child(leader, to):
        process.group_leader(self_(), leader)
        node.monitor(leader.node)
        send(to, ("led by", process.group_leader().node))
        await receive(("nodedown", ...))
        try:
            print("lost")
            send(to, ("printed", "without an error"))
        except LeaderError as error:
            send(to, ("printed", str(error)))

    async def main():
        leader = await node.spawn(foo.name, "R.wait")
        spawn(child, leader, self_())
        assert await receive(timeout=LIMIT) == ("led by", foo.name)
        foo.kill()
        tag, text = await receive(timeout=LIMIT)
        assert tag == "printed"
        assert foo.name in text

    perform(main)


def test_y29_a_wrong_cookie_keeps_nodes_apart_until_one_learns_the_right_one(py, start):
    """y29_cookie.exs"""
    foo = start(cookie="other")

    async def main():
        assert await node.connect(foo.name) is False
        assert await node.ping(foo.name) == "pang"
        with pytest.raises(RpcError) as caught:
            await rpc.call(foo.name, "C.nope")
        assert caught.value.reason == "nodedown"
        assert node.set_cookie(foo.name, "other") is True
        assert await node.connect(foo.name) is True
        assert node.list() == [foo.name]

    perform(main)


def test_y30_a_machine_becomes_a_node_and_ceases_to_be_one(tidy, epmd_port):
    """y30_net_kernel.exs; connecting while it is none raises, for Elixir's `:ignored`"""
    name = f"{new_name('late')}@localhost"

    async def main():
        assert (node.self_(), node.alive()) == ("nonode@nohost", False)
        assert node.list() == []
        with pytest.raises(NodeError, match="no node"):
            await node.connect("a@localhost")
        assert await node.ping("a@localhost") == "pang"
        assert await node.start(name, COOKIE, epmd_port=epmd_port) == name
        assert (node.self_(), node.alive()) == (name, True)
        with pytest.raises(NodeError, match="already"):
            await node.start("other@localhost", COOKIE, epmd_port=epmd_port)
        await node.stop()
        assert (node.self_(), node.alive()) == ("nonode@nohost", False)
        with pytest.raises(NodeError, match="no node"):
            await node.stop()
        assert await node.start(name, COOKIE, epmd_port=epmd_port) == name
        await node.stop()

    with Machine():
        perform(main)


def test_y31_a_pid_made_before_the_start_stays_valid(tidy, epmd_port, beam):
    """y31_old_pid_after_start.exs"""
    name = f"{new_name('late')}@localhost"

    async def main():
        me = self_()
        assert me.node == "nonode@nohost"
        await node.start(name, COOKIE, epmd_port=epmd_port)
        assert self_() == me
        assert me.node == name
        send(me, "hi")
        assert await flush() == ["hi"]
        assert await rpc.call(beam.name, ":erlang.send", me, "hi from afar") == "hi from afar"
        assert await receive() == "hi from afar"
        await node.stop()
        assert self_() == me
        assert me.node == "nonode@nohost"

    with Machine():
        perform(main)


def test_y32_a_frozen_node_stays_connected_until_the_net_tick_time_has_passed(tidy, epmd_port, start):
    """y32_frozen_node.exs, with a tick time of 1 s for 4"""
    foo = start(net_tick_time=1)
    foo.define("R", **R)

    async def main():
        pid = await node.spawn(foo.name, "R.wait")
        node.monitor(foo.name)
        ref = process.monitor(pid)
        assert await node.ping(foo.name) == "pong"
        foo.freeze()
        frozen = time.monotonic()
        assert send(pid, "x") == "x"
        with pytest.raises(RpcError) as caught:
            await rpc.call(foo.name, "R.wait", timeout=0.1)
        assert caught.value.reason == "timeout"
        assert node.list() == [foo.name]
        messages = [await receive(timeout=LIMIT), await receive(timeout=LIMIT)]
        assert 0.4 < time.monotonic() - frozen < 6.0
        assert ("nodedown", foo.name) in messages
        assert Down("DOWN", ref, "process", pid, "noconnection") in messages
        assert await flush() == []

    with machine_node(new_name("py"), epmd_port, net_tick_time=1.0):
        perform(main)


def test_a_quiet_node_that_lives_stays_connected_past_the_net_tick_time(tidy, epmd_port, start):
    """The other half of y32: ticks alone keep a connection."""
    foo = start(net_tick_time=2)

    async def main():
        assert await node.connect(foo.name)
        node.monitor_nodes(True)
        assert await flush(2.6) == []
        assert node.list() == [foo.name]

    with machine_node(new_name("py"), epmd_port, net_tick_time=2.0):
        perform(main)
        assert until(lambda: run(node.ping, foo.name) == "pong")
