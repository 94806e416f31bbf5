"""One step of one process, and what comes of it. The same for threads and for the deterministic scheduler.

A step runs from one park to the next. The thread that runs it alone moves the process out of RUNNING. A thread that
has lost the scheduler's role in the middle (see `watchdog`) ends its step here like any other.
"""

from __future__ import annotations

import logging
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from otplib.core import reports
from otplib.core.errors import Exit
from otplib.core.reasons import capture, drop_frames
from otplib.vm.errors import Hibernated, Killed
from otplib.vm.process_record import ProcessRecord, Status
from otplib.vm.traps import PAUSE, WAIT, YIELD, Trap

if TYPE_CHECKING:
    from otplib.vm.carrier import Carrier, Remains
    from otplib.vm.scheduler import Scheduler

log = logging.getLogger("otplib")

RUNNING, WAITING, PAUSED, RUNNABLE = Status.RUNNING, Status.WAITING, Status.PAUSED, Status.RUNNABLE


class _Done:
    """A step that came to the end of its process."""


class _Crashed:
    """A step that ended in an exception."""


DONE: Final = _Done()
CRASHED: Final = _Crashed()


def run_guarded(scheduler: Scheduler, carrier: Carrier, record: ProcessRecord) -> None:
    """Run a step; a fault of the engine in it must cost one process, not the machine's only thread."""
    try:
        run_step(scheduler, carrier, record)
    except BaseException:
        log.critical("otplib failed in a step of %r, which counts as killed", record.pid, exc_info=True)
        scheduler.machine.finish(record, "killed")


def run_step(scheduler: Scheduler, carrier: Carrier, record: ProcessRecord) -> None:
    """Run a process until it stops by itself, then put it where it belongs."""
    carrier.record = record
    carrier.steps += 1
    # RUNNING first, then the look at `pending`: a fatal signal writes `pending` and then looks at the state.
    record.state = RUNNING
    if record.pending and not _look_at_pending(scheduler, carrier, record):
        return
    record.reductions += 1
    error: BaseException | None = None
    result: Any = None
    trap: Any
    try:
        if record.start is None:
            trap = record.context.run(record.coro.send, None)  # type: ignore[union-attr]  # both live as long as it
        else:
            trap = record.context.run(_begin, record)  # type: ignore[union-attr]
    except StopIteration as stop:
        trap = DONE
        result = stop.value
    except BaseException as caught:
        trap = CRASHED
        error = caught
    # No call may stand between the end of the step and this line: see "the gate" in `carrier`.
    if carrier.open:
        try:
            remains = carrier.shut_gate()
        except Killed:  # struck on the way in; no second strike can come, as this is no user code
            remains = carrier.shut_gate()
        if remains is not None:
            _leave(carrier, remains, error)
            return
    if carrier.partial:
        failure = carrier.flush_output(record)
        if failure is not None:
            trap, error = _tell_failure(record, trap, error, failure)
    if trap is WAIT:
        record.parked = None  # before the state: whoever sees WAITING finds it
        record.state = WAITING
        if record.mailbox or record.pending:
            scheduler.machine.wake(record)
    elif trap is PAUSE:
        record.parked = None
        record.state = PAUSED
        if record.pending:
            scheduler.machine.wake(record)
    elif trap is YIELD:
        record.state = RUNNABLE
        scheduler.enqueue(record)
    else:
        _end_step(scheduler, record, trap, result, error)


def _begin(record: ProcessRecord) -> Any:
    """Make the first step, or throw what waits to be thrown. Within the process's own context."""
    start, record.start = record.start, None
    if isinstance(start, BaseException):
        assert record.coro is not None
        return record.coro.throw(start)
    assert start is not None
    fn, args, kwargs = start
    try:
        outcome = fn(*args, **kwargs)
    except StopIteration as error:  # else it would pass for the end of a coroutine
        raise RuntimeError("function raised StopIteration").with_traceback(error.__traceback__) from error
    if type(outcome) is CoroutineType:
        record.coro = outcome
        return outcome.send(None)
    return _Value(outcome)


def _tell_failure(
    record: ProcessRecord, trap: Any, error: BaseException | None, failure: Exception
) -> tuple[Any, BaseException | None]:
    """Let a process hear that its unfinished line could not be written: where it waits, or as its end."""
    if isinstance(trap, Trap):
        record.start = failure
        return YIELD, None
    if trap is DONE or type(trap) is _Value:
        return CRASHED, failure
    return trap, error


