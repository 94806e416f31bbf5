"""Section 4 of the table, second part: how supervisors stop, what they are told and what they tell."""

import pytest

from otplib import GenServer, Ok, Supervise, Supervisor, process, receive, self_, send, sleep, spawn
from otplib.core.child_spec import Child, ChildSpec
from otplib.core.errors import ChildError
from otplib.testing import deterministic
from tests.conformance.servers import flush, idle, reports_of
from tests.conformance.supervised import Holder, holder, pids_of, plain, refusal_of, telling


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


# ---- stopping --------------------------------------------------------------------------------------------------------


class Slow(GenServer):
    """Traps exits, and needs a while to terminate."""

    def init(self, arg):
        process.flag(trap_exit=True)
        return Ok(arg)

    async def terminate(self, reason, state):
        test, seconds = state
        send(test, ("terminate_called", reason))
        await sleep(seconds)
        send(test, "terminate_finished")


CALLED = ("terminate_called", "shutdown")


@pytest.mark.parametrize(
    ("shutdown", "needs", "took", "events"),
    [
        (0.1, 0.02, 0.02, [CALLED, "terminate_finished", ("DOWN", "shutdown")]),
        (0.1, 0.4, 0.1, [CALLED, ("DOWN", "killed")]),
        ("brutal_kill", 0.02, 0.0, [("DOWN", "killed")]),
        ("infinity", 0.3, 0.3, [CALLED, "terminate_finished", ("DOWN", "shutdown")]),
    ],
)
def test_s09_shutdown_says_how_long_a_child_may_take_to_stop(machine, shutdown, needs, took, events):
    """s09_shutdown_modes.exs"""

    async def main():
        child = Supervisor.child_spec((Slow, (self_(), needs)), shutdown=shutdown)
        sup = await Supervisor.start_link([child], strategy="one_for_one")
        ref = process.monitor((await pids_of(sup))[Slow])
        begun = machine.now()
        await Supervisor.stop(sup)
        assert machine.now() - begun == pytest.approx(took)
        seen = [("DOWN", one[4]) if one[0] == "DOWN" and one[1] == ref else one for one in await flush(0.02)]
        assert seen == events

    machine.run(main)


def test_a_child_that_takes_too_long_does_not_shorten_the_time_of_the_next(machine):
    async def main():
        children = [Supervisor.child_spec((Slow, (self_(), 9)), id=number, shutdown=1) for number in range(3)]
        sup = await Supervisor.start_link(children, strategy="one_for_one")
        await Supervisor.stop(sup)
        assert machine.now() == pytest.approx(3)
        assert await flush() == [CALLED] * 3

    machine.run(main)


@pytest.mark.parametrize("reason", ["normal", "shutdown", "boom"])
def test_s22_children_end_with_shutdown_whatever_the_supervisor_is_stopped_with(machine, reason):
    """s22_stop_reasons.exs"""

    async def main():
        process.flag(trap_exit=True)
        sup = await Supervisor.start_link([holder("w")], strategy="one_for_one")
        ref = process.monitor(process.whereis("w"))
        assert await Supervisor.stop(sup, reason) is None
        down, exit_message = await flush(0.02)
        assert (down.ref, down.reason) == (ref, "shutdown")
        assert exit_message == ("EXIT", sup, reason)

    machine.run(main)


def test_s33_while_a_supervisor_stops_a_slow_child_calls_to_it_wait(machine):
    """s33_kill_child_shutdown_order_latency.exs"""

    async def main():
        child = Supervisor.child_spec((Slow, (self_(), 0.2)), id="a")
        sup = await Supervisor.start_link([child], strategy="one_for_one")
        spawn(Supervisor.terminate_child, sup, "a")
        await sleep(0.02)
        begun = machine.now()
        await Supervisor.which_children(sup)
        assert machine.now() - begun == pytest.approx(0.18)

    machine.run(main)


def test_s20_a_supervisor_ignores_strangers_and_goes_down_with_its_parent(machine, caplog):
    """s20_sup_traps.exs"""

    async def parent(test):
        process.flag(trap_exit=True)
        send(test, ("s", await Supervisor.start_link([holder("w")], strategy="one_for_one")))
        await idle()

    async def main():
        above = spawn(parent, self_())
        _, sup = await receive()
        child = process.whereis("w")
        assert process.info(sup, "trap_exit") is True
        for reason in ("normal", "shutdown", "boom"):
            process.exit(sup, reason)
        await sleep(0.05)
        assert process.alive(sup)
        ref = process.monitor(sup)
        process.exit(above, "kill")
        assert await receive(timeout=0.5) == ("DOWN", ref, "process", sup, "killed")
        assert process.whereis("w") is None
        return above, sup, child

    above, sup, child = machine.run(main)
    [text] = reports_of(caplog)
    lines = text.splitlines()
    assert lines[:3] == [
        f"GenServer {sup!r} terminating",
        "** (stop) killed",
        f'Last message: ExitMessage(tag="EXIT", pid={above!r}, reason="killed")',
    ]
    assert lines[3].startswith("State: ")
    assert repr(child) in lines[3]


