"""How the owner of tasks waits for them: the machine behind `Task.await_`, `yield_`, `shutdown` and their like.

A task ends for its owner with the first of two messages: `(ref, value)`, or the `Down` of `ref`. A task that has
answered ends right after, so its `Down` is there too or is on its way; whoever takes the answer takes it away.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from otplib.behaviours.gen import flush_answer
from otplib.behaviours.task_process import not_mine
from otplib.core.errors import CallTimeout, Exit
from otplib.core.mailbox import EMPTY
from otplib.core.reasons import Down
from otplib.core.terms import Pid, Ref
from otplib.process import demonitor, exit, monitor, unlink
from otplib.vm.process_record import ProcessRecord
from otplib.vm.shell import current_record
from otplib.vm.waiting import deadline_after, take_reply

if TYPE_CHECKING:
    from otplib.behaviours.task import Task

T = TypeVar("T")

#: What a task came to: its value, or the reason of its end.
Outcome = tuple[Literal["ok"], T] | tuple[Literal["exit"], Any]


def _check_owner(task: Task[Any]) -> ProcessRecord:
    record = current_record()
    if task.owner is not record.pid and task.owner != record.pid:
        raise not_mine(task, task.owner)
    return record


def _forget(record: ProcessRecord, ref: Ref) -> None:
    """Take away the `Down` of a task that has answered, come or not."""
    mailbox = record.mailbox
    if mailbox:
        first = mailbox[0]  # nearly always it is the next message
        if type(first) is Down and first.ref is ref:
            mailbox.pop(0)
            record.machine.aliases.drop(record, ref)
            return
    demonitor(ref, flush=True)


def _reason_of(down: Down) -> Any:
    """Give why a task is gone, as its caller's exit tells it: `("nodedown", node)` if its node is."""
    if down.reason == "noconnection" and isinstance(down.pid, Pid):
        return ("nodedown", down.pid.node)
    return down.reason


async def await_one(task: Task[T], timeout: float | None) -> T:
    """Give the value of a task."""
    record = _check_owner(task)
    ref = task.ref
    answer = await take_reply(record, ref, 0, None if timeout is None else deadline_after(record, timeout))
    if answer is None:
        forget_all(record, (task,))
        raise CallTimeout(("timeout", ("Task", "await", [task, timeout])))
    if len(answer) == 2:
        _forget(record, ref)
        value: T = answer[1]
        return value
    record.machine.aliases.drop(record, ref)
    raise Exit((_reason_of(answer), ("Task", "await", [task, timeout])))


def forget_all(record: ProcessRecord, tasks: Iterable[Task[Any]]) -> None:
    """Let whatever tasks still say be dropped, and what they have said."""
    for task in tasks:
        demonitor(task.ref, flush=True)
        flush_answer(record, task.ref)


async def await_all(tasks: Iterable[Task[Any]], timeout: float | None) -> list[Any]:
    """Give the values of all, in their order; the first failure ends it."""
    given = [*tasks]
    records = [_check_owner(task) for task in given]
    if not records:
        return []
    record = records[0]
    deadline = deadline_after(record, timeout)
    values = []
    for index, task in enumerate(given):
        answer = await take_reply(record, task.ref, 0, deadline)
        if answer is not None and len(answer) == 2:
            _forget(record, task.ref)
            values.append(answer[1])
            continue
        reason = "timeout" if answer is None else _reason_of(answer)
        forget_all(record, given[index:])
        kind = CallTimeout if answer is None else Exit
        raise kind((reason, ("Task", "await_many", [given, timeout])))
    return values


async def yield_one(task: Task[T], timeout: float | None) -> Outcome[T] | None:
    """Give what a task came to; None if it has not come to an end in time."""
    record = _check_owner(task)
    answer = await take_reply(record, task.ref, 0, deadline_after(record, timeout))
    return None if answer is None else _outcome(record, task, answer, "yield", timeout)


