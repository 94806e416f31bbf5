"""Threads lent to processes: one for each blocking call, and one with an asyncio loop for all awaitables.

All are daemons, so an unfinished call cannot hold up the interpreter's end. Threads of blocking calls are kept for ten
idle seconds.
"""

from __future__ import annotations

import asyncio
import threading
from _thread import allocate_lock
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from otplib.vm.context import runtime
from otplib.vm.output import write_output

if TYPE_CHECKING:
    from concurrent.futures import Future

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

    def __init__(self, record: ProcessRecord) -> None:
        self.record = record
        self.machine = record.machine
        self.partial: dict[str, str] | None = None


class BlockingThreads:
    """The threads of one machine that run blocking calls."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards `_idle`
        self._idle: list[_Worker] = []

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

    def give(self, completion: Completion, fn: Callable[[], Any]) -> None:
        self._job = (completion, fn)
        self._bell.release()

    def work(self) -> None:
        while self._bell.acquire(timeout=IDLE_SECONDS) or not self._threads.leave(self):
            if self._job is None:
                continue
            (completion, fn), self._job = self._job, None
            lent = runtime.local.carrier = _Lent(completion.record)
            value, error = None, None
            try:
                value = fn()
            except BaseException as caught:
                error = caught
            _flush(lent)
            runtime.local.carrier = None
            self._threads.rest(self)
            completion.finish(value, error)
            del completion, fn, value, error, lent


def _flush(lent: _Lent) -> None:
    for stream, text in (lent.partial or {}).items():
        write_output(lent.machine, lent.record, stream, text)


class IoLoop:
    """One thread with an asyncio loop, started with the first awaitable."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards `_loop`
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, completion: Completion, awaitable: Awaitable[Any]) -> Future[Any]:
        """Await something on the loop; cancelling the future cancels it there."""

        async def wait() -> Any:
            return await awaitable

        future = asyncio.run_coroutine_threadsafe(wait(), self._running_loop())
        future.add_done_callback(lambda done: _pass_on(completion, done))
        return future

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="otplib-io", daemon=True).start()
            return self._loop

    def stop(self) -> None:
        """Cancel what runs and end the thread."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(_cancel_all, loop)


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    gathered = asyncio.gather(*tasks, return_exceptions=True)
    gathered.add_done_callback(lambda _: loop.stop())


def _pass_on(completion: Completion, done: Future[Any]) -> None:
    if done.cancelled():
        completion.finish(None, asyncio.CancelledError())
    else:
        error = done.exception()
        completion.finish(None if error is not None else done.result(), error)


def blocking_threads(machine: Machine) -> BlockingThreads:
    """Give a machine's threads for blocking calls."""
    found: BlockingThreads = machine.services.setdefault("blocking", BlockingThreads())
    return found


def io_loop(machine: Machine) -> IoLoop:
    """Give a machine's asyncio thread."""
    found: IoLoop | None = machine.services.get("io_loop")
    if found is None:
        found = machine.services.setdefault("io_loop", IoLoop())
        machine.at_stop.append(found.stop)
    return found
