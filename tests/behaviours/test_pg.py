"""Process groups on one node: who is in, who is told, and what a scope does with what a peer says."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otplib import (
    Atom,
    Exit,
    GenServer,
    NoSuchNameError,
    Pid,
    StartError,
    Supervisor,
    process,
    receive,
    self_,
    send,
    sleep,
    spawn,
    spawn_link,
    system,
)
from otplib.behaviours import pg
from otplib.behaviours.pg_scope import Groups
from otplib.testing import deterministic, refute_receive


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


async def idle():
    await receive("never")


# ---- groups --------------------------------------------------------------------------------------------------------


def test_a_group_without_members_is_none(machine):
    async def main():
        await pg.start_link()
        pid = spawn(idle)
        await pg.join("a", pid)
        await pg.join(("b", 1), [pid, self_()])
        await pg.join("c", [])
        assert pg.which_groups() == pg.which_local_groups() == ["a", ("b", 1)]
        assert await pg.leave("a", pid)
        assert pg.which_groups() == [("b", 1)]
        assert pg.get_members("a") == []
        process.exit(pid, "kill")
        await sleep(0.01)
        assert pg.get_local_members(("b", 1)) == [self_()]

    machine.run(main)


def test_a_process_leaves_once_for_each_time_it_is_named(machine):
    async def main():
        await pg.start_link()
        me = self_()
        await pg.join("g", [me, me, me])
        assert await pg.leave("g", [me, spawn(idle), me])
        assert pg.get_members("g") == [me]
        assert await pg.leave("g", [me, me])
        assert not await pg.leave("g", me)

    machine.run(main)


def test_a_dead_process_is_in_no_group_for_long(machine):
    async def main():
        await pg.start_link()
        pid, ref = process.spawn_monitor(lambda: None)
        await receive(("DOWN", ref, ..., ..., ...))
        await pg.join("g", pid)
        await sleep(0.01)
        assert pg.which_groups() == []

    machine.run(main)


def test_scopes_know_nothing_of_each_other(machine):
    async def main():
        await pg.start_link()
        await pg.start_link("other")
        await pg.join("g", self_(), "other")
        assert pg.get_members("g") == []
        assert pg.get_members("g", "other") == [self_()]
        assert not await pg.leave("g", self_())

    machine.run(main)


def test_an_atom_and_a_string_are_two_groups_and_who_asks_for_the_one_that_is_not_there_is_given_the_other(machine):
    async def main():
        await pg.start_link()
        a, b = spawn(idle), spawn(idle)
        await pg.join(("g", Atom("x")), a)
        assert pg.get_members(("g", "x")) == [a]
        await pg.join(("g", "x"), b)
        assert (pg.get_members(("g", "x")), pg.get_members(("g", Atom("x")))) == ([b], [a])
        assert await pg.leave(("g", "x"), b)
        assert await pg.leave(("g", "x"), a)
        assert pg.which_groups() == []

    machine.run(main)


def test_a_group_may_be_any_term(machine):
    async def main():
        await pg.start_link()
        groups = [1, 1.0, True, [1, 2], {"a": [1]}, None, b"\xff"]
        for group in groups:
            await pg.join(group, self_())
        assert pg.which_groups() == groups
        assert [len(pg.get_members(group)) for group in groups] == [1] * len(groups)
        _, found = await pg.monitor_scope()
        assert (found[1, 2], found[("a", (1,)),]) == ([self_()], [self_()])
        assert found[1] == [self_()] * 3  # of 1, 1.0 and True

    machine.run(main)


def test_what_cannot_be_is_refused_where_it_is_written(machine):
    async def main():
        with pytest.raises(NoSuchNameError, match=r"await pg.start_link\('pg'\) first"):
            pg.get_members("g")
        with pytest.raises(Exit):
            await pg.join("g", self_())
        with pytest.raises(TypeError, match="expected the name of a scope"):
            await pg.start_link(5)
        pid = await pg.start()
        with pytest.raises(StartError) as refused:
            await pg.start_link()
        assert refused.value.reason == ("already_started", pid)
        for wrong in ("me", None, [5]):
            with pytest.raises(TypeError, match="expected a pid or several"):
                await pg.join("g", wrong)
        with pytest.raises(ValueError, match="only a process of this node can join"):
            await pg.join("g", Pid("foo@host", 1, 0, 1))
        assert pg.which_groups() == []

    machine.run(main)


def test_a_scope_stands_in_a_tree_and_begins_empty_again(machine):
    async def main():
        await Supervisor.start_link([pg.child_spec("rooms")], strategy="one_for_one")
        await pg.join("g", self_(), "rooms")
        process.exit(process.whereis("rooms"), "kill")
        await sleep(0.01)
        assert pg.which_groups("rooms") == []
        await pg.join("g", self_(), "rooms")

    machine.run(main)


# ---- being told ----------------------------------------------------------------------------------------------------


def test_a_monitor_tells_of_one_group_and_a_scope_s_of_all(machine):
    async def main():
        await pg.start_link()
        me = self_()
        await pg.join("a", me)
        one, now = await pg.monitor("a")
        every, groups = await pg.monitor_scope()
        assert (now, groups) == ([me], {"a": [me]})
        pid = spawn(receive)
        await pg.join("a", [pid, pid])
        await pg.join("b", pid)
        send(pid, "end")
        await sleep(0.01)
        told = [await receive((one, ..., ..., ...)) for _ in range(3)]
        assert told == [(one, "join", "a", [pid, pid]), (one, "leave", "a", [pid]), (one, "leave", "a", [pid])]
        told = [(await receive((every, ..., ..., ...)))[1:3] for _ in range(5)]
        assert sorted(told[:2]) == [("join", "a"), ("join", "b")]
        assert sorted(told[2:]) == [("leave", "a"), ("leave", "a"), ("leave", "b")]

    machine.run(main)


def test_who_has_stopped_a_monitor_is_told_nothing_not_even_what_was_under_way(machine):
    async def main():
        await pg.start_link()
        ref, _ = await pg.monitor("a")
        await pg.join("a", self_())
        assert await pg.demonitor(ref)
        await pg.join("a", self_())
        await refute_receive()
        assert not await pg.demonitor(ref)

    machine.run(main)


def test_a_monitor_ends_with_its_process(machine):
    async def main():
        await pg.start_link()

        async def watcher():
            await pg.monitor("a")
            await pg.monitor_scope()

        spawn_link(watcher)
        await sleep(0.01)
        assert (await system.get_state("pg")).monitors == {}

    machine.run(main)


# ---- peers, played by the test -------------------------------------------------------------------------------------


async def peer(log):
    """The scope of another node, as far as this one can tell: it hands on what it is sent."""
    while True:
        send(log, ("told", await receive()))


def test_a_peer_that_is_discovered_is_told_all_and_asked_back_once(machine):
    async def main():
        scope = await pg.start_link()
        await pg.join("g", [self_(), self_()])
        other = spawn_link(peer, self_())
        send(scope, ("discover", other))
        assert await receive() == ("told", ("$gen_cast", ("sync", scope, [("g", [self_(), self_()])])))
        assert await receive() == ("told", ("discover", scope))
        send(scope, ("discover", other, 1))  # as a later OTP may say it
        assert (await receive())[1][1][0] == "sync"
        await refute_receive()

    machine.run(main)


def test_a_peer_is_told_exactly_who_has_joined_and_left(machine):
    async def main():
        scope = await pg.start_link()
        other = spawn_link(peer, self_())
        send(scope, ("discover", other))
        await receive(), await receive()
        a, b = spawn(receive), spawn(idle)
        await pg.join("g", [a, a])
        assert await receive() == ("told", ("join", scope, "g", [a, a]))
        await pg.leave("g", [a, b])
        assert await receive() == ("told", ("leave", scope, [a], ["g"]))
        assert not await pg.leave("g", b)
        await pg.join("h", [a, a])
        await receive()
        send(a, "end")
        tag, (word, _, pid, groups) = await receive()
        assert (tag, word, pid, sorted(groups)) == ("told", "leave", a, ["g", "h", "h"])
        await refute_receive()

    machine.run(main)


def test_what_a_peer_says_counts_from_its_first_sync_until_its_end(machine):
    async def main():
        scope = await pg.start_link()
        ref, _ = await pg.monitor("g")
        other = spawn(idle)
        theirs = [Pid("foo@host", number, 0, 9) for number in range(4)]
        send(scope, ("join", other, "g", theirs[0]))  # nobody knows it
        GenServer.cast(scope, ("sync", other, [("g", theirs[:2]), ("h", [theirs[0]])]))
        send(scope, ("join", other, "g", [theirs[2], theirs[2]]))
        send(scope, ("leave", other, theirs[0], ["g", "h", "unheard of"]))
        assert [(await receive((ref, ..., ..., ...)))[1:] for _ in range(3)] == [
            ("join", "g", theirs[:2]),
            ("join", "g", [theirs[2], theirs[2]]),
            ("leave", "g", [theirs[0]]),
        ]
        assert (pg.get_members("g"), pg.which_groups()) == ([theirs[1], theirs[2], theirs[2]], ["g"])
        assert pg.which_local_groups() == []
        GenServer.cast(scope, ("sync", other, [("g", [theirs[1], theirs[3]])]))
        assert (await receive((ref, "leave", ..., ...)))[3] == [theirs[2], theirs[2]]
        assert (await receive((ref, "join", ..., ...)))[3] == [theirs[3]]
        process.exit(other, "kill")
        assert sorted((await receive((ref, "leave", ..., ...)))[3]) == [theirs[1], theirs[3]]
        assert pg.which_groups() == []

    machine.run(main)


FAR = Pid("foo@host", 1, 0, 1)


@pytest.mark.parametrize(
    "message",
    ["hello", ("join", 5, "g", []), ("discover", "me"), ("leave", FAR, 5, 5), ("nodedown", "foo@host"), ("join",)],
    ids=repr,
)
def test_what_makes_no_sense_does_no_harm(machine, message):
    async def main():
        scope = await pg.start_link()
        send(scope, message)
        GenServer.cast(scope, message)
        GenServer.cast(scope, ("sync", spawn(idle), [5, ("g", 5), ("h", ["x"])]))
        await pg.join("g", self_())
        assert pg.which_groups() == ["g"]

    machine.run(main)


# ---- the table against a model -------------------------------------------------------------------------------------

PIDS = [Pid("nonode@nohost", number, 0, 1) for number in range(3)]
STEPS = st.tuples(
    st.booleans(),
    st.booleans(),
    st.sampled_from(["a", Atom("a"), ("a", 1), ("a", True)]),
    st.lists(st.sampled_from(PIDS), max_size=3),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(STEPS, max_size=30))
def test_the_table_counts_as_a_bag_of_pids_does(steps):
    groups = Groups()
    model: dict[tuple[str, bool], Counter[Pid]] = {}
    terms = {}
    for adds, local, term, pids in steps:
        key = (repr(term), local)
        terms[repr(term)] = term
        bag = model.setdefault(key, Counter())
        if adds:
            if pids:
                groups.add(term, pids, local=local)
            bag.update(pids)
        else:
            gone = Counter(pids) & bag
            assert Counter(groups.take(term, pids, local=local)) == gone
            bag.subtract(gone)
    full = {name for (name, _), bag in model.items() if bag.total()}
    assert {repr(term) for term in groups.names()} == full
    for name in full:
        local, remote = model.get((name, True), Counter()), model.get((name, False), Counter())
        assert Counter(groups.local_members(terms[name])) == +local
        assert Counter(groups.members(terms[name])) == +local + +remote
