"""A carrier: a thread that runs steps of processes. One has the scheduler's role, the others are stuck or spare.

The gate. A busy loop is ended by an asynchronous exception, which the interpreter raises at the thread's next bytecode
boundary, wherever that is. It must never strike the engine itself. The race, in order: (1) the watchdog opens the
carrier's gate, taking the role away first if it can; (2) it takes the lock of the gate, sees that the thread is in user
code, and sets the exception; (3) the step ends before the exception is raised; (4) the carrier sees its gate open and
shuts it: takes the lock, closes, and clears what may have been set. Between the end of the step and `shut_gate` there
is no call and no backward jump, so no boundary at which it could be raised; inside `shut_gate` it is caught.

The look. A thread that is in user code now may be in the engine, with its lock, a moment later. So the watchdog looks
twice: at the whole stack, at leisure, and then whether the innermost frame is still the same one. The second look and
the blow are a few bytecodes without a call that returns to Python and without a backward jump: the interpreter lets no
other thread run between them (it may after each call, hence the operator of `_Look`). The thread itself hears of the
blow at its first boundary: in that frame, or at the entry of a function it calls, before that has done anything.

One that sends or spawns in a loop is hardly ever in user code. It is `wanted` instead, and the verbs look at that.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from _thread import allocate_lock
from collections.abc import Callable
from contextvars import Context
from types import CoroutineType, FrameType
from typing import TYPE_CHECKING, Any, Protocol

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

#: Code of these packages must run to its end, and what it calls too: they hold locks and move states.
_PROTECTED = frozenset(
    ("otplib", "threading", "logging", "importlib", "_frozen_importlib", "_frozen_importlib_external")
)
#: The loops of behaviours stand below the user's callbacks, which may be struck.
_LOOPS = "otplib.behaviours."


class _Look:
    """`-LOOK` gives the innermost frame of each thread: as an operator, see "the look"."""

    __neg__ = sys._current_frames


_LOOK: Any = _Look()

#: The coroutine and the context of a process that was given up.
Remains = tuple["CoroutineType[Any, Any, Any] | None", Context | None]


class Flushable(Protocol):
    """What gathers output until it is told to send it."""

    def flush(self) -> None:
        """Send what can be sent now; never blocks."""


class Carrier:
    """What one thread carries."""

    #: Its code must not block the thread; code on a lent thread may.
    may_block = False
    #: The process must end, and the blow did not find it in user code: the next verb it says ends it.
    wanted = False
    #: A verb has done so since the watchdog looked.
    obeyed = False

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        #: The process whose step it runs, or ran last.
        self.record: ProcessRecord | None = None
        #: Counts steps; the watchdog sees by it whether one lasts.
        self.steps = 0
        #: Unfinished lines of output, by stream.
        self.partial: dict[str, str] | None = None
        #: What steps have written to other nodes and the holder of the role is to flush (see `dist.wire`).
        self.promises: list[Flushable] = []
        #: Released to wake it: a spare one to take the role or to end, an idle holder of the role to work.
        self.bell = allocate_lock()
        self.bell.acquire()
        self.tid = 0
        self.thread: threading.Thread | None = None
        self.retired = False
        #: Another thread has the role for a while, and will ring when it is over (see `vm.lending`).
        self.lent = False
        #: Asleep with the role: when it wakes by itself.
        self.wakes_at = 0.0
        #: Whose role this one has borrowed.
        self.lender: Carrier | None = None
        #: Told when it has lost a borrowed role in the middle of a step, and will be busy with that for a while.
        self.on_stuck: Callable[[], None] = lambda: None
        #: It is busy with a step in which it lost a borrowed role. Guarded by the machine's lock.
        self.stuck = False
        #: True in a step that may be struck: the watchdog found it too long. Guarded by `gate`.
        self.open = False
        #: What is left of a process whose death was told in the middle of its step. Guarded by `gate`.
        self.remains: Remains | None = None
        self.gate = threading.Lock()

    def shut_gate(self) -> Remains | None:
        """End the time in which this thread may be struck; called on the thread itself, at the end of a step.

        Gives what is left of the process if it has been given up meanwhile.
        """
        while True:
            try:
                with self.gate:
                    self.open = False
                    _clear_async_exception(self.tid, None)
                    self.wanted = self.obeyed = False
                    remains, self.remains = self.remains, None
                return remains
            except Killed:
                continue

    def open_gate(self) -> None:
        """Allow strikes: the watchdog has found this thread in the middle of a long step."""
        with self.gate:
            self.open = True

    def strike(self, record: ProcessRecord) -> bool:
        """Raise `Killed` in the thread if it still runs `record` and is in user code. For the watchdog alone."""
        with self.gate:
            if not self.open or self.record is not record:
                return False
            if self.obeyed:
                self.obeyed = False
                return True
            tid, blow = self.tid, _set_async_exception
            frame = _find_user_frame(tid)
            caller = frame.f_back if frame is not None else None
            self.wanted = True
            try:
                # No call before the blow, see "the look".
                if frame is not None and (-_LOOK)[tid] is frame and frame.f_back is caller:
                    blow(tid, Killed)
                    self.wanted = False
                    return True
            except KeyError:  # the thread has ended
                pass
            return False

    def obey(self) -> None:
        """End the process that is about to say a verb. On its own thread, before the verb has done anything."""
        if self.remains is None:  # else it counts as dead already, and has nothing to say any more
            self.wanted = False
            self.obeyed = True
        raise Killed

    def give_up(self, record: ProcessRecord) -> bool:
        """Part a process from this thread, in the middle of the step; False if the step is over. For the watchdog."""
        with self.gate:
            if not self.open or self.record is not record:
                return False
            self.remains = record.coro, record.context
            self.wanted = True
            return True

    def keep_promises(self) -> None:
        """Send on their way what the last steps have written to other nodes. On any thread."""
        promises, self.promises = self.promises, []
        for one in promises:
            one.flush()

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


def _find_user_frame(tid: int) -> FrameType | None:
    """Give the innermost frame of a thread if it and all down to the step's own are the user's, and there is one."""
    innermost = frame = sys._current_frames().get(tid)
    while frame is not None:
        module = frame.f_globals.get("__name__")
        function = frame.f_code.co_name
        below = frame is not innermost
        if module == "otplib.vm.stepping" and function != "_begin":
            return innermost if below and function in ("run_step", "_close", "_leave") else None
        if type(module) is str and module.partition(".")[0] in _PROTECTED:
            if not below or not (module.startswith(_LOOPS) or module == "otplib.vm.stepping"):
                return None
        frame = frame.f_back
    return None