def test_a_supervisor_whose_parent_shuts_down_stops_its_children_first(machine):
    async def parent(test):
        await Supervisor.start_link([telling(name, test) for name in "ab"], strategy="one_for_one", name="sup")
        await idle()

    async def main():
        above = spawn(parent, self_())
        assert await flush() == [("start", "a"), ("start", "b")]
        ref = process.monitor("sup")
        process.exit(above, "shutdown")
        told = await flush()
        assert told[:2] == [("stop", "b", "shutdown"), ("stop", "a", "shutdown")]
        assert [(message.ref, message.reason) for message in told[2:]] == [(ref, "shutdown")]

    machine.run(main)


def test_the_children_of_a_killed_supervisor_end_with_killed(machine):
    async def main():
        process.flag(trap_exit=True)
        sup = await Supervisor.start_link([holder("w"), telling("t")], strategy="one_for_one")
        held = process.whereis("w")
        ref = process.monitor(held)
        await flush()
        process.exit(sup, "kill")
        told = await flush()
        assert len(told) == 3
        assert ("EXIT", sup, "killed") in told
        assert ("stop", "t", "killed") in told  # it traps, and this is its parent's end
        assert ("DOWN", ref, "process", held, "killed") in told
        assert process.registered() == []

    machine.run(main)


# ---- significant children --------------------------------------------------------------------------------------------


class Auto(Supervisor):
    def init(self, arg):
        auto_shutdown, children = arg
        return Supervise(children, strategy="one_for_one", auto_shutdown=auto_shutdown)


def significant(name, wanted, restart):
    return plain(name, significant=wanted, restart=restart)


def test_s19_any_significant_child_that_ends_for_good_ends_the_supervisor(machine):
    """s19_auto_shutdown.exs"""

    async def main():
        process.flag(trap_exit=True)
        children = [significant("a", True, "temporary"), significant("b", False, "permanent")]
        sup = await Auto.start_link(("any_significant", children))
        send((await pids_of(sup))["a"], "normal")
        assert await flush() == [("EXIT", sup, "shutdown")]

    machine.run(main)


def test_s19_all_significant_waits_for_the_last(machine):
    """s19_auto_shutdown.exs"""

    async def main():
        process.flag(trap_exit=True)
        children = [significant("a", True, "transient"), significant("b", True, "transient")]
        sup = await Auto.start_link(("all_significant", children))
        pids = await pids_of(sup)
        send(pids["a"], "normal")
        assert (await flush(), process.alive(sup)) == ([], True)
        send(pids["b"], "normal")
        assert await flush() == [("EXIT", sup, "shutdown")]

    machine.run(main)


def test_s19_a_significant_transient_child_that_crashes_is_restarted(machine):
    """s19_auto_shutdown.exs"""

    async def main():
        process.flag(trap_exit=True)
        sup = await Auto.start_link(("any_significant", [significant("a", True, "transient")]))
        first = (await pids_of(sup))["a"]
        send(first, "crash")
        await sleep(0.03)
        assert process.alive(sup)
        assert (await pids_of(sup))["a"] not in (None, first)
        process.exit(sup, "shutdown")  # from its parent
        assert await flush() == [("EXIT", sup, "shutdown")]

    machine.run(main)


@pytest.mark.parametrize(
    ("auto_shutdown", "restart", "pairs"),
    [
        ("any_significant", "permanent", [("restart", "permanent"), ("significant", True)]),
        ("never", "temporary", [("auto_shutdown", "never"), ("significant", True)]),
    ],
)
def test_s19_significant_makes_no_sense_with_permanent_and_never(machine, auto_shutdown, restart, pairs):
    """s19_auto_shutdown.exs"""

    async def main():
        process.flag(trap_exit=True)
        start = Auto.start_link((auto_shutdown, [significant("a", True, restart)]))
        assert await refusal_of(start) == ("start_spec", ("bad_combination", pairs))

    machine.run(main)


def test_s19_start_link_takes_auto_shutdown_as_later_elixirs_do(machine):
    """s19_auto_shutdown.exs: its last line shows Elixir 1.14 losing the option, which 1.15 mended."""

    async def main():
        process.flag(trap_exit=True)
        child = significant("z", True, "temporary")
        sup = await Supervisor.start_link([child], strategy="one_for_one", auto_shutdown="any_significant")
        send((await pids_of(sup))["z"], "normal")
        assert await flush() == [("EXIT", sup, "shutdown")]

    machine.run(main)


# ---- orders ----------------------------------------------------------------------------------------------------------


