"""A group leader: the process to which the output of others goes.

It speaks Erlang's I/O protocol, so any process may be one, also on another node:

| request | answer |
|---|---|
| `("io_request", from_pid, reply_as, ("put_chars", "unicode", text))` | `("io_reply", reply_as, "ok")` |
| the same with `("put_chars", encoding, module, function, args)`, as `io:format` sends it | the same |
| the same with `("requests", [request, ...])` | that of the first that fails, or the last |
| any other | `("io_reply", reply_as, ("error", "request"))` |

The built-in ones have a writer. `print` in a process of this machine calls it directly: the request and its answer in
one. What other nodes print arrives as messages and is served by the loop below.
"""

from __future__ import annotations

from typing import Any

from otplib.behaviours.gen_server import GenServer
from otplib.core.errors import Exit
from otplib.core.terms import Atom, Pid
from otplib.process import receive, self_, send
from otplib.vm.hooks import Writer
from otplib.vm.leaders import Leaders
from otplib.vm.machine import Machine
from otplib.vm.output import write_plain
from otplib.vm.transport import is_far

_FAULT = ("error", "request")


async def serve(writer: Writer | None) -> None:
    """Serve output requests for ever; without a writer, to the standard output."""
    while True:
        match await receive():
            case ("io_request", Pid() as sender, reply_as, request):
                send(sender, ("io_reply", reply_as, await _carry_out(writer, sender, request)))


async def _carry_out(writer: Writer | None, sender: Pid, request: Any) -> Any:
    match request:
        case ("put_chars", str(), text):
            shown = text_of(text)
            if shown is None:
                return _FAULT
            if writer is None:
                write_plain("stdout", shown)
            else:
                writer.write("stdout", shown)
            return "ok"
        case ("put_chars", str() as encoding, str() as module, str() as function, list() as args):
            text = await _ask_for_text(sender, module, function, args)
            return _FAULT if text is None else await _carry_out(writer, sender, ("put_chars", encoding, text))
        case ("requests", list() as requests):
            answer: Any = "ok"
            for one in requests:
                answer = await _carry_out(writer, sender, one)
                if answer != "ok":
                    break
            return answer
        case _:
            return _FAULT


def text_of(characters: Any) -> str | None:
    """Give what a BEAM calls character data as text: binaries and code points in lists of any depth."""
    if isinstance(characters, str):
        return characters
    pieces: list[str] = []
    waiting: list[Any] = [characters]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            pieces.append(one)
        elif isinstance(one, bytes):
            pieces.append(one.decode("utf-8", "replace"))
        elif isinstance(one, int) and 0 <= one <= 0x10FFFF:
            pieces.append(chr(one))
        elif isinstance(one, list):
            waiting.extend(reversed(one))
        else:
            return None
    return "".join(pieces)


async def _ask_for_text(sender: Pid, module: str, function: str, args: list[Any]) -> Any:
    """Have the printing node make the text: it has the function that knows how, such as `io_lib:format`."""
    if not is_far(sender):
        return None
    request = (Atom("call"), Atom(module), Atom(function), args, self_())
    try:
        text = await GenServer.call(("rex", sender.node), request)
    except Exit:
        return None
    return None if isinstance(text, tuple) else text


def start_leader(machine: Machine, writer: Writer) -> Pid:
    """Start a group leader with a writer of its own: what its processes print goes there."""
    return machine.leaders.start(serve, writer)


Leaders.body = staticmethod(serve)
