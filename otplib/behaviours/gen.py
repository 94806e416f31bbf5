"""What all behaviours share: starting a process that reports when it is ready, and asking one for an answer.

Mirrors OTP's `gen` and the start protocol of `proc_lib`. The wire shapes are OTP's, so a BEAM node can ask and answer:

| message | shape |
|---|---|
| call | `("$gen_call", (pid, tag), request)` |
| cast | `("$gen_cast", request)` |
| system request | `("system", (pid, tag), request)` |
| answer | `(tag, answer)` |

The tag is an alias of the caller. When the caller gives up, the alias is gone, and a late answer is dropped (row g02).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from otplib.core.copying import copied
from otplib.core.delivery import copied_reason
from otplib.core.errors import CallTimeout, Exit, NameTakenError, StartError
from otplib.core.reasons import ExitMessage
from otplib.core.terms import Global, Pid, Ref, Via
from otplib.process import demonitor, exit, register, unlink, unregister, whereis
from otplib.vm.addressing import Name, find_named
from otplib.vm.aliases import Alias
from otplib.vm.machine import Machine
from otplib.vm.process_record import ProcessRecord
from otplib.vm.shell import current_record
from otplib.vm.transport import FarProcess, is_far
from otplib.vm.waiting import count_failure, deadline_after, take_reply

Server = Pid | str | tuple[str, str] | Global | Via
Caller = tuple[Pid, Ref]


# ---- starting ------------------------------------------------------------------------------------------------------


class Starter:
    """How a new process tells whoever started it that it is ready, or why not."""

    def __init__(
        self, parent: Pid | None, tag: Ref, name: Name | None, dictionary: dict[str, Any] | None = None
    ) -> None:
        #: Whose end is the end of the process; None if it was started without a link.
        self.parent = parent
        self.name = name
        #: What its process dictionary holds from the start.
        self.dictionary = dictionary
        self._tag = tag

    def __deepcopy__(self, memo: Any) -> Starter:
        return self

    def ready(self) -> None:
        """Let `start` return the pid."""
        self._tell(("ok", None))

    def ignore(self) -> None:
        """Let `start` return None; the process must end now. Its name is free when `start` returns."""
        self._free_name()
        self._tell(("ignore", None))

    def fail(self, reason: Any, hint: str | None = None) -> None:
        """Let `start` raise `StartError(reason)`, with `hint` as a note; the process must end now."""
        self._free_name()
        self._tell(("error", (copied_reason(reason), hint)))

    def _free_name(self) -> None:
        if self.name is not None and whereis(self.name) == current_record().pid:
            unregister(self.name)

    def _tell(self, outcome: tuple[str, Any]) -> None:
        machine = current_record().machine
        waiting = machine.aliases.take(self._tag)
        if waiting is not None:
            machine.deliver(waiting, (self._tag, outcome))


async def start(
    body: Callable[..., Awaitable[None]],
    *args: Any,
    link: bool,
    name: Name | None = None,
    timeout: float | None = None,
    entry: tuple[str, str] | None = None,
    initial_call: tuple[Any, str, int] | None = None,
) -> Pid | None:
    """Run `body(starter, *args)` as a process and wait until it reports by `starter`.

    Args:
        link: link it to the caller.
        name: registered before `body` runs.
        timeout: seconds after which the process is killed and `StartError("timeout")` raised.
        entry: module and function that `process.info` shows as its initial call.
        initial_call: what its process dictionary shows as `"$initial_call"`, beside `"$ancestors"` (row g33).

    Returns:
        its pid; None if it chose to be ignored.

    Raises:
        StartError: with `("already_started", pid)` if the name is taken, else with the process's own reason.
    """
    check_server_name(name)
    record = current_record()
    machine = record.machine
    deadline = deadline_after(record, timeout)
    if name is not None and (holder := whereis(name)) is not None:
        await count_failure(record)
        raise StartError(("already_started", holder))
    tag = machine.aliases.new(record)
    known = {"$initial_call": initial_call, "$ancestors": ancestors_below(record)} if initial_call is not None else None
    starter = Starter(record.pid if link else None, tag, name, known)
    mark = record.mailbox.mark() if record.mailbox is not None else 0
    child, _ = machine.spawn(_begin, (body, starter, copied(args)), {}, record, link=link)
    child.entry = entry
    child.initial = body
    machine.monitor(record, child, None, ref=tag)
    try:
        answer = await take_reply(record, tag, mark, deadline)
    finally:
        # With flush: a child that reports a failure and ends may have been quicker than this line.
        demonitor(tag, flush=True)
    if answer is None:
        _abandon(record, child, tag)
        raise StartError("timeout")
    if len(answer) == 5:  # it died before it could report
        raise StartError(answer.reason)
    word, detail = answer[1]
    if word == "error":
        refusal = StartError(detail[0])
        if detail[1] is not None:
            refusal.add_note(detail[1])
        raise refusal
    return child.pid if word == "ok" else None


def ancestors_below(parent: ProcessRecord) -> list[Any]:
    """Give the ancestors of a process that `parent` starts, nearest first: names, or pids of the nameless."""
    older = (parent.dictionary or {}).get("$ancestors")
    return [parent.name if parent.name is not None else parent.pid, *(older if isinstance(older, list) else ())]


async def _begin(body: Callable[..., Awaitable[None]], starter: Starter, args: tuple[Any, ...]) -> None:
    if starter.dictionary is not None:
        current_record().dictionary = starter.dictionary
    name = starter.name
    if name is not None:
        try:
            await _take_name(name)
        except Exception:
            holder = whereis(name)
            starter.name = None
            starter.fail(("already_started", holder))
            return
    await body(starter, *args)


async def _take_name(name: Name) -> None:
    """Register this process; a `Global` name, on a node, under the lock of the whole cluster."""
    record = current_record()
    if not isinstance(name, Global) or record.machine.global_names.announce is None:
        register(record.pid, name)
        return
    request = ("register_name", name.term, record.pid)
    exited_in = ("global", "register_name", [name.term, record.pid])
    if not await call("$gen_call", "global_name_server", request, None, exited_in):
        raise NameTakenError(f"somebody else has the name {name!r}")


def _abandon(record: ProcessRecord, child: ProcessRecord, tag: Ref) -> None:
    unlink(child.pid)
    exit(child.pid, "kill")
    flush_answer(record, tag)
    if record.mailbox is not None:
        record.mailbox.take(lambda message: isinstance(message, ExitMessage) and message.pid == child.pid)


def check_server_name(name: Any) -> None:
    """Refuse what cannot be the name of a server (row n06).

    Raises:
        TypeError, ValueError: says what a name may be.
    """
    if name is None or isinstance(name, Global | Via):
        return
    if not isinstance(name, str):
        raise TypeError(
            f'expected name to be None, a str, Global(term) or Via(registry, key); got {name!r}: write name="worker"'
        )
    if name in ("", "nil", "true", "false", "undefined"):
        raise ValueError(f"the name {name!r} is reserved: take another one")


# ---- asking --------------------------------------------------------------------------------------------------------


def find_server(machine: Machine, server: Any) -> ProcessRecord | FarProcess | None:
    """Give the process a server's address means, the address itself if it is on another node; None if nobody.

    Raises:
        TypeError: not an address.
    """
    if type(server) is Pid:
        return server if is_far(server) else machine.find(server)
    if isinstance(server, str):
        return machine.names.get(server)
    if isinstance(server, Global | Via):
        return find_named(machine, server)
    if isinstance(server, tuple) and len(server) == 2 and all(isinstance(part, str) for part in server):
        return machine.names.get(server[0]) if server[1] == machine.node else server
    hint = "; call the verb on the class with the server's pid or name first" if isinstance(server, type) else ""
    raise TypeError(f"expected a server: a pid, a name, (name, node), Global(...) or Via(...); got {server!r}{hint}")


async def call(
    label: str, server: Server, request: Any, timeout: float | None, exited_in: tuple[str, str, list[Any]]
) -> Any:
    """Send `(label, (self, tag), request)` and wait for the answer.

    Raises:
        Exit: `(reason, exited_in)`; the server is dead, dies, or is the caller.
        CallTimeout: no answer in time.
    """
    record = current_record()
    machine = record.machine
    deadline = deadline_after(record, timeout) if timeout is not None else None
    target = find_server(machine, server)
    if target is record:
        raise Exit(("calling_self", exited_in))
    if not isinstance(target, ProcessRecord):
        if target is not None:
            return await _call_far(record, target, label, request, deadline, exited_in)
        copied(request)  # for its refusals
        await count_failure(record)
        raise Exit(("noproc", exited_in))
    copy = copied(request)
    mailbox = record.mailbox
    mark = mailbox.mark() if mailbox is not None else 0
    tag = machine.aliases.open_call(record, target)
    machine.deliver(target, (label, (record.pid, tag), copy))
    try:
        answer = await take_reply(record, tag, mark, deadline)
    except BaseException:
        machine.aliases.close_call(target, tag)
        flush_answer(record, tag)
        raise
    unanswered = machine.aliases.close_call(target, tag)
    if answer is None:
        if unanswered:
            await count_failure(record)
            raise CallTimeout(("timeout", exited_in))
        # Whoever answers has taken the alias in the last moment and is about to deliver: that is in time.
        answer = await take_reply(record, tag, mark, None)
    if len(answer) == 2:
        return answer[1]
    raise Exit((answer.reason, exited_in))


async def _call_far(
    record: ProcessRecord,
    target: FarProcess,
    label: str,
    request: Any,
    deadline: float | None,
    exited_in: tuple[str, str, list[Any]],
) -> Any:
    """As `call`, for a server on another node."""
    transport = record.machine.transport
    # First, so that what cannot be sent is refused here, and not lost with the waiting signals.
    await transport.connect(record, target.home if isinstance(target, Pid) else target[1], deadline)
    mailbox = record.mailbox
    mark = mailbox.mark() if mailbox is not None else 0
    tag = transport.open_call(record, target)
    try:
        transport.send(record.pid, target, (label, (record.pid, tag), request))
        answer = await take_reply(record, tag, mark, deadline)
    except BaseException:
        transport.close_call(record, target, tag)
        flush_answer(record, tag)
        raise
    unanswered = transport.close_call(record, target, tag)
    if answer is None:
        if unanswered:
            raise CallTimeout(("timeout", exited_in))
        answer = await take_reply(record, tag, mark, None)
    if len(answer) == 2:
        return answer[1]
    await count_failure(record)
    raise Exit((why_unreachable(target, answer.reason), exited_in))


def why_unreachable(target: FarProcess, reason: Any) -> Any:
    """Give the reason of a failed call: what the monitor said, and `("nodedown", node)` for a node that is gone."""
    if isinstance(reason, str) and reason == "noconnection":
        return ("nodedown", target.node if isinstance(target, Pid) else target[1])
    return reason


def flush_answer(record: ProcessRecord, tag: Ref) -> None:
    """Take away an answer that nobody waits for any more, if it has come."""
    if record.mailbox is not None:
        record.mailbox.take(lambda message: isinstance(message, tuple) and len(message) == 2 and message[0] == tag)


def cast(server: Server, request: Any) -> None:
    """Send `("$gen_cast", request)`; never fails for a server that is not there (row g05)."""
    record = current_record()
    machine = record.machine
    target = find_server(machine, server)
    if target is None or isinstance(target, ProcessRecord):
        copy = copied(request)
        if target is not None:
            machine.deliver(target, ("$gen_cast", copy))
    else:
        machine.transport.send(record.pid, target, ("$gen_cast", request))


def reply(caller: Caller, value: Any) -> None:
    """Answer a call; any process may. If the caller no longer waits the answer is dropped.

    Raises:
        TypeError: not what a `handle_call` was given.
    """
    if not (isinstance(caller, tuple) and len(caller) == 2 and isinstance(caller[0], Pid)):
        raise TypeError(f"expected the caller that handle_call was given, as in reply(caller, value); got {caller!r}")
    record = current_record()
    machine = record.machine
    pid, tag = caller
    if is_far(pid):
        machine.transport.send(record.pid, tag if isinstance(tag, Alias) else pid, (tag, value))
        return
    copy = copied(value)  # first, for it may fail, and then the caller must be told of the end of this process
    waiting = machine.aliases.take(tag) if isinstance(tag, Alias) else machine.find(pid)
    if waiting is not None:
        machine.deliver(waiting, (tag, copy))
