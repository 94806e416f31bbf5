"""How a process waits: for a message, for a moment, for work done elsewhere. The same code serves processes and shells.

Every wait is a loop: look, and if there is nothing, stop until there may be something. Being woken for nothing is
harmless, so wakers need not know what a process waits for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Final, TypeVar

from otplib.core.errors import Exit, MachineError
from otplib.core.inspection import inspect_term
from otplib.core.mailbox import EMPTY, SHORT
from otplib.core.patterns import check_pattern, tester
from otplib.core.terms import Ref
from otplib.vm.blocking import Completion, blocking_threads, io_loop
from otplib.vm.context import local
from otplib.vm.errors import Killed
from otplib.vm.process_record import ProcessRecord, Status
from otplib.vm.shell import Shell, current_record
from otplib.vm.traps import PARK, REST, TURN

T = TypeVar("T")

DEAD: Final = Status.DEAD

#: A process that always finds a message still goes to the end of the queue after so many reductions.
REDUCTIONS: Final = 512

#: More seconds than this, 30,000 years, are no limit at all.
_FOR_EVER: Final = 1e12


def deadline_after(record: ProcessRecord, timeout: float | None) -> float | None:
    """Give the moment at which a wait of `timeout` seconds gives up, None for never.

    Raises:
        TypeError: not a number.
        ValueError: negative, or not a number's value.
    """
    if timeout is None:
        return None
    kind = type(timeout)
    # The first two for speed; numpy's float64 is a float too, but True is no number of seconds.
    if kind is not float and kind is not int and (not isinstance(timeout, (float, int)) or kind is bool):
        raise TypeError(f"expected a timeout in seconds or None, got {timeout!r}: write timeout=1.5")
    if not timeout >= 0:
        raise ValueError(f"expected a timeout of 0 or more seconds, got {timeout!r}; None waits for ever")
    return None if timeout > _FOR_EVER else record.machine.now() + timeout


def waiting_record() -> ProcessRecord:
    """Give the process that is about to wait.

    Raises:
        MachineError: this is a thread lent to a process, where nothing of the process's coroutine runs.
    """
    carrier = local.carrier
    if carrier is None or carrier.record is None:
        return current_record()
    if carrier.may_block:
        raise MachineError(
            "this is a thread that process.blocking lent: it cannot await for its process. Let the function return, "
            "and await in the process itself"
        )
    record: ProcessRecord = carrier.record
    return record


async def wait_message(record: ProcessRecord, deadline: float | None) -> bool:
    """Stop until a message may have come; False once `deadline` has passed."""
    if deadline is not None and _is_late(record, deadline):
        return False
    if record.is_shell:
        assert isinstance(record, Shell)
        await record.wait(deadline, for_message=True)
    else:
        await PARK
    return True


async def wait_nudge(record: ProcessRecord, deadline: float | None) -> bool:
    """Stop until the process is nudged, leaving messages alone; False once `deadline` has passed."""
    if deadline is not None and _is_late(record, deadline):
        return False
    if record.is_shell:
        assert isinstance(record, Shell)
        await record.wait(deadline, for_message=False)
    else:
        await REST
    return True


def _is_late(record: ProcessRecord, deadline: float) -> bool:
    """Tell whether `deadline` has passed; else see to it that the process is nudged then."""
    machine = record.machine
    if machine.now() >= deadline:
        record.deadline = None
        return True
    if record.is_shell:
        record.deadline = deadline
    else:
        machine.arm(record, deadline)
    return False


async def receive(*patterns: Any, timeout: float | None = None) -> Any:
    """Take the oldest message that fits any of `patterns`; with none given, the oldest message.

    Messages that do not fit stay in the mailbox, in order. A literal equals; a type is `isinstance`; `...` is anything;
    tuples, lists, dicts and dataclasses hold patterns; a callable is a predicate. Mirrors Elixir's `receive`.

    Args:
        patterns: what to wait for.
        timeout: seconds to wait; None waits for ever, 0 looks once and never waits.

    Raises:
        TimeoutError: nothing that fits came in time.
        TypeError, ValueError: a bad pattern or timeout, at once.

    Example:
        >>> from otplib import run, self_, send
        >>> async def main():
        ...     send(self_(), ("b", 1)); send(self_(), ("a", 2))
        ...     return await receive(("a", int)), await receive(timeout=0)
        >>> run(main)
        (('a', 2), ('b', 1))
    """
    # Plain `receive()` in a process, the commonest and hottest, is written out: 0.1 us less for each.
    carrier = local.carrier
    if carrier is None or carrier.may_block or (record := carrier.record) is None:
        record = waiting_record()
    if timeout is not None or patterns or record.is_shell:
        return await _receive_slowly(record, patterns, timeout)
    record.reductions = count = record.reductions + 1
    if not count & (REDUCTIONS - 1):
        await TURN
    while True:
        mailbox = record.mailbox
        if mailbox is not None:
            if mailbox.saved is None and 0 < len(mailbox) < SHORT:
                record.deadline = None
                return mailbox.pop(0)
            message = mailbox.take_first()
            if message is not EMPTY:
                record.deadline = None
                return message
        elif record.state is DEAD:
            raise _end_of(record)
        await PARK


async def _receive_slowly(record: ProcessRecord, patterns: tuple[Any, ...], timeout: float | None) -> Any:
    deadline = deadline_after(record, timeout) if timeout is not None else None
    record.reductions += 1
    if not record.reductions & (REDUCTIONS - 1):
        await yield_turn(record)
    if patterns:
        return await _receive_fitting(record, patterns, timeout, deadline)
    while True:
        mailbox = record.mailbox
        if mailbox is not None:
            message = mailbox.take_first()
            if message is not EMPTY:
                record.deadline = None
                return message
        elif record.state is DEAD:
            raise _end_of(record)
        if deadline is None and not record.is_shell:
            await PARK
        elif not await wait_message(record, deadline):
            raise TimeoutError(f"receive() got no message within {timeout} s")


async def _receive_fitting(
    record: ProcessRecord, patterns: tuple[Any, ...], timeout: float | None, deadline: float | None
) -> Any:
    for pattern in patterns:
        check_pattern(pattern)
    fits = tester(patterns)
    seen = 0
    while True:
        mailbox = record.mailbox
        if mailbox is not None:
            message = mailbox.take(fits, seen)
            if message is not EMPTY:
                record.deadline = None
                return message
            seen = len(mailbox.saved) if mailbox.saved is not None else 0
        elif record.state is DEAD:
            raise _end_of(record)
        if deadline is None and not record.is_shell:
            await PARK
        elif not await wait_message(record, deadline):
            wanted = " or ".join(inspect_term(pattern) for pattern in patterns)
            raise TimeoutError(f"receive() got no message that fits {wanted} within {timeout} s")


async def take_reply(record: ProcessRecord, ref: Ref, mark: int, deadline: float | None) -> Any:
    """Take `(ref, answer)` or the `Down` of `ref`, looking only at what came after `mark`; None when time is up."""
    if record.is_shell:
        while (answer := _look_for_reply(record, ref, mark)) is None and await wait_message(record, deadline):
            pass
        return answer
    while True:
        mailbox = record.mailbox
        if mailbox:
            first = mailbox[0]
            # Nearly always the answer is the first that has come since; nobody else has its tag.
            if type(first) is tuple and len(first) == 2 and first[0] is ref:
                record.deadline = None
                return mailbox.pop(0)
        answer = _look_for_reply(record, ref, mark)
        if answer is not None:
            return answer
        if deadline is not None and _is_late(record, deadline):
            return None
        await PARK


def _look_for_reply(record: ProcessRecord, ref: Ref, mark: int) -> Any:
    def fits(message: Any) -> bool:
        return isinstance(message, tuple) and (
            # Equal, not the same: the tag of an answer from another node has been there and back.
            (len(message) == 2 and message[0] == ref) or (len(message) == 5 and message[1] == ref)
        )

    mailbox = record.mailbox
    if mailbox is not None:
        found = mailbox.take(fits, mark)
        if found is not EMPTY:
            record.deadline = None
            return found
    elif record.state is DEAD:
        raise _end_of(record)
    return None


def _end_of(record: ProcessRecord) -> BaseException:
    """What code of a dead process gets when it tries to wait: it was given up, or a signal killed its shell."""
    if record.is_shell and record.doom is not None:
        return Exit(record.doom[0])
    return Killed()


async def count_failure(record: ProcessRecord) -> None:
    """Count a call that failed at once, so that a loop of such calls lets the others have their turns.

    It is worth sixteen reductions: an exception takes ten times as long as a message.
    """
    before = record.reductions
    record.reductions = before + 16
    if (before ^ record.reductions) & -REDUCTIONS:
        await yield_turn(record)


async def yield_turn(record: ProcessRecord) -> None:
    """Go to the end of the run queue; nothing to do for ordinary code."""
    if not record.is_shell:
        await TURN


async def sleep(seconds: float) -> None:
    """Stop for `seconds`; other processes run meanwhile. Messages stay in the mailbox. Mirrors `Process.sleep/1`.

    Raises:
        TypeError, ValueError: not a number of seconds, or negative.

    Example:
        >>> from otplib import run
        >>> run(sleep, 0.001)
    """
    record = waiting_record()
    if seconds is None:
        raise TypeError("expected seconds to sleep, got None: write sleep(float('inf')) to sleep for ever")
    deadline = deadline_after(record, seconds)
    if seconds == 0:
        await yield_turn(record)
        return
    while await wait_nudge(record, deadline):
        pass


async def blocking(fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run a blocking call on a thread of its own and wait for its result; other processes run meanwhile.

    Code of the call counts as this process: `self_()`, `send` and `print` are its own. If the process dies meanwhile
    the result is dropped; the call itself cannot be stopped.

    Raises:
        whatever `fn` raises.

    Example:
        >>> from otplib import run
        >>> async def main():
        ...     return await blocking(max, 3, 5)
        >>> run(main)
        5
    """
    if not callable(fn):
        raise TypeError(f"expected a function to call on a thread, as in blocking(fn, arg); got {fn!r}")
    record = waiting_record()
    completion = Completion(record)
    context = copy_context()
    record.machine.scheduler.outside += 1
    blocking_threads(record.machine).submit(completion, lambda: context.run(fn, *args, **kwargs))
    try:
        while not completion.done:
            await wait_nudge(record, None)
    finally:
        record.machine.scheduler.outside -= 1
    result: T = completion.result()
    return result


async def from_asyncio(awaitable: Awaitable[T]) -> T:
    """Await an asyncio awaitable on the I/O loop's thread; in a cell or an asyncio task, on the loop that runs there.

    If the process dies meanwhile the awaitable is cancelled.

    Raises:
        whatever the awaitable raises.
        TypeError: not an awaitable.

    Example:
        >>> import asyncio
        >>> from otplib import run
        >>> async def main():
        ...     return await from_asyncio(asyncio.sleep(0.001, "done"))
        >>> run(main)
        'done'
    """
    if not hasattr(awaitable, "__await__"):
        raise TypeError(
            f"expected an awaitable, as in from_asyncio(client.get(url)); got {type(awaitable).__qualname__}"
        )
    record = waiting_record()
    if record.is_shell:
        return await awaitable
    completion = Completion(record)
    record.machine.scheduler.outside += 1
    future = io_loop(record.machine).submit(completion, awaitable)
    try:
        while not completion.done:
            await wait_nudge(record, None)
    finally:
        record.machine.scheduler.outside -= 1
        future.cancel()
    result: T = completion.result()
    return result
