"""Supervisors in the deterministic machine: order, strategies, intensity, failing starts, stopping."""

import pytest

from otplib import (
    Down,
    Exit,
    process,
    receive,
    self_,
    send,
    sleep,
    spawn,
    spawn_link,
    spawn_monitor,
)
from otplib.behaviours.supervisor import Child, Supervise, Supervisor
from otplib.core.child_spec import ChildSpec
from otplib.core.errors import ChildError
from otplib.core.reasons import Raised
from otplib.testing import deterministic
from tests.behaviours.supervised import (
    Flaky,
    Ignoring,
    Worker,
    end_of,
    flush,
    pids_of,
    plain,
    reason_of,
    wait_for_order,
    worker,
)


@pytest.fixture(params=[1, 2, 3])
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


# ---- order, strategies, restart types --------------------------------------------------------------------------------


def test_s01_children_start_in_order_and_stop_in_reverse_each_with_shutdown(machine):
    async def main():
        sup = await Supervisor.start_link([worker(name) for name in "abc"], strategy="one_for_one")
        assert await flush() == [("start", "a"), ("start", "b"), ("start", "c")]
        assert [child.id for child in await Supervisor.which_children(sup)] == ["c", "b", "a"]
        await Supervisor.stop(sup)
        assert await flush() == [("stop", "c", "shutdown"), ("stop", "b", "shutdown"), ("stop", "a", "shutdown")]

    machine.run(main)


STOPPED = [("stop", name, "shutdown") for name in "dca"]


@pytest.mark.parametrize(
    ("strategy", "events"),
    [
        ("one_for_one", [("start", "b")]),
        ("one_for_all", [*STOPPED, *[("start", name) for name in "abcd"]]),
        ("rest_for_one", [*STOPPED[:2], *[("start", name) for name in "bcd"]]),
    ],
)
def test_s02_s03_what_a_crash_restarts(machine, strategy, events):
    async def main():
        sup = await Supervisor.start_link([worker(name) for name in "abcd"], strategy=strategy)
        await flush()
        before = await pids_of(sup)
        process.exit(process.whereis("b"), "kill")
        assert await flush() == events
        after = await pids_of(sup)
        assert list(after) == list(before)
        assert {name for name in before if before[name] != after[name]} == {what[1] for what in events}

    machine.run(main)


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", "x"), "boom", "killed"])
def test_s08_restart_type_and_reason_decide_the_fate_of_a_child(machine, restart, reason):
    async def main():
        sup = await Supervisor.start_link([plain("w", restart=restart)], strategy="one_for_one")
        [(_, pid)] = (await pids_of(sup)).items()
        if reason == "killed":
            process.exit(pid, "kill")
        else:
            send(pid, reason)
        await sleep(0.03)
        rows = await pids_of(sup)
        quiet = reason in ("normal", "shutdown", ("shutdown", "x"))
        if restart == "temporary":
            assert rows == {}
        elif restart == "transient" and quiet:
            assert rows == {"w": None}
        else:
            assert rows["w"] not in (pid, None)

    machine.run(main)


def test_a_temporary_sibling_that_a_strategy_stops_does_not_come_back(machine):
    async def main():
        children = [worker("a"), worker("t", restart="temporary"), worker("b", restart="transient")]
        sup = await Supervisor.start_link(children, strategy="one_for_all")
        process.exit(process.whereis("a"), "kill")
        await flush()
        rows = await pids_of(sup)
        assert list(rows) == ["b", "a"]
        assert None not in rows.values()

    machine.run(main)


# ---- intensity -------------------------------------------------------------------------------------------------------


def test_s05_three_crashes_are_restarted_and_the_fourth_ends_all_with_shutdown(machine):
    async def main():
        process.flag(trap_exit=True)
        sup = await Supervisor.start_link([worker("w"), worker("other")], strategy="one_for_one")
        for turn in range(4):
            process.exit(process.whereis("w"), "kill")
            await sleep(0.03)
            alive = turn < 3
            assert process.alive(sup) == alive
            assert (process.whereis("w") is not None) == alive
            assert (process.whereis("other") is not None) == alive
        assert ("EXIT", sup, "shutdown") in await flush()

    machine.run(main)


