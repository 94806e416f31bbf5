"""Process groups across nodes: with a BEAM, which speaks the protocol as it was made, and with other Pythons."""

import random

import pytest

from otplib import Atom, node, process, receive, self_, send, spawn
from otplib.behaviours import pg
from otplib.testing import assert_receive
from otplib.vm.machine import Machine
from tests.dist import nodes
from tests.dist.beam import LIMIT, until
from tests.dist.node_fixtures import beam as beam
from tests.dist.node_fixtures import epmd_port as epmd_port
from tests.dist.node_fixtures import kept_beam as kept_beam
from tests.dist.node_fixtures import new_name
from tests.dist.node_fixtures import py as py
from tests.dist.node_fixtures import start as start
from tests.dist.node_fixtures import tidy as tidy
from tests.dist.nodes import perform

G = Atom("g")
START = {"elixir": "{:ok, _} = :pg.start(:pg)", "python": "from otplib.behaviours import pg; await pg.start()"}
JOIN = {
    "elixir": "p = spawn(Process, :sleep, [:infinity]); :pg.join(:g, [p, p])",
    "python": 'p = spawn(receive, "never"); await pg.join(Atom("g"), [p, p])',
}
LEAVE = {"elixir": ":pg.leave(:g, p)", "python": 'await pg.leave(Atom("g"), p)'}
END = {"elixir": "Process.exit(p, :kill)", "python": "process.exit(p, 'kill')"}
COUNT = {"elixir": "length(:pg.get_members(:g))", "python": 'len(pg.get_members(Atom("g")))'}
WATCH = {"elixir": "{ref, _} = :pg.monitor(:g)", "python": 'ref, _ = await pg.monitor(Atom("g"))'}
NEXT = {
    "elixir": 'receive do {^ref, what, :g, pids} -> IO.puts("#{what} #{length(pids)}") after 10_000 -> :late end',
    "python": "m = await receive((ref, ..., ..., ...), timeout=10); print(m[1], len(m[3]), flush=True)",
}
STOP = {"elixir": "Process.exit(Process.whereis(:pg), :kill)", "python": 'process.exit(process.whereis("pg"), "kill")'}


async def told(ref, word):
    return (await assert_receive((ref, word, "g", ...), timeout=LIMIT))[3]


def test_members_of_before_the_nodes_met_are_exchanged_and_both_hear_of_every_change(py, start):
    foo = start()
    foo.tell(**START)
    foo.tell(**WATCH)
    foo.tell(**JOIN)
    foo.tell(**NEXT)
    assert foo.prints("join 2")
    me = []

    async def main():
        await pg.start()
        ref, _ = await pg.monitor(G)
        mine = spawn(receive, "end")
        await pg.join(G, [mine, mine, mine])
        assert await told(ref, "join") == [mine] * 3
        assert await node.connect(foo.name)
        theirs = await told(ref, "join")
        assert theirs == [theirs[0]] * 2
        assert theirs[0].node == foo.name
        foo.tell(**NEXT)
        assert foo.prints("join 3")
        foo.tell(**LEAVE)
        foo.tell(**NEXT)
        assert await told(ref, "leave") == theirs[:1]
        assert foo.eval(**COUNT) == "4"
        await pg.leave(G, [mine, mine])
        foo.tell(**NEXT)
        assert foo.prints("leave 2")
        send(mine, "end")
        assert await told(ref, "leave") == [mine, mine]
        assert await told(ref, "leave") == [mine]
        foo.tell(**NEXT)
        assert foo.eval(**COUNT) == "1"
        foo.tell(**END)
        assert await told(ref, "leave") == theirs[:1]
        assert pg.which_groups() == []
        me.append(ref)

    perform(main)
    assert me


def test_a_scope_that_dies_takes_its_members_off_and_brings_them_back_when_it_is_there_again(py, start):
    foo = start()

    async def main():
        await pg.start()
        ref, _ = await pg.monitor(G)
        await node.connect(foo.name)
        foo.tell(**START)
        foo.tell(**JOIN)
        assert len(await told(ref, "join")) == 2
        foo.tell(**STOP)
        assert len(await told(ref, "leave")) == 2
        await pg.join(G, self_())
        foo.tell(**START)
        foo.tell(**WATCH)
        process.exit(process.whereis("pg"), "kill")

    perform(main)


def test_nodes_that_part_forget_each_other_and_find_each_other_again(py, start):
    foo = start()
    foo.tell(**START)
    foo.tell(**JOIN)

    async def main():
        await pg.start()
        ref, _ = await pg.monitor(G)
        for _ in range(2):
            await node.connect(foo.name)
            assert len(await told(ref, "join")) == 2
            await node.disconnect(foo.name)
            assert len(await told(ref, "leave")) == 2
        assert pg.which_groups() == []
        assert node.list() == []

    perform(main)


