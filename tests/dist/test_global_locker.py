"""Whom the locker takes next, and who keeps a name that two processes have."""

from __future__ import annotations

import pytest

from otplib import self_, spawn, spawn_monitor
from otplib.core.terms import Atom, Pid
from otplib.dist.etf_terms import Export, Fun
from otplib.dist.global_conflicts import NONE, USUAL, compare, decide, resolve_it
from otplib.dist.global_locker import Queue, Waiting
from otplib.process import alive, flag, info, receive
from otplib.testing import deterministic
from otplib.vm.global_names import GlobalNames, Named
from otplib.vm.shell import current_machine

FAR = Pid("far@h", 7, 0, 1)


def waiting(node, tag=1):
    return Waiting(node, Pid(node, 5, 0, 1), 8, tag, 100 + tag)


# ---- the locker's queue ----------------------------------------------------------------------------------------


def test_the_larger_the_partition_the_longer_a_locker_waits_up_to_three_seconds():
    queue = Queue("a@h")
    queue.add(waiting("z@h"))
    delays = []
    for number in range(30):
        delays.append(queue.patience())
        queue.change_known([f"n{number}@h"])
    assert delays[:3] == [0.2, 1.1, 1.2]
    assert delays[-1] == 3.0
    assert delays == sorted(delays)


def test_after_a_success_the_next_is_taken_at_once():
    queue = Queue("a@h")
    queue.just_synced = True
    assert queue.patience() is None, "nobody waits"
    queue.add(waiting("b@h"))
    assert queue.patience() == 0.0


def test_the_boss_is_the_greatest_node_of_the_partition():
    queue = Queue("b@h")
    assert queue.boss() == "b@h"
    queue.change_known(["a@h", "c@h"])
    assert queue.boss() == "c@h"
    queue.change_known(removed="c@h")
    assert queue.boss() == "b@h"


def test_nodes_of_this_host_are_taken_before_others():
    queue = Queue("a@here")
    for node in ("b@there", "c@here", "d@there", "e@here"):
        queue.add(waiting(node))
    assert {queue.choose().node for _ in range(100)} == {"c@here", "e@here"}
    queue.remove("c@here", 1)
    queue.remove("e@here", 1)
    assert {queue.choose().node for _ in range(100)} == {"b@there", "d@there"}


def test_a_node_that_has_become_known_waits_no_longer():
    queue = Queue("a@h")
    queue.add(waiting("b@h"))
    queue.change_known(["b@h"])
    assert queue.choose() is None
    assert queue.waiting == []


def test_only_the_attempt_that_is_meant_is_removed():
    queue = Queue("a@h")
    queue.add(waiting("b@h", tag=2))
    queue.remove("b@h", 1)
    assert queue.find("b@h") == waiting("b@h", tag=2)
    queue.remove("b@h", 2)
    assert queue.find("b@h") is None


# ---- conflicts -------------------------------------------------------------------------------------------------


async def idle():
    await receive(("end",))


@pytest.mark.parametrize("method", [None, USUAL])
def test_usually_the_process_on_the_greater_node_is_killed(method):
    async def main():
        ours = spawn(idle)  # on nonode@nohost, which is greater than far@h
        assert resolve_it(method, "svc", FAR, ours) == FAR
        assert not alive(ours)
        ours = spawn(idle)
        assert resolve_it(method, "svc", ours, Pid("zebra@h", 7, 0, 1)) == ours
        assert alive(ours)

    with deterministic() as machine:
        machine.run(main)


def test_the_other_methods_of_global_tell_instead_of_killing():
    async def main():
        ours = spawn(idle)
        assert resolve_it(Export("global", "random_notify_name", 3), "svc", FAR, ours) == FAR
        assert resolve_it(Export("global", "notify_all_name", 3), "svc", FAR, ours) == NONE
        conflict = Atom("global_name_conflict")
        assert info(ours, "messages") == [(conflict, "svc"), (conflict, "svc", FAR)]

    with deterministic() as machine:
        machine.run(main)


def test_a_method_that_is_not_known_here_decides_for_nobody():
    async def main():
        outcome = resolve_it(Fun("Elixir.H", 0, 1, 3, b""), "svc", FAR, self_())
        assert outcome not in (FAR, self_())

    with deterministic() as machine:
        machine.run(main)


def test_a_method_whose_node_is_out_of_reach_decides_nothing():
    async def main():
        return await decide(Named("svc", FAR, Fun("Elixir.H", 0, 1, 3, b"")), Pid("zebra@h", 7, 0, 1))

    with deterministic() as machine:
        assert machine.run(main) is None


@pytest.mark.parametrize(("node", "decides"), [("zebra@h", True), ("azure@h", False)])
def test_names_are_compared_and_conflicts_decided_on_the_smaller_node(node, decides):
    """Here that is nonode@nohost."""

    async def main():
        names = GlobalNames(current_machine().lock)
        same, other = Pid(node, 1, 0, 1), Pid(node, 2, 0, 1)
        names.insert("same", same)
        mine = spawn(idle)
        names.insert("both", current_machine().find(mine))
        names.insert("mine", FAR)
        theirs = [("same", same, USUAL), ("both", other, USUAL), ("new", other, None), (Atom("same"), other, USUAL)]
        here, there = await compare(node, theirs, names)
        assert here == [("insert", ("new", other, None)), ("insert", (Atom("same"), other, USUAL))]
        assert there == ([("insert", ("both", mine, USUAL))] if decides else [])
        assert alive(mine)

    with deterministic() as machine:
        machine.run(main)


def test_a_conflict_that_nobody_wins_frees_the_name_on_both_sides():
    async def main():
        names = GlobalNames(current_machine().lock)
        mine = spawn(idle)
        names.insert("both", current_machine().find(mine), Export("global", "notify_all_name", 3))
        here, there = await compare("zebra@h", [("both", Pid("zebra@h", 2, 0, 1), USUAL)], names)
        assert here == there == [("delete", "both")]
        assert alive(mine)

    with deterministic() as machine:
        machine.run(main)


def test_a_loser_that_traps_exits_is_killed_all_the_same():
    async def main():
        async def stubborn():
            flag(trap_exit=True)
            await receive(("end",))

        pid, ref = spawn_monitor(stubborn)
        resolve_it(USUAL, "svc", FAR, pid)
        return (await receive(("DOWN", ref, ..., ..., ...))).reason

    with deterministic() as machine:
        assert machine.run(main) == "killed"