def test_s05_crashes_that_are_far_apart_are_all_restarted(machine):
    async def main():
        sup = await Supervisor.start_link([worker("w")], strategy="one_for_one")
        for _ in range(10):
            process.exit(process.whereis("w"), "kill")
            await sleep(2)
        assert process.alive(sup)

    machine.run(main)


def test_s06_max_restarts_0_gives_up_at_the_first_crash(machine):
    async def main():
        process.flag(trap_exit=True)
        sup = await Supervisor.start_link([plain("w")], strategy="one_for_one", max_restarts=0)
        process.exit((await pids_of(sup))["w"], "kill")
        assert await flush() == [("EXIT", sup, "shutdown")]

    machine.run(main)


def test_s24_the_intensity_is_shared_by_all_children(machine):
    async def main():
        process.flag(trap_exit=True)
        sup = await Supervisor.start_link([worker(name) for name in "abcd"], strategy="one_for_one")
        for name in "abcd":
            process.exit(process.whereis(name), "kill")
            await sleep(0.02)
        assert not process.alive(sup)

    machine.run(main)


def test_s30_a_permanent_child_that_just_returns_wears_its_supervisor_out(machine):
    async def main():
        process.flag(trap_exit=True)
        started = await Supervisor.start_link([ChildSpec("w", (spawn_link, (lambda: None,)))], strategy="one_for_one")
        assert await flush() == [("EXIT", started, "shutdown")]

    machine.run(main)


def test_a_subtree_that_gives_up_is_a_crash_for_the_tree_above(machine):
    async def main():
        class Inner(Supervisor):
            def init(self, arg):
                return Supervise([(Worker, ("leaf", arg))], strategy="one_for_one", max_restarts=0)

        top = await Supervisor.start_link([(Inner, self_())], strategy="one_for_one")
        before = await pids_of(top)
        process.exit(process.whereis("leaf"), "kill")
        await flush()
        after = await pids_of(top)
        assert before[Inner] != after[Inner]
        assert process.alive(process.whereis("leaf"))
        assert await Supervisor.count_children(top) == {"specs": 1, "active": 1, "supervisors": 1, "workers": 0}

    machine.run(main)


def test_siblings_that_die_at_once_cost_one_restart_though_they_held_names(machine):
    async def main():
        children = [worker(name) for name in "abcd"]
        sup = await Supervisor.start_link(children, strategy="one_for_all", max_restarts=1)
        for name in "abcd":
            process.exit(process.whereis(name), "kill")
        await sleep(0.01)
        rows = await pids_of(sup)
        assert rows == {name: process.whereis(name) for name in "dcba"}
        assert None not in rows.values()

    machine.run(main)


def test_a_child_whose_name_somebody_else_still_holds_comes_back_when_that_one_has_ended(machine):
    async def main():
        sup = await Supervisor.start_link([worker("w")], strategy="one_for_one")
        await Supervisor.terminate_child(sup, "w")
        squatter = spawn(wait_for_order)
        process.register(squatter, "w")
        assert await reason_of(Supervisor.restart_child(sup, "w")) == ("already_started", squatter)
        process.exit(squatter, "kill")
        await sleep(0)
        assert await Supervisor.restart_child(sup, "w") == process.whereis("w")

    machine.run(main)


# ---- failing starts --------------------------------------------------------------------------------------------------


