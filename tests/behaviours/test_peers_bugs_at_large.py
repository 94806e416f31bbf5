"""The second part of `test_peers_bugs`: supervisors, what stays behind, and hogs."""

import gc
import threading
import time

import pytest

from otplib import (
    Exit,
    GenServer,
    Machine,
    Ok,
    StartError,
    Supervisor,
    process,
    receive,
    run,
    self_,
    send,
    sleep,
    spawn,
    spawn_link,
    spawn_monitor,
)
from otplib.core.child_spec import ChildSpec
from otplib.testing import deterministic
from tests.behaviours.served import kind_of, obey, wait


@pytest.fixture(params=[1, 2, 3])
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


# ---- supervisors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_start", [True, False])
@pytest.mark.parametrize(
    ("restart", "reason", "comes_back"),
    [
        ("permanent", "normal", True),
        ("permanent", "boom", True),
        ("transient", "normal", False),
        ("transient", ("shutdown", 1), False),
        ("transient", "boom", True),
        ("temporary", "normal", False),
        ("temporary", "boom", False),
    ],
)
def test_the_restart_type_is_honoured_for_children_of_the_first_hour_and_later_ones(
    machine, at_start, restart, reason, comes_back
):
    """otpylib: a static supervisor restarts temporary children and transient ones that end normally."""

    async def main():
        spec = ChildSpec("child", (spawn_link, (obey,)), restart=restart)
        sup = await Supervisor.start_link([spec] if at_start else [], strategy="one_for_one")
        pid = (await Supervisor.which_children(sup))[0].pid if at_start else await Supervisor.start_child(sup, spec)
        send(pid, reason)
        await sleep(1)
        children = await Supervisor.which_children(sup)
        assert [child.pid not in (None, pid) for child in children] == ([] if restart == "temporary" else [comes_back])

    machine.run(main)


def test_the_crash_of_a_temporary_child_touches_nobody_else(machine):
    """triotp: it kills the supervisor and the siblings."""

    async def main():
        children = [ChildSpec(n, (spawn_link, (obey,)), restart="temporary") for n in range(3)]
        sup = await Supervisor.start_link(children, strategy="one_for_one", max_restarts=0)
        before = {child.id: child.pid for child in await Supervisor.which_children(sup)}
        send(before[1], "boom")
        await sleep(1)
        assert {child.id: child.pid for child in await Supervisor.which_children(sup)} == {0: before[0], 2: before[2]}

    machine.run(main)


def test_too_many_restarts_end_the_supervisor_with_shutdown(machine):
    """Section 5.3; triotp counts per child."""

    async def main():
        process.flag(trap_exit=True)
        before = process.list()
        children = [ChildSpec(n, (spawn_link, (obey,))) for n in range(4)]
        sup = await Supervisor.start_link(children, strategy="one_for_one", max_restarts=3, max_seconds=5)
        for child in await Supervisor.which_children(sup):
            send(child.pid, "boom")
        assert await receive() == ("EXIT", sup, "shutdown")
        assert process.list() == before, "nothing outlives it"

    machine.run(main)


class Unlucky(GenServer):
    """Its `init` fails as often as the list it shares with the test says."""

    def init(self, plan):
        if GenServer.whereis("plan") is None:
            raise LookupError("no plan")
        return Ok(plan)


def test_an_init_that_raises_is_told_to_the_starter(machine):
    """triotp: UnboundLocalError."""

    async def main():
        with pytest.raises(StartError) as refused:
            await Unlucky.start(1)
        assert kind_of(refused.value.reason) is LookupError
        assert "LookupError" in str(refused.value)

    machine.run(main)


def test_a_child_whose_init_fails_when_it_is_restarted_is_tried_again(machine):
    """Section 5.3: restart after `init` failure."""

    async def main():
        process.register(self_(), "plan")
        spec = Supervisor.child_spec((Unlucky, 1), id="unlucky")
        sup = await Supervisor.start_link([spec], strategy="one_for_one", max_restarts=50, max_seconds=1)
        [child] = await Supervisor.which_children(sup)
        process.unregister("plan")
        process.exit(child.pid, "kill")
        for _ in range(20):
            await sleep(0)
        process.register(self_(), "plan")
        await sleep(1)
        [again] = await Supervisor.which_children(sup)
        assert process.alive(again.pid)
        assert again.pid != child.pid

    machine.run(main)


# ---- what stays behind ---------------------------------------------------------------------------------------------


def test_ten_thousand_exits_leave_nothing_behind():
    """Pyrlang: two asyncio tasks for each dead process."""

    async def main():
        async def short(number):
            if number % 3 == 0:
                raise Exit("boom")
            if number % 3 == 1:
                await sleep(float("inf"))

        before = process.list()
        for start in range(0, 10_000, 500):
            watched = [spawn_monitor(short, number) for number in range(start, start + 500)]
            for pid, ref in watched:
                process.exit(pid, "kill")
                await receive(("DOWN", ref, ..., ..., ...))
        assert process.list() == before

    with Machine() as machine:
        threads = threading.active_count()
        run(main)
        assert threading.active_count() <= threads + 4
        assert len(machine.table) < 5
        assert (len(machine.names), len(machine.aliases)) == (0, 0)
        gc.collect()
        records = [one for one in gc.get_objects() if type(one).__name__ == "ProcessRecord" and one.machine is machine]
        assert len(records) < 10, "whose processes are gone has no record of them"


def test_ten_thousand_processes_cost_no_threads():
    """pykka: one thread each. thespian and ray: one process of the system each."""

    async def main():
        pids = [spawn(wait) for _ in range(10_000)]
        count = threading.active_count()
        for pid in pids:
            process.exit(pid, "kill")
        return count

    with Machine():
        assert run(main) < 12


# ---- hogs ----------------------------------------------------------------------------------------------------------


def busy_loop(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize("hog", [busy_loop, time.sleep])
def test_a_process_that_does_not_give_way_stops_nobody(hog):
    """All coroutine libraries: a ticker of 1 ms was silent as long as the hog ran."""

    async def main():
        test = self_()
        pid, ref = spawn_monitor(hog, 0.8)

        async def ticker():
            gaps, last = [], time.monotonic()
            while process.alive(pid):
                await sleep(0.001)
                now = time.monotonic()
                gaps.append(now - last)
                last = now
            send(test, ("gaps", gaps))

        spawn(ticker)
        await receive(("DOWN", ref, ..., ..., ...))
        _, gaps = await receive(("gaps", list))
        return gaps

    with Machine():
        gaps = run(main)
    assert len(gaps) > 20
    assert max(gaps) < 0.6, "the hog ran for 0.8 s"
