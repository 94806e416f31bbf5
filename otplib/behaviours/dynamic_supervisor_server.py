"""The loop of a dynamic supervisor: its children, by pid; how they start, restart, and are stopped all at once."""

from __future__ import annotations

import inspect
import logging
import math
from dataclasses import dataclass, field
from types import CoroutineType, MethodType
from typing import Any, Final, Literal

from otplib import process
from otplib.behaviours.children import as_reason, log, newest, take_newest, write_report
from otplib.behaviours.gen_server import GenServer
from otplib.behaviours.returns import Ignore, NoReply, Ok, Reply, Stop
from otplib.behaviours.supervisor_server import show_name
from otplib.core.child_spec import ChildSpec
from otplib.core.copying import recopied
from otplib.core.errors import Exit, StartError
from otplib.core.inspection import inspect_term
from otplib.core.reasons import Down, ExitMessage, is_quiet
from otplib.core.restarts import Context, Intensity, Policy, is_clean_shutdown, seconds_to_wait
from otplib.core.terms import Pid, Ref
from otplib.vm.machine import Machine
from otplib.vm.shell import current_machine


class DynamicSupervise:
    """What `init` of a dynamic supervisor returns. Mirrors `DynamicSupervisor.init/1`.

    Args:
        strategy: there is only `"one_for_one"`.
        max_restarts: more than this many restarts within `max_seconds` end the supervisor with `"shutdown"`.
        max_seconds: the length of that window.
        max_children: at most so many at a time; None for any number.
        extra_arguments: put before the arguments of every child, at each of its starts.

    Wrong values are found by the supervisor, which then does not start: `StartError(("supervisor_data", fault))`.

    Example:
        >>> DynamicSupervise(max_children=10)
        DynamicSupervise(max_restarts=3, max_seconds=5, max_children=10, extra_arguments=())
    """

    def __init__(
        self,
        *,
        strategy: Literal["one_for_one"] = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5,
        max_children: int | None = None,
        extra_arguments: tuple[Any, ...] | list[Any] = (),
    ) -> None:
        self.policy = Policy(strategy, max_restarts, max_seconds)
        self.max_children: Any = None if max_children in (math.inf, "infinity") else max_children
        self.extra_arguments: Any = tuple(extra_arguments) if isinstance(extra_arguments, list) else extra_arguments

    def __repr__(self) -> str:
        policy = self.policy
        return (
            f"DynamicSupervise(max_restarts={policy.max_restarts}, max_seconds={policy.max_seconds}, "
            f"max_children={self.max_children}, extra_arguments={inspect_term(self.extra_arguments)})"
        )

    def find_fault(self) -> Any:
        """Give the reason for which a supervisor refuses this, None when it is sound.

        Example:
            >>> DynamicSupervise(max_children=-1).find_fault()
            ('supervisor_data', ('invalid_max_children', -1))
        """
        most, extra = self.max_children, self.extra_arguments
        fault = ("invalid_strategy", self.policy.strategy) if self.policy.strategy != "one_for_one" else None
        fault = fault or self.policy.find_fault()
        if fault is None and most is not None and (type(most) is not int or most < 0):
            fault = ("invalid_max_children", most)
        if fault is None and not isinstance(extra, tuple):
            fault = ("invalid_extra_arguments", extra)
        return None if fault is None else ("supervisor_data", fault)


#: Values of these types need no copy.
_PLAIN: Final = frozenset({str, int, float, bool, bytes, type(None), Pid, Ref})


class ChildOrder:
    """One child: what to start and how to treat it. Made by whoever wants it started, and kept by its supervisor.

    It takes the way there as its own method `itself`, since a method goes by reference: finding out how to copy an
    object would cost 3 us of the 30 that a child costs in all.

    Invariant: nobody but the supervisor has its arguments; `args` of a temporary child are None once it runs, as it
    will never be started again.
    """

    __slots__ = ("args", "function", "modules", "restart", "restarting", "shutdown", "type")

    @classmethod
    def of(cls, spec: ChildSpec) -> ChildOrder:
        """Make one of a specification; its arguments are copied, and `shared(...)` ones keep their wrapper."""
        order = cls()
        order.function, args = spec.start
        order.args = () if args is None else args if _PLAIN.issuperset(map(type, args)) else recopied(args)
        order.restart = spec.restart
        order.shutdown = spec.shutdown
        order.type = spec.type
        order.modules = list(spec.modules) if isinstance(spec.modules, list) else spec.modules
        #: Its start failed, and will be tried again.
        order.restarting = False
        return order

    def __init__(self) -> None:
        self.function: Any
        self.args: tuple[Any, ...] | None
        self.restart: Any
        self.shutdown: Any
        self.type: Any
        self.modules: Any
        self.restarting: bool

    def itself(self) -> ChildOrder:
        """Give it; see above."""
        return self

    def spec(self) -> ChildSpec:
        """Give it as a specification, for decisions and reports."""
        start = (self.function, self.args)
        return ChildSpec("undefined", start, self.restart, self.shutdown, self.type, modules=self.modules)


