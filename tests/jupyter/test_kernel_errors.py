"""What a cell shows when an exit or an error of otplib reaches it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.jupyter.kernel import Cell, Kernel

SERVER = """\
def factorial(n):
    return 1 if n == 0 else n * factorial(n - 1)

class Factorial(GenServer):
    def init(self, arg):
        return Ok(arg)
    def handle_call(self, request, caller, state):
        match request:
            case ("factorial", n):
                return Reply(factorial(n), state)
"""


@pytest.fixture(scope="module")
def plain_kernel() -> Iterator[Kernel]:
    """Give a kernel without otplib, to compare with."""
    with Kernel() as started:
        yield started


def number_of(cell: Cell) -> int:
    """Give the `n` of the cell's `In[n]`."""
    [shown] = [m for m in cell.messages if m["msg_type"] == "execute_input"]
    return int(shown["content"]["execution_count"])


def test_a_failed_call_reads_as_elixirs(kernel: Kernel) -> None:
    server = number_of(kernel.run(SERVER).check())
    kernel.run("await Factorial.start(None, name='1');").check()
    cell = kernel.run("await GenServer.call('1', ('factorial', 'hello'))")
    [error] = cell.errors
    assert error["ename"] == "Exit"
    assert error["traceback"].split("\n") == [
        '** (exit) exited in: GenServer.call("1", ("factorial", "hello"), 5.0)',
        "    ** (EXIT) an exception was raised:",
        "        ** (TypeError) unsupported operand type(s) for -: 'str' and 'int'",
        f"            In[{server}]:2: factorial",
        f"            In[{server}]:10: Factorial.handle_call",
        f"    In[{number_of(cell)}]:1: <module>",
    ]
    assert error["evalue"].startswith('exited in: GenServer.call("1", ("factorial", "hello"), 5.0)\n    ** (EXIT) an')


def test_a_call_to_nobody_reads_as_elixirs(kernel: Kernel) -> None:
    cell = kernel.run(
        "def ask():\n    return GenServer.call('nobody', 'hi')\nasync def main():\n    await ask()\nawait main()"
    )
    [error] = cell.errors
    n = number_of(cell)
    assert error["traceback"].split("\n") == [
        '** (exit) exited in: GenServer.call("nobody", "hi", 5.0)',
        (
            "    ** (EXIT) no process: the process is not alive or there's no process currently associated with the "
            "given name, possibly because its application isn't started"
        ),
        f"    In[{n}]:4: main",
        f"    In[{n}]:5: <module>",
    ]


def test_a_call_that_nobody_answers_reads_as_elixirs(kernel: Kernel) -> None:
    kernel.run("""
    class Silent(GenServer):
        def init(self, arg):
            return Ok(arg)
        def handle_call(self, request, caller, state):
            return NoReply(state)
    await Silent.start(None, name='silent')
    """).check()
    [error] = kernel.run("await GenServer.call('silent', 'hi', timeout=0.01)").errors
    assert error["traceback"].split("\n")[:2] == [
        '** (exit) exited in: GenServer.call("silent", "hi", 0.01)',
        "    ** (EXIT) time out",
    ]
    assert error["ename"] == "CallTimeout"


def test_an_exit_of_the_users_own_names_its_line(kernel: Kernel) -> None:
    cell = kernel.run("raise otplib.Exit('boom')")
    [error] = cell.errors
    assert error["traceback"] == f'** (exit) "boom"\n    In[{number_of(cell)}]:1: <module>'


def test_an_exit_out_of_a_deep_recursion_is_shown_in_a_few_lines(kernel: Kernel) -> None:
    cell = kernel.run("def down(n):\n    if n == 0: raise otplib.Exit('deep')\n    down(n - 1)\ndown(900)")
    [error] = cell.errors
    n = number_of(cell)
    assert error["traceback"].split("\n") == [
        '** (exit) "deep"',
        f"    In[{n}]:2: down",
        f"    In[{n}]:3: down (900 times)",
        f"    In[{n}]:4: <module>",
    ]


def test_an_error_of_otplib_is_shown_without_otplibs_insides(kernel: Kernel) -> None:
    cell = kernel.run("send('nobody at all', 1)")
    [error] = cell.errors
    assert error["ename"] == "NoSuchNameError"
    assert "send('nobody at all', 1)" in error["traceback"]
    assert "otplib/" not in error["traceback"]


def test_a_server_that_cannot_start_is_shown_at_the_users_line(kernel: Kernel) -> None:
    kernel.run("class Broken(GenServer):\n    def init(self, arg):\n        return otplib.Stop('no disk')").check()
    [error] = kernel.run("await Broken.start(None)").errors
    assert error["ename"] == "StartError"
    assert "await Broken.start(None)" in error["traceback"]
    assert "otplib/" not in error["traceback"]
    assert '"no disk"' in error["traceback"]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("await receive('nothing', timeout=0.01)", "TimeoutError"),
        ("send(1.5, 'hi')", "TypeError"),
        ("await receive(timeout=-1)", "ValueError"),
    ],
)
def test_a_built_in_error_that_otplib_raises_is_shown_at_the_users_line(kernel: Kernel, code: str, name: str) -> None:
    [error] = kernel.run(code).errors
    assert error["ename"] == name
    assert f"----> 1 {code}" in error["traceback"]
    assert "otplib/" not in error["traceback"]


@pytest.mark.parametrize(
    "code", ["1 / 0", "1 + 'one'", "int('one')", "raise TimeoutError('mine')", "x = = 1", "1 in 2"]
)
def test_other_exceptions_are_shown_as_ever(kernel: Kernel, plain_kernel: Kernel, code: str) -> None:
    shown = kernel.run(code).errors
    expected = plain_kernel.run(code).errors
    for one in (*shown, *expected):
        one["traceback"] = re.sub(r"In\[\d+\]", "In[N]", one["traceback"])
    assert shown == expected != []


def test_an_error_of_the_users_own_below_otplib_shows_the_way_it_took(kernel: Kernel) -> None:
    cell = kernel.run("""
    def bad(*_):
        raise ValueError("mine")
    class Ugly:
        __deepcopy__ = bad
    send(self_(), Ugly())
    """)
    [error] = cell.errors
    assert "mine" in error["traceback"]
    assert "send(self_(), Ugly())" in error["traceback"]


def test_the_death_of_the_shell_is_told_in_the_cell_that_runs(kernel: Kernel) -> None:
    kernel.run(
        "async def fail():\n    await receive('go')\n    raise ValueError('bad')\npid = spawn_link(fail)"
    ).check()
    before = kernel.value("self_()")
    cell = kernel.run("send(pid, 'go');")
    shell = f"** (EXIT from {before}) shell process exited with reason: an exception was raised:\n"
    kernel.until(lambda: shell in cell.stderr, "the notice")
    assert "** (ValueError) bad" in cell.stderr
    assert kernel.value("self_()") != before


def test_a_wait_that_the_death_of_the_shell_ends_shows_the_reason(kernel: Kernel) -> None:
    cell = kernel.run("spawn_link(lambda: process.exit(self_(), 'boom'))\nawait receive('nothing')")
    [error] = cell.errors
    assert re.match(r'\*\* \(EXIT from #PID<0\.\d+\.0>\) shell process exited with reason: "boom"', error["traceback"])


def test_the_debugger_and_tb_magic_still_know_the_last_error(kernel: Kernel) -> None:
    kernel.run("raise otplib.Exit('remembered')")
    cell = kernel.run("%tb").check()
    assert '"remembered"' in str(cell.stdout + "".join(e["traceback"] for e in cell.errors))
