"""A stream of tasks: one for each item of an input, so many at a time. The machine behind `Task.async_stream`.

Three kinds of processes, as in Elixir's `Task.Supervised.stream`. The *owner* iterates: it pulls items, and gives out
results. Its *keeper*, linked to it, starts the tasks, sees to their time limits, and hears of their ends, so that none
of it lies in the owner's mailbox when the stream is over. The *tasks* answer the owner themselves.

| from | to | message |
|---|---|---|
| owner | keeper | `("spawn", position, item)`, `("stop",)` |
| task | owner | `((tag, position), value)` |
| keeper | owner | `((tag, position), "down" or "timed_out" or "refused", reason)` |

A task gives its place free when it has ended, whether its result has been taken or not.

The end of one is heard by the others over links: a task that fails takes a keeper along that does not trap exits, and
that its owner; an owner that ends takes keeper and tasks along. A keeper traps exits if its owner does.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sized
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from otplib.behaviours.gen import Server, ancestors_below
from otplib.behaviours.task_process import answer, callers_of, introduce, mfa_of, named_call, owner_of
from otplib.behaviours.task_supervisor import ask_for_task
from otplib.behaviours.task_waiting import Outcome
from otplib.core.copying import copied
from otplib.core.errors import CallTimeout, Exit, StartError
from otplib.core.mailbox import EMPTY
from otplib.core.reasons import Down, ExitMessage
from otplib.core.terms import Pid, Ref
from otplib.process import exit, flag, link, monitor, receive, self_, send, unlink
from otplib.vm.process_record import ProcessRecord
from otplib.vm.shell import current_machine, current_record
from otplib.vm.waiting import deadline_after, take_reply

R = TypeVar("R")

OnTimeout = Literal["exit", "kill_task"]

_MISSING: Final[Any] = object()


class Order(NamedTuple):
    """All that whoever starts the tasks of a stream must know of it."""

    tag: Ref
    owner: Pid
    shown_owner: tuple[str, Any, Pid]
    callers: list[Pid]
    fn: Any
    args: tuple[Any, ...]

    def __deepcopy__(self, memo: Any) -> Order:
        return self


#: Starts and monitors the task for one item, in the keeper; raises `StartError` if there is no room for it.
StartTask = Callable[[Order, int, Any], Awaitable[tuple[Pid, Ref]]]


async def start_here(order: Order, position: int, item: Any) -> tuple[Pid, Ref]:
    """Start the task for one item, linked to the keeper."""
    record = current_record()
    machine = record.machine
    args = (item, *copied(order.args))
    ref = machine.new_ref()

    def bind(child: ProcessRecord) -> None:
        introduce(child, record, order.fn, mfa_of(order.fn, len(args)), order.callers)
        machine.monitor(record, child, None, ref=ref)

    work: tuple[Any, ...] = (order.owner, order.tag, (order.tag, position), order.fn, args, {})
    return machine.spawn(answer, work, {}, record, link=True, bind=bind)[0].pid, ref


def start_under(supervisor: Server, shutdown: Any, linked: bool) -> StartTask:
    """Give what starts the task for one item under a `Task.Supervisor`, be it on another node."""

    async def start(order: Order, position: int, item: Any) -> tuple[Pid, Ref]:
        pid = await ask_for_task(supervisor, order.shown_owner, shutdown)
        if linked:
            link(pid)
        ref = monitor(pid)
        mfa = named_call(order.fn, (item, *order.args))
        send(pid, (order.owner, (order.tag, position), order.tag, order.callers, mfa))
        return pid, ref

    return start


@dataclass(frozen=True)
class Options:
    """How a stream is run."""

    max_concurrency: int
    ordered: bool
    timeout: float | None
    on_timeout: OnTimeout
    zip_input_on_exit: bool
    linked: bool


def check_options(
    max_concurrency: int | None,
    ordered: bool,
    timeout: float | None,
    on_timeout: OnTimeout,
    zip_input: bool,
    linked: bool,
) -> Options:
    """Make options of what a user gave.

    Raises:
        TypeError, ValueError: what was expected, and what came.
    """
    most = default_concurrency() if max_concurrency is None else max_concurrency
    if type(most) is not int or most < 1:
        raise ValueError(f"expected max_concurrency to be a whole number greater than zero; got {max_concurrency!r}")
    if on_timeout not in ("exit", "kill_task"):
        raise ValueError(f'expected on_timeout="exit" or on_timeout="kill_task"; got {on_timeout!r}')
    deadline_after(current_record(), timeout)
    return Options(most, bool(ordered), timeout, on_timeout, bool(zip_input), linked)


def default_concurrency() -> int:
    """Give how many tasks run at a time unless told: the number of cores, as Elixir's `System.schedulers_online/0`.

    Example:
        >>> default_concurrency() >= 1
        True
    """
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


class TaskStream(Generic[R]):
    """The results of a task for each item, as they are asked for: an async iterator, to be gone through once.

    Nothing runs before the first result is asked for, and no item is pulled before there is room for its task. It
    belongs to the process that asked first. Its length is the input's, where that has one; so `tqdm` shows progress.
    Leaving the loop early ends the tasks that still run, as soon as nobody holds the stream; `await stream.aclose()`
    does so at once, and waits.
    """

    def __init__(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        fn: Any,
        args: tuple[Any, ...],
        start: StartTask,
        options: Options,
    ) -> None:
        self._pull = _puller(items)
        self._length = len(items) if isinstance(items, Sized) else None
        self._call = (fn, copied(args))
        self._start = start
        self._options = options
        self._exhausted = False
        self._closed = False
        self._owner: ProcessRecord | None = None
        self._keeper: ProcessRecord
        self._tag: Ref
        #: Tasks that have been asked for, that run, and whose results have been given out.
        self._spawned = self._running = self._delivered = 0
        #: Values that have come while their tasks still run; results that wait for those before them; inputs.
        self._values: dict[int, Any] = {}
        self._done: dict[int, Outcome[R]] = {}
        self._items: dict[int, Any] = {}

    def __len__(self) -> int:
        if self._length is None:
            raise TypeError("this stream has no length, as its input has none")
        return self._length

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<TaskStream: {self._delivered} of {'?' if self._length is None else self._length} delivered>"

    def __deepcopy__(self, memo: Any) -> TaskStream[R]:
        raise TypeError("a stream belongs to the process that goes through it: send the input, or the results")

    def __aiter__(self) -> TaskStream[R]:
        return self

    async def __anext__(self) -> Outcome[R]:
        """Give the next result: `("ok", value)` or `("exit", reason)`.

        Raises:
            CallTimeout: `("timeout", ("Task.Supervised", "stream", [timeout]))`, with `on_timeout="exit"`.
            StartError: the supervisor of the tasks takes no more of them.
            ValueError: another process has begun to go through it.
            whatever the input raises.
        """
        if self._closed:
            raise StopAsyncIteration
        if self._owner is None:
            self._begin()
        elif current_record() is not self._owner:
            raise ValueError(f"this stream belongs to {self._owner.pid!r}, and this is {self_()!r}: make one here")
        try:
            return await self._next()
        except BaseException:
            self._abandon()
            raise

    async def _next(self) -> Outcome[R]:
        while True:
            found = self._take_done()
            if found is not None:
                return found
            if self._exhausted and self._spawned == self._delivered:
                await self.aclose()
                raise StopAsyncIteration
            if self._running < self._options.max_concurrency and not self._exhausted:
                item = await self._pull()
                if item is _MISSING:
                    self._exhausted = True
                else:
                    self._spawn(item)
            else:
                self._hear(await receive(self._fits))

    def _take_done(self) -> Outcome[R] | None:
        position = self._delivered if self._options.ordered else next(iter(self._done), -1)
        found = self._done.pop(position, None)
        if found is not None:
            self._delivered += 1
        return found

    def _begin(self) -> None:
        record = current_record()
        machine = record.machine
        options = self._options
        self._tag = tag = machine.aliases.new(record)
        order = Order(tag, record.pid, owner_of(record), callers_of(record), *self._call)
        known = {"$ancestors": ancestors_below(record), "$callers": order.callers}

        def bind(keeper: ProcessRecord) -> None:
            keeper.dictionary = known
            machine.monitor(record, keeper, None, ref=tag)

        work = (order, self._start, options.timeout, options.linked, record.trapping)
        self._keeper = machine.spawn(_keep, work, {}, record, link=True, bind=bind)[0]
        self._owner = record

    def _spawn(self, item: Any) -> None:
        assert self._owner is not None
        self._owner.machine.deliver(self._keeper, ("spawn", self._spawned, copied(item)))
        if self._options.zip_input_on_exit:
            self._items[self._spawned] = item
        self._spawned += 1
        self._running += 1

    # ---- what comes --------------------------------------------------------------------------------------------------

    def _fits(self, message: Any) -> bool:
        if type(message) is tuple:
            head = message[0] if 2 <= len(message) <= 3 else None
            return type(head) is tuple and len(head) == 2 and isinstance(head[0], Ref) and head[0] == self._tag
        return type(message) is Down and message.ref == self._tag

    def _hear(self, message: Any) -> None:
        if type(message) is Down:  # the keeper has ended, and not because it was told to
            self._fail(Exit, message.reason)
        position = message[0][1]
        if len(message) == 2:
            self._values[position] = message[1]
            return
        _, kind, reason = message
        self._running -= 1
        if position in self._values:
            self._done[position] = ("ok", self._values.pop(position))
            self._items.pop(position, None)
        elif kind == "refused":
            raise reason
        elif kind == "timed_out" and self._options.on_timeout == "exit":
            self._fail(CallTimeout, "timeout")
        else:
            why = "timeout" if kind == "timed_out" else reason
            self._done[position] = (
                "exit",
                (self._items.pop(position), why) if self._options.zip_input_on_exit else why,
            )

    def _fail(self, kind: type[Exit], reason: Any) -> None:
        raise kind((reason, ("Task.Supervised", "stream", [self._options.timeout])))

    # ---- the end -----------------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """End the tasks that still run, and wait until they have. Harmless when all is over.

        Raises:
            Exit: the keeper of the tasks has failed.
        """
        if self._closed:
            return
        self._closed = True
        if self._owner is None:
            return
        if current_record() is not self._owner:
            self._let_go()
            return
        machine = self._owner.machine
        machine.deliver(self._keeper, ("stop",))
        down = await take_reply(self._owner, self._tag, 0, None)
        self._let_go()
        if down.reason != "normal":
            self._fail(Exit, down.reason)

    def _abandon(self) -> None:
        """End the tasks that still run, without waiting."""
        if not self._closed and self._owner is not None:
            self._closed = True
            self._owner.machine.deliver(self._keeper, ("stop",))
            self._let_go()

    def _let_go(self) -> None:
        """Cut what ties owner and keeper, and take away what the stream has left in the owner's mailbox."""
        record = self._owner
        assert record is not None
        machine = record.machine
        keeper = self._keeper.pid
        machine.unlink(record, keeper)
        machine.demonitor(record, self._tag)
        machine.aliases.drop(record, self._tag)
        mailbox = record.mailbox
        if mailbox is None or current_record() is not record:
            return
        while mailbox.take(self._fits) is not EMPTY:
            pass
        mailbox.take(lambda one: type(one) is ExitMessage and one.pid == keeper)

    def __del__(self) -> None:
        # The loop was left early. Anybody's thread may be here, and the machine may be gone.
        owner = getattr(self, "_owner", None)
        if owner is not None and not self._closed and not owner.machine.stopped:
            with contextlib.suppress(Exception):
                self._abandon()


