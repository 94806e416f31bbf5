"""What can be asked about a process: the items of `Process.info/2`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from otplib.core.reasons import StackEntry
from otplib.core.terms import Pid, Ref
from otplib.vm.process_record import ProcessRecord, Status

if TYPE_CHECKING:
    from otplib.vm.machine import Machine


def status_of(record: ProcessRecord) -> str:
    """Give `"running"`, `"runnable"`, `"waiting"`, `"suspended"` or `"exiting"`."""
    if record.doom is not None or record.state is Status.DEAD:
        return "exiting"
    if record.suspended:
        return "suspended"
    if record.is_shell:
        return "waiting" if record.state is not Status.RUNNING else "running"
    return "waiting" if record.state is Status.PAUSED else record.state.value


def stack_of_process(record: ProcessRecord) -> list[StackEntry]:
    """Give where a process that waits has stopped, innermost first, the engine's own frames left out."""
    describe = record.machine.hooks.describe_file
    entries: list[StackEntry] = []
    awaited: Any = record.coro
    while isinstance(awaited, CoroutineType) and awaited.cr_frame is not None:
        code = awaited.cr_code
        module = awaited.cr_frame.f_globals.get("__name__", "")
        if not module.startswith("otplib."):
            entries.append(StackEntry(describe(code.co_filename), awaited.cr_frame.f_lineno, code.co_qualname))
        awaited = awaited.cr_await
    return entries[::-1]


def _current_function(record: ProcessRecord) -> tuple[str, str]:
    """Give module and name of the innermost function a process has stopped in.

    A `receive` is no function on the BEAM, so what counts is the function it stands in (row p42); `sleep` is one.
    """
    awaited: Any = record.coro
    if awaited is None and record.state is Status.WAITING and not record.is_shell:
        return ("otplib.process", "hibernate")
    found: tuple[str, str] | None = None
    while isinstance(awaited, CoroutineType) and awaited.cr_frame is not None:
        module, name = awaited.cr_frame.f_globals.get("__name__", ""), awaited.cr_code.co_qualname
        if module == "otplib.vm.waiting":
            if name not in _WAITING_VERBS:
                break
            module = "otplib.process"
        found = (module, name)
        awaited = awaited.cr_await
    return found if found is not None else _initial_call(record)


_WAITING_VERBS = ("sleep", "blocking", "from_asyncio")


def _initial_call(record: ProcessRecord) -> tuple[str, str]:
    if record.entry is not None:
        entry: tuple[str, str] = record.entry
        return entry
    fn = record.initial
    return (getattr(fn, "__module__", None) or "", getattr(fn, "__qualname__", None) or repr(fn))


def _memory(record: ProcessRecord) -> int:
    """Estimate what a process weighs, in bytes: its record, its coroutines, and the messages it has not read."""
    size = sys.getsizeof(record) + sys.getsizeof(record.pid)
    awaited: Any = record.coro
    while isinstance(awaited, CoroutineType):
        size += sys.getsizeof(awaited)
        awaited = awaited.cr_await
    mailbox = record.mailbox
    if mailbox is not None:
        size += sys.getsizeof(mailbox)
        size += sum(sys.getsizeof(message) for message in mailbox.messages())
    return size


def _monitors(machine: Machine, record: ProcessRecord) -> list[Any]:
    with machine.lock:
        targets = list((record.monitors or {}).items())
    return [_shown_target(ref, target) for ref, target in targets]


def _shown_target(ref: Ref, target: Any) -> Any:
    """Give what a monitor watches as it was named: a pid, or `(name, node)`."""
    if not isinstance(target, ProcessRecord):
        return target  # on another node
    known = (target.watchers or {}).get(ref)
    return known[1] if isinstance(known, tuple) and known[1] is not None else target.pid


def _watchers(machine: Machine, record: ProcessRecord) -> list[Any]:
    watchers = list((record.watchers or {}).values())
    found = [watcher[0] if isinstance(watcher, tuple) else watcher for watcher in watchers]
    return [one if isinstance(one, Pid) else one.pid for one in found]


def _queue_length(record: ProcessRecord) -> int:
    return record.mailbox.count() if record.mailbox is not None else 0


def _messages(record: ProcessRecord) -> list[Any]:
    return record.mailbox.messages() if record.mailbox is not None else []


#: What each item gives. Those of `SHORT` are what `info(pid)` shows; the others are asked for by name.
ITEMS: dict[str, Callable[[Machine, ProcessRecord], Any]] = {
    "registered_name": lambda machine, record: record.name,
    "current_function": lambda machine, record: _current_function(record),
    "initial_call": lambda machine, record: _initial_call(record),
    "status": lambda machine, record: status_of(record),
    "message_queue_len": lambda machine, record: _queue_length(record),
    "links": lambda machine, record: list(record.links or ()),
    "dictionary": lambda machine, record: dict(record.dictionary or {}),
    "trap_exit": lambda machine, record: record.trapping,
    "priority": lambda machine, record: record.priority,
    "group_leader": lambda machine, record: machine.leaders.of(record),
    "memory": lambda machine, record: _memory(record),
    "reductions": lambda machine, record: record.reductions,
    "suspending": lambda machine, record: machine.suspensions.of(record),
    "monitors": _monitors,
    "monitored_by": _watchers,
    "messages": lambda machine, record: _messages(record),
    "parent": lambda machine, record: record.parent,
    "max_mailbox": lambda machine, record: record.limit,
    "current_stacktrace": lambda machine, record: stack_of_process(record),
}

SHORT = (
    "current_function",
    "initial_call",
    "status",
    "message_queue_len",
    "links",
    "dictionary",
    "trap_exit",
    "priority",
    "group_leader",
    "memory",
    "reductions",
    "suspending",
)


def info_of(machine: Machine, record: ProcessRecord, items: tuple[str, ...]) -> Any:
    """Give one item's value, or a dict of several.

    Raises:
        ValueError: no such item.
    """
    for item in items:
        if item not in ITEMS:
            raise ValueError(f"no item {item!r} in process.info; there are {', '.join(sorted(ITEMS))}")
    if len(items) == 1:
        return ITEMS[items[0]](machine, record)
    shown = items or (("registered_name", *SHORT) if record.name is not None else SHORT)
    return {item: ITEMS[item](machine, record) for item in shown}
