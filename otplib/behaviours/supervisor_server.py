"""The loop of a supervisor: it asks `core.restarts` what to do and does it, one action after the other."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from otplib import process
from otplib.behaviours.children import log, newest, start_process, stop_process, write_report
from otplib.behaviours.gen_server import GenServer
from otplib.behaviours.returns import Ignore, NoReply, Ok, Reply, Stop
from otplib.core.child_spec import Child, ChildSpec, find_fault
from otplib.core.errors import StartError
from otplib.core.inspection import inspect_term
from otplib.core.reasons import ExitMessage
from otplib.core.restarts import (
    Action,
    Context,
    Empty,
    Intensity,
    Keep,
    Policy,
    Remove,
    Report,
    Row,
    RowState,
    Shutdown,
    Start,
    Supervise,
    Table,
    decide_exit,
    decide_retry,
    is_clean_shutdown,
)
from otplib.core.terms import Global, Pid, Via
from otplib.vm.shell import current_machine


@dataclass(eq=False)
class State:
    """What a supervisor knows. `name` is how its reports call it."""

    name: str
    cls: type
    arg: Any
    policy: Policy
    table: Table
    recent: Intensity


class SupervisorServer(GenServer):
    """The server behind every `Supervisor`; its argument is `(class, arg, name)`."""

    async def init(self, arg: Any) -> Any:
        cls, user_arg, name = arg
        process.flag(trap_exit=True)
        supervise = await _ask_init(cls, user_arg)
        if isinstance(supervise, Ignore):
            return supervise
        if not isinstance(supervise, Supervise):
            return Stop(("bad_return", (cls, "init", supervise)))
        fault = supervise.find_fault()
        if fault is not None:
            return Stop(fault)
        shown = show_name(name, cls)
        table = Table(supervise.children)
        failure = await _fill(table, list(table), shown)
        if failure is not None:
            await _empty(table, reversed(list(table)), shown)
            row, reason = failure
            return Stop(("shutdown", ("failed_to_start_child", row.spec.id, reason)))
        return Ok(State(shown, cls, user_arg, supervise.policy, table, Intensity(supervise.policy)))

    async def handle_call(self, request: Any, caller: Any, state: Any) -> Any:
        match request:
            case "which_children":
                return Reply([_show_row(row) for row in reversed(state.table)], state)
            case "count_children":
                return Reply(_count(state.table), state)
            case ("start_child", ChildSpec() as spec):
                return Reply(await _start_child(state, spec), state)
            case ("terminate_child", child_id):
                return Reply(await _terminate_child(state, child_id), state)
            case ("restart_child", child_id):
                return Reply(await _restart_child(state, child_id), state)
            case ("delete_child", child_id):
                return Reply(_delete_child(state, child_id), state)
            case ("get_childspec", child_id):
                row = state.table.find(child_id)
                return Reply(("error", "not_found") if row is None else ("ok", row.spec), state)
        raise ValueError(f"a supervisor knows no request {inspect_term(request)}")

    async def handle_cast(self, request: Any, state: Any) -> Any:
        match request:
            case ("try_again_restart", child_id):
                row = state.table.find(child_id)
                if row is None or row.state is not RowState.RESTARTING:
                    return NoReply(state)  # terminated or deleted since the last attempt
                await process.sleep(0)  # whoever holds what the child needs may be about to end: it gets a turn
                actions = decide_retry(state.table, state.policy, state.recent, row, current_machine().now())
                return await _carry_out(state, actions, None)
        raise ValueError(f"a supervisor knows no request {inspect_term(request)}")

    async def handle_info(self, message: Any, state: Any) -> Any:
        match message:
            case ("EXIT", Pid() as pid, reason):
                row = state.table.find_pid(pid)
                if row is None:
                    return NoReply(state)
                actions = decide_exit(state.table, state.policy, state.recent, row, reason, current_machine().now())
                state.table.fill(row, None)
                return await _carry_out(state, actions, pid)
        log.log(logging.ERROR, "Supervisor received unexpected message: %s", inspect_term(message))
        return NoReply(state)

    async def terminate(self, reason: Any, state: Any) -> None:
        # A copy is emptied: the report that may follow shows the children as they were (row s20).
        table = state.table.copy()
        await _empty(table, reversed(list(table)), state.name)

    async def code_change(self, old_vsn: Any, state: Any, extra: Any) -> Any:
        """Ask `init` again and take over flags and specifications; no child is started or stopped."""
        supervise = await _ask_init(state.cls, state.arg)
        if isinstance(supervise, Ignore):
            return Ok(state)
        if not isinstance(supervise, Supervise):
            raise TypeError(f"{state.cls.__qualname__}.init must return Supervise(...), got {inspect_term(supervise)}")
        fault = supervise.find_fault()
        if fault is not None:
            raise StartError(fault)
        state.policy = state.recent.policy = supervise.policy
        state.table.respecify(supervise.children)
        return Ok(state)


async def _ask_init(cls: Any, arg: Any) -> Any:
    answer = newest(cls)().init(arg)
    return await answer if inspect.isawaitable(answer) else answer


def show_name(name: Any, cls: type) -> str:
    if isinstance(name, Global):
        return inspect_term(name.term)
    if isinstance(name, Via):
        return inspect_term(name.key)
    return f"{process.self_()!r} ({cls.__qualname__})" if name is None else inspect_term(name)


def _show_row(row: Row) -> Child:
    pid: Any = "restarting" if row.state is RowState.RESTARTING else row.pid
    return Child(row.spec.id, pid, row.spec.type, row.spec.modules)


def _count(table: Table) -> list[tuple[str, int]]:
    rows = list(table)
    supervisors = sum(row.spec.type == "supervisor" for row in rows)
    active = sum(row.pid is not None and process.alive(row.pid) for row in rows)
    workers = len(rows) - supervisors
    return [("specs", len(rows)), ("active", active), ("supervisors", supervisors), ("workers", workers)]


# ---- orders ------------------------------------------------------------------------------------------------------


async def _start_child(state: State, spec: ChildSpec) -> Any:
    fault = find_fault(spec, state.policy.auto_shutdown)
    if fault is not None:
        return ("error", fault)
    row = state.table.find(spec.id)
    if row is not None:
        return ("error", "already_present" if row.pid is None else ("already_started", row.pid))
    try:
        pid = await _start(spec, state.name)
    except StartError as refusal:
        return ("error", refusal.reason)
    if spec.restart == "temporary":
        # It will never be started again, so its arguments need not stay in memory.
        spec = dataclasses.replace(spec, start=(spec.start[0], None))
    if pid is not None or spec.restart != "temporary":
        state.table.add(spec, pid)
    return ("ok", pid)


async def _terminate_child(state: State, child_id: Any) -> Any:
    row = state.table.find(child_id)
    if row is None:
        return ("error", "not_found")
    await _empty(state.table, [row], state.name)
    return "ok"


async def _restart_child(state: State, child_id: Any) -> Any:
    row = state.table.find(child_id)
    if row is None or row.state is not RowState.STOPPED:
        return ("error", _refuse(row))
    try:
        pid = await _start(row.spec, state.name)
    except StartError as refusal:
        return ("error", refusal.reason)
    state.table.fill(row, pid)
    return ("ok", pid)


def _delete_child(state: State, child_id: Any) -> Any:
    row = state.table.find(child_id)
    if row is None or row.state is not RowState.STOPPED:
        return ("error", _refuse(row))
    state.table.remove(row)
    return "ok"


def _refuse(row: Row | None) -> str:
    return "not_found" if row is None else row.state.value


# ---- actions -----------------------------------------------------------------------------------------------------


async def _carry_out(state: State, actions: list[Action], ended: Pid | None) -> Any:
    """Do what was decided; gives what the callback returns. `ended` is the process whose end it is about, if one."""
    table = state.table
    for action in actions:
        match action:
            case Report(context, child_id, reason):
                write_report(context, state.name, _row(table, child_id).spec, ended, reason)
            case Empty(ids):
                await _empty(table, [_row(table, child_id) for child_id in ids], state.name)
            case Start(ids):
                failure = await _fill(table, [_row(table, child_id) for child_id in ids], state.name)
                if failure is not None:
                    table.mark_restarting(failure[0])
                    GenServer.cast(process.self_(), ("try_again_restart", failure[0].spec.id))
            case Keep(child_id) | Remove(child_id):
                table.empty(_row(table, child_id))
            case Shutdown(reason):
                return Stop(reason, state)
    return NoReply(state)


def _row(table: Table, child_id: Any) -> Row:
    row = table.find(child_id)
    assert row is not None
    return row


async def _fill(table: Table, rows: list[Row], name: str) -> tuple[Row, Any] | None:
    """Start rows in this order; at the first that fails stop and give it with its reason."""
    for row in rows:
        try:
            pid = await _start(row.spec, name)
        except StartError as refusal:
            write_report(Context.START_ERROR, name, row.spec, None, refusal.reason)
            return row, refusal.reason
        table.fill(row, pid)
        if pid is None and row.spec.restart == "temporary":
            table.remove(row)
    return None


async def _start(spec: ChildSpec, name: str) -> Pid | None:
    pid = await start_process(spec)
    if pid is not None:
        write_report(Context.STARTED, name, spec, pid)
    return pid


async def _empty(table: Table, rows: Iterable[Row], name: str) -> None:
    """Stop rows in this order, each one wholly before the next."""
    rows = list(rows)
    pids = {row.pid for row in rows if row.pid is not None}
    ended: dict[Pid, Any] = {}
    for row in rows:
        if row.pid is not None:
            if len(pids) > 1:
                await _collect_ends(pids, ended)
            # A live child may have sent an exit message in its own name; it is stopped as any other.
            found = row.pid in ended and not process.alive(row.pid)
            reason = ended[row.pid] if found else await stop_process(row.spec, row.pid)
            if not is_clean_shutdown(row.spec, reason):
                write_report(Context.SHUTDOWN_ERROR, name, row.spec, row.pid, reason)
        table.empty(row)


async def _collect_ends(pids: set[Pid], ended: dict[Pid, Any]) -> None:
    """Take the exit messages of children that are to be stopped anyway, and keep their reasons.

    When thousands have died at once, looking for each one's message among all the others takes seconds.
    """
    while True:
        try:
            message = await process.receive(lambda one: type(one) is ExitMessage and one.pid in pids, timeout=0)
        except TimeoutError:
            return
        ended[message.pid] = message.reason
