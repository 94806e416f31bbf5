"""Faults of the other node: killed, frozen, restarted, doubled. Every link and monitor fires once; nothing is left."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from otplib import Atom, Exit, GenServer, node, process, receive, rpc, run, self_, send, spawn, spawn_monitor
from otplib.dist import epmd
from tests.conformance.processes import flush, idle
from tests.dist import nodes
from tests.dist.beam import LIMIT, our_epmd
from tests.dist.node_fixtures import KINDS, new_name
from tests.dist.nodes import machine_node, perform, until

MANY = 10_000

#: What is defined on the other node, in each language.
R = {
    "elixir": """
        def wait, do: Process.sleep(:infinity)
        def same(x), do: x
        def crowd(count, to) do
            pids = for _ <- 1..count, do: spawn(fn -> Process.link(to); send(to, :linked); Process.sleep(:infinity) end)
            send(to, {:crowd, pids})
        end
        def mix(to, watched) do
            for i <- 1..1000 do
                send(to, i)
                Process.link(to)
                send(to, i)
                ref = Process.monitor(watched)
                Process.unlink(to)
                Process.demonitor(ref)
            end
            Process.link(to)
            send(to, :last)
            exit(:end)
        end
    """,
    "python": """
        async def wait(): await receive("never")
        def same(x): return x
        async def link_and_wait(to):
            process.link(to)
            send(to, "linked")
            await receive("never")
        def crowd(count, to):
            send(to, ("crowd", [spawn(R.link_and_wait, to) for _ in range(count)]))
        def mix(to, watched):
            for i in range(1, 1001):
                send(to, i)
                process.link(to)
                send(to, i)
                ref = process.monitor(watched)
                process.unlink(to)
                process.demonitor(ref)
            process.link(to)
            send(to, "last")
            raise Exit("end")
    """,
}


@pytest.fixture(autouse=True)
def nobody_left(py):
    """No process of a test is left on our machine but those of the node itself."""
    before = set(run(process.list))
    yield
    assert until(lambda: len(set(run(process.list)) - before) == 1)  # the one that asks


# ---- killed -------------------------------------------------------------------------------------------------------


def test_ten_thousand_links_and_monitors_fire_once_each_when_their_node_is_killed(py, start):
    foo = start()
    foo.define("R", **R)

    async def main():
        process.flag(trap_exit=True)
        await node.spawn(foo.name, "R.crowd", MANY, self_())
        pids = (await receive(("crowd", list), timeout=LIMIT))[1]
        for _ in range(MANY):
            await receive("linked", timeout=LIMIT)
        refs = {process.monitor(pid): pid for pid in pids}
        node.monitor(foo.name)
        node.monitor_nodes(True)
        assert await rpc.call(foo.name, "R.same", 1) == 1  # behind all that was asked
        foo.kill()
        got = await flush(1.0)
        exits = Counter(message.pid for message in got if message[0] == "EXIT")
        downs = Counter(message.ref for message in got if message[0] == "DOWN")
        assert exits == dict.fromkeys(pids, 1)
        assert downs == dict.fromkeys(refs, 1)
        assert {message.reason for message in got if message[0] in ("EXIT", "DOWN")} == {"noconnection"}
        rest = [message for message in got if message[0] not in ("EXIT", "DOWN")]
        assert rest == [("nodedown", foo.name)] * 2
        assert process.info(self_(), "links") == process.info(self_(), "monitors") == []

    perform(main)


def test_ten_thousand_processes_here_hear_of_the_one_they_are_linked_to(py, start):
    foo = start()
    foo.define("R", **R)

    async def linked(pid):
        process.link(pid)
        await idle()

    async def main():
        pid = await node.spawn(foo.name, "R.wait")
        refs = {}
        for _ in range(MANY):
            child, ref = spawn_monitor(linked, pid)
            refs[ref] = child
        assert await rpc.call(foo.name, "R.same", 1) == 1
        foo.kill()
        got = [await receive(timeout=LIMIT) for _ in range(MANY)]
        assert {message.ref for message in got} == set(refs)
        assert {message.reason for message in got} == {"noconnection"}
        assert await flush() == []

    perform(main)


def test_calls_under_way_end_when_their_node_is_killed(py, start):
    foo = start()
    foo.define("R", **R)
    foo.tell(
        elixir="Agent.start(fn -> 1 end, name: :busy); :sys.suspend(:busy)",
        python="class Busy(GenServer):\n    def init(self, x): return Ok(x)\n"
        "    def handle_call(self, r, c, s): return NoReply(s)\nawait Busy.start(1, name='busy')",
    )

    async def calling(to):
        try:
            await GenServer.call(("busy", foo.name), "x", timeout=None)
        except Exit as error:
            send(to, error.reason[0])

    async def main():
        for _ in range(100):
            spawn(calling, self_())
        assert await rpc.call(foo.name, "R.same", 1) == 1
        foo.kill()
        assert [await receive(timeout=LIMIT) for _ in range(100)] == [("nodedown", foo.name)] * 100
        assert await flush() == []

    perform(main)


def test_the_death_of_a_node_is_noticed_within_twenty_milliseconds(py, start):
    foo = start()
    foo.define("R", **R)

    async def main():
        ref = process.monitor(await node.spawn(foo.name, "R.wait"))
        assert await rpc.call(foo.name, "R.same", 1) == 1
        foo.process.kill()
        killed = time.monotonic()
        assert (await receive(timeout=LIMIT)).ref == ref
        return time.monotonic() - killed

    # A BEAM takes some milliseconds to fall; the bound is for a machine that does other things too.
    assert perform(main) < 0.25


# ---- restarted, doubled -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_that_was_restarted_is_another_and_its_old_pids_are_dead(py, epmd_port, kind):
    name = new_name("phoenix")

    async def first_life(full):
        pid = await node.spawn(full, "R.wait")
        ref = process.monitor(pid)
        return pid, ref

    with kind(name, epmd_port) as foo:
        foo.define("R", **R)
        old, _ = perform(first_life, foo.name)
    with kind(name, epmd_port) as foo:
        foo.define("R", **R)

        async def second_life():
            assert await until_connected(foo.name)
            new = await node.spawn(foo.name, "R.wait")
            assert new.creation != old.creation
            assert new != old
            send(old, "lost")
            process.exit(old, "kill")
            process.flag(trap_exit=True)
            ref = process.monitor(old)
            process.link(old)
            got = sorted([await receive(timeout=LIMIT), await receive(timeout=LIMIT)], key=lambda message: message[0])
            assert [message.reason for message in got] == ["noproc", "noproc"]
            assert got[0].ref == ref
            watch = process.monitor(new)
            assert await flush() == []  # and the new one has felt nothing
            process.exit(new, "kill")
            assert (await receive(timeout=LIMIT)) == ("DOWN", watch, "process", new, "killed")

        perform(second_life)


async def until_connected(name):
    """Until the node's death is noticed and its successor found."""
    for _ in range(200):
        if await node.connect(name):
            return True
        await flush(0.02)
    return False


