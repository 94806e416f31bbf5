"""`Global` names on two nodes: BEAMs and Pythons, by the same tests where both can be the other end."""

from __future__ import annotations

import contextlib

import pytest

from otplib import Atom, GenServer, Global, NameTakenError, Pid, Reply, StartError, node, process
from otplib.core.reasons import Down
from otplib.process import receive, self_, send, sleep, spawn, spawn_monitor
from otplib.vm.machine import Machine
from tests.dist import nodes
from tests.dist.beam import until
from tests.dist.global_peers import (
    MOMENT,
    ask,
    eventually,
    holding,
    idle,
    meet,
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

# ---- names on two nodes ----------------------------------------------------------------------------------------


def test_a_name_registered_here_is_known_there_until_its_process_ends(py, foo):
    """y14_global.exs"""

    async def main():
        await meet(foo.name)
        pid = spawn(idle)
        process.register(pid, Global("svc"))
        assert process.whereis(Global("svc")) == pid, "here at once"
        assert shows(foo, '"svc"', True)
        process.exit(pid, "kill")
        assert shows(foo, '"svc"', False)

    perform(main)


def test_a_name_registered_there_is_known_here_until_its_process_ends(py, foo, theirs):
    """y14_global.exs"""

    async def main():
        await meet(foo.name)
        foo.tell(**holding(theirs))
        await eventually(lambda: process.whereis(Global(theirs)) is not None, True)
        pid = process.whereis(Global(theirs))
        assert pid.node == foo.name
        assert await ask(Global(theirs)) == "got"
        send(pid, (Atom("die"), Atom("done")))
        await eventually(lambda: process.whereis(Global(theirs)), None)

    perform(main)


def test_names_from_before_the_nodes_met_are_exchanged(py, foo, theirs):
    async def main():
        process.register(spawn(idle), Global("ours"))
        foo.tell(**holding(theirs))
        await meet(foo.name)
        assert process.whereis(Global(theirs)).node == foo.name
        assert shows(foo, '"ours"', True)

    perform(main)


def test_a_name_that_is_taken_there_is_refused_here(py, foo, theirs):
    """y14_global.exs"""

    async def main():
        foo.tell(**holding(theirs))
        await meet(foo.name)
        with pytest.raises(NameTakenError):
            process.register(spawn(idle), Global(theirs))
        with pytest.raises(StartError) as refusal:
            await Echo.start(name=Global(theirs))
        assert refusal.value.reason == ("already_started", process.whereis(Global(theirs)))

    perform(main)


def test_a_name_that_is_taken_here_is_refused_there(py, foo, theirs):
    """y14_global.exs"""

    async def main():
        await meet(foo.name)
        process.register(spawn(idle), Global(theirs))
        assert shows(foo, f'"{theirs}"', True)
        assert foo.eval(**holding(theirs)).startswith("** ")

    perform(main)


def test_a_name_can_be_taken_back_from_either_side(py, foo, theirs):
    async def main():
        await meet(foo.name)
        process.register(spawn(idle), Global("svc"))
        assert shows(foo, '"svc"', True)
        foo.tell(elixir=':global.unregister_name("svc")', python='process.unregister(Global("svc"))')
        await eventually(lambda: process.whereis(Global("svc")), None)
        foo.tell(**holding(theirs))
        await eventually(lambda: process.whereis(Global(theirs)) is not None, True)
        process.unregister(Global(theirs))
        assert process.whereis(Global(theirs)) is None, "here at once"
        assert shows(foo, f'"{theirs}"', False)

    perform(main)


def test_a_name_taken_back_and_registered_anew_at_once_is_the_new_one_s_everywhere(py, foo):
    async def main():
        await meet(foo.name)
        old, new = spawn(idle), spawn(idle)
        process.register(old, Global("svc"))
        assert shows(foo, '"svc"', True)
        before = whereis(foo)
        process.unregister(Global("svc"))
        process.register(new, Global("svc"))
        assert until(lambda: whereis(foo) not in (before, "nobody"))
        assert process.whereis(Global("svc")) == new
        process.exit(old, "kill")
        process.exit(new, "kill")

    perform(main)


class Echo(GenServer):
    def handle_call(self, request, caller, state):
        return Reply((Atom("echo"), request), state)


def test_a_server_with_a_global_name_is_called_across_nodes(py, foo):
    async def main():
        await meet(foo.name)
        pid = await Echo.start(name=Global("svc"))
        assert shows(foo, '"svc"', True)
        foo.tell(
            elixir='{:echo, 7} = GenServer.call({:global, "svc"}, 7)',
            python='assert await GenServer.call(Global("svc"), 7) == ("echo", 7)',
        )
        process.exit(pid, "kill")

    perform(main)


@needs_elixir
def test_a_server_of_a_beam_is_called_by_its_global_name(py, beam):
    async def main():
        await meet(beam.name)
        beam.define(
            "Held",
            elixir="""
                use GenServer
                def init(held), do: {:ok, held}
                def handle_call(:get, _, held), do: {:reply, held, held}
            """,
        )
        beam.tell("{:ok, _} = GenServer.start(Held, 42, name: {:global, :held})")
        await eventually(lambda: process.whereis(Global("held")) is not None, True)
        assert await GenServer.call(Global("held"), Atom("get")) == 42
        GenServer.cast(Global("held"), "no such cast")
        await eventually(lambda: process.whereis(Global("held")), None)

    perform(main)


@needs_elixir
def test_an_atom_and_a_binary_are_two_names_on_a_beam_and_found_by_either_here(py, beam):
    async def main():
        await meet(beam.name)
        beam.eval(":yes = :global.register_name(:atom_svc, spawn(fn -> Process.sleep(:infinity) end))")
        await eventually(lambda: process.whereis(Global("atom_svc")) is not None, True)
        assert process.whereis(Global("atom_svc")) == process.whereis(Global(Atom("atom_svc")))
        one, two = spawn(idle), spawn(idle)
        process.register(one, Global("text_svc"))
        process.register(two, Global(Atom("own_svc")))
        assert shows(beam, '"text_svc"', True)
        assert shows(beam, ":own_svc", True)
        assert whereis(beam, ":text_svc") == "nobody"
        assert whereis(beam, '"own_svc"') == "nobody"
        process.exit(one, "kill")
        process.exit(two, "kill")

    perform(main)


# ---- who gets a name -------------------------------------------------------------------------------------------


def test_of_servers_started_by_one_name_on_two_nodes_at_once_one_is_refused(cluster):
    one, two, _ = cluster
    with on(one):
        perform(meet, two.node)
    for number in range(10):
        name = Global(("race", number))
        started, refused = [], []

        async def start(name=name, started=started, refused=refused):
            try:
                started.append(await Echo.start(name=name))
            except StartError as error:
                refused.append(error.reason[0])

        def is_known_to_both(name=name):
            for machine in (one, two):
                with on(machine):
                    if process.whereis(name) is None:
                        return False
            return True

        for machine in (one, two):
            spawn_on(machine, start)
        assert until(lambda started=started, refused=refused: len(started) + len(refused) == 2)
        assert len(started) == 1
        assert refused == ["already_started"]
        assert until(is_known_to_both)


def spawn_on(machine: Machine, fn) -> Pid:
    with on(machine):
        return spawn(fn)


def test_of_two_that_register_one_name_at_once_one_survives(cluster):
    """As y15_global_conflict.exs, without a split: `process.register` does not wait for the others."""
    one, two, _ = cluster
    with on(one):
        perform(meet, two.node)
    for number in range(10):
        name = Global(("clash", number))
        pids = []
        for machine in (one, two):
            with on(machine):
                pids.append(spawn(idle))
        for machine, pid in zip((one, two), pids, strict=True):
            with on(machine), contextlib.suppress(NameTakenError):
                process.register(pid, name)

        def holders(name=name):
            found = []
            for machine in (one, two):
                with on(machine):
                    pid = process.whereis(name)
                    found.append((pid.node, pid.id) if pid is not None else None)
            return found

        assert until(lambda holders=holders: None not in holders() and len(set(holders())) == 1)


def test_two_processes_with_one_name_meet_and_one_survives(py, start, theirs):
    """y15_global_conflict.exs"""
    foo = start("azure")  # a smaller name than ours, so ours has to go

    async def main():
        foo.tell(**holding(theirs))
        pid, ref = spawn_monitor(idle)
        process.register(pid, Global(theirs))
        await meet(foo.name)
        down = await receive(Down, timeout=MOMENT)
        assert (down.ref, down.reason) == (ref, "killed")
        assert process.whereis(Global(theirs)).node == foo.name
        assert await ask(Global(theirs)) == "got"

    perform(main)


def test_of_two_with_one_name_that_of_the_greater_node_has_to_go(py, start, theirs):
    """y15_global_conflict.exs"""
    foo = start("zebra")

    async def main():
        foo.tell(**holding(theirs))
        foo.tell(
            elixir="monitor = Process.monitor(holder)",
            python="monitor = process.monitor(holder)",
        )
        pid = spawn(idle)
        process.register(pid, Global(theirs))
        await meet(foo.name)
        assert process.whereis(Global(theirs)) == pid
        foo.tell(
            elixir="{:DOWN, ^monitor, _, _, :killed} = Otplib.next()",
            python="assert (await receive(('DOWN', monitor, ..., ..., ...))).reason == 'killed'",
        )
        assert shows(foo, f'"{theirs}"', True)

    perform(main)


@needs_elixir
@pytest.mark.parametrize("stem", ["azure", "zebra"])
def test_a_method_of_a_beam_decides_about_a_name_it_has_registered(py, epmd_port, stem):
    async def main():
        foo.eval(
            "me = self(); holder = spawn(fn -> Process.sleep(:infinity) end);"
            ':yes = :global.register_name("svc", holder, fn n, _, _ -> send(me, {:asked, n}); :none end)'
        )
        pid = spawn(idle)
        process.register(pid, Global("svc"))
        await meet(foo.name)
        if foo.name < node.self_():
            # Ours is the greater node, so theirs decides, by the method of theirs.
            assert foo.eval("Otplib.next()") == '{:asked, "svc"}'
            assert process.whereis(Global("svc")) is None
            assert process.alive(pid)
        else:
            # Ours decides, by the method of ours.
            assert process.whereis(Global("svc")) == pid
            assert foo.eval("Otplib.flush()") == "[]"

    with nodes.beam(new_name(stem), epmd_port) as foo:
        perform(main)


@needs_elixir
def test_a_name_that_a_beam_gave_to_one_of_ours_is_decided_about_here(epmd_port, tidy):
    """A BEAM finds the conflict and asks the node of the holder, `:global.resolve_it/4`."""
    with (
        nodes.beam(new_name("azure"), epmd_port) as foo,
        nodes.machine_node(new_name("mine"), epmd_port) as mine,
        nodes.machine_node(new_name("new"), epmd_port) as new,
    ):
        with on(mine):
            perform(meet, foo.name)
            ours = spawn(idle)
            process.register(ours, "ours")
        assert (
            foo.eval(
                f'pid = :erpc.call(:"{mine.node}", :"otplib.process", :whereis, ["ours"]);'
                ':global.register_name("svc", pid, &:global.random_notify_name/3)'
            )
            == ":yes"
        )
        with on(new):
            theirs = spawn(idle)
            process.register(theirs, Global("svc"))
            perform(meet, foo.name)
            assert process.whereis(Global("svc")).node == mine.node, "the smaller node"
            assert until(lambda: process.info(theirs, "messages") == [(Atom("global_name_conflict"), "svc")])
            assert process.alive(theirs), "it was told, not killed"


# ---- locks -----------------------------------------------------------------------------------------------------


@needs_elixir
def test_a_lock_of_a_beam_holds_on_our_node_too(py, beam):
    async def main():
        await meet(beam.name)
        lock = (Atom("door"), self_())
        assert beam.eval(":global.set_lock({:door, self()})") == "true"
        assert await GenServer.call("global_name_server", (Atom("set_lock"), lock)) is False
        assert beam.eval(":global.del_lock({:door, self()})") == "true"
        assert await GenServer.call("global_name_server", (Atom("set_lock"), lock)) is True
        assert beam.eval(":global.set_lock({:door, self()}, [node() | Node.list()], 0)") == "false"
        assert await GenServer.call("global_name_server", (Atom("del_lock"), lock)) is True
        assert beam.eval(":global.trans({:door, self()}, fn -> :done end)") == ":done"

    perform(main)


@needs_elixir
def test_a_lock_goes_with_its_holder(py, beam):
    async def main():
        await meet(beam.name)
        beam.eval("holder = spawn(fn -> :global.set_lock({:door, self()}); Process.sleep(:infinity) end)")
        lock = (Atom("door"), self_())

        async def can_lock():
            return await GenServer.call("global_name_server", ("can_set_lock", lock))

        while await can_lock():
            await sleep(0.01)
        beam.eval("Process.exit(holder, :kill)")
        while not await can_lock():
            await sleep(0.01)

    perform(main)
