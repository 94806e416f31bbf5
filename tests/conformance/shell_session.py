"""A shell that reads a transcript as iex shows it: each `>>>` line is run, and what it showed stands below it.

Everything is real: a machine with threads, the shell process of this thread, its death by a link, the log. Only the
presentation is made stable: pids are numbered in the order in which they are first seen, and what a line made others
print or log stands before its own result, since on the BEAM too the two come in either order (golden 03 has both).
"""

import ast
import inspect
import io
import logging
import re
from contextlib import redirect_stdout
from pathlib import Path

from otplib import Exit, process, self_
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
        self._death = ""
        machine.hooks.shell_died = self._note_death
        machine.hooks.describe_file = lambda filename: Path(filename).name

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
        self._death = ""
        try:
            result = show_value(self._evaluate(source))
        except Exit as end:
            # The shell's own end if it is dead, else one that a call raised in it.
            self._death = self._death or shell_death(me, end.reason) + "\n"
            result = f"** (exit) {format_exit(end.reason)}\n"
        except Exception as error:
            result = format_banner(error) + "\n"
        assert self.machine.settle(5), "the machine does not come to rest"
        # Of a line in which the shell died nothing is shown but that, as in iex: whoever ran it is gone.
        self.shown.write(result if self_() == me else self._death)

    def _note_death(self, pid, reason) -> None:
        """The hook: a shell has died while no code of it waited."""
        self._death = shell_death(pid, reason) + "\n"

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


def show_value(value) -> str:
    """What the shell shows of a result: nothing of None; a map in order of its keys and a long list with a line for
    each item, as iex does."""
    if value is None:
        return ""
    if isinstance(value, dict):
        value = dict(sorted(value.items()))
    text = inspect_term(value)
    if isinstance(value, list) and len(text) > 100:
        text = "[\n  " + ",\n  ".join(inspect_term(item) for item in value) + "\n]"
    return text + "\n"
