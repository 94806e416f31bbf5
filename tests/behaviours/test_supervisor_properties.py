"""Whatever happens in whatever order: strategy and intensity are kept, and nothing is left behind."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otplib import GenServer, Ok, process, run, self_, send, sleep, spawn_link, system
from otplib.behaviours.supervisor import Supervise, Supervisor
from otplib.core.child_spec import ChildSpec
from otplib.core.errors import ChildError, StartError
from otplib.testing import deterministic
from tests.behaviours.supervised import Worker, end_of, pids_of, wait_for_order

QUIET = ("normal", "shutdown", ("shutdown", "x"))
REASONS = (*QUIET, "boom", "killed")


@dataclass
class Life:
    """One row of the model."""

    number: int
    restart: str
    alive: bool = True


@dataclass
class Model:
    """OTP's rules for a supervisor whose children always start, over plain lists; it shares no code with otplib."""

    strategy: str
    max_restarts: int
    max_seconds: float
    rows: list[Life]
    restarts: list[float] = field(default_factory=list)
    gone: bool = False

    def find(self, number: int) -> Life | None:
        return next((row for row in self.rows if row.number == number), None)

    def end(self, row: Life, reason: Any, now: float) -> set[int]:
        """One child ends by itself; gives the numbers that get a new process."""
        if row.restart == "temporary" or (row.restart == "transient" and reason in QUIET):
            self.stop(row)
            return set()
        self.restarts = [one for one in self.restarts if now - one <= self.max_seconds] + [now]
        if len(self.restarts) > self.max_restarts:
            self.gone = True
            return set()
        at = self.rows.index(row)
        first, last = {"one_for_one": (at, at + 1), "rest_for_one": (at, None), "one_for_all": (0, None)}[self.strategy]
        part = [one for one in self.rows[first:last] if one.restart != "temporary"]
        self.rows[first:last] = part
        for one in part:
            one.alive = True
        return {one.number for one in part}

    def stop(self, row: Life) -> None:
        row.alive = False
        if row.restart == "temporary":
            self.rows.remove(row)


def spec_of(number: int, restart: str, shutdown: Any) -> ChildSpec:
    return ChildSpec(number, (spawn_link, (wait_for_order,)), restart=restart, shutdown=shutdown)


CHILDREN = st.lists(
    st.tuples(
        st.sampled_from(["permanent", "transient", "temporary"]), st.sampled_from(["brutal_kill", "infinity", 0.0, 1.0])
    ),
    max_size=5,
)
GAPS = st.sampled_from([0.01, 0.5, 2.0, 6.0])
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("end"), st.integers(0, 7), st.sampled_from(REASONS), GAPS),
        st.tuples(st.sampled_from(["terminate", "restart", "delete", "start"]), st.integers(0, 7), st.just(None), GAPS),
    ),
    max_size=15,
)


async def make_happen(sup: Any, model: Model, event: tuple[Any, ...], pids: dict[int, Any], now: float) -> set[int]:
    """Do one thing to the supervisor and to its model; gives the numbers that must have a new process."""
    what, number, reason, _ = event
    row = model.find(number)
    if what == "end":
        if row is None or not row.alive:
            return set()
        if reason == "killed":
            process.exit(pids[number], "kill")
        else:
            send(pids[number], reason)
        return model.end(row, reason, now)
    if what == "start":
        if row is None:
            await Supervisor.start_child(sup, spec_of(number, "transient", 1.0))
            model.rows.append(Life(number, "transient"))
            return {number}
        with pytest.raises(StartError) as refused:
            await Supervisor.start_child(sup, spec_of(number, "transient", 1.0))
        assert refused.value.reason == (("already_started", pids[number]) if row.alive else "already_present")
        return set()
    order = {
        "terminate": Supervisor.terminate_child,
        "restart": Supervisor.restart_child,
        "delete": Supervisor.delete_child,
    }[what]
    refusal = "not_found" if row is None else "running" if row.alive and what != "terminate" else None
    if refusal is not None:
        with pytest.raises(ChildError) as refused:
            await order(sup, number)
        assert refused.value.reason == refusal
        return set()
    assert row is not None
    await order(sup, number)
    if what == "restart":
        row.alive = True
        return {number}
    if what == "terminate":
        model.stop(row)
    else:
        model.rows.remove(row)
    return set()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    strategy=st.sampled_from(["one_for_one", "rest_for_one", "one_for_all"]),
    max_restarts=st.integers(0, 4),
    children=CHILDREN,
    events=EVENTS,
)
def test_strategy_and_intensity_are_kept_whatever_happens_and_nothing_is_left(
    seed, strategy, max_restarts, children, events
):
    with deterministic(seed=seed) as machine:

        async def main():
            process.flag(trap_exit=True)
            model = Model(strategy, max_restarts, 5, [Life(number, kind) for number, (kind, _) in enumerate(children)])
            before = process.list()
            specs = [spec_of(number, *kind) for number, kind in enumerate(children)]
            sup = await Supervisor.start_link(specs, strategy=strategy, max_restarts=max_restarts)
            pids = await pids_of(sup)
            for event in events:
                expected = await make_happen(sup, model, event, pids, machine.now())
                await sleep(event[-1])
                assert process.alive(sup) != model.gone
                if model.gone:
                    break
                now_pids = await pids_of(sup)
                assert list(now_pids) == [row.number for row in reversed(model.rows)]
                assert {number for number, pid in now_pids.items() if pid is not None} == {
                    row.number for row in model.rows if row.alive
                }
                fresh = {number for number, pid in now_pids.items() if pid not in (None, pids.get(number))}
                assert fresh == expected
                pids = now_pids
            if not model.gone:
                await Supervisor.stop(sup)
            assert process.list() == before

        machine.run(main)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    strategies=st.tuples(*[st.sampled_from(["one_for_one", "rest_for_one", "one_for_all"])] * 3),
    width=st.integers(1, 3),
    victims=st.lists(st.tuples(st.integers(0, 50), st.sampled_from([0.0, 0.001, 1.0])), max_size=30),
    last=st.sampled_from(["stop", "kill", "parent"]),
)
def test_a_tree_in_which_anybody_is_killed_at_any_time_stays_whole_and_goes_without_a_trace(
    seed, strategies, width, victims, last
):
    with deterministic(seed=seed) as machine:

        class Level(Supervisor):
            def init(self, depth):
                kinds = [ChildSpec(number, (spawn_link, (wait_for_order,))) for number in range(width)]
                if depth < 2:
                    kinds = [Supervisor.child_spec((Level, depth + 1), id=number) for number in range(width)]
                return Supervise(kinds, strategy=strategies[depth], max_restarts=10_000)

        async def main():
            before = process.list()
            owner = spawn_link(own)
            process.unlink(owner)
            await sleep(0.01)
            whole = len(process.list())
            assert whole == len(before) + 2 + width + width**2 + width**3
            top = process.whereis("top")
            for number, pause in victims:
                crowd = [pid for pid in process.list() if pid not in (*before, owner, top)]
                if crowd:
                    process.exit(crowd[number % len(crowd)], "kill")
                await sleep(pause)
            await sleep(10)
            assert len(process.list()) == whole
            assert process.whereis("top") == top
            if last == "stop":
                await Supervisor.stop(top)
                process.exit(owner, "kill")
            else:
                process.exit(top if last == "kill" else owner, "kill")
            await sleep(10)
            assert process.list() == before

        async def own():
            await Level.start_link(0, name="top")
            await wait_for_order()

        machine.run(main)