class _Value:
    """What a plain function returned: the process is over."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _look_at_pending(scheduler: Scheduler, carrier: Carrier, record: ProcessRecord) -> bool:
    """Attend to signals before a step; tells whether the step may run."""
    record.pending = False
    if record.doom is not None:
        _close(scheduler, carrier, record)
        return False
    if record.suspended:
        with scheduler.machine.lock:
            if record.suspended:
                record.state = Status.SUSPENDED
                return False
    return True


def _end_step(scheduler: Scheduler, record: ProcessRecord, trap: Any, result: Any, error: BaseException | None) -> None:
    """The rarer ends of a step: the process is over, or it awaited something foreign."""
    if type(trap) is _Value:
        trap, result = DONE, trap.value
    if trap is DONE:
        scheduler.machine.finish(record, "normal", result)
    elif isinstance(error, Hibernated):
        _hibernate(scheduler, record, error)
    elif error is not None:
        crash(scheduler, record, error)
    else:
        record.start = _foreign_error(trap)
        record.state = RUNNABLE
        scheduler.enqueue(record)


def _hibernate(scheduler: Scheduler, record: ProcessRecord, error: Hibernated) -> None:
    """Wait without a coroutine; the next message starts the call."""
    if record.state is Status.DEAD:
        return
    drop_frames(error)
    record.coro = None
    record.start = error.call
    record.deadline = None
    record.parked = None
    record.state = WAITING
    mailbox = record.mailbox
    if record.pending or (mailbox is not None and mailbox.count()):
        scheduler.machine.wake(record)


def _foreign_error(awaited: object) -> TypeError:
    cancel = getattr(awaited, "cancel", None)
    if callable(cancel):
        cancel()
    return TypeError(
        "a process can wait only with otplib's own verbs (receive, sleep, GenServer.call, ...); it awaited "
        f"{type(awaited).__module__}.{type(awaited).__qualname__}. Write `await process.from_asyncio(...)` for an "
        "asyncio awaitable, `await process.blocking(fn, ...)` for a blocking call"
    )


def crash(scheduler: Scheduler, record: ProcessRecord, error: BaseException) -> None:
    """Bury a process that ended in an exception, after a report unless the reason was asked for."""
    if isinstance(error, Killed) and record.doom is not None:
        drop_frames(error)  # `run_step` holds the exception, and its trace the frame of `run_step`: a circle
        scheduler.machine.finish(record, record.doom[0])
        return
    if isinstance(error, Exit):
        drop_frames(error)
        scheduler.machine.finish(record, error.reason)
        return
    raised = capture(error, scheduler.machine.hooks.describe_file)
    if record.on_exit is None:  # else `run` raises it where it is seen
        report(record, reports.process_crash(record.pid, raised), raised)
    scheduler.machine.finish(record, raised)


def report(record: ProcessRecord, text: str, reason: Any) -> None:
    """Write a crash report from within the dying process, so that it lands where the process's output does."""
    context = record.context
    if context is None:
        return
    context.run(lambda: log.error("%s", text, extra={"pid": record.pid, "reason": reason}))


def _close(scheduler: Scheduler, carrier: Carrier, record: ProcessRecord) -> None:
    """Close a process that a fatal signal has reached: its `finally` blocks run, but cannot wait."""
    assert record.doom is not None
    trouble: BaseException | None = None
    coro = record.coro
    try:
        if coro is not None:
            record.context.run(coro.close)  # type: ignore[union-attr]  # a process with a coroutine has a context
    except BaseException as caught:
        trouble = caught
    if carrier.open:
        try:
            remains = carrier.shut_gate()
        except Killed:
            remains = carrier.shut_gate()
        if remains is not None:
            _leave(carrier, remains, trouble)
            return
    if carrier.partial:
        carrier.flush_output(record)
    if trouble is not None and not isinstance(trouble, Killed | Exit):
        _report_trouble(scheduler, record, trouble)
    scheduler.machine.finish(record, record.doom[0])
    if trouble is not None:
        drop_frames(trouble)  # else it holds this frame, and this frame holds it


def _leave(carrier: Carrier, remains: Remains, error: BaseException | None) -> None:
    """Clear away after a process that was given up in the middle of this step: its death has been told."""
    coro, context = remains
    carrier.partial = None
    if error is not None:
        drop_frames(error)
    if coro is not None and context is not None:
        try:
            context.run(coro.close)
        except BaseException as trouble:  # its report said that it swallows the end
            drop_frames(trouble)


def _report_trouble(scheduler: Scheduler, record: ProcessRecord, trouble: BaseException) -> None:
    if isinstance(trouble, RuntimeError) and str(trouble) == "coroutine ignored GeneratorExit":
        text = (
            f"Process {record.pid!r} awaited something, or swallowed the end, while it was being closed; it has been "
            "abandoned. A `finally` block may not wait, and `except BaseException` must re-raise"
        )
        report(record, text, record.doom)
    else:
        raised = capture(trouble, scheduler.machine.hooks.describe_file)
        report(record, reports.process_crash(record.pid, raised), raised)