def test_a_beam_takes_us_for_another_node_after_a_restart(tidy, beam, epmd_port):
    name = new_name("phoenix")
    full = f"{name}@localhost"
    beam.tell("Process.flag(:trap_exit, true)")
    with machine_node(name, epmd_port):
        beam.tell(f"old = Node.spawn_link(:{full}, :otplib, :sleep, [60])")
        assert beam.eval("Process.info(self(), :links) == {:links, [old]}") == "true"
    assert beam.eval("Otplib.next() == {:EXIT, old, :noconnection}") == "true"
    with machine_node(name, epmd_port):
        beam.tell(f"new = Node.spawn_link(:{full}, :otplib, :sleep, [60])")
        beam.tell("Process.exit(old, :kill); ref = Process.monitor(old)")
        assert beam.eval("Otplib.next() == {:DOWN, ref, :process, old, :noproc}") == "true"
        assert beam.eval("Otplib.flush()") == "[]"
        beam.tell("Process.exit(new, :kill)")
        assert beam.eval("Otplib.next() == {:EXIT, new, :killed}") == "true"


@nodes.needs_elixir
def test_a_second_node_of_the_same_name_takes_the_place_of_the_first(py, epmd_port):
    """As on a BEAM: whoever knows the cookie and says that its connection is gone is believed."""
    name, ours = new_name("twin"), py.node.split("@")[0]
    entry = epmd.port_please(ours, epmd_port=epmd_port)
    with (
        our_epmd() as other_port,
        epmd.register(ours, entry.port, epmd_port=other_port),
        nodes.beam(name, epmd_port) as first,
        nodes.beam(name, other_port) as second,
    ):
        first.define("R", **R)

        async def main():
            node.monitor_nodes(True)
            ref = process.monitor(await node.spawn(first.name, "R.wait"))
            assert await receive(timeout=LIMIT) == ("nodeup", first.name)
            assert await rpc.call(first.name, ":os.getpid") == [*map(ord, str(first.process.pid))]
            second.tell(f"true = Node.connect(:{py.node})")
            got = await flush(0.3)
            assert Counter(message[0] for message in got) == {"DOWN": 1, "nodedown": 1, "nodeup": 1}
            assert next(message for message in got if message[0] == "DOWN").ref == ref
            assert await rpc.call(first.name, ":os.getpid") == [*map(ord, str(second.process.pid))]
            assert first.eval("Node.list()") == "[]"

        perform(main)


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_is_free_again_can_be_taken(py, epmd_port, kind):
    name = new_name("again")
    for _ in range(2):
        with kind(name, epmd_port) as foo:
            assert run(node.ping, foo.name) == "pong"
        assert until(lambda: run(node.list) == [])


