"""Task: one piece of work in a process of its own, and its result for whoever asked.

| verb | what happens when the task ends | what happens in its owner |
|---|---|---|
| `async_(fn)` | its value, or the reason of its end, is a message to its owner | linked: an abnormal end ends it too |
| `start_link(fn)` | nobody is told its value | linked |
| `start(fn)` | nobody is told anything | nothing |
| `Task.Supervisor.async_(sup, fn)` | as `async_` | linked; the supervisor ends it when it stops itself |
| `Task.Supervisor.async_nolink(sup, fn)` | as `async_` | `await_` raises `Exit`, `yield_` gives `("exit", reason)` |
| `Task.Supervisor.start_child(sup, fn)` | nobody is told its value | nothing |
| `async_stream(items, fn)` | its value is the next result of the stream | linked, by way of the stream's keeper |

The function is an `async def` or a plain one, and its arguments and its value are copied. An end that nobody asked for
is logged, with the function and whoever it worked for. Only the process that has made a task may ask for its value, and
once. A task's process dictionary tells for whom it works: `"$callers"`, nearest first, and who started it:
`"$ancestors"`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar, overload

from otplib.behaviours.dynamic_supervisor import DynamicSupervisor
from otplib.behaviours.dynamic_supervisor_server import DynamicSupervise
from otplib.behaviours.gen import Server
from otplib.behaviours.task_process import (
    brief,
    callers_of,
    mfa_of,
    named_call,
    owner_of,
    spawn_answering,
    spawn_silent,
)
from otplib.behaviours.task_stream import OnTimeout, TaskStream, check_options, start_here, start_under
from otplib.behaviours.task_supervisor import Policy, TaskSupervisorServer, ask_for_task, ask_to_start
from otplib.behaviours.task_waiting import (
    Outcome,
    await_all,
    await_one,
    ignore_one,
    shut_down,
    yield_all,
    yield_one,
)
from otplib.core.child_spec import ChildSpec, Restart, Shutdown
from otplib.core.copying import copied
from otplib.core.inspection import inspect_term
from otplib.core.terms import Global, Pid, Ref, Via
from otplib.vm.running import check_function
from otplib.vm.shell import current_record

__all__ = ["Task", "TaskStream"]

T = TypeVar("T")
R = TypeVar("R")


class Task(Generic[T]):
    """A task whose value is of type `T`: its `pid`, the `ref` of its answer, its `owner`, and `mfa`, what it runs.

    Mirrors Elixir's `Task`. Subclass it, with a `start_link` of your own, for a task in a supervision tree:
    `class Warmup(Task, restart="transient")`.

    Example:
        >>> from otplib import run, sleep
        >>> async def slow(n):
        ...     await sleep(0.001)
        ...     return n * n
        >>> async def main():
        ...     squares = [Task.async_(slow, n) for n in (1, 2, 3)]
        ...     return await Task.await_many(squares)
        >>> run(main)
        [1, 4, 9]
    """

    __slots__ = ("mfa", "owner", "pid", "ref")

    #: None for one that was never a process, see `completed`.
    pid: Pid | None
    ref: Ref
    owner: Pid
    #: Module, function and number of arguments.
    mfa: tuple[str, str, int]

    _spec_overrides: ClassVar[dict[str, Any]] = {}

    def __init__(self, pid: Pid | None, ref: Ref, owner: Pid, mfa: tuple[str, str, int]) -> None:
        self.pid = pid
        self.ref = ref
        self.owner = owner
        self.mfa = mfa

    def __init_subclass__(cls, **options: Any) -> None:
        overrides = {name: value for name, value in cls._spec_overrides.items() if name != "id"}
        for name in ("id", "restart", "shutdown", "significant"):
            if name in options:
                overrides[name] = options.pop(name)
        super().__init_subclass__(**options)
        cls._spec_overrides = overrides

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and self.ref == other.ref and self.owner == other.owner

    def __hash__(self) -> int:
        return hash(self.ref)

    def __repr__(self) -> str:
        return f"Task(pid={self.pid!r}, ref={self.ref!r}, owner={self.owner!r}, mfa={inspect_term(self.mfa)})"

    def __copy__(self) -> Task[T]:
        return self

    def __deepcopy__(self, memo: Any) -> Task[T]:
        return self

    # ---- starting ------------------------------------------------------------------------------------------------

    @overload
    @staticmethod
    def async_(fn: Callable[..., Coroutine[Any, Any, R]], *args: Any, **kwargs: Any) -> Task[R]: ...

    @overload
    @staticmethod
    def async_(fn: Callable[..., R], *args: Any, **kwargs: Any) -> Task[R]: ...

    @staticmethod
    def async_(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Task[Any]:
        """Start a task that runs `fn(*args, **kwargs)`, linked to this process; `await_` gives its value.

        A plain call; it never waits. Mirrors `Task.async/1` and `/3`.

        Raises:
            TypeError: `fn` is not callable, is a generator function, or has been called already.
            CopyError: an argument cannot be copied.
            SystemLimitError: too many processes.

        Example:
            >>> from otplib import run
            >>> async def main():
            ...     task = Task.async_(pow, 2, 10)
            ...     return await Task.await_(task)
            >>> run(main)
            1024
        """
        check_function(fn)
        record = current_record()
        if args:
            args = copied(args)
        if kwargs:
            kwargs = copied(kwargs)
        pid, ref, mfa = spawn_answering(record, fn, args, kwargs)
        return Task(pid, ref, record.pid, mfa)

    @staticmethod
    def start(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Pid:
        """Start a task that nobody waits for or is linked to; gives its pid. Mirrors `Task.start/1` and `/3`."""
        return spawn_silent(fn, args, kwargs, linked=False)

    @staticmethod
    def start_link(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Start a task that nobody waits for, linked to this process; gives its pid. Mirrors `Task.start_link/1`, `/3`.

        A plain call, as it cannot wait. It is what a supervisor calls for the child `(Task, fn)`.
        """
        return spawn_silent(fn, args, kwargs, linked=True)

    @classmethod
    def child_spec(cls, arg: Any = None) -> ChildSpec:
        """Give the specification of a task as a child: `(Task, fn)`, or `(Sub, arg)` for `Sub.start_link(arg)`.

        It is `"temporary"`, unless the subclass says otherwise. Mirrors `Task.child_spec/1` and `use Task`.

        Example:
            >>> spec = Task.child_spec(print)
            >>> spec.id, spec.restart, spec.start[1]
            (<class 'otplib.behaviours.task.Task'>, 'temporary', (<built-in function print>,))
        """
        fields: dict[str, Any] = {"id": cls, "restart": "temporary", "modules": [cls], **cls._spec_overrides}
        return ChildSpec(start=(cls.start_link, (arg,)), **fields)

    @staticmethod
    def completed(value: R) -> Task[R]:
        """Give a task that has its value already, and never was a process. Mirrors `Task.completed/1`.

        Example:
            >>> from otplib import run
            >>> async def main(): return await Task.await_(Task.completed("known"))
            >>> run(main)
            'known'
        """
        record = current_record()
        machine = record.machine
        ref = machine.new_ref()
        machine.deliver(record, (ref, copied(value)))
        return Task(None, ref, record.pid, ("Task", "completed", 1))

    # ---- waiting -------------------------------------------------------------------------------------------------

    @staticmethod
    def await_(task: Task[R], timeout: float | None = 5.0) -> Coroutine[Any, Any, R]:
        """Wait for the value of a task of this process. Mirrors `Task.await/2`.

        Raises:
            CallTimeout: (an `Exit`) `("timeout", ("Task", "await", [task, timeout]))`: not within `timeout` seconds. A
                late answer is dropped; the task goes on, but the exit, if nobody catches it, ends it over the link.
            Exit: `(reason, ("Task", "await", [task, timeout]))`: the task has ended without a value, and this process
                traps exits, or is not linked to it.
            ValueError: it is the task of another process.
        """
        return await_one(task, timeout)  # not `async` itself: one frame less between a process and its scheduler

    @staticmethod
    async def await_many(tasks: Iterable[Task[R]], timeout: float | None = 5.0) -> list[R]:
        """Wait for the values of all, `timeout` seconds in all; gives them in this order. Mirrors `Task.await_many/2`.

        Raises:
            Exit, CallTimeout, ValueError: as `await_`, for the first that fails; `("Task", "await_many", [tasks,
                timeout])`.
        """
        return await await_all(tasks, timeout)

    @staticmethod
    async def yield_(task: Task[R], timeout: float | None = 5.0) -> Outcome[R] | None:
        """Wait for the end of a task: `("ok", value)`, `("exit", reason)`, or None if it is not over in time; then it
        may be asked again. Mirrors `Task.yield/2`.

        Raises:
            ValueError: it is the task of another process.
            Exit: its node is gone.

        Example:
            >>> from otplib import run, sleep
            >>> async def main():
            ...     task = Task.async_(sleep, 0.01)
            ...     return await Task.yield_(task, 0), await Task.yield_(task)
            >>> run(main)
            (None, ('ok', None))
        """
        return await yield_one(task, timeout)

    @staticmethod
    async def yield_many(
        tasks: Iterable[Task[R]], timeout: float | None = 5.0
    ) -> list[tuple[Task[R], Outcome[R] | None]]:
        """Wait `timeout` seconds in all: each task with what `yield_` would give. Mirrors `Task.yield_many/2`.

        Example:
            >>> from otplib import run, sleep
            >>> async def main():
            ...     tasks = [Task.async_(sleep, seconds) for seconds in (0.001, 60)]
            ...     pairs = await Task.yield_many(tasks, 0.1)
            ...     return [outcome if outcome is not None else await Task.shutdown(task) for task, outcome in pairs]
            >>> run(main)
            [('ok', None), None]
        """
        return await yield_all(tasks, timeout)

    @staticmethod
    async def shutdown(task: Task[R], shutdown: float | Literal["brutal_kill"] | None = 5.0) -> Outcome[R] | None:
        """End a task and wait until it has ended; gives what it had come to before, None if it had not. Mirrors
        `Task.shutdown/2`.

        Args:
            shutdown: seconds that it has after the signal `"shutdown"`, None for ever, before it is killed;
                `"brutal_kill"` kills at once.

        Raises:
            ValueError: it is the task of another process, or never was a process.
            Exit: its node is gone.
        """
        return await shut_down(task, shutdown)

    @staticmethod
    def ignore(task: Task[R]) -> Outcome[R] | None:
        """Let a task go on alone: unlink it and drop what it will say; gives what it has come to already. Mirrors
        `Task.ignore/1`.

        Raises:
            ValueError: it is the task of another process.
        """
        return ignore_one(task)

    # ---- streams -------------------------------------------------------------------------------------------------

    @staticmethod
    def async_stream(
        items: Iterable[Any] | AsyncIterable[Any],
        fn: Callable[..., Any],
        *args: Any,
        max_concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = 5.0,
        on_timeout: OnTimeout = "exit",
        zip_input_on_exit: bool = False,
    ) -> TaskStream[Any]:
        """Run `fn(item, *args)` for each item in a task of its own, some at a time; gives an async iterator over
        `("ok", value)`. Mirrors `Task.async_stream/3` and `/5`.

        A task that fails ends this process too, unless it traps exits: then its result is `("exit", reason)`.

        Args:
            items: iterable or async iterable; the next is pulled when there is room for its task, and not before.
            max_concurrency: how many tasks run at a time; the number of cores if None.
            ordered: results in the order of the items, or as they come.
            timeout: seconds that each task may take, None for ever.
            on_timeout: then `"exit"` raises, and ends the stream; `"kill_task"` kills the task, whose result is
                `("exit", "timeout")`.
            zip_input_on_exit: have `("exit", (item, reason))` instead of `("exit", reason)`.

        Raises:
            TypeError, ValueError: nothing to iterate over, no function, or an option that cannot be.
            CallTimeout: from the iterator, `("timeout", ("Task.Supervised", "stream", [timeout]))`.

        Example:
            >>> from otplib import run, sleep
            >>> async def fetch(seconds):
            ...     await sleep(seconds)
            ...     return seconds
            >>> async def main():
            ...     stream = Task.async_stream([0.02, 0.001], fetch, max_concurrency=2)
            ...     return len(stream), [value async for _, value in stream]
            >>> run(main)
            (2, [0.02, 0.001])
        """
        options = check_options(max_concurrency, ordered, timeout, on_timeout, zip_input_on_exit, linked=True)
        check_function(fn)
        return TaskStream(items, fn, args, start_here, options)

    class Supervisor:
        """A supervisor of tasks: it ends them when it stops itself, and may be on another node.

        Mirrors Elixir's `Task.Supervisor`. `supervisor` is a pid, a name, `(name, node)`, `Global(...)` or `Via(...)`.
        A function may be given by its name, `"math.sqrt"`, which is looked up where it runs; for a BEAM it must be.

        Example:
            >>> from otplib import run
            >>> async def main():
            ...     sup = await Task.Supervisor.start_link()
            ...     task = await Task.Supervisor.async_nolink(sup, divmod, 7, 0)
            ...     kind, reason = await Task.yield_(task)
            ...     return kind, reason.exception
            >>> import logging; logging.disable()
            >>> run(main); logging.disable(logging.NOTSET)
            ('exit', ZeroDivisionError('integer division or modulo by zero'))
        """

        @classmethod
        async def start_link(
            cls,
            *,
            name: str | Global | Via | None = None,
            max_children: int | None = None,
            max_restarts: int = 3,
            max_seconds: float = 5,
        ) -> Pid | None:
            """Start a supervisor without tasks, linked to the caller; gives its pid. Mirrors
            `Task.Supervisor.start_link/1`.

            Raises:
                StartError: the name is taken, or an option cannot be.
            """
            flags = DynamicSupervise(max_children=max_children, max_restarts=max_restarts, max_seconds=max_seconds)
            return await TaskSupervisorServer.start_link((Policy, flags, name), name=name)

        @classmethod
        def child_spec(cls, arg: Any = None) -> ChildSpec:
            """Give its specification as a child; `arg` is a dict of what `start_link` takes. Mirrors
            `Task.Supervisor.child_spec/1`.

            Example:
                >>> Task.Supervisor.child_spec({"name": "jobs"}).id
                'jobs'
            """
            options = {} if arg is None else arg
            if not isinstance(options, dict) or not options.keys() <= _SUPERVISOR_OPTIONS:
                raise TypeError(
                    "expected the options of a Task.Supervisor as a dict, as in "
                    f'(Task.Supervisor, {{"name": "jobs", "max_children": 10}}); got {inspect_term(arg)}'
                )
            name = options.get("name", cls)
            found = name.term if isinstance(name, Global) else name.key if isinstance(name, Via) else name
            return ChildSpec(found, (_start_by_options, (dict(options),)), type="supervisor", modules=[cls])

        @overload
        @staticmethod
        async def async_(
            supervisor: Server, fn: Callable[..., Coroutine[Any, Any, R]], *args: Any, shutdown: Any = None
        ) -> Task[R]: ...

        @overload
        @staticmethod
        async def async_(supervisor: Server, fn: Callable[..., R], *args: Any, shutdown: Any = None) -> Task[R]: ...

        @overload
        @staticmethod
        async def async_(supervisor: Server, fn: str, *args: Any, shutdown: Any = None) -> Task[Any]: ...

        @staticmethod
        async def async_(supervisor: Server, fn: Any, *args: Any, shutdown: Shutdown | None = None) -> Task[Any]:
            """Have a supervisor start a task of this process, linked to both. Mirrors `Task.Supervisor.async/3`, `/5`.

            Args:
                shutdown: as of a `ChildSpec`: how the supervisor ends it; 5 seconds if None.

            Raises:
                StartError: `"max_children"`.
                Exit: nobody answers to `supervisor`.
                TypeError, ValueError, CopyError: nothing that can be run, or sent.
            """
            return await _ask(supervisor, fn, args, shutdown, linked=True)

        @overload
        @staticmethod
        async def async_nolink(
            supervisor: Server, fn: Callable[..., Coroutine[Any, Any, R]], *args: Any, shutdown: Any = None
        ) -> Task[R]: ...

        @overload
        @staticmethod
        async def async_nolink(
            supervisor: Server, fn: Callable[..., R], *args: Any, shutdown: Any = None
        ) -> Task[R]: ...

        @overload
        @staticmethod
        async def async_nolink(supervisor: Server, fn: str, *args: Any, shutdown: Any = None) -> Task[Any]: ...

        @staticmethod
        async def async_nolink(supervisor: Server, fn: Any, *args: Any, shutdown: Shutdown | None = None) -> Task[Any]:
            """As `async_`, but not linked to this process, which only hears of its end. Mirrors
            `Task.Supervisor.async_nolink/3` and `/5`."""
            return await _ask(supervisor, fn, args, shutdown, linked=False)

        @staticmethod
        async def start_child(
            supervisor: Server,
            fn: Callable[..., Any] | str,
            *args: Any,
            restart: Restart | None = None,
            shutdown: Shutdown | None = None,
        ) -> Pid | None:
            """Have a supervisor start a task that nobody waits for; gives its pid. Mirrors
            `Task.Supervisor.start_child/3` and `/5`.

            Args:
                restart: `"temporary"` unless told.

            Raises:
                StartError: `"max_children"`, or a wrong option.
                Exit: nobody answers to `supervisor`.
            """
            record = current_record()
            work = [owner_of(record), callers_of(record), named_call(fn, args)]
            return await ask_to_start(supervisor, work, restart, shutdown)

        @staticmethod
        def async_stream(
            supervisor: Server,
            items: Iterable[Any] | AsyncIterable[Any],
            fn: Callable[..., Any] | str,
            *args: Any,
            max_concurrency: int | None = None,
            ordered: bool = True,
            timeout: float | None = 5.0,
            on_timeout: OnTimeout = "exit",
            zip_input_on_exit: bool = False,
            shutdown: Shutdown | None = None,
        ) -> TaskStream[Any]:
            """As `Task.async_stream`, with tasks of a supervisor. Mirrors `Task.Supervisor.async_stream/4` and `/6`."""
            options = check_options(max_concurrency, ordered, timeout, on_timeout, zip_input_on_exit, linked=True)
            named_call(fn, args)
            return TaskStream(items, fn, args, start_under(supervisor, shutdown, linked=True), options)

        @staticmethod
        def async_stream_nolink(
            supervisor: Server,
            items: Iterable[Any] | AsyncIterable[Any],
            fn: Callable[..., Any] | str,
            *args: Any,
            max_concurrency: int | None = None,
            ordered: bool = True,
            timeout: float | None = 5.0,
            on_timeout: OnTimeout = "exit",
            zip_input_on_exit: bool = False,
            shutdown: Shutdown | None = None,
        ) -> TaskStream[Any]:
            """As `async_stream`, but a task that fails gives `("exit", reason)` and harms nobody. Mirrors
            `Task.Supervisor.async_stream_nolink/4` and `/6`."""
            options = check_options(max_concurrency, ordered, timeout, on_timeout, zip_input_on_exit, linked=False)
            named_call(fn, args)
            return TaskStream(items, fn, args, start_under(supervisor, shutdown, linked=False), options)

        @staticmethod
        async def children(supervisor: Server) -> list[Pid]:
            """Give the pids of all tasks, oldest first. Mirrors `Task.Supervisor.children/1`."""
            rows = await DynamicSupervisor.which_children(supervisor)
            return [row.pid for row in rows if isinstance(row.pid, Pid)]

        @staticmethod
        async def terminate_child(supervisor: Server, pid: Pid) -> None:
            """End a task. Mirrors `Task.Supervisor.terminate_child/2`.

            Raises:
                ChildError: `"not_found"`.
            """
            await DynamicSupervisor.terminate_child(supervisor, pid)

        @staticmethod
        async def stop(supervisor: Server, reason: Any = "normal", timeout: float | None = None) -> None:
            """Stop a supervisor; its tasks end with `"shutdown"`. Mirrors `Supervisor.stop/3`."""
            await DynamicSupervisor.stop(supervisor, reason, timeout)


_SUPERVISOR_OPTIONS: Final = {"name", "max_children", "max_restarts", "max_seconds"}


async def _start_by_options(options: dict[str, Any]) -> Pid | None:
    return await Task.Supervisor.start_link(**options)


async def _ask(supervisor: Server, fn: Any, args: tuple[Any, ...], shutdown: Any, *, linked: bool) -> Task[Any]:
    mfa = named_call(fn, args)
    record = current_record()
    pid = await ask_for_task(supervisor, owner_of(record), shutdown)
    ref = brief(pid, record, mfa, linked=linked)
    shown = (mfa[0], mfa[1], len(args)) if isinstance(fn, str) else mfa_of(fn, len(args))
    return Task(pid, ref, record.pid, shown)
