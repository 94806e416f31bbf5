"""What the callbacks of a server may return.

For type checkers they are generic in the state, `Reply` in the answer too. Both parameters have defaults, so that the
bare names stay right in strict mode: `-> Reply` is `-> Reply[Any, Any]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple

if TYPE_CHECKING:
    # Defaults are Python 3.13's. Every type checker brings this module along; at run time nobody needs it.
    from typing_extensions import TypeVar

    State = TypeVar("State", default=Any)
    Value = TypeVar("Value", default=Any)
else:
    from typing import TypeVar

    State = TypeVar("State")
    Value = TypeVar("Value")


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
class Ok(Generic[State]):
    """From `init`: the server is ready, with this state."""

    state: State = None  # type: ignore[assignment]  # `Ok()` is a server whose state is None
    timeout: float | None = None
    then: Continue | None = None
    hibernate: bool = False


@dataclass(slots=True)
class Ignore:
    """From `init`: do not start; `start_link` gives None."""


@dataclass(slots=True)
class Reply(Generic[Value, State]):
    """From `handle_call`: answer the caller and go on.

    Args:
        value: the answer.
        state: the new state.
        timeout: seconds after which, if no message has come, `handle_info("timeout", state)` runs.
        then: `Continue(arg)`.
        hibernate: give memory back until the next message.
    """

    value: Value
    state: State
    timeout: float | None = None
    then: Continue | None = None
    hibernate: bool = False


@dataclass(slots=True)
class NoReply(Generic[State]):
    """From any callback but `init`: go on; a caller is answered later by `GenServer.reply`."""

    state: State
    timeout: float | None = None
    then: Continue | None = None
    hibernate: bool = False


@dataclass(slots=True)
class Stop(Generic[State]):
    """End the server with `reason`; from `handle_call` it may answer the caller first."""

    reason: Any = "normal"
    state: State = None  # type: ignore[assignment]  # from `init` there is none
    reply: Any = NO_REPLY