def test_a_restart_that_fails_is_tried_again_and_each_try_counts(machine):
    async def main():
        process.flag(trap_exit=True)
        flaky = Flaky(1, 2)
        sup = await Supervisor.start_link([flaky.spec("f")], strategy="one_for_one")
        process.exit((await pids_of(sup))["f"], "kill")
        await sleep(0.01)
        assert process.alive(sup)
        assert len(flaky.tries) == 4
        process.exit((await pids_of(sup))["f"], "kill")
        assert await flush() == [("EXIT", sup, "shutdown")]
        assert len(flaky.tries) == 4

    machine.run(main)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_sibling_that_fails_to_restart_is_tried_again_by_the_strategy(machine, strategy):
    async def main():
        flaky = Flaky(1, 2)
        sup = await Supervisor.start_link([worker("a"), flaky.spec("f"), worker("z")], strategy=strategy)
        await flush()
        process.exit(process.whereis("a"), "kill")
        events = await flush()
        assert len(flaky.tries) == 4
        assert None not in (await pids_of(sup)).values()
        first = [("stop", "z", "shutdown"), ("start", "a")]
        again = [("stop", "a", "shutdown"), ("start", "a")] if strategy == "one_for_all" else []
        assert events == [*first, *again, *again, ("start", "z")]

    machine.run(main)


def test_a_start_that_always_fails_ends_the_supervisor(machine):
    async def main():
        process.flag(trap_exit=True)
        flaky = Flaky(*range(1, 100))
        sup = await Supervisor.start_link([flaky.spec("f"), worker("w")], strategy="one_for_one")
        process.exit((await pids_of(sup))["f"], "kill")
        assert await flush() == [("start", "w"), ("stop", "w", "shutdown"), ("EXIT", sup, "shutdown")]
        assert len(flaky.tries) == 4

    machine.run(main)


def test_between_two_attempts_the_supervisor_answers_and_shows_the_child_as_restarting(machine):
    async def main():
        flaky = Flaky(*range(1, 100_000))
        sup = await Supervisor.start_link([flaky.spec("f")], strategy="one_for_one", max_restarts=10**9)
        process.exit((await pids_of(sup))["f"], "kill")
        while (await pids_of(sup))["f"] != "restarting":
            pass
        assert await Supervisor.count_children(sup) == {"specs": 1, "active": 0, "supervisors": 0, "workers": 1}
        assert await reason_of(Supervisor.restart_child(sup, "f"), ChildError) == "restarting"
        assert await reason_of(Supervisor.delete_child(sup, "f"), ChildError) == "restarting"
        assert await reason_of(Supervisor.start_child(sup, plain("f"))) == "already_present"
        await Supervisor.terminate_child(sup, "f")
        tries = len(flaky.tries)
        await sleep(1)
        assert len(flaky.tries) == tries
        assert await pids_of(sup) == {"f": None}
        await Supervisor.delete_child(sup, "f")
        await Supervisor.stop(sup)

    machine.run(main)


def test_s16_a_child_that_fails_stops_the_ones_before_it_in_reverse_and_the_start(machine):
    async def main():
        process.flag(trap_exit=True)
        failing = Flaky(0, reason="cannot").spec("bad")
        children = [worker("a"), worker("b"), failing, worker("c")]
        reason = ("shutdown", ("failed_to_start_child", "bad", "cannot"))
        assert await reason_of(Supervisor.start_link(children, strategy="one_for_one")) == reason
        starts = [("start", "a"), ("start", "b")]
        stops = [("stop", "b", "shutdown"), ("stop", "a", "shutdown")]
        *events, last = await flush()
        assert events == [*starts, *stops]
        assert (last[0], last[2]) == ("EXIT", reason)

    machine.run(main)


def test_s16_a_starter_that_does_not_trap_exits_dies_with_the_reason(machine):
    async def main():
        async def starter():
            await Supervisor.start_link([Flaky(0, reason="cannot").spec("bad")], strategy="one_for_one")

        assert await end_of(spawn(starter)) == ("shutdown", ("failed_to_start_child", "bad", "cannot"))

    machine.run(main)


def junk():
    return "junk"


def broken():
    raise ValueError("no")


async def leaving():
    raise Exit("why")


