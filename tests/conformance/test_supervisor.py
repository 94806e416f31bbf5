"""Section 4 of the table, first part: how supervisors start, restart and give up."""

import logging

import pytest

from otplib import (
    Exit,
    GenServer,
    Ignore,
    Ok,
    Raised,
    StartError,
    Stop,
    Supervisor,
    process,
    receive,
    self_,
    send,
    sleep,
    spawn_link,
)
from otplib.core.child_spec import Child, ChildSpec
from otplib.testing import deterministic
from tests.conformance.servers import down, flush
from tests.conformance.supervised import Holder, Telling, holder, pids_of, plain, receive_and_exit, refusal_of, telling


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


# ---- start, order, strategies ----------------------------------------------------------------------------------------


def test_s01_children_start_left_to_right_and_stop_in_reverse_each_with_shutdown(machine):
    """s01_start_stop_order.exs"""

    async def main():
        sup = await Supervisor.start_link([telling(name) for name in "abc"], strategy="one_for_one")
        assert await flush() == [("start", "a"), ("start", "b"), ("start", "c")]
        assert [child.id for child in await Supervisor.which_children(sup)] == ["c", "b", "a"]
        assert await Supervisor.stop(sup) is None
        assert await flush() == [("stop", "c", "shutdown"), ("stop", "b", "shutdown"), ("stop", "a", "shutdown")]

    machine.run(main)


def test_s02_one_for_one_restarts_the_crashed_child_alone(machine):
    """s02_one_for_one.exs"""

    async def main():
        sup = await Supervisor.start_link([telling(name) for name in "abc"], strategy="one_for_one")
        await flush()
        before = {name: process.whereis(name) for name in "abc"}
        process.exit(before["b"], "kill")
        assert await flush() == [("start", "b")]
        assert [name for name in "abc" if process.whereis(name) != before[name]] == ["b"]
        assert [child.id for child in await Supervisor.which_children(sup)] == ["c", "b", "a"]

    machine.run(main)


def test_s03_one_for_all_stops_the_others_in_reverse_and_starts_all_in_order(machine):
    """s03_one_for_all.exs"""

    async def main():
        await Supervisor.start_link([telling(name) for name in "abcd"], strategy="one_for_all")
        await flush()
        process.exit(process.whereis("b"), "kill")
        assert await flush() == [
            ("stop", "d", "shutdown"),
            ("stop", "c", "shutdown"),
            ("stop", "a", "shutdown"),
            ("start", "a"),
            ("start", "b"),
            ("start", "c"),
            ("start", "d"),
        ]

    machine.run(main)


def test_rest_for_one_stops_those_started_later_in_reverse_and_leaves_the_earlier_alone(machine):
    async def main():
        await Supervisor.start_link([telling(name) for name in "abcd"], strategy="rest_for_one")
        await flush()
        first = process.whereis("a")
        process.exit(process.whereis("b"), "kill")
        assert await flush() == [
            ("stop", "d", "shutdown"),
            ("stop", "c", "shutdown"),
            ("start", "b"),
            ("start", "c"),
            ("start", "d"),
        ]
        assert process.whereis("a") == first

    machine.run(main)


def test_every_child_has_started_when_start_link_returns(machine):
    class Slow(GenServer):
        async def init(self, arg):
            await sleep(2)
            send(arg, "ready")
            return Ok(None)

    async def main():
        children = [Supervisor.child_spec((Slow, self_()), id=number) for number in range(3)]
        await Supervisor.start_link(children, strategy="one_for_one")
        assert machine.now() == pytest.approx(6)  # one after another, not side by side
        assert [await receive(timeout=0) for _ in range(3)] == ["ready"] * 3

    machine.run(main)


# ---- intensity -------------------------------------------------------------------------------------------------------


def test_s05_the_fourth_crash_within_five_seconds_ends_the_supervisor_with_shutdown(machine):
    """s05_intensity_default.exs"""

    async def main():
        process.flag(trap_exit=True)
        sup = await Supervisor.start_link([holder("w"), holder("other")], strategy="one_for_one")
        seen = []
        for _ in range(4):
            process.exit(process.whereis("w"), "kill")
            await sleep(0.03)
            seen.append((process.alive(sup), process.whereis("w") is not None, process.whereis("other") is not None))
        assert seen == [(True, True, True)] * 3 + [(False, False, False)]
        assert await flush() == [("EXIT", sup, "shutdown")]

    machine.run(main)


