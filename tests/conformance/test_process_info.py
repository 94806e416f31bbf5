"""Looking at processes, their limits, the end of a program: the rows p38 to p46 and p51 to p54, as tests."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import weakref

import pytest

from otplib import (
    Machine,
    Pid,
    SystemLimitError,
    process,
    receive,
    run,
    self_,
    send,
    sleep,
    spawn,
    spawn_monitor,
)
from tests.conformance.processes import dead, flush, idle, play

HERE = __name__


# ---- busy, broken, asleep ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", ["def", "async def"])
def test_p38_busy_loops_are_killed_at_any_time(colour, caplog):
    """p38_busy_kill.exs; the BEAM takes 100 ms, and so does otplib: the limit here is for a crowded machine"""
    counts = [0] * 8

    def count(index):
        while True:
            counts[index] += 1

    async def count_async(index):
        count(index)

    async def main():
        pids = [spawn(count if colour == "def" else count_async, index) for index in range(8)]
        while not all(counts):
            await sleep(0.001)
        start = time.monotonic()
        refs = [process.monitor(pid) for pid in pids]
        for pid in pids:
            process.exit(pid, "kill")
        for pid, ref in zip(pids, refs, strict=True):
            assert await receive(("DOWN", ref, ..., ..., ...), timeout=5) == ("DOWN", ref, "process", pid, "killed")
        took = time.monotonic() - start
        now = [*counts]
        await sleep(0.02)
        assert counts == now, "a loop that counts as dead still runs"
        return took

    with Machine():
        took = run(main)
    assert took < 2
    assert not caplog.records


def test_p39_a_function_that_cannot_be_called_so_gives_a_pid_and_crashes(caplog):
    """p39_spawn_bad.exs"""

    def takes_one(_x):
        pass

    async def takes_one_async(_x):
        pass

    async def main():
        for fn in (takes_one, takes_one_async):
            pid, ref = spawn_monitor(fn)
            assert isinstance(pid, Pid)
            reason = (await receive(("DOWN", ref, ..., ..., ...))).reason
            assert type(reason.exception) is TypeError
            assert "missing 1 required positional argument: '_x'" in str(reason.exception)
        with pytest.raises(TypeError, match=r"expected a function to run as a process.*'not_a_fun'"):
            spawn("not_a_fun")

    play(main)
    assert len(caplog.records) == 2 * 5
    assert all("raised an exception\n** (TypeError)" in record.getMessage() for record in caplog.records)


def test_p40_the_dead_are_none_and_what_is_no_pid_is_refused():
    """p40_alive_remote_etc.exs"""

    async def main():
        pid = await dead()
        assert process.alive(pid) is False
        assert process.info(pid) is None
        assert process.info(pid, "links") is None
        assert process.alive(self_()) is True
        with pytest.raises(TypeError, match=r"process.alive takes a pid, got 'name'"):
            process.alive("name")
        with pytest.raises(TypeError, match=r"process.info takes a pid, got 'name'"):
            process.info("name")
        with pytest.raises(ValueError, match=r"no item 'bogus' in process.info; there are .*links"):
            process.info(self_(), "bogus")

    play(main)


KEYS = [
    "current_function",
    "initial_call",
    "status",
    "message_queue_len",
    "links",
    "dictionary",
    "trap_exit",
    "priority",
    "group_leader",
    "memory",
    "reductions",
    "suspending",
]


def test_p41_info_without_items_has_these_keys_in_order():
    """p41_info_keys.exs; `memory` stands for the BEAM's sizes of heap and stack, which Python shares between
    processes, as it does the collector of `garbage_collection`; `error_handler` loads Erlang modules"""

    async def main():
        assert list(process.info(self_())) == KEYS
        process.register(self_(), "nm")
        assert list(process.info(self_())) == ["registered_name", *KEYS]

    play(main)


def test_p42_single_items_have_these_shapes():
    """p42_info_items.exs"""

    async def child():
        process.put("k", 1)
        await receive("never")

    async def main():
        pid = spawn(child)
        await sleep(0.02)
        send(pid, "a")
        send(pid, ("b", 2))
        function = (HERE, f"{test_p42_single_items_have_these_shapes.__name__}.<locals>.child")
        expected = {
            "registered_name": None,
            "message_queue_len": 2,
            "messages": ["a", ("b", 2)],
            "links": [],
            "monitors": [],
            "monitored_by": [],
            "status": "waiting",
            "dictionary": {"k": 1},
            "trap_exit": False,
            "priority": "normal",
            "current_function": function,
            "initial_call": function,
            "group_leader": process.group_leader(),
            "parent": self_(),
            "suspending": [],
            "max_mailbox": None,
        }
        await sleep(0.01)  # the child looks at what has come, and waits on
        assert {item: process.info(pid, item) for item in expected} == expected
        assert process.info(pid, *expected) == expected
        assert 0 < process.info(pid, "memory") < 10_000
        assert process.info(pid, "reductions") > 0
        (entry,) = process.info(pid, "current_stacktrace")
        assert (entry.file, entry.function) == (__file__, function[1])
        process.register(pid, "nm")
        assert process.info(pid, "registered_name") == "nm"
        assert process.info(pid, "status", "message_queue_len") == {"status": "waiting", "message_queue_len": 2}

    play(main)


def test_p43_a_process_is_running_waiting_runnable_or_suspended():
    """p43_status.exs"""

    async def main():
        assert process.info(self_(), "status") == "running"
        pid = spawn(idle)
        assert process.info(pid, "status") == "runnable"
        await sleep(0.02)
        assert process.info(pid, "status") == "waiting"
        assert process.suspend(pid) is True
        assert process.info(pid, "status") == "suspended"
        send(pid, "x")
        assert process.resume(pid) is True
        await sleep(0.01)
        assert process.info(pid, "status") == "waiting"

    play(main)


def test_p44_a_full_machine_refuses_to_spawn():
    """p44_system_limit.exs"""

    async def main():
        pids = [self_()]
        while len(process.list()) < 64:
            pids.append(spawn(idle))
        with pytest.raises(SystemLimitError, match="the machine is full: 64 processes are alive"):
            spawn(idle)
        with pytest.raises(SystemLimitError):
            process.spawn_link(idle)
        assert process.info(self_(), "links") == []
        ref = process.monitor(pids[-1])
        process.exit(pids[-1], "kill")
        await receive(("DOWN", ref, ..., ..., ...))
        assert process.alive(spawn(idle))

    play(main, max_processes=64)


def test_p46_a_hibernating_process_drops_its_stack_and_goes_on_in_a_function():
    """p46_hibernate.exs"""

    class Garbage:
        pass

    kept = []

    async def woken(parent):
        send(parent, ("woken_by", await receive()))

    async def deep(parent, depth):
        garbage = Garbage()
        kept.append(weakref.ref(garbage))
        if depth:
            await deep(parent, depth - 1)
        await receive("go")
        process.hibernate(woken, parent)
        send(parent, "not reached")

    async def main():
        pid, ref = spawn_monitor(deep, self_(), 10)
        await sleep(0.01)
        before = process.info(pid, "memory")
        send(pid, "go")
        await sleep(0.01)
        assert process.info(pid, "memory") < before / 2
        assert process.info(pid, "current_function") == ("otplib.process", "hibernate")
        assert process.info(pid, "status") == "waiting"
        assert [garbage for garbage in kept if garbage() is not None] == []
        send(pid, "hi")
        assert await flush() == [("woken_by", "hi"), ("DOWN", ref, "process", pid, "normal")]

    play(main)


def test_a_message_that_lies_there_already_wakes_a_hibernating_process():
    async def woken(parent):
        send(parent, (await receive(), await receive(timeout=0)))

    async def sleeper(parent):
        await receive("second")
        process.hibernate(woken, parent)

    async def main():
        pid = spawn(sleeper, self_())
        for word in ("first", "second", "third"):
            send(pid, word)
        assert await flush() == [("first", "third")]

    play(main)


def test_a_hibernating_process_can_be_killed():
    async def main():
        pid, ref = spawn_monitor(process.hibernate, idle)
        await sleep(0.01)
        assert process.alive(pid)
        process.exit(pid, "kill")
        assert await flush() == [("DOWN", ref, "process", pid, "killed")]

    play(main)


def test_code_of_a_shell_cannot_hibernate_into_a_function():
    with Machine(), pytest.raises(ValueError, match="that of a shell cannot be dropped"):
        process.hibernate(idle)


# ---- suspended -----------------------------------------------------------------------------------------------------


def test_a_suspended_process_gets_its_messages_when_it_is_resumed_as_often():
    async def echo(parent):
        while True:
            send(parent, await receive())

    async def main():
        pid = spawn(echo, self_())
        await sleep(0.01)
        process.suspend(pid)
        process.suspend(pid)
        assert process.info(self_(), "suspending") == [(pid, 2)]
        send(pid, "x")
        assert await flush() == []
        process.resume(pid)
        assert await flush() == []
        process.resume(pid)
        assert await flush() == ["x"]
        assert process.info(self_(), "suspending") == []

    play(main)


def test_a_suspension_ends_with_the_process_that_made_it():
    async def suspender(pid):
        process.suspend(pid)
        process.suspend(pid)
        await receive("go")

    async def echo(parent):
        send(parent, await receive())
        await idle()

    async def main():
        pid = spawn(echo, self_())
        other, ref = spawn_monitor(suspender, pid)
        await sleep(0.01)
        send(pid, "x")
        assert process.info(pid, "status") == "suspended"
        with pytest.raises(ValueError, match="has not suspended it"):
            process.resume(pid)
        send(other, "go")
        assert await receive("x") == "x"
        assert await flush() == [("DOWN", ref, "process", other, "normal")]
        assert process.info(pid, "status") == "waiting"

    play(main)


def test_a_suspended_process_can_be_killed_and_is_forgotten():
    async def main():
        pid, ref = spawn_monitor(idle)
        await sleep(0.01)
        process.suspend(pid)
        process.exit(pid, "kill")
        assert await flush() == [("DOWN", ref, "process", pid, "killed")]
        assert process.info(self_(), "suspending") == []
        with pytest.raises(ValueError, match="has not suspended it"):
            process.resume(pid)

    play(main)


def test_oneself_and_the_dead_cannot_be_suspended():
    async def main():
        for pid in (self_(), await dead()):
            with pytest.raises(ValueError, match="cannot suspend"):
                process.suspend(pid)

    play(main)


# ---- whole programs ------------------------------------------------------------------------------------------------


def run_script(body: str) -> subprocess.CompletedProcess[str]:
    head = "import time\nfrom otplib import Exit, process, run, sleep, spawn, spawn_link\n"
    return subprocess.run([sys.executable, "-c", head + body], capture_output=True, text=True, timeout=60, check=False)


CHILDREN = """
async def late():
    await sleep(0.5)
    print("never printed", flush=True)

