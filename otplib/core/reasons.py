"""Exit reasons, the messages that carry them, and their texts.

A reason is any term. A Python exception that ends a process becomes `Raised(exception, stacktrace)`, whose
trace is plain data: no frame, and so no local variable of the dead process, stays alive because of it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, NamedTuple

from otplib.core.faults import describe_fault
from otplib.core.inspection import inspect_call, inspect_term
from otplib.core.terms import Pid, Ref

#: How many entries of a trace are kept, innermost first.
MAX_TRACE: Final = 20


class StackEntry(NamedTuple):
    """One line of a trace: where it was, innermost first."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.function}"


class Raised(NamedTuple):
    """The exit reason of a process that a Python exception ended: Elixir's `{exception, stacktrace}`."""

    exception: BaseException
    stacktrace: tuple[StackEntry, ...]


class Down(NamedTuple):
    """What a monitor delivers: Elixir's `{:DOWN, ref, :process, pid, reason}`.

    `pid` is `(name, node)` when a name was monitored. Both `case Down(pid=pid)` and
    `case ("DOWN", ref, _, pid, reason)` match it.
    """

    tag: str
    ref: Ref
    type: str
    pid: Pid | tuple[str, str]
    reason: Any


class ExitMessage(NamedTuple):
    """What a process that traps exits receives instead of dying: Elixir's `{:EXIT, pid, reason}`."""

    tag: str
    pid: Pid
    reason: Any


def _is_own(filename: str, function: str) -> bool:
    return filename.startswith((_OWN_FOLDER, "<frozen "))


_OWN_FOLDER = __file__.rsplit("core", 1)[0]


def capture(error: BaseException, describe_file: Callable[[str], str]) -> Raised:
    """Turn an exception into a reason, and let go of every frame it held.

    The engine's own frames are left out, as they say nothing about the user's program. Exceptions that are
    its cause or context lose their frames too.
    """
    entries = [
        StackEntry(describe_file(frame.f_code.co_filename), line, frame.f_code.co_qualname)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not _is_own(frame.f_code.co_filename, frame.f_code.co_name)
    ]
    drop_frames(error)
    return Raised(error, tuple(entries[: -MAX_TRACE - 1 : -1]))


def drop_frames(error: BaseException) -> None:
    """Let go of every frame an exception holds, and its cause and context."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        waiting += (one.__cause__, one.__context__)
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def stack_of(trace: TracebackType | None, describe_file: Callable[[str], str]) -> tuple[StackEntry, ...]:
    """Give a traceback as plain data, innermost first, without the engine's own frames."""
    return tuple(
        StackEntry(describe_file(frame.f_code.co_filename), line, frame.f_code.co_qualname)
        for frame, line in traceback.walk_tb(trace)
        if not _is_own(frame.f_code.co_filename, frame.f_code.co_name)
    )[::-1]


def is_quiet(reason: Any) -> bool:
    """Tell whether OTP ends without a report for this reason: normal, shutdown and `("shutdown", x)`."""
    if type(reason) is tuple:
        return len(reason) == 2 and isinstance(reason[0], str) and reason[0] == "shutdown"
    return isinstance(reason, str) and reason in ("normal", "shutdown")


def format_banner(error: BaseException) -> str:
    """Give an exception as one headline: `** (ValueError) what it says`.

    Example:
        >>> print(format_banner(ValueError("bad")))
        ** (ValueError) bad
    """
    kind = type(error)
    owner = kind.__module__.partition(".")[0] if kind.__module__.startswith("otplib.") else kind.__module__
    name = kind.__qualname__ if owner in ("builtins", "__main__") else f"{owner}.{kind.__qualname__}"
    try:
        text = str(error)
    except Exception as broken:
        text = f"<its text raised {type(broken).__qualname__}>"
    return f"** ({name}) {text}".rstrip()


def format_exit(reason: Any) -> str:
    """Give the text of an exit reason; mirrors `Exception.format_exit/1`.

    Example:
        >>> print(format_exit(("shutdown", "why")))
        shutdown: "why"
        >>> print(format_exit((("bad_return_value", 1), ("GenServer", "call", ["a", "hi", 5.0]))))
        exited in: GenServer.call("a", "hi", 5.0)
            ** (EXIT) bad return value: 1
    """
    return _format(reason, "\n    ")


def _format(reason: Any, joiner: str) -> str:
    if isinstance(reason, Raised):
        lines = ["an exception was raised:" + joiner + format_banner(reason.exception)]
        return (joiner + "    ").join(lines + [str(entry) for entry in reason.stacktrace])
    if isinstance(reason, tuple) and len(reason) == 2:
        tag, rest = reason
        if isinstance(tag, str) and tag == "shutdown" and _is_tagged(rest, "failed_to_start_child", 3):
            why = rest[2][1] if _is_tagged(rest[2], "EXIT", 2) else rest[2]
            return f"shutdown: failed to start child: {inspect_term(rest[1])}" + _nested(why, joiner)
        if isinstance(tag, str) and tag == "EXIT":
            return "an exception was raised:" + joiner + _format(rest, joiner)
        if _is_call(rest):
            return "exited in: " + inspect_call(*rest) + _nested(tag, joiner)
    return _plain(reason)


def _nested(reason: Any, joiner: str) -> str:
    return joiner + "** (EXIT) " + _format(reason, joiner + "    ")


def _is_tagged(term: Any, tag: str, size: int) -> bool:
    return isinstance(term, tuple) and len(term) == size and isinstance(term[0], str) and term[0] == tag


def _is_call(term: Any) -> bool:
    return (
        isinstance(term, tuple)
        and len(term) == 3
        and isinstance(term[0], str)
        and isinstance(term[1], str)
        and isinstance(term[2], list | tuple)
    )


_WORDS: Final = {
    "normal": "normal",
    "noproc": "no process: the process is not alive or there's no process currently associated with the given name, "
    "possibly because its application isn't started",
    "killed": "killed",
    "shutdown": "shutdown",
    "noconnection": "no connection",
    "timeout": "time out",
    "calling_self": "process attempted to call itself",
}

_PAIRS: Final = {
    "shutdown": "shutdown: {}",
    "already_started": "already started: {}",
    "bad_return_value": "bad return value: {}",
}


def _plain(reason: Any) -> str:
    if isinstance(reason, str):
        return _WORDS.get(reason) or inspect_term(reason)
    if isinstance(reason, tuple) and len(reason) == 2 and isinstance(reason[0], str):
        if reason[0] == "nodedown":
            return f"no connection to {reason[1]}"
        if reason[0] == "start_spec":
            return "bad child specification, " + describe_fault(reason[1])
        if reason[0] == "supervisor_data":
            return "bad supervisor configuration, " + describe_fault(reason[1])
        if reason[0] == "bad_return" and isinstance(reason[1], tuple) and len(reason[1]) == 3:
            module, function, value = reason[1]
            return f"{inspect_term(module)}.{function}/1 returned a bad value: {inspect_term(value)}"
        shape = _PAIRS.get(reason[0])
        if shape is not None:
            return shape.format(inspect_term(reason[1]))
    return inspect_term(reason)