def test_a_crash_counts_no_more_once_max_seconds_have_passed(machine):
    async def main():
        process.flag(trap_exit=True)
        sup = await Supervisor.start_link([holder("w")], strategy="one_for_one", max_restarts=1, max_seconds=2)
        for _ in range(10):
            process.exit(process.whereis("w"), "kill")
            await sleep(2.1)
        assert process.alive(sup)
        for _ in range(2):
            process.exit(process.whereis("w"), "kill")
            await sleep(0.5)
        assert await flush() == [("EXIT", sup, "shutdown")]

    machine.run(main)


def test_s06_max_restarts_0_gives_up_at_the_first_crash(machine):
    """s06_max_restarts_0.exs"""

    async def main():
        process.flag(trap_exit=True)
        sup = await Supervisor.start_link([holder("w")], strategy="one_for_one", max_restarts=0)
        process.exit(process.whereis("w"), "kill")
        assert await flush() == [("EXIT", sup, "shutdown")]

    machine.run(main)


def test_s24_the_intensity_is_shared_by_all_children(machine):
    """s24_intensity_shared.exs"""

    async def main():
        process.flag(trap_exit=True)
        sup = await Supervisor.start_link([holder(name) for name in "abcd"], strategy="one_for_one")
        for name in "abcd":
            process.exit(process.whereis(name), "kill")
            await sleep(0.02)
        assert not process.alive(sup)

    machine.run(main)


def test_s30_a_permanent_child_that_just_returns_is_restarted_and_wears_its_supervisor_out(machine):
    """s30_normal_permanent.exs"""

    async def main():
        process.flag(trap_exit=True)
        child = ChildSpec("w", (spawn_link, (lambda: "done",)))
        sup = await Supervisor.start_link([child], strategy="one_for_one")
        await sleep(0.1)
        assert not process.alive(sup)
        assert [message.reason for message in await flush()] == ["shutdown"]

    machine.run(main)


# ---- what is restarted -----------------------------------------------------------------------------------------------

REASONS = {
    "normal": "normal",
    "shutdown": "shutdown",
    "shutdown_tuple": ("shutdown", "x"),
    "crash": "boom",
    "kill": "kill",
}

MATRIX = {
    "permanent": dict.fromkeys(REASONS, "restarted"),
    "transient": {**dict.fromkeys(REASONS, ("kept", None)), "crash": "restarted", "kill": "restarted"},
    "temporary": dict.fromkeys(REASONS, "removed"),
}


@pytest.mark.parametrize("restart", MATRIX)
def test_s08_restart_type_and_exit_reason_decide_whether_a_child_comes_back(machine, restart):
    """s08_restart_matrix.exs"""

    async def fate_after(reason):
        sup = await Supervisor.start_link([plain("w", restart=restart)], strategy="one_for_one")
        [(_, pid, _, _)] = await Supervisor.which_children(sup)
        send(pid, reason)
        await sleep(0.03)
        match await Supervisor.which_children(sup):
            case [Child("w", None, _, _)]:
                return ("kept", None)
            case [Child("w", now, _, _)]:
                return "restarted" if now != pid else "same"
            case []:
                return "removed"

    async def main():
        assert {label: await fate_after(reason) for label, reason in REASONS.items()} == MATRIX[restart]

    machine.run(main)


# ---- starts that fail ------------------------------------------------------------------------------------------------


def test_s11_duplicate_ids_make_the_start_fail(machine):
    """s11_duplicate_ids.exs"""

    async def main():
        process.flag(trap_exit=True)
        reason = ("start_spec", ("duplicate_child_name", Holder))
        start = Supervisor.start_link([(Holder, "one"), (Holder, "two")], strategy="one_for_one")
        assert await refusal_of(start) == reason
        assert [(tag, why) for tag, _, why in await flush()] == [("EXIT", reason)]

    machine.run(main)


