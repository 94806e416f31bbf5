"""What the machine knows of one process, kept small: a million of them fit into a gigabyte."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from enum import Enum
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from otplib.core.mailbox import Mailbox
from otplib.core.terms import Pid, Ref

if TYPE_CHECKING:
    from otplib.vm.machine import Machine


#: The priority of nearly all processes; compared by identity.
NORMAL: Final = "normal"


class Status(Enum):
    """Where a process stands. The runner of its step alone moves it out of RUNNING; all else needs the lock.

    RUNNABLE --step--> RUNNING --park--> WAITING --message, nudge--> RUNNABLE
                               --pause-> PAUSED  --nudge-----------> RUNNABLE
                               --end---> DEAD
    RUNNABLE --suspended--> SUSPENDED --resume--> RUNNABLE
    """

    RUNNABLE = "runnable"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"  # waits for a moment or a thread, not for messages; `info` says "waiting"
    SUSPENDED = "suspended"
    DEAD = "exiting"


#: What runs at the next step instead of `coro.send`: the call to start with, or an exception to throw.
Start = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | BaseException


class ProcessRecord:
    """One process. Fields that most processes never need start as None."""

    #: True for the processes of ordinary code, see `shell`.
    is_shell = False

    __slots__ = (
        "alert",
        "aliases",
        "armed",
        "context",
        "coro",
        "deadline",
        "dictionary",
        "doom",
        "entry",
        "initial",
        "leader",
        "limit",
        "links",
        "machine",
        "mailbox",
        "monitors",
        "name",
        "on_exit",
        "parent",
        "parked",
        "pending",
        "pid",
        "priority",
        "reductions",
        "start",
        "state",
        "suspended",
        "trapping",
        "watchers",
    )

    def __init__(self, machine: Machine, pid: Pid, parent: ProcessRecord | None, leader: Pid | None) -> None:
        self.machine = machine
        self.pid = pid
        self.parent: Pid | None = parent.pid if parent is not None else None
        self.leader = leader
        self.state = Status.RUNNABLE
        self.coro: CoroutineType[Any, Any, Any] | None = None
        self.context: Context | None = None
        self.start: Start | None = None
        #: The function it was spawned with, for people who look.
        self.initial: Callable[..., Any] | None = None
        #: The behaviour's own word for it in `info`, `(module, "init")` for a GenServer.
        self.entry: Any = None
        self.mailbox: Mailbox | None = None
        #: There only while it waits or pauses; whoever deletes it has the right to wake it. Its runner alone sets it.
        self.parked: None
        #: Something other than a message wants the next step: `doom`, a suspension, or a nudge to look again.
        self.pending = False
        #: `(reason,)` once a fatal signal has reached it; the process counts as dead from then on.
        self.doom: tuple[Any] | None = None
        self.trapping = False
        #: Linked pids; guarded by the machine's lock, and always on both sides.
        self.links: dict[Pid, None] | None = None
        #: Monitors this process holds: ref -> what it watches. Guarded by the machine's lock.
        self.monitors: dict[Ref, Any] | None = None
        #: Monitors others hold on it: ref -> (watcher, or the pid of a far one; the name they used or None), guarded by
        #: the machine's lock; and calls that wait for its answer: alias -> caller, one step of the interpreter each.
        self.watchers: dict[Ref, tuple[ProcessRecord | Pid, Any] | ProcessRecord] | None = None
        self.aliases: set[Ref] | None = None
        self.name: str | None = None
        self.dictionary: dict[Any, Any] | None = None
        #: When the wait it is in gives up; None while no wait has a limit.
        self.deadline: float | None = None
        #: Moment of its entry in the timer heap. At most one entry, however many waits: a call with a time-out costs
        #: no timer as long as an earlier entry is there to look again.
        self.armed: float | None = None
        self.reductions = 0
        self.suspended = 0
        self.priority = NORMAL
        self.limit: int | None = None
        #: Called, on any thread, in place of a turn in the run queue: how a shell's code hears that it may go on.
        self.alert: Callable[[], None] | None = None
        #: Called once with (reason, result) when it is dead: how `run` and the shell hear of it.
        self.on_exit: Callable[[Any, Any], None] | None = None

    def __repr__(self) -> str:
        return f"<ProcessRecord {self.pid!r} {self.state.value}>"
