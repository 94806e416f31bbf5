"""Streams of tasks: laziness, bounds, order, ends; and that nothing of them is left behind."""

from __future__ import annotations

import gc

import pytest

from otplib import CallTimeout, CopyError, Exit, Raised, StartError, process, receive, run, self_, send, sleep, spawn
from otplib.behaviours.task import Task
from otplib.testing import deterministic
from tests.conformance.processes import end_of, flush
from tests.conformance.servers import reports_of


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


def leave(reason):
    raise Exit(reason)


async def wait_and_give(seconds):
    await sleep(seconds)
    return seconds


async def exhaust(stream):
    return [one async for one in stream]


def younger():
    """How many processes live that were made after this one: by it, here."""
    return sum(pid > self_() and pid != process.group_leader() for pid in process.list())


# ---- what is pulled, and when ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_items_are_pulled_when_there_is_room_for_their_tasks_and_not_before(machine, asynchronous):
    pulled = []

    def plain():
        for n in range(100):
            pulled.append(n)
            yield n

    async def later():
        for n in plain():
            await sleep(0)
            yield n

    async def main():
        stream = Task.async_stream(later() if asynchronous else plain(), wait_and_give, max_concurrency=3, timeout=None)
        assert pulled == []
        assert await anext(stream) == ("ok", 0)
        assert len(pulled) == 3
        await sleep(10)
        assert len(pulled) == 3
        assert [one async for one in stream] == [("ok", n) for n in range(1, 100)]
        return await flush()

    assert machine.run(main) == []


def test_a_slow_first_item_holds_its_place_and_the_others_go_on(machine):
    async def main():
        times = [1, 0.1, 0.1, 0.1, 0.1]
        stream = Task.async_stream(times, wait_and_give, max_concurrency=2)
        assert await anext(stream) == ("ok", 1)
        assert machine.now() == pytest.approx(1)
        rest = [await anext(stream) for _ in times[1:]]
        assert machine.now() == pytest.approx(1)
        return rest

    assert machine.run(main) == [("ok", 0.1)] * 4


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("most", [1, 2, 7, 100])
def test_every_item_has_its_result_whatever_the_bounds(machine, ordered, most):
    async def main():
        stream = Task.async_stream(range(30), pow, 2, max_concurrency=most, ordered=ordered)
        results = await exhaust(stream)
        expected = [("ok", n * n) for n in range(30)]
        assert results == expected if ordered else sorted(results) == expected
        assert [one async for one in stream] == []
        return await flush(), younger()

    assert machine.run(main) == ([], 0)


def test_no_items_are_no_results(machine):
    assert machine.run(exhaust_nothing) == []


async def exhaust_nothing():
    return await exhaust(Task.async_stream(iter(()), abs))


def test_the_length_is_that_of_the_input_so_that_progress_can_be_shown(machine):
    class Bar:
        """What tqdm does: asks for the length if there is one, and counts what passes."""

        def __init__(self, stream):
            self.stream = stream
            try:
                self.total = len(stream)
            except TypeError:
                self.total = None
            self.count = 0

        async def __aiter__(self):
            async for one in self.stream:
                self.count += 1
                yield one

    async def main():
        known = Bar(Task.async_stream([1, 2, 3], abs))
        assert (known.total, len(await exhaust(known)), known.count) == (3, 3, 3)
        unknown = Bar(Task.async_stream((n for n in [1, 2]), abs))
        assert (unknown.total, len(await exhaust(unknown)), unknown.count) == (None, 2, 2)
        assert Task.async_stream([], abs)

    machine.run(main)


# ---- isolation -------------------------------------------------------------------------------------------------------


def test_items_and_arguments_are_copied_for_each_task(machine):
    def change(item, shared_by_all):
        item.append(1)
        shared_by_all.append(1)
        return len(item), len(shared_by_all)

    async def main():
        items, extra = [[], []], []
        assert await exhaust(Task.async_stream(items, change, extra)) == [("ok", (1, 1))] * 2
        assert (items, extra) == ([[], []], [])

    machine.run(main)


