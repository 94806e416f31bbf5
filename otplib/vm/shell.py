"""The process of code that no scheduler runs: a cell, a script, a thread, a task of a foreign asyncio loop.

A thread has one shell, and each asyncio task has its own, but for the task in which a notebook runs its cells: that one
belongs to the thread's (`adopt_task`), so `self_()` is the same in every cell.

A shell that a signal kills is dead at once; the code that waited gets `Exit`, and the next that asks gets a new shell,
as in iex.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from _thread import allocate_lock
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from otplib.core.errors import Exit, MachineError
from otplib.vm.context import local
from otplib.vm.machine import Machine, default_machine
from otplib.vm.output import install_output
from otplib.vm.process_record import ProcessRecord, Status
from otplib.vm.traps import PARK, Trap

T = TypeVar("T")

#: A waiting cell looks up this often, seconds: ipykernel cannot interrupt an await on an idle loop (ipykernel#881).
SLICE: Final = 0.1


class Shell(ProcessRecord):
    """A process whose steps are ordinary code."""

    __slots__ = ("__weakref__", "driven", "waiting")

    is_shell = True

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine, machine.new_pid(), None, None)
        self.state = Status.RUNNING
        #: A coroutine of ours is driven by hand on this thread.
        self.driven = False
        #: Code of it awaits; it will hear of a fatal signal itself.
        self.waiting = False
        self.entry = ("otplib.shell", "main")
        machine.table[self.pid.id] = self

    async def wait(self, deadline: float | None, *, for_message: bool) -> None:
        """Stop until there may be something to see; the counterpart of a process's park.

        Raises:
            Exit: a signal has killed the shell.
        """
        self.waiting = True
        try:
            if self.driven:
                await PARK
            else:
                await self._wait_on_loop(deadline, for_message)
        finally:
            self.waiting = False
        if self.doom is not None:
            error = Exit(self.doom[0])
            error.shell = self.pid
            raise error

    async def _wait_on_loop(self, deadline: float | None, for_message: bool) -> None:
        if asyncio._get_running_loop() is None:
            raise MachineError(
                "nobody here can wait: this is neither a process nor a task of a running asyncio loop. Write "
                "process.drive(receive()) to wait in this thread's shell, or run(fn) to run a function as a process"
            )
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def get_ready() -> None:
            if not future.done():
                future.set_result(None)

        def alert() -> None:
            try:
                loop.call_soon_threadsafe(get_ready)
            except RuntimeError:  # the loop has been closed under it
                pass

        if self._lie_down(alert, for_message):
            try:
                left = SLICE if deadline is None else min(SLICE, max(0.0, deadline - self.machine.now()))
                await asyncio.wait({future}, timeout=left)
            finally:
                self._get_up()

    def wait_on_thread(self, deadline: float | None, *, for_message: bool) -> None:
        """Block the thread until there may be something to see."""
        bell = allocate_lock()
        bell.acquire()

        def alert() -> None:
            try:
                bell.release()
            except RuntimeError:  # rung already: a message and the end of the shell may come together
                pass

        if self._lie_down(alert, for_message):
            try:
                left = SLICE if deadline is None else min(SLICE, max(0.0, deadline - self.machine.now()))
                bell.acquire(timeout=left)
            finally:
                self._get_up()

    def _lie_down(self, alert: Callable[[], None], for_message: bool) -> bool:
        """Say that it waits; False if there is something to see already. The same race as a process's park."""
        self.alert = alert
        self.state = Status.WAITING if for_message else Status.PAUSED
        mailbox = self.mailbox
        if self.pending or self.doom is not None or (for_message and mailbox):
            self._get_up()
            return False
        return True

    def _get_up(self) -> None:
        with self.machine.lock:
            self.alert = None
            self.pending = False
            if self.state is not Status.DEAD:
                self.state = Status.RUNNING


