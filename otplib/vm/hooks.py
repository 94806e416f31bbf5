"""What the host of a machine, such as a notebook, may put its own hand to."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

from otplib.core.terms import Pid
from otplib.vm.process_record import ProcessRecord


class Writer(Protocol):
    """Where a built-in group leader puts text: the terminal, a cell, a file."""

    def write(self, stream: str, text: str) -> None:
        """Write `text`, whole lines mostly, to `"stdout"` or `"stderr"`. Called on the printing process's thread."""


class Hooks:
    """What the host of a machine (a notebook, say) may put its own hand to."""

    def __init__(self) -> None:
        #: Gives the name by which people know a source file.
        self.describe_file: Callable[[str], str] = str
        #: Told that a shell process died of a signal while no code of it was waiting.
        self.shell_died: Callable[[Pid, Any], None] | None = None
        #: Gives the group leader of what a shell spawns or prints now.
        self.leader_for_shell: Callable[[], Pid | None] | None = None
        #: Called with each new process and its fresh context.
        self.prepare_context: Callable[[ProcessRecord, Context], None] | None = None
