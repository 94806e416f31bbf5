"""The verbs: what a process may say. Elixir's `Kernel` and `Process`, in Python's manners.

Whatever can wait is awaited; whatever cannot is a plain call. The same code works in a process, in a cell, in a script
and in an asyncio task, which have shell processes of their own. The main verbs are importable from `otplib` itself.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from otplib.core.copying import copied
from otplib.core.errors import Exit, NameTakenError, NoSuchNameError
from otplib.core.reasons import Down
from otplib.core.terms import NO_NODE, Global, Pid, Ref, Via, parse_pid
from otplib.vm.addressing import (
    Destination,
    Name,
    check_name,
    check_own_pid,
    check_pid,
    find_named,
    is_name_and_node,
    registry_of,
    resolve_destination,
)
from otplib.vm.context import local
from otplib.vm.delayed import check_timer, set_timer
from otplib.vm.errors import Hibernated, Killed
from otplib.vm.flags import set_flags
from otplib.vm.inspecting import info_of
from otplib.vm.machine import Machine
from otplib.vm.process_record import ProcessRecord, Status
from otplib.vm.running import check_function, run
from otplib.vm.shell import current_machine, current_record, drive
from otplib.vm.transport import is_far
from otplib.vm.waiting import blocking, from_asyncio, receive, sleep

__all__ = [
    "alias",
    "alive",
    "blocking",
    "cancel_timer",
    "delete",
    "demonitor",
    "drive",
    "exit",
    "flag",
    "from_asyncio",
    "get",
    "get_keys",
    "group_leader",
    "hibernate",
    "info",
    "link",
    "list",
    "make_ref",
    "monitor",
    "pid",
    "put",
    "read_timer",
    "receive",
    "register",
    "registered",
    "resume",
    "run",
    "self_",
    "send",
    "send_after",
    "sleep",
    "spawn",
    "spawn_link",
    "spawn_monitor",
    "start_timer",
    "suspend",
    "unalias",
    "unlink",
    "unregister",
    "whereis",
]

# ---- birth ---------------------------------------------------------------------------------------------------------


def spawn(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Pid:
    """Start a process that runs `fn(*args, **kwargs)`; give its pid at once. Mirrors `spawn/3`.

    `fn` is an `async def`, or a plain function, which runs to its end in one go. Arguments are copied.

    Raises:
        TypeError: `fn` is not callable, is a generator function, or has been called already.
        CopyError: an argument cannot be copied.
        SystemLimitError: too many processes.

    Example:
        >>> from otplib import run
        >>> async def child(parent): send(parent, ("hello", self_()))
        >>> async def main():
        ...     pid = spawn(child, self_())
        ...     return await receive(("hello", pid)) == ("hello", pid)
        >>> run(main)
        True
    """
    return _spawn(fn, args, kwargs)[0].pid


def spawn_link(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Pid:
    """Start a process and link to it, in one step. Mirrors `spawn_link/3`; see `spawn` and `link`."""
    return _spawn(fn, args, kwargs, link=True)[0].pid


def spawn_monitor(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Pid, Ref]:
    """Start a process and monitor it, in one step; gives pid and reference. Mirrors `spawn_monitor/3`.

    Example:
        >>> from otplib import Exit, run
        >>> def bad(): raise Exit("why")
        >>> async def main():
        ...     pid, ref = spawn_monitor(bad)
        ...     return (await receive(Down)).reason
        >>> run(main)
        'why'
    """
    record, ref = _spawn(fn, args, kwargs, monitor=True)
    assert ref is not None
    return record.pid, ref


def _spawn(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, link: bool = False, monitor: bool = False
) -> tuple[ProcessRecord, Ref | None]:
    check_function(fn)
    record = current_record()
    if args:
        args = copied(args)
    if kwargs:
        kwargs = copied(kwargs)
    return record.machine.spawn(fn, args, kwargs, record, link=link, monitor=monitor)


def self_() -> Pid:
    """Give the pid of this process; in a cell or a script, of its shell process. Mirrors `self/0`.

    Example:
        >>> self_() == self_()
        True
    """
    return current_record().pid


def make_ref() -> Ref:
    """Give a reference that is unlike any other. Mirrors `make_ref/0`.

    Example:
        >>> make_ref() == make_ref()
        False
    """
    return current_machine().new_ref()


# ---- messages ------------------------------------------------------------------------------------------------------


def send(dest: Destination, message: Any) -> Any:
    """Send `message`, a copy of it, to `dest`; never waits; gives the message. Mirrors `send/2`.

    `dest` is a pid, a registered name, `(name, node)`, an alias, `Global(term)` or `Via(registry, key)`. To a process
    that is dead the message is lost, silently.

    Raises:
        NoSuchNameError: nobody has this name.
        CopyError: the message holds something that cannot be copied.
        TypeError: `dest` is no destination.

    Example:
        >>> send(self_(), ("hello", 1))
        ('hello', 1)
    """
    carrier = local.carrier
    if carrier is None:
        machine = current_machine()
    else:
        if carrier.wanted:
            carrier.obey()
        machine = carrier.machine
    if type(dest) is Pid and dest.home is NO_NODE:
        copy = copied(message)
        record = machine.table.get(dest.id)
        if record is None or record.pid is not dest:
            record = machine.find(dest)
        if record is not None:
            machine.deliver(record, copy)
    else:
        _send_elsewhere(machine, dest, message)
    return message


def _send_elsewhere(machine: Machine, dest: Any, message: Any) -> None:
    found = resolve_destination(machine, dest)
    if isinstance(found, ProcessRecord):
        machine.deliver(found, copied(message))
    elif found is not None:
        machine.transport.send(current_record().pid, found, message)
    else:
        copied(message)  # for its refusals, which must not depend on who listens


# ---- links, monitors, exits ----------------------------------------------------------------------------------------


def link(pid: Pid) -> bool:
    """Link this process and `pid`: each dies of the other's abnormal end. Mirrors `Process.link/1`.

    Raises:
        NoProcessError: `pid` is dead and this process does not trap exits; one that does gets an exit message.
    """
    record = current_record()
    record.machine.link(record, record.machine.find(check_pid(pid, "process.link")), pid)
    return True


def unlink(pid: Pid) -> bool:
    """Take the link to `pid` away; once it returns, no exit message of that link comes. Mirrors `Process.unlink/1`."""
    record = current_record()
    record.machine.unlink(record, check_pid(pid, "process.unlink"))
    return True


def monitor(target: Pid | str | tuple[str, str], *, alias: bool = False) -> Ref:
    """Ask to be told of the end of `target` by one `Down` message; gives the reference. Mirrors `Process.monitor/1`.

    The dead give `Down` with reason `"noproc"` at once. With `alias=True` the reference is an alias of this process
    too, until `demonitor` or `unalias`.

    Raises:
        TypeError: neither pid, name, nor `(name, node)`.
    """
    record = current_record()
    machine = record.machine
    ref = machine.aliases.new(record) if alias else None
    if isinstance(target, Pid):
        return machine.monitor(record, machine.find(target), None, ref=ref, pid=target)
    if isinstance(target, str) and target:
        return machine.monitor(record, machine.names.get(target), (target, machine.node), ref=ref)
    if is_name_and_node(target):
        name, node = target
        found = machine.names.get(name) if node == machine.node else None
        return machine.monitor(record, found, (name, node), ref=ref)
    raise TypeError(f"process.monitor takes a pid, a name or (name, node); got {target!r}")


def demonitor(ref: Ref, flush: bool = False) -> bool:
    """Stop the monitor `ref`; with `flush`, take away a `Down` that has come already. Mirrors `Process.demonitor/2`.

    Gives True if the monitor was still there.

    Raises:
        TypeError: not a reference.
    """
    if not isinstance(ref, Ref):
        raise TypeError(f"process.demonitor takes the reference that process.monitor gave; got {ref!r}")
    record = current_record()
    there = record.machine.demonitor(record, ref)
    record.machine.aliases.drop(record, ref)
    if flush and not there and record.mailbox is not None:
        record.mailbox.take(lambda message: isinstance(message, Down) and message.ref == ref)
    return there


def alias() -> Ref:
    """Give a reference to which messages for this process may be sent, until `unalias`. Mirrors `Process.alias/0`."""
    record = current_record()
    return record.machine.aliases.new(record)


def unalias(ref: Ref) -> bool:
    """Take an alias back: what is sent to it is dropped. Tells whether it was one. Mirrors `Process.unalias/1`."""
    record = current_record()
    return record.machine.aliases.drop(record, ref)


def exit(pid: Pid, reason: Any) -> bool:
    """Send an exit signal. Mirrors `Process.exit/2`; what it does is told in `otplib.core.delivery`.

    To itself, if fatal, it takes effect before it returns. To the dead it does nothing.

    Raises:
        TypeError: `pid` is no pid; names are not taken.
    """
    check_pid(pid, "process.exit")
    record = current_record()
    machine = record.machine
    if is_far(pid):
        machine.transport.exit(record.pid, pid, reason)
        return True
    target = machine.find(pid)
    if target is None:
        return True
    machine.signal_exit(record.pid, target, copied(reason), by_link=False)
    if target is record and record.doom is not None:
        if record.is_shell:
            raise Exit(record.doom[0])
        raise Killed()
    return True


def flag(**flags: Any) -> Any:
    """Set flags of this process and give their old values: one value, or a dict of several. Mirrors `Process.flag/2`.

    Flags: `trap_exit` (bool), `priority` ("low", "normal", "high", "max"), `max_mailbox` (messages, or None) and, with
    it, `on_full`: "kill" this process with a report, or "refuse" calls, which fail at once with `"overloaded"`.

    Raises:
        TypeError: no such flag, or a value of the wrong type.
        ValueError: a priority there is not.

    Example:
        >>> flag(trap_exit=False)
        False
    """
    if not flags:
        raise TypeError("process.flag takes a flag, as in process.flag(trap_exit=True)")
    old = set_flags(current_record(), flags)
    return old if len(old) > 1 else old.popitem()[1]


# ---- looking -------------------------------------------------------------------------------------------------------


def alive(pid: Pid) -> bool:
    """Tell whether a process of this node lives. Mirrors `Process.alive?/1`.

    Raises:
        ValueError: it is on another node.
    """
    machine = current_machine()
    return machine.alive(machine.find(check_own_pid(pid, "process.alive")))


def info(pid: Pid, *items: str) -> Any:
    """Look into a process: a dict, or with one item its value; None for the dead. Mirrors `Process.info/2`.

    Raises:
        TypeError: `pid` is no pid.
        ValueError: no such item, or a process of another node.

    Example:
        >>> info(self_(), "links", "trap_exit")
        {'links': [], 'trap_exit': False}
    """
    machine = current_machine()
    record = machine.find(check_own_pid(pid, "process.info"))
    if not machine.alive(record):
        return None
    assert record is not None
    return info_of(machine, record, items)


def list() -> builtins.list[Pid]:
    """Give the pids of all processes, oldest first. Mirrors `Process.list/0`."""
    machine = current_machine()
    return [record.pid for record in machine.records() if machine.alive(record)]


def pid(text: str) -> Pid:
    """Read the text of a pid, such as `"<0.112.0>"`. Mirrors `pid/1` of iex.

    Raises:
        ValueError: not the text of a pid.
    """
    node, number, serial = parse_pid(text)
    machine = current_machine()
    record = machine.table.get(number)
    if record is not None and node in (NO_NODE, machine.node):
        return record.pid
    return Pid(node, number, serial, machine.creation)


# ---- names ---------------------------------------------------------------------------------------------------------


def register(pid: Pid, name: Name) -> bool:
    """Give a process a name. Mirrors `Process.register/2`, `:global.register_name/2` for `Global(term)`.

    Raises:
        NameTakenError: the name is taken, the process is dead, or it has a name already.
        TypeError, ValueError: not a name, or a reserved one.
    """
    check_own_pid(pid, "process.register")
    machine = current_machine()
    record = machine.find(pid)
    if isinstance(name, Global):
        if not machine.global_names.register(name.term, record):
            raise NameTakenError(f"could not register {pid!r} as {name!r}: the name is taken, or the process dead")
    elif isinstance(name, Via):
        if not registry_of(name).register_name(name.key, pid):
            raise NameTakenError(f"could not register {pid!r} as {name!r}: the name is taken, or the process dead")
    else:
        check_name(name)
        machine.register(record, name, pid)
    return True


def unregister(name: Name) -> bool:
    """Take a name back. Mirrors `Process.unregister/1`.

    Raises:
        NoSuchNameError: nobody has it.
    """
    machine = current_machine()
    if isinstance(name, Global):
        machine.global_names.unregister(name.term)
        return True
    if isinstance(name, Via):
        registry_of(name).unregister_name(name.key)
        return True
    check_name(name)
    if not machine.unregister(name):
        raise NoSuchNameError(f"unregister {name!r}: no process has registered this name")
    return True


def whereis(name: Name) -> Pid | None:
    """Give the pid of a name, None if nobody has it. Mirrors `Process.whereis/1`."""
    if not isinstance(name, Global | Via):
        check_name(name)
    machine = current_machine()
    found = find_named(machine, name)
    if isinstance(found, ProcessRecord):
        return found.pid if found.state is not Status.DEAD else None
    return found


def registered() -> builtins.list[str]:
    """Give all registered names. Mirrors `Process.registered/0`."""
    return [*current_machine().names]


# ---- timers --------------------------------------------------------------------------------------------------------


def send_after(dest: Destination, message: Any, seconds: float) -> Ref:
    """Send `message` to `dest` in `seconds`; gives the timer. Mirrors `Process.send_after/3`.

    A name is looked up when the timer fires; if nobody has it then, the message is lost. A timer for a pid ends with
    its process.

    Raises:
        ValueError: negative seconds.
        TypeError: not a number, or no destination.
        CopyError: the message holds something that cannot be copied.

    Example:
        >>> async def main():
        ...     send_after(self_(), "tick", 0.001)
        ...     return await receive()
        >>> run(main)
        'tick'
    """
    return set_timer(make_ref(), dest, copied(message), seconds)


def start_timer(dest: Destination, message: Any, seconds: float) -> Ref:
    """As `send_after`, but what comes is `("timeout", timer, message)`. Mirrors `:erlang.start_timer/3`."""
    ref = make_ref()
    return set_timer(ref, dest, ("timeout", ref, copied(message)), seconds)


def cancel_timer(ref: Ref, *, asynchronous: bool = False) -> float | None:
    """Cancel a timer; gives the seconds it had left, None if it has fired. Mirrors `Process.cancel_timer/2`.

    With `asynchronous=True` the answer comes as a message, `("cancel_timer", timer, seconds_left)`.

    Raises:
        TypeError: not a reference.
    """
    machine = current_machine()
    left = machine.user_timers.cancel(check_timer(ref))
    if not asynchronous:
        return left
    machine.deliver(current_record(), ("cancel_timer", ref, left))
    return None


def read_timer(ref: Ref) -> float | None:
    """Give the seconds a timer has left, None if it has fired or was cancelled. Mirrors `Process.read_timer/1`.

    Raises:
        TypeError: not a reference.
    """
    return current_machine().user_timers.left(check_timer(ref))


# ---- the process's own ---------------------------------------------------------------------------------------------


def put(key: Any, value: Any) -> Any:
    """Store a value in this process's dictionary; gives the old one. Mirrors `Process.put/2`."""
    record = current_record()
    if record.dictionary is None:
        record.dictionary = {}
    old = record.dictionary.get(key)
    record.dictionary[key] = value
    return old


