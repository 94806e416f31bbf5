"""The process of a task: what it runs, to whom it answers, and what is logged when it fails.

Two kinds, as in Elixir's `Task.Supervised`: one that answers whoever asked (`async_`), one that answers nobody
(`start`). Both report every end but a clean one, and say for whom they worked. A task that a supervisor starts is told
by a message what to run, so its owner may be on another node, a BEAM too:

| from | to | message |
|---|---|---|
| owner | supervisor | `("$gen_call", (pid, tag), ("start_task", [owner, "monitor"], restart, shutdown))` |
| owner | task | `(owner's pid, ref, alias, callers, (module, function, args))` |
| task | owner | `(ref, value)` |

`owner` is `(node, name or pid, pid)`. The reference is a monitor and an alias in one: once the owner has given up, a
late answer is dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import CoroutineType
from typing import Any, Final

from otplib.behaviours.gen import ancestors_below
from otplib.core.copying import copied
from otplib.core.errors import Exit
from otplib.core.function_names import find_function, split_name
from otplib.core.inspection import inspect_term
from otplib.core.reasons import StackEntry, capture, is_quiet, stack_of
from otplib.core.reports import format_stack, format_stop
from otplib.core.terms import Atom, Pid, Ref
from otplib.process import demonitor, link, monitor, receive, self_, send
from otplib.vm.errors import Hibernated, Killed
from otplib.vm.process_record import ProcessRecord
from otplib.vm.running import check_function
from otplib.vm.shell import current_record
from otplib.vm.transport import is_far

log: Final = logging.getLogger("otplib")

#: Exceptions that are the engine's and take effect as they are.
_PASSING: Final = (Killed, GeneratorExit, Hibernated)

#: Seconds that a supervised task waits to be told what to run.
_BRIEFING_TIME: Final = 5.0

#: How the wire names a function that is sent, and not named.
APPLY: Final = (Atom("erlang"), Atom("apply"))

#: Node, name or pid, and pid of whoever a task works for.
Owner = tuple[str, Any, Pid]

#: Module, function and number of arguments.
Call = tuple[str, str, int]


# ---- who works for whom ----------------------------------------------------------------------------------------------


def owner_of(record: ProcessRecord) -> Owner:
    """Give how a task speaks of the process it works for."""
    shown = record.pid if record.name is None else Atom(record.name)
    return (Atom(record.machine.node), shown, record.pid)


def callers_of(record: ProcessRecord) -> list[Pid]:
    """Give the `"$callers"` of what this process starts: itself, and before it whoever it works for."""
    older = (record.dictionary or {}).get("$callers")
    return [record.pid, *(older if isinstance(older, list) else ())]


def mfa_of(fn: Callable[..., Any], count: int) -> Call:
    """Give module, name and number of arguments of a call.

    Example:
        >>> import math
        >>> mfa_of(math.gcd, 2)
        ('math', 'gcd', 2)
    """
    module = getattr(fn, "__module__", None)
    name = getattr(fn, "__qualname__", None)
    if module is None or name is None:  # a partial, or an object that can be called
        kind = type(fn)
        module = module or kind.__module__
        name = name or kind.__qualname__
    return (module, name, count)


# ---- starting ------------------------------------------------------------------------------------------------------


def spawn_answering(record: ProcessRecord, fn: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Pid, Ref, Call]:
    """Start the linked task that answers `record` with `(ref, value)`; give its pid, the reference, and its call."""
    machine = record.machine
    mfa = mfa_of(fn, len(args) + len(kwargs))
    ref = machine.aliases.new(record)

    def bind(child: ProcessRecord) -> None:
        introduce(child, record, fn, mfa, callers_of(record))
        machine.monitor(record, child, None, ref=ref)

    try:
        work = (record.pid, ref, ref, fn, args, kwargs)
        child, _ = machine.spawn(answer, work, {}, record, link=True, bind=bind)
    except BaseException:
        machine.aliases.drop(record, ref)
        raise
    return child.pid, ref, mfa


def spawn_silent(fn: Callable[..., Any], args: Any, kwargs: Any, *, linked: bool) -> Pid:
    """Start the task that answers nobody."""
    check_function(fn)
    record = current_record()
    args, kwargs = copied(args), copied(kwargs)

    def bind(child: ProcessRecord) -> None:
        introduce(child, record, fn, mfa_of(fn, len(args) + len(kwargs)), callers_of(record))

    work = (owner_of(record), fn, args, kwargs)
    return record.machine.spawn(_work, work, {}, record, link=linked, bind=bind)[0].pid


def introduce(
    child: ProcessRecord, parent: ProcessRecord, fn: Callable[..., Any], mfa: Call, callers: list[Pid]
) -> None:
    """Fill in what a look into the process shows (rows t12, g33), before it can run."""
    child.initial = fn
    child.dictionary = {
        "$initial_call": mfa,
        "$ancestors": ancestors_below(parent),
        "$callers": callers,
    }


async def start_supervised(owner: Owner, monitored: str) -> Pid:
    """Start a linked task that is told by its owner what to run: the start function of a supervisor's child."""
    record = current_record()
    known = {"$ancestors": ancestors_below(record)}

    def bind(child: ProcessRecord) -> None:
        child.dictionary = known

    return record.machine.spawn(_be_briefed, (owner, monitored), {}, record, link=True, bind=bind)[0].pid


