"""The cyclic garbage collector while very many processes live.

It goes by how many objects were made, and each process is five of those it looks at. At its usual pace it is a third of
the cost of a million processes, and finds nothing: 8 of 22 seconds of CPU on 3.13, 2 of 12 at the pace set here.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otplib.vm.machine import Machine

#: From so many processes on it comes round less often, and as usual again below the second number.
MANY: Final = 10_000
FEW: Final = 5_000
_PACE: Final = (50_000, 20, 100)

#: Guards `_machines` and `_usual`.
_lock = threading.Lock()
#: The machines that are crowded, each with what its end has to do; and the pace before the first was.
_machines: dict[Machine, Callable[[], None]] = {}
_usual: tuple[int, int, int] = gc.get_threshold()


def crowd(machine: Machine) -> None:
    """Slow the collector down for a machine, until `disperse` or its end. A collector that is off stays off."""
    global _usual
    with _lock:
        if machine in _machines:
            return  # two threads saw the crowd at once
        machine.crowded = True
        undo = partial(disperse, machine)
        machine.at_stop.append(undo)
        if not _machines:
            _usual = gc.get_threshold()
            if _usual[0]:
                gc.set_threshold(*map(max, _usual, _PACE))
        _machines[machine] = undo


def disperse(machine: Machine) -> None:
    """Undo `crowd`; the last machine puts the old pace back."""
    with _lock:
        machine.crowded = False
        undo = _machines.pop(machine, None)
        if undo is not None:
            machine.at_stop.remove(undo)
            if not _machines:
                gc.set_threshold(*_usual)