def _puller(items: Any) -> Callable[[], Awaitable[Any]]:
    """Give how to get the next item of an input, `_MISSING` at its end."""
    if hasattr(items, "__aiter__"):
        later = aiter(items)

        async def pull_later() -> Any:
            return await anext(later, _MISSING)

        return pull_later
    if not hasattr(items, "__iter__") and not hasattr(items, "__getitem__"):
        raise TypeError(f"expected something to iterate over, or to iterate over asynchronously; got {items!r}")
    now = iter(items)

    async def pull() -> Any:
        return next(now, _MISSING)

    return pull


# ---- the keeper ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Running:
    """A task under way, as its keeper knows it."""

    position: int
    pid: Pid
    timed_out: bool = False


async def _keep(order: Order, start: StartTask, timeout: float | None, linked: bool, trapping: bool) -> None:
    """Start tasks, end those that take too long, and tell the owner of every end."""
    flag(trap_exit=trapping)
    machine = current_machine()
    watch = monitor(order.owner)
    running: dict[Ref, _Running] = {}
    due: deque[tuple[float, Ref]] = deque()
    while True:
        limit = None
        while due and due[0][1] not in running:
            due.popleft()
        if due:
            limit = max(0.0, due[0][0] - machine.now())
        try:
            message = await receive(timeout=limit)
        except TimeoutError:
            _end_late(running, due.popleft()[1])
            continue
        if type(message) is Down:
            if message.ref == watch:
                if linked:
                    for task in running.values():
                        exit(task.pid, message.reason)
                raise Exit(message.reason)
            ended = running.pop(message.ref, None)
            if ended is not None:
                _tell(order, ended.position, "timed_out" if ended.timed_out else "down", message.reason)
        elif type(message) is ExitMessage:
            pass  # of a task whose monitor says the same
        elif message[0] == "spawn":
            await _start(order, start, message[1], message[2], running, due, timeout)
        elif message[0] == "stop":
            await _stop(running)
            return


