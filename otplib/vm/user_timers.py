"""The timers that people set by `send_after` and `start_timer`, known by their references.

A timer for a pid ends with the process, as on the BEAM: else a thousand short-lived processes with an hour's timer each
would leave a thousand messages behind for an hour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from otplib.core.terms import Ref
from otplib.core.timers import Timer
from otplib.vm.process_record import ProcessRecord, Status

if TYPE_CHECKING:
    from otplib.vm.machine import Machine


class UserTimers:
    """The timers of one machine that have not fired. Guarded by the machine's lock."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._timers: dict[Ref, tuple[Timer, ProcessRecord | None]] = {}
        #: The timers for a pid, by its process; no entry without a timer.
        self.owned: dict[ProcessRecord, dict[Ref, None]] = {}

    def __len__(self) -> int:
        return len(self._timers)

    def add(self, ref: Ref, when: float, owner: ProcessRecord | None, deliver: Callable[[], None]) -> None:
        """Call `deliver` at the moment `when`, unless `owner`, if there is one, has ended before."""
        machine = self._machine

        def fire() -> None:
            with machine.lock:
                self._take(ref)
            deliver()

        with machine.lock:
            if owner is not None:
                if owner.state is Status.DEAD:
                    return
                self.owned.setdefault(owner, {})[ref] = None
            # In one hold of the lock with the entry above: a timer that is due at once must find itself here.
            self._timers[ref] = machine.timers.add(when, fire), owner
        machine.scheduler.timer_added(when)

    def left(self, ref: Ref) -> float | None:
        """Give the seconds a timer has left; None if there is none."""
        with self._machine.lock:
            found = self._timers.get(ref)
        if found is None or found[0].action is None:
            return None
        return max(0.0, found[0].when - self._machine.now())

    def cancel(self, ref: Ref) -> float | None:
        """Take a timer back; gives the seconds it had left, None if there is none."""
        left = self.left(ref)
        with self._machine.lock:
            timer = self._take(ref)
            return left if timer is not None and self._machine.timers.cancel(timer) else None

    def forget(self, owner: ProcessRecord) -> None:
        """Cancel the timers of a process that has ended. With the machine's lock held."""
        for ref in self.owned.pop(owner, ()):
            timer, _ = self._timers.pop(ref)
            self._machine.timers.cancel(timer)

    def _take(self, ref: Ref) -> Timer | None:
        timer, owner = self._timers.pop(ref, (None, None))
        owned = self.owned.get(owner) if owner is not None else None
        if owned is not None and owner is not None:
            owned.pop(ref, None)
            if not owned:
                del self.owned[owner]
        return timer