def test_duplicate_ids_say_how_to_tell_two_children_apart(machine):
    async def main():
        process.flag(trap_exit=True)
        with pytest.raises(StartError) as refused:
            await Supervisor.start_link([(Holder, "one"), (Holder, "two")], strategy="one_for_one")
        text = str(refused.value)
        assert "Holder" in text
        assert "id=" in text

    machine.run(main)


def test_s16_a_child_that_fails_stops_the_earlier_ones_in_reverse_and_the_start_with_them(machine):
    """s16_start_failure.exs"""

    async def main():
        me = self_()

        async def start():
            await Supervisor.start_link([telling(name, me) for name in ("a", "b", "bad", "c")], strategy="one_for_one")

        assert await down(start) == ("shutdown", ("failed_to_start_child", "bad", "cannot"))
        assert await flush() == [("start", "a"), ("start", "b"), ("stop", "b", "shutdown"), ("stop", "a", "shutdown")]

        process.flag(trap_exit=True)
        reason = ("shutdown", ("failed_to_start_child", Telling, "cannot"))
        assert await refusal_of(Supervisor.start_link([(Telling, ("bad", me))], strategy="one_for_one")) == reason
        assert [(tag, why) for tag, _, why in await flush()] == [("EXIT", reason)]

    machine.run(main)


def test_a_failed_start_leaves_no_process_and_no_name_behind(machine):
    async def main():
        process.flag(trap_exit=True)
        before = process.list()
        children = [telling("a"), holder("b"), telling("bad"), holder("c")]
        await refusal_of(Supervisor.start_link(children, strategy="one_for_one", name="top"))
        assert process.list() == before
        assert process.registered() == []

    machine.run(main)


class Ignoring(GenServer):
    """Chooses not to run."""

    def init(self, arg):
        return Ignore()


def test_s17_a_child_that_ignores_keeps_its_row_unless_it_is_temporary(machine):
    """s17_ignore.exs"""

    async def main():
        sup = await Supervisor.start_link([(Ignoring, 0)], strategy="one_for_one")
        assert await Supervisor.which_children(sup) == [Child(Ignoring, None, "worker", [Ignoring])]
        assert await Supervisor.count_children(sup) == {"active": 0, "specs": 1, "supervisors": 0, "workers": 1}
        child = Supervisor.child_spec((Ignoring, 0), restart="temporary")
        sup = await Supervisor.start_link([child], strategy="one_for_one")
        assert await Supervisor.which_children(sup) == []
        sup = await Supervisor.start_link([], strategy="one_for_one")
        assert await Supervisor.start_child(sup, (Ignoring, 0)) is None

    machine.run(main)


def test_s28_a_taken_name_is_already_started_and_no_child_starts(machine):
    """s28_exit_during_shutdown.exs"""

    async def main():
        sup = await Supervisor.start_link([], strategy="one_for_one", name="boss")
        start = Supervisor.start_link([telling("must not start")], strategy="one_for_one", name="boss")
        assert await refusal_of(start) == ("already_started", sup)
        assert await flush() == []

    machine.run(main)


# ---- bad specifications ----------------------------------------------------------------------------------------------


class Alien:
    """Nothing that can be supervised."""


def give(value):
    return value


async def misspelt():
    return nope()  # noqa: F821  # row s25: the start function is undefined


def test_s25_what_is_no_child_and_no_strategy_is_refused_where_it_is_written(machine):
    """s25_bad_specs.exs"""

    async def text_of(awaitable):
        with pytest.raises(TypeError) as refused:
            await awaitable
        return str(refused.value)

    async def main():
        process.flag(trap_exit=True)
        assert (await text_of(Supervisor.start_link([]))).startswith("expected strategy= to be given")
        text = await text_of(Supervisor.start_link([Alien], strategy="one_for_one"))
        assert text.startswith(
            "The class Alien was given as a child to a supervisor but it does not have child_spec(arg).\n\n"
            "If you own the class, define child_spec"
        )
        text = await text_of(Supervisor.start_link([5], strategy="one_for_one"))
        assert text.startswith("supervisors expect each child to be one of the following:\n\n  * a class")
        assert text.endswith("Got: 5")
        with pytest.raises(TypeError, match="start"):
            ChildSpec("x")  # a specification without a start cannot even be written
        assert await flush() == []

    machine.run(main)


