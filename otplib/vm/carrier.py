"""A carrier: a thread that runs steps of processes. One has the scheduler's role, the others are stuck or spare.

The gate. A busy loop is ended by an asynchronous exception, which the interpreter raises at the thread's next bytecode
boundary, wherever that is. It must never strike the engine itself. The race, in order: (1) the watchdog takes the
carrier's `gate`, sees that it is open and that the thread's innermost frames are the user's, and sets the exception;
(2) the step ends before the exception is raised; (3) the carrier sees that it has lost the role, and shuts the gate:
takes the lock, closes, and clears what may have been set. Between the end of the step and `shut_gate` there is no call
and no backward jump, so no boundary at which it could be raised; inside `shut_gate` it is caught. A thread that has
the role is never struck: the watchdog takes the role away first.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from _thread import allocate_lock
from types import FrameType
from typing import TYPE_CHECKING

from otplib.vm.errors import Killed
from otplib.vm.output import write_output

if TYPE_CHECKING:
    from otplib.vm.machine import Machine
    from otplib.vm.process_record import ProcessRecord

_set_async_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exception.argtypes = (ctypes.c_ulong, ctypes.py_object)
_clear_async_exception = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)

#: Code of these packages must run to its end; they hold locks and move states.
_PROTECTED = ("otplib.vm", "otplib.core", "otplib.process", "threading", "logging", "importlib")


class Carrier:
    """What one thread carries."""

    #: Its code must not block the thread; code on a lent thread may.
    may_block = False

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        #: The process whose step it runs, or ran last.
        self.record: ProcessRecord | None = None
        #: Counts steps; the watchdog sees by it whether one lasts.
        self.steps = 0
        #: Unfinished lines of output, by stream.
        self.partial: dict[str, str] | None = None
        #: Released to give a spare carrier the role, or to let it end.
        self.bell = allocate_lock()
        self.bell.acquire()
        self.tid = 0
        self.thread: threading.Thread | None = None
        self.retired = False
        #: True in a step that was left to this thread after it lost the role. Guarded by `gate`.
        self.open = False
        self.gate = threading.Lock()

    def shut_gate(self) -> None:
        """End the time in which this thread may be struck. Called on the thread itself, once it has lost the role."""
        while True:
            try:
                with self.gate:
                    self.open = False
                _clear_async_exception(self.tid, None)
                return
            except Killed:
                continue

    def open_gate(self) -> None:
        """Allow strikes: the role has just been taken from this thread, in the middle of a step."""
        with self.gate:
            self.open = True

    def strike(self, record: ProcessRecord) -> bool:
        """Raise `Killed` in the thread if it still runs `record` and is in user code. For the watchdog alone."""
        with self.gate:
            if not self.open or self.machine.scheduler.role is self or self.record is not record:
                return False
            if not _in_user_code(self.tid):
                return False
            _set_async_exception(self.tid, Killed)
            return True

    def flush_output(self, record: ProcessRecord) -> Exception | None:
        """Write the unfinished lines of a step that is over; gives what went wrong, as it must not end the thread."""
        partial, self.partial = self.partial, None
        failure: Exception | None = None
        for stream, text in (partial or {}).items():
            try:
                write_output(self.machine, record, stream, text)
            except Exception as error:
                failure = error
        return failure


def _in_user_code(tid: int) -> bool:
    """Tell whether all frames from the innermost to the step's own are the user's, and there is one at least."""
    frame: FrameType | None = sys._current_frames().get(tid)
    inner = 0
    while frame is not None:
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if module == "otplib.vm.stepping" and function != "_begin":
            return inner > 0 and function in ("run_step", "_close")
        if module.startswith(_PROTECTED) and function != "_begin":
            return False
        inner += 1
        frame = frame.f_back
    return False
