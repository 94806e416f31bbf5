"""From import to the interpreter's end: what starts, what stops, and what a fork or a reload leaves."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path

import pytest

from otplib import Machine, MachineError, process, receive, run, self_, send, spawn

DEADLINE = 30.0


def run_script(source: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run a script of its own interpreter, warnings as errors."""
    program = "from otplib import *\nfrom otplib import process\nimport os, sys, threading, time\n" + textwrap.dedent(
        source
    )
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=timeout, check=False
    )


def said(source: str, timeout: float = 60.0) -> str:
    done = run_script(source, timeout)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# ---- the beginning -------------------------------------------------------------------------------------------------


def test_importing_starts_no_thread_and_the_first_spawn_does():
    assert (
        said(
            """
        before = threading.active_count()
        self_(), make_ref(), process.alive(self_()), process.registered()
        between = threading.active_count()
        spawn(lambda: None)
        print(before, between, threading.active_count() > 1, sys.stdout is sys.__stdout__)
        """
        )
        == "1 1 True False\n"
    )


def test_importing_leaves_the_standard_streams_alone():
    assert said("print(sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__)") == "True True\n"


# ---- the end -------------------------------------------------------------------------------------------------------

TIMED = """
    import atexit
    begin = []
    atexit._run_exitfuncs  # the engine's own handler runs inside
    def mark(): print(f"{time.monotonic() - begin[0]:.3f}", flush=True)
    atexit.register(mark)  # first in, so last out
"""


def seconds_to_end(source: str) -> float:
    done = run_script(textwrap.dedent(TIMED) + textwrap.dedent(source) + "\nbegin.append(time.monotonic())\n")
    assert (done.returncode, done.stderr) == (0, "")
    return float(done.stdout.split()[-1])


@pytest.mark.parametrize(
    "source",
    [
        "spawn(lambda: None)",
        "run(lambda: None)",
        "[spawn(receive) for _ in range(1000)]",
        # Hogs of each kind
        """
def spin():
    while True: pass
for _ in range(3): spawn(spin)
time.sleep(0.1)
""",
        "[spawn(time.sleep, 1000) for _ in range(3)]; time.sleep(0.05)",
        # A process that is blocked on a lent thread, and one on the I/O loop
        """
import asyncio
async def lent(): await process.blocking(time.sleep, 1000)
async def awaiting(): await process.from_asyncio(asyncio.sleep(1000))
spawn(lent); spawn(awaiting); time.sleep(0.1)
""",
    ],
)
def test_the_interpreter_ends_at_once_and_silently_whatever_runs(source):
    assert seconds_to_end(source) < 3.0  # a second by design, and the neighbours' noise


def test_the_interpreter_ends_soon_with_a_hundred_thousand_idle_processes():
    assert seconds_to_end("[spawn(receive) for _ in range(100_000)]; run(lambda: None)") < 3.0


def test_the_finally_blocks_of_idle_processes_run_at_the_end_of_the_interpreter():
    out = said(
        """
        async def tidy():
            try: await receive()
            finally: print("tidied")
        spawn(tidy)
        run(lambda: None)
        """
    )
    assert out == "tidied\n"


def test_an_exception_in_the_script_ends_it_as_ever():
    done = run_script("spawn(receive)\nraise SystemExit(3)")
    assert (done.returncode, done.stderr) == (3, "")


def test_stop_closes_every_process_and_gives_the_threads_back():
    ends = []

    async def tidy(number):
        try:
            await receive()
        finally:
            ends.append(number)

    before = set(threading.enumerate())
    with Machine() as machine:
        for number in range(50):
            spawn(tidy, number)
        run(lambda: None, timeout=DEADLINE)
    assert sorted(ends) == list(range(50))
    for thread in set(threading.enumerate()) - before:
        thread.join(DEADLINE)
    assert set(threading.enumerate()) <= before
    assert not machine.table


