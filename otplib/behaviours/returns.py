"""What the callbacks of a server may return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple


class _NoReplyGiven:
    def __repr__(self) -> str:
        return "NO_REPLY"


#: Stands for "no reply" in `Stop`, since None may be a reply.
NO_REPLY: Final = _NoReplyGiven()


class Refused(NamedTuple):
    """The answer to a system request that failed: OTP's `{error, reason}`, and unlike any state that looks so."""

    word: str
    error: Any


@dataclass(slots=True)
class Continue:
    """As `then=`: run `handle_continue(arg, state)` before the next message."""

    arg: Any = None


@dataclass(slots=True)
class Ok:
    """From `init`: the server is ready, with this state."""

    state: Any = None
    timeout: float | None = None
    then: Continue | None = None
    hibernate: bool = False


@dataclass(slots=True)
class Ignore:
    """From `init`: do not start; `start_link` gives None."""


@dataclass(slots=True)
class Reply:
    """From `handle_call`: answer the caller and go on.

    Args:
        value: the answer.
        state: the new state.
        timeout: seconds after which, if no message has come, `handle_info("timeout", state)` runs.
        then: `Continue(arg)`.
        hibernate: give memory back until the next message.
    """

    value: Any
    state: Any
    timeout: float | None = None
    then: Continue | None = None
    hibernate: bool = False


@dataclass(slots=True)
class NoReply:
    """From any callback but `init`: go on; a caller is answered later by `GenServer.reply`."""

    state: Any
    timeout: float | None = None
    then: Continue | None = None
    hibernate: bool = False


@dataclass(slots=True)
class Stop:
    """End the server with `reason`; from `handle_call` it may answer the caller first."""

    reason: Any = "normal"
    state: Any = None
    reply: Any = NO_REPLY
