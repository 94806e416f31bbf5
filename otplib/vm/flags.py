"""The flags of a process."""

from __future__ import annotations

from typing import Any, Final

from otplib.vm.process_record import NORMAL, ProcessRecord

_PRIORITIES: Final = ("low", "normal", "high", "max")


def set_flags(record: ProcessRecord, flags: dict[str, Any]) -> dict[str, Any]:
    """Set flags, all of them or none; gives their old values.

    Raises:
        TypeError, ValueError: no such flag, or not a value for it.
    """
    for name, value in flags.items():
        _check_flag(name, value)
    return {name: _set_flag(record, name, value) for name, value in flags.items()}


def _set_flag(record: ProcessRecord, name: str, value: Any) -> Any:
    old: Any
    if name == "trap_exit":
        old, record.trapping = record.trapping, value
    elif name == "priority":
        old, record.priority = record.priority, NORMAL if value == NORMAL else value
    else:
        old = record.limit
        record.machine.guard(record, value)
        record.limit = value
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
    else:
        raise TypeError(f"no process flag {name!r}; there are trap_exit, priority and max_mailbox")
