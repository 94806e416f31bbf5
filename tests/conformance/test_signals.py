"""Exit signals and links: the rows p01 to p24, p34 to p37 and p50 of the table, as tests.

Each is played with several orders of turns. What Python does in its own manner, in every row alike: a failing verb
raises `TypeError` or `ValueError` where the BEAM has `badarg`; `Down` and `ExitMessage` are tuples with names.
"""

from __future__ import annotations

import logging
import re
import time
from typing import NoReturn

import pytest

from otplib import (
    Exit,
    ExitMessage,
    Machine,
    NoProcessError,
    Raised,
    process,
    receive,
    self_,
    send,
    sleep,
    spawn,
    spawn_link,
)
from otplib.core.reasons import StackEntry
from tests.conformance.processes import dead, end_of, flush, idle, play


def end_with(reason: object) -> NoReturn:
    raise Exit(reason)


def reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert all(record.name == "otplib" and record.levelno == logging.ERROR for record in caplog.records)
    return [record.getMessage() for record in caplog.records]


def boom() -> NoReturn:
    raise RuntimeError("boom")


def test_p01_a_raising_process_does_not_touch_its_spawner_and_is_logged(caplog):
    """p01_isolated_crash.exs"""

    async def main():
        pid = spawn(boom)
        await sleep(0.1)
        assert (process.alive(self_()), process.alive(pid)) == (True, False)
        assert await flush() == []
        return pid

    pids = play(main)
    expected = [
        rf"Process {pid!r} raised an exception\n\*\* \(RuntimeError\) boom\n    .*test_signals.py:\d+: boom"
        for pid in pids
    ]
    assert len(caplog.records) == len(expected)
    for pattern, report in zip(expected, reports(caplog), strict=True):
        assert re.fullmatch(pattern, report)


def test_p02_an_abnormal_end_kills_the_linked_peer_with_the_same_reason():
    """p02_link_abnormal.exs"""

    async def parent():
        spawn_link(end_with, "boom")
        await idle()

    async def main():
        assert await end_of(parent) == "boom"

    play(main)


def test_p03_a_normal_end_does_not_cross_a_link():
    """p03_link_normal.exs"""

    async def parent(child, *args):
        spawn_link(child, *args)
        await idle()

    async def main():
        assert await end_of(parent, end_with, "normal", timeout=0.2) == "still_alive"
        assert await end_of(parent, lambda: "ret", timeout=0.2) == "still_alive"

    play(main)


def test_p04_one_that_traps_gets_the_exit_of_a_link_as_a_message():
    """p04_trap_abnormal.exs"""

    async def main():
        assert process.flag(trap_exit=True) is False
        pid = spawn_link(end_with, "boom")
        (message,) = await flush()
        assert message == ("EXIT", pid, "boom")
        assert isinstance(message, ExitMessage)
        assert process.flag(trap_exit=True) is True

    play(main)


def test_p05_one_that_traps_hears_of_a_normal_end_too():
    """p05_trap_normal.exs"""

    async def main():
        process.flag(trap_exit=True)
        pid = spawn_link(lambda: "ok")
        assert await flush() == [("EXIT", pid, "normal")]

    play(main)


def test_p06_exit_normal_from_another_is_ignored_by_one_that_does_not_trap():
    """p06_exit2_normal_ignored.exs"""

    async def main():
        pid = spawn(idle)
        assert process.exit(pid, "normal") is True
        await sleep(0.03)
        assert process.alive(pid)

    play(main)


def test_p07_exit_normal_from_another_is_a_message_for_one_that_traps():
    """p07_exit2_normal_trap.exs"""

    async def target(parent):
        process.flag(trap_exit=True)
        send(parent, "ready")
        send(parent, ("got", await flush(0.1)))

    async def main():
        pid = spawn(target, self_())
        await receive("ready")
        process.exit(pid, "normal")
        assert await receive(("got", ...)) == ("got", [("EXIT", self_(), "normal")])

    play(main)


def test_p08_exit_normal_to_oneself_does_kill():
    """p08_exit2_self_normal.exs"""

    async def suicide(parent):
        process.exit(self_(), "normal")
        send(parent, "not reached")
        await idle()

    async def main():
        assert await end_of(suicide, self_(), timeout=0.3) == "normal"
        assert await flush() == []

    play(main)


def test_p10_kill_cannot_be_trapped_and_is_told_as_killed():
    """p10_kill_untrappable.exs"""

    async def target(parent):
        process.flag(trap_exit=True)
        send(parent, "ready")
        await idle()

    async def main():
        process.flag(trap_exit=True)
        pid = spawn_link(target, self_())
        await receive("ready")
        ref = process.monitor(pid)
        assert process.exit(pid, "kill") is True
        assert await flush() == [("EXIT", pid, "killed"), ("DOWN", ref, "process", pid, "killed")]

    play(main)


