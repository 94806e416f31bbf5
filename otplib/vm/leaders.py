"""Group leaders of one machine: to whom the output of each process goes."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, ClassVar

from otplib.core.terms import Pid
from otplib.vm.hooks import Writer
from otplib.vm.process_record import ProcessRecord

if TYPE_CHECKING:
    from otplib.vm.machine import Machine


class Leaders:
    """Who leads whom, and the leaders that are built in: those that have a writer."""

    #: What a built-in leader runs; the floor of behaviours sets it.
    body: ClassVar[Callable[[Writer | None], Any] | None] = None

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        #: The leader that writes to `sys.stdout`; None until something asks for it.
        self.default_pid: Pid | None = None
        #: What built-in leaders write with, by leader: output of this machine's processes needs no message.
        self.writers: dict[Pid, Writer] = {}
        #: Leaders of processes on other nodes; nobody here can tell when they are no longer needed.
        self.abroad: set[Pid] = set()

    def of(self, record: ProcessRecord) -> Pid | None:
        """Give the group leader of a process; a shell's is asked of the host each time."""
        if record.leader is not None:
            return record.leader
        ask = self._machine.hooks.leader_for_shell
        found = ask() if ask is not None else None
        return found if found is not None else self.default()

    def default(self) -> Pid | None:
        """Give the leader that writes to `sys.stdout`, made when it is first needed."""
        machine = self._machine
        if self.default_pid is None and Leaders.body is not None:
            made = self.start(Leaders.body, None)
            with machine.lock:  # two threads may spawn their first process at once
                self.default_pid = self.default_pid or made
            if made != self.default_pid and (second := machine.find(made)) is not None:
                machine.doom(second, "normal")
        return self.default_pid

    def is_built_in(self, leader: Pid | None) -> bool:
        """Tell whether output for this leader is a plain call and not a message."""
        return leader is None or leader is self.default_pid or leader in self.writers

    def start(self, body: Callable[[Writer | None], Any], writer: Writer | None) -> Pid:
        """Make a process without parent or leader that serves output requests."""
        machine = self._machine
        record = ProcessRecord(machine, machine.new_pid(), None, None)
        record.start = (body, (writer,), {})
        record.initial = body
        record.context = Context()
        if writer is not None:
            self.writers[record.pid] = writer
        machine.table[record.pid.id] = record
        machine.enqueue(record)
        return record.pid
