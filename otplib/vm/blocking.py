"""Threads lent to processes: one for each blocking call, and one with an asyncio loop for all awaitables.

All are daemons, so an unfinished call cannot hold up the interpreter's end. Threads of blocking calls are kept for ten
idle seconds.
"""

from __future__ import annotations

import asyncio
import threading
from _thread import allocate_lock
from collections.abc import Awaitable, Callable, Generator
from types import CoroutineType, coroutine
from typing import TYPE_CHECKING, Any, Final

from otplib.core.errors import MachineError
from otplib.vm.context import runtime
from otplib.vm.output import write_output

if TYPE_CHECKING:
    from otplib.vm.machine import Machine
    from otplib.vm.process_record import ProcessRecord

IDLE_SECONDS: Final = 10.0


class Completion:
    """The outcome of work done elsewhere; the process that waits for it is nudged when it is there."""

    __slots__ = ("done", "error", "record", "value")

    def __init__(self, record: ProcessRecord) -> None:
        self.record = record
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def finish(self, value: Any, error: BaseException | None) -> None:
        """Store the outcome and wake the process. Safe on any thread."""
        self.value, self.error = value, error
        self.done = True  # last: the process looks at it first
        self.record.machine.nudge(self.record)

    def result(self) -> Any:
        """Give the value or raise the error."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None
        return self.value


class _Lent:
    """Makes a lent thread count as its process: `self_()`, `send` and `print` there are the process's."""

    may_block = True
    wanted = False

    def __init__(self, record: ProcessRecord) -> None:
        self.record = record
        self.machine = record.machine
        self.partial: dict[str, str] | None = None


class BlockingThreads:
    """The threads of one machine that run blocking calls."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards `_idle`
        self._idle: list[_Worker] = []
        self._dismissed = False

    def submit(self, completion: Completion, fn: Callable[[], Any]) -> None:
        """Run `fn` on a thread of its own."""
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker is None:
            worker = _Worker(self)
            worker.give(completion, fn)
            threading.Thread(target=worker.work, name="otplib-blocking", daemon=True).start()
        else:
            worker.give(completion, fn)

    def rest(self, worker: _Worker) -> None:
        """Hear that a worker has nothing to do."""
        with self._lock:
            self._idle.append(worker)
            dismissed = self._dismissed
        if dismissed:
            self.dismiss()

    def dismiss(self) -> None:
        """Send all workers home, those that are busy when they are done."""
        with self._lock:
            self._dismissed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.go()

    def leave(self, worker: _Worker) -> bool:
        """Let a worker go, unless it has just been given work."""
        with self._lock:
            if worker in self._idle:
                self._idle.remove(worker)
                return True
            return False


class _Worker:
    def __init__(self, threads: BlockingThreads) -> None:
        self._threads = threads
        self._bell = allocate_lock()
        self._bell.acquire()
        self._job: tuple[Completion, Callable[[], Any]] | None = None
        self._dismissed = False

    def give(self, completion: Completion, fn: Callable[[], Any]) -> None:
        self._job = (completion, fn)
        self._bell.release()

    def go(self) -> None:
        """Go home. For one that has no work and can be given none."""
        self._dismissed = True
        self._bell.release()

    def work(self) -> None:
        while self._bell.acquire(timeout=IDLE_SECONDS) or not self._threads.leave(self):
            if self._dismissed:
                return
            if self._job is None:
                continue
            (completion, fn), self._job = self._job, None
            lent = runtime.local.carrier = _Lent(completion.record)
            value, error = None, None
            try:
                value = fn()
            except BaseException as caught:
                error = caught
            try:
                _flush(lent)
            except Exception as caught:  # its group leader is dead: the process hears of it, the thread goes on
                error = error or caught
            runtime.local.carrier = None
            self._threads.rest(self)
            completion.finish(value, error)
            del completion, fn, value, error, lent


def _flush(lent: _Lent) -> None:
    partial, lent.partial = lent.partial, None
    for stream, text in (partial or {}).items():
        write_output(lent.machine, lent.record, stream, text)


class IoLoop:
    """One thread with an asyncio loop, started with the first awaitable."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards `_loop` and `_stopped`
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False

    def submit(self, completion: Completion, awaitable: Awaitable[Any]) -> IoJob:
        """Await something on the loop; cancelling the job cancels it there."""
        # Within the lock, so that what `stop` asks of the loop comes after it.
        with self._lock:
            if self._stopped:
                raise MachineError("this machine has been stopped: nothing can be awaited on it")
            loop = self._loop
            if loop is None:
                loop = self._loop = asyncio.new_event_loop()
                threading.Thread(target=_serve, args=(loop,), name="otplib-io", daemon=True).start()
            job = IoJob(completion, awaitable, loop)
            loop.call_soon_threadsafe(job.start)
        return job

    def stop(self) -> None:
        """Cancel what runs and end the thread."""
        with self._lock:
            self._stopped = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(_cancel_all, self._loop)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    gathered = asyncio.gather(*tasks, return_exceptions=True)
    gathered.add_done_callback(lambda _: loop.stop())


class IoJob:
    """One awaitable of a process on the I/O loop."""

    def __init__(self, completion: Completion, awaitable: Awaitable[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._completion = completion
        self._awaitable = awaitable
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None

    def start(self) -> None:
        """Begin, on the loop, in the context of the process."""
        self._task = self._loop.create_task(self._work())
        self._task.add_done_callback(self._tell)

    def cancel(self) -> None:
        """Cancel it, unless it is over. Safe on any thread."""
        if not self._completion.done:
            try:
                self._loop.call_soon_threadsafe(self._stop)  # after `start`, in the order of asking
            except RuntimeError:  # the loop has been closed, and all that ran there cancelled
                pass

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _work(self) -> Any:
        try:
            return await _as_process(self._completion.record, self._awaitable)
        except (SystemExit, KeyboardInterrupt) as error:  # asyncio would end the loop with them
            self._completion.finish(None, error)

    def _tell(self, task: asyncio.Task[Any]) -> None:
        completion = self._completion
        if isinstance(self._awaitable, CoroutineType):
            self._awaitable.close()  # cancelled before its first step it would complain that nobody awaited it
        if completion.done:
            return
        if not task.cancelled():
            error = task.exception()
            completion.finish(None if error is not None else task.result(), error)
        elif not completion.record.machine.stopped:  # else the process is about to end, and need not hear of it
            completion.finish(None, asyncio.CancelledError())


@coroutine
def _as_process(record: ProcessRecord, awaitable: Awaitable[Any]) -> Generator[Any, Any, Any]:
    """Await, each step counting as the process: `self_()`, `send` and `print` are its own."""
    steps: Any = awaitable.__await__()
    lent = _Lent(record)
    answer: BaseException | None = None
    while True:
        runtime.local.carrier = lent
        try:
            future = next(steps) if answer is None else steps.throw(answer)
        except StopIteration as stop:
            return stop.value
        finally:
            try:
                _flush(lent)
            finally:
                runtime.local.carrier = None
        answer = None
        try:
            yield future
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:
            answer = error


def blocking_threads(machine: Machine) -> BlockingThreads:
    """Give a machine's threads for blocking calls."""
    found: BlockingThreads | None = machine.services.get("blocking")
    if found is None:
        found = machine.services.setdefault("blocking", BlockingThreads())
        machine.at_stop.append(found.dismiss)
    return found


def io_loop(machine: Machine) -> IoLoop:
    """Give a machine's asyncio thread."""
    found: IoLoop | None = machine.services.get("io_loop")
    if found is None:
        found = machine.services.setdefault("io_loop", IoLoop())
        machine.at_stop.append(found.stop)
    return found
