"""`print` in a process goes to its group leader.

`sys.stdout` and `sys.stderr` are wrapped once a machine runs. Text of ordinary code passes through. Text of a process
is gathered to whole lines, so that lines of many processes do not mix (row x21), and goes to the group leader: by a
plain call if it is one of the built-in ones, as an output request if it is a process of the user's.

An unfinished line is written when its process stops for a while, so `print(".", end="")` is seen.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from otplib.core.errors import LeaderError
from otplib.vm.context import running_record, runtime
from otplib.vm.transport import is_far

if TYPE_CHECKING:
    from otplib.vm.machine import Machine
    from otplib.vm.process_record import ProcessRecord


class ProcessStream:
    """Stands for a standard stream; all but the text of processes goes to `wrapped`."""

    def __init__(self, name: str, wrapped: Any) -> None:
        self.stream_name = name
        self.wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def write(self, text: str) -> int:
        """Write as a text file does."""
        record = running_record()
        if record is None:
            written: int = self.wrapped.write(text)
            return written
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        carrier = runtime.local.carrier
        if carrier.wanted:
            carrier.obey()
        partial = carrier.partial
        if partial is None:
            partial = carrier.partial = {}
        gathered = partial.get(self.stream_name, "") + text
        lines, newline, rest = gathered.rpartition("\n")
        if rest:
            partial[self.stream_name] = rest
        else:
            partial.pop(self.stream_name, None)
        if newline:
            write_output(record.machine, record, self.stream_name, lines + newline)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is unfinished."""
        record = running_record()
        if record is None:
            self.wrapped.flush()
            return
        partial = runtime.local.carrier.partial
        rest = partial.pop(self.stream_name, None) if partial else None
        if rest:
            write_output(record.machine, record, self.stream_name, rest)


def install_output() -> None:
    """Wrap the standard streams, unless they are wrapped. Called again whenever ordinary code spawns: pytest and
    others put their own streams in place."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and type(stream).__name__ != ProcessStream.__name__:
            setattr(sys, name, ProcessStream(name, stream))


def write_plain(stream: str, text: str) -> None:
    """Write to the standard stream as ordinary code would."""
    target: Any = getattr(sys, stream)
    if target is None:
        return
    target = getattr(target, "wrapped", target)
    target.write(text)
    target.flush()


def write_output(machine: Machine, record: ProcessRecord, stream: str, text: str) -> None:
    """Hand a process's text to its group leader.

    Raises:
        LeaderError: the leader is dead (row x09).
    """
    leader = record.leader
    writer = machine.leaders.writers.get(leader) if leader is not None else None
    if writer is not None:
        writer.write(stream, text)
        return
    if leader is not None and is_far(leader):
        if not machine.transport.reaches(leader):  # row y16
            raise LeaderError(f"cannot write: the node of {record.pid!r}'s group leader {leader!r} is gone")
        tag = machine.new_output_tag()
        machine.transport.send(record.pid, leader, ("io_request", record.pid, tag, ("put_chars", "unicode", text)))
        return
    target = machine.find(leader) if leader is not None else None
    if leader is None or leader == machine.leaders.default_pid:
        write_plain(stream, text)
    elif target is None:
        raise LeaderError(f"cannot write: the group leader {leader!r} of {record.pid!r} is dead")
    elif target is record:
        raise LeaderError(f"cannot write: {leader!r} is its own group leader, and would wait for itself")
    else:
        tag = machine.new_output_tag()
        machine.deliver(target, ("io_request", record.pid, tag, ("put_chars", "unicode", text)))