@dataclass(eq=False)
class State:
    """What a dynamic supervisor knows. `name` is how its reports call it; a restarting child keeps its old pid."""

    name: str
    cls: type
    arg: Any
    supervise: DynamicSupervise
    recent: Intensity
    children: dict[Pid, ChildOrder] = field(default_factory=dict)


class DynamicSupervisorServer(GenServer):
    """The server behind every `DynamicSupervisor`; its argument is `(class, arg, name)`."""

    async def init(self, arg: Any) -> Any:
        cls, user_arg, name = arg
        process.flag(trap_exit=True)
        supervise = await _ask_init(cls, user_arg)
        if isinstance(supervise, Ignore):
            return supervise
        if not isinstance(supervise, DynamicSupervise):
            return Stop(("bad_return", (cls, "init", supervise)))
        fault = supervise.find_fault()
        if fault is not None:
            return Stop(fault)
        return Ok(State(show_name(name, cls), cls, user_arg, supervise, Intensity(supervise.policy)))

    async def handle_call(self, request: Any, caller: Any, state: Any) -> Any:
        if type(request) is tuple and len(request) == 2:
            verb, what = request
            if verb == "start_child" and type(what) is MethodType:
                return Reply(await _start_child(state, what()), state)
            if verb == "terminate_child":
                return Reply(await _terminate_child(state, what), state)
        if request == "which_children":
            return Reply([_show_row(pid, child) for pid, child in state.children.items()], state)
        if request == "count_children":
            return Reply(_count(state.children), state)
        raise ValueError(f"a dynamic supervisor knows no request {inspect_term(request)}")

    async def handle_cast(self, request: Any, state: Any) -> Any:
        match request:
            case ("try_again_restart", Pid() as pid):
                child = state.children.get(pid)
                if child is None or not child.restarting:
                    return NoReply(state)  # terminated meanwhile
                await process.sleep(0)  # whatever the child needs may be about to end: it gets a turn
                return await _restart(state, pid, child)
        raise ValueError(f"a dynamic supervisor knows no request {inspect_term(request)}")

    async def handle_info(self, message: Any, state: Any) -> Any:
        if type(message) is ExitMessage:
            child = state.children.get(message.pid)
            if child is None or child.restarting:
                return NoReply(state)
            return await _hear_end(state, message.pid, child, message.reason)
        log.log(logging.ERROR, "DynamicSupervisor received unexpected message: %s", inspect_term(message))
        return NoReply(state)

    async def terminate(self, reason: Any, state: Any) -> None:
        await _stop_children(state.name, state.children)

    async def code_change(self, old_vsn: Any, state: Any, extra: Any) -> Any:
        """Ask `init` again and take over what it says; no child is started or stopped."""
        supervise = await _ask_init(state.cls, state.arg)
        if isinstance(supervise, Ignore):
            return Ok(state)
        if not isinstance(supervise, DynamicSupervise):
            raise TypeError(
                f"{state.cls.__qualname__}.init must return DynamicSupervise(...), got {inspect_term(supervise)}"
            )
        fault = supervise.find_fault()
        if fault is not None:
            raise StartError(fault)
        state.supervise = supervise
        state.recent.policy = supervise.policy
        return Ok(state)


async def _ask_init(cls: Any, arg: Any) -> Any:
    answer = newest(cls)().init(arg)
    return await answer if inspect.isawaitable(answer) else answer


def _show_row(pid: Pid, child: ChildOrder) -> tuple[Any, ...]:
    return ("undefined", "restarting" if child.restarting else pid, child.type, child.modules)


def _count(children: dict[Pid, ChildOrder]) -> list[tuple[str, int]]:
    supervisors = sum(child.type == "supervisor" for child in children.values())
    active = sum(not child.restarting for child in children.values())
    workers = len(children) - supervisors
    return [("specs", len(children)), ("active", active), ("supervisors", supervisors), ("workers", workers)]


# ---- starting ----------------------------------------------------------------------------------------------------


async def _start_child(state: State, child: ChildOrder) -> Any:
    most = state.supervise.max_children
    if most is not None and len(state.children) >= most:
        return ("error", "max_children")
    try:
        pid = await _start(state, child)
    except StartError as refusal:
        return ("error", refusal.reason)
    if pid is not None:
        _keep(state, pid, child)
    return pid


def _keep(state: State, pid: Pid, child: ChildOrder) -> None:
    if child.restart == "temporary":
        child.args = None
    child.restarting = False
    state.children[pid] = child
    if log.isEnabledFor(logging.DEBUG):
        write_report(Context.STARTED, state.name, child.spec(), pid)


