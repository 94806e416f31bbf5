"""Start, restart, reload and end of a kernel with otplib in it: nothing is doubled, nothing stays behind."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from tests.jupyter.kernel import PRELUDE, ROOT, Kernel

HOGS = """
import atexit, os, pathlib
atexit.register(pathlib.Path(MARK).write_text, "ended by itself")
def busy():
    while True:
        pass
async def tidy():
    try:
        await receive("nothing")
    finally:
        pathlib.Path(MARK + ".tidy").write_text("closed")
for _ in range(3):
    spawn(busy)
spawn(time.sleep, 60)
for _ in range(1000):
    spawn(sleep, 60)
spawn(tidy)
os.getpid()
"""

CARRIERS = "sorted(t.name for t in threading.enumerate() if t.name.startswith('otplib'))"


def is_alive(pid: int) -> bool:
    """Tell whether an operating system process is there and no mere zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_importing_otplib_starts_no_thread() -> None:
    with Kernel() as kernel:
        kernel.run("import threading\nbefore = set(threading.enumerate())\nimport otplib").check()
        assert kernel.value("set(threading.enumerate()) - before") == "set()"
        kernel.run("otplib.spawn(print, 'now')").check()
        assert kernel.value(CARRIERS) != "[]"


def test_the_first_cell_belongs_to_the_same_shell_as_all_later_ones() -> None:
    with Kernel() as kernel:
        kernel.run("import otplib\nawait otplib.sleep(0)\nme = otplib.self_()\notplib.send(me, 'kept')").check()
        assert kernel.value("otplib.self_() == me, await otplib.receive(timeout=0)") == "(True, 'kept')"


def test_a_kernel_with_hogs_shuts_down_by_itself_in_about_a_second(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with Kernel() as kernel:
        kernel.run(PRELUDE).check()
        pid = int(kernel.run(HOGS.replace("MARK", repr(str(mark)))).check().result)
        began = time.monotonic()
        kernel.manager.shutdown_kernel()
        taken = time.monotonic() - began
        assert not is_alive(pid)
    assert mark.read_text() == "ended by itself"
    assert Path(f"{mark}.tidy").read_text() == "closed"
    assert taken < 4, taken


def test_a_restart_leaves_nothing_of_the_old_life(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with Kernel() as kernel:
        kernel.run(PRELUDE).check()
        kernel.run("pid = spawn(sleep, 60); process.register(pid, 'keeper')").check()
        old = int(kernel.run(HOGS.replace("MARK", repr(str(mark)))).check().result)
        kernel.restart()
        assert not is_alive(old)
        assert mark.read_text() == "ended by itself"
        kernel.run(PRELUDE).check()
        assert kernel.value("process.whereis('keeper') is None") == "True"
        assert int(kernel.value("len(process.list())")) <= 3
        assert kernel.run("spawn(print, 'a new life')").check().stdout_in_time == "a new life\n"
        assert int(kernel.value("import os; os.getpid()")) != old


def test_autoreload_keeps_the_machine_and_its_processes(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "otplib", tmp_path / "otplib", ignore=shutil.ignore_patterns("__pycache__"))
    with Kernel(path=tmp_path) as kernel:
        kernel.run("%load_ext autoreload\n%autoreload 2\nimport threading, time").check()
        kernel.run(PRELUDE).check()
        assert str(tmp_path) in kernel.value("otplib.__file__")
        kernel.run("""
        async def keep():
            while True:
                sender = await receive(otplib.Pid)
                print("asked")
                send(sender, "kept")
        keeper = spawn(keep)
        process.register(keeper, "keeper")
        """).check()
        machine = kernel.value("id(__import__('sys').modules['otplib._runtime_state'].runtime.default)")
        for file in (tmp_path / "otplib").rglob("*.py"):
            file.write_text(file.read_text() + "\nRELOADED = True\n")
            later = time.time() + 5
            os.utime(file, (later, later))
        kernel.run("1").check()  # the reload happens before this cell
        kernel.run("import otplib.jupyter.bridge, otplib.vm.machine").check()
        assert (
            kernel.value("otplib.RELOADED and otplib.jupyter.bridge.RELOADED and otplib.vm.machine.RELOADED") == "True"
        )
        assert kernel.value("id(__import__('sys').modules['otplib._runtime_state'].runtime.default)") == machine
        assert kernel.value("process.whereis('keeper') == keeper") == "True"
        assert kernel.value("send(keeper, self_()); await receive('kept', timeout=20)") == "'kept'"
        assert kernel.run("spawn(print, 'still here')").check().stdout_in_time == "still here\n"
        assert kernel.run("raise otplib.Exit('still red')").errors[0]["traceback"].startswith('** (exit) "still red"')
        assert kernel.value(CARRIERS).count("otplib-watchdog") == 1  # each machine that runs has one


def test_importing_otplib_again_connects_it_once() -> None:
    with Kernel() as kernel:
        kernel.run("import importlib, otplib\nfor _ in range(3): importlib.reload(otplib)").check()
        assert kernel.run("otplib.spawn(print, 'once')").check().stdout == "once\n"
        counted = kernel.value(
            "len([c for c in get_ipython().events.callbacks['post_run_cell'] if 'otplib' in c.__module__])"
        )
        assert counted == "1"


def test_leaders_of_cells_that_nobody_uses_any_more_are_let_go() -> None:
    with Kernel() as kernel:
        kernel.run(PRELUDE + "keeper = spawn(sleep, 600)").check()
        kernel.run("leader = process.info(keeper, 'group_leader')").check()
        for _ in range(140):
            kernel.run("spawn(int);").check()
        assert int(kernel.value("len(process.list())")) < 140
        assert kernel.value("process.alive(leader)") == "True"


def test_a_stopped_machine_is_followed_by_a_fresh_one_that_prints_into_cells() -> None:
    with Kernel() as kernel:
        kernel.run(PRELUDE).check()
        kernel.run("spawn(print, 'old')").check()
        kernel.run("__import__('sys').modules['otplib._runtime_state'].runtime.default.stop()").check()
        cell = kernel.run("""
        async def wait():
            await receive()
            print("fresh")
        pid = spawn(wait)
        """).check()
        other = kernel.run("send(pid, 1)").check()
        kernel.until(lambda: cell.stdout == "fresh\n", "the print of the fresh machine")
        assert other.stdout == ""


def test_otplib_works_in_a_plain_ipython_terminal(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = tmp_path / "session.ipy"
    script.write_text(
        "import otplib\n"
        "from otplib import spawn, receive, self_, send\n"
        "me = self_()\n"
        "spawn(print, 'from a process')\n"
        "spawn(send, me, 'hi');\n"
        "await receive('hi', timeout=20), self_() == me\n"
        "raise otplib.Exit('boom')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--colors=nocolor"],
        input=script.read_text(),
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path / "ipython")},
        check=False,
    )
    assert "from a process" in done.stdout, done.stdout + done.stderr
    assert "('hi', True)" in done.stdout
    assert '** (exit) "boom"' in done.stdout + done.stderr
