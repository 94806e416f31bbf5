"""Section 5 of the table: tasks, their streams and supervisors; and rows x20 and y26, which are about tasks too."""

from __future__ import annotations

import pytest

from otplib import Exit, Raised, process, self_, sleep
from otplib.behaviours.task import Task
from otplib.behaviours.task_stream import default_concurrency
from tests.conformance.processes import end_of, flush, idle, play
from tests.conformance.servers import exit_of, reports_of
from tests.dist.nodes import perform


def leave(reason):
    raise Exit(reason)


def boom():
    raise RuntimeError("task boom")


async def wait_and_give(seconds):
    await sleep(seconds)
    return seconds


def crash_text(pid, owner):
    line = f"{__file__}:{boom.__code__.co_firstlineno + 1}: boom"
    return [
        f"Task {pid!r} started from {owner!r} terminating",
        "** (RuntimeError) task boom",
        f"    {line}",
        f"Function: {__name__}.boom",
        "    Args: []",
    ]


def test_t01_the_value_is_a_message_with_the_tasks_reference_and_awaiting_takes_the_down_away():
    """t01_async_await.exs"""

    async def main():
        task = Task.async_(lambda: 41 + 1)
        assert (task.owner, type(task.pid), task.mfa[1:]) == (self_(), type(self_()), (task.mfa[1], 0))
        await sleep(0.03)
        assert process.info(self_(), "messages") == [
            (task.ref, 42),
            ("DOWN", task.ref, "process", task.pid, "normal"),
        ]
        assert await Task.await_(task) == 42
        return await flush()

    assert play(main) == [[]] * 5


def test_t02_a_crash_ends_an_owner_that_does_not_trap_exits_and_is_logged(caplog):
    """t02_task_crash.exs"""
    made = []

    async def owner():
        made.append((task := Task.async_(boom)).pid)
        made.append(self_())
        await Task.await_(task)

    async def main():
        match await end_of(owner):
            case Raised(RuntimeError() as error, stack):
                return str(error), stack[0].function
            case other:
                raise AssertionError(other)

    assert play(main) == [("task boom", "boom")] * 5
    expected = ["\n".join(crash_text(made[n], made[n + 1])) for n in range(0, len(made), 2)]
    assert reports_of(caplog) == expected


def test_t03_an_owner_that_traps_exits_is_told_twice():
    """t03_task_crash_trap.exs"""

    async def main():
        process.flag(trap_exit=True)
        task = Task.async_(leave, "why")
        assert await exit_of(Task.await_(task)) == ("why", ("Task", "await", [task, 5.0]))
        assert await flush() == [("EXIT", task.pid, "why")]

    play(main)


def test_t05_yield_may_be_repeated_and_shutdown_tells_what_a_task_came_to():
    """t05_yield_shutdown.exs"""

    async def main():
        task = Task.async_(wait_and_give, 0.1)
        assert await Task.yield_(task, 0.01) is None
        assert await Task.yield_(task, 0.2) == ("ok", 0.1)
        assert await Task.yield_(task, 0.02) is None
        task = Task.async_(idle)
        assert await Task.shutdown(task) is None
        assert not process.alive(task.pid)
        task = Task.async_(lambda: "quick")
        await sleep(0.02)
        assert await Task.shutdown(task) == ("ok", "quick")
        process.flag(trap_exit=True)
        task = Task.async_(leave, "oops")
        await sleep(0.02)
        assert await Task.shutdown(task) == ("exit", "oops")
        task = Task.async_(leave, "oops")
        assert await Task.yield_(task, 0.05) == ("exit", "oops")

    play(main)


def test_t07_a_stream_keeps_the_order_unless_told_otherwise_and_never_runs_more_than_it_may():
    """t07_async_stream.exs"""
    running = 0
    most = 0

    async def count(_):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await sleep(0.005)
        running -= 1

    async def main():
        times = [0.06, 0.01, 0.03]
        ordered = [one async for one in Task.async_stream(times, wait_and_give, max_concurrency=3)]
        stream = Task.async_stream(times, wait_and_give, max_concurrency=3, ordered=False)
        unordered = [value async for _, value in stream]
        assert len([one async for one in Task.async_stream(range(1, 21), count)]) == 20
        return ordered, unordered, await flush()

    expected = ([("ok", 0.06), ("ok", 0.01), ("ok", 0.03)], [0.01, 0.03, 0.06], [])
    assert play(main) == [expected] * 5
    assert most == default_concurrency()


