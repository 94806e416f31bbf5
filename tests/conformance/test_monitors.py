"""Monitors: the rows p25 to p32 and p49 of the table, as tests, and what of OTP stands beside them."""

from __future__ import annotations

from otplib import (
    Down,
    Exit,
    Machine,
    Ref,
    process,
    receive,
    run,
    self_,
    send,
    sleep,
    spawn,
    spawn_monitor,
)
from tests.conformance.processes import dead, end_of, flush, idle, play


def test_p25_down_has_five_parts_and_a_monitor_goes_one_way():
    """p25_monitor_down.exs"""

    async def end_as_told():
        raise Exit(await receive())

    async def watch_and_end(pid):
        process.monitor(pid)
        raise Exit("x")

    async def main():
        pid = spawn(end_as_told)
        ref = process.monitor(pid)
        send(pid, "boom")
        (down,) = await flush()
        assert down == ("DOWN", ref, "process", pid, "boom")
        assert isinstance(down, Down)
        normal = spawn(end_as_told)
        ref = process.monitor(normal)
        send(normal, "normal")
        assert await flush() == [("DOWN", ref, "process", normal, "normal")]
        watched = spawn(idle)
        assert await end_of(watch_and_end, watched) == "x"
        assert process.alive(watched)
        assert process.info(watched, "monitored_by") == []

    play(main)


def test_p26_monitoring_the_dead_gives_noproc_at_once():
    """p26_monitor_dead.exs"""

    async def main():
        pid = await dead()
        ref = process.monitor(pid)
        assert isinstance(ref, Ref)
        assert await receive(timeout=0) == ("DOWN", ref, "process", pid, "noproc")

    play(main)


def test_p27_each_monitor_is_one_of_its_own():
    """p27_monitor_many.exs"""

    async def main():
        pid = spawn(receive, "go")
        first, second = process.monitor(pid), process.monitor(pid)
        assert first != second
        assert process.info(self_(), "monitors") == [pid, pid]
        assert process.info(pid, "monitored_by") == [self_(), self_()]
        send(pid, "go")
        downs = await flush()
        assert len(downs) == 2
        assert {down.ref for down in downs} == {first, second}

    play(main)


def test_p28_demonitor_leaves_a_down_that_has_come_unless_it_flushes():
    """p28_demonitor.exs; what `[:info]` would tell is what `process.demonitor` always gives"""

    async def main():
        pid = await dead()
        ref = process.monitor(pid)
        await sleep(0.02)
        process.demonitor(ref)
        assert await flush() == [("DOWN", ref, "process", pid, "noproc")]
        ref = process.monitor(pid)
        await sleep(0.02)
        process.demonitor(ref, flush=True)
        assert await flush() == []
        ref = process.monitor(spawn(idle))
        assert process.demonitor(ref) is True
        assert process.demonitor(ref) is False
        ref = process.monitor(pid)
        await sleep(0.02)
        assert process.demonitor(ref, flush=True) is False

    play(main)


def test_p30_a_monitor_of_oneself_is_a_reference_that_never_fires():
    """p30_monitor_self.exs"""

    async def main():
        assert isinstance(process.monitor(self_()), Ref)
        assert process.info(self_(), "monitors") == []
        assert await flush() == []

    play(main)


async def name_at_death(times):
    """Give each pair (who has the name, does it live) seen right after a `Down`."""
    process.flag(trap_exit=True)
    seen = set()

    def named():
        process.register(self_(), "nm")
        raise Exit("x")

    for _ in range(times):
        pid, ref = spawn_monitor(named)
        process.link(pid)
        await receive(("DOWN", ref, "process", pid, ...))
        seen.add((process.whereis("nm"), process.alive(pid)))
        await receive(("EXIT", pid, ...))
    return seen


def test_p32_a_name_is_free_by_the_time_its_process_is_known_to_be_dead():
    """p32_down_vs_link_order.exs"""
    assert play(name_at_death, 200) == [{(None, False)}] * 5


def test_p32_a_name_is_free_in_time_with_real_threads_too():
    """p32_down_vs_link_order.exs"""
    with Machine():
        assert run(name_at_death, 1000) == {(None, False)}
        assert process.drive(name_at_death(300)) == {(None, False)}
        process.flag(trap_exit=False)


def test_p49_a_monitor_may_be_an_alias_until_it_is_taken_back():
    """p49_alias_monitor.exs"""

    async def main():
        ref = process.monitor(spawn(idle), alias=True)
        send(ref, "via_alias")
        assert await flush() == ["via_alias"]
        assert process.unalias(ref) is True
        assert send(ref, "lost") == "lost"
        assert await flush() == []
        ref = process.monitor(spawn(idle), alias=True)
        process.demonitor(ref)
        send(ref, "lost")
        assert await flush() == []

    play(main)