@pytest.mark.parametrize(
    ("start", "expected"),
    [(junk, "junk"), (leaving, ("EXIT", "why")), (broken, "an exception"), (lambda wrong: wrong, "an exception")],
)
def test_s25_whatever_a_start_function_does_is_a_reason_and_no_crash_of_the_supervisor(machine, start, expected):
    async def main():
        sup = await Supervisor.start_link([], strategy="one_for_one")
        reason = await reason_of(Supervisor.start_child(sup, ChildSpec("x", (start, ()))))
        if expected == "an exception":
            assert reason[0] == "EXIT"
            assert isinstance(reason[1], Raised)
        else:
            assert reason == expected
        assert await pids_of(sup) == {}

    machine.run(main)


def test_s17_a_child_that_ignores_keeps_its_row_unless_it_is_temporary(machine):
    async def main():
        sup = await Supervisor.start_link([Ignoring], strategy="one_for_one")
        assert await Supervisor.which_children(sup) == [Child(Ignoring, None, "worker", [Ignoring])]
        assert await Supervisor.count_children(sup) == {"specs": 1, "active": 0, "supervisors": 0, "workers": 1}
        temporary = Supervisor.child_spec(Ignoring, restart="temporary", id="t")
        empty = await Supervisor.start_link([temporary], strategy="one_for_one")
        assert await Supervisor.which_children(empty) == []
        assert await Supervisor.start_child(empty, temporary) is None
        assert await Supervisor.which_children(empty) == []
        assert await Supervisor.start_child(empty, Ignoring) is None
        assert await pids_of(empty) == {Ignoring: None}
        assert await Supervisor.restart_child(empty, Ignoring) is None

    machine.run(main)


# ---- how children are stopped ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shutdown", "needs", "took", "events"),
    [
        (0.1, 0.02, 0.02, [("stopping", "w"), ("stop", "w", "shutdown"), "shutdown"]),
        (0.1, 0.4, 0.1, [("stopping", "w"), "killed"]),
        ("brutal_kill", 0.02, 0, ["killed"]),
        ("infinity", 300, 300, [("stopping", "w"), ("stop", "w", "shutdown"), "shutdown"]),
        (None, 300, 300, [("stopping", "w"), ("stop", "w", "shutdown"), "shutdown"]),
        (0, 0.1, 0, [("stopping", "w"), "killed"]),
    ],
)
def test_s09_how_long_a_child_may_take_to_stop(machine, shutdown, needs, took, events):
    async def main():
        sup = await Supervisor.start_link([worker("w", needs, shutdown=shutdown)], strategy="one_for_one")
        await flush()
        process.monitor(process.whereis("w"))
        begun = machine.now()
        await Supervisor.stop(sup)
        assert machine.now() - begun == pytest.approx(took, abs=1e-6)
        seen = [event.reason if isinstance(event, Down) else event for event in await flush()]
        # With no time at all the child may be killed before it has begun to stop.
        assert seen == events or (shutdown == 0 and seen == ["killed"])

    machine.run(main)


def test_s33_while_it_stops_a_slow_child_a_supervisor_answers_nothing(machine):
    async def main():
        sup = await Supervisor.start_link([worker("a", 0.2)], strategy="one_for_one")
        spawn(Supervisor.terminate_child, sup, "a")
        assert await receive(("stopping", "a")) == ("stopping", "a")
        begun = machine.now()
        await Supervisor.which_children(sup)
        assert machine.now() - begun >= 0.15

    machine.run(main)


@pytest.mark.parametrize("reason", ["normal", "shutdown", "boom"])
def test_s22_children_end_with_shutdown_whatever_the_supervisor_ends_with(machine, reason):
    async def main():
        process.flag(trap_exit=True)
        sup = await Supervisor.start_link([plain("w")], strategy="one_for_one")
        child = end_of((await pids_of(sup))["w"])
        await Supervisor.stop(sup, reason)
        assert await child == "shutdown"
        assert await flush() == [("EXIT", sup, reason)]

    machine.run(main)


def test_a_child_that_has_unlinked_itself_is_stopped_all_the_same(machine):
    async def main():
        async def deserter(parent):
            process.unlink(parent)
            await receive("never")

        def start():
            return spawn_link(deserter, self_())

        sup = await Supervisor.start_link([ChildSpec("w", (start, ()))], strategy="one_for_one")
        await sleep(0.01)
        child = end_of((await pids_of(sup))["w"])
        await Supervisor.stop(sup)
        assert await child == "shutdown"

    machine.run(main)


