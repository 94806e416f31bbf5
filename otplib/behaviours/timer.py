"""Timers that do more than one `process.send_after`: OTP's module `timer`.

| verb | what happens |
|---|---|
| `send_interval(seconds, message)` | the message comes every so many seconds, until `cancel` or its receiver's end |
| `apply_after(seconds, fn, *args)` | after so many seconds a process of its own calls the function, if not cancelled |
| `apply_interval(seconds, fn, *args)` | every so many seconds one does, until `cancel` or the end of who asked |
| `send_after(seconds, message)` | the message comes once, if not cancelled; to a pid, only while it lives |
| `exit_after(seconds, reason)`, `kill_after(seconds)` | a process gets an exit signal after so many seconds |
| `hours(n)`, `minutes(n)`, `seconds(n)`, `hms(h, m, s)` | so many seconds |
| `await tc(fn, *args)` | calls the function, gives the seconds it took and its result |

Each timer is a small process. So it is in the process table for all to see, and to cancel it is to end it. Its times
are counted from the moment it was set: an interval is never early, and does not drift when a beat is late.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from otplib.core.copying import recopied, shared
from otplib.core.reasons import Down
from otplib.core.terms import Global, Pid, Ref, Via
from otplib.process import exit, monitor, receive, self_, send, sleep, spawn, whereis
from otplib.vm.shell import current_record
from otplib.vm.waiting import deadline_after

__all__ = [
    "TimerRef",
    "apply_after",
    "apply_interval",
    "cancel",
    "exit_after",
    "hms",
    "hours",
    "kill_after",
    "minutes",
    "seconds",
    "send_after",
    "send_interval",
    "tc",
]


class TimerRef(NamedTuple):
    """What `cancel` takes: the kind of timer, `"interval"` or `"once"`, and the process that is it."""

    kind: str
    pid: Pid


def send_interval(seconds: float, message: Any, dest: Pid | str | Global | Via | None = None) -> TimerRef:
    """Send `message` to `dest`, or to this process, every so many seconds. Mirrors `:timer.send_interval/2` and `/3`.

    It ends by `cancel`, or with the process that has the pid or the name now; if nobody has the name now, at once.

    Raises:
        ValueError: no seconds at all, or fewer.
        TypeError: not a number, or no destination.
        CopyError: the message holds something that cannot be copied.

    Example:
        >>> from otplib import run
        >>> async def main():
        ...     timer = send_interval(0.001, "tick")
        ...     ticks = [await receive(), await receive()]
        ...     return ticks, cancel(timer)
        >>> run(main)
        (['tick', 'tick'], True)
    """
    _check_interval("send_interval", seconds)
    target = _check_target(dest)
    holder = target if isinstance(target, Pid) else whereis(target)
    start = current_record().machine.now()
    return TimerRef("interval", spawn(_beat, holder, start, seconds, _send_beat, _kept(target, message)))


def apply_after(seconds: float, fn: Callable[..., Any], *args: Any) -> TimerRef:
    """Call `fn(*args)` in a process of its own after so many seconds. Mirrors `:timer.apply_after/4`.

    It happens even if the process that asked for it has ended.

    Raises:
        TypeError, ValueError: not a number of seconds, or negative; no function.
        CopyError: an argument cannot be copied.

    Example:
        >>> from otplib import run
        >>> async def main():
        ...     apply_after(0.001, send, self_(), "hello")
        ...     return await receive()
        >>> run(main)
        'hello'
    """
    _check_function("apply_after", fn)
    _check_seconds("apply_after", seconds)
    return TimerRef("once", spawn(_apply_later, seconds, _kept(fn, *args)))


def apply_interval(seconds: float, fn: Callable[..., Any], *args: Any) -> TimerRef:
    """Call `fn(*args)` every so many seconds, each time in a process of its own. Mirrors `:timer.apply_interval/4`.

    A call that takes longer than the interval does not hold the next one up. It ends by `cancel`, or with the process
    that asked for it.

    Raises:
        ValueError: no seconds at all, or fewer.
        TypeError: not a number, or no function.
        CopyError: an argument cannot be copied.
    """
    _check_function("apply_interval", fn)
    _check_interval("apply_interval", seconds)
    start = current_record().machine.now()
    return TimerRef("interval", spawn(_beat, self_(), start, seconds, spawn, _kept(fn, *args)))


def send_after(seconds: float, message: Any, dest: Pid | str | Global | Via | None = None) -> TimerRef:
    """Send `message` to `dest`, or to this process, after so many seconds. Mirrors `:timer.send_after/2` and `/3`.

    As `process.send_after`, which is cheaper and can be read, but its `TimerRef` is what `cancel` takes. It happens
    even if the process that asked for it has ended; a name is looked up when the time has come.

    Raises:
        TypeError, ValueError: not a number of seconds, or negative; no destination.
        CopyError: the message holds something that cannot be copied.

    Example:
        >>> from otplib import run
        >>> async def main():
        ...     cancel(send_after(0.001, "never"))
        ...     send_after(0.002, "once")
        ...     return await receive()
        >>> run(main)
        'once'
    """
    _check_seconds("send_after", seconds)
    target = _check_target(dest)
    return TimerRef("once", spawn(_act_later, seconds, _send_beat, _kept(target, message)))


def exit_after(seconds: float, reason: Any, pid: Pid | None = None) -> TimerRef:
    """Send `pid`, or this process, an exit signal after so many seconds. Mirrors `:timer.exit_after/2` and `/3`.

    Raises:
        TypeError, ValueError: not a number of seconds, or negative; no pid.
        CopyError: the reason holds something that cannot be copied.

    Example:
        >>> from otplib import run, spawn_monitor
        >>> async def main():
        ...     pid, ref = spawn_monitor(receive)
        ...     exit_after(0.001, "enough", pid)
        ...     return (await receive(Down)).reason
        >>> run(main)
        'enough'
    """
    _check_seconds("exit_after", seconds)
    target = self_() if pid is None else pid
    if not isinstance(target, Pid):
        raise TypeError(f"expected the pid of the process to end, got {target!r}: write whereis(name) for a name")
    return TimerRef("once", spawn(_act_later, seconds, exit, _kept(target, reason)))


def kill_after(seconds: float, pid: Pid | None = None) -> TimerRef:
    """Kill `pid`, or this process, after so many seconds. Mirrors `:timer.kill_after/1` and `/2`; see `exit_after`."""
    return exit_after(seconds, "kill", pid)


def cancel(timer: TimerRef) -> bool:
    """End a timer; True also if it had ended. Mirrors `:timer.cancel/1`.

    What it has sent, or begun to call, stays sent and goes on.

    Raises:
        TypeError: not what a verb of this module gave; for `process.send_after` there is `process.cancel_timer`.
    """
    if not isinstance(timer, TimerRef):
        hint = ": write process.cancel_timer(ref)" if isinstance(timer, Ref) else ""
        raise TypeError(f"expected what send_interval or apply_after gave, got {timer!r}{hint}")
    return exit(timer.pid, "kill")


async def tc(fn: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    """Call `fn(*args)`, awaiting it if it is an `async def`; give the seconds it took and its result. Mirrors
    `:timer.tc/2`.

    Raises:
        whatever `fn` raises.

    Example:
        >>> from otplib import run
        >>> seconds, result = run(tc, max, 3, 5)
        >>> seconds < 1.0, result
        (True, 5)
    """
    _check_function("tc", fn)
    now = current_record().machine.now
    start = now()
    result = fn(*args)
    if inspect.isawaitable(result):
        result = await result
    return now() - start, result


def hours(n: float) -> float:
    """Give `n` hours in seconds. Mirrors `:timer.hours/1`, which gives milliseconds.

    Example:
        >>> hours(1), minutes(1), seconds(1)
        (3600, 60, 1)
    """
    return n * 3600


def minutes(n: float) -> float:
    """Give `n` minutes in seconds. Mirrors `:timer.minutes/1`."""
    return n * 60


def seconds(n: float) -> float:
    """Give `n` seconds in seconds, for a text that speaks of all three. Mirrors `:timer.seconds/1`."""
    return n


def hms(hours: float, minutes: float, seconds: float) -> float:
    """Give hours, minutes and seconds in seconds. Mirrors `:timer.hms/3`, which gives milliseconds.

    Example:
        >>> hms(1, 1, 1)
        3661
    """
    return hours * 3600 + minutes * 60 + seconds


async def _beat(
    holder: Pid | None, start: float, seconds: float, act: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    """Be an interval: act at `start` plus once, twice, three times `seconds`, until `holder` ends."""
    if holder is None:
        return
    monitor(holder)
    now = current_record().machine.now
    beat = 1
    while True:
        try:
            await receive(Down, timeout=max(0.0, start + beat * seconds - now()))
        except TimeoutError:
            act(*args)
            beat += 1
        else:
            return


def _send_beat(target: Any, message: Any) -> None:
    # The name may have been taken back while its process lives on; then the beat is lost.
    if isinstance(target, Pid) or whereis(target) is not None:
        send(target, message)


async def _act_later(seconds: float, act: Callable[..., Any], args: tuple[Any, ...]) -> None:
    await sleep(seconds)
    act(*args)


async def _apply_later(seconds: float, call: tuple[Any, ...]) -> None:
    await sleep(seconds)
    spawn(*call)


def _kept(*parts: Any) -> Any:
    """Copy what a timer keeps, once; each beat sends a copy of that, in which what is `shared` is still itself."""
    return shared(recopied(parts))


def _check_seconds(verb: str, seconds: Any) -> None:
    if deadline_after(current_record(), seconds) is None:
        raise ValueError(f"{verb} takes a number of seconds, got {seconds!r}")


def _check_interval(verb: str, seconds: Any) -> None:
    _check_seconds(verb, seconds)
    if not seconds:
        raise ValueError(f"{verb} takes more than 0 seconds: a beat of {seconds!r} would leave time for nothing else")


def _check_target(dest: Any) -> Any:
    target = self_() if dest is None else dest
    if not isinstance(target, Pid | str | Global | Via):
        raise TypeError(f"expected a pid or a name to send to, got {target!r}")
    return target


def _check_function(verb: str, fn: Any) -> None:
    if not callable(fn):
        raise TypeError(f"{verb} takes a function and its arguments, as in {verb}(..., fn, arg); got {fn!r}")
