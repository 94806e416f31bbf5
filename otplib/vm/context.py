"""Who runs here: the process of this thread, and the machine it lives on.

The few things that are process-wide live in a module that is made once and never reloaded, so `%autoreload` and
`importlib.reload` find the machine that runs, and start no second one.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from contextvars import Context
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otplib.vm.machine import Machine
    from otplib.vm.process_record import ProcessRecord

_STATE = "otplib._runtime_state"


class _Local(threading.local):
    """What this thread is: a carrier of a machine, or ordinary code with a shell of its own."""

    carrier: Any = None
    shell: Any = None
    #: Shells of the asyncio tasks of this thread, by task.
    task_shells: Any = None
    #: Machines entered by `with machine:` on this thread, innermost last.
    machines: tuple[Machine, ...] = ()


class Runtime:
    """All that is process-wide: the default machine and the thread-local state."""

    def __init__(self) -> None:
        #: Guards `default` and `switchers`; one that its holder may take again, as the collector may run anywhere.
        self.lock = threading.RLock()
        self.local = _Local()
        self.default: Machine | None = None
        #: All machines there are, for the fork that must silence them.
        self.machines: weakref.WeakSet[Machine] = weakref.WeakSet()
        #: How many machines have lowered the interpreter's switch interval, and what it was before.
        self.switchers = 0
        self.usual_interval = 0.005


def _find_runtime() -> Runtime:
    module = sys.modules.get(_STATE)
    if module is None:
        module = ModuleType(_STATE, "Kept when otplib is reloaded.")
        found = Runtime()
        module.runtime = found  # type: ignore[attr-defined]  # a module made by hand has no declared names
        module = sys.modules.setdefault(_STATE, module)
        os.register_at_fork(after_in_child=_forget_after_fork)
    runtime: Runtime = module.runtime
    return runtime


def _forget_after_fork() -> None:
    """In a forked child none of the machine's threads exist: the next spawn makes a fresh machine.

    Pids of the parent are refused there with a clear error, as their creation differs. The locks are new because a
    thread of the parent may have held the old ones at the moment of the fork.
    """
    runtime.lock = threading.RLock()
    for machine in list(runtime.machines):
        machine.abandon()
        # Kept for ever: were they freed, the `finally` blocks of the parent's processes would run here too.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(machine))
    runtime.machines = weakref.WeakSet()
    runtime.local.__dict__.clear()
    runtime.default = None
    if runtime.switchers:  # the hogs of the parent are not here
        runtime.switchers = 0
        sys.setswitchinterval(runtime.usual_interval)


runtime = _find_runtime()
local = runtime.local


def lower_switch_interval(seconds: float) -> None:
    """Let threads take turns faster while a hog runs; counted, so several machines may ask."""
    with runtime.lock:
        if runtime.switchers == 0:
            runtime.usual_interval = sys.getswitchinterval()
            sys.setswitchinterval(min(seconds, runtime.usual_interval))
        runtime.switchers += 1


def restore_switch_interval() -> None:
    """Undo one `lower_switch_interval`; the last one puts the old value back."""
    with runtime.lock:
        if runtime.switchers == 0:
            return
        runtime.switchers -= 1
        if runtime.switchers == 0:
            sys.setswitchinterval(runtime.usual_interval)


def own_decimal(context: Context) -> None:
    """Give a new process a decimal context of its own, if its spawner has used one: a copied `Context` holds the very
    same object, and code sets its precision in place."""
    for variable, value in context.items():
        if variable.name == "decimal_context":
            context.run(variable.set, value.copy())
            return


def running_record() -> ProcessRecord | None:
    """Give the process whose step runs on this thread, None in ordinary code."""
    carrier = local.carrier
    return carrier.record if carrier is not None else None
