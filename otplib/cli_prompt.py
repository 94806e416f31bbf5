"""The prompt of `otplib node NAME`: a terminal that is a node, as `iex --sname NAME` is one.

What is typed runs in the shell process of this thread: `self_()` is the same on every line, `await` works at the top,
and what is defined can be called by other nodes, as "H.say". IPython reads and shows where it is installed, else
Python's own console, on an asyncio loop.
"""

from __future__ import annotations

import ast
import asyncio
import code
import contextlib
import inspect
import os
import sys
import types
from collections.abc import Awaitable
from importlib import metadata, util
from pathlib import Path
from typing import Any, Final

from otplib.core.errors import Exit
from otplib.core.reasons import format_exit
from otplib.core.terms import NO_NODE, Pid
from otplib.jupyter.output import shell_death, user_part
from otplib.node import self_ as this_node
from otplib.process import self_
from otplib.vm.machine import default_machine
from otplib.vm.output import install_output
from otplib.vm.shell import adopt_task

#: How long the end of a line waits for the machine, seconds, as the end of a cell does.
SETTLE_SECONDS: Final = 0.2

#: What is there without an import.
_BEGIN: Final = "from otplib import *\nfrom otplib import erpc, node, process, rpc"


def open_prompt(*, plain: bool = False) -> None:
    """Read, run and show until the end of the input, or `exit`.

    Args:
        plain: Python's own console, also where IPython is installed.
    """
    banner = make_banner(this_node())
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal and not plain and util.find_spec("IPython") is not None:
        _open_ipython(banner)
    else:
        _Console().interact(banner, "")


def make_banner(node: str) -> str:
    """What a prompt says first.

    Example:
        >>> print(make_banner("foo@vm"))  # doctest: +ELLIPSIS
        otplib ... on Python ..., node foo@vm. Ctrl-D ends it.
        <BLANKLINE>
        await node.connect("bar@vm"), node.list(), await node.spawn_link("bar@vm", "H.say"), await receive(timeout=1)
        <BLANKLINE>
    """
    try:
        version = metadata.version("otplib")
    except metadata.PackageNotFoundError:
        version = "(a checkout)"
    other = f"bar@{node.partition('@')[2]}"
    return (
        f"otplib {version} on Python {'.'.join(map(str, sys.version_info[:3]))}, node {node}. Ctrl-D ends it.\n\n"
        f'await node.connect("{other}"), node.list(), await node.spawn_link("{other}", "H.say"), '
        f"await receive(timeout=1)\n"
    )


def make_prompt(count: int) -> str:
    """What stands before the line of that number; the name of the node, while this is one, as in iex.

    Example:
        >>> make_prompt(1)
        'otplib 1> '
    """
    node = this_node()
    return f"otplib {count}> " if node == NO_NODE else f"otplib({node}) {count}> "


# ---- IPython ------------------------------------------------------------------------------------------------------


def _open_ipython(banner: str) -> None:
    from IPython.terminal.interactiveshell import TerminalInteractiveShell
    from IPython.terminal.ipapp import TerminalIPythonApp
    from IPython.terminal.prompts import Prompts, Token
    from traitlets.config import Config

    from otplib.jupyter import bridge

    class NodePrompts(Prompts):  # type: ignore[misc]  # IPython has no types here
        def in_prompt_tokens(self) -> list[tuple[Any, str]]:
            # prompt_toolkit has just put its own stream in the place of stdout: what a process of another node's prints
            # must not go there, but to its group leader.
            install_output()
            return [(Token.Prompt, make_prompt(self.shell.execution_count))]

        def continuation_prompt_tokens(self, width: int | None = None, **_: Any) -> list[tuple[Any, str]]:
            return [(Token.Prompt, "...> ".rjust(width or 0))]

        def out_prompt_tokens(self) -> list[tuple[Any, str]]:
            return []

    config = Config()
    config.TerminalInteractiveShell.prompts_class = NodePrompts
    config.TerminalInteractiveShell.banner1 = banner
    config.TerminalInteractiveShell.confirm_exit = False
    config.TerminalInteractiveShell.term_title = False
    if hasattr(TerminalInteractiveShell, "enable_tip"):
        config.TerminalInteractiveShell.enable_tip = False
    config.InteractiveShellApp.exec_lines = _BEGIN.splitlines()
    app = TerminalIPythonApp.instance(config=config)
    app.initialize([])
    bridge.install(app.shell)
    app.start()


# ---- without it ---------------------------------------------------------------------------------------------------


class _Console(code.InteractiveConsole):
    """Python's console, with `await` at the top and the texts of exits."""

    def __init__(self) -> None:
        with contextlib.suppress(ImportError):  # Windows
            import readline  # noqa: F401  # from here on input() lets one edit the line
        # Where names such as "H.say" are looked up.
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        super().__init__(vars(main))
        exec(_BEGIN, vars(main))
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._count = 1
        self._runner = asyncio.Runner()  # one loop for all lines: tasks go on from one to the next while it runs
        sys.ps1 = _Prompt(self)
        sys.ps2 = "...> "
        default_machine().hooks.shell_died = self._report_death
        self_()  # from here on there is a shell, also for others to see

    @property
    def count(self) -> int:
        return self._count

    def interact(self, banner: str | None = None, exitmsg: str | None = None) -> None:
        with self._runner:
            super().interact(banner, exitmsg)

    def runcode(self, code: types.CodeType) -> None:
        """Run one statement; `await` in it waits here, and Ctrl-C ends the wait."""
        try:
            result = types.FunctionType(code, self.locals)()
            if inspect.iscoroutine(result):
                self._runner.run(_as_shell(result))
        except SystemExit:
            raise
        except KeyboardInterrupt:
            self._say("\nKeyboardInterrupt")
        except Exit as error:
            died, reason = error.shell, error.reason
            self._say(f"** (exit) {format_exit(reason)}" if died is None else shell_death(died, reason))
        except Exception as error:
            error.with_traceback(user_part(error.__traceback__, _is_user_file))
            self.showtraceback()
        finally:
            self._count += 1
            default_machine().settle(SETTLE_SECONDS)  # what short-lived processes print stands before the next prompt

    def _report_death(self, pid: Pid, reason: Any) -> None:
        self._say(shell_death(pid, reason))

    def _say(self, text: str) -> None:
        self.write(text + "\n")


class _Prompt:
    """What Python asks for the text before each line."""

    def __init__(self, console: _Console) -> None:
        self._console = console

    def __str__(self) -> str:
        return make_prompt(self._console.count)


async def _as_shell(cell: Awaitable[Any]) -> Any:
    task = asyncio.current_task()
    assert task is not None
    adopt_task(task)
    return await cell


_MACHINERY: Final = (str(Path(__file__).parent) + os.sep, str(Path(asyncio.__file__).parent) + os.sep)


def _is_user_file(filename: str) -> bool:
    return not filename.startswith(_MACHINERY)
