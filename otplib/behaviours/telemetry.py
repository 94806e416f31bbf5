"""Telemetry: hear of every callback of every server, and how long it took.

| event | when | what it has besides |
|---|---|---|
| `"start"` | before a callback runs | |
| `"stop"` | after it has returned | `duration`, `outcome` |
| `"exception"` | after it has raised, `Exit` too, or its process was killed in it | `duration`, `error` |

Each start is followed by one stop or one exception of the same process. Handlers are called in the process whose
callback it is, in the order in which they were attached, and what they do takes that process's time; they are plain
functions. One that raises is detached, with a report, and the server goes on: to measure must not break.

As long as nobody is attached a server pays for one comparison per message. Supervisors are servers too, and heard of.
Erlang's library `telemetry` has the same verbs; OTP's own servers have no such events.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Literal

from otplib.core.errors import Exit
from otplib.core.inspection import inspect_term
from otplib.core.terms import Pid
from otplib.vm.machine import Machine
from otplib.vm.process_record import ProcessRecord
from otplib.vm.shell import current_machine

if TYPE_CHECKING:
    from otplib.behaviours.gen_server import GenServer

__all__ = ["CALLBACKS", "Event", "attach", "attached", "detach"]

log = logging.getLogger("otplib")

#: The callbacks that are measured.
CALLBACKS: Final = (
    "init",
    "handle_call",
    "handle_cast",
    "handle_info",
    "handle_continue",
    "terminate",
    "code_change",
    "format_status",
)


@dataclass(frozen=True, slots=True)
class Event:
    """What a handler is told. The values are the server's own, not copies: to be read, not changed or kept.

    Example:
        >>> Event("stop", "handle_cast", int, Pid("nonode@nohost", 7, 0, 1), None, "tick", 0.25).duration
        0.25
    """

    kind: Literal["start", "stop", "exception"]
    callback: str
    #: The class of the server.
    server: type
    pid: Pid
    #: The registered name of the process, if it has one.
    name: str | None
    #: The request, message, argument or reason that the callback was given.
    message: Any
    #: Seconds of the machine's clock, what was awaited included; None at the start.
    duration: float | None = None
    #: What the callback returned.
    outcome: Any = None
    #: What it raised.
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _Handler:
    id: Any
    fn: Callable[[Event], object]
    server: type
    callbacks: frozenset[str]


#: What a machine has as long as nobody is attached; compared by identity.
NOBODY: Final[tuple[_Handler, ...]] = ()


class Telemetry:
    """The handlers of one machine."""

    def __init__(self) -> None:
        #: Replaced as a whole, so that whoever reads it needs no lock.
        self.handlers: tuple[_Handler, ...] = NOBODY
        self._lock = Lock()

    def add(self, handler: _Handler) -> None:
        """Attach one.

        Raises:
            ValueError: its id is taken.
        """
        with self._lock:
            if any(one.id == handler.id for one in self.handlers):
                raise ValueError(
                    f"a handler {handler.id!r} is attached already: detach({handler.id!r}) first, or take another id"
                )
            self.handlers = (*self.handlers, handler)

    def remove(self, id: Any) -> bool:
        """Detach one; False if there was none."""
        with self._lock:
            left = tuple(one for one in self.handlers if one.id != id)
            found = len(left) < len(self.handlers)
            self.handlers = left or NOBODY
            return found

    def tell(self, handlers: tuple[_Handler, ...], event: Event) -> None:
        """Call handlers that want this event; one that raises is detached."""
        for handler in handlers:
            try:
                handler.fn(event)
            except (Exception, Exit) as error:
                if self.remove(handler.id):
                    log.error(
                        "telemetry handler %s raised %s: %s, and has been detached",
                        inspect_term(handler.id),
                        type(error).__qualname__,
                        error,
                    )


def telemetry_of(machine: Machine) -> Telemetry:
    """Give the handlers of a machine."""
    found: Telemetry | None = machine.services.get("telemetry")
    if found is None:
        found = machine.services.setdefault("telemetry", Telemetry())
    return found


class Measured:
    """Stands in for a server's callbacks as long as somebody listens: the same callbacks, timed and told of."""

    def __init__(
        self, module: GenServer, record: ProcessRecord, telemetry: Telemetry, handlers: tuple[_Handler, ...]
    ) -> None:
        self._module = module
        self._record = record
        self._telemetry = telemetry
        cls = type(module)
        for name in CALLBACKS:
            wanted = tuple(one for one in handlers if name in one.callbacks and issubclass(cls, one.server))
            setattr(self, name, self._measure(name, wanted) if wanted else getattr(module, name))

    def _measure(self, name: str, handlers: tuple[_Handler, ...]) -> Callable[..., Any]:
        module, record, tell = self._module, self._record, self._telemetry.tell
        now = record.machine.now

        async def measured(*args: Any) -> Any:
            about = (name, type(module), record.pid, record.name, args[0])  # what it is about always comes first
            tell(handlers, Event("start", *about))
            begun = now()
            try:
                outcome = getattr(module, name)(*args)
                if type(outcome) is CoroutineType:
                    outcome = await outcome
            except BaseException as error:
                tell(handlers, Event("exception", *about, now() - begun, None, error))
                raise
            tell(handlers, Event("stop", *about, now() - begun, outcome))
            return outcome

        return measured