def test_t08_what_a_failing_or_late_item_does_to_the_stream():
    """t08_async_stream_fail.exs"""

    async def exhaust(items, fn, **options):
        return [one async for one in Task.async_stream(items, fn, **options)]

    def refuse_two(n):
        if n == 2:
            raise Exit("bad")
        return "ok"

    async def main():
        assert await end_of(exhaust, [1], lambda _: leave("bad")) == "bad"

        async def late():
            await exhaust([0.1], wait_and_give, timeout=0.01)

        assert await end_of(late) == ("timeout", ("Task.Supervised", "stream", [0.01]))

        async def killed():
            return await exhaust([0.001, 0.1], wait_and_give, timeout=0.03, on_timeout="kill_task")

        assert await killed() == [("ok", 0.001), ("exit", "timeout")]
        sup = await Task.Supervisor.start_link()
        stream = Task.Supervisor.async_stream_nolink(sup, [1, 2], refuse_two)
        assert [one async for one in stream] == [("ok", "ok"), ("exit", "bad")]
        return await flush()

    assert play(main) == [[]] * 5


def test_t09_a_task_that_is_not_linked_harms_nobody():
    """t09_async_nolink.exs"""

    async def main():
        sup = await Task.Supervisor.start_link()
        task = await Task.Supervisor.async_nolink(sup, leave, "bad")
        assert await Task.yield_(task) == ("exit", "bad")
        task = await Task.Supervisor.async_nolink(sup, leave, "bad")
        assert await exit_of(Task.await_(task)) == ("bad", ("Task", "await", [task, 5.0]))
        task = await Task.Supervisor.async_nolink(sup, leave, "bad")
        assert await flush() == [("DOWN", task.ref, "process", task.pid, "bad")]
        return await Task.Supervisor.children(sup)

    assert play(main) == [[]] * 5


def test_t10_a_child_is_a_temporary_task_that_nobody_is_linked_to_but_its_supervisor(caplog):
    """t10_start_child.exs"""
    made = []

    async def later():
        await sleep(0.03)
        boom()

    async def main():
        sup = await Task.Supervisor.start_link()
        pid = await Task.Supervisor.start_child(sup, later)
        made.append((pid, self_()))
        assert await Task.Supervisor.children(sup) == [pid]
        assert process.info(pid, "links") == [sup]
        await sleep(0.08)
        assert await Task.Supervisor.children(sup) == []
        return await flush()

    assert play(main) == [[]] * 5
    for (pid, owner), text in zip(made, reports_of(caplog), strict=True):
        lines = text.splitlines()
        assert lines[:3] == crash_text(pid, owner)[:3]
        assert lines[-2:] == [f"Function: {__name__}.{later.__qualname__}", "    Args: []"]


def test_t11_many_tasks_at_a_time():
    """t11_await_many.exs"""

    async def main():
        tasks = [Task.async_(wait_and_give, seconds) for seconds in (0.03, 0.01)]
        assert await Task.await_many(tasks) == [0.03, 0.01]
        tasks = [Task.async_(wait_and_give, seconds) for seconds in (0.005, 0.3)]
        assert await Task.yield_many(tasks, 0.05) == [(tasks[0], ("ok", 0.005)), (tasks[1], None)]

    play(main)


def test_t12_a_task_knows_for_whom_it_works_and_who_started_it():
    """t12_callers.exs"""

    async def main():
        keys = await Task.await_(Task.async_(process.get_keys))
        assert sorted(keys) == ["$ancestors", "$callers", "$initial_call"]
        assert await Task.await_(Task.async_(process.get, "$callers")) == [self_()]
        assert await Task.await_(Task.async_(process.get, "$ancestors")) == [self_()]
        assert await Task.await_(Task.async_(process.get, "$initial_call")) == ("otplib.process", "get", 1)

        async def inner():
            return self_(), await Task.await_(Task.async_(process.get, "$callers"))

        middle, callers = await Task.await_(Task.async_(inner))
        assert callers == [middle, self_()]

    play(main)


def test_t13_a_task_that_nobody_waits_for_discards_its_value():
    """t13_task_start.exs"""

    async def linked():
        assert process.alive(Task.start_link(leave, "b"))
        await idle()

    async def main():
        assert process.alive(Task.start(lambda: "x"))
        assert await flush() == []
        assert await end_of(linked) == "b"

    play(main)