def test_s12_start_child_gives_the_pid_or_says_who_is_there_already(machine):
    """s12_start_child.exs"""

    async def main():
        sup = await Supervisor.start_link([], strategy="one_for_one")
        pid = await Supervisor.start_child(sup, holder("w"))
        assert process.whereis("w") == pid
        assert await refusal_of(Supervisor.start_child(sup, holder("w"))) == ("already_started", pid)
        assert await Supervisor.terminate_child(sup, "w") is None
        assert await refusal_of(Supervisor.start_child(sup, holder("w"))) == "already_present"

    machine.run(main)


def test_a_stopped_child_comes_back_by_restart_child_and_goes_by_delete_child(machine):
    async def main():
        sup = await Supervisor.start_link([holder("w")], strategy="one_for_one")
        assert await refusal_of(Supervisor.delete_child(sup, "w"), ChildError) == "running"
        assert await refusal_of(Supervisor.restart_child(sup, "w"), ChildError) == "running"
        await Supervisor.terminate_child(sup, "w")
        assert await Supervisor.restart_child(sup, "w") == process.whereis("w")
        await Supervisor.terminate_child(sup, "w")
        assert await Supervisor.delete_child(sup, "w") is None
        for order in (Supervisor.terminate_child, Supervisor.restart_child, Supervisor.delete_child):
            assert await refusal_of(order(sup, "w"), ChildError) == "not_found"

    machine.run(main)


def test_a_child_that_was_added_is_restarted_as_any_other(machine):
    async def main():
        sup = await Supervisor.start_link([], strategy="one_for_one")
        first = await Supervisor.start_child(sup, holder("w"))
        process.exit(first, "kill")
        await sleep(0.01)
        assert process.whereis("w") not in (None, first)

    machine.run(main)


def test_s14_terminating_a_temporary_child_also_deletes_its_row(machine):
    """s14_temporary_terminate.exs"""

    async def main():
        sup = await Supervisor.start_link([holder("w", restart="temporary")], strategy="one_for_one")
        await Supervisor.terminate_child(sup, "w")
        assert await Supervisor.which_children(sup) == []

    machine.run(main)


def test_s15_count_children_counts_a_stopped_child_among_the_specs_only(machine):
    """s15_count_children.exs"""

    async def main():
        sup = await Supervisor.start_link([holder("a"), holder("b"), inner("s")], strategy="one_for_one")
        counted = {"active": 3, "specs": 3, "supervisors": 1, "workers": 2}
        assert await Supervisor.count_children(sup) == counted
        await Supervisor.terminate_child(sup, "a")
        assert await Supervisor.count_children(sup) == {**counted, "active": 2}

    machine.run(main)


class Empty(Supervisor):
    def init(self, arg):
        return Supervise([], strategy="one_for_one")


def inner(child_id):
    return Supervisor.child_spec((Empty, None), id=child_id)


def test_s31_get_childspec_shows_the_defaults_filled_in(machine):
    """s31_get_childspec.exs"""

    async def main():
        children = [ChildSpec("w", (Holder.start_link, ("x",))), inner("s")]
        sup = await Supervisor.start_link(children, strategy="one_for_one")
        worker = await Supervisor.get_childspec(sup, "w")
        assert (worker.id, worker.start, worker.restart, worker.shutdown, worker.type) == (
            "w",
            (Holder.start_link, ("x",)),
            "permanent",
            5.0,
            "worker",
        )
        assert (worker.significant, worker.modules) == (False, [Holder])
        tree = await Supervisor.get_childspec(sup, "s")
        assert (tree.restart, tree.shutdown, tree.type, tree.modules) == (
            "permanent",
            "infinity",
            "supervisor",
            [Empty],
        )

    machine.run(main)


class Arg(GenServer):
    """`W` of s32: tells what it was started with."""

    @classmethod
    async def start_link(cls, arg):
        send("test", ("arg", arg))
        return await super().start_link(arg)

    def init(self, arg):
        return Ok(arg)


def test_s32_a_child_is_a_class_a_pair_or_a_specification_of_its_own(machine):
    """s32_module_forms.exs"""

    async def main():
        process.register(self_(), "test")
        children = [
            Arg,
            Supervisor.child_spec((Arg, "b"), id="b"),
            ChildSpec("c", Arg.child_spec("c").start),
        ]
        sup = await Supervisor.start_link(children, strategy="one_for_one")
        assert await flush() == [("arg", None), ("arg", "b"), ("arg", "c")]
        assert [child.id for child in await Supervisor.which_children(sup)] == ["c", "b", Arg]
        spec = Supervisor.child_spec((Arg, 1), id="x", restart="temporary", shutdown=1)
        assert (spec.id, spec.restart, spec.shutdown, spec.start) == ("x", "temporary", 1, (Arg.start_link, (1,)))

    machine.run(main)


def test_which_children_gives_rows_that_match_by_name_and_by_place(machine):
    async def main():
        sup = await Supervisor.start_link([holder("w")], strategy="one_for_one")
        [row] = await Supervisor.which_children(sup)
        assert row == ("w", process.whereis("w"), "worker", [Holder])
        assert isinstance(row, Child)

    machine.run(main)
