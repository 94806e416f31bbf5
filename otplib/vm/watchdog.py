"""The watchdog: it takes the scheduler's role from processes that keep it too long, and ends those that must die.

It looks at the holder of the role every slice. The same step as last time means a hog: a loop, `time.sleep`, a long C
call. The role goes to a spare carrier (Go's hand-off); the hog goes on, on its own thread, in competition for the
interpreter, whose switch interval is lowered as long as hogs run.

It sleeps when the scheduler has been idle for a while, so an idle machine wakes no thread at all.
"""

from __future__ import annotations

import logging
import threading
import time
from _thread import allocate_lock
from typing import TYPE_CHECKING, Final

from otplib.vm.context import lower_switch_interval, restore_switch_interval
from otplib.vm.lending import BUSY_INTERVAL, end_loan

if TYPE_CHECKING:
    from otplib.vm.carrier import Carrier
    from otplib.vm.process_record import ProcessRecord
    from otplib.vm.scheduler import Scheduler

log = logging.getLogger("otplib")

#: How long a step may last before it costs the role, seconds. The BEAM's slice is about 1 ms.
SLICE: Final = 0.002
#: After so many idle looks it sleeps until it is woken.
CALM: Final = 25
#: How long a process that must die may take to unwind before it is given up, seconds.
GRACE: Final = 0.1
#: And how many looks of the watchdog: on a crowded machine its thread may have had no turn in `GRACE` seconds, but then
#: neither had this one.
GRACE_LOOKS: Final = 40
#: Looks between two blows at the same process: its `finally` blocks may run for so long.
REST: Final = 12


class Watchdog:
    """One thread that looks after one scheduler; started with the first hog-able moment, that is with the scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.asleep = False
        self.stopping = False
        self._bell = allocate_lock()
        self._bell.acquire()
        self._thread: threading.Thread | None = None
        #: Running processes that must die: since when, how often they were looked at, and from which look on they may
        #: be struck. Guarded by the machine's lock.
        self._wanted: dict[ProcessRecord, tuple[float, int, int]] = {}

    def wake(self) -> None:
        """Look again: there is something to watch. Cheap when it is awake."""
        if self._thread is None:
            self._start()
        elif self.asleep:
            self._ring()

    def pursue(self, record: ProcessRecord) -> None:
        """See to the end of a process that is in the middle of a step on another thread."""
        with self.scheduler.machine.lock:
            self._wanted.setdefault(record, (time.monotonic(), 0, 0))
        self.wake()

    def stop(self) -> None:
        """End the thread."""
        self.stopping = True
        self._ring()
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(0.2)

    def _start(self) -> None:
        with self.scheduler.machine.lock:
            if self._thread is not None or self.stopping:
                return
            self._thread = threading.Thread(target=self._watch, name="otplib-watchdog", daemon=True)
        self._thread.start()  # without the lock, see `Scheduler.new_carrier`

    def _ring(self) -> None:
        with self.scheduler.machine.lock:
            if self.asleep:
                self.asleep = False
                self._bell.release()

    def _watch(self) -> None:
        scheduler = self.scheduler
        calm = 0
        while not self.stopping:
            role = scheduler.role
            steps = role.steps if role is not None else 0
            if self._wanted:
                self._hunt()
                calm = 0
            elif scheduler.idle:
                calm += 1
                if calm > CALM and self._sleep():
                    calm = 0
                    continue
            else:
                calm = 0
            time.sleep(SLICE)
            if role is not None and role is scheduler.role and role.steps == steps and not scheduler.idle:
                self._pursue_doomed(role.record)
                self.hand_off(role)

    def _pursue_doomed(self, record: ProcessRecord | None) -> None:
        """What a fatal signal found at rest may be busy now, in a `finally` block: it must end all the same."""
        if record is not None and record.doom is not None:
            self.pursue(record)

    def _sleep(self) -> bool:
        """Sleep until woken; False if there was a reason not to."""
        # Against `wake`: it looks at `asleep` after the scheduler has left its idleness, and this looks at that
        # idleness after it has set `asleep`; so one of the two sees the other.
        with self.scheduler.machine.lock:
            self._bell.acquire(False)
            self.asleep = True
            if not self.scheduler.idle or self._wanted or self.stopping:
                self.asleep = False
                return False
        self._bell.acquire()
        self.asleep = False
        return True

    def hand_off(self, role: Carrier) -> None:
        """Take the role from a carrier that is stuck in a step and give it to a spare one."""
        scheduler = self.scheduler
        if role.lender is not None:
            end_loan(scheduler, role)
            return
        if scheduler.role is not role or role.record is None:  # looked at again, with the lock, in `_choose_spare`
            return
        lower_switch_interval(BUSY_INTERVAL)  # first: a new thread has to win the interpreter from the hog
        fresh = None
        if not scheduler.spares:
            try:
                fresh = scheduler.new_carrier()
            except RuntimeError:  # the system has no more threads: the hog keeps the role
                pass
        spare = self._choose_spare(role, fresh)
        if spare is None:
            restore_switch_interval()
        else:
            spare.bell.release()
        if role.promises:  # also if it keeps the role: the hog may last
            role.keep_promises()

    def _choose_spare(self, role: Carrier, fresh: Carrier | None) -> Carrier | None:
        """Move the role to another carrier; None if it has moved by itself, or no thread is to be had."""
        scheduler = self.scheduler
        with scheduler.machine.lock:
            if fresh is not None:
                if scheduler.stopping:
                    fresh.retired = True
                    fresh.bell.release()
                else:
                    scheduler.spares.append(fresh)
            # Without a record it is not in a step: it has been rung awake and waits for the interpreter.
            if scheduler.role is not role or role.record is None or scheduler.idle or scheduler.stopping:
                return None
            if not scheduler.spares:
                return None
            spare = scheduler.spares.pop()
            scheduler.busy += 1
            scheduler.hand_offs += 1
            role.open_gate()
            scheduler.role = spare
            return spare

    def _hunt(self) -> None:
        """Strike each wanted process, or give it up when its time is over."""
        scheduler = self.scheduler
        machine = scheduler.machine
        for record, (since, looks, blow) in list(self._wanted.items()):
            carrier = next((one for one in list(scheduler.carriers) if one.record is record), None)
            if record.state.value != "running" or carrier is None:
                with machine.lock:
                    self._wanted.pop(record, None)
                continue
            if carrier is scheduler.role:
                self.hand_off(carrier)
                carrier.open_gate()  # also if there is nobody to take the role: then this is how one comes free
            if looks >= blow and carrier.strike(record):
                blow = looks + REST
            late = looks >= GRACE_LOOKS and time.monotonic() - since > GRACE
            given_up = late and carrier.give_up(record)
            with machine.lock:
                if given_up:
                    self._wanted.pop(record, None)
                else:
                    self._wanted[record] = (since, looks + 1, blow)
            if given_up:
                self._tell_given_up(record)

    def _tell_given_up(self, record: ProcessRecord) -> None:
        """Tell the death of a process whose thread cannot be stopped; the thread stays until it ends by itself."""
        doom = record.doom
        assert doom is not None
        if not self.scheduler.machine.stopped:  # else nobody is surprised
            log.error(
                "Process %r did not end within %.1f s of a fatal signal (it is in a blocking call, or swallows the "
                "end); it counts as dead and its thread has been abandoned. Use `await process.blocking(fn, ...)` for "
                "such calls",
                record.pid,
                GRACE,
            )
        self.scheduler.machine.finish(record, doom[0])
