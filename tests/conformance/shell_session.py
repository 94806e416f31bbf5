"""A shell that reads a transcript as iex shows it: each `>>>` line is run, and what it showed stands below it.

Everything is real: a machine with threads, the shell process of this thread, its death by a link, the log. Only the
presentation is made stable: pids are numbered in the order in which they are first seen, and what a line made others
print or log stands before its own result, since on the BEAM too the two may come in either order (golden 03 shows both).
"""

import ast
import inspect
import io
import logging
import re
import sys
import threading
from contextlib import redirect_stdout

from otplib import Exit, OtplibError, process, self_
from otplib.core.inspection import inspect_term
from otplib.core.reasons import format_banner, format_exit
from otplib.jupyter.output import shell_death
from otplib.vm.machine import Machine


class Session:
    """One iex: `show(transcript)` runs the lines of a transcript and gives it back as it came out."""

    def __init__(self, machine: Machine, program: dict) -> None:
        self.machine = machine
        self.names = dict(program)
        self.shown = io.StringIO()
        self._died = threading.Event()
        machine.hooks.shell_died = self._note_death

    def show(self, transcript: str) -> str:
        handler = _Log(self.shown)
        log = logging.getLogger("otplib")
        log.addHandler(handler)
        log.propagate = False
        try:
            with redirect_stdout(self.shown):
                for line in _lines_of(transcript):
                    self.shown.write("".join(f"{'...' if n else '>>>'} {part}\n" for n, part in enumerate(line)))
                    self._run("\n".join(line))
        finally:
            log.removeHandler(handler)
            log.propagate = True
        return number_pids(self.shown.getvalue())

    def _run(self, source: str) -> None:
        me = self_()
        try:
            value = self._evaluate(source)
            result = "" if value is None else inspect_term(value) + "\n"
        except Exit as end:
            # The shell's own end, or one that a call raised in it: the shell's pid tells.
            result = (shell_death(me, end.reason) if self_() != me else f"** (exit) {format_exit(end.reason)}") + "\n"
        except (OtplibError, TypeError, ValueError) as error:
            result = format_banner(error) + "\n"
        if not self.machine.settle(5):
            raise AssertionError("the machine does not come to rest")
        self.shown.write(result)

    def _note_death(self, pid, reason) -> None:
        """The hook for a shell that dies while no code of it waits."""
        self.shown.write(shell_death(pid, reason) + "\n")

    def _evaluate(self, source: str):
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        if tree.body:
            self._execute(compile(tree, "<shell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
        if last is None:
            return None
        expression = ast.Expression(last.value)
        return self._execute(compile(expression, "<shell>", "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))

    def _execute(self, code):
        value = eval(code, self.names)
        return process.drive(value) if code.co_flags & inspect.CO_COROUTINE else value


class _Log(logging.Handler):
    """Writes the log as Elixir's console does, but for the time of day."""

    def __init__(self, stream) -> None:
        super().__init__()
        self.stream = stream

    def emit(self, record) -> None:
        self.stream.write(f"[{record.levelname.lower()}] {record.getMessage()}\n")


def _lines_of(transcript: str) -> list[list[str]]:
    lines: list[list[str]] = []
    for line in transcript.splitlines():
        if line.startswith(">>> "):
            lines.append([line[4:]])
        elif line.startswith("... "):
            lines[-1].append(line[4:])
    return lines


def number_pids(text: str) -> str:
    """`#PID<0.1.0>` is the first pid the text shows, `#PID<0.2.0>` the second, and so on."""
    seen: dict[str, int] = {}
    return re.sub(r"#PID<0\.\d+\.0>", lambda found: f"#PID<0.{seen.setdefault(found[0], len(seen) + 1)}.0>", text)


def play(program: dict, transcript: str) -> None:
    """Run a transcript on a machine of its own and compare all of it."""
    sys.stdout.flush()
    with Machine() as machine:
        shown = Session(machine, program).show(transcript)
    assert shown.splitlines() == number_pids(transcript).strip().splitlines()
