"""How a supervisor starts and stops one child, and what it writes about it: the hands of `core.restarts`.

The reports are those Elixir shows with `--logger-sasl-reports true`, and as there nobody sees them unasked. They are
records of the logger `otplib.supervisor`: a start at the level DEBUG, whatever went wrong at INFO. With

    logging.getLogger("otplib.supervisor").setLevel(logging.INFO)

a supervisor tells why it restarts; at DEBUG each report also has the restart type, the shutdown and the type.
"""

from __future__ import annotations

import inspect
import logging
import sys
from typing import Any, Final

from otplib import process
from otplib.core.child_spec import ChildSpec
from otplib.core.copying import recopied
from otplib.core.errors import Exit, StartError
from otplib.core.inspection import inspect_term
from otplib.core.reasons import Raised, capture, format_exit
from otplib.core.restarts import Context, seconds_to_wait
from otplib.core.terms import Pid
from otplib.vm.shell import current_machine

log: Final = logging.getLogger("otplib.supervisor")


async def start_process(spec: ChildSpec) -> Pid | None:
    """Start a child with fresh copies of its arguments; None when it chose not to run (`"ignore"`).

    Whatever goes wrong, the supervisor that asks goes on: an exception of the start function is
    `("EXIT", Raised(...))`, a result that is no pid is the reason itself, as in OTP.

    Raises:
        StartError: the child did not start.
    """
    function, args = spec.start
    try:
        outcome = take_newest(function)(*recopied(args or ()))
        if inspect.isawaitable(outcome):
            outcome = await outcome
    except StartError as refusal:
        raise StartError(refusal.reason) from None
    except Exit as end:
        raise StartError(("EXIT", end.reason)) from None
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        raise StartError(("EXIT", as_reason(error))) from None
    if outcome is None or isinstance(outcome, Pid):
        return outcome
    raise StartError(outcome)


def newest(thing: Any) -> Any:
    """Give the class or function that stands under this one's name now: its cell may have run again since.

    What is made inside a function, or stands nowhere under its name, is given as it is.

    Example:
        >>> newest(ChildSpec) is ChildSpec
        True
    """
    name = getattr(thing, "__qualname__", "")
    found = getattr(sys.modules.get(getattr(thing, "__module__", None) or ""), name, None) if "." not in name else None
    same_kind = isinstance(found, type) == isinstance(thing, type) and callable(found)
    same_name = getattr(found, "__qualname__", None) == name and getattr(found, "__module__", None) == thing.__module__
    return found if same_kind and same_name else thing


def take_newest(function: Any) -> Any:
    """On the BEAM a restarted child runs the newest code, since its start function is looked up by name."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type):
        return getattr(newest(owner), function.__name__, function)
    return newest(function)


def as_reason(error: BaseException) -> Raised:
    return capture(error, current_machine().hooks.describe_file)


async def stop_process(spec: ChildSpec, pid: Pid) -> Any:
    """Stop a child as its `shutdown` says, wait for its end, and give the reason it ended with.

    The monitor comes first, so a child that has unlinked itself cannot make its supervisor wait for ever. The link
    goes last: an exit message that is there by then tells the true reason of a child that died before it was told to.
    """
    ref = process.monitor(pid)
    limit = seconds_to_wait(spec.shutdown)
    if spec.shutdown == "brutal_kill":
        reason = await _kill(ref, pid)
    else:
        process.exit(pid, "shutdown")
        try:
            reason = (await process.receive(("DOWN", ref, ..., ..., ...), timeout=limit))[4]
        except TimeoutError:
            reason = await _kill(ref, pid)
    process.unlink(pid)
    try:
        return (await process.receive(("EXIT", pid, ...), timeout=0))[2]
    except TimeoutError:
        return reason


async def _kill(ref: Any, pid: Pid) -> Any:
    process.exit(pid, "kill")
    return (await process.receive(("DOWN", ref, ..., ..., ...)))[4]


def write_report(context: Context, supervisor: str, spec: ChildSpec, pid: Pid | None, reason: Any = None) -> None:
    """Write one report about a child, if anybody listens."""
    level = logging.DEBUG if context is Context.STARTED else logging.INFO
    if log.isEnabledFor(level):
        text = describe(context, supervisor, spec, pid, reason, full=log.isEnabledFor(logging.DEBUG))
        extra = {"supervisor": supervisor, "child_id": spec.id, "pid": pid, "reason": reason}
        log.log(level, "%s", text, extra=extra)


def describe(context: Context, supervisor: str, spec: ChildSpec, pid: Pid | None, reason: Any, *, full: bool) -> str:
    """Give the text of a report.

    Example:
        >>> spec = ChildSpec("w", (print, (1,)))
        >>> pid = Pid("nonode@nohost", 7, 0, 1)
        >>> print(describe(Context.CHILD_TERMINATED, '"boss"', spec, pid, "killed", full=True))
        Child "w" of Supervisor "boss" terminated
        ** (exit) killed
        Pid: #PID<0.7.0>
        Start Call: print(1)
        Restart: "permanent"
        Shutdown: 5.0
        Type: "worker"
    """
    lines = [f"Child {inspect_term(spec.id)} of Supervisor {supervisor} {context.value}"]
    if context is not Context.STARTED:
        lines.append("** (exit) " + format_exit(_unwrap(context, reason)))
    if pid is not None and context is not Context.SHUTDOWN:
        lines.append(f"Pid: {pid!r}")
    lines.append("Start Call: " + _describe_start(spec))
    if full:
        lines.append(f"Restart: {inspect_term(spec.restart)}")
        lines.append(f"Shutdown: {inspect_term(spec.shutdown)}")
        lines.append(f"Type: {inspect_term(spec.type)}")
        if spec.significant:
            lines.append("Significant: True")
    return "\n".join(lines)


def _unwrap(context: Context, reason: Any) -> Any:
    wrapped = isinstance(reason, tuple) and len(reason) == 2 and reason[0] == "EXIT"
    return reason[1] if wrapped and context is Context.START_ERROR else reason


def _describe_start(spec: ChildSpec) -> str:
    function, args = spec.start
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__name__", None) or inspect_term(function)
    if isinstance(owner, type):
        name = f"{owner.__qualname__}.{name}"
    elif getattr(function, "__module__", None) not in (None, "builtins", "__main__"):
        name = f"{function.__module__}.{getattr(function, '__qualname__', name)}"
    if args is None:
        return name + "/?"
    return f"{name}({', '.join(inspect_term(arg) for arg in args)})"