def test_a_message_to_all_members_reaches_a_beam_s_and_a_string_is_a_binary_there(py, beam):
    async def main():
        await pg.start()
        await node.connect(beam.name)
        ref, _ = await pg.monitor("rooms")
        beam.tell('{:ok, _} = :pg.start(:pg); :pg.join("rooms", self())')
        [theirs] = (await assert_receive((ref, "join", "rooms", ...), timeout=LIMIT))[3]
        send(theirs, Atom("hello"))
        assert beam.eval("Otplib.next()") == ":hello"
        beam.tell('for p <- :pg.get_members("rooms"), do: send(p, :again)')
        assert beam.eval("Otplib.next()") == ":again"
        beam.tell("Process.exit(Process.whereis(:pg), :kill)")

    perform(main)


def test_a_scope_that_was_there_before_its_machine_was_a_node_meets_the_others(epmd_port, tidy):
    with nodes.machine_node(new_name("a"), epmd_port) as first, Machine() as second:

        async def begin():
            await pg.start()
            await pg.join(G, self_())
            await node.start(f"{new_name('b')}@localhost", nodes.COOKIE, epmd_port=epmd_port)
            assert await node.connect(first.node)
            ref, now = await pg.monitor(G)
            members = now if len(now) > 1 else [*now, *await told(ref, "join")]
            assert len(members) == 2

        async def hold():
            await pg.start()
            await pg.join(G, self_())
            await receive("never")

        with nodes.on(first):
            spawn(hold)
        with nodes.on(second):
            perform(begin)


WORKERS = {
    "elixir": "ps = for _ <- 1..3, do: spawn(Process, :sleep, [:infinity])",
    "python": "ps = [spawn(receive, 'never') for _ in range(3)]",
}
STEPS = {
    "join": {
        "elixir": ":pg.join(:{group}, [Enum.at(ps, {one}), Enum.at(ps, {two})])",
        "python": "await pg.join(Atom('{group}'), [ps[{one}], ps[{two}]])",
    },
    "leave": {
        "elixir": ":pg.leave(:{group}, [Enum.at(ps, {one}), Enum.at(ps, {two})])",
        "python": "await pg.leave(Atom('{group}'), [ps[{one}], ps[{two}]])",
    },
    "end": {"elixir": "Process.exit(Enum.at(ps, {one}), :kill)", "python": "process.exit(ps[{one}], 'kill')"},
}
TALLY = {
    "elixir": 'Enum.map_join([:a, :b], " ", &length(:pg.get_members(&1)))',
    "python": "' '.join(str(len(pg.get_members(Atom(g)))) for g in 'ab')",
}

LOCAL = {
    "elixir": 'Enum.map_join([:a, :b], " ", &length(:pg.get_local_members(&1)))',
    "python": "' '.join(str(len(pg.get_local_members(Atom(g)))) for g in 'ab')",
}


def far_members(group):
    return len(pg.get_members(Atom(group))) - len(pg.get_local_members(Atom(group)))


@pytest.mark.parametrize("seed", range(3))
def test_after_many_changes_on_both_sides_both_count_the_same_members(py, start, seed):
    foo = start()
    foo.tell(**START)
    foo.tell(**WORKERS)
    dice = random.Random(seed)

    async def main():
        await pg.start()
        await node.connect(foo.name)
        ps = [spawn(receive, "never") for _ in range(3)]
        for _ in range(60):
            step = dice.choice(
                ["join", "join", "join", "leave", "leave", "end"] if dice.random() < 0.2 else ["join", "leave"]
            )
            fill = {"group": dice.choice("ab"), "one": dice.randrange(3), "two": dice.randrange(3)}
            if dice.random() < 0.5:
                foo.tell(**{language: text.format(**fill) for language, text in STEPS[step].items()})
            elif step == "end":
                process.exit(ps[fill["one"]], "kill")
            else:
                verb = pg.join if step == "join" else pg.leave
                await verb(Atom(fill["group"]), [ps[fill["one"]], ps[fill["two"]]])

        # What each says of its own processes is the truth, and the other hears of it a moment later.
        def agree(there, here):
            return foo.eval(**there).strip("\"'") == " ".join(str(here(group)) for group in "ab")

        assert until(lambda: agree(TALLY, lambda group: len(pg.get_members(Atom(group)))))
        assert until(lambda: agree(LOCAL, far_members))
        for pid in ps:
            process.exit(pid, "kill")
        assert until(lambda: agree(TALLY, far_members))

    perform(main)


def test_scopes_that_were_there_before_either_machine_was_a_node_meet(epmd_port, tidy):
    async def begin(name):
        await pg.start()
        await pg.join(G, self_())
        return await node.start(f"{new_name(name)}@localhost", nodes.COOKIE, epmd_port=epmd_port)

    async def keep(name, test):
        send(test, await begin(name))
        await receive("never")

    async def meet(other):
        await begin("b")
        ref, _ = await pg.monitor(G)
        assert await node.connect(other)
        assert len(await told(ref, "join")) == 1

    with Machine() as first, Machine() as second:
        with nodes.on(first):

            async def first_node():
                spawn(keep, "a", self_())
                return await receive(str)

            other = perform(first_node)
        with nodes.on(second):
            perform(meet, other)