# ---- frozen -------------------------------------------------------------------------------------------------------


def test_a_frozen_node_holds_up_nobody_here_and_is_met_again_when_it_thaws(tidy, epmd_port, start):
    foo = start(net_tick_time=4)
    foo.define("R", **R)

    async def main():
        ref = process.monitor(await node.spawn(foo.name, "R.wait"))
        assert await rpc.call(foo.name, "R.same", 1) == 1
        foo.freeze()
        began = time.monotonic()
        for _ in range(200):  # far more than a socket holds
            send(("nobody", foo.name), b"x" * 500_000)
        assert time.monotonic() - began < 2.0
        down = await receive(timeout=LIMIT)
        assert (down.ref, down.reason) == (ref, "noconnection")
        assert node.list() == []
        foo.thaw()
        assert await until_connected(foo.name)
        assert await rpc.call(foo.name, "R.same", 2, timeout=LIMIT) == 2
        assert await flush(0.3) == []

    with machine_node(new_name("py"), epmd_port, net_tick_time=2.0):
        perform(main)


def test_a_node_stops_without_waiting_for_a_frozen_neighbour(tidy, epmd_port, start):
    foo = start()
    foo.define("R", **R)

    async def main():
        await node.spawn(foo.name, "R.wait")
        foo.freeze()
        send(("nobody", foo.name), b"x" * 10_000_000)
        began = time.monotonic()
        await node.stop()
        return time.monotonic() - began

    with machine_node(new_name("py"), epmd_port):
        assert perform(main) < 5.0


# ---- our own end --------------------------------------------------------------------------------------------------


def test_when_our_own_node_stops_every_link_and_monitor_fires_on_both_sides(py, foo):
    foo.define("R", **R)

    async def main():
        process.flag(trap_exit=True)
        linked = await node.spawn_link(foo.name, "R.wait")
        watched = await node.spawn(foo.name, "R.wait")
        ref = process.monitor(watched)
        node.monitor(foo.name)
        node.monitor_nodes(True)
        foo.tell(elixir=f"Node.monitor(:{py.node}, true)", python=f"node.monitor({py.node!r})")
        name = node.self_()
        await node.stop()
        got = sorted(await flush(), key=lambda message: message[0])
        assert got == [
            ("DOWN", ref, "process", watched, "noconnection"),
            ("EXIT", linked, "noconnection"),
            ("nodedown", foo.name),
            ("nodedown", foo.name),
        ]
        shown = foo.eval(elixir="Otplib.next()", python="await receive()")
        assert shown in (f"{{:nodedown, :{name}}}", f"('nodedown', :{name})")
        assert process.info(self_(), "links") == []

    perform(main)


# ---- order --------------------------------------------------------------------------------------------------------