@pytest.mark.parametrize(
    ("child", "options", "reason"),
    [
        (None, {"strategy": "foo"}, ("supervisor_data", ("invalid_strategy", "foo"))),
        (
            ChildSpec("x", (give, ("junk",))),
            {"strategy": "one_for_one"},
            ("shutdown", ("failed_to_start_child", "x", "junk")),
        ),
        (
            ChildSpec("x", (give, (1,)), restart="sometimes"),
            {"strategy": "one_for_one"},
            ("start_spec", ("invalid_restart_type", "sometimes")),
        ),
    ],
)
def test_s25_a_wrong_value_makes_the_start_fail_with_the_words_of_otp(machine, child, options, reason):
    """s25_bad_specs.exs"""

    async def main():
        process.flag(trap_exit=True)
        assert await refusal_of(Supervisor.start_link([child] if child else [], **options)) == reason
        assert [message[2] for message in await flush()] == [reason]

    machine.run(main)


def test_s25_a_start_function_that_raises_is_an_exit_inside_the_reason(machine):
    """s25_bad_specs.exs"""

    async def main():
        process.flag(trap_exit=True)
        reason = await refusal_of(Supervisor.start_link([ChildSpec("x", (misspelt, ()))], strategy="one_for_one"))
        match reason:
            case ("shutdown", ("failed_to_start_child", "x", ("EXIT", Raised(NameError() as error, stack)))):
                assert "nope" in str(error)
                assert stack[0].function == "misspelt"
            case other:
                raise AssertionError(other)

    machine.run(main)


def test_a_start_function_that_exits_is_told_as_exit_too(machine):
    def leave():
        raise Exit("gone")

    async def main():
        process.flag(trap_exit=True)
        reason = await refusal_of(Supervisor.start_link([ChildSpec("x", (leave, ()))], strategy="one_for_one"))
        assert reason == ("shutdown", ("failed_to_start_child", "x", ("EXIT", "gone")))

    machine.run(main)


def test_a_restart_that_fails_is_tried_again_and_each_try_counts(machine):
    tries = []

    class Moody(GenServer):
        def init(self, arg):
            tries.append(machine.now())
            return Stop("not today") if len(tries) > 1 else Ok(None)

    async def main():
        process.flag(trap_exit=True)
        sup = await Supervisor.start_link([Moody], strategy="one_for_one", max_restarts=4)
        process.exit((await pids_of(sup))[Moody], "kill")
        assert await flush() == [("EXIT", sup, "shutdown")]
        assert len(tries) == 1 + 4

    machine.run(main)


# ---- reports ---------------------------------------------------------------------------------------------------------


def test_s27_a_supervisor_tells_of_a_crash_and_of_too_many_only_when_asked(machine, caplog):
    """s27_sup_log.exs"""

    async def main():
        process.flag(trap_exit=True)
        await Supervisor.start_link([holder("w")], strategy="one_for_one", max_restarts=0, name="boss")
        pid = process.whereis("w")
        process.exit(pid, "kill")
        await flush()
        return pid

    machine.run(main)
    assert [one for one in caplog.records if one.name.startswith("otplib")] == []
    with caplog.at_level(logging.INFO, logger="otplib.supervisor"):
        pid = machine.run(main)
    crash, too_many = [one.getMessage() for one in caplog.records]
    call = 'Start Call: Holder.start_link("w")'
    assert crash == f'Child "w" of Supervisor "boss" terminated\n** (exit) killed\nPid: {pid!r}\n{call}'
    why = '** (exit) "reached_max_restart_intensity"'
    assert too_many == f'Child "w" of Supervisor "boss" caused shutdown\n{why}\n{call}'


def test_a_child_may_be_any_function_that_gives_a_linked_process(machine):
    async def main():
        async def start(reason):
            return spawn_link(receive_and_exit)

        sup = await Supervisor.start_link([ChildSpec("w", (start, ("x",)))], strategy="one_for_one")
        first = (await pids_of(sup))["w"]
        send(first, "boom")
        await sleep(0.01)
        second = (await pids_of(sup))["w"]
        assert second not in (None, first)
        assert process.info(second, "links") == [sup]

    machine.run(main)
