"""The loop of a GenServer: the machine behind the manual in `gen_server`.

One message, one callback, one return value carried out. The callbacks' class is looked up anew for each message, so
running the class's cell again changes the code of a living server.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from otplib import process
from otplib.behaviours.debugging import Debugging
from otplib.behaviours.gen import Caller, Starter, reply
from otplib.behaviours.returns import NO_REPLY, Continue, Ignore, NoReply, Ok, Refused, Reply, Stop
from otplib.behaviours.telemetry import NOBODY, Measured, telemetry_of
from otplib.core import reports
from otplib.core.copying import copied
from otplib.core.errors import CopyError, Exit
from otplib.core.inspection import inspect_term
from otplib.core.reasons import ExitMessage, StackEntry, capture, is_quiet, stack_of
from otplib.core.terms import Atom, Global, Via
from otplib.process import receive
from otplib.vm.errors import Hibernated, Killed
from otplib.vm.inspecting import stack_of_process
from otplib.vm.shell import current_record
from otplib.vm.transport import is_far
from otplib.vm.waiting import deadline_after

if TYPE_CHECKING:
    from otplib.behaviours.gen_server import GenServer

log = logging.getLogger("otplib")

#: Exceptions that are the engine's and take effect as they are.
_PASSING = (Killed, GeneratorExit, Hibernated)

#: Stands for a time-out: sleep without a coroutine until a message comes.
_HIBERNATE: Final = -1.0


#: What OTP answers to a system request that asks for no value; an atom, for a BEAM may ask.
_OK = Atom("ok")


class ServerEnd(BaseException):
    """Carries the reason from a callback to the end of the loop, and what else its report and the last caller get."""

    def __init__(
        self, reason: Any, hint: str | None = None, answer: Any = NO_REPLY, stack: tuple[StackEntry, ...] = ()
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.answer = answer
        #: Where a callback raised `Exit`.
        self.stack = stack


def _bad_return(callback: str, outcome: Any, expected: str) -> ServerEnd:
    hint = f"{callback} must return {expected}; it returned {inspect_term(outcome)}"
    if outcome is None:
        hint += ": did no case match, or is a return missing?"
    return ServerEnd(("bad_return_value", outcome), hint)


class ServerLoop:
    """One running server."""

    def __init__(self, cls: type[GenServer], starter: Starter) -> None:
        self.record = current_record()
        self.parent = starter.parent if starter.parent is not None else self.record.pid
        self.name = starter.name
        self.state: Any = None
        self.debugging: Debugging | None = None
        self.suspended = False
        #: What the crash report shows as last message, and who is waiting for an answer to it.
        self.last_message: Any = None
        self.caller: Caller | None = None
        #: How long each wait for a message may last, since the last callback; None for ever.
        self.timeout: float | None = None
        #: It has just been woken from hibernation.
        self._awake = False
        self.telemetry = telemetry_of(self.record.machine)
        self._adopt(cls)

    def _adopt(self, cls: type[GenServer]) -> None:
        self.cls = cls
        #: The callbacks; as long as somebody listens, measured ones.
        self.module: Any = cls.__new__(cls)
        #: The listeners whom `module` tells.
        self._handlers = NOBODY
        self._name = cls.__qualname__
        owner = sys.modules.get(cls.__module__)
        #: Where the class is looked up again; None for a class made inside a function.
        self._namespace: dict[str, Any] | None = (
            owner.__dict__ if owner is not None and "." not in self._name and owner.__dict__.get(self._name) else None
        )

    def renew(self) -> None:
        """Take up the class as it is now, if its definition has been run again, and whoever listens now."""
        if self._namespace is not None:
            found = self._namespace.get(self._name)
            if found is not self.cls and isinstance(found, type) and found.__module__ == self.cls.__module__:
                if found.__qualname__ == self._name and hasattr(found, "handle_call"):
                    self._adopt(found)
        if self.telemetry.handlers is not self._handlers:
            self._follow_telemetry()

    def _follow_telemetry(self) -> None:
        self._handlers = handlers = self.telemetry.handlers
        plain = self.cls.__new__(self.cls)
        self.module = Measured(plain, self.record, self.telemetry, handlers) if handlers else plain

    # ---- the life of the process -----------------------------------------------------------------------------

    async def run(self, starter: Starter, arg: Any) -> None:
        """Initialise, report, serve, terminate."""
        await self._live(await self._initialise(starter, arg))

    async def _initialise(self, starter: Starter, arg: Any) -> Continue | None:
        self.renew()  # a child spec made before the class was defined again starts the new one
        try:
            outcome = await self._invoke(self.module.init, arg)
            if type(outcome) is Ok:
                self.state = outcome.state
                follow = self._take_over(outcome)
                starter.ready()
                return follow
            if type(outcome) is Ignore:
                starter.ignore()
                raise Exit("normal")
            if type(outcome) is Stop:
                raise ServerEnd(outcome.reason)
            raise _bad_return("init", outcome, "Ok(state), Ignore() or Stop(reason)")
        except ServerEnd as end:
            reason, hint = end.reason, end.hint
        starter.fail(reason, hint)
        raise Exit(reason)

    async def _live(self, follow: Continue | None = None) -> None:
        try:
            await self._serve(follow)
        except ServerEnd as caught:
            end = caught.with_traceback(None)
        caller = self.caller
        reason = await self._terminate(end)
        if end.answer is not NO_REPLY and caller is not None:
            reply(caller, end.answer)  # after `terminate`, as OTP does
        raise Exit(reason)

    async def _serve(self, follow: Continue | None) -> None:
        callback: Callable[[Any, Any], Any]
        telemetry = self.telemetry
        while True:
            if follow is not None:
                callback, argument, name = self.module.handle_continue, follow.arg, "handle_continue"
                self.last_message = ("continue", follow.arg)
            else:
                message = await receive() if self.timeout is None else await self._receive_in_time()
                if self._namespace is not None and self._namespace.get(self._name) is not self.cls:
                    self.renew()
                if telemetry.handlers is not self._handlers:
                    self._follow_telemetry()
                kind = type(message)
                size = len(message) if kind is tuple else 0
                if size == 3 and message[0] == "$gen_call":
                    follow = await self._on_call(message)
                    continue
                if size == 3 and message[0] == "system":
                    await self._on_system(message)
                    continue
                self.last_message = message
                if size == 2 and message[0] == "$gen_cast":
                    callback, argument, name = self.module.handle_cast, message[1], "handle_cast"
                elif kind is ExitMessage and message.pid == self.parent:
                    raise ServerEnd(message.reason)
                else:
                    callback, argument, name = self.module.handle_info, message, "handle_info"
                if self.debugging is not None:
                    self.debugging.got("cast" if name == "handle_cast" else "", argument, None)
            try:
                outcome = callback(argument, self.state)
                if type(outcome) is CoroutineType:
                    outcome = await outcome
            except BaseException as error:
                raise self._end_of(error) from None
            follow = self._carry_out(outcome, name)

    async def _receive_in_time(self) -> Any:
        # `self.timeout` stays until a callback has run: a system request does not count as a message (sys.erl).
        if self.timeout == _HIBERNATE:
            if not self._awake:
                self._awake = True
                process.hibernate(self._live)
            self._awake = False
            return await receive()
        try:
            return await receive(timeout=self.timeout)
        except TimeoutError:
            return "timeout"

    # ---- one callback ----------------------------------------------------------------------------------------

    async def _on_call(self, message: tuple[Any, ...]) -> Continue | None:
        _, caller, request = message
        self.caller = caller
        self.last_message = request
        if self.debugging is not None:
            self.debugging.got("call", request, caller)
        try:
            outcome = self.module.handle_call(request, caller, self.state)
            if type(outcome) is CoroutineType:
                outcome = await outcome
            if type(outcome) is Reply:
                reply(caller, outcome.value)
                self.state = outcome.state
                if self.debugging is not None:
                    self.debugging.sent(outcome.value, caller, self.state)
                self.caller = None
                if outcome.timeout is None and outcome.then is None and not outcome.hibernate:
                    self.timeout = None
                    return None
                return self._take_over(outcome)
            if type(outcome) is Stop and outcome.reply is not NO_REPLY:
                copied(outcome.reply)  # what cannot be copied crashes here, while there is still somebody to report it
        except BaseException as error:
            raise self._end_of(error) from None
        return self._carry_out(outcome, "handle_call", "Reply(value, state), NoReply(state) or Stop(reason, state)")

    async def _invoke(self, callback: Callable[..., Any], *args: Any) -> Any:
        try:
            outcome = callback(*args)
            if type(outcome) is CoroutineType:
                outcome = await outcome
            return outcome
        except BaseException as error:
            raise self._end_of(error) from None

    def _end_of(self, error: BaseException) -> BaseException:
        """Give what a callback's exception means: the end of the server, or of the process as it is."""
        if isinstance(error, (*_PASSING, ServerEnd)):
            return error
        if (
            self.record.doom is not None
        ):  # it is being closed, and a `finally` failed: no `terminate`, no report of ours
            return error
        describe_file = self.record.machine.hooks.describe_file
        if isinstance(error, Exit):
            return ServerEnd(error.reason, stack=stack_of(error.__traceback__, describe_file))
        return ServerEnd(capture(error, describe_file))

    def _carry_out(
        self, outcome: Any, callback: str, expected: str = "NoReply(state) or Stop(reason, state)"
    ) -> Continue | None:
        kind = type(outcome)
        if kind is NoReply:
            self.state = outcome.state
            if self.debugging is not None:
                self.debugging.changed(self.state)
            self.caller = None
            return self._take_over(outcome)
        if kind is Stop and (outcome.reply is NO_REPLY or callback == "handle_call"):
            self.state = outcome.state
            raise ServerEnd(outcome.reason, answer=outcome.reply)
        raise _bad_return(callback, outcome, expected)

    def _take_over(self, outcome: Ok | Reply | NoReply) -> Continue | None:
        """Note what the return asks for besides the state."""
        if outcome.then is not None and type(outcome.then) is not Continue:
            raise ServerEnd(("bad_return_value", outcome), f"then= takes Continue(arg), got {outcome.then!r}")
        self.timeout = outcome.timeout
        if outcome.timeout is not None:
            try:
                deadline_after(self.record, outcome.timeout)
            except (TypeError, ValueError) as error:
                raise ServerEnd(("bad_return_value", outcome), f"timeout= {error}") from None
        elif outcome.hibernate:
            self.timeout = _HIBERNATE
        return outcome.then

    # ---- system requests -------------------------------------------------------------------------------------

    async def _on_system(self, message: tuple[Any, ...]) -> None:
        await self.handle_system(message)
        while self.suspended:
            found = await receive(("system", tuple, ...), self._is_parents_end)
            if type(found) is ExitMessage:
                raise ServerEnd(found.reason)
            await self.handle_system(found)

    def _is_parents_end(self, message: Any) -> bool:
        return type(message) is ExitMessage and message.pid == self.parent

    async def handle_system(self, message: tuple[Any, ...]) -> None:
        """Answer one request of the `system` verbs."""
        _, caller, request = message
        word = request[0] if type(request) is tuple else request
        if word == "terminate":
            self.last_message = []
            reply(caller, _OK)
            raise ServerEnd(request[1])
        try:
            answer = await self._ask(word, request)
        except _PASSING:
            raise
        except BaseException as error:  # told to whoever asked: the server is none the worse for it
            answer = Refused(Atom("error"), capture(error, str).exception)
        try:
            reply(caller, answer)
        except CopyError as error:  # a state may hold what no other process can have
            reply(caller, Refused(Atom("error"), CopyError(str(error))))

    async def _ask(self, word: Any, request: Any) -> Any:
        if word == "get_state":
            return self.state
        if word == "replace_state":
            self.state = request[1](self.state)
            return self.state
        if word == "get_status":
            return await self._status()
        if word == "change_code":
            await self._change_code(request[1], request[2])
            return _OK
        if word in ("suspend", "resume"):
            self.suspended = word == "suspend"
            return _OK
        if word == "debug":  # OTP's: {debug, {trace, true}}
            request = request[1]
        if self.debugging is None:
            self.debugging = Debugging(self.record, self._plain_name())
        try:
            return self.debugging.ask(request)
        finally:
            if self.debugging.is_off:
                self.debugging = None

    async def _change_code(self, old_version: Any, extra: Any) -> None:
        self.renew()
        outcome = self.module.code_change(old_version, self.state, extra)
        if type(outcome) is CoroutineType:
            outcome = await outcome
        if type(outcome) is not Ok:
            raise TypeError(f"code_change must return Ok(state); it returned {outcome!r}")
        self.state = outcome.state

    async def _status(self) -> dict[str, Any]:
        formatted = await self._format_status({"state": self.state})
        return {
            "module": "gen_server",
            "status": "suspended" if self.suspended else "running",
            "parent": self.parent,
            "class": self.cls,
            "pid": self.record.pid,
            "name": self.name,
            **formatted,
        }

    async def _format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        """Let the user's class hide or shorten what reports show; a broken one is left out of it."""
        try:
            formatted: Any = self.module.format_status(dict(status))
            if type(formatted) is CoroutineType:
                formatted = await formatted
        except _PASSING:
            raise
        except BaseException:
            return status
        return {**status, **formatted} if isinstance(formatted, dict) else status

    def _plain_name(self) -> Any:
        """Give what reports call this server: the name it was started under, without `Global` or `Via`; or its pid."""
        name = self.name
        if isinstance(name, Global):
            return name.term
        return tuple(name) if isinstance(name, Via) else self.record.pid if name is None else name

    # ---- the end ---------------------------------------------------------------------------------------------

    async def _terminate(self, end: ServerEnd) -> Any:
        """Run the callback, report an end that nobody asked for, and give the reason that counts."""
        self.renew()
        try:
            await self._invoke(self.module.terminate, end.reason, self.state)
        except ServerEnd as worse:
            end = worse
        if not is_quiet(end.reason):
            await self._report(end)
        return end.reason

    async def _report(self, end: ServerEnd) -> None:
        caller = self.caller
        status = {"state": self.state, "message": self.last_message, "reason": end.reason}
        formatted = await self._format_status(status)
        who = inspect_term(self._plain_name())
        client = _describe_client(self.record.machine, caller)
        text = reports.server_crash(
            self.cls.report_kind,
            who,
            formatted["reason"],
            last_message=formatted["message"],
            state=formatted["state"],
            stack=end.stack,
            sender=_name_of(self.record.machine, caller),
            client=client,
        )
        if end.hint is not None:
            text += f"\n{end.hint}"
        log.error("%s", text, extra={"pid": self.record.pid, "reason": end.reason})


def _name_of(machine: Any, caller: Caller | None) -> str | None:
    if caller is None:
        return None
    record = machine.find(caller[0])
    return reports.describe_process(caller[0], record.name if record is not None else None)


def _describe_client(machine: Any, caller: Caller | None) -> str | None:
    name = _name_of(machine, caller)
    if caller is None or name is None:
        return None
    if is_far(caller[0]):
        return reports.client_line(name, None)
    record = machine.table.get(caller[0].id)
    if not machine.alive(record):
        return reports.client_line(name, False)
    return reports.client_line(name, True, stack_of_process(record))
