"""Running a function as a process: what may be one, and `run`, which waits for it from ordinary code."""

from __future__ import annotations

import inspect
from _thread import allocate_lock
from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType
from typing import Any, Final

from otplib.core.copying import copied
from otplib.core.errors import Exit, MachineError
from otplib.core.reasons import Raised
from otplib.core.terms import Pid
from otplib.vm.context import local
from otplib.vm.shell import current_record
from otplib.vm.waiting import deadline_after

_NOT_CALLED: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def check_function(fn: Any) -> None:
    """Refuse what cannot run as a process: calls already made, generators, things that cannot be called."""
    if type(fn) is FunctionType:
        if not fn.__code__.co_flags & _NOT_CALLED:
            return
        raise TypeError(
            f"a process runs an async def or a plain function, but {fn.__qualname__} is a generator function: "
            "write `async def` and `await` in place of `yield`"
        )
    if isinstance(fn, CoroutineType):
        name = fn.cr_code.co_name
        fn.close()
        raise TypeError(
            f"spawn takes the function itself, not a call of it: write spawn({name}, ...), not spawn({name}(...))"
        )
    if isinstance(fn, GeneratorType | AsyncGeneratorType):
        raise TypeError(
            "a process runs an async def or a plain function, got a generator: write `async def` and `await`"
        )
    if not callable(fn):
        raise TypeError(f"expected a function to run as a process, as in spawn(fn, arg); got {fn!r}")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(f"a process runs an async def or a plain function, but {fn!r} is a generator function")


def run(fn: Callable[..., Any], *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
    """From ordinary code: run `fn(*args)` as a process, block, and give its result or raise its exception.

    Args:
        fn: an async def or a plain function.
        timeout: seconds after which the process is killed; None for no limit.

    Raises:
        Exit: the process ended with any other abnormal reason.
        TimeoutError: it took too long.
        MachineError: called inside a process, whose thread must not block: `await` there.

    Example:
        >>> from otplib import run
        >>> async def main(n): return n + 1
        >>> run(main, 1)
        2
    """
    check_function(fn)
    carrier = local.carrier
    if carrier is not None and not carrier.may_block:
        raise MachineError(
            "run(...) blocks its thread, and this is a process: write "
            f"`await {getattr(fn, '__name__', 'fn')}(...)`, or spawn it"
        )
    parent = current_record()
    machine = parent.machine
    deadline_after(parent, timeout)  # a bad timeout is refused before anything runs
    done = allocate_lock()
    done.acquire()
    outcome: list[Any] = []

    def on_exit(reason: Any, result: Any) -> None:
        try:
            outcome.append((reason, copied(result) if reason == "normal" else None))
        except BaseException as error:  # whatever a user's `__deepcopy__` raises, it must not end the carrier
            outcome.append((Raised(error, ()), None))
        done.release()

    record, _ = machine.spawn(fn, copied(args), copied(kwargs), parent, on_exit=on_exit)
    try:
        in_time = machine.scheduler.wait_for(done, timeout)
    except BaseException:
        machine.doom(record, "killed")
        raise
    if not in_time:
        machine.doom(record, "killed")
        raise TimeoutError(f"run({getattr(fn, '__name__', fn)}) was not done within {timeout} s and has been killed")
    reason, result = outcome[0]
    return _give_outcome(record.pid, reason, result)


def _give_outcome(pid: Pid, reason: Any, result: Any) -> Any:
    if isinstance(reason, Raised):
        error = reason.exception
        if reason.stacktrace:
            error.add_note("\n".join([f"raised in process {pid!r}:", *(f"    {entry}" for entry in reason.stacktrace)]))
        raise error
    if reason == "normal":
        return result
    raise Exit(reason)
