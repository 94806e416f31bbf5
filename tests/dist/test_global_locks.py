"""The table of global locks on one node, and how lockers of two nodes name the lock they share."""

from __future__ import annotations

import pytest

from otplib.core.terms import Atom, Pid
from otplib.dist.global_locking import term_order
from otplib.dist.global_locks import GLOBAL, LockTable

ONE, TWO, THREE = (Pid(node, number, 0, 1) for node, number in (("a@h", 1), ("b@h", 2), ("c@h", 3)))


@pytest.fixture
def table() -> LockTable:
    return LockTable()


def test_a_resource_is_one_requester_s_at_a_time(table):
    assert table.set(("door", "me"), ONE)
    assert not table.set(("door", "you"), TWO)
    assert not table.can_set(("door", "you"))
    assert table.set(("window", "you"), TWO), "another resource"


def test_processes_that_name_the_same_requester_share_a_lock_until_the_last_lets_go(table):
    lock = (GLOBAL, [ONE, TWO])
    assert table.set(lock, ONE)
    assert table.set(lock, TWO)
    assert table.set(lock, ONE), "again"
    table.free(lock, ONE)
    assert table.is_set()
    assert not table.set((GLOBAL, [ONE, THREE]), THREE)
    table.free(lock, TWO)
    assert not table.is_set()
    assert table.set((GLOBAL, [ONE, THREE]), THREE)


def test_only_who_holds_a_lock_frees_it(table):
    table.set(("door", "me"), ONE)
    table.free(("door", "me"), TWO)
    table.free(("door", "you"), ONE)
    table.free(("window", "me"), ONE)
    assert not table.can_set(("door", "you"))


def test_the_end_of_a_process_frees_all_it_holds(table):
    table.set(("door", "me"), ONE)
    table.set(("window", "me"), ONE)
    table.set(("window", "me"), TWO)
    assert table.holds_any(ONE)
    table.drop(ONE)
    assert not table.holds_any(ONE)
    assert table.can_set(("door", "you"))
    assert not table.can_set(("window", "you"))
    table.drop(ONE)


def test_requesters_that_a_beam_tells_apart_are_two(table):
    table.set(("door", "me"), ONE)
    assert not table.set(("door", Atom("me")), ONE)
    assert table.set((Atom("door"), Atom("me")), ONE), "another resource"


def test_a_change_of_names_stands_only_under_the_lock_it_was_made_under(table):
    mine, theirs = (GLOBAL, [ONE, TWO]), (GLOBAL, [ONE, THREE])
    assert table.still_covers(ONE), "no lock at all: as long as none was lost"
    table.set(mine, ONE)
    table.set(mine, TWO)
    assert table.still_covers(ONE)
    assert table.still_covers(TWO)
    assert table.still_covers(mine)
    assert not table.still_covers(THREE)
    assert not table.still_covers(theirs)
    for junk in (None, 1, (), (GLOBAL,), ("global", 1, 2)):
        assert not table.still_covers(junk)


def test_a_change_that_arrives_after_its_maker_has_died_does_not_stand(table):
    lock = (GLOBAL, TWO)
    table.set(lock, TWO)
    table.drop(TWO)
    assert not table.still_covers(TWO)
    table.set((GLOBAL, ONE), ONE)
    table.free((GLOBAL, ONE), ONE)
    assert table.still_covers(ONE), "the last lock was let go of"


def test_the_loss_of_another_lock_says_nothing_about_changes_of_names(table):
    table.set(("door", "me"), TWO)
    table.drop(TWO)
    assert table.still_covers(ONE)


#: As `lists:sort/1` of OTP 25 and 28 has put them.
SORTED_BY_A_BEAM = [
    *[("a@h", 1, 0, 1), ("a@h", 1, 0, 2), ("b@h", 1, 0, 1), ("b@h", 1, 0, 2), ("a@h", 2, 0, 1), ("a@h", 2, 0, 2)],
    *[("b@h", 2, 0, 1), ("b@h", 2, 0, 2), ("a@h", 300, 0, 1), ("a@h", 300, 0, 2), ("b@h", 300, 0, 1)],
    *[("b@h", 300, 0, 2), ("a@h", 1, 1, 1), ("a@h", 1, 1, 2), ("b@h", 1, 1, 1), ("b@h", 1, 1, 2), ("a@h", 2, 1, 1)],
    *[("a@h", 2, 1, 2), ("b@h", 2, 1, 1), ("b@h", 2, 1, 2), ("a@h", 300, 1, 1), ("a@h", 300, 1, 2)],
]


def test_pids_of_several_nodes_are_sorted_as_a_beam_sorts_them():
    pids = [Pid(*parts) for parts in SORTED_BY_A_BEAM]
    shuffled = sorted(pids, key=repr)
    assert sorted(shuffled, key=term_order) == pids != shuffled