def test_p11_an_own_exit_kill_stays_kill_and_can_be_trapped():
    """p11_exit_kill_self_raise.exs"""

    async def peer():
        spawn_link(end_with, "kill")
        await idle()

    async def main():
        process.flag(trap_exit=True)
        pid = spawn_link(end_with, "kill")
        assert await flush() == [("EXIT", pid, "kill")]
        assert await end_of(peer) == "kill"

    play(main)


def test_p13_the_reason_killed_is_an_ordinary_one():
    """p13_exit2_killed_literal.exs"""

    async def main():
        process.flag(trap_exit=True)
        process.exit(self_(), "killed")
        assert await flush() == [("EXIT", self_(), "killed")]

    play(main)


def test_p15_shutdown_reasons_kill_linked_peers_and_log_nothing(caplog):
    """p15_shutdown_reason.exs"""

    async def peer(reason):
        spawn_link(end_with, reason)
        await idle()

    async def main():
        assert await end_of(peer, "shutdown") == "shutdown"
        assert await end_of(peer, ("shutdown", "why")) == ("shutdown", "why")

    play(main)
    assert not caplog.records


def badmatch():
    (one,) = (1, 2)
    return one


def case_clause():
    match 2:
        case 1:
            return
        case other:
            raise ValueError(f"no case clause matching: {other}")


#: What a process does, and the exception that is its reason. Python has no `throw`: to throw is to raise.
ENDS = {
    "raise": (boom, RuntimeError("boom")),
    "badarith": (lambda: 1 + "a", TypeError("unsupported operand type(s) for +: 'int' and 'str'")),
    "badmatch": (badmatch, ValueError("too many values to unpack (expected 1)")),
    "case_clause": (case_clause, ValueError("no case clause matching: 2")),
    "undef": (lambda: nope(1), NameError("name 'nope' is not defined")),  # noqa: F821 - that is the point
    "badarg": (lambda: int("a"), ValueError("invalid literal for int() with base 10: 'a'")),
    "badarity": (lambda: case_clause(1), TypeError("case_clause() takes 0 positional arguments but 1 was given")),
    "badkey": (lambda: {}["k"], KeyError("k")),
    "stop_iteration": (lambda: next(iter(())), RuntimeError("function raised StopIteration")),
}


@pytest.mark.parametrize("end", ENDS)
def test_p16_a_raised_exception_is_the_reason_with_its_trace(end, caplog):
    """p16_reason_shapes.exs"""
    fn, error = ENDS[end]

    async def main():
        reason = await end_of(fn)
        assert isinstance(reason, Raised)
        exception, stack = reason
        assert exception.__traceback__ is None
        assert stack
        assert all(isinstance(entry, StackEntry) for entry in stack)
        assert stack[0].file.endswith("test_signals.py")
        return exception

    assert [(type(exception), exception.args) for exception in play(main)] == [(type(error), error.args)] * 5


def test_p16_returning_and_exiting_are_plain_reasons():
    """p16_reason_shapes.exs"""

    async def main():
        assert await end_of(lambda: "x") == "normal"
        assert await end_of(end_with, "why") == "why"

    play(main)


def test_p17_exceptions_are_logged_and_exits_never_are(caplog):
    """p17_what_is_logged.exs"""

    def logged():
        raise ValueError("logged_error")

    async def main():
        spawn(end_with, "not_logged")
        pid = spawn(logged)
        spawn(end_with, ("bad", ["not_logged"]))
        await flush()
        return pid

    pids = play(main)
    assert [text.splitlines()[:2] for text in reports(caplog)] == [
        [f"Process {pid!r} raised an exception", "** (ValueError) logged_error"] for pid in pids
    ]


def test_p17_a_report_names_the_pid_of_a_registered_process_too(caplog):
    """p17_what_is_logged.exs; the name as observed beside it"""

    def named():
        process.register(self_(), "named")
        boom()

    async def main():
        pid = spawn(named)
        await flush()
        return pid

    pids = play(main)
    assert [text.partition(" raised")[0] for text in reports(caplog)] == [f"Process {pid!r}" for pid in pids]


def test_p18_a_link_to_the_dead_raises_in_one_that_does_not_trap(caplog):
    """p18_link_dead_notrap.exs"""

    async def linker(pid):
        process.link(pid)
        await idle()

    async def main():
        pid = await dead()
        with pytest.raises(NoProcessError, match=re.escape(f"cannot link to {pid!r}: it is not alive")):
            process.link(pid)
        reason = await end_of(linker, pid)
        assert isinstance(reason.exception, NoProcessError)

    play(main)


def test_p20_a_link_to_oneself_does_nothing():
    """p20_link_self.exs"""

    async def main():
        assert process.link(self_()) is True
        assert process.info(self_(), "links") == []

    play(main)