async def yield_all(tasks: Iterable[Task[Any]], timeout: float | None) -> list[tuple[Task[Any], Outcome[Any] | None]]:
    """Give each task with what it came to, None for those that are not done in time."""
    given = [*tasks]
    for task in given:
        _check_owner(task)
    record = current_record()
    deadline = deadline_after(record, timeout)
    pairs: list[tuple[Task[Any], Outcome[Any] | None]] = []
    for task in given:
        answer = await take_reply(record, task.ref, 0, deadline)
        outcome = None if answer is None else _outcome(record, task, answer, "yield_many", timeout, shown=given)
        pairs.append((task, outcome))
    return pairs


def _outcome(
    record: ProcessRecord, task: Task[Any], answer: Any, verb: str, timeout: Any, shown: Any = None
) -> Outcome[Any]:
    if len(answer) == 2:
        _forget(record, task.ref)
        return ("ok", answer[1])
    record.machine.aliases.drop(record, task.ref)
    if answer.reason == "noconnection":
        raise Exit((_reason_of(answer), ("Task", verb, [task if shown is None else shown, timeout])))
    return ("exit", answer.reason)


def ignore_one(task: Task[T]) -> Outcome[T] | None:
    """Let a task go on alone; give what it has come to already."""
    record = _check_owner(task)
    mailbox = record.mailbox

    def fits(message: Any) -> bool:
        kind = type(message)
        return (kind is tuple and len(message) == 2 and message[0] == task.ref) or (
            kind is Down and message.ref == task.ref
        )

    answer: Any = EMPTY if mailbox is None else mailbox.take(fits)
    if answer is EMPTY:
        _let_go(record, task)
        return None
    if len(answer) == 2:
        _let_go(record, task)
        return ("ok", answer[1])
    return _outcome(record, task, answer, "ignore", None)


def _let_go(record: ProcessRecord, task: Task[Any]) -> None:
    if task.pid is not None:
        unlink(task.pid)
    forget_all(record, (task,))


# ---- ending one ------------------------------------------------------------------------------------------------------


async def shut_down(task: Task[T], limit: float | Literal["brutal_kill"] | None) -> Outcome[T] | None:
    """End a task and wait for its end; give what it had come to before, None if it had not."""
    record = _check_owner(task)
    pid = task.pid
    if pid is None:
        raise ValueError(f"{task!r} does not have an associated task process, so there is nothing to shut down")
    brutal = limit == "brutal_kill"
    deadline = None if isinstance(limit, str) else deadline_after(record, limit)
    if isinstance(limit, str) and not brutal:
        raise ValueError(f'expected seconds to wait, None or "brutal_kill"; got {limit!r}')
    watch = monitor(pid)
    _send_end(pid, "kill" if brutal else "shutdown")
    try:
        down = await take_reply(record, watch, 0, deadline)
        if down is None:
            exit(pid, "kill")
            down = await take_reply(record, watch, 0, None)
    finally:
        demonitor(watch, flush=True)
    return _what_it_came_to(record, task, down, "killed" if brutal else "shutdown", limit)


def _what_it_came_to(record: ProcessRecord, task: Task[Any], down: Down, asked: str, limit: Any) -> Outcome[Any] | None:
    """Take the answer of a task that has ended, else its reason. Its own `Down` knows more than `"noproc"`."""
    ref = task.ref
    mailbox = record.mailbox
    first: Any = (
        EMPTY if mailbox is None else mailbox.take(lambda one: type(one) is tuple and len(one) == 2 and one[0] == ref)
    )
    own: Any = EMPTY if mailbox is None else mailbox.take(lambda one: type(one) is Down and one.ref == ref)
    demonitor(ref, flush=True)
    if first is not EMPTY:
        return ("ok", first[1])
    if down.reason == "noproc" and own is not EMPTY:
        down = own
    if isinstance(down.reason, str) and down.reason == asked:
        return None
    if down.reason == "noconnection":
        raise Exit((_reason_of(down), ("Task", "shutdown", [task, limit])))
    return ("exit", down.reason)


def _send_end(pid: Pid, reason: str) -> None:
    """Unlink a task and send it an exit signal.

    Race: this process may be killed right after the first; then the link is gone, and nothing else would end the task.
    So the second is done on the way out too (Elixir spawns an enforcer for it).
    """
    try:
        unlink(pid)
    finally:
        exit(pid, reason)