def test_s20_a_supervisor_ignores_strangers_and_goes_down_with_its_parent(machine):
    async def main():
        async def parent(test):
            process.flag(trap_exit=True)
            send(test, ("sup", await Supervisor.start_link([worker("w")], strategy="one_for_one")))
            await receive("never")

        starter = spawn(parent, self_())
        _, sup = await receive(("sup", ...))
        assert process.info(sup, "trap_exit") is True
        for reason in ("normal", "shutdown", "boom"):
            process.exit(sup, reason)
        await sleep(0.05)
        assert process.alive(sup)
        end = end_of(sup)
        process.exit(starter, "kill")
        assert await end == "killed"
        assert process.whereis("w") is None

    machine.run(main)


@pytest.mark.parametrize("reason", ["normal", "shutdown", "boom"])
def test_whatever_its_parent_ends_with_a_supervisor_stops_its_children_and_ends(machine, reason):
    async def main():
        test = self_()

        async def parent():
            child = Supervisor.child_spec((Worker, ("w", test)))
            send(test, ("sup", await Supervisor.start_link([child], strategy="one_for_one")))
            raise Exit(reason)

        spawn(parent)
        _, sup = await receive(("sup", ...))
        await flush()
        assert not process.alive(sup)
        assert process.whereis("w") is None

    machine.run(main)


def test_the_children_of_a_killed_supervisor_end_too(machine):
    async def main():
        process.flag(trap_exit=True)
        before = len(process.list())
        inner = Supervisor.child_spec(ChildSpec("inner", (_start_inner, (self_(),)), type="supervisor"))
        sup = await Supervisor.start_link([worker("trapping"), plain("plain"), inner], strategy="one_for_one")
        await flush()
        process.exit(sup, "kill")
        await flush()
        assert len(process.list()) == before

    machine.run(main)


async def _start_inner(test):
    child = Supervisor.child_spec((Worker, ("leaf", test)))
    return await Supervisor.start_link([child], strategy="one_for_one")


# ---- nothing is left behind ------------------------------------------------------------------------------------------


def test_a_tree_of_three_levels_is_gone_when_its_top_is_stopped(machine):
    class Middle(Supervisor):
        def init(self, arg):
            return Supervise([plain(number) for number in range(arg)], strategy="one_for_all")

    async def main():
        before = process.list()
        children = [Supervisor.child_spec((Middle, size), id=size) for size in range(5)]
        top = await Supervisor.start_link(children, strategy="rest_for_one")
        assert len(process.list()) == len(before) + 1 + 5 + 10
        await Supervisor.stop(top)
        assert process.list() == before

    machine.run(main)


def test_spawn_monitor_of_a_start_link_shows_that_no_link_is_left(machine):
    async def main():
        async def starter():
            sup = await Supervisor.start_link([plain("w")], strategy="one_for_one")
            await Supervisor.stop(sup)
            return process.info(self_(), "links")

        _, ref = spawn_monitor(starter)
        assert (await receive(("DOWN", ref, ..., ..., ...))).reason == "normal"

    machine.run(main)


@pytest.mark.parametrize("max_restarts", [0, 100_000])
def test_hundreds_that_die_at_once_are_all_accounted_for(machine, max_restarts):
    async def main():
        process.flag(trap_exit=True)
        before = process.list()
        children = [plain(number) for number in range(300)]
        sup = await Supervisor.start_link(children, strategy="one_for_all", max_restarts=max_restarts)
        old = await pids_of(sup)
        for pid in old.values():
            process.exit(pid, "kill")
        await sleep(0.01)
        assert process.alive(sup) == (max_restarts > 0)
        if process.alive(sup):
            new = await pids_of(sup)
            assert len(new) == 300
            assert not set(new.values()) & {None, *old.values()}
            await Supervisor.stop(sup)
        assert process.list() == before

    machine.run(main)