# ---- the verbs -----------------------------------------------------------------------------------------------------


def attach(
    id: Any,
    fn: Callable[[Event], object],
    *,
    server: type | None = None,
    callbacks: Iterable[str] = CALLBACKS,
) -> None:
    """Call `fn(event)` at the start and at the end of each callback, of living servers too. Mirrors
    `:telemetry.attach/4`.

    Args:
        id: by which it is detached; anything that can be compared.
        fn: a plain function; it runs in the measured process and must not wait.
        server: only servers of this class and its subclasses.
        callbacks: only these callbacks.

    Raises:
        ValueError: the id is taken, or there is no such callback.
        TypeError: no plain function, or `server` is no class.

    Example:
        >>> from otplib import GenServer, Reply, run
        >>> class Adder(GenServer):
        ...     def handle_call(self, number, caller, total): return Reply(total + number, total + number)
        >>> def note(event):
        ...     if event.kind == "stop": heard.append((event.server.__name__, event.message, event.duration < 1.0))
        >>> heard = []
        >>> attach("notes", note, server=Adder, callbacks=["handle_call"])
        >>> async def main():
        ...     adder = await Adder.start(1)
        ...     return await GenServer.call(adder, 2)
        >>> run(main), detach("notes")
        (3, True)
        >>> heard
        [('Adder', 2, True)]
    """
    if not callable(fn) or inspect.iscoroutinefunction(fn):
        raise TypeError(
            f"expected a plain function that takes one event, as in attach(id, fn); got {fn!r}: a handler cannot wait, "
            "but it can send what it hears to a process"
        )
    if server is not None and not isinstance(server, type):
        raise TypeError(f"expected server to be a class of servers, as in server=MyServer; got {server!r}")
    wanted = frozenset([callbacks] if isinstance(callbacks, str) else callbacks)
    unknown = wanted.difference(CALLBACKS)
    if unknown or not wanted:
        what = f"no callback {', '.join(map(repr, sorted(map(str, unknown))))}" if unknown else "no callbacks given"
        raise ValueError(f"{what}: there are {', '.join(CALLBACKS)}")
    telemetry_of(current_machine()).add(_Handler(id, fn, server or object, wanted))


def detach(id: Any) -> bool:
    """Take a handler off; False if there is none of this id. Mirrors `:telemetry.detach/1`.

    A callback that is under way on another thread may still tell it of its end.

    Example:
        >>> detach("nobody")
        False
    """
    return telemetry_of(current_machine()).remove(id)


def attached() -> list[Any]:
    """Give the ids of the handlers, oldest first. Mirrors `:telemetry.list_handlers/1`.

    Example:
        >>> attached()
        []
    """
    return [one.id for one in telemetry_of(current_machine()).handlers]
