"""The decisions of a supervisor as tables, and against a second implementation written from OTP's rules."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otplib.core.child_spec import ChildSpec
from otplib.core.reasons import Raised
from otplib.core.restarts import (
    Context,
    Empty,
    Intensity,
    Keep,
    Policy,
    Remove,
    Report,
    RowState,
    Shutdown,
    Start,
    Table,
    decide_exit,
    decide_retry,
    is_clean_shutdown,
    seconds_to_wait,
)
from otplib.core.terms import Pid


def pid(number):
    return Pid("nonode@nohost", number, 0, 1)


def spec(child_id, restart="permanent", **more):
    return ChildSpec(child_id, (print, ()), restart=restart, **more)


def table_of(*specs):
    """A table in which every child runs, child number n as pid n."""
    table = Table()
    for number, one in enumerate(specs):
        table.add(one, pid(number))
    return table


QUIET = ["normal", "shutdown", ("shutdown", "x")]
LOUD = ["boom", "killed", "kill", Raised(ValueError("x"), ()), ("shutdown", "a", "b"), "noproc"]


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("reason", QUIET + LOUD)
def test_s08_restart_type_and_reason_decide_whether_a_child_comes_back(restart, reason):
    policy = Policy("one_for_one")
    table = table_of(spec("w", restart))
    actions = decide_exit(table, policy, Intensity(policy), table.find("w"), reason, 0.0)
    report = [Report(Context.CHILD_TERMINATED, "w", reason)]
    quiet = reason in QUIET
    expected = {
        "permanent": [*report, Start(("w",))],
        "transient": [Keep("w")] if quiet else [*report, Start(("w",))],
        "temporary": [Remove("w")] if quiet else [*report, Remove("w")],
    }
    assert actions == expected[restart]


@pytest.mark.parametrize(
    ("strategy", "crashed", "emptied", "started"),
    [
        ("one_for_one", "a", None, "a"),
        ("one_for_one", "c", None, "c"),
        ("rest_for_one", "a", "dcba", "abd"),
        ("rest_for_one", "b", "dcb", "bd"),
        ("rest_for_one", "d", "d", "d"),
        ("one_for_all", "a", "dcba", "abd"),
        ("one_for_all", "d", "dcba", "abd"),
    ],
)
def test_s03_the_strategy_decides_what_else_is_stopped_and_in_which_order(strategy, crashed, emptied, started):
    policy = Policy(strategy)
    # c is temporary: when a strategy stops it, it does not come back.
    table = table_of(spec("a"), spec("b"), spec("c", "temporary" if crashed != "c" else "permanent"), spec("d"))
    actions = decide_exit(table, policy, Intensity(policy), table.find(crashed), "boom", 0.0)[1:]
    expected = [Start(tuple(started))] if emptied is None else [Empty(tuple(emptied)), Start(tuple(started))]
    assert actions == expected


def test_a_stopped_row_is_started_again_when_the_strategy_restarts_all():
    policy = Policy("one_for_all")
    table = table_of(spec("a"), spec("b"))
    table.empty(table.find("b"))
    assert decide_exit(table, policy, Intensity(policy), table.find("a"), "boom", 0.0)[-1] == Start(("a", "b"))


def test_s05_three_restarts_in_five_seconds_are_allowed_and_the_fourth_is_not():
    recent = Intensity(Policy("one_for_one"))
    assert [recent.admit(now) for now in (0.0, 1.0, 2.0, 3.0)] == [True, True, True, False]


def test_s06_max_restarts_0_gives_up_at_the_first_crash():
    policy = Policy("one_for_one", max_restarts=0)
    table = table_of(spec("w"))
    actions = decide_exit(table, policy, Intensity(policy), table.find("w"), "killed", 0.0)
    assert actions == [
        Report(Context.CHILD_TERMINATED, "w", "killed"),
        Report(Context.SHUTDOWN, "w", "reached_max_restart_intensity"),
        Keep("w"),
        Shutdown("shutdown"),
    ]


@pytest.mark.parametrize(("gap", "allowed"), [(2.4, False), (2.5, False), (2.51, True), (100.0, True)])
def test_the_window_includes_its_far_end(gap, allowed):
    recent = Intensity(Policy("one_for_one", max_restarts=2, max_seconds=5))
    assert [recent.admit(gap * turn) for turn in range(3)] == [True, True, allowed]


@given(st.integers(0, 4), st.floats(0.1, 10), st.lists(st.floats(0, 5), max_size=30))
def test_intensity_counts_exactly_the_restarts_of_the_window(most, seconds, gaps):
    recent = Intensity(Policy("one_for_one", max_restarts=most, max_seconds=seconds))
    times = list(itertools.accumulate(gaps))
    for turn, now in enumerate(times):
        in_window = [one for one in times[: turn + 1] if now - one <= seconds]
        assert recent.admit(now) == (len(in_window) <= most)


def test_s24_the_counter_is_shared_by_all_children():
    policy = Policy("one_for_one")
    table = table_of(*[spec(name) for name in "abcd"])
    recent = Intensity(policy)
    last = [decide_exit(table, policy, recent, table.find(name), "killed", 0.1)[-1] for name in "abcd"]
    assert last == [Start(("a",)), Start(("b",)), Start(("c",)), Shutdown()]


def test_a_child_that_is_not_restarted_does_not_count():
    policy = Policy("one_for_one", max_restarts=0)
    table = table_of(spec("a", "temporary"), spec("b", "transient"))
    recent = Intensity(policy)
    assert decide_exit(table, policy, recent, table.find("a"), "boom", 0.0)[-1] == Remove("a")
    assert decide_exit(table, policy, recent, table.find("b"), "normal", 0.0) == [Keep("b")]
    assert not recent.times


def test_a_retry_counts_as_a_restart():
    policy = Policy("one_for_one", max_restarts=1)
    table = table_of(spec("a"))
    recent = Intensity(policy)
    assert decide_exit(table, policy, recent, table.find("a"), "boom", 0.0)[-1] == Start(("a",))
    table.mark_restarting(table.find("a"))
    assert decide_retry(table, policy, recent, table.find("a"), 0.0)[-1] == Shutdown()


SIGNIFICANT = {"restart": "transient", "significant": True}


@pytest.mark.parametrize(
    ("auto", "significant", "reason", "ends"),
    [
        ("any_significant", True, "normal", True),
        ("any_significant", False, "normal", False),
        ("any_significant", True, "boom", False),  # a transient child that crashes is restarted
        ("all_significant", True, "normal", False),  # the other significant child still runs
        ("never", False, "normal", False),
    ],
)
def test_s19_the_end_of_a_significant_child_may_end_the_supervisor(auto, significant, reason, ends):
    policy = Policy("one_for_one", auto_shutdown=auto)
    table = table_of(spec("a", "transient", significant=significant), spec("b", **SIGNIFICANT), spec("c"))
    actions = decide_exit(table, policy, Intensity(policy), table.find("a"), reason, 0.0)
    assert (Shutdown("shutdown") in actions) == ends


def test_s19_all_significant_waits_for_the_last_one_and_for_those_being_restarted():
    policy = Policy("one_for_one", auto_shutdown="all_significant")
    table = table_of(spec("a", **SIGNIFICANT), spec("b", **SIGNIFICANT), spec("c"))
    table.mark_restarting(table.find("b"))
    assert Shutdown() not in decide_exit(table, policy, Intensity(policy), table.find("a"), "normal", 0.0)
    table.empty(table.find("b"))
    assert Shutdown() in decide_exit(table, policy, Intensity(policy), table.find("a"), "normal", 0.0)


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        ({"strategy": "foo"}, ("invalid_strategy", "foo")),
        ({"strategy": "simple_one_for_one"}, ("invalid_strategy", "simple_one_for_one")),
        ({"max_restarts": -1}, ("invalid_intensity", -1)),
        ({"max_restarts": 1.5}, ("invalid_intensity", 1.5)),
        ({"max_restarts": True}, ("invalid_intensity", True)),
        ({"max_seconds": 0}, ("invalid_period", 0)),
        ({"max_seconds": "5"}, ("invalid_period", "5")),
        ({"auto_shutdown": "x"}, ("invalid_auto_shutdown", "x")),
        ({"max_seconds": 0.5, "max_restarts": 0}, None),
    ],
)
def test_s25_wrong_flags_have_the_fault_otp_gives_them(flags, fault):
    assert Policy(**{"strategy": "one_for_one", **flags}).find_fault() == fault


def test_nan_seconds_are_no_period():
    assert Policy("one_for_one", max_seconds=math.nan).find_fault()[0] == "invalid_period"


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_which_ends_of_a_stopped_child_deserve_a_report(restart):
    patient = spec("w", restart)
    brutal = spec("w", restart, shutdown="brutal_kill")
    lenient = restart != "permanent"
    assert is_clean_shutdown(patient, "shutdown")
    assert not is_clean_shutdown(patient, "killed")
    assert not is_clean_shutdown(patient, "boom")
    assert is_clean_shutdown(brutal, "killed")
    assert not is_clean_shutdown(brutal, "boom")
    assert is_clean_shutdown(brutal, "shutdown") == lenient
    for reason in ("normal", ("shutdown", 1)):
        assert is_clean_shutdown(patient, reason) == lenient
        assert is_clean_shutdown(brutal, reason) == lenient


def test_how_long_a_child_may_take():
    assert [seconds_to_wait(one) for one in ("infinity", math.inf, "brutal_kill", 2)] == [None, None, 0.0, 2.0]


def test_a_table_finds_rows_by_id_and_by_pid_and_forgets_old_pids():
    table = table_of(spec("a"), spec("b", "temporary"))
    row = table.find("a")
    assert table.find_pid(pid(0)) is row
    table.fill(row, pid(9))
    assert (table.find_pid(pid(0)), table.find_pid(pid(9))) == (None, row)
    table.empty(row)
    table.empty(table.find("b"))
    assert (table.find("a").state, table.find("b"), table.find_pid(pid(1))) == (RowState.STOPPED, None, None)
    assert table.find([]) is None


def test_new_specifications_keep_the_processes_of_known_ids_and_put_dropped_ones_last():
    table = table_of(spec("a"), spec("b"), spec("c"))
    table.respecify([spec("c", "transient"), spec("new"), spec("a")])
    assert [row.spec.id for row in table] == ["c", "new", "a", "b"]
    assert [row.pid for row in table] == [pid(2), None, pid(0), pid(1)]
    assert table.find_pid(pid(2)).spec.restart == "transient"


# A second implementation, from OTP's rules, over plain lists of [id, restart, alive]. It shares no code with the first.


class Model:
    def __init__(self, strategy, kinds):
        self.strategy = strategy
        self.rows = [[number, kind, True] for number, kind in enumerate(kinds)]
        self.log = []

    def crash(self, number, quiet):
        at = next(index for index, row in enumerate(self.rows) if row[0] == number)
        kind = self.rows[at][1]
        if kind == "temporary":
            del self.rows[at]
        elif kind == "transient" and quiet:
            self.rows[at][2] = False
        else:
            first, last = {
                "one_for_one": (at, at + 1),
                "rest_for_one": (at, len(self.rows)),
                "one_for_all": (0, len(self.rows)),
            }[self.strategy]
            part = self.rows[first:last]
            self.log += [("stop", row[0]) for row in reversed(part) if row[2] and row[0] != number]
            part = [row for row in part if row[1] != "temporary"]
            self.log += [("start", row[0]) for row in part]
            for row in part:
                row[2] = True
            self.rows[first:last] = part


def carry_out(table, actions, log, fresh):
    for action in actions:
        match action:
            case Empty(ids):
                for one in ids:
                    row = table.find(one)
                    log += [("stop", one)] if row.pid is not None else []
                    table.empty(row)
            case Start(ids):
                for one in ids:
                    log.append(("start", one))
                    table.fill(table.find(one), pid(next(fresh)))
            case Keep(one) | Remove(one):
                table.empty(table.find(one))


@given(
    st.sampled_from(["one_for_one", "rest_for_one", "one_for_all"]),
    st.lists(st.sampled_from(["permanent", "transient", "temporary"]), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12),
)
def test_any_sequence_of_ends_leaves_the_table_that_otps_rules_leave(strategy, kinds, ends):
    policy = Policy(strategy, max_restarts=1000)
    recent, fresh, log = Intensity(policy), itertools.count(100), []
    table = table_of(*[spec(number, kind) for number, kind in enumerate(kinds)])
    model = Model(strategy, kinds)
    for number, quiet in ends:
        row = table.find(number)
        if row is None or row.pid is None:
            continue
        actions = decide_exit(table, policy, recent, row, "normal" if quiet else "boom", 0.0)
        table.fill(row, None)
        carry_out(table, actions, log, fresh)
        model.crash(number, quiet)
        assert [[one.spec.id, one.spec.restart, one.pid is not None] for one in table] == model.rows
        assert log == model.log
        pids = [one.pid for one in table if one.pid is not None]
        assert all(table.find_pid(one).pid == one for one in pids)
