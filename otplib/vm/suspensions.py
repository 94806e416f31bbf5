"""Who has suspended whom. As on the BEAM, a suspension ends with whoever made it, and they alone can lift it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otplib.core.terms import Pid
from otplib.vm.process_record import ProcessRecord, Status

if TYPE_CHECKING:
    from otplib.vm.machine import Machine


class Suspensions:
    """The suspensions of one machine. Guarded by the machine's lock."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        #: How often somebody has suspended somebody; no entry without a suspension.
        self.held: dict[ProcessRecord, dict[ProcessRecord, int]] = {}

    def add(self, holder: ProcessRecord, record: ProcessRecord) -> None:
        """Let a process run no more, once the step it may be in is over."""
        with self._machine.lock:
            if record.state is Status.DEAD:
                return
            held = self.held.setdefault(holder, {})
            held[record] = held.get(record, 0) + 1
            record.suspended += 1
            record.pending = True

    def lift(self, holder: ProcessRecord, record: ProcessRecord) -> bool:
        """Undo one suspension by this holder; False if there is none."""
        with self._machine.lock:
            held = self.held.get(holder)
            if held is None or record not in held:
                return False
            held[record] -= 1
            if not held[record]:
                del held[record]
            if not held:
                del self.held[holder]
        self._take_off(record, 1)
        return True

    def of(self, holder: ProcessRecord) -> list[tuple[Pid, int]]:
        """Give whom a process has suspended, and how often."""
        with self._machine.lock:
            return [(record.pid, times) for record, times in self.held.get(holder, {}).items()]

    def release(self, dead: ProcessRecord) -> None:
        """Undo what a process that has ended had suspended, and forget it among the suspended. Without the lock."""
        if not self.held:
            return
        with self._machine.lock:
            if dead.suspended:
                for held in self.held.values():
                    held.pop(dead, None)
            released = self.held.pop(dead, {})
        for record, times in released.items():
            self._take_off(record, times)

    def _take_off(self, record: ProcessRecord, times: int) -> None:
        """The last one makes the process runnable again, if it had come to its turn."""
        with self._machine.lock:
            record.suspended -= times
            if record.suspended or record.state is not Status.SUSPENDED:
                return
            record.state = Status.RUNNABLE
        self._machine.enqueue(record)