def get(key: Any, default: Any = None) -> Any:
    """Give a value of this process's dictionary. Mirrors `Process.get/2`."""
    return (current_record().dictionary or {}).get(key, default)


def get_keys() -> builtins.list[Any]:
    """Give the keys of this process's dictionary. Mirrors `Process.get_keys/0`."""
    return [*(current_record().dictionary or {})]


def delete(key: Any) -> Any:
    """Take a value out of this process's dictionary and give it. Mirrors `Process.delete/1`."""
    return (current_record().dictionary or {}).pop(key, None)


def group_leader(pid: Pid | None = None, leader: Pid | None = None) -> Pid | None:
    """Give this process's group leader, or, with two pids, set another's. Mirrors `Process.group_leader/0` and `/2`."""
    record = current_record()
    machine = record.machine
    if pid is None:
        return machine.leaders.of(record)
    target = machine.find(check_pid(pid, "process.group_leader"))
    if leader is None:
        return machine.leaders.of(target) if target is not None else None
    check_pid(leader, "process.group_leader")
    if is_far(pid):
        machine.transport.set_leader(leader, pid)
    if target is not None:
        target.leader = leader
        if not machine.leaders.is_built_in(leader):
            machine.guard(target, None)
    return leader


def hibernate(fn: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> None:
    """Let go of memory that an idle process does not need. Mirrors `Process.hibernate/3`.

    With `fn` it does not return: all that this process was in the middle of is dropped, and the next message, or one
    that lies there already, has it go on with `fn(*args, **kwargs)`. Without, it gives back an empty mailbox's memory.

    Raises:
        TypeError: `fn` is nothing a process can run.
        ValueError: called with `fn` in ordinary code, which cannot be dropped.

    Example:
        >>> from otplib import process, run
        >>> async def woken(): return await receive()
        >>> async def main():
        ...     send(self_(), "wake up")
        ...     process.hibernate(woken)
        >>> run(main)
        'wake up'
    """
    record = current_record()
    if fn is not None:
        check_function(fn)
        if record.is_shell:
            raise ValueError(
                "hibernate(fn) drops what a process is in the middle of: that of a shell cannot be dropped"
            )
        raise Hibernated(fn, args, kwargs)
    mailbox = record.mailbox
    if mailbox is not None and not mailbox.saved:
        mailbox.saved = None


def suspend(pid: Pid) -> bool:
    """Let a process run no more until `resume`, or until this process ends; counted. A step it is in the middle of is
    finished first. Mirrors `:erlang.suspend_process/1`.

    Raises:
        ValueError: `pid` is dead, a shell, or this process itself.
    """
    machine = current_machine()
    target = machine.find(check_own_pid(pid, "process.suspend"))
    if target is None or target.is_shell or target is current_record():
        raise ValueError(f"cannot suspend {pid!r}: it is dead, a shell, or oneself")
    machine.suspensions.add(current_record(), target)
    return True


def resume(pid: Pid) -> bool:
    """Undo one `suspend` of this process's. Mirrors `:erlang.resume_process/1`.

    Raises:
        ValueError: this process has not suspended `pid`.
    """
    machine = current_machine()
    target = machine.find(check_own_pid(pid, "process.resume"))
    if target is None or not machine.suspensions.lift(current_record(), target):
        raise ValueError(f"cannot resume {pid!r}: {current_record().pid!r} has not suspended it")
    return True
