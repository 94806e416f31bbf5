"""The run queue and the threads that empty it.

One thread at a time has the *role*: it takes processes from the queue and runs their steps. A process that keeps its
thread too long costs it the role, not the thread (see `watchdog`): a spare carrier takes over, and the old one ends its
step as a mere carrier. So taking from the queue needs no lock: `popleft` is one step of the interpreter, and for the
blink in which an old and a new holder both take from it they take different processes.

Idle against enqueue: the holder sets `idle` and then looks at the queue once more; an enqueuer appends and then looks
at `idle`. Whoever comes second sees the other's write.

Ring against hand-off: a holder that was rung may lose the role before it gets to run, and the next one may lie down
meanwhile. So each carrier sleeps on a bell of its own, `idle` speaks of the holder alone, and a carrier leaves its
sleep with its bell silent, however it was woken.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from _thread import allocate_lock
from typing import TYPE_CHECKING, Any, Final

from otplib.vm.carrier import Carrier
from otplib.vm.context import restore_switch_interval, running_record, runtime
from otplib.vm.output import install_output
from otplib.vm.process_record import NORMAL, ProcessRecord, Status
from otplib.vm.stepping import run_guarded
from otplib.vm.watchdog import Watchdog

if TYPE_CHECKING:
    from otplib.vm.machine import Machine

log = logging.getLogger("otplib")

#: How many spare carriers are kept for the next hog; more are let go.
MAX_SPARES: Final = 2
#: How long a thread that waits in `run` lies still at the most, seconds.
WAIT_SLICE: Final = 0.25
_FOREVER: Final = float("inf")
_RANKS: Final = {"low": 0, "normal": 0, "high": 1, "max": 2}


class Scheduler:
    """Runs the processes of one machine on background threads. Nothing starts before the first process."""

    def __init__(self, machine: Machine, max_carriers: int = 256) -> None:
        self.machine = machine
        self.max_carriers = max_carriers
        self.role: Carrier | None = None
        #: All carriers; guarded by the machine's lock, as are `spares`, `busy`, `idle` and `settlers`.
        self.carriers: set[Carrier] = set()
        self.spares: list[Carrier] = []
        #: Carriers that lost the role in the middle of a step that still lasts.
        self.busy = 0
        #: The holder of the role sleeps on its bell, or nobody has the role yet.
        self.idle = True
        self.stopping = False
        #: When the next timer is due.
        self.next_due = _FOREVER
        #: Locks of threads that wait until nothing runs.
        self.settlers: list[Any] = []
        self.hand_offs = 0
        #: Processes that wait for a thread or an asyncio loop; the deterministic scheduler waits for them too.
        self.outside = 0
        self.watchdog = Watchdog(self)
        self._append = machine.queue.append

    # ---- from any thread -------------------------------------------------------------------------------------

    def enqueue(self, record: ProcessRecord) -> None:
        """Put a runnable process into the queue."""
        if record.priority is NORMAL:
            self._append(record)
        else:
            self._append_prior(record)
        if self.idle:
            self.ring()

    def _append_prior(self, record: ProcessRecord) -> None:
        rank = _RANKS[record.priority]
        if not rank:
            self._append(record)
            return
        # Before all of lower rank and behind those of its own: they take turns among themselves.
        queue = self.machine.queue
        place = 0
        try:
            while _RANKS[queue[place].priority] >= rank:
                place += 1
        except IndexError:  # the end, which another thread may have moved
            pass
        queue.insert(place, record)

    def ring(self) -> None:
        """Wake the holder of the role if it sleeps; start the threads if there are none yet."""
        if self.role is None:
            self._start()
        with self.machine.lock:
            if self.idle and self.role is not None:
                self.idle = False
                self.role.bell.release()

    def timer_added(self, when: float) -> None:
        """Hear of a new timer."""
        with self.machine.lock:  # of two that come together the later moment must not be what stays
            if when >= self.next_due:
                return
            self.next_due = when
        if self.idle:
            self.ring()

    def close_soon(self, record: ProcessRecord) -> None:
        """See to it that a process a fatal signal has reached is closed."""
        record.pending = True
        state = record.state
        if state is Status.WAITING or state is Status.PAUSED:
            self.machine.wake(record)
        elif state is Status.SUSPENDED:
            with self.machine.lock:
                record.suspended = 0
                if record.state is not Status.SUSPENDED:
                    return
                record.state = Status.RUNNABLE
            self.enqueue(record)
        elif state is Status.RUNNING and running_record() is not record:
            self.watchdog.pursue(record)

    def settle(self, timeout: float) -> bool:
        """Block until nothing is runnable or running; False when `timeout` seconds were not enough."""
        with self.machine.lock:
            if self._is_quiet():
                return True
            gate = allocate_lock()
            gate.acquire()
            self.settlers.append(gate)
        return gate.acquire(timeout=timeout)

    def wait_for(self, done: Any, timeout: float | None) -> bool:
        """Block ordinary code until the lock `done` is released; False when `timeout` seconds were not enough.

        In slices: a Ctrl-C that comes just before the main thread lies down is seen only when it gets up again.
        """
        end = _FOREVER if timeout is None else time.monotonic() + timeout
        while not done.acquire(timeout=min(WAIT_SLICE, max(0.0, end - time.monotonic()))):
            if time.monotonic() >= end:
                return False
        return True

    def _is_quiet(self) -> bool:
        return self.idle and not self.busy and not self.machine.queue

    # ---- life cycle ------------------------------------------------------------------------------------------

    def _start(self) -> None:
        carrier = self.new_carrier()
        with self.machine.lock:
            first = self.role is None and not self.stopping and carrier is not None
            if first:
                self.idle = False
                self.role = carrier
        if carrier is None:
            return
        if not first:  # another thread was faster
            carrier.retired = True
        else:
            install_output()
            self.watchdog.wake()
            atexit.register(self.machine.stop)
        carrier.bell.release()

    def new_carrier(self) -> Carrier | None:
        """Start a thread that waits for the role; None if there are as many as there may be.

        Without the machine's lock: a thread that starts may run the collector, and with it finalizers that want it.

        Raises:
            RuntimeError: the system has no more threads.
        """
        with self.machine.lock:
            if len(self.carriers) >= self.max_carriers:
                return None
            carrier = Carrier(self.machine)
            carrier.thread = threading.Thread(
                target=self._carry, args=(carrier,), name=f"otplib-carrier-{len(self.carriers)}", daemon=True
            )
            self.carriers.add(carrier)
        try:
            carrier.thread.start()
        except RuntimeError:
            with self.machine.lock:
                self.carriers.discard(carrier)
            raise
        return carrier

    def stop(self, timeout: float) -> None:
        """Close all processes and end the threads, within about `timeout` seconds."""
        deadline = time.monotonic() + timeout
        if self.role is None:
            return
        atexit.unregister(self.machine.stop)
        for record in list(self.machine.table.values()):
            if time.monotonic() > deadline - timeout / 2:
                break
            self.machine.doom(record, "shutdown")
        self.settle(max(0.0, deadline - timeout / 4 - time.monotonic()))
        self.stopping = True
        self.watchdog.stop()
        with self.machine.lock:
            spares, self.spares = self.spares, []
        for spare in spares:
            spare.retired = True
            spare.bell.release()
        self.ring()
        for carrier in list(self.carriers):
            if carrier.thread is not None and carrier.thread is not threading.current_thread():
                carrier.thread.join(max(0.0, deadline - time.monotonic()))

    def abandon(self) -> None:
        """Forget the threads, which a fork has left behind in the parent."""
        self.stopping = True
        self.idle = False  # nobody rings
        self.role = None
        self.carriers.clear()
        atexit.unregister(self.machine.stop)

    # ---- on the carriers -------------------------------------------------------------------------------------

    def _carry(self, carrier: Carrier) -> None:
        """The life of a carrier's thread."""
        runtime.local.carrier = carrier
        carrier.tid = threading.get_ident()
        while True:
            carrier.bell.acquire()
            if carrier.retired:
                break
            lost = self._hold_role(carrier)
            if not lost:
                break
            with self.machine.lock:
                self.busy -= 1
                keep = len(self.spares) < MAX_SPARES and not self.stopping
                if keep:
                    self.spares.append(carrier)
            restore_switch_interval()
            self.ring()  # the holder may have somebody to tell that all is quiet now
            if not keep:
                break
        with self.machine.lock:
            self.carriers.discard(carrier)

    def _hold_role(self, carrier: Carrier) -> bool:
        """Run processes until the role is lost (True) or the machine stops (False)."""
        machine = self.machine
        take = machine.queue.popleft
        now = machine.now
        while self.role is carrier:
            if not carrier.steps & 7 and self.next_due <= now():
                self.fire_timers()
            try:
                record = take()
            except IndexError:
                if self.stopping:
                    return False
                self._wait(carrier)
                continue
            run_guarded(self, carrier, record)
            # What is written to other nodes goes out in one piece for a few steps; the watchdog looks after a hog's.
            if carrier.promises and (not machine.queue or not carrier.steps & 7):
                carrier.keep_promises()
        if carrier.promises:
            carrier.keep_promises()
        carrier.record = None  # another one may run it from now on: whoever looks for that one must not find this
        return True

    def _wait(self, carrier: Carrier) -> None:
        """Sleep until a process is runnable or a timer due."""
        machine = self.machine
        if self.next_due <= machine.now():
            self.fire_timers()
            return
        with machine.lock:
            if self.role is not carrier:
                return
            carrier.record = None  # it is in no step: the watchdog leaves it the role until it gets to run again
            self.idle = True
            if machine.queue or self.stopping:
                self.idle = False
                return
            self._tell_settlers()
            carrier.wakes_at = due = self.next_due
        while True:
            left = -1.0 if due == _FOREVER else min(max(0.0, due - machine.now()), threading.TIMEOUT_MAX)
            rung = carrier.bell.acquire(timeout=left)
            with machine.lock:
                if not rung and carrier.lent:  # whoever has the role meanwhile looks after the timers, and rings
                    carrier.wakes_at = due = _FOREVER
                    continue
                if not rung and not (self.idle and self.role is carrier):
                    carrier.bell.acquire(False)  # a ring that came too late for its sleep
                if self.role is carrier:  # else it has been rung awake, was late, and another one sleeps by now
                    self.idle = False
                break
        self.watchdog.wake()

    def _tell_settlers(self) -> None:
        if self.settlers and not self.busy:
            for gate in self.settlers:
                gate.release()
            self.settlers.clear()

    def fire_timers(self) -> None:
        """Do what is due, oldest first."""
        machine = self.machine
        now = machine.now()
        while True:
            with machine.lock:
                action = machine.timers.pop_due(now)
                if action is None:
                    due = machine.timers.next_time()
                    self.next_due = _FOREVER if due is None else due
                    return
            action()
