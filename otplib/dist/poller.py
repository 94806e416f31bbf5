"""The one thread of a node that touches sockets: it reads, writes what did not fit at once, and keeps the time.

Everything registered here is called on this thread alone and must not wait. Other threads reach it by `call`, which
never blocks them. Idle, it sleeps in the selector until a byte, a call or the next appointment comes.

When bytes come and the scheduler sleeps, the thread borrows the scheduler's role and runs what the bytes have made
runnable (see `vm.lending`): a message is answered without any switch of threads. Should such a step last, a fresh
thread takes this one's place at the sockets; the old one ends with the step.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from otplib.vm.carrier import Carrier
from otplib.vm.lending import borrow_role, run_borrowed

if TYPE_CHECKING:
    from otplib.vm.scheduler import Scheduler

log = logging.getLogger("otplib")

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE


class Source(Protocol):
    """What owns a socket: told when the socket has something for it."""

    def on_ready(self, events: int) -> None:
        """Read or write what can be read or written now."""


class Appointment:
    """Something to be done at a moment; `cancel` it, and it is not."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Forget it. On any thread; one that is being done meanwhile is done."""
        self.action = None


class Poller:
    """A selector, its thread, and an agenda."""

    def __init__(self, name: str, scheduler: Scheduler) -> None:
        self._name = name
        self._scheduler = scheduler
        self._selector = selectors.DefaultSelector()
        #: What other threads want done; an append and a popleft are one step of the interpreter each.
        self._calls: deque[Callable[[], None]] = deque()
        self._agenda: list[tuple[float, int, Appointment]] = []
        self._numbers = itertools.count()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        #: A wake-up is on its way. Race: a caller appends and then looks here; the thread clears this and then empties
        #: the calls. Whoever comes second sees the other's write.
        self._woken = False
        self._stopping = False
        #: The thread has done its last call. Race: a caller appends and then looks here; the thread says so and then
        #: empties the calls once more. Whoever comes second does them.
        self._ended = False
        self._ident = 0
        #: Where a source may have its socket put what it reads: on the thread, and not beyond one call.
        self.space = memoryview(bytearray(256 * 1024))
        self._selector.register(self._wake_read, READ)
        self._thread = self._make_thread()
        self._thread.start()

    def _make_thread(self) -> threading.Thread:
        return threading.Thread(target=self._serve, name=self._name, daemon=True)

    # ---- from any thread ---------------------------------------------------------------------------------------

    def call(self, action: Callable[[], None]) -> None:
        """Have `action` done on the thread, soon."""
        self._calls.append(action)
        if self._ended:
            self._do_calls()  # there is no thread any more, and what it would have closed must not stay open
            return
        if not self._woken and threading.get_ident() != self._ident:  # on the thread itself they come in this turn
            self._woken = True
            with contextlib.suppress(OSError):  # full: it is awake; closed: nobody is there any more
                self._wake_write.send(b"x")

    def stop(self, timeout: float = 2.0) -> None:
        """End the thread once it has done what it was asked for. Idempotent."""
        self._stopping = True
        self.call(lambda: None)
        deadline = time.monotonic() + timeout
        while not self.is_here and time.monotonic() < deadline:
            try:
                self._thread.join(deadline - time.monotonic())
                return
            except RuntimeError:  # it is to take the place of a stuck one and has not begun yet
                time.sleep(0.001)

    def abandon(self) -> None:
        """Close what a fork has left in a child, where the thread is not; the parent's sockets stay connected."""
        for key in list(self._selector.get_map().values()):
            with contextlib.suppress(OSError):
                key.fileobj.close()  # type: ignore[union-attr]  # all are sockets
        self._selector.close()
        self._wake_write.close()

    @property
    def is_here(self) -> bool:
        """Tell whether this is the poller's own thread."""
        return self._thread is threading.current_thread()

    # ---- on the thread -----------------------------------------------------------------------------------------

    def watch(self, sock: socket.socket, events: int, source: Source) -> None:
        """Tell `source` when the socket is ready for `events`; a second call changes them."""
        try:
            self._selector.modify(sock, events, source)
        except KeyError:
            self._selector.register(sock, events, source)

    def forget(self, sock: socket.socket) -> None:
        """Watch a socket no longer; before it is closed."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(sock)

    def later(self, seconds: float, action: Callable[[], None]) -> Appointment:
        """Have `action` done in `seconds`."""
        appointment = Appointment(action)
        heapq.heappush(self._agenda, (time.monotonic() + seconds, next(self._numbers), appointment))
        return appointment

    def _serve(self) -> None:
        """The life of the thread."""
        scheduler = self._scheduler
        carrier = Carrier(scheduler.machine)
        carrier.tid = self._ident = threading.get_ident()
        carrier.on_stuck = self._move
        with scheduler.machine.lock:
            scheduler.carriers.add(carrier)
        try:
            while self.is_here and not (self._stopping and not self._calls):
                self._turn(carrier)
        finally:
            with scheduler.machine.lock:
                scheduler.carriers.discard(carrier)
            if self.is_here:
                self._ended = True
                self._do_calls()
                self._selector.close()
                self._wake_read.close()
                self._wake_write.close()

    def _move(self) -> None:
        """Give the sockets to a fresh thread: this one's is stuck in a process's step. For the watchdog.

        The old thread is past everything that it had to do here, and finds that it is no longer the one.
        """
        stuck, self._thread = self._thread, self._make_thread()
        try:
            self._thread.start()
        except RuntimeError:  # the system has no more threads: the sockets wait for the end of the step
            self._thread = stuck

    def _turn(self, carrier: Carrier) -> None:
        ready = self._selector.select(self._next_timeout())
        borrowed = bool(ready) and borrow_role(self._scheduler, carrier)
        for key, events in ready:
            source: Source | None = key.data
            if source is None:
                self._hear_wake_up()
            elif key.fileobj.fileno() != -1:  # type: ignore[union-attr]  # closed by an earlier one of these
                try:
                    source.on_ready(events)
                except Exception:  # as in `_guard`, written out: one call less for each packet
                    log.critical("otplib failed on the node's network thread", exc_info=True)
        if self._calls:
            self._do_calls()
        if self._agenda:
            self._do_appointments()
        if borrowed:
            run_borrowed(self._scheduler, carrier)

    def _hear_wake_up(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(64)

    def _do_calls(self) -> None:
        self._woken = False
        calls = self._calls
        for _ in range(len(calls)):  # those that come meanwhile have their turn after the sockets
            try:
                action = calls.popleft()
            except IndexError:  # at the end two threads may empty it
                return
            _guard(action)

    def _do_appointments(self) -> None:
        agenda = self._agenda
        while agenda and (agenda[0][2].action is None or agenda[0][0] <= time.monotonic()):
            action = heapq.heappop(agenda)[2].action
            if action is not None:
                _guard(action)

    def _next_timeout(self) -> float | None:
        if self._calls:
            return 0.0
        agenda = self._agenda
        while agenda and agenda[0][2].action is None:
            heapq.heappop(agenda)
        return max(0.0, agenda[0][0] - time.monotonic()) if agenda else None


def _guard(action: Callable[[], None]) -> None:
    """A fault here must cost one connection at most, not the node's only thread."""
    try:
        action()
    except Exception:
        log.critical("otplib failed on the node's network thread", exc_info=True)
