"""The texts of crash reports, in Elixir's shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from otplib.core.inspection import inspect_term
from otplib.core.reasons import Raised, StackEntry, format_banner, format_exit
from otplib.core.terms import Pid


def describe_process(pid: Pid, name: str | None) -> str:
    """Give the name by which a report speaks of a process: its registered name, else its pid."""
    return inspect_term(name) if name is not None else repr(pid)


def format_stop(reason: Any) -> str:
    """Give a reason as a headline with its trace: `** (ValueError) ...` or `** (stop) ...`."""
    if isinstance(reason, Raised):
        return "\n".join([format_banner(reason.exception), *format_stack(reason.stacktrace)])
    return f"** (stop) {format_exit(reason)}"


def format_stack(entries: Sequence[StackEntry]) -> list[str]:
    """Give the lines of a trace."""
    return [f"    {entry}" for entry in entries]


def process_crash(pid: Pid, raised: Raised) -> str:
    """Report that a plain process raised (row p17); by its pid, as Elixir does, though it has a name."""
    return "\n".join([f"Process {pid!r} raised an exception", format_stop(raised)])


def server_crash(
    kind: str,
    who: str,
    reason: Any,
    *,
    last_message: Any,
    state: Any,
    stack: Sequence[StackEntry] = (),
    client: str | None = None,
    sender: str | None = None,
) -> str:
    """Report that a server terminated (rows g34, g35, golden 03).

    `stack` tells where a callback raised `Exit`; an exception brings its own. `sender` is who sent the last message
    when it was a call; `client` says what became of them.
    """
    origin = f" (from {sender})" if sender is not None else ""
    lines = [
        f"{kind} {who} terminating",
        format_stop(reason),
        *format_stack(stack),
        f"Last message{origin}: {inspect_term(last_message)}",
        f"State: {inspect_term(state)}",
    ]
    if client is not None:
        lines.append(client)
    return "\n".join(lines)


def client_line(client: str, alive: bool | None, stack: Sequence[StackEntry] = ()) -> str:
    """Say what became of the client of a crashed server; `alive` is None for one on another node."""
    if alive is None:
        return f"Client {client} is remote"
    if not alive:
        return f"Client {client} is dead"
    return "\n".join([f"Client {client} is alive", *([""] if stack else []), *format_stack(stack)])
