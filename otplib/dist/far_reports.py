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
from otplib.core.terms import Atom, Pid
from otplib.process import group_leader, self_, spawn
from otplib.vm.context import running_record
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
        if process is None or process.machine is not self._machine:
            return True
        leader = process.leader
        if leader is not None and is_far(leader) and self._machine.transport.reaches(leader):
            meta = {Atom("gl"): leader, Atom("pid"): process.pid, Atom("time"): time.time_ns() // 1000}
            level = Atom("error" if record.levelno >= logging.ERROR else "warning")
            message = (Atom("log"), level, record.getMessage(), meta)
            self._machine.transport.send(process.pid, ("logger_proxy", leader.node), message)
        return True


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
        request = (Atom("call"), Atom("io_lib"), Atom("format"), [what, args], self_())
        try:
            text = text_of(await GenServer.call(("rex", source.node), request))
        except Exit:
            pass  # the node is gone: what it sent is shown as it came
    elif isinstance(what, str | bytes | list):
        text = text_of(what)
    shown = text if text is not None else inspect_term(what if args is None else (what, args))
    log.log(_LEVELS.get(level, logging.ERROR), "%s", shown.rstrip("\n"))
