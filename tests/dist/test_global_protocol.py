"""The decisions of the `global` name servers: single steps as tables, and whole clusters of them without a process."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otplib.core.terms import Atom, Pid
from otplib.dist.global_partitions import MEMORY, Partitions
from otplib.dist.global_protocol import (
    Apply,
    Cast,
    Disconnect,
    GlobalProtocol,
    Meet,
    Order,
    Release,
    Resolve,
    Retry,
    Synced,
    Tell,
    Warn,
)
from tests.dist.global_cluster import Cluster, assert_at_rest

LOCKER_A, LOCKER_B = Pid("a@h", 5, 0, 1), Pid("b@h", 5, 0, 2)
LOCK = ("global", [LOCKER_A, LOCKER_B])


def new_protocol(here="a@h", known=()):
    protocol = GlobalProtocol(here, LOCKER_A, count(100).__next__)
    protocol.known.update(dict.fromkeys(known, 8))
    return protocol


def up_to(step, known=()):
    """A protocol of a@h that has come that far with b@h: its tag 100, his 7."""
    protocol = new_protocol(known=known)
    protocol.node_up("b@h")
    steps = {
        "init_connect": lambda: protocol.init_connect("b@h", 8, 7, LOCKER_B),
        "lock_is_set": lambda: protocol.lock_is_set("b@h", 100, LOCK, []),
        "exchange": lambda: protocol.exchange("b@h", [], 100),
        "exchange_ops": lambda: protocol.exchange_ops("b@h", 100, [("insert", 1)], [("insert", 2)]),
        "resolved": lambda: protocol.resolved("b@h", [("insert", 3)], [], 100),
    }
    for name, run in steps.items():
        actions = run()
        if name == step:
            return protocol, actions
    raise AssertionError(f"no step {step}")


# ---- single steps ----------------------------------------------------------------------------------------------


def test_a_node_that_comes_up_is_introduced_to():
    protocol = new_protocol()
    introduction = (Atom("locker"), Atom("no_longer_a_pid"), [], LOCKER_A)
    assert protocol.node_up("b@h") == [Cast("b@h", ("init_connect", (8, 100), "a@h", introduction))]
    assert protocol.node_up("b@h") == [], "once"


def test_a_node_that_is_known_through_a_third_is_not_introduced_to():
    assert new_protocol(known=["b@h"]).node_up("b@h") == []


def test_an_introduction_sets_the_locker_to_work_and_is_acknowledged():
    protocol, actions = up_to("init_connect")
    assert actions == [
        Order(("his_the_locker", LOCKER_B, 8, 7, 100)),
        Tell("b@h", ("init_connect_ack", "a@h", 7, 100)),
    ]
    assert protocol.connected() == {"b@h": 8}
    assert protocol.known == {}


def test_an_introduction_that_comes_before_the_node_is_up_is_kept():
    protocol = new_protocol()
    assert protocol.init_connect("b@h", 8, 7, LOCKER_B) == []
    assert protocol.node_up("b@h")[1:] == [
        Order(("his_the_locker", LOCKER_B, 8, 7, 100)),
        Tell("b@h", ("init_connect_ack", "a@h", 7, 100)),
    ]


@pytest.mark.parametrize(("version", "spoken"), [(5, 5), (7, 7), (8, 8), (11, 8)])
def test_the_older_of_two_versions_is_spoken_and_only_8_is_acknowledged(version, spoken):
    protocol = new_protocol()
    protocol.node_up("b@h")
    order, *ack = protocol.init_connect("b@h", version, 7, LOCKER_B)
    assert order.message[2] == spoken
    assert len(ack) == (1 if version >= 8 else 0)


def test_a_version_nobody_speaks_any_more_is_refused():
    protocol = new_protocol()
    protocol.node_up("b@h")
    [warning] = protocol.init_connect("b@h", 4, 7, LOCKER_B)
    assert isinstance(warning, Warn)
    assert protocol.connected() == {}


def test_an_acknowledgement_of_the_two_tags_in_use_changes_nothing():
    protocol, _ = up_to("init_connect")
    assert protocol.init_connect_ack("b@h", 100, 7) == []


@pytest.mark.parametrize(("mine", "his"), [(99, 7), (100, 6)])
def test_an_acknowledgement_of_other_tags_makes_both_begin_anew(mine, his):
    protocol, _ = up_to("init_connect")
    actions = protocol.init_connect_ack("b@h", mine, his)
    assert actions == [
        Tell("b@h", ("cancel_connect", "a@h", his)),
        Order(("cancel", "b@h", 100, [])),
        Tell("b@h", ("cancel_connect", "a@h", 7)),
        Release("b@h"),
        Retry("b@h"),
    ]
    assert protocol.node_up("b@h")[0].request[:2] == ("init_connect", (8, 101))


def test_a_second_introduction_makes_both_begin_anew():
    protocol, _ = up_to("init_connect")
    actions = protocol.init_connect("b@h", 8, 8, LOCKER_B)
    assert actions[0] == Tell("b@h", ("cancel_connect", "a@h", 8))
    assert actions[-1] == Retry("b@h")
    assert protocol.init_connect("b@h", 8, 9, LOCKER_B) == [], "kept"
    assert protocol.node_up("b@h")[1] == Order(("his_the_locker", LOCKER_B, 8, 9, 101))


def test_a_second_introduction_of_an_old_node_ends_the_connection():
    protocol = new_protocol()
    protocol.node_up("b@h")
    protocol.init_connect("b@h", 7, 7, LOCKER_B)
    assert protocol.init_connect("b@h", 7, 8, LOCKER_B)[-1] == Disconnect("b@h")


def test_a_cancelled_attempt_begins_anew_if_it_is_the_present_one():
    protocol, _ = up_to("init_connect")
    assert protocol.cancel_connect("b@h", 99) == []
    assert protocol.cancel_connect("b@h", 100)[-1] == Retry("b@h")


def test_with_the_lock_set_all_names_are_sent():
    protocol, _ = up_to("init_connect")
    names = [("svc", LOCKER_A, None)]
    assert protocol.lock_is_set("b@h", 100, LOCK, names) == [Cast("b@h", ("exchange", "a@h", names, [], 7))]


@pytest.mark.parametrize("first", ["lock_is_set", "exchange"])
def test_names_are_compared_when_both_partitions_are_locked_in_either_order(first):
    protocol, _ = up_to("init_connect")
    theirs = [("svc", LOCKER_B, None)]
    steps = {
        "lock_is_set": lambda: protocol.lock_is_set("b@h", 100, LOCK, []),
        "exchange": lambda: protocol.exchange("b@h", theirs, 100),
    }
    assert not any(isinstance(action, Resolve) for action in steps.pop(first)())
    [last] = steps.values()
    assert last()[-1] == Resolve("b@h", 100, theirs)


def test_what_he_must_change_is_sent_with_the_nodes_we_know():
    _, actions = up_to("exchange_ops", known=["c@h"])
    assert actions == [Cast("b@h", ("resolved", "a@h", [("insert", 2)], [("c@h", 8)], "unused", [], 7))]


@pytest.mark.parametrize("first", ["exchange_ops", "resolved"])
def test_replicas_change_when_both_have_compared_in_either_order(first):
    protocol, _ = up_to("exchange")
    steps = {
        "exchange_ops": lambda: protocol.exchange_ops("b@h", 100, [("insert", 1)], []),
        "resolved": lambda: protocol.resolved("b@h", [("insert", 3)], [], 100),
    }
    assert not any(isinstance(action, Apply) for action in steps.pop(first)())
    [last] = steps.values()
    assert Apply([("insert", 1), ("insert", 3)], "a@h", LOCK) in last()
    assert protocol.known == {"b@h": 8}
    assert protocol.synced == {"b@h"}
    assert protocol.tag_of("b@h") is None, "the attempt is over"


def test_at_the_end_the_two_partitions_are_told_of_each_other():
    protocol = up_to("exchange_ops", known=["c@h"])[0]
    actions = protocol.resolved("b@h", [], [(Atom("d@h"), 7), (Atom("a@h"), 8)], 100)
    assert Meet(["d@h"]) in actions
    assert Synced("b@h") in actions
    [cancel] = [action.message for action in actions if isinstance(action, Order) and action.message[0] == "cancel"]
    nodes = [("b@h", 8), ("d@h", 7)]
    extra = [("vsn", 8), ("lock", LOCK)]
    assert cancel[:3] == ("cancel", "b@h", 100)
    assert cancel[3] == [Cast("c@h", ("new_nodes", "a@h", [("insert", 1)], [], nodes, extra))]
    assert actions[-1] == Order(("add_to_known", ["b@h", "d@h"]))
    assert protocol.known == {"c@h": 8, "b@h": 8, "d@h": 7}


def test_old_nodes_are_told_of_nodes_without_their_versions():
    protocol = up_to("exchange_ops")[0]
    protocol.known["c@h"] = 6
    actions = protocol.resolved("b@h", [], [], 100)
    [cancel] = [action.message for action in actions if isinstance(action, Order) and action.message[0] == "cancel"]
    [farewell] = cancel[3]
    assert farewell.request[4] == ["b@h"]


def test_an_attempt_with_a_node_that_the_other_knows_is_ended_without_a_word():
    protocol = up_to("exchange_ops")[0]
    protocol.node_up("d@h")
    protocol.init_connect("d@h", 8, 9, Pid("d@h", 1, 0, 1))
    actions = protocol.resolved("b@h", [], [(Atom("d@h"), 8)], 100)
    assert Order(("cancel", "d@h", 101, [])) in actions
    assert not any(isinstance(action, Tell) for action in actions)
    assert protocol.tag_of("d@h") is None


def test_news_of_our_partition_is_taken_over_under_the_lock_it_names():
    protocol = new_protocol(known=["c@h"])
    actions = protocol.new_nodes("c@h", [("insert", 1)], [(Atom("b@h"), 8), (Atom("a@h"), 8)], [("lock", LOCK)])
    assert actions == [
        Meet(["b@h"]),
        Apply([("insert", 1)], "c@h", LOCK),
        Order(("add_to_known", ["b@h"])),
    ]


def test_in_sync_ends_the_attempt_with_that_node():
    protocol, _ = up_to("init_connect")
    assert protocol.in_sync("b@h") == [Synced("b@h"), Order(("cancel", "b@h", 100, []))]
    assert protocol.synced == {"b@h"}


@pytest.mark.parametrize(
    "late",
    [
        lambda protocol: protocol.lock_is_set("b@h", 99, LOCK, []),
        lambda protocol: protocol.exchange("b@h", [], 99),
        lambda protocol: protocol.exchange_ops("b@h", 99, [], []),
        lambda protocol: protocol.resolved("b@h", [], [], 99),
    ],
)
def test_what_comes_late_from_an_attempt_that_is_over_only_makes_the_locker_let_go(late):
    protocol, _ = up_to("exchange_ops")
    assert late(protocol) == [Order(("cancel", "b@h", 99, []))]
    assert protocol.tag_of("b@h") == 100


def test_a_node_that_goes_down_in_the_middle_is_forgotten():
    protocol, _ = up_to("lock_is_set")
    actions = protocol.forget("b@h")
    assert actions[0] == Order(("cancel", "b@h", 100, []))
    assert actions[-1] == Order(("remove_from_known", "b@h"))
    assert protocol.connected() == {}
    assert protocol.node_up("b@h")[0].request[1] == (8, 101), "back, it is greeted as a new one"


# ---- partitions ------------------------------------------------------------------------------------------------


def new_partitions(known):
    return Partitions(new_protocol(known=known), life=1234)


def lost(loser, whom, operation=1, life=77):
    return ("lost_connection", Atom(loser), life, operation, Atom(whom))


def test_the_loss_of_a_connection_is_told_to_all_that_understand():
    partitions = new_partitions(["b@h", "c@h", "d@h"])
    partitions._protocol.known["d@h"] = 6
    actions = partitions.node_down("b@h")
    assert actions == [
        Order(("remove_from_known", "b@h")),
        Tell("c@h", ("lost_connection", "a@h", 1234, 1, "b@h")),
    ]
    assert partitions.node_down("c@h")[1:] == [], "nobody is left"


def test_who_hears_of_a_loss_passes_it_on_and_parts_with_the_lost():
    partitions = new_partitions(["b@h", "c@h", "d@h"])
    actions = partitions.lost_connection(lost("b@h", "c@h"), 0.0)
    assert actions[:3] == [
        Tell("c@h", lost("b@h", "c@h")),
        Tell("d@h", lost("b@h", "c@h")),
        Tell("c@h", ("remove_connection", "a@h")),
    ]
    assert isinstance(actions[3], Warn)
    assert set(partitions._protocol.known) == {"b@h", "d@h"}
    assert partitions.lost_connection(lost("b@h", "c@h"), 1.0) == [], "heard already"
    assert [type(action) for action in partitions.node_down("c@h")] == [Order], "and its end is told to nobody"


@pytest.mark.parametrize(
    ("life", "operation", "is_news"), [(77, 1, False), (77, 0, False), (77, 2, True), (78, 1, True)]
)
def test_a_loss_is_news_if_it_is_later_or_of_another_life(life, operation, is_news):
    partitions = new_partitions(["b@h", "d@h"])
    partitions.lost_connection(lost("b@h", "c@h"), 0.0)
    assert (partitions.lost_connection(lost("b@h", "c@h", operation, life), 1.0) != []) is is_news


def test_losses_are_remembered_for_an_hour():
    partitions = new_partitions(["b@h", "d@h"])
    for number in range(100):
        partitions.lost_connection(lost("b@h", f"n{number}@h"), float(number))
    assert len(partitions._heard) == 100
    partitions.lost_connection(lost("b@h", "c@h"), MEMORY + 50.0)
    assert len(partitions._heard) == 51


def test_the_loss_of_ourselves_parts_us_from_the_loser():
    partitions = new_partitions(["b@h", "d@h"])
    actions = partitions.lost_connection(lost("b@h", "a@h"), 0.0)
    assert Tell("b@h", ("remove_connection", "a@h")) in actions
    assert set(partitions._protocol.known) == {"d@h"}


def test_the_loss_of_somebody_unknown_is_passed_on_and_no_more():
    partitions = new_partitions(["b@h", "d@h"])
    assert partitions.lost_connection(lost("b@h", "x@h"), 0.0) == [Tell("d@h", lost("b@h", "x@h"))]


def test_a_lost_node_too_old_to_be_asked_is_hung_up_on():
    partitions = new_partitions(["b@h", "c@h"])
    partitions._protocol.known["c@h"] = 6
    assert Disconnect("c@h") in partitions.lost_connection(lost("b@h", "c@h"), 0.0)


def test_who_is_asked_to_go_hangs_up():
    partitions = new_partitions(["b@h", "c@h"])
    actions = partitions.remove_connection("b@h")
    assert actions[0] == Disconnect("b@h")
    assert set(partitions._protocol.known) == {"c@h"}
    assert [type(action) for action in partitions.node_down("b@h")] == [Order]


def test_two_that_ask_each_other_to_go_at_once_both_hang_up():
    partitions = new_partitions(["b@h", "c@h"])
    partitions.lost_connection(lost("b@h", "c@h"), 0.0)
    assert Disconnect("c@h") in partitions.remove_connection("c@h")


def test_a_node_that_was_removed_and_has_come_back_is_lost_as_any_other():
    partitions = new_partitions(["b@h", "c@h"])
    partitions.remove_connection("b@h")
    partitions.node_down("b@h")
    partitions.node_up("b@h")
    assert Tell("c@h", ("lost_connection", "a@h", 1234, 1, "b@h")) in partitions.node_down("b@h")


# ---- a whole cluster -------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(size=st.integers(2, 6), seed=st.integers(0, 2**32))
def test_however_nodes_meet_all_know_all_and_have_the_same_names(size, seed):
    cluster = Cluster(size, seed)
    names = list(cluster.nodes)
    for name, node in cluster.nodes.items():
        node.names = {f"of {name}": Pid(name, 1, 0, 1), "everybody's": Pid(name, 2, 0, 1)}
    for number in range(1, size):
        cluster.link(names[number], names[cluster.random.randrange(number)])
        for _ in range(cluster.random.choice((0, 3, 30))):
            cluster.step()
    cluster.settle()
    assert_at_rest(cluster)
    assert len(cluster.links) == size * (size - 1) // 2
    assert cluster.nodes[names[0]].names == {
        **{f"of {name}": Pid(name, 1, 0, 1) for name in names},
        "everybody's": Pid(names[0], 2, 0, 1),
    }


@settings(max_examples=150)
@given(size=st.integers(3, 6), seed=st.integers(0, 2**32))
def test_when_a_connection_is_lost_the_partitions_that_are_left_do_not_overlap(size, seed):
    cluster = Cluster(size, seed)
    names = list(cluster.nodes)
    for name, node in cluster.nodes.items():
        node.names = {f"of {name}": Pid(name, 1, 0, 1)}
    for number in range(1, size):
        cluster.link(names[0], names[number])
        cluster.settle()
    for pair in cluster.random.sample(sorted(map(sorted, cluster.links)), cluster.random.choice((1, 1, 2))):
        cluster.cut(*pair)
        for _ in range(cluster.random.choice((0, 5))):
            cluster.step()
    cluster.settle()
    assert_at_rest(cluster)