async def start_unasked(owner: Owner, callers: list[Pid], mfa: tuple[str, str, list[Any]]) -> Pid:
    """Start a linked task that answers nobody: the start function of `Task.Supervisor.start_child`."""
    record = current_record()
    known = {"$ancestors": ancestors_below(record), "$callers": callers}

    def bind(child: ProcessRecord) -> None:
        child.dictionary = known

    return record.machine.spawn(_work_by_name, (owner, mfa), {}, record, link=True, bind=bind)[0].pid


def brief(pid: Pid, record: ProcessRecord, mfa: tuple[str, str, list[Any]], *, linked: bool) -> Ref:
    """Tell a supervised task what to run, from its owner; gives the reference it answers with."""
    if linked:
        link(pid)
    ref = monitor(pid, alias=True)
    send(pid, (record.pid, ref, ref, callers_of(record), mfa))
    return ref


def named_call(fn: Callable[..., Any] | str, args: tuple[Any, ...]) -> tuple[str, str, list[Any]]:
    """Give a call as the wire names it.

    Raises:
        TypeError, ValueError: nothing that can be run.

    Example:
        >>> named_call("Kernel.node", ())
        (:"Elixir.Kernel", :node, [])
    """
    if isinstance(fn, str):
        module, function = split_name(fn)
        return (Atom(module), Atom(function), [*args])
    check_function(fn)
    return (*APPLY, [fn, [*args]])


# ---- running -------------------------------------------------------------------------------------------------------


