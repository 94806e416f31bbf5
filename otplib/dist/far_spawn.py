"""Processes on other nodes, asked for from here: `node.spawn`, and the calls of `erpc` and `rpc` that stand on it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from otplib.core.copying import copied
from otplib.core.errors import Exit
from otplib.core.function_names import split_name
from otplib.core.reasons import Down
from otplib.core.terms import Atom, Pid, Ref
from otplib.dist.far_calls import run_function
from otplib.dist.router import Router
from otplib.vm.machine import Machine
from otplib.vm.process_record import ProcessRecord
from otplib.vm.running import check_function
from otplib.vm.shell import current_record
from otplib.vm.waiting import take_reply

log = logging.getLogger("otplib")


class Target(NamedTuple):
    """A function as the wire names it, with its arguments."""

    module: str
    function: str
    args: list[Any]


def target_of(fn: Callable[..., Any] | str, args: tuple[Any, ...]) -> Target:
    """Give how a node is asked to run `fn(*args)`.

    Raises:
        TypeError, ValueError: nothing that can be run.

    Example:
        >>> target_of("H.say", (1,))
        Target(module='Elixir.H', function='say', args=[1])
        >>> target_of(len, ("abc",))[:2]
        ('erlang', 'apply')
    """
    if isinstance(fn, str):
        return Target(*split_name(fn), [*args])
    check_function(fn)
    return Target("erlang", "apply", [fn, [*args]])


def is_here(machine: Machine, node: str) -> bool:
    """Tell whether a name means this very node."""
    return node == machine.node


async def spawn(
    node: str, fn: Callable[..., Any] | str, args: tuple[Any, ...], *, link: bool = False, monitor: bool = False
) -> tuple[Pid, Ref | None]:
    """Start a process on a node; gives its pid, and its monitor if one was asked for."""
    target = target_of(fn, args)
    record = current_record()
    machine = record.machine
    if is_here(machine, node):
        return _spawn_here(record, run_function, tuple(copied(target)), link, monitor)
    router = machine.transport
    why: Any = "noconnection"
    await router.connect(record, node, None)
    if isinstance(router, Router):
        module, function, sent = target
        mark = record.mailbox.mark() if record.mailbox is not None else 0
        tag = router.request_spawn(record, node, (module, function), sent, link=link, monitor=monitor)
        try:
            answer = await take_reply(record, tag, mark, None)
        except BaseException:
            router.abandon_spawn(record, node, tag)
            raise
        if isinstance(answer[1], Pid):
            return answer[1], tag if monitor else None
        why = answer[1][1]
    log.warning("** Can not start %s on %s: %s **", fn if isinstance(fn, str) else repr(fn), node, why)
    return _spawn_here(record, _end, (why,), link, monitor)


def _spawn_here(
    record: ProcessRecord, fn: Callable[..., Any], args: tuple[Any, ...], link: bool, monitor: bool
) -> tuple[Pid, Ref | None]:
    child, ref = record.machine.spawn(fn, args, {}, record, link=link, monitor=monitor)
    return child.pid, ref


def _end(why: Any) -> None:
    """The process that stands for one that could not be started (row y06)."""
    raise Exit(why)


def cast_far(node: str, fn: Callable[..., Any] | str, args: tuple[Any, ...]) -> None:
    """Have a function run on a node, and hear nothing of it. Mirrors `erpc:cast/4`."""
    target = target_of(fn, args)
    record = current_record()
    machine = record.machine
    call = [Atom(target.module), Atom(target.function), target.args]
    if is_here(machine, node):
        machine.spawn(run_function, ("erpc", "execute_cast", copied(call)), {}, record)
    elif isinstance(machine.transport, Router):
        tag = machine.transport.request_spawn(record, node, ("erpc", "execute_cast"), call, told=False)
        machine.aliases.close(tag)


# ---- calls -------------------------------------------------------------------------------------------------------


class FarCall:
    """A function under way on another node, or this one, for the process that asked for it.

    The function runs in a process that ends with what came of it; so there is nobody to trust with the answer, and no
    way to lose it unnoticed. Mirrors `erpc:send_request/4`.
    """

    @classmethod
    async def begin(
        cls, node: str, fn: Callable[..., Any] | str, args: tuple[Any, ...], deadline: float | None
    ) -> FarCall:
        """Begin a call once the node is connected, so that what cannot be sent is refused at once."""
        record = current_record()
        if not is_here(record.machine, node):
            target_of(fn, args)
            await record.machine.transport.connect(record, node, deadline)
        return cls(node, fn, args)

    def __init__(self, node: str, fn: Callable[..., Any] | str, args: tuple[Any, ...]) -> None:
        target = target_of(fn, args)
        record = current_record()
        machine = record.machine
        self.node = node
        self._record = record
        #: What the outcome is marked with; another reference than the request's, as in `erpc`.
        self._result = machine.new_ref()
        call = [self._result, Atom(target.module), Atom(target.function), target.args]
        self._router: Router | None = None
        self._child: Pid | None = None
        if is_here(machine, node):
            self.tag: Ref = machine.new_ref()
            child, _ = machine.spawn(run_function, ("erpc", "execute_call", copied(call)), {}, record)
            self._child = child.pid
            machine.monitor(record, child, None, ref=self.tag, pid=child.pid)
        elif isinstance(machine.transport, Router):
            self._router = machine.transport
            self.tag = self._router.request_spawn(
                record, node, ("erpc", "execute_call"), call, monitor=True, told=False
            )
        else:
            self.tag = machine.new_ref()
            machine.deliver(record, Down("DOWN", self.tag, "process", record.pid, "noconnection"))

    async def wait(self, deadline: float | None) -> Any:
        """Give the reason with which the call's process ended; `TIMED_OUT` past the deadline, `LOST` without a node."""
        record = self._record
        try:
            # From the mailbox's beginning: other messages may have been taken since the call began.
            answer = await take_reply(record, self.tag, 0, deadline)
        except BaseException:
            self.abandon()
            raise
        return TIMED_OUT if answer is None else self.outcome_of(answer)

    def outcome_of(self, answer: Any) -> Any:
        """Give the reason in a message that answers this call."""
        if len(answer) == 2:  # the node could not, or would not, start it
            return LOST if answer[1][1] == "noconnection" else answer[1]
        return LOST if answer.reason == "noconnection" else answer.reason

    def returned(self, reason: Any) -> tuple[str, tuple[Any, ...]] | None:
        """Take a reason apart: `("return", (value,))`, `("exit", (why,))`, `("error", (why, stack))`, or None."""
        if type(reason) is tuple and len(reason) >= 3 and isinstance(reason[0], Ref) and reason[0] == self._result:
            return str(reason[1]), reason[2:]
        return None

    def abandon(self) -> None:
        """Wait for it no longer; an answer that has come is taken away."""
        record = self._record
        machine = record.machine
        if self._router is not None:
            self._router.abandon_spawn(record, self.node, self.tag)  # type: ignore[arg-type]  # of its own making
        else:
            machine.demonitor(record, self.tag)
        if record.mailbox is not None:
            record.mailbox.take(self.is_answer)

    def is_answer(self, message: Any) -> bool:
        """Tell whether a message answers this call."""
        return isinstance(message, tuple) and (
            (isinstance(message, Down) and message.ref == self.tag)
            or (len(message) == 2 and isinstance(message[0], Ref) and message[0] == self.tag)
        )


class _Mark:
    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


#: The call was not over in time.
TIMED_OUT = _Mark("TIMED_OUT")
#: There is no connection to the node, or there was one.
LOST = _Mark("LOST")
