"""Section 7: who is in the cluster, and names that hold in all of it. Each with a real BEAM, and with a Python."""

from __future__ import annotations

import re

import pytest

from otplib import Atom, Global, NameTakenError, node, process, receive, run, self_, send, spawn, spawn_monitor
from otplib.testing import assert_receive
from tests.conformance.processes import flush
from tests.dist.beam import LIMIT
from tests.dist.node_fixtures import new_name
from tests.dist.nodes import machine_node, on, perform, until

G = {
    "elixir": """
        def register(name, to) do
            send(to, {:registered, :global.register_name(name, self())})
            receive do :stop -> :ok end
        end
        def hold(name) do
            Process.register(self(), :holder)
            receive do :register -> :global.register_name(name, self()) end
            receive do :stop -> :ok end
        end
    """,
    "python": """
        async def register(name, to):
            process.register(self_(), Global(name))
            send(to, ("registered", "yes"))
            await receive("stop")
        async def hold(name):
            process.register(self_(), "holder")
            await receive("register")
            process.register(self_(), Global(name))
            await receive("stop")
    """,
}


async def sees(name, pid):
    """Wait until this node sees the pid, or None, under a global name."""
    for _ in range(300):
        if process.whereis(Global(name)) == pid:
            return True
        await flush(0.01)
    return False


def test_y14_a_global_name_is_seen_on_all_nodes_until_its_process_or_its_node_ends(py, start):
    """y14_global.exs"""
    foo = start()
    foo.define("G", **G)
    svc = Atom("svc")

    async def main():
        pid = await node.spawn(foo.name, "G.register", svc, self_())
        assert await receive(("registered", ...)) == ("registered", "yes")
        assert await sees(svc, pid)
        with pytest.raises(NameTakenError):
            process.register(self_(), Global(svc))
        send(pid, Atom("stop"))
        assert await sees(svc, None)
        pid = await node.spawn(foo.name, "G.register", Atom("svc2"), self_())
        assert await receive(("registered", ...)) == ("registered", "yes")
        assert await sees("svc2", pid)
        foo.kill()
        assert await sees("svc2", None)

    perform(main)


def test_y14_a_name_of_ours_is_seen_by_the_others(py, foo):
    """y14_global.exs, from the other side"""

    async def main():
        assert await node.connect(foo.name)
        pid = spawn(receive, "stop")
        process.register(pid, Global(Atom("ours")))

        def seen():
            shown = foo.eval(
                elixir="is_pid(:global.whereis_name(:ours))", python="process.whereis(Global('ours')) is not None"
            )
            return shown in ("true", "True")

        assert until(seen)
        send(pid, "stop")
        assert until(lambda: not seen())

    perform(main)


def test_y15_of_two_holders_of_a_name_that_meet_after_a_split_one_survives_and_the_other_is_killed(py, start):
    """y15_global_conflict.exs"""
    foo = start()
    foo.define("G", **G)

    async def hold():
        process.register(self_(), Global(Atom("dup")))
        await receive("stop")

    async def main():
        theirs = await node.spawn(foo.name, "G.hold", Atom("dup"))
        assert await node.disconnect(foo.name)
        mine, ref = spawn_monitor(hold)
        assert await sees("dup", mine)
        foo.tell(elixir="send(:holder, :register)", python="send('holder', 'register')")
        assert await node.connect(foo.name)
        downs = await flush(1.0)
        shown = foo.eval(elixir="Process.whereis(:holder) != nil", python="process.whereis('holder') is not None")
        alive_there = shown in ("true", "True")
        assert process.alive(mine) != alive_there
        if downs:
            assert [down.reason for down in downs] == ["killed"]
            assert downs[0].ref == ref
        survivor = mine if process.alive(mine) else theirs
        assert await sees("dup", survivor)

    perform(main)


def nodes_of(peer):
    """The nodes that a node lists."""
    return set(re.findall(r"\w+@localhost", peer.eval(elixir="Node.list()", python="node.list()")))


def test_y20_who_meets_one_node_of_a_cluster_meets_all(py, start):
    """y20_mesh.exs"""
    b, c = start(), start()

    async def main():
        assert await node.connect(b.name)
        assert await node.connect(c.name)

    perform(main)
    assert until(lambda: nodes_of(b) == {py.node, c.name})
    assert until(lambda: nodes_of(c) == {py.node, b.name})
    assert set(run(node.list)) == {b.name, c.name}


def test_y21_a_hidden_node_is_not_in_the_list_but_in_that_of_the_hidden(py, start):
    """y21_hidden.exs"""
    foo = start(hidden=True)

    async def main():
        assert await node.connect(foo.name)
        assert node.list() == []
        assert node.list("hidden") == [foo.name]
        assert node.list("connected") == [foo.name]
        assert node.list("this") == [py.node]
        assert foo.name in node.list("known")
        assert py.node in node.list("known")

    perform(main)


def test_y22_monitor_nodes_tells_of_each_node_that_comes_and_goes(py, start):
    """y22_monitor_nodes.exs"""
    foo = start()

    async def main():
        node.monitor_nodes(True)
        assert await node.connect(foo.name)
        await assert_receive(("nodeup", foo.name))
        foo.kill()
        await assert_receive(("nodedown", foo.name), timeout=LIMIT)
        assert await flush() == []

    perform(main)


def test_y25_the_own_node_is_always_connected_and_cannot_be_disconnected(py):
    """y25_self_node.exs"""

    async def main():
        here = node.self_()
        assert await node.connect(here) is True
        assert await node.ping(here) == "pong"
        assert await node.disconnect(here) is False
        assert await node.disconnect("ghost@nowhere") is False
        pid = await node.spawn(here, lambda: None)
        assert pid.node == here
        assert node.monitor(here) is True
        assert await flush() == []

    perform(main)


def test_two_machines_of_one_interpreter_are_two_nodes(tidy, epmd_port):
    names = [new_name("twin"), new_name("twin")]
    with machine_node(names[0], epmd_port) as one, machine_node(names[1], epmd_port) as two:

        async def main():
            assert await node.ping(one.node) == "pong"
            pid = await node.spawn(one.node, lambda to: send(to, ("hello from", node.self_())), self_())
            assert await receive(timeout=LIMIT) == ("hello from", one.node)
            assert pid.node == one.node

        perform(main)
        with on(one):
            assert run(node.list) == [two.node]