def answer(owner: Pid, alias: Ref, ref: Any, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Run the function and send `(ref, value)` to the alias; a plain function needs no coroutine for it."""
    record = current_record()
    try:
        outcome = fn(*args, **kwargs)
        if type(outcome) is CoroutineType:
            return _answer_later(record, owner, alias, ref, outcome, (fn, args, kwargs))
        copy = copied(outcome)
    except BaseException as error:
        raise _end_of(record, error, owner, fn, args, kwargs) from None
    machine = record.machine
    waiting = machine.aliases.take(alias)
    if waiting is not None:
        machine.deliver(waiting, (ref, copy))
    return None


async def _answer_later(
    record: ProcessRecord,
    owner: Pid,
    alias: Ref,
    ref: Any,
    work: CoroutineType[Any, Any, Any],
    call: tuple[Any, Any, Any],
) -> None:
    try:
        copy = copied(await work)
    except BaseException as error:
        raise _end_of(record, error, owner, *call) from None
    machine = record.machine
    waiting = machine.aliases.take(alias)
    if waiting is not None:
        machine.deliver(waiting, (ref, copy))


async def _work(owner: Owner, fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
    record = current_record()
    try:
        outcome = fn(*args, **kwargs)
        if type(outcome) is CoroutineType:
            await outcome
    except BaseException as error:
        raise _end_of(record, error, _shown(record, owner), fn, args, kwargs) from None


async def _work_by_name(owner: Owner, mfa: tuple[str, str, list[Any]]) -> Any:
    """Run what a message, or a supervisor's child specification, names."""
    record = current_record()
    module, function, args = mfa
    shown: Any = f"{module.removeprefix('Elixir.')}.{function}"
    try:
        if (module, function) == APPLY and len(args) == 2:
            shown, args = args
            fn = shown
        else:
            fn = find_function(module, function)
        _know_call(record, fn, args)
        outcome = fn(*args)
        return await outcome if type(outcome) is CoroutineType else outcome
    except BaseException as error:
        raise _end_of(record, error, _shown(record, owner), shown, args, {}) from None


def _know_call(record: ProcessRecord, fn: Callable[..., Any], args: Any) -> None:
    record.initial = fn
    if record.dictionary is not None:
        record.dictionary = {"$initial_call": mfa_of(fn, len(args)), **record.dictionary}


async def _be_briefed(owner: Owner, monitored: str) -> None:
    """Wait to be told what to run, run it, and answer (`Task.Supervised.reply/2`).

    Race: the owner may end before it tells. With "monitor" this process hears of it, and ends too; and after five
    seconds in any case, for the news of an owner on another node may be older than this monitor.
    """
    pid = owner[2]
    watch = monitor(pid) if monitored == "monitor" else None
    limit = _BRIEFING_TIME if watch is not None else None
    try:
        message = await receive((pid, ..., ..., ..., tuple), ("DOWN", watch, ..., ..., ...), timeout=limit)
    except TimeoutError:
        raise Exit("timeout") from None
    if watch is not None and message[0] == "DOWN":
        raise Exit(("shutdown", message[4]))
    _, ref, answer_to, callers, mfa = message
    record = current_record()
    if record.dictionary is not None:
        record.dictionary["$callers"] = callers
    if watch is not None:
        demonitor(watch, flush=True)
    value = await _work_by_name(owner, mfa)
    try:
        send(answer_to, (ref, value))
    except BaseException as error:  # what cannot be copied, or sent to that node
        raise _end_of(record, error, _shown(record, owner), mfa[1], mfa[2], {}) from None


# ---- the end -------------------------------------------------------------------------------------------------------


def _end_of(record: ProcessRecord, error: BaseException, owner: Any, fn: Any, args: Any, kwargs: Any) -> BaseException:
    """Give what ends the process after an exception, having reported it unless the end was asked for.

    `Exit` with the reason, for an exception too: it has been reported, and must not be a second time as that of a plain
    process.
    """
    if isinstance(error, _PASSING) or record.doom is not None:  # it is being closed, and a `finally` failed
        return error
    describe_file = record.machine.hooks.describe_file
    stack: tuple[StackEntry, ...] = ()
    if isinstance(error, Exit):
        reason = error.reason
        if is_quiet(reason):
            return error
        stack = stack_of(error.__traceback__, describe_file)
    else:
        reason = capture(error, describe_file)
    if isinstance(owner, Pid) and not is_far(owner):
        owner = _shown_here(record, owner)
    text = describe_crash(record.pid, owner, reason, stack, (fn, args, kwargs))
    log.error("%s", text, extra={"pid": record.pid, "reason": reason})
    return Exit(reason)


def describe_crash(
    pid: Pid, owner: Any, reason: Any, stack: tuple[StackEntry, ...], call: tuple[Any, Any, dict[str, Any]]
) -> str:
    """Give the text of a task's crash report (rows t02, x20).

    Example:
        >>> print(describe_crash(Pid("nonode@nohost", 7, 0, 1), "boss", "why", (), (len, ("abc",), {})))
        Task #PID<0.7.0> started from "boss" terminating
        ** (stop) "why"
        Function: len
            Args: ["abc"]
    """
    fn, args, kwargs = call
    lines = [
        f"Task {pid!r} started from {inspect_term(owner)} terminating",
        format_stop(reason),
        *format_stack(stack),
        f"Function: {_shown_function(fn)}",
        f"    Args: {inspect_term([*args])}",
    ]
    if kwargs:
        lines.append(f"    Keywords: {inspect_term(kwargs)}")
    return "\n".join(lines)


def _shown(record: ProcessRecord, owner: Owner) -> Any:
    """Give how the report speaks of the owner: by name or pid; `(name, node)` on another node (Elixir's `get_from`)."""
    node, shown, pid = owner
    if node == record.machine.node:
        return str(shown) if isinstance(shown, str) else shown
    return (str(node), str(shown)) if isinstance(shown, str) else pid


def _shown_here(record: ProcessRecord, pid: Pid) -> Any:
    found = record.machine.find(pid)
    return pid if found is None or found.name is None else found.name


def _shown_function(fn: Any) -> str:
    if isinstance(fn, str):
        return fn
    module, name, _ = mfa_of(fn, 0)
    return name if module in ("__main__", "builtins") else f"{module}.{name}"


def not_mine(what: Any, owner: Pid) -> ValueError:
    """The error of a process that asks for the result of somebody else's task."""
    return ValueError(f"{what!r} must be queried from its owner {owner!r}, but was queried from {self_()!r}")