def test_an_item_that_cannot_be_copied_ends_the_stream_and_its_tasks(machine):
    async def main():
        stream = Task.async_stream([60, (n for n in [])], wait_and_give, max_concurrency=2)
        with pytest.raises(CopyError):
            await anext(stream)
        await sleep(0.01)
        return younger(), await flush()

    assert machine.run(main) == (0, [])


def test_a_task_of_a_stream_works_for_whoever_goes_through_it(machine):
    async def main():
        [(_, (callers, ancestors))] = await exhaust(
            Task.async_stream([0], lambda _: (process.get("$callers"), process.get("$ancestors")))
        )
        assert callers == [self_()]
        assert ancestors[1:] == [self_()]

    machine.run(main)


# ---- ends ------------------------------------------------------------------------------------------------------------


def test_leaving_the_loop_early_ends_the_tasks_and_leaves_no_message(machine):
    async def main():
        process.flag(trap_exit=True)
        async for one in Task.async_stream([0.01, 60, 60], wait_and_give, max_concurrency=3, timeout=None):
            assert one == ("ok", 0.01)
            break
        gc.collect()
        await sleep(0.01)
        return younger(), await flush()

    assert machine.run(main) == (0, [])


def test_a_stream_that_is_closed_has_ended_its_tasks_when_that_returns(machine):
    async def main():
        process.flag(trap_exit=True)
        stream = Task.async_stream([0.01, 60, 60], stubborn, max_concurrency=3, timeout=None)
        await anext(stream)
        await stream.aclose()
        assert younger() == 0
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        return await flush()

    async def stubborn(seconds):
        process.flag(trap_exit=True)
        return await wait_and_give(seconds)

    assert machine.run(main) == []


def test_a_stream_that_nobody_has_begun_may_be_closed(machine):
    async def main():
        stream = Task.async_stream([1], abs)
        await stream.aclose()
        return await exhaust(stream)

    assert machine.run(main) == []


def test_an_input_that_raises_ends_the_stream_with_it(machine):
    def broken():
        yield 60
        raise KeyError("input")

    async def main():
        with pytest.raises(KeyError, match="input"):
            await exhaust(Task.async_stream(broken(), wait_and_give, max_concurrency=2))
        await sleep(0.01)
        return younger(), await flush()

    assert machine.run(main) == (0, [])


def test_an_owner_that_traps_exits_gets_failures_as_results(machine, caplog):
    async def main():
        process.flag(trap_exit=True)
        results = await exhaust(Task.async_stream([1, 2, 3], lambda n: leave("bad") if n == 2 else n))
        zipped = await exhaust(
            Task.async_stream([1, 2], lambda n: leave("bad") if n == 2 else n, zip_input_on_exit=True)
        )
        return results, zipped, await flush()

    results, zipped, messages = machine.run(main)
    assert results == [("ok", 1), ("exit", "bad"), ("ok", 3)]
    assert zipped == [("ok", 1), ("exit", (2, "bad"))]
    assert messages == []
    assert len(reports_of(caplog)) == 2


def test_the_end_of_the_owner_is_the_end_of_all_the_tasks(machine):
    for reason in ("normal", "boom"):

        async def main(reason=reason):
            async def owner():
                stream = Task.async_stream([60, 60], wait_and_give, max_concurrency=2)
                spawn(leave_later, self_(), reason)
                await anext(stream)

            async def leave_later(pid, reason):
                await sleep(0.1)
                process.exit(pid, "kill" if reason == "normal" else reason)

            await end_of(owner)
            await sleep(0.1)
            return younger()

        assert machine.run(main) == 0


def test_a_late_task_is_an_exit_that_may_be_caught_and_everything_is_over_then(machine):
    async def main():
        stream = Task.async_stream([60, 0.01], wait_and_give, max_concurrency=2, timeout=0.5)
        with pytest.raises(CallTimeout) as caught:
            await exhaust(stream)
        assert caught.value.reason == ("timeout", ("Task.Supervised", "stream", [0.5]))
        assert machine.now() == pytest.approx(0.5)
        await sleep(0.01)
        return younger(), await flush()

    assert machine.run(main) == (0, [])


