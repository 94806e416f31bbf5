"""Signals beside the table: what OTP's manual says of exits, links and monitors, and the dangers of threads."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest

from otplib import (
    Exit,
    Machine,
    Raised,
    process,
    receive,
    run,
    self_,
    send,
    shared,
    sleep,
    spawn,
    spawn_link,
    spawn_monitor,
)
from tests.conformance.processes import dead, end_of, flush, idle, play


async def trap_and_tell(signal):
    process.flag(trap_exit=True)
    process.exit(self_(), signal)
    raise Exit(("got", await flush()))


def test_exit_normal_to_oneself_is_a_message_for_one_that_traps():
    async def main():
        word, ((tag, pid, reason),) = await end_of(trap_and_tell, "normal")
        assert (word, tag, type(pid), reason) == ("got", "EXIT", type(self_()), "normal")

    play(main)


def test_exit_kill_to_oneself_kills_one_that_traps():
    async def main():
        assert await end_of(trap_and_tell, "kill") == "killed"

    play(main)


def test_of_two_fatal_signals_the_first_counts():
    async def main():
        pid, ref = spawn_monitor(idle)
        await sleep(0.01)
        process.exit(pid, "a")
        process.exit(pid, "kill")
        assert await flush() == [("DOWN", ref, "process", pid, "a")]

    play(main)


def test_signals_and_messages_of_one_sender_arrive_in_the_order_sent():
    async def target(parent):
        process.flag(trap_exit=True)
        send(parent, "ready")
        send(parent, await flush())

    async def main():
        pid = spawn(target, self_())
        await receive("ready")
        for number in range(3):
            send(pid, number)
            process.exit(pid, number)
        me = self_()
        assert await receive(list) == [0, ("EXIT", me, 0), 1, ("EXIT", me, 1), 2, ("EXIT", me, 2)]

    play(main)


def test_a_link_to_the_dead_is_a_noproc_message_for_one_that_traps():
    async def main():
        process.flag(trap_exit=True)
        pid = await dead()
        assert process.link(pid) is True
        assert await flush() == [("EXIT", pid, "noproc")]

    play(main)


def test_two_links_give_one_exit_and_one_unlink_undoes_both():
    async def main():
        process.flag(trap_exit=True)
        kept, unlinked = spawn_link(idle), spawn_link(idle)
        process.link(kept)
        process.link(unlinked)
        process.unlink(unlinked)
        process.exit(kept, "kill")
        process.exit(unlinked, "kill")
        assert await flush() == [("EXIT", kept, "killed")]

    play(main)


def test_a_ring_of_links_dies_as_a_whole_and_each_once():
    async def member(pids):
        for pid in await receive(list):
            process.link(pid)
        send(pids, "linked")
        await idle()

    async def main():
        members = [spawn_monitor(member, self_()) for _ in range(20)]
        pids = [pid for pid, _ in members]
        for index, pid in enumerate(pids):
            send(pid, [pids[index - 1], pids[index - 7]])
        for _ in pids:
            await receive("linked")
        process.exit(pids[3], "boom")
        downs = await flush()
        assert sorted(down.pid for down in downs) == pids
        assert {down.reason for down in downs} == {"boom"}
        assert all(process.info(pid) is None for pid in pids)

    play(main)


def test_a_process_killed_before_its_first_step_never_runs():
    ran = []

    async def main():
        pid, ref = spawn_monitor(ran.append, 1)
        process.exit(pid, "kill")
        assert await flush() == [("DOWN", ref, "process", pid, "killed")]

    play(main)
    assert ran == []


def test_a_process_that_a_fatal_signal_has_reached_counts_as_dead_at_once():
    async def main():
        pid = spawn(idle)
        process.exit(pid, "kill")
        assert process.alive(pid) is False
        assert process.info(pid) is None
        assert pid not in process.list()

    play(main)


def test_each_who_is_told_of_a_death_has_a_reason_of_its_own():
    def end():
        raise Exit(("orders", reason))

    reason = [1]

    async def watcher(parent, pid, link):
        process.flag(trap_exit=True)
        if link:
            process.link(pid)
        else:
            process.monitor(pid)
        send(parent, "ready")
        found = (await receive()).reason[1]
        found.append(self_())
        send(parent, shared(found))

    async def main():
        async def later():
            await receive("go")
            end()

        pid = spawn(later)
        for link in (True, True, False, False):
            spawn(watcher, self_(), pid, link)
            await receive("ready")
        send(pid, "go")
        found = await flush()
        assert [len(each) for each in found] == [2, 2, 2, 2]
        assert len({each[1] for each in found}) == 4
        assert reason == [1]

    play(main)


def test_a_reason_that_cannot_be_copied_is_told_all_the_same():
    lock = threading.Lock()

    def end():
        raise Exit(lock)

    async def main():
        assert await end_of(end) is lock

    play(main)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError("x")])
def test_exceptions_that_end_a_thread_or_a_program_elsewhere_end_one_process_here(error, caplog):
    def end():
        raise type(error)(*error.args)

    async def main():
        reason = await end_of(end)
        assert isinstance(reason, Raised)
        assert (type(reason.exception), reason.exception.args) == (type(error), error.args)

    play(main)
    assert len(caplog.records) == 5


def test_the_end_of_a_process_leaves_no_circle_for_the_collector():
    class Local:
        pass

    kept = []

    def end(how):
        local = Local()
        kept.append(weakref.ref(local))
        if how == "signal":
            process.exit(self_(), "boom")
        raise how

    async def main():
        for how in (Exit("boom"), "signal"):
            await end_of(end, how)

    gc.disable()
    try:
        play(main)
        assert [ref for ref in kept if ref() is not None] == []
    finally:
        gc.enable()


def test_what_dies_with_a_process_may_send_and_spawn_as_it_goes():
    class Farewell:
        def __init__(self, dest):
            self.dest = dest

        def __del__(self):
            send(self.dest, "farewell")
            spawn(send, self.dest, "from a new process")

    async def main():
        pid, ref = spawn_monitor(idle)
        send(pid, shared(Farewell(self_())))
        await sleep(0.01)
        process.exit(pid, "kill")
        taken = await flush()
        assert sorted(taken, key=str) == [("DOWN", ref, "process", pid, "killed"), "farewell", "from a new process"]

    play(main)


# ---- closing -------------------------------------------------------------------------------------------------------


async def waits_in_finally():
    try:
        await idle()
    finally:
        await sleep(1)


async def swallows_the_end():
    try:
        await idle()
    except BaseException:  # what nobody should write
        pass
    await idle()


@pytest.mark.parametrize("stubborn", [waits_in_finally, swallows_the_end])
def test_a_process_that_will_not_be_closed_is_abandoned_with_a_report(stubborn, caplog):
    async def main():
        pid, ref = spawn_monitor(stubborn)
        await sleep(0.01)
        process.exit(pid, "kill")
        assert await flush() == [("DOWN", ref, "process", pid, "killed")]
        return pid

    pids = play(main)
    assert [record.getMessage() for record in caplog.records] == [
        f"Process {pid!r} awaited something, or swallowed the end, while it was being closed; it has been abandoned. A "
        "`finally` block may not wait, and `except BaseException` must re-raise"
        for pid in pids
    ]


def test_an_exception_while_a_process_is_closed_is_reported_and_the_reason_stays(caplog):
    async def clumsy():
        try:
            await idle()
        finally:
            raise ValueError("clumsy")

    async def main():
        pid, ref = spawn_monitor(clumsy)
        await sleep(0.01)
        process.exit(pid, "boom")
        assert await flush() == [("DOWN", ref, "process", pid, "boom")]

    play(main)
    assert ["** (ValueError) clumsy" in record.getMessage() for record in caplog.records] == [True] * 5


def test_a_finally_block_that_never_ends_is_ended(caplog):
    async def busy(parent):
        try:
            send(parent, "ready")
            await idle()
        finally:
            while True:
                pass

    async def main():
        pid, ref = spawn_monitor(busy, self_())
        await receive("ready")
        process.exit(pid, "boom")
        assert await receive(timeout=10) == ("DOWN", ref, "process", pid, "boom")

    with Machine():
        run(main)


# ---- with a limited mailbox ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["link", "monitor"])
def test_a_death_that_overfills_a_limited_mailbox_kills_its_owner(by, caplog):
    async def hub(parent):
        process.flag(trap_exit=True, max_mailbox=1)
        for _ in range(2):
            if by == "link":
                spawn_link(receive)
            else:
                spawn_monitor(receive)
        send(parent, process.info(self_(), "links") or process.info(self_(), "monitors"))
        await receive("never")

    async def main():
        pid, ref = spawn_monitor(hub, self_())
        for child in await receive(list):
            send(child, "end")
        assert await flush() == [("DOWN", ref, "process", pid, "killed")]

    play(main)
    assert all("its mailbox grew past max_mailbox=1" in record.getMessage() for record in caplog.records)
    assert len(caplog.records) == 5


# ---- shells and threads --------------------------------------------------------------------------------------------


def test_a_shell_that_waits_gets_the_exit_of_a_link_and_is_a_new_process_afterwards():
    def boom():
        raise Exit("boom")

    with Machine():
        old = self_()
        spawn_link(boom)
        with pytest.raises(Exit) as caught:
            process.drive(receive(timeout=5))
        assert caught.value.reason == "boom"
        assert self_() != old
        assert process.alive(self_())
        assert not process.alive(old)


def test_a_shell_that_traps_gets_the_exit_of_a_link_as_a_message():
    with Machine():
        process.flag(trap_exit=True)
        pid = spawn_link(lambda: None)
        assert process.drive(receive(timeout=5)) == ("EXIT", pid, "normal")


def test_after_demonitor_with_flush_no_down_comes_while_threads_race():
    with Machine() as machine:
        for turn in range(500):
            pid, ref = spawn_monitor(receive)
            send(pid, "end")
            if turn % 3:
                time.sleep(0.00005)
            process.demonitor(ref, flush=True)
        assert machine.settle(10)
        assert process.info(self_(), "messages") == []
        assert process.info(self_(), "monitors") == []


def test_after_unlink_no_exit_kills_while_threads_race():
    async def boom_when_told():
        await receive()
        raise Exit("boom")

    survived = 0
    with Machine() as machine:
        for turn in range(300):
            me = self_()
            pid = spawn_link(boom_when_told)
            send(pid, "end")
            if turn % 3:
                time.sleep(0.00005)
            process.unlink(pid)
            lives = process.alive(me)
            assert machine.settle(10)
            assert process.alive(me) == lives
            survived += lives
    assert survived > 0


def test_each_of_many_deaths_from_many_threads_is_told_once():
    async def child(hub):
        process.link(hub)
        raise Exit("boom")

    def spawn_children(hub):
        for _ in range(100):
            spawn(child, hub)

    async def main():
        process.flag(trap_exit=True)
        for _ in range(8):
            spawn(process.blocking, spawn_children, self_())
        told = [(await receive(("EXIT", ..., "boom"), timeout=30)).pid for _ in range(800)]
        assert len(set(told)) == 800
        assert process.info(self_(), "links") == []
        assert await flush() == []

    with Machine():
        run(main)
