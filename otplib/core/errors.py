"""Every exception that otplib raises, as one tree.

    Exception
    └── OtplibError
        ├── StartError            .reason      a process or child could not start
        ├── ChildError            .reason      a supervisor refuses: "not_found", "running", "restarting"
        ├── NoProcessError                     link to a process that is dead
        ├── NoSuchNameError       (LookupError)   send to a name nobody holds
        ├── NameTakenError                     register refused
        ├── SystemLimitError                   the process table is full
        ├── CopyError             (TypeError)  a message cannot be copied
        ├── LeaderError           (OSError)    print, and the group leader is dead
        ├── MachineError          (RuntimeError)  no machine can do this here, or the machine is stopped
        ├── NodeError                          distribution: wrong state, wrong name
        │     (in dist/: CookieFileError, a cookie file to mend; TlsError, a certificate or peer that is refused)
        ├── DecodeError           (ValueError) bad bytes from the wire
        ├── RpcError              .reason      what Elixir puts into {:badrpc, reason}
        ├── RemoteError           .reason      what `:erpc.call` raises
        └── Thrown                .value       what a function on a BEAM has thrown
    BaseException
    └── Exit                      .reason      ends the process that raises it
        └── CallTimeout           (TimeoutError)  a call that nobody answered in time

`Exit` is a `BaseException`, so `except Exception` in user code cannot swallow the end of a process.
Wrong arguments are plain `TypeError` and `ValueError`.
"""

from __future__ import annotations

from typing import Any

from otplib.core.reasons import format_exit
from otplib.core.terms import Pid


class OtplibError(Exception):
    """Base of every ordinary error of this library."""


class StartError(OtplibError):
    """A process could not be started; `reason` is what Elixir returns as `{:error, reason}`.

    Example:
        >>> StartError(("already_started", 7)).reason
        ('already_started', 7)
    """

    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return format_exit(self.reason)


class ChildError(OtplibError):
    """A supervisor refuses an order about a child; `reason` is `"not_found"`, `"running"` or `"restarting"`."""

    def __init__(self, reason: Any, message: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message or str(self.reason)


class NoProcessError(OtplibError):
    """`link` to a process that is dead, from a process that does not trap exits (Erlang's `noproc`)."""


class NoSuchNameError(OtplibError, LookupError):
    """`send` to a name that nobody has registered (Erlang's `badarg`)."""


class NameTakenError(OtplibError):
    """`register` refused: the name is taken, the process is dead, or it has a name already."""


class SystemLimitError(OtplibError):
    """The process table is full (Erlang's `system_limit`)."""


class CopyError(OtplibError, TypeError):
    """A message holds something that cannot be copied from one process to another."""


class LeaderError(OtplibError, OSError):
    """Output of a process whose group leader is dead (Erlang's `terminated`)."""


class MachineError(OtplibError, RuntimeError):
    """No machine can do this here: wrong thread, foreign event loop, or a machine that has stopped."""


class NodeError(OtplibError):
    """Distribution is in the wrong state, or a node name is wrong."""


class DecodeError(OtplibError, ValueError):
    """Bytes that are not a term, or a term that is too deep or too large."""


class RpcError(OtplibError):
    """A remote call failed; `reason` is what Elixir puts into `{:badrpc, reason}`."""

    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason


class RemoteError(OtplibError):
    """A call by `erpc` failed; `reason` is `("erpc", "noconnection")`, `("erpc", "timeout")`, or
    `("exception", reason, stacktrace)`."""

    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return format_exit(self.reason)


class Thrown(OtplibError):
    """A value that a function on a BEAM has thrown, and `erpc` brings home."""

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.value = value


class Exit(BaseException):
    """Raise it to end the running process with `reason`; a call that fails raises it in the caller.

    Mirrors `Kernel.exit/1`. Its text reads as Elixir's.

    Example:
        >>> Exit("shutdown").reason
        'shutdown'
        >>> print(Exit(("noproc", ("GenServer", "call", ["nobody", "hi", 5.0]))))
        exited in: GenServer.call("nobody", "hi", 5.0)
            ** (EXIT) no process: the process is not alive or there's no process currently associated with \
the given name, possibly because its application isn't started
    """

    def __init__(self, reason: Any = "normal") -> None:
        super().__init__(reason)
        self.reason = reason
        #: The shell process whose end this is, where a signal ended one while its code waited.
        self.shell: Pid | None = None

    def __str__(self) -> str:
        return format_exit(self.reason)


class CallTimeout(Exit, TimeoutError):
    """A call that got no answer in time: an `Exit` for OTP people, a `TimeoutError` for Python people."""
