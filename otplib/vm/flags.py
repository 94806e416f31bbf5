"""The flags of a process."""

from __future__ import annotations

from typing import Any, Final

from otplib.vm.guard import CallLimit
from otplib.vm.process_record import NORMAL, ProcessRecord

_PRIORITIES: Final = ("low", "normal", "high", "max")
_ON_FULL: Final = ("kill", "refuse")


def set_flags(record: ProcessRecord, flags: dict[str, Any]) -> dict[str, Any]:
    """Set flags, all of them or none; gives their old values.

    Raises:
        TypeError, ValueError: no such flag, or not a value for it.
    """
    for name, value in flags.items():
        _check_flag(name, value)
    if flags.get("on_full") == "refuse" and flags.get("max_mailbox", record.limit) is None:
        raise ValueError('on_full="refuse" needs a limit: write process.flag(max_mailbox=1000, on_full="refuse")')
    # What happens at the limit is kept in the limit (see `guard`), so the two are set in one go.
    limits = {name: value for name, value in flags.items() if name in ("max_mailbox", "on_full")}
    old = _set_limit(record, limits) if limits else {}
    return {name: old[name] if name in old else _set_flag(record, name, value) for name, value in flags.items()}


def _set_flag(record: ProcessRecord, name: str, value: Any) -> Any:
    old: Any
    if name == "trap_exit":
        old, record.trapping = record.trapping, value
    else:
        old, record.priority = record.priority, NORMAL if value == NORMAL else value
    return old


def _set_limit(record: ProcessRecord, flags: dict[str, Any]) -> dict[str, Any]:
    limit = record.limit
    old = {
        "max_mailbox": None if limit is None else int(limit),
        "on_full": "refuse" if type(limit) is CallLimit else "kill",
    }
    new = {**old, **flags}
    number = new["max_mailbox"]
    limit = CallLimit(number) if number is not None and new["on_full"] == "refuse" else number
    record.machine.guard(record, limit)
    record.limit = limit
    return old


def _check_flag(name: str, value: Any) -> None:
    if name == "trap_exit":
        if not isinstance(value, bool):
            raise TypeError(f"the flag trap_exit takes True or False, got {value!r}")
    elif name == "priority":
        if value not in _PRIORITIES:
            raise ValueError(f"the flag priority takes one of {', '.join(_PRIORITIES)}; got {value!r}")
    elif name == "max_mailbox":
        if value is not None and (type(value) is not int or value < 0):
            raise TypeError(f"the flag max_mailbox takes a number of messages or None, got {value!r}")
    elif name == "on_full":
        if value not in _ON_FULL:
            raise ValueError(f'the flag on_full takes "kill" or "refuse", got {value!r}')
    else:
        raise TypeError(f"no process flag {name!r}; there are trap_exit, priority and max_mailbox, on_full with it")
