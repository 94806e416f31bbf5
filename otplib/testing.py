"""Deterministic tests of processes, for this library and for its users: no threads, a seeded order, a clock that jumps.

```python
def test_a_late_answer_is_dropped():
    with deterministic(seed=1) as machine:
        machine.run(scenario)
```

The order in which runnable processes take their turns comes from the seed alone, so a failure can be run again. When
nobody can run, the clock jumps to the next timer: a test of a time-out of an hour takes no time. Processes are not
pre-empted: one that never stops hangs the test.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from otplib.core.errors import MachineError
from otplib.core.inspection import inspect_term
from otplib.process import receive, run
from otplib.vm.carrier import Carrier
from otplib.vm.context import runtime
from otplib.vm.machine import Machine
from otplib.vm.output import install_output
from otplib.vm.process_record import ProcessRecord
from otplib.vm.scheduler import Scheduler
from otplib.vm.stepping import run_step


class JumpingClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class InlineScheduler(Scheduler):
    """Runs steps on the thread that waits for their outcome, in an order drawn from a seed."""

    def __init__(self, machine: Machine, seed: int) -> None:
        super().__init__(machine)
        self._random = random.Random(seed)
        self._carrier = Carrier(machine)
        self._carrier.tid = threading.get_ident()
        self.role = self._carrier

    def enqueue(self, record: ProcessRecord) -> None:
        """Put a runnable process into the queue; nothing starts."""
        self.machine.queue.append(record)

    def timer_added(self, when: float) -> None:
        """Hear of a new timer."""
        self.next_due = min(self.next_due, when)

    def step(self) -> bool:
        """Let one runnable process, drawn by the seed, make one step; False if none is runnable."""
        queue = self.machine.queue
        if not queue:
            return False
        queue.rotate(-self._random.randrange(len(queue)))
        record = queue.popleft()
        outer = runtime.local.carrier
        runtime.local.carrier = self._carrier
        try:
            run_step(self, self._carrier, record)
        finally:
            runtime.local.carrier = outer
            self._carrier.record = None
            if self._carrier.promises:
                self._carrier.keep_promises()
        return True

    def run_until_idle(self) -> None:
        """Step until nobody is runnable, without moving the clock."""
        while self.step():
            pass

    def jump(self) -> bool:
        """Move the clock to the next timer and fire it; False if there is none."""
        with self.machine.lock:
            when = self.machine.timers.next_time()
        if when is None:
            return False
        clock = self.machine.now
        assert isinstance(clock, JumpingClock)
        clock.time = max(clock.time, when)
        self.fire_timers()
        return True

    def wait_for(self, done: Any, timeout: float | None) -> bool:
        """Step and jump until the lock `done` is released, or the clock has moved by `timeout`.

        Raises:
            MachineError: nobody can run and no timer is set: it would wait for ever.
        """
        install_output()
        end = None if timeout is None else self.machine.now() + timeout
        while not done.acquire(False):
            if self.step() or self._wait_outside():
                continue
            with self.machine.lock:
                when = self.machine.timers.next_time()
            if end is not None and (when is None or when > end):
                return False
            if not self.jump():
                raise MachineError(
                    "every process waits and no timer is set, so this would wait for ever:\n" + self._describe()
                )
        return True

    def _wait_outside(self) -> bool:
        """Wait a moment for work on real threads, if there is any."""
        if self.outside and not self.machine.queue:
            time.sleep(0.0005)
            return True
        return False

    def _describe(self) -> str:
        return "\n".join(
            f"    {record.pid!r} {inspect_term(record.name) if record.name else ''} {record.state.value}"
            for record in self.machine.records()
        )

    def settle(self, timeout: float) -> bool:
        """Step until nobody is runnable."""
        self.run_until_idle()
        return True

    def stop(self, timeout: float) -> None:
        """Close all processes."""
        for record in list(self.machine.table.values()):
            self.machine.doom(record, "shutdown")
        for _ in range(1_000_000):
            if not self.step():
                break
        self.stopping = True


class DeterministicMachine(Machine):
    """A machine for tests; `with deterministic() as machine:` makes one."""

    scheduler: InlineScheduler

    def __init__(self, seed: int, **options: Any) -> None:
        super().__init__(clock=JumpingClock(), scheduler=lambda machine: InlineScheduler(machine, seed), **options)

    def run(self, fn: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
        """Run `fn(*args)` as a process to its end, everything else stepping along; gives its result or raises.

        Raises:
            MachineError: it would wait for ever.
        """
        return run(fn, *args, timeout=timeout)

    def wait_until_idle(self) -> None:
        """Step until every process waits. The clock does not move."""
        self.scheduler.run_until_idle()

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, firing what falls due, everything stepping along."""
        end = self.now() + seconds
        clock = self.now
        assert isinstance(clock, JumpingClock)
        self.scheduler.run_until_idle()
        while (when := self.timers.next_time()) is not None and when <= end:
            self.scheduler.jump()
            self.scheduler.run_until_idle()
        clock.time = end


@contextmanager
def deterministic(seed: int = 0, **options: Any) -> Iterator[DeterministicMachine]:
    """Give a machine whose every run with the same seed is the same; it is the machine of the block.

    Example:
        >>> from otplib import self_, send, sleep, spawn
        >>> async def main():
        ...     me = self_()
        ...     async def later(): await sleep(3600); send(me, "done")
        ...     spawn(later)
        ...     return await receive()
        >>> with deterministic(seed=7) as machine:
        ...     machine.run(main)
        'done'
    """
    with DeterministicMachine(seed, **options) as machine:
        yield machine


async def assert_receive(*patterns: Any, timeout: float = 1.0) -> Any:
    """Take a message that fits; an assertion error that shows the mailbox if none comes. Mirrors ExUnit's
    `assert_receive`."""
    from otplib.vm.shell import current_record

    try:
        return await receive(*patterns, timeout=timeout)
    except TimeoutError:
        record = current_record()
        found = record.mailbox.messages() if record.mailbox is not None else []
        wanted = " or ".join(inspect_term(pattern) for pattern in patterns)
        raise AssertionError(
            f"no message that fits {wanted} within {timeout} s; the mailbox holds {inspect_term(found)}"
        ) from None


async def refute_receive(*patterns: Any, timeout: float = 0.1) -> None:
    """Fail if a message that fits comes within `timeout` seconds. Mirrors ExUnit's `refute_receive`."""
    try:
        message = await receive(*patterns, timeout=timeout)
    except TimeoutError:
        return
    raise AssertionError(f"expected no such message, got {inspect_term(message)}")
