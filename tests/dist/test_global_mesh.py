"""Clusters held together by the `global` name servers: who meets whom, who is lost, and what becomes of the names."""

from __future__ import annotations

import contextlib
import random

import pytest

from otplib import Exit, GenServer, Global, Pid, node, process, run, send
from otplib.core.terms import NO_NODE
from otplib.dist import global_server
from otplib.process import receive, self_, spawn
from otplib.vm.machine import Machine
from tests.dist import nodes
from tests.dist.beam import LIMIT, until
from tests.dist.global_peers import (
    MOMENT,
    all_meet,
    do_not_overlap,
    eventually,
    holding,
    idle,
    meet,
    peers_of,
    shows,
    whereis,
)
from tests.dist.global_peers import (
    cluster as cluster,
)
from tests.dist.global_peers import (
    theirs as theirs,
)
from tests.dist.node_fixtures import new_name
from tests.dist.nodes import needs_elixir, on, perform


@needs_elixir
def test_a_new_node_meets_everyone(py, start):
    """y20_mesh.exs"""
    foo, bar = start("foo"), start("bar")

    async def main():
        process.register(spawn(idle), Global("svc"))
        await meet(foo.name)
        bar.eval(f'Node.connect(:"{foo.name}")' if bar.language == "elixir" else f"await node.connect({foo.name!r})")
        await eventually(lambda: set(node.list()), {foo.name, bar.name})
        assert shows(bar, '"svc"', True)

    perform(main)


@needs_elixir
def test_beams_that_meet_through_us_stay_connected_with_us_when_one_is_killed(py, epmd_port):
    """y16_group_leader.exs: 'global' disconnects whom a third node has lost, if it does not take part."""
    with nodes.beam(new_name("foo"), epmd_port) as foo:

        async def main():
            with nodes.beam(new_name("bar"), epmd_port) as bar:
                await meet(foo.name)
                await meet(bar.name)
                await eventually(lambda: set(node.list()), {foo.name, bar.name})
                assert until(lambda: foo.eval("length(Node.list())") == "2")
                bar.eval(':yes = :global.register_name("theirs", spawn(fn -> Process.sleep(:infinity) end))')
                await eventually(lambda: process.whereis(Global("theirs")) is not None, True)
                bar.kill()
                await eventually(lambda: node.list(), [foo.name])
                await eventually(lambda: process.whereis(Global("theirs")), None)
            assert foo.eval("Node.list()") == f"[:{node.self_()}]" or node.self_() in foo.eval("Node.list()")
            assert shows(foo, '"theirs"', False)
            assert await node.ping(foo.name) == "pong"

        perform(main)


@needs_elixir
@pytest.mark.parametrize("way", ["killed", "stopped"])
def test_names_of_a_python_node_that_goes_are_gone_and_the_others_stay_together(epmd_port, tidy, theirs, way):
    with (
        nodes.beam(new_name("foo"), epmd_port) as foo,
        nodes.machine_node(new_name("py"), epmd_port) as py,
        nodes.python(new_name("victim"), epmd_port) as victim,
        on(py),
    ):
        victim.tell(**holding(theirs))
        perform(meet, foo.name, victim.name)
        assert shows(foo, f'"{theirs}"', True)
        assert until(lambda: len(peers_of(foo)) == 2)
        if way == "killed":
            victim.kill()
        else:
            victim.tell("await node.stop()")
        assert shows(foo, f'"{theirs}"', False)
        assert until(lambda: node.list() == [foo.name])
        assert py.node in foo.eval("Node.list()")
        assert process.whereis(Global(theirs)) is None


def test_when_two_lose_each_other_a_third_does_not_keep_both(py, start):
    """OTP's `prevent_overlapping_partitions`, our part of it. It may keep one, if that is quick to leave the other."""
    foo, bar = start("foo"), start("bar")

    async def main():
        await all_meet(foo, bar)
        foo.tell(elixir=f'Node.disconnect(:"{bar.name}")', python=f"await node.disconnect({bar.name!r})")
        assert do_not_overlap(foo, bar)

    perform(main)


def test_others_hear_from_us_whom_we_have_lost(py, start):
    foo, bar = start("foo"), start("bar")

    async def main():
        await all_meet(foo, bar)
        await node.disconnect(bar.name)
        here = node.self_()
        assert until(lambda: not {here, bar.name} <= peers_of(foo))

    perform(main)


def test_nodes_that_were_parted_meet_again_with_all_names(py, foo, theirs):
    async def main():
        foo.tell(**holding(theirs))
        process.register(spawn(idle), Global("ours"))
        for _ in range(3):
            await meet(foo.name)
            assert process.whereis(Global(theirs)).node == foo.name
            assert shows(foo, '"ours"', True)
            await node.disconnect(foo.name)
            await eventually(lambda: process.whereis(Global(theirs)), None)
            assert shows(foo, '"ours"', False)
        process.exit(process.whereis(Global("ours")), "kill")

    perform(main)


def test_a_name_server_that_dies_is_replaced_and_begins_anew(py, foo, theirs):
    async def main():
        foo.tell(**holding(theirs))
        pid = spawn(idle)
        process.register(pid, Global("ours"))
        await meet(foo.name)
        first = process.whereis("global_name_server")
        process.exit(first, "kill")
        await eventually(lambda: process.whereis("global_name_server") not in (None, first), True)
        assert process.whereis(Global("ours")) == pid
        await meet(foo.name)
        await eventually(lambda: process.whereis(Global(theirs)) is not None, True)
        assert shows(foo, '"ours"', True)

    perform(main)