class _Keeper:
    """Held by a thread's local state; when the thread ends, so does its shell."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.os_process = os.getpid()

    # What it needs is bound as defaults: at the interpreter's end the module's globals may be gone.
    def __del__(
        self,
        getpid: Callable[[], int] = os.getpid,
        end: Callable[[Shell], None] = lambda shell: shell.machine.finish(shell, "normal"),
    ) -> None:
        # A fork takes the locals of all other threads away, before any hook, and they may have held the lock.
        if not self.shell.machine.stopped and self.os_process == getpid():
            end(self.shell)


def current_machine() -> Machine:
    """Give the machine this code speaks to: its process's, the one entered by `with`, or the default one."""
    carrier = local.carrier
    if carrier is not None:
        if carrier.wanted:
            carrier.obey()
        machine: Machine = carrier.machine
        return machine
    entered = local.machines
    return entered[-1] if entered else default_machine()


def current_record() -> ProcessRecord:
    """Give the process this code is: the one whose step it is, or the shell of the thread or task."""
    carrier = local.carrier
    if carrier is not None and carrier.record is not None:
        if carrier.wanted:
            carrier.obey()
        record: ProcessRecord = carrier.record
        return record
    return current_shell()


def current_shell() -> Shell:
    """Give the shell of this thread or asyncio task, a new one if a signal has killed it."""
    install_output()
    machine = current_machine()
    task = _current_task()
    if task is not None and task not in _adopted:
        return _shell_of_task(machine, task)
    keeper = local.shell
    if keeper is None or keeper.shell.machine is not machine or keeper.shell.state is Status.DEAD:
        keepers = local.__dict__.setdefault("keepers", {})
        # The machine must not hold the keeper, or the shell would outlive its thread; so nobody tells that it stopped.
        for stopped in [one for one in keepers if one.stopped]:
            del keepers[stopped]
        keeper = keepers.get(machine)
        if keeper is None or keeper.shell.state is Status.DEAD:
            keeper = keepers[machine] = _Keeper(Shell(machine))
        local.shell = keeper
    shell: Shell = keeper.shell
    return shell


#: The tasks whose code belongs to the shell of their thread.
_adopted: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()


def adopt_task(task: asyncio.Task[Any]) -> None:
    """Let code of this task be the thread's own shell: the task in which a kernel runs its cells."""
    _adopted.add(task)


def _current_task() -> asyncio.Task[Any] | None:
    if asyncio._get_running_loop() is None:
        return None
    return asyncio.current_task()


def _shell_of_task(machine: Machine, task: asyncio.Task[Any]) -> Shell:
    if local.task_shells is None:
        local.task_shells = weakref.WeakKeyDictionary()
    shell: Shell | None = local.task_shells.get(task)
    if shell is None or shell.state is Status.DEAD or shell.machine is not machine:
        shell = local.task_shells[task] = Shell(machine)
        made = shell
        task.add_done_callback(lambda _: machine.finish(made, "normal"))
    return shell


def drive(awaitable: Awaitable[T]) -> T:
    """Run one of otplib's awaitables to its end in this thread's own shell process, blocking the thread.

    So a plain thread receives what is sent to its `self_()`: `process.drive(receive())`.

    Raises:
        MachineError: called in a process or in a thread whose asyncio loop runs; `await` it there.
    """
    if local.carrier is not None:
        raise MachineError("drive(...) blocks its thread, and this is a process: write `await ...` instead")
    if _current_task() is not None:
        raise MachineError("drive(...) blocks its thread, and an asyncio loop runs on it: write `await ...` instead")
    shell = current_shell()
    coro = awaitable.__await__()
    shell.driven = True
    try:
        while True:
            trap = next(coro)
            if not isinstance(trap, Trap):
                raise MachineError(
                    f"drive(...) can run otplib's own awaitables; this one awaited {type(trap).__qualname__}"
                )
            if trap is not Trap.YIELD:
                shell.wait_on_thread(shell.deadline, for_message=trap is Trap.WAIT)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        shell.driven = False