async def boom():
    raise Exit("boom")

async def fine():
    raise Exit("normal")

def start(child):
    spawn(late)
    spawn_link(child)
"""

#: The main process of a script: one that `run` starts, or the shell of the script itself.
MAINS = {
    "run": """
async def main():
    start(CHILD)
    await sleep(0.1)
    print("reached")
run(main)
""",
    "shell": """
start(CHILD)
process.drive(sleep(0.1))
print("reached")
""",
}


@pytest.mark.parametrize("main", MAINS)
def test_p51_a_script_whose_main_process_dies_ends_with_status_1_and_all_processes_with_it(main):
    """p51_main_script_exit.exs"""
    ended = run_script(CHILDREN + MAINS[main].replace("CHILD", "boom"))
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1] == 'otplib.core.errors.Exit: "boom"'


@pytest.mark.parametrize("main", MAINS)
def test_p52_a_linked_child_that_ends_normally_lets_the_script_go_on(main):
    """p52_exit_normal_main.exs"""
    ended = run_script(CHILDREN + MAINS[main].replace("CHILD", "fine"))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "reached\n", "")


def test_a_script_whose_shell_dies_while_it_does_not_wait_is_told_and_goes_on_with_a_new_one():
    ended = run_script(
        CHILDREN
        + """
old = process.self_()
start(boom)
while process.alive(old):
    time.sleep(0.001)
