"""What processes log is shown where their output goes, also if that is on another node.

As OTP does it: what a process logs whose group leader is far goes to `logger_proxy` on the leader's node too.

| message to `logger_proxy` | shown as |
|---|---|
| `{log, level, text, meta}` | the text |
| `{log, level, format, args, meta}` | what the node that sent it makes of it with `io_lib:format` |
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from otplib.behaviours.gen_server import GenServer
from otplib.behaviours.group_leader import text_of
from otplib.behaviours.returns import NoReply, Ok
from otplib.core.errors import Exit
from otplib.core.inspection import inspect_term
from otplib.core.reasons import format_exit
from otplib.core.terms import Atom, Pid
from otplib.process import group_leader, self_, spawn
from otplib.vm.context import local, running_record
from otplib.vm.machine import Machine
from otplib.vm.transport import is_far

log = logging.getLogger("otplib")

_LEVELS: Final = {
    "emergency": logging.CRITICAL,
    "alert": logging.CRITICAL,
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "notice": logging.INFO,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}


#: How the emulator reports that a plain process has crashed.
_CRASH: Final = "Error in process ~p on node ~p with exit value:~n~p~n"


class Reporter(logging.Filter):
    """Lets everything pass, and sends on what a process with a far leader has logged.

    A filter and not a handler: with a handler of ours Python would no longer print what nobody else handles.
    """

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine

    def filter(self, record: logging.LogRecord) -> bool:
        """Send it on if it is for another node too."""
        process = running_record()
        leader = process.leader if process is not None and process.machine is self._machine else None
        if process is None or leader is None or not is_far(leader):
            return True
        if self._machine.transport.reaches(leader):
            meta = {Atom("gl"): leader, Atom("pid"): process.pid, Atom("time"): time.time_ns() // 1000}
            level = Atom("error" if record.levelno >= logging.ERROR else "warning")
            message = (Atom("log"), level, self._far_text(record.getMessage(), process.pid), meta)
            self._machine.transport.send(process.pid, ("logger_proxy", leader.node), message)
        # Here it is shown as ordinary code's: as the process's own it would go to the far leader once more.
        carrier, local.carrier = local.carrier, None
        try:
            log.callHandlers(record)
        finally:
            local.carrier = carrier
        return False

    def _far_text(self, text: str, pid: Pid) -> str:
        """Give a report as it must read elsewhere: `#PID<0.7.0>` would be one of that node's processes."""
        far = Pid(self._machine.node, pid.id, pid.serial, pid.creation)
        return text.replace(repr(pid), f"{far!r} on node {self._machine.node}")


class LoggerProxy(GenServer):
    """`logger_proxy`: shows what processes elsewhere have logged that print here."""

    def init(self, arg: Any) -> Any:
        """Nothing to keep."""
        return Ok(None)

    def handle_info(self, message: Any, state: Any) -> Any:
        """Show it from a process that prints where the one that logged does."""
        match message:
            case ("log", str(level), what, dict(meta)):
                spawn(_show, meta.get("gl"), level, what, None, meta.get("pid"))
            case ("log", str(level), what, list(args), dict(meta)):
                spawn(_show, meta.get("gl"), level, what, args, meta.get("pid"))
        return NoReply(state)


async def _show(leader: Any, level: str, what: Any, args: list[Any] | None, source: Any) -> None:
    if isinstance(leader, Pid) and not is_far(leader):
        group_leader(self_(), leader)
    text = None
    if args is not None and isinstance(source, Pid):
        text = _crash_of(what, args) or await _formatted_by(source.node, what, args)
    elif isinstance(what, str | bytes | list):
        text = text_of(what)
    shown = text if text is not None else inspect_term(what if args is None else (what, args))
    log.log(_LEVELS.get(level, logging.ERROR), "%s", shown.rstrip("\n"))


def _crash_of(what: Any, args: list[Any]) -> str | None:
    """Give the emulator's own report of a crash as Elixir words it; None if it is something else."""
    if text_of(what) != _CRASH:
        return None
    match args:
        case [Pid() as pid, str() as node, ({"__exception__": True, "message": str() as said} as error, list())]:
            kind = str(error.get("__struct__", "error")).removeprefix("Elixir.")
            return f"Process {pid!r} on node {node} raised an exception\n** ({kind}) {said}"
        case [Pid() as pid, str() as node, (reason, list() as stack)]:
            return (
                f"Process {pid!r} on node {node} raised an exception\n** (ErlangError) {format_exit((reason, stack))}"
            )
        case _:
            return None


async def _formatted_by(node: str, what: Any, args: list[Any]) -> str | None:
    request = (Atom("call"), Atom("io_lib"), Atom("format"), [what, args], self_())
    try:
        return text_of(await GenServer.call(("rex", node), request))
    except Exit:
        return None  # the node is gone: what it sent is shown as it came