async def _start(
    order: Order,
    start: StartTask,
    position: int,
    item: Any,
    running: dict[Ref, _Running],
    due: deque[tuple[float, Ref]],
    timeout: float | None,
) -> None:
    try:
        pid, ref = await start(order, position, item)
    except StartError as refusal:
        _tell(order, position, "refused", refusal)
        return
    running[ref] = _Running(position, pid)
    deadline = deadline_after(current_record(), timeout)
    if deadline is not None:
        due.append((deadline, ref))


def _end_late(running: dict[Ref, _Running], ref: Ref) -> None:
    task = running[ref]
    task.timed_out = True
    _kill(task.pid)


def _kill(pid: Pid) -> None:
    """Kill a task; its end must not come back over the link. Should this process die in between, it is killed too."""
    try:
        unlink(pid)
    finally:
        exit(pid, "kill")


def _tell(order: Order, position: int, kind: str, reason: Any) -> None:
    machine = current_machine()
    owner = machine.aliases.take(order.tag)
    if owner is not None:
        machine.deliver(owner, ((order.tag, position), kind, reason))


async def _stop(running: dict[Ref, _Running]) -> None:
    flag(trap_exit=True)
    for task in running.values():
        _kill(task.pid)
    for ref in running:
        await receive(("DOWN", ref, ..., ..., ...))
