"""Where output of processes goes in a notebook, and how an exit reads there.

ipykernel keeps the *parent* of output, the request of the cell it belongs to, in context variables. A process runs on
our threads in a context of its own, so its parent is set explicitly around each write, on the thread that writes;
ipykernel means to stop honouring a parent that a context merely inherited (ipykernel#1559).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from otplib.core.errors import Exit
from otplib.core.inspection import inspect_term
from otplib.core.reasons import StackEntry, format_exit, stack_of
from otplib.vm.context import running_record
from otplib.vm.output import write_plain
from otplib.vm.transport import is_far

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otplib.core.terms import Pid
    from otplib.vm.machine import Machine

#: The parent of output: the request message that ipykernel answers. Ours only to hand back.
Parent = dict[str, Any]

_RED: Final = "\x1b[0;31m"
_PLAIN: Final = "\x1b[0m"


class CellWriter:
    """Puts text into the output of one execution of one cell, whatever cell runs by then."""

    def __init__(self, streams: Streams, parent: Parent) -> None:
        self.streams = streams
        self.parent = parent

    def write(self, stream: str, text: str) -> None:
        """Write to `"stdout"` or `"stderr"` of the cell."""
        self.streams.write(stream, text, self.parent)


class Streams:
    """The kernel's two output streams."""

    def __init__(self, stdout: Any, stderr: Any) -> None:
        self._streams = {"stdout": stdout, "stderr": stderr}
        self._latest = "stdout"

    def write(self, stream: str, text: str, parent: Parent) -> None:
        """Write text that belongs to the cell of `parent`. Safe on any thread.

        The kernel gathers each stream apart. So that a crash report stands after what was printed before it, the
        other stream is flushed when the stream changes.
        """
        if stream != self._latest:
            latest, self._latest = self._latest, stream
            self._streams[latest].flush()
        target = self._streams[stream]
        token = target.set_thread_parent(parent)
        try:
            target.write(text)
        except ValueError:
            if not target.closed:  # a closed one is the kernel's end: there is no browser to write to any more
                raise
        finally:
            target.reset_thread_parent(token)

    def flush(self) -> None:
        """See to it that all that was written is on its way to the browser."""
        for stream in self._streams.values():
            stream.flush()


def parent_of(machine: Machine, leader: Pid | None) -> Parent | None:
    """Give the cell a group leader writes to. A leader of the user's own stands for the cell of its own leader."""
    seen: set[Pid] = set()
    while leader is not None and leader not in seen:
        seen.add(leader)
        writer = machine.leaders.writers.get(leader)
        if writer is not None:
            parent: Parent | None = getattr(writer, "parent", None)
            return parent
        record = machine.table.get(leader.id) if not is_far(leader) else None
        leader = record.leader if record is not None else None
    return None


class DisplayRouter:
    """Sends what a process displays to the cell of its group leader; ordinary code's goes as ever.

    It covers two methods of IPython's publisher, through which `display`, `update_display`, figures and widgets pass.
    """

    def __init__(self, publisher: Any, streams: Streams) -> None:
        self.publisher = publisher
        self.streams = streams
        self._publish = publisher.publish
        self._clear_output = publisher.clear_output
        publisher.publish = self.publish
        publisher.clear_output = self.clear_output

    def publish(self, *args: Any, **kwargs: Any) -> Any:
        """Publish as the kernel does, for the right cell."""
        with self._right_parent():
            return self._publish(*args, **kwargs)

    def clear_output(self, *args: Any, **kwargs: Any) -> Any:
        """Clear the output of the right cell."""
        with self._right_parent():
            return self._clear_output(*args, **kwargs)

    @contextmanager
    def _right_parent(self) -> Iterator[None]:
        record = running_record()
        parent = parent_of(record.machine, record.leader) if record is not None else None
        if parent is None:
            yield
            return
        # What was printed before must stand before it: the unfinished line goes to the kernel, then all to the browser.
        sys.stdout.flush()
        sys.stderr.flush()
        self.streams.flush()
        token = self.publisher.set_thread_parent(parent)
        try:
            yield
        finally:
            self.publisher.reset_thread_parent(token)

    def remove(self) -> None:
        """Give the publisher its own methods back."""
        for name in ("publish", "clear_output"):
            self.publisher.__dict__.pop(name, None)


class ReportHandler(logging.Handler):
    """Shows reports of the logger `otplib` as iex does, as long as nobody has set up logging.

    It stands in for `logging.lastResort`: once any other handler is there, that one has the word. No time is shown, so
    a notebook that is run again gives the same output.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one report to standard error, for a process that of its cell."""
        if _has_other_handler(logging.getLogger(record.name), self):
            return
        try:
            text = f"[{record.levelname.lower()}] {record.getMessage()}\n\n"
            try:
                sys.stderr.write(text)
                sys.stderr.flush()
            except OSError:  # the leader is dead: then to the cell that runs now
                write_plain("stderr", text)
        except Exception:  # a report that cannot be written must not end the process that it is about
            self.handleError(record)


def _has_other_handler(logger: logging.Logger | None, own: logging.Handler) -> bool:
    while logger is not None:
        if any(handler is not own and not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def exit_lines(error: Exit, describe_file: Callable[[str], str], is_user_file: Callable[[str], bool]) -> list[str]:
    """Give what a cell shows for an `Exit`: Elixir's words, then the user's own lines, innermost first."""
    text = f"** (exit) {format_exit(error.reason)}" if error.shell is None else shell_death(error.shell, error.reason)
    lines = text.split("\n")
    shown = [f"{_RED}{lines[0]}", *lines[1:]]
    shown[-1] += _PLAIN
    entries = stack_of(user_part(error.__traceback__, is_user_file), describe_file)
    return ["\n".join([*shown, *(f"    {entry}" for entry in merge_repeats(entries))])]


def merge_repeats(entries: tuple[StackEntry, ...]) -> list[str]:
    """Give the lines of a trace; a line that a recursion repeats stands once, with its number."""
    lines: list[tuple[str, int]] = []
    for entry in entries:
        text = str(entry)
        if lines and lines[-1][0] == text:
            lines[-1] = (text, lines[-1][1] + 1)
        else:
            lines.append((text, 1))
    return [text if count == 1 else f"{text} ({count} times)" for text, count in lines]


def user_part(trace: TracebackType | None, is_user_file: Callable[[str], bool]) -> TracebackType | None:
    """Give a traceback without the frames of IPython, asyncio and otplib."""
    steps = []
    while trace is not None:
        if is_user_file(trace.tb_frame.f_code.co_filename):
            steps.append(trace)
        trace = trace.tb_next
    kept: TracebackType | None = None
    for step in reversed(steps):
        kept = TracebackType(kept, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return kept


def shell_death(pid: Pid, reason: Any) -> str:
    """Give iex's line for a shell process that a signal has ended.

    Example:
        >>> print(shell_death("#PID<0.1.0>", "boom"))
        ** (EXIT from #PID<0.1.0>) shell process exited with reason: "boom"
    """
    shown = pid if isinstance(pid, str) else inspect_term(pid)
    return f"** (EXIT from {shown}) shell process exited with reason: {format_exit(reason)}"