async def _start(state: State, child: ChildOrder) -> Pid | None:
    """Start a child with fresh copies of its arguments; None when it chose not to run.

    Not by `children.start_process`: there an exception is `("EXIT", reason)`, here the reason itself, as in Elixir.

    Raises:
        StartError: it did not start.
    """
    try:
        args = child.args or ()
        if state.supervise.extra_arguments:
            args = (*state.supervise.extra_arguments, *args)
        if not _PLAIN.issuperset(map(type, args)):
            args = recopied(args)
        outcome = take_newest(child.function)(*args)
        if type(outcome) is CoroutineType or inspect.isawaitable(outcome):
            outcome = await outcome
    except StartError as refusal:
        raise StartError(refusal.reason) from None
    except Exit as end:
        raise StartError(end.reason) from None
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        raise StartError(as_reason(error)) from None
    if outcome is None or isinstance(outcome, Pid):
        return outcome
    raise StartError(outcome)


# ---- ends ----------------------------------------------------------------------------------------------------------


async def _hear_end(state: State, pid: Pid, child: ChildOrder, reason: Any) -> Any:
    wanted = child.restart == "permanent" or (child.restart == "transient" and not is_quiet(reason))
    if wanted or not is_quiet(reason):
        _report(state.name, Context.CHILD_TERMINATED, child, pid, reason)
    if wanted:
        return await _restart(state, pid, child)
    del state.children[pid]
    return NoReply(state)


async def _restart(state: State, pid: Pid, child: ChildOrder) -> Any:
    if not state.recent.admit(current_machine().now()):
        _report(state.name, Context.SHUTDOWN, child, pid, "reached_max_restart_intensity")
        del state.children[pid]
        return Stop("shutdown", state)
    try:
        new = await _start(state, child)
    except StartError as refusal:
        _report(state.name, Context.START_ERROR, child, None, refusal.reason)
        child.restarting = True
        GenServer.cast(process.self_(), ("try_again_restart", pid))
        return NoReply(state)
    del state.children[pid]
    if new is not None:
        _keep(state, new, child)
    return NoReply(state)


def _report(name: str, context: Context, child: ChildOrder, pid: Pid | None, reason: Any) -> None:
    if log.isEnabledFor(logging.INFO):
        write_report(context, name, child.spec(), pid, reason)


# ---- stopping ------------------------------------------------------------------------------------------------------


async def _terminate_child(state: State, pid: Pid) -> Any:
    child = state.children.get(pid)
    if child is None:
        return ("error", "not_found")
    await _stop_children(state.name, {pid: child})
    del state.children[pid]
    return "ok"


async def _stop_children(name: str, children: dict[Pid, ChildOrder]) -> None:
    """Tell all these to end, at once, and wait until they have.

    First the monitors, so a child that has unlinked itself cannot make its supervisor wait for ever; then the links go.
    An exit message that is there by then tells the true reason of a child that died before it was told to. All such
    messages are taken in one go: to look for each child's among the others would take seconds for thousands.
    """
    waiting: dict[Ref, Pid] = {}
    for pid, child in children.items():
        if not child.restarting:
            waiting[process.monitor(pid)] = pid
            process.unlink(pid)
    if not waiting:
        return
    ended = await _collect_ends(children)
    limits: dict[float, list[Pid]] = {}
    for pid in waiting.values():
        if pid not in ended:
            child = children[pid]
            process.exit(pid, "kill" if child.shutdown == _BRUTAL else "shutdown")
            limit = seconds_to_wait(child.shutdown)
            if limit is not None and child.shutdown != _BRUTAL:
                limits.setdefault(limit, []).append(pid)
    reasons = await _wait_for_ends(waiting, limits)
    for pid, reason in reasons.items():
        child = children[pid]
        reason = ended.get(pid, reason)
        if child.shutdown == _BRUTAL and reason == "killed":
            continue
        if reason != "shutdown" and not is_clean_shutdown(child.spec(), reason):
            _report(name, Context.SHUTDOWN_ERROR, child, pid, reason)


_BRUTAL: Final = "brutal_kill"


async def _collect_ends(children: dict[Pid, ChildOrder]) -> dict[Pid, Any]:
    ended: dict[Pid, Any] = {}
    while True:
        try:
            message = await process.receive(lambda one: type(one) is ExitMessage and one.pid in children, timeout=0)
        except TimeoutError:
            # A live child may have sent an exit message in its own name; it is stopped as any other.
            return {pid: reason for pid, reason in ended.items() if not process.alive(pid)}
        ended[message.pid] = message.reason


async def _wait_for_ends(waiting: dict[Ref, Pid], limits: dict[float, list[Pid]]) -> dict[Pid, Any]:
    """Wait for the end of each, and kill those that take longer than their limit; gives the reasons."""
    machine: Machine = current_machine()
    begun = machine.now()
    due = sorted(limits, reverse=True)
    reasons: dict[Pid, Any] = {}
    while waiting:
        left = max(0.0, begun + due[-1] - machine.now()) if due else None
        try:
            down = await process.receive(lambda one: type(one) is Down and one.ref in waiting, timeout=left)
        except TimeoutError:
            for pid in limits[due.pop()]:
                if pid not in reasons:
                    process.exit(pid, "kill")
        else:
            reasons[waiting.pop(down.ref)] = down.reason
    return reasons