def test_messages_keep_their_order_among_link_and_monitor_signals(py, foo):
    foo.define("R", **R)

    async def main():
        process.flag(trap_exit=True)
        watched = spawn(idle)
        pid = await node.spawn(foo.name, "R.mix", self_(), watched)
        got = [await receive(timeout=LIMIT) for _ in range(2002)]
        assert got[:2000] == [number for number in range(1, 1001) for _ in range(2)]
        assert got[2000:] == [Atom("last"), ("EXIT", pid, "end")]
        assert await flush() == []
        assert process.info(self_(), "links") == []
        assert process.info(watched, "monitored_by") == []
        process.exit(watched, "kill")

    perform(main)


def test_our_messages_keep_their_order_among_link_and_monitor_signals(py, beam):
    async def mix(to):
        for number in range(1, 1001):
            send(to, number)
            process.link(to)
            ref = process.monitor(to)
            send(to, number)
            process.unlink(to)
            process.demonitor(ref)
        process.link(to)
        send(to, "last")
        raise Exit(Atom("end"))

    async def main():
        to = await rpc.call(beam.name, ":erlang.whereis", Atom("collector"))
        spawn(mix, to)
        await flush()

    bonds = "{Process.info(self(), :links), Process.info(self(), :monitored_by)}"
    beam.tell("Process.flag(:trap_exit, true); Process.register(self(), :collector)")
    before = beam.eval(bonds)
    perform(main)
    beam.tell("got = for _ <- 1..2002, do: Otplib.next()")
    assert beam.eval("Enum.take(got, 2000) == Enum.flat_map(1..1000, &[&1, &1])") == "true"
    assert beam.eval('match?(["last", {:EXIT, _, :end}], Enum.drop(got, 2000))') == "true"
    assert beam.eval("Otplib.flush()") == "[]"
    assert beam.eval(bonds) == before


# ---- races --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ours", ["aa", "zz"], ids=["we give way", "they give way"])
def test_nodes_that_call_each_other_at_the_same_moment_end_with_one_connection(tidy, epmd_port, foo, ours):
    foo.define("R", **R)

    async def meet(number):
        node.monitor_nodes(True)
        foo.ask(elixir=f"Node.connect(:{node.self_()})", python=f"await node.connect('{node.self_()}')")
        assert await node.connect(foo.name)
        assert foo.answer() in ("true", "True")
        assert node.list() == [foo.name]
        assert await rpc.call(foo.name, "R.same", number) == number
        assert await flush(0.01) == [("nodeup", foo.name)]
        assert await node.disconnect(foo.name)
        assert await flush(0.01) == [("nodedown", foo.name)]
        node.monitor_nodes(False)

    with machine_node(new_name(ours), epmd_port):
        for number in range(30):
            perform(meet, number)
            assert until(lambda: foo.eval(elixir="Node.list()", python="node.list()") == "[]")


def test_once_unlink_and_demonitor_have_returned_nothing_of_the_dead_comes(py, foo):
    foo.define("R", **R)

    async def main():
        process.flag(trap_exit=True)
        late = []
        for number in range(400):
            pid = await node.spawn_link(foo.name, "R.same", number)  # ends at once
            ref = process.monitor(pid)
            process.unlink(pid)
            process.demonitor(ref)
            before = await flush(0)
            late += [message for message in before if message[0] not in ("EXIT", "DOWN")]
        assert late == []
        assert await flush(0.2) == []
        assert process.info(self_(), "links") == process.info(self_(), "monitors") == []

    perform(main)


def test_output_that_a_frozen_node_does_not_take_is_limited(py, start, monkeypatch):
    monkeypatch.setattr("otplib.dist.wire.MAX_OUTPUT", 20_000_000)
    foo = start()
    foo.define("R", **R)

    async def main():
        ref = process.monitor(await node.spawn(foo.name, "R.wait"))
        assert await rpc.call(foo.name, "R.same", 1) == 1
        foo.freeze()
        for _ in range(100):
            send(("nobody", foo.name), b"x" * 500_000)
        down = await receive(timeout=LIMIT)  # long before the net tick time of a minute is over
        assert (down.ref, down.reason) == (ref, "noconnection")

    perform(main)
