"""The server behind `Task.Supervisor`, a dynamic supervisor that knows one request more; and how to ask for a task.

`("start_task", args, restart, shutdown)` is what Elixir's `Task.Supervisor` is asked, so a BEAM may ask ours and we a
BEAM's. `args` are `[owner, "monitor"]` for a task that will be told by its owner what to run, `[owner, callers,
(module, function, args)]` for one that answers nobody. A shutdown travels in milliseconds.
"""

from __future__ import annotations

from typing import Any, Final

from otplib.behaviours.dynamic_supervisor_server import ChildOrder, DynamicSupervise, DynamicSupervisorServer
from otplib.behaviours.gen import Server
from otplib.behaviours.gen_server import GenServer
from otplib.behaviours.returns import Reply
from otplib.behaviours.task_process import Owner, start_supervised, start_unasked
from otplib.core.child_spec import ChildSpec, find_fault
from otplib.core.errors import StartError
from otplib.core.faults import describe_fault, names_fault
from otplib.core.inspection import inspect_term
from otplib.core.terms import Atom, Pid

_START_TASK = Atom("start_task")
_MONITOR = Atom("monitor")
_OK, _ERROR = Atom("ok"), Atom("error")
TEMPORARY: Final[Any] = Atom("temporary")


class Policy:
    """What the dynamic supervisor asks for its flags: its argument is what its `init` returns."""

    def init(self, arg: DynamicSupervise) -> DynamicSupervise:
        return arg


Policy.__qualname__ = "Task.Supervisor"


class TaskSupervisorServer(DynamicSupervisorServer):
    """Starts tasks."""

    async def handle_call(self, request: Any, caller: Any, state: Any) -> Any:
        if type(request) is not tuple or len(request) != 4 or request[0] != "start_task":
            return await super().handle_call(request, caller, state)
        _, args, restart, shutdown = request
        start = start_supervised if len(args) == 2 else start_unasked
        spec = ChildSpec(
            "undefined",
            (start, tuple(args)),
            restart=TEMPORARY if restart is None else restart,
            shutdown=_in_seconds(shutdown),
            modules=["Task.Supervised"],
        )
        fault = find_fault(spec)
        if fault is not None:
            return Reply((_ERROR, fault), state)
        outcome = await super().handle_call(("start_child", ChildOrder.of(spec).itself), caller, state)
        return Reply(_for_the_wire(outcome.value), state)


def _for_the_wire(answer: Any) -> Any:
    """Give what a dynamic supervisor answers as a BEAM expects it."""
    match answer:
        case ("error", reason):
            return (_ERROR, Atom(reason) if isinstance(reason, str) else reason)
        case ("ok", pid):
            return (_OK, pid)
    return (_OK, answer)


def _in_seconds(shutdown: Any) -> Any:
    if shutdown is None:
        return 5.0
    return shutdown / 1000 if isinstance(shutdown, int) else shutdown


def _in_milliseconds(shutdown: Any) -> Any:
    if isinstance(shutdown, str):
        return Atom(shutdown)
    if shutdown is None or isinstance(shutdown, bool) or not isinstance(shutdown, int | float):
        return shutdown
    return Atom("infinity") if shutdown == float("inf") else round(shutdown * 1000)


async def ask_for_task(supervisor: Server, owner: Owner, shutdown: Any) -> Pid:
    """Have a supervisor start a task that waits to be told what to run; gives its pid.

    Raises:
        StartError: `"max_children"`, mostly.
        Exit: nobody answers to `supervisor`.
    """
    pid = await ask_to_start(supervisor, [owner, _MONITOR], TEMPORARY, shutdown)
    assert pid is not None
    return pid


async def ask_to_start(supervisor: Server, args: list[Any], restart: str | None, shutdown: Any) -> Pid | None:
    """Have a supervisor start a task."""
    kept = None if restart is None else Atom(restart)
    request = (_START_TASK, args, kept, _in_milliseconds(shutdown))
    match await GenServer.call(supervisor, request, timeout=None):
        case ("ok", (Pid() | None) as pid):
            return pid
        case ("error", reason):
            raise _refused(reason)
        case other:
            raise TypeError(
                f"expected a Task.Supervisor, but {supervisor!r} is none: it answered {inspect_term(other)}"
            )


def _refused(reason: Any) -> StartError:
    refusal = StartError(reason)
    if reason == "max_children":
        refusal.add_note(
            "the supervisor has as many tasks as it may have: give Task.Supervisor.start_link a greater max_children, "
            "or async_stream a smaller max_concurrency"
        )
    elif names_fault(reason):
        refusal.add_note("bad child specification, " + describe_fault(reason))
    return refusal