def test_stop_can_be_asked_for_twice_and_from_several_threads():
    machine = Machine()
    with machine:
        run(lambda: None, timeout=DEADLINE)
        threads = [threading.Thread(target=machine.stop) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
    assert machine.stopped


def test_a_stopped_machine_is_freed_with_all_that_was_on_it():
    class Cargo:
        pass

    cargo = Cargo()
    seen = weakref.ref(cargo)
    with Machine() as machine:
        spawn(lambda held: receive(), process_held := [cargo])
        run(lambda: None, timeout=DEADLINE)
        process.put("cargo", cargo)
    del cargo, process_held
    watched = weakref.ref(machine)
    del machine
    self_()  # this thread's shell is now that of the default machine
    end = time.monotonic() + DEADLINE
    while (seen() is not None or watched() is not None) and time.monotonic() < end:
        gc.collect()  # its threads may still be on their way out: `stop` waits for them a second at most
    assert seen() is None
    assert watched() is None


# ---- several machines ----------------------------------------------------------------------------------------------


def test_two_machines_live_side_by_side_and_know_nothing_of_each_other():
    with Machine() as one:
        first = spawn(receive)
        process.register(first, "same name")
        with Machine() as two:
            second = spawn(receive)
            process.register(second, "same name")
            assert process.whereis("same name") == second
            assert one.creation != two.creation
            assert run(lambda: 2, timeout=DEADLINE) == 2
        assert two.stopped
        assert process.whereis("same name") == first
        assert process.alive(first)
        assert run(lambda: 1, timeout=DEADLINE) == 1


def test_a_process_speaks_to_its_own_machine_whichever_block_it_was_spawned_in():
    with Machine() as one:

        async def main():
            return process.whereis("here")

        process.register(spawn(receive), "here")
        with Machine():
            assert run(main, timeout=DEADLINE) is None
        assert run(main, timeout=DEADLINE) is not None
        assert not one.stopped


def test_leaving_the_block_of_a_machine_restores_the_one_before():
    usual = self_()
    with Machine():
        assert self_() != usual
    assert self_() == usual


def test_a_stopped_machine_refuses_to_spawn_and_says_so():
    with Machine() as machine:
        run(lambda: None, timeout=DEADLINE)
        machine.stop()
        with pytest.raises(MachineError, match="has been stopped: spawn on another one"):
            spawn(receive)
        with pytest.raises(MachineError, match="has been stopped"):
            run(lambda: None)


def test_the_default_machine_is_made_anew_after_it_was_stopped():
    out = said(
        """
        from otplib.vm.machine import default_machine
        first = default_machine()
        pid = spawn(receive)
        first.stop()
        print(run(lambda: "works again"), default_machine() is first)
        try: send(pid, "hello")
        except MachineError as error: print(error)
        """
    )
    lines = out.splitlines()
    assert lines[0] == "works again False"
    assert "belongs to a machine that has stopped or to another one" in lines[1]


@pytest.mark.parametrize(
    "verb",
    [
        lambda pid: send(pid, "hello"),
        lambda pid: process.link(pid),
        lambda pid: process.monitor(pid),
        lambda pid: process.exit(pid, "kill"),
        lambda pid: process.alive(pid),
        lambda pid: process.info(pid),
        lambda pid: process.register(pid, "name"),
        lambda pid: process.send_after(pid, "late", 1),
        lambda pid: process.suspend(pid),
        lambda pid: process.group_leader(pid),
    ],
)
def test_every_verb_refuses_the_pid_of_a_stopped_machine(verb):
    with Machine():
        stale = spawn(receive)
    with Machine() as machine:
        spawn(receive)
        size = len(machine.table)
        with pytest.raises(MachineError, match=f"{stale!r} belongs to a machine that has stopped.*use the pid of"):
            verb(stale)
        assert len(machine.table) <= size + 1  # the shell of this thread
        assert run(lambda: "whole", timeout=DEADLINE) == "whole"


# ---- fork ----------------------------------------------------------------------------------------------------------

FORK = """
    import warnings
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
    def in_child(work):
        sys.stdout.flush()
        child = os.fork()
        if child:
            begin = time.monotonic()
            status = os.waitpid(child, 0)[1]
            took = time.monotonic() - begin
            print("child ended", os.waitstatus_to_exitcode(status), "soon" if took < 5 else f"after {took:.1f} s")
            return
        work()
        sys.exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(
    "busy",
    [
        "",
        "def spin():\n    while True: pass\nspawn(spin)\ntime.sleep(0.05)",
        "spawn(time.sleep, 1000)\ntime.sleep(0.05)",
    ],
)
def test_a_forked_child_gets_a_fresh_machine_refuses_the_parents_pids_and_ends_cleanly(busy):
    out = said(
        textwrap.dedent(FORK)
        + "\nusual = sys.getswitchinterval()\npid = spawn(receive)\nme = self_()\n"
        + busy
        + textwrap.dedent(
            """
            def work():
                interval = sys.getswitchinterval()  # before anything runs that may be slow and lower it
                print(run(lambda: "child runs"), self_() == me, interval == usual)
                try: send(pid, "x")
                except MachineError as error: print("refused" if "to another one" in str(error) else error)
                async def pong(): send((await receive())[1], "pong")
                async def main():
                    send(spawn(pong), ("ping", self_()))
                    return await receive(timeout=5)
                print(run(main), flush=True)
            in_child(work)
            print(run(lambda: "parent goes on"), process.alive(pid))
            """
        )
    )
    assert out.splitlines() == [
        "child runs False True",
        "refused",
        "pong",
        "child ended 0 soon",
        "parent goes on True",
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_another_thread_holds_the_engines_lock_does_not_hang_the_child():
    out = said(
        textwrap.dedent(FORK)
        + textwrap.dedent(
            """
            from otplib.vm.context import runtime
            from otplib.vm.machine import default_machine
            run(lambda: None)
            machine = default_machine()
            held, free = threading.Event(), threading.Event()
            def hold():
                self_()
                with machine.lock, runtime.lock:
                    held.set(); free.wait(20)
            holder = threading.Thread(target=hold)
            holder.start()
            held.wait()
            def work(): print(run(lambda: "child runs"), flush=True)
            in_child(work)
            free.set(); holder.join()
            """
        )
    )
    assert out.splitlines() == ["child runs", "child ended 0 soon"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_parents_processes_end_in_the_parent_alone():
    """Their `finally` blocks close its sockets and delete its files: a child that ends must not run them."""
    out = said(
        textwrap.dedent(FORK)
        + textwrap.dedent(
            """
            async def tidy():
                try: await receive()
                finally: os.write(1, b"tidied in " + (b"parent" if os.getpid() == parent else b"child") + b"\\n")
            parent = os.getpid()
            spawn(tidy)
            run(lambda: None)
            import gc
            in_child(gc.collect)
            """
        )
    )
    assert sorted(out.splitlines()) == ["child ended 0 soon", "tidied in parent"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_multiprocessing_by_fork_works_beside_a_running_machine():
    assert (
        said(
            """
        import multiprocessing, warnings
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
        def work(queue): queue.put(run(lambda: "from the child"))
        run(lambda: None)
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=work, args=(queue,))
        child.start()
        print(queue.get(timeout=20))
        child.join(20)
        print(child.exitcode)
        """
        )
        == "from the child\n0\n"
    )


# ---- reload --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module", ["otplib", "otplib.process", "otplib.vm.context", "otplib.vm.machine", "otplib.behaviours.gen_server"]
)
def test_reloading_a_module_keeps_the_machine_and_its_processes(module):
    assert (
        said(
            f"""
        import importlib
        pid = spawn(receive)
        process.register(pid, "survivor")
        importlib.reload(importlib.import_module("{module}"))
        import otplib
        watchdogs = [thread for thread in threading.enumerate() if thread.name == "otplib-watchdog"]  # one a machine
        print(process.whereis("survivor") == pid, otplib.run(lambda: "runs"), len(watchdogs))
        """
        )
        == "True runs 1\n"
    )


# ---- idle ----------------------------------------------------------------------------------------------------------

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")

IDLE = """
    from pathlib import Path
    def wakes():
        total = {}
        for task in Path("/proc/self/task").iterdir():
            if int(task.name) == threading.get_native_id(): continue
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"): total[task.name] = int(line.split()[1])
        return total
    def measure():
        time.sleep(0.3)  # the watchdog calms down
        before = wakes()
        time.sleep(1.0)
        after = wakes()
        print(len(after), sum(after.values()) - sum(before.values()))