@needs_elixir
def test_a_hidden_node_has_names_of_its_own(epmd_port, beam, tidy):
    with nodes.machine_node(new_name("hidden"), epmd_port, hidden=True):

        async def main():
            process.register(spawn(idle), Global("svc"))
            assert await node.connect(beam.name)
            await global_server.sync(timeout=MOMENT)
            assert await node.ping(beam.name) == "pong"
            assert whereis(beam) == "nobody"

        perform(main)


def test_a_machine_that_stops_being_a_node_keeps_its_own_names_alone(epmd_port, foo, tidy, theirs):
    with Machine() as machine:
        name = f"{new_name('py')}@localhost"

        async def main():
            await node.start(name, nodes.COOKIE, epmd_port=epmd_port)
            foo.tell(**holding(theirs))
            pid = spawn(idle)
            process.register(pid, Global("ours"))
            await meet(foo.name)
            assert process.whereis(Global(theirs)) is not None
            await node.stop()
            assert node.self_() == NO_NODE
            assert process.whereis(Global("ours")) == pid
            assert process.whereis(Global(theirs)) is None
            assert shows(foo, '"ours"', False)
            process.unregister(Global("ours"))
            process.register(pid, Global("another"))
            await node.start(name, nodes.COOKIE, epmd_port=epmd_port)
            await meet(foo.name)
            assert shows(foo, '"another"', True)
            await node.stop()

        run(main, timeout=LIMIT)
        assert machine.global_names.announce is None


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_however_six_nodes_meet_all_know_all_and_have_the_same_names(tidy, epmd_port, seed):
    order = random.Random(seed)
    with contextlib.ExitStack() as stack:
        machines = [stack.enter_context(nodes.machine_node(new_name("m"), epmd_port)) for _ in range(6)]
        for machine in machines:
            with on(machine):
                process.register(spawn(idle), Global(("of", machine.node)))
                process.register(spawn(idle), Global("everybody's"))
        for number in range(1, 6):
            with on(machines[number]):
                assert perform(node.connect, machines[order.randrange(number)].node)

        def names_at(machine):
            return {(name.term, name.pid.node) for name in machine.global_names.agreed()}

        wanted = {(("of", machine.node), machine.node) for machine in machines}
        wanted.add(("everybody's", min(machine.node for machine in machines)))

        def nodes_at(machine):
            with on(machine):
                return {machine.node, *node.list()}

        assert until(lambda: all(names_at(machine) == wanted for machine in machines))
        everybody = {machine.node for machine in machines}
        assert until(lambda: all(nodes_at(machine) == everybody for machine in machines))


def test_a_thousand_names_of_one_process_are_agreed_on_and_go_with_it(cluster):
    one, two, three = cluster

    async def register_all():
        for number in range(1000):
            process.register(self_(), Global(("item", number)))
        await receive(("end",))

    def counts():
        return [len(machine.global_names.agreed()) for machine in cluster]

    async def main():
        await meet(two.node, three.node)
        holder = spawn(register_all)
        await eventually(counts, [1000] * 3)
        process.exit(holder, "kill")
        await eventually(counts, [0] * 3)

    with on(one):
        perform(main)


JUNK = [
    "junk",
    ("init_connect",),
    ("init_connect", 8, "x@h", "y"),
    ("init_connect", (8, 1), "x@h", ("locker", 1, 2, "no pid")),
    ("init_connect", (3, 1), "x@h", ("locker", 1, 2, Pid("x@h", 1, 0, 1))),
    ("exchange", "x@h", ["no name", ("n", "no pid", 1)], [], 1),
    ("resolved", "x@h", ["no op", ("insert", 1), ("delete",)], ["x", 1, (2, 3)], "unused", [], None),
    ("new_nodes", "x@h", [("insert", ("n", 1)), 7], [], [1, ("", 8), "nonsense", "a@b@c", (1, 2, 3)], [1, ("lock", 1)]),
    ("new_nodes", "x@h", [], [], [], "no list"),
    ("in_sync", 1, 2),
    ("lock_set", 1, 2, 3),
    ("lock_set", Pid("x@h", 1, 0, 1), True, [], 1),
    ("init_connect_ack", "x@h", 1, 2),
    ("cancel_connect", "x@h", 1),
    ("lost_connection", "x@h", [], 1, "y@h"),
    ("lost_connection", 1, 2, 3),
    ("remove_connection", "x@h"),
    ("remove_connection", 1),
    ("whereis", "n", "nobody"),
    ("nodeup", 1),
    ("set_lock", 1),
    ("set_lock", ([[1]], {"a": [1]})),
    ("del_lock", ({}, [])),
    ("register", {"a": [1]}, Pid("x@h", 1, 0, 1), [1]),
    ("unregister", [{}]),
]


@needs_elixir
def test_junk_from_other_nodes_is_logged_and_changes_nothing(py, beam):
    async def main():
        await meet(beam.name)
        server = process.whereis("global_name_server")
        for junk in JUNK:
            send(server, junk)
            GenServer.cast(server, junk)
            with contextlib.suppress(Exit):
                await GenServer.call(server, junk, 0.01)
        assert process.whereis("global_name_server") == server
        process.register(spawn(idle), Global("svc"))
        assert shows(beam, '"svc"', True)
        process.exit(process.whereis(Global("svc")), "kill")

    perform(main)