def test_time_runs_while_nobody_asks_for_a_result(machine):
    async def main():
        stream = Task.async_stream(
            [0.01, 1, 3], wait_and_give, max_concurrency=3, timeout=2, on_timeout="kill_task", zip_input_on_exit=True
        )
        assert await anext(stream) == ("ok", 0.01)
        await sleep(2.5)
        assert younger() == 1  # the keeper
        return await exhaust(stream)

    assert machine.run(main) == [("ok", 1), ("exit", (3, "timeout"))]


def test_a_keeper_that_is_killed_is_the_end_of_a_stream(machine):
    async def main():
        process.flag(trap_exit=True)
        stream = Task.async_stream([60], wait_and_give)
        me = self_()

        async def kill_keeper():
            await sleep(0.1)
            [keeper] = process.info(me, "links")
            process.exit(keeper, "kill")

        spawn(kill_keeper)
        with pytest.raises(Exit) as caught:
            await anext(stream)
        assert caught.value.reason == ("killed", ("Task.Supervised", "stream", [5.0]))
        return younger(), await flush()

    assert machine.run(main) == (0, [])


def test_a_stream_belongs_to_the_process_that_began_it(machine):
    async def main():
        stream = Task.async_stream([1, 2], abs)
        await anext(stream)

        async def stranger(given):
            with pytest.raises(ValueError, match="belongs to"):
                await anext(given())

        await Task.await_(Task.async_(stranger, lambda: stream))
        with pytest.raises(CopyError, match="belongs to the process"):
            send(self_(), stream)
        assert await anext(stream) == ("ok", 2)

    machine.run(main)


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"max_concurrency": 0}, ValueError, "greater than zero"),
        ({"max_concurrency": 1.5}, ValueError, "whole number"),
        ({"on_timeout": "kill"}, ValueError, "kill_task"),
        ({"timeout": -1}, ValueError, "0 or more seconds"),
        ({"timeout": "1"}, TypeError, "timeout in seconds"),
    ],
)
def test_an_option_that_cannot_be_is_refused_at_once(machine, options, kind, text):
    def main():
        with pytest.raises(kind, match=text):
            Task.async_stream([1], abs, **options)

    machine.run(main)


def test_what_cannot_be_gone_through_or_called_is_refused_at_once(machine):
    def main():
        with pytest.raises(TypeError, match="iterate"):
            Task.async_stream(5, abs)
        with pytest.raises(TypeError, match="expected a function"):
            Task.async_stream([1], "abs")

    machine.run(main)


# ---- under a supervisor ----------------------------------------------------------------------------------------------


def test_a_supervisor_that_is_full_refuses_the_stream(machine):
    async def main():
        sup = await Task.Supervisor.start_link(max_children=1)
        stream = Task.Supervisor.async_stream_nolink(sup, [60, 60], wait_and_give, max_concurrency=2)
        with pytest.raises(StartError) as caught:
            await anext(stream)
        assert caught.value.reason == "max_children"
        assert "max_concurrency" in caught.value.__notes__[0]
        await sleep(0.01)
        return await Task.Supervisor.children(sup), await flush()

    assert machine.run(main) == ([], [])


def test_linked_tasks_of_a_supervisor_end_with_the_stream_and_the_stream_with_them(machine):
    async def main():
        sup = await Task.Supervisor.start_link()

        async def owner(fn):
            await exhaust(Task.Supervisor.async_stream(sup, [0.1, 60], fn, max_concurrency=2))

        async def fail_early(seconds):
            await sleep(seconds)
            raise ValueError("early")

        assert isinstance(await end_of(owner, fail_early), Raised)
        await sleep(0.01)
        assert await Task.Supervisor.children(sup) == []
        results = await exhaust(Task.Supervisor.async_stream(sup, [-1, -2], "builtins.abs"))
        return results, await flush()

    assert machine.run(main) == ([("ok", 1), ("ok", 2)], [])


def test_a_stream_of_thousands_on_real_threads_is_whole():
    async def main():
        values = [value async for _, value in Task.async_stream(range(3000), pow, 2, max_concurrency=16)]
        assert values == [n * n for n in range(3000)]
        with pytest.raises(TimeoutError):
            await receive(timeout=0)

    run(main)