"""


@needs_proc
@pytest.mark.parametrize(
    "prepare",
    [
        "[spawn(receive) for _ in range(1000)]",
        "spawn(sleep, 1000)",
        "spawn(lambda: time.sleep(0.05))",  # a hand-off has happened
        "run(process.blocking, len, ())",
        "import asyncio; run(lambda: process.from_asyncio(asyncio.sleep(0)))",
        "[process.send_after(self_(), 1, 1000) for _ in range(10)]",
    ],
)
def test_an_idle_machine_wakes_no_thread(prepare):
    threads, woken = map(int, said(textwrap.dedent(IDLE) + prepare + "\nrun(lambda: None)\nmeasure()").split())
    assert threads >= 2
    assert woken <= 2


@needs_proc
def test_a_script_that_waits_for_a_message_wakes_no_other_thread():
    out = said(
        textwrap.dedent(IDLE)
        + textwrap.dedent(
            """
            run(lambda: None)
            def wait():
                try: process.drive(receive())
                except Exit as end: assert end.reason == "shutdown"
            waiter = threading.Thread(target=wait, daemon=True)
            spawn(receive)
            waiter.start()
            measure()
            """
        )
    )
    _, woken = map(int, out.split())
    assert woken <= 15  # the waiter itself looks up ten times a second, for Ctrl-C's sake
