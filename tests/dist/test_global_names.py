"""The replica of `Global` names that a machine keeps: what is agreed, what is claimed, what Python calls equal."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from otplib.core.terms import Atom, Pid
from otplib.dist.etf_terms import ImproperList
from otplib.testing import DeterministicMachine, deterministic
from otplib.vm.global_names import Change, GlobalNames, name_key
from otplib.vm.process_record import ProcessRecord, Status

FAR = Pid("far@h", 7, 0, 1)
FURTHER = Pid("far@h", 8, 0, 1)


@pytest.fixture
def machine() -> Iterator[DeterministicMachine]:
    with deterministic() as machine:
        yield machine


@pytest.fixture
def names() -> GlobalNames:
    return GlobalNames(threading.RLock())


def process_of(machine: DeterministicMachine) -> ProcessRecord:
    return ProcessRecord(machine, machine.new_pid(), None, None)


def announced(names: GlobalNames) -> list[tuple[Change, object, Pid]]:
    """Make it the replica of a node; gives what is announced from now on."""
    told: list[tuple[Change, object, Pid]] = []
    names.join(lambda change, term, pid: told.append((change, term, pid)))
    return told


def test_a_name_registered_where_there_is_nobody_to_ask_is_agreed_at_once(machine, names):
    one = process_of(machine)
    assert names.register("svc", one)
    assert names.find_agreed("svc").pid == one.pid
    assert names.find_claimant("svc") is None


def test_a_name_registered_on_a_node_is_claimed_until_all_have_agreed(machine, names):
    told, one = announced(names), process_of(machine)
    assert names.register("svc", one)
    assert told == [(Change.REGISTERED, "svc", one.pid)]
    assert names.find("svc") is one, "whoever asks here finds it already"
    assert names.agreed() == [], "nobody else is told of it yet"
    names.insert("svc", one)
    assert names.find_claimant("svc") is None
    assert [name.pid for name in names.agreed()] == [one.pid]


def test_a_name_that_is_claimed_or_agreed_is_refused_to_others(machine, names):
    announced(names)
    assert names.register("claimed", process_of(machine))
    names.insert("agreed", FAR)
    assert not names.register("claimed", process_of(machine))
    assert not names.register("agreed", process_of(machine))


def test_what_the_nodes_have_agreed_on_goes_before_a_claim_until_the_conflict_is_decided(machine, names):
    announced(names)
    one = process_of(machine)
    names.register("svc", one)
    names.insert("svc", FAR)
    assert names.find("svc") == FAR
    assert names.find_claimant("svc") is one
    names.withdraw("svc", one)
    assert names.find_claimant("svc") is None
    assert names.terms == {FAR: ["svc"]}


def test_a_claim_that_wins_takes_the_place_of_what_was_agreed(machine, names):
    announced(names)
    one = process_of(machine)
    names.register("svc", one)
    names.insert("svc", FAR)
    assert names.insert("svc", one) == FAR
    assert names.find("svc") is one
    assert names.terms == {one: ["svc"]}


def test_names_of_a_process_are_free_with_its_end_claimed_or_agreed(machine, names):
    announced(names)
    one = process_of(machine)
    names.register("claimed", one)
    names.insert("agreed", one)
    names.insert("other", FAR)
    names.forget(one)
    assert [names.find(name) for name in ("claimed", "agreed", "other")] == [None, None, FAR]
    assert names.terms == {FAR: ["other"]}


def test_the_end_of_a_claimant_leaves_the_name_with_who_has_it(machine, names):
    announced(names)
    one = process_of(machine)
    names.register("svc", one)
    names.insert("svc", FAR)
    names.forget(one)
    assert names.find("svc") == FAR
    names.drop(FAR)
    assert names.find("svc") is None
    assert names.terms == {}


def test_the_dead_get_no_name(machine, names):
    dead = process_of(machine)
    dead.state = Status.DEAD
    doomed = process_of(machine)
    doomed.doom = ("kill",)
    for record in (dead, doomed, None):
        assert not names.register("svc", record)
    names.insert("svc", FAR)
    assert names.insert("svc", dead) == FAR, "whoever had it has it no longer"
    assert names.find("svc") is None


def test_taking_a_name_back_tells_whose_it_was(machine, names):
    told, one = announced(names), process_of(machine)
    names.insert("far", FAR)
    names.register("near", one)
    told.clear()
    names.unregister("far")
    names.unregister("near")
    names.unregister("nobody's")
    assert told == [(Change.UNREGISTERED, "far", FAR), (Change.UNREGISTERED, "near", one.pid)]
    assert names.terms == {}


def test_a_name_taken_back_is_free_again_here_at_once(machine, names):
    told, one, two = announced(names), process_of(machine), process_of(machine)
    names.register("svc", one)
    names.insert("svc", one)
    names.unregister("svc")
    assert names.register("svc", two)
    assert [change for change, _, _ in told] == [Change.REGISTERED, Change.UNREGISTERED, Change.REGISTERED]
    names.delete("svc")  # as the others are told of the first
    assert names.find("svc") is two


def test_an_atom_and_a_string_are_two_names_for_erlang_and_one_for_who_asks_in_python(machine, names):
    names.insert(Atom("svc"), FAR)
    assert names.find("svc") == names.find(Atom("svc")) == FAR
    assert not names.register("svc", process_of(machine)), "equal to a name that is taken"
    names.insert("svc", FURTHER)  # a BEAM may
    assert names.find("svc") == FURTHER
    assert names.find(Atom("svc")) == FAR
    names.delete("svc")
    assert names.find("svc") == FAR
    names.unregister("svc")
    assert names.find(Atom("svc")) is None


def test_names_that_python_cannot_hash_are_kept_for_those_who_can_ask_for_them(names):
    charlist, map_name = [115, 118, 99], {"a": [1]}
    names.insert(charlist, FAR)
    names.insert(map_name, FURTHER)
    assert names.find_agreed([115, 118, 99]).pid == FAR
    assert names.is_taken([115, 118, 99])
    assert not names.is_taken([115, 118])
    assert names.find_agreed({"a": [1]}).pid == FURTHER
    assert {name.pid for name in names.agreed()} == {FAR, FURTHER}
    names.drop(FAR)
    assert names.delete({"a": [1]}) == FURTHER
    assert names.agreed() == []
    assert names.terms == {}


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("svc", b"svc", True),
        ("svc", Atom("svc"), False),
        (1, 1.0, False),
        (1, True, False),
        (None, Atom("nil"), False),
        ([1, 2], (1, 2), False),
        (("room", 1), (Atom("room"), 1), False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {Atom("a"): 1}, False),
        (b"\xff", b"\xff", True),
        ((), [], False),
        (ImproperList([[1]], 2), ImproperList([[1]], 2), True),
        (ImproperList([[1]], 2), ImproperList([[1]], 3), False),
    ],
)
def test_two_terms_are_one_name_exactly_if_a_beam_says_so(one, two, same):
    assert (name_key(one) == name_key(two)) is same
    assert len({name_key(one), name_key(two)}) == (1 if same else 2)


def test_a_node_that_leaves_the_cluster_keeps_its_own_names_alone(machine, names):
    told, one, two = announced(names), process_of(machine), process_of(machine)
    names.register("claimed", one)
    names.insert("agreed", two)
    names.insert("far", FAR)
    told.clear()
    names.leave(names.announce)
    assert [names.find(name) for name in ("claimed", "agreed", "far")] == [one, two, None]
    assert {name.pid for name in names.agreed()} == {one.pid, two.pid}
    names.unregister("claimed")
    assert told == [], "there is nobody to tell"


def test_a_claim_of_both_conflicting_sides_survives_leaving_for_the_process_that_is_here(machine, names):
    announced(names)
    one = process_of(machine)
    names.register("svc", one)
    names.insert("svc", FAR)
    names.leave(names.announce)
    assert names.find("svc") is one
    assert names.terms == {one: ["svc"]}


def test_a_name_server_whose_end_comes_after_the_beginning_of_the_next_leaves_it_alone(machine, names):
    announced(names)
    first = names.announce
    names.insert("far", FAR)
    told, one = announced(names), process_of(machine)
    assert names.find("far") is None, "the next one knows no other node yet"
    names.insert("far", FAR)
    names.leave(first)
    assert names.find("far") == FAR
    names.register("svc", one)
    assert told == [(Change.REGISTERED, "svc", one.pid)]
