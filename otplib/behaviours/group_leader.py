"""A group leader: the process to which the output of others goes.

It speaks Erlang's I/O protocol, so any process may be one, also on another node:

| request | answer |
|---|---|
| `("io_request", from_pid, reply_as, ("put_chars", "unicode", text))` | `("io_reply", reply_as, "ok")` |
| any other | `("io_reply", reply_as, ("error", "request"))` |

The built-in ones have a writer. `print` in a process of this machine calls it directly: the request and its answer in
one. What other nodes print arrives as messages and is served by the loop below.
"""

from __future__ import annotations

from typing import Any

from otplib.core.terms import Pid
from otplib.process import receive, send
from otplib.vm.hooks import Writer
from otplib.vm.machine import Machine
from otplib.vm.output import write_plain


async def serve(writer: Writer | None) -> None:
    """Serve output requests for ever; without a writer, to the standard output."""
    while True:
        match await receive():
            case ("io_request", Pid() as sender, reply_as, request):
                send(sender, ("io_reply", reply_as, _carry_out(writer, request)))


def _carry_out(writer: Writer | None, request: Any) -> Any:
    match request:
        case ("put_chars", str(), str() | bytes() as text):
            shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
            if writer is None:
                write_plain("stdout", shown)
            else:
                writer.write("stdout", shown)
            return "ok"
        case ("requests", list() as requests):
            for one in requests:
                answer = _carry_out(writer, one)
                if answer != "ok":
                    return answer
            return "ok"
        case _:
            return ("error", "request")


def start_leader(machine: Machine, writer: Writer) -> Pid:
    """Start a group leader with a writer of its own: what its processes print goes there."""
    return machine.start_leader(serve, writer)


Machine.leader_body = staticmethod(serve)
