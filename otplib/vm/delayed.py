"""Messages that are sent later: what stands behind `send_after`."""

from __future__ import annotations

from typing import Any

from otplib.core.terms import Global, Pid, Ref, Via
from otplib.vm.addressing import resolve_destination
from otplib.vm.machine import Machine
from otplib.vm.process_record import ProcessRecord
from otplib.vm.shell import current_record
from otplib.vm.transport import Far, is_far
from otplib.vm.waiting import deadline_after


def set_timer(ref: Ref, dest: Any, message: Any, seconds: float) -> Ref:
    """Send `message`, as it is, to `dest` in `seconds`; the timer is known as `ref`.

    Raises:
        TypeError, ValueError: no destination, or no number of seconds.
    """
    record = current_record()
    machine = record.machine
    # Whatever is wrong with `dest` is told here: when the timer fires nobody is there to be told.
    if isinstance(dest, tuple) and not isinstance(dest, Global | Via):
        if len(dest) != 2 or not isinstance(dest[0], str) or not isinstance(dest[1], str):
            raise TypeError(f"expected (name, node) as destination, both str; got {dest!r}")
    elif not isinstance(dest, Pid | str | Ref | Global | Via):
        raise TypeError(
            f"expected a pid, a name, (name, node), an alias, Global(...) or Via(...) as destination; got {dest!r}"
        )
    when = deadline_after(record, seconds)
    if when is None:
        raise ValueError(f"expected the seconds after which to send, got {seconds!r}")
    if isinstance(dest, Pid) and is_far(dest):
        raise ValueError(f"a timer sends to processes of its own node, and {dest!r} is on {dest.node}")
    target = machine.find(dest) if isinstance(dest, Pid) else None
    if isinstance(dest, Pid) and target is None:
        return ref
    sender = record.pid

    def deliver() -> None:
        receiver = target if target is not None else _find_later(machine, dest)
        if isinstance(receiver, ProcessRecord):
            machine.deliver(receiver, message)
        elif receiver is not None:
            machine.transport.send(sender, receiver, message)

    machine.user_timers.add(ref, when, target, deliver)
    return ref


def _find_later(machine: Machine, dest: Any) -> ProcessRecord | Far | None:
    try:
        return resolve_destination(machine, dest)
    except Exception:  # nobody has the name; or a registry failed, which the scheduler's thread must survive
        return None


def check_timer(ref: Any) -> Ref:
    """Refuse what cannot be a timer."""
    if not isinstance(ref, Ref):
        raise TypeError(f"expected the reference that send_after gave, got {ref!r}")
    return ref