print(process.self_() != old, process.alive(process.self_()))
"""
    )
    assert (ended.returncode, ended.stdout) == (0, "True True\n")
    assert re.fullmatch(r'\*\* \(EXIT from #PID<0\.\d+\.0>\) shell process exited with reason: "boom"\n', ended.stderr)


# ---- counting ------------------------------------------------------------------------------------------------------


def test_p53_reductions_grow_with_work_and_not_with_waiting():
    """p53_reductions.exs"""

    async def main():
        pid = spawn(idle)
        await sleep(0.01)
        before = process.info(pid, "reductions")
        await sleep(0.1)
        assert process.info(pid, "reductions") == before
        mine = process.info(self_(), "reductions")
        for _ in range(10):
            send(self_(), "x")
            await receive()
        assert process.info(self_(), "reductions") >= mine + 10

    play(main)


def test_p54_pids_are_listed_in_order_never_reused_and_readable():
    """p54_list_order.exs"""

    async def main():
        assert self_() in process.list()
        pids = [spawn(idle) for _ in range(5)]
        listed = process.list()
        assert listed == sorted(listed)
        assert listed[-5:] == pids
        first = spawn(lambda: None)
        await sleep(0.01)
        second = spawn(lambda: None)
        assert first != second
        assert first < second
        assert re.fullmatch(r"#PID<0\.\d+\.0>", repr(second))
        assert process.pid(repr(self_())) == self_()
        assert process.pid(repr(first)) == first
        assert not process.alive(process.pid(repr(first)))

    play(main)