def test_on_real_threads_a_tree_under_fire_stays_whole_and_goes_without_a_trace():
    async def main():
        children = [Supervisor.child_spec((Worker, (f"fire{number}", self_())), id=number) for number in range(20)]
        before = set(process.list())
        sup = await Supervisor.start_link(children, strategy="rest_for_one", max_restarts=10**6)
        for turn in range(300):
            found = process.whereis(f"fire{turn * 7 % 20}")
            if found is not None:
                process.exit(found, "kill")
            if turn % 10 == 0:
                await Supervisor.which_children(sup)
        await sleep(0.05)
        rows = await pids_of(sup)
        assert len(rows) == 20
        for number, pid in rows.items():
            assert process.whereis(f"fire{number}") == pid
        end = end_of(sup)
        await Supervisor.stop(sup)
        assert await end == "normal"
        assert not {pid for pid in rows.values() if process.alive(pid)}
        assert set(process.list()) - before == set()

    run(main, timeout=60)


def test_new_code_of_init_is_taken_over_when_asked():
    asked = {"size": 2, "strategy": "one_for_one"}

    class Shop(Supervisor):
        def init(self, arg):
            children = [ChildSpec(number, (spawn_link, (wait_for_order,))) for number in range(asked["size"])]
            return Supervise(children, strategy=asked["strategy"])

    async def main():
        sup = await Shop.start_link(None)
        old = await pids_of(sup)
        asked.update(size=3, strategy="one_for_all")
        await system.suspend(sup)
        await system.change_code(sup)
        await system.resume(sup)
        rows = await pids_of(sup)
        assert rows == {2: None, 1: old[1], 0: old[0]}
        process.exit(old[0], "kill")
        await sleep(0.01)
        rows = await pids_of(sup)
        assert None not in rows.values()
        assert rows[1] != old[1]

    with deterministic(seed=1) as machine:
        machine.run(main)


def test_a_child_that_restarts_runs_the_newest_code_of_its_class(monkeypatch):
    class First(GenServer):
        def init(self, arg):
            send(arg, "old code")
            return Ok(None)

    class Second(GenServer):
        def init(self, arg):
            send(arg, "new code")
            return Ok(None)

    for version in (First, Second):
        version.__name__ = version.__qualname__ = "Living"
    monkeypatch.setitem(globals(), "Living", First)

    async def main():
        sup = await Supervisor.start_link([(First, self_())], strategy="one_for_one")
        globals()["Living"] = Second
        process.exit((await pids_of(sup))[First], "kill")
        await sleep(0.01)
        assert await process.receive("old code") == "old code"
        assert await process.receive("new code", timeout=0) == "new code"
        # The class as it is now is the id of the child, though the child was filed under the old one.
        await Supervisor.terminate_child(sup, Second)

    with deterministic(seed=1) as machine:
        machine.run(main)
