"""Whom an address means: pids, names, `(name, node)`, aliases, `Global` and `Via`."""

from __future__ import annotations

from typing import Any, Final, TypeGuard

from otplib.core.errors import NoSuchNameError
from otplib.core.terms import NO_NODE, Global, Pid, Ref, Via
from otplib.vm.machine import Machine
from otplib.vm.process_record import ProcessRecord
from otplib.vm.transport import Far, is_far

Name = str | Global | Via
Destination = Pid | str | tuple[str, str] | Ref | Global | Via

#: Names that Erlang keeps for itself.
RESERVED: Final = frozenset({"", "nil", "true", "false", "undefined"})


def resolve_destination(machine: Machine, dest: Any) -> ProcessRecord | Far | None:
    """Give the process a destination means, its address if that is on another node, None for the dead.

    Raises:
        NoSuchNameError: nobody has this name.
        TypeError: no destination.
    """
    if isinstance(dest, Pid):
        return dest if is_far(dest) else machine.find(dest)
    if isinstance(dest, Ref):
        return machine.aliases.take(dest) if dest.home == NO_NODE else dest
    if is_name_and_node(dest):
        return machine.names.get(dest[0]) if dest[1] == machine.node else dest
    if isinstance(dest, str | Global | Via):
        found = find_named(machine, dest)
        if found is None:
            raise NoSuchNameError(f"send to {dest!r}: no process has registered this name")
        return found
    raise TypeError(
        f"expected a pid, a name, (name, node), an alias, Global(...) or Via(...) as destination; got {dest!r}"
    )


def is_name_and_node(value: Any) -> TypeGuard[tuple[str, str]]:
    """Tell whether an address is `(name, node)`; `Global` and `Via` are tuples too, and none."""
    return (
        isinstance(value, tuple)
        and not isinstance(value, Global | Via)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], str)
    )


def find_named(machine: Machine, name: Name) -> ProcessRecord | Pid | None:
    """Give the process that has a name, its pid if it is on another node, None if nobody has it."""
    if isinstance(name, str):
        return machine.names.get(name)
    if isinstance(name, Global):
        return machine.global_names.find(name.term)
    found = registry_of(name).whereis_name(name.key)
    if found is None or is_far(found):
        return found  # type: ignore[no-any-return]  # whatever a registry of the user's gives
    return machine.find(found)


def registry_of(name: Via) -> Any:
    registry = name.registry
    if not all(hasattr(registry, verb) for verb in ("register_name", "unregister_name", "whereis_name")):
        raise TypeError(
            "expected Via(registry, key) with a registry that offers register_name, unregister_name and whereis_name; "
            f"got {registry!r}"
        )
    return registry


def check_pid(value: Any, what: str) -> Pid:
    """Refuse what is no pid; `what` names the verb that wants one."""
    if not isinstance(value, Pid):
        hint = "; look a name up with process.whereis(name)" if isinstance(value, str) else ""
        raise TypeError(f"{what} takes a pid, got {value!r}{hint}")
    return value


def check_own_pid(value: Any, what: str) -> Pid:
    """Refuse what is no pid of this node: only its own processes can be looked into (row y17)."""
    pid = check_pid(value, what)
    if is_far(pid):
        raise ValueError(f"{what} takes a pid of this node, and {pid!r} is on {pid.node}: ask there, by rpc.call")
    return pid


def check_name(name: Any) -> None:
    """Refuse what cannot be a registered name."""
    if not isinstance(name, str):
        raise TypeError(f'a name is a str, Global(term) or Via(registry, key); got {name!r}: write name="worker"')
    if name in RESERVED:
        raise ValueError(f"the name {name!r} is reserved: take another one")