def test_p21_links_are_one_per_pair_and_on_both_sides():
    """p21_link_idempotent.exs"""

    async def main():
        pid = spawn(idle)
        process.link(pid)
        process.link(pid)
        assert process.info(pid, "links") == [self_()]
        assert process.info(self_(), "links") == [pid]
        assert process.unlink(pid) is True
        assert process.info(pid, "links") == []
        assert process.unlink(pid) is True
        assert process.unlink(await dead()) is True

    play(main)


async def boom_when_told():
    await receive("go")
    raise Exit("boom")


async def race_unlink(times, pause):
    """Unlink a process that is about to die, over and over; give what was queued before, and what came too late."""
    process.flag(trap_exit=True)
    queued = 0
    for turn in range(times):
        pid = spawn_link(boom_when_told)
        send(pid, "go")
        if turn % 3:
            await pause()
        process.unlink(pid)
        try:
            await receive(("EXIT", pid, "boom"), timeout=0)
            queued += 1
        except TimeoutError:
            pass
    return queued, await flush()


def test_p22_after_unlink_no_exit_comes_but_one_in_the_mailbox_stays():
    """p22_unlink_race.exs"""

    async def main():
        process.flag(trap_exit=True)
        pid = spawn_link(end_with, "boom")
        await sleep(0.03)
        assert process.unlink(pid) is True
        assert await flush() == [("EXIT", pid, "boom")]
        return await race_unlink(200, lambda: sleep(0))

    results = play(main)
    assert all(late == [] for _, late in results)
    assert 0 < sum(queued for queued, _ in results) < 1000


def test_p22_after_unlink_no_exit_comes_with_real_threads_either():
    """p22_unlink_race.exs"""

    async def pause():
        time.sleep(0.00005)  # the scheduler's thread, against which this one races, may run meanwhile

    with Machine():
        queued, late = process.drive(race_unlink(1000, pause))
        process.flag(trap_exit=False)
    assert late == []
    assert queued > 0


def test_p23_the_first_reason_goes_down_a_chain_of_links():
    """p23_link_chain.exs"""

    async def a():
        await sleep(0.02)
        raise Exit("root_cause")

    async def b():
        spawn_link(a)
        await idle()

    async def c():
        spawn_link(b)
        await idle()

    async def main():
        assert await end_of(c) == "root_cause"

    play(main)


def test_p24_a_chain_of_links_ends_where_one_traps():
    """p24_link_chain_stop_at_trap.exs"""

    async def watcher(parent, c):
        ref = process.monitor(c)
        try:
            send(parent, ("c_down", (await receive(("DOWN", ref, ..., ..., ...), timeout=0.2)).reason))
        except TimeoutError:
            send(parent, "c_alive")

    async def b(parent):
        process.flag(trap_exit=True)
        a = spawn_link(end_with, "root_cause")
        send(parent, ("b_got", await flush(), a))
        await idle()

    async def c(parent):
        spawn(watcher, parent, self_())
        spawn_link(b, parent)
        await idle()

    async def main():
        spawn(c, self_())
        (word, got, a), alive = await flush(0.4)
        assert (word, got, alive) == ("b_got", [("EXIT", a, "root_cause")], "c_alive")

    play(main)


def test_p34_exit_to_the_dead_is_true_and_to_a_name_is_refused():
    """p34_exit_bad_args.exs"""

    async def main():
        assert process.exit(await dead(), "x") is True
        with pytest.raises(TypeError, match=r"process.exit takes a pid, got 'name'"):
            process.exit("name", "x")

    play(main)


def test_p35_exit_from_an_unlinked_process_is_a_message_for_one_that_traps():
    """p35_trapping_unlinked.exs"""

    async def main():
        process.flag(trap_exit=True)
        other = spawn(process.exit, self_(), "because")
        assert await flush() == [("EXIT", other, "because")]

    play(main)


def test_p37_an_own_exit_can_be_caught_but_not_as_an_exception_and_a_signal_not_at_all():
    """p37_try_catch_exit.exs"""

    def rescue():
        try:
            raise Exit("r")
        except Exception as error:
            return error

    async def signalled(parent):
        spawn_link(end_with, "sig")
        try:
            await idle()
        except (Exception, Exit) as error:
            send(parent, ("caught", error))
        finally:
            send(parent, "finally ran")  # the one thing in which Python differs: the BEAM's `after` does not run

    async def main():
        with pytest.raises(Exit) as caught:
            end_with("r")
        assert caught.value.reason == "r"
        assert await end_of(rescue) == "r"
        assert await end_of(signalled, self_()) == "sig"
        assert await flush() == ["finally ran"]

    play(main)


def test_p50_children_outlive_the_process_that_spawned_them():
    """p50_parent_exit_no_children_kill.exs"""

    async def parent(grandparent):
        send(grandparent, ("child", spawn(idle)))
        raise Exit("boom")

    async def main():
        assert await end_of(parent, self_()) == "boom"
        _, child = await receive(("child", ...))
        assert process.alive(child)

    play(main)
