"""The texts of what can be wrong with a child specification or with the flags of a supervisor, by OTP's name for it.

They stand apart from `child_spec`, which finds the faults, so that `reasons` can tell them without knowing children.
"""

from __future__ import annotations

from typing import Any, Final

from otplib.core.inspection import inspect_term

_TEXTS: Final = {
    "invalid_id": "invalid id: {}. Must be hashable.",
    "invalid_mfa": "invalid start: {}. Must be a tuple (callable, args), as in (CounterServer.start_link, (0,)).",
    "invalid_restart_type": 'invalid restart type: {}. Must be "permanent", "transient" or "temporary".',
    "invalid_child_type": 'invalid child type: {}. Must be "worker" or "supervisor".',
    "invalid_shutdown": 'invalid shutdown: {}. Must be a number of seconds >= 0, "infinity" or "brutal_kill".',
    "invalid_modules": 'invalid modules: {}. Must be a list of classes or "dynamic".',
    "invalid_module": "invalid module: {}. Must be a class, a module or the name of one.",
    "invalid_significant": "invalid significant: {}. Must be True or False.",
    "invalid_child_spec": "invalid child specification: {}",
    "duplicate_child_name": "more than one child specification has the id: {}.\n"
    "If using a class or (class, arg) as child, use Supervisor.child_spec to change the id, for example:\n\n"
    "    children = [\n"
    '        Supervisor.child_spec((MyWorker, arg), id="my_worker_1"),\n'
    '        Supervisor.child_spec((MyWorker, arg), id="my_worker_2"),\n'
    "    ]\n",
    "invalid_strategy": 'invalid strategy: {}. Must be "one_for_one", "one_for_all" or "rest_for_one".',
    "invalid_intensity": "invalid max_restarts (intensity): {}. Must be an integer >= 0.",
    "invalid_period": "invalid max_seconds (period): {}. Must be a number of seconds > 0.",
    "invalid_auto_shutdown": 'invalid auto_shutdown: {}. Must be "never", "any_significant" or "all_significant".',
}


def names_fault(reason: Any) -> bool:
    """Tell whether a reason is one that `describe_fault` has words for."""
    return isinstance(reason, tuple) and len(reason) == 2 and isinstance(reason[0], str) and reason[0] in _TEXTS


def describe_fault(fault: Any) -> str:
    """Give the text of a fault, after `bad child specification, ` or `bad supervisor configuration, `.

    Example:
        >>> describe_fault(("invalid_child_type", "boss"))
        'invalid child type: "boss". Must be "worker" or "supervisor".'
        >>> describe_fault("surprise")
        'got: "surprise"'
    """
    if names_fault(fault):
        return _TEXTS[fault[0]].format(inspect_term(fault[1]))
    return f"got: {inspect_term(fault)}"
