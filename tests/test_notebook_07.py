"""Chapter 07 with another foo than its own, a real `iex` or a second notebook; its exercises; what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from otplib.dist import epmd
from otplib.dist.node_names import full_name
from tests.dist.beam import our_epmd, until
from tests.dist.nodes import needs_elixir
from tests.dist.terminal import Terminal
from tests.jupyter.kernel import Kernel
from tests.regenerate_notebooks import NOTEBOOKS, essence, execute

CHAPTER = nbformat.read(NOTEBOOKS / "07_two_kernels.ipynb", as_version=4)
TEXT = "\n".join(cell.source for cell in CHAPTER.cells if cell.cell_type == "markdown")
PROGRAMS = [cell.source for cell in CHAPTER.cells if cell.cell_type == "code"]
#: What the chapter gives to somebody who has an `iex`, and the solutions of its exercises.
ELIXIR = re.search(r"```elixir\n(defmodule H .*?)```", TEXT, re.DOTALL)[1]
SOLUTIONS = re.findall(r"<summary>Solution</summary>\n\n```python\n(.*?)```", TEXT, re.DOTALL)

#: The only cells that show something else when foo is a BEAM: IO.puts gives :ok, atoms are atoms, functions stay here.
ON_A_BEAM = {
    'await rpc.call(foo, "H.say")': {"stdout": ["Hello World\n"], "text/plain": [":ok"]},
    'await rpc.call(foo, "H.where")': {"text/plain": ["(:foo@HOST, #PID<...>)"]},
    'pid, ref = await node.spawn_monitor(foo, "H.echo")': {
        "text/plain": [
            "Down(tag='DOWN', ref=#Reference<...>, type='process', pid=#PID<...>, reason=:killed)"  # not 'killed'
        ]
    },
    'greeting = "Good morning"': {
        "stdout": [
            (
                "skipped: cannot send message[3][0] to another node: a function; other Python objects than plain terms "
                "travel between Python nodes alone\n"
            )
        ]
    },
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user who has never had a node: no cookie, and an epmd port on which nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ERL_EPMD_PORT", str(port))
    for variable in ("XDG_CONFIG_HOME", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@contextlib.contextmanager
def iex_foo() -> Iterator[Terminal]:
    """`iex --sname foo` into which somebody has pasted what the chapter says."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["iex", "--sname", "foo", "--erl", "-start_epmd false"],
        env={**os.environ, "TERM": "xterm"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        assert terminal.shows(")1>"), terminal.text
        for line in ELIXIR.splitlines():
            terminal.type(line)
        assert terminal.shows("{:ok, #PID<"), terminal.text
        yield terminal
    finally:
        terminal.close()


@needs_elixir
def test_the_cells_work_unchanged_and_show_the_same_when_foo_is_a_real_iex(home, monkeypatch):
    with our_epmd() as port:
        monkeypatch.setenv("ERL_EPMD_PORT", str(port))
        with iex_foo() as foo:
            fresh = execute(CHAPTER, NOTEBOOKS, ERL_EPMD_PORT=str(port))
            assert until(lambda: foo.process.poll() == 1), "H.halt has not ended it"
            assert "Hello World\n" not in foo.text  # it stood in the notebook
    for stored, now in zip(CHAPTER.cells, fresh.cells, strict=True):
        if stored.cell_type == "code":
            expected = ON_A_BEAM.get(stored.source.splitlines()[0]) or essence(stored.outputs)
            assert essence(now.outputs) == expected, stored.source
    cookie = (home / ".erlang.cookie").read_text(encoding="utf-8").strip()
    assert cookie
    assert cookie not in nbformat.writes(fresh)


def index_of(beginning: str) -> int:
    """The number of the code cell that begins so."""
    return next(number for number, source in enumerate(PROGRAMS) if source.startswith(beginning))


def run_up_to(kernel: Kernel, beginning: str) -> None:
    """Run the chapter's first cells, up to and with the one that begins so."""
    for source in PROGRAMS[: index_of(beginning) + 1]:
        kernel.run(source).check()


def foo_source() -> str:
    """The lines between the quotes, as a learner copies them."""
    return re.fullmatch(r'foo_cell = """(.*)"""', PROGRAMS[index_of("foo_cell")], re.DOTALL)[1]


def test_two_notebooks_side_by_side_find_each_other_by_name_with_no_setup(home):
    with Kernel() as second, Kernel() as first:
        second.run(foo_source()).check()
        run_up_to(first, "from subprocess")
        assert first.value("kernels") == "[]"  # it has found a foo, and started none
        said = first.run(PROGRAMS[index_of("pid = await node.spawn_link")]).check()
        assert said.stdout == "Hello World\n"
        assert first.value('await rpc.call(foo, "os.getpid")') == second.value("os.getpid()")
        assert second.value("node.list()") == repr([full_name("bar")])
        assert all("Hello" not in cell.stdout for cell in second.cells.values())
    assert stat.S_IMODE((home / ".erlang.cookie").stat().st_mode) & 0o077 == 0


def ended(pid: int) -> bool:
    """Whether a process of the operating system is gone, or waits for nothing but its parent's attention."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def test_a_foo_that_the_notebook_has_started_ends_with_the_notebook(home):
    with Kernel() as notebook:
        run_up_to(notebook, "from subprocess")
        own = int(notebook.value("__import__('os').getpid()"))
        foo = int(notebook.value('await rpc.call(foo, "os.getpid")'))
        assert own != foo
        assert not ended(foo)
        os.kill(own, signal.SIGKILL)
        assert until(lambda: ended(foo)), "foo has survived"


def test_the_last_cell_leaves_no_kernel_and_no_name(home):
    with Kernel() as notebook:
        run_up_to(notebook, "from subprocess")
        foo = int(notebook.value('await rpc.call(foo, "os.getpid")'))
        assert notebook.run(PROGRAMS[-1]).check().result == "'nonode@nohost'"
        assert ended(foo)
        assert until(lambda: not epmd.answers(timeout=1.0)), "an epmd of ours has stayed"


WRONG = [
    ("1", "async def next_number(where):\n    return 1", "two calls give a number and the next one; you gave 1, 1"),
    (
        "1",
        'async def next_number(where):\n    return await GenServer.call(("counter", where), "next")',
        "catch Exit and return None",
    ),
    ("1", "numbers = iter(range(9))\nasync def next_number(where):\n    return next(numbers)", "no node nobody, yet"),
    ("2", "async def echo_all(texts):\n    return texts[::-1]", "in that order, and gives ['three', 'two', 'one']"),
    (
        "2",
        (
            'async def echo_all(texts):\n    pid, ref = await node.spawn_monitor(foo, "H.echo")\n'
            '    send(pid, (self_(), "x"))\n    await receive(Down)\n    return texts'
        ),
        "'x') is still in the mailbox",
    ),
    ("3", "def watch(where):\n    return spawn(receive)", "Does it call node.monitor?"),
    ("3", "def watch(where):\n    return spawn(node.monitor, where)", "your process has ended and has not sent"),
]
CHECKS = {"1": "await check_next_number()", "2": "await check_echo_all()", "3": "await check_watch()"}


def test_the_checks_accept_the_solutions_and_say_what_is_wrong_with_others(home):
    with Kernel() as notebook:
        run_up_to(notebook, "from subprocess")
        notebook.run(PROGRAMS[index_of("def verdict")]).check()
        for solution, check in zip(SOLUTIONS, CHECKS.values(), strict=True):
            assert notebook.run(f"{solution}\n{check}").check().stdout == "Right.\n", solution
        for exercise, source, complaint in WRONG:
            said = notebook.run(f"{source}\n{CHECKS[exercise]}").check().stdout
            assert said.startswith("Not yet: "), source
            assert complaint in said