def test_x20_the_report_of_a_crash_names_the_owner_the_function_and_its_arguments(caplog):
    """x20_task_log.exs"""
    made = []

    def add(a, b, *, times=1):
        return (a + b) * times

    async def main():
        made.append((Task.start(boom), self_()))
        await sleep(0.08)
        process.register(self_(), "boss")
        Task.start(leave, ("why", 1))
        await sleep(0.08)
        Task.start(add, 1, "x", times=2)
        for quiet in ("normal", "shutdown", ("shutdown", "x")):
            Task.start(leave, quiet)
        await sleep(0.08)

    play(main)
    texts = reports_of(caplog)
    assert len(texts) == 3 * len(made)
    for n, (pid, owner) in enumerate(made):
        raised, left, added = texts[3 * n : 3 * n + 3]
        assert raised.splitlines() == crash_text(pid, owner)
        assert left.splitlines()[0].endswith('started from "boss" terminating')
        assert left.splitlines()[1:] == [
            '** (stop) ("why", 1)',
            f"    {__file__}:{leave.__code__.co_firstlineno + 1}: leave",
            f"Function: {__name__}.leave",
            '    Args: [("why", 1)]',
        ]
        assert added.splitlines()[-2:] == ['    Args: [1, "x"]', '    Keywords: {"times": 2}']


# ---- on another node -----------------------------------------------------------------------------------------------

SUPERVISOR = {
    "elixir": """
        spawn(fn ->
            {:ok, _} = Task.Supervisor.start_link(name: :ts)
            Process.register(self(), :keeps_ts)
            receive do :stop -> :ok end
        end)
        Enum.find(1..1000, fn _ -> Process.sleep(5); Process.whereis(:ts) != nil end)
    """,
    "python": """
from otplib.behaviours.task import Task
process.unlink(await Task.Supervisor.start_link(name="ts"))
    """,
}
STOP = {
    "elixir": "send(:keeps_ts, :stop); Process.exit(Process.whereis(:ts), :kill)",
    "python": "await Task.Supervisor.stop('ts')",
}
NODE = {"elixir": "Kernel.node", "python": "otplib.node.self_"}


@pytest.fixture
def supervised(foo):
    """A node with a supervisor `ts`."""
    foo.tell(**SUPERVISOR)
    yield foo
    foo.tell(**STOP)


def test_y26_a_supervisor_on_another_node_runs_a_task_there(py, supervised):
    """y26_task_remote.exs"""
    sup = ("ts", supervised.name)

    async def main():
        task = await Task.Supervisor.async_(sup, NODE[supervised.language])
        assert task.pid.node == supervised.name
        assert await Task.await_(task) == supervised.name
        return await flush()

    assert perform(main) == []


def test_a_task_on_another_node_that_fails_tells_its_owner_here(py, supervised):
    sup = ("ts", supervised.name)
    fail = {"elixir": ":erlang.exit", "python": "tests.conformance.test_tasks.leave"}[supervised.language]

    async def main():
        task = await Task.Supervisor.async_nolink(sup, fail, "bad")
        assert await exit_of(Task.await_(task)) == ("bad", ("Task", "await", [task, 5.0]))
        task = await Task.Supervisor.async_nolink(sup, SLEEP[supervised.language], 60_000)
        assert await Task.shutdown(task) is None
        stream = Task.Supervisor.async_stream_nolink(sup, [3, -4], ABS[supervised.language])
        assert [one async for one in stream] == [("ok", 3), ("ok", 4)]
        return await flush()

    assert perform(main) == []


ABS = {"elixir": ":erlang.abs", "python": "builtins.abs"}


def test_a_supervisor_of_ours_runs_tasks_for_another_node(py, foo):
    source = {
        "elixir": 'Task.await(Task.Supervisor.async({{:ours, :"{node}"}}, :builtins, :abs, [-7]))',
        "python": 'await Task.await_(await Task.Supervisor.async_(("ours", "{node}"), abs, -7))',
    }[foo.language].format(node=py.node)
    if foo.language == "python":
        foo.tell("from otplib.behaviours.task import Task")

    async def start():
        process.unlink(await Task.Supervisor.start_link(name="ours"))

    perform(start)
    assert foo.eval(source) == "7"
    perform(Task.Supervisor.stop, "ours")


def test_a_task_whose_node_is_gone_says_so(py, start):
    foo = start("mortal")
    foo.tell(**SUPERVISOR)

    async def begin():
        task = await Task.Supervisor.async_nolink(("ts", foo.name), SLEEP[foo.language], 60_000)
        foo.kill()
        return await exit_of(Task.await_(task, 20.0)), task

    (reason, call), task = perform(begin)
    assert reason == ("nodedown", foo.name)
    assert call == ("Task", "await", [task, 20.0])


SLEEP = {"elixir": "Process.sleep", "python": "otplib.sleep"}
