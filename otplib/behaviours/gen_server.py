"""GenServer: a process that keeps a state and answers calls.

| callback | may return | what happens |
|---|---|---|
| `init(arg)` | `Ok(state)` | `start_link` gives the pid |
| | `Ignore()` | `start_link` gives None; the process ends with `"normal"` |
| | `Stop(reason)` | `start_link` raises `StartError(reason)`; the process ends with it |
| `handle_call(request, caller, state)` | `Reply(value, state)` | the caller gets the value |
| | `NoReply(state)` | somebody calls `GenServer.reply(caller, value)` later |
| | `Stop(reason, state[, reply=value])` | `terminate`, then the caller gets the value, if any, and the process ends |
| `handle_cast(request, state)`, `handle_info(message, state)` | `NoReply(state)` | goes on |
| `handle_continue(arg, state)` | `Stop(reason, state)` | `terminate`, then the process ends with the reason |
| `terminate(reason, state)` | anything | runs before the end, unless a signal kills a server that does not trap exits |
| `code_change(old_version, state, extra)` | `Ok(state)` | asked for by `system.change_code` |
| `format_status(status)` | a dict | what reports and `system.get_status` show |

`Ok`, `Reply` and `NoReply` take `timeout=` (seconds; then `handle_info("timeout", state)` if nothing came), `then=`
(`Continue(arg)`: `handle_continue` before the next message) and `hibernate=True` (nothing but the server's state is
kept until the next message). Any callback may be `def` or `async def`. An exception, or `raise Exit(reason)`, ends the
server with that reason; anything else returned, with `("bad_return_value", value)`.

`self` holds no state: state is a value that callbacks take and give. So the class can be defined anew while servers of
it live, and they go on with the new code.

For type checkers a server may name the type of its state, `class Counter(GenServer[int])`, and its callbacks what they
return, `-> Reply[str, int]`: then every state is checked, without a cast. The bare names stay right in strict mode.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from otplib.behaviours import gen
from otplib.behaviours.gen import Caller, Server, Starter
from otplib.behaviours.returns import Ignore, NoReply, Ok, Reply, State, Stop
from otplib.behaviours.server_loop import ServerLoop
from otplib.core.child_spec import ChildSpec
from otplib.core.copying import copied
from otplib.core.errors import CallTimeout, Exit
from otplib.core.inspection import inspect_term
from otplib.core.reasons import Down
from otplib.core.terms import NO_NODE, Global, Pid, Via
from otplib.process import demonitor, whereis
from otplib.vm.addressing import Name
from otplib.vm.aliases import Alias
from otplib.vm.process_record import ProcessRecord
from otplib.vm.shell import current_record
from otplib.vm.waiting import count_failure, deadline_after, take_reply

if TYPE_CHECKING:
    from typing import TypeAlias

    Given = TypeVar("Given")
    #: What a callback gives, whether it is a `def` or an `async def`.
    Returns: TypeAlias = Given | Awaitable[Given]

log = logging.getLogger("otplib")

R = TypeVar("R")


def overridable(method: Callable[..., R]) -> Callable[..., R]:
    """Let a subclass override a method with parameters of its own, for type checkers too; does nothing at run time.

    To give `start_link` a name or other parameters is how servers are meant to be written, and would break the rule
    that a subclass takes whatever its base takes.
    """
    return method


class GenServer(Generic[State]):
    """Subclass it, write the callbacks, and start it. Mirrors Elixir's `GenServer`.

    Class keywords set defaults of the child spec: `class Worker(GenServer, restart="transient", shutdown=10.0)`.

    Example:
        >>> from otplib import Reply, run
        >>> class Counter(GenServer):
        ...     def init(self, start): return Ok(start)
        ...     def handle_call(self, request, caller, state): return Reply(state, state + 1)
        >>> async def main():
        ...     pid = await Counter.start_link(5)
        ...     return [await GenServer.call(pid, "next") for _ in range(3)]
        >>> run(main)
        [5, 6, 7]
    """

    #: The word with which crash reports begin.
    report_kind: ClassVar[str] = "GenServer"
    _spec_defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        # A subclass of a subclass inherits the manner of supervision, but not the id: two children need two ids.
        defaults = {name: value for name, value in cls._spec_defaults.items() if name != "id"}
        for name in ("id", "restart", "shutdown", "significant"):
            if name in options:
                defaults[name] = options.pop(name)
        super().__init_subclass__(**options)
        cls._spec_defaults = defaults

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"a GenServer's self holds no state, so self.{name} cannot be set: put it into the state that the "
            "callbacks take and return, as in return NoReply({**state, ...})"
        )

    # ---- callbacks -------------------------------------------------------------------------------------------

    def init(self, arg: Any) -> Returns[Ok[State] | Ignore | Stop[Any]]:
        """Give the first state. The default takes the argument as the state, as Elixir's does (row g37)."""
        return Ok(arg)

    def handle_call(
        self, request: Any, caller: Caller, state: State
    ) -> Returns[Reply[Any, State] | NoReply[State] | Stop[State]]:
        """Answer a call; a server without it that is called crashes (row g07)."""
        raise RuntimeError(_missing("call", "handle_call/3"))

    def handle_cast(self, request: Any, state: State) -> Returns[NoReply[State] | Stop[State]]:
        """Take a cast; a server without it that is cast to crashes (row g07)."""
        raise RuntimeError(_missing("cast", "handle_cast/2"))

    def handle_info(self, message: Any, state: State) -> Returns[NoReply[State] | Stop[State]]:
        """Take any other message. The default logs it and goes on (row g06)."""
        record = current_record()
        who = inspect_term(record.name) if record.name is not None else repr(record.pid)
        log.error(
            "%s %s received unexpected message in handle_info/2: %s", type(self).__name__, who, inspect_term(message)
        )
        return NoReply(state)

    def handle_continue(self, arg: Any, state: State) -> Returns[NoReply[State] | Stop[State]]:
        """Do what `then=Continue(arg)` put off."""
        raise RuntimeError(_missing("continue", "handle_continue/2"))

    def terminate(self, reason: Any, state: State) -> Any:
        """Clean up before the end."""

    def code_change(self, old_version: Any, state: Any, extra: Any) -> Returns[Ok[State]]:
        """Give the state in the form the new code wants."""
        return Ok(state)

    def format_status(self, status: dict[str, Any]) -> Returns[dict[str, Any]]:
        """Change what reports show of `state`, `message` and `reason`."""
        return status

    # ---- starting --------------------------------------------------------------------------------------------

    @classmethod
    @overridable
    async def start_link(cls, arg: Any = None, *, name: Name | None = None, timeout: float | None = None) -> Pid | Any:
        """Start a server linked to the caller; returns when `init` has. Mirrors `GenServer.start_link/3`.

        Args:
            arg: given to `init`, as a copy.
            name: a str, `Global(term)` or `Via(registry, key)`.
            timeout: seconds that `init` may take; then the server is killed and `StartError("timeout")` raised.

        Returns:
            the pid, or None when `init` returned `Ignore()`. Type checkers are told `Pid | Any`: only a server with an
            `Ignore()` in it has to be looked at for None.

        Raises:
            StartError: `("already_started", pid)`, or the reason `init` ended with; a caller that does not trap exits
                dies of the latter, as on the BEAM (row g15).
        """
        return await cls._start(arg, name, timeout, link=True)

    @classmethod
    async def start(cls, arg: Any = None, *, name: Name | None = None, timeout: float | None = None) -> Pid | Any:
        """As `start_link`, without the link. Mirrors `GenServer.start/3`."""
        return await cls._start(arg, name, timeout, link=False)

    @classmethod
    async def _start(cls, arg: Any, name: Name | None, timeout: float | None, *, link: bool) -> Pid | None:
        if cls is GenServer:
            raise TypeError("start a subclass: class MyServer(GenServer): ..., then await MyServer.start_link(arg)")
        return await gen.start(
            _serve,
            cls,
            arg,
            link=link,
            name=name,
            timeout=timeout,
            entry=(cls.__module__, f"{cls.__qualname__}.init"),
            initial_call=(cls, "init", 1),
        )

    @classmethod
    def child_spec(cls, arg: Any = None) -> ChildSpec:
        """Give the child spec a supervisor starts this class by. Mirrors `child_spec/1` of `use GenServer`."""
        return ChildSpec(**{"id": cls, "start": (cls.start_link, (arg,)), **cls._spec_defaults})

    # ---- asking ----------------------------------------------------------------------------------------------

    @staticmethod
    async def call(server: Server, request: Any, timeout: float | None = 5.0) -> Any:
        """Send a request and wait for the answer. Mirrors `GenServer.call/3`.

        Raises:
            Exit: `(reason, ("GenServer", "call", [server, request, timeout]))`: the server is not there (`"noproc"`),
                ends before it answers, or is the caller (`"calling_self"`).
            CallTimeout: no answer within `timeout` seconds; a late one is dropped.
        """
        return await gen.call("$gen_call", server, request, timeout, ("GenServer", "call", [server, request, timeout]))

    @staticmethod
    def cast(server: Server, request: Any) -> None:
        """Send a request that has no answer; a server that is not there is no error. Mirrors `GenServer.cast/2`."""
        gen.cast(server, request)

    @staticmethod
    def reply(caller: Caller, value: Any) -> None:
        """Answer a call that `handle_call` left open. Mirrors `GenServer.reply/2`."""
        gen.reply(caller, value)

    @staticmethod
    def whereis(server: Server) -> Any:
        """Give the pid of a server, None if there is none; `(name, node)` of another node is given back. Mirrors
        `GenServer.whereis/1`."""
        if isinstance(server, Pid):
            return server
        if isinstance(server, tuple) and not isinstance(server, Global | Via):
            return whereis(server[0]) if server[1] == current_record().machine.node else server
        return whereis(server)

    @staticmethod
    async def stop(server: Server, reason: Any = "normal", timeout: float | None = None) -> None:
        """End a server and wait for its end; `terminate` runs. Mirrors `GenServer.stop/3`.

        Raises:
            Exit: the server is not there, or ended with another reason.
            CallTimeout: not within `timeout` seconds.
        """
        await stop_server(server, reason, timeout, ("GenServer", "stop", [server, reason, timeout]))

    @staticmethod
    async def multi_call(
        nodes: Iterable[str], name: str, request: Any, timeout: float | None = None
    ) -> tuple[list[tuple[str, Any]], list[str]]:
        """Call the server of this name on many nodes: the answers, and the nodes without one. Mirrors
        `GenServer.multi_call/4`."""
        waiting = [(node, GenServer.send_request((name, node), request)) for node in nodes]
        machine = current_record().machine
        end = None if timeout is None else machine.now() + timeout
        answers: list[tuple[str, Any]] = []
        bad: list[str] = []
        for node, asked in waiting:
            try:
                left = None if end is None else max(0.0, end - machine.now())
                answers.append((node, await GenServer.wait_response(asked, left)))
            except (Exit, TimeoutError):
                asked.forget()
                bad.append(node)
            except BaseException:
                asked.forget()
                raise
        return answers, bad

    @staticmethod
    def abcast(nodes: Iterable[str], name: str, request: Any) -> str:
        """Cast to the server of this name on many nodes. Mirrors `GenServer.abcast/3`."""
        for node in nodes:
            gen.cast((name, node), request)
        return "abcast"

    @staticmethod
    def send_request(server: Server, request: Any) -> RequestId:
        """Send a call and do not wait; `wait_response` takes the answer. Mirrors `:gen_server.send_request/2`.

        It may be awaited too, for nothing.
        """
        return RequestId(server, request)

    @staticmethod
    async def wait_response(asked: RequestId, timeout: float | None = None) -> Any:
        """Wait for the answer to `send_request`. Mirrors `:gen_server.wait_response/2`.

        Raises:
            TimeoutError: none yet; it may be asked again.
            Exit: `(reason, server)`: the server is not there, or ended.
            ValueError: another process has sent the request.
        """
        record = asked.check_owner()
        answer = await take_reply(record, asked.tag, 0, deadline_after(record, timeout))
        if answer is None:
            raise TimeoutError(f"no response from {asked.server!r} within {timeout} s")
        asked.forget()
        if len(answer) == 2:
            return answer[1]
        raise Exit((answer.reason, asked.server))

    @staticmethod
    async def receive_response(asked: RequestId, timeout: float | None = None) -> Any:
        """As `wait_response`, but after a time-out the request is given up, and a late answer dropped. Mirrors
        `:gen_server.receive_response/2`."""
        try:
            return await GenServer.wait_response(asked, timeout)
        except TimeoutError:
            asked.forget()
            raise

    @staticmethod
    async def check_response(message: Any, asked: RequestId) -> tuple[str, Any] | str:
        """Tell whether a message is the answer: `("reply", value)`, `("error", (reason, server))` or `"no_reply"`.
        Mirrors `:gen_server.check_response/2`."""
        asked.check_owner()
        if isinstance(message, Down) and message.ref == asked.tag:
            asked.forget()
            return ("error", (message.reason, asked.server))
        if isinstance(message, tuple) and len(message) == 2 and message[0] == asked.tag:
            asked.forget()
            return ("reply", message[1])
        return "no_reply"


class RequestId:
    """A request under way, for the process that sent it; others may carry it around."""

    def __init__(self, server: Server, request: Any) -> None:
        record = current_record()
        machine = record.machine
        self.server = server
        target = gen.find_server(machine, server)
        copy = copied(request)
        # Not a call's tag, as nobody waits: should this process end first, alias and monitor end with it.
        self.tag: Alias = machine.aliases.new(record)
        self._record = record
        message = ("$gen_call", (record.pid, self.tag), copy)
        if target is None:
            machine.deliver(record, Down("DOWN", self.tag, "process", server, "noproc"))  # type: ignore[arg-type]  # a name
        elif isinstance(target, ProcessRecord):
            machine.monitor(record, target, None, ref=self.tag)
            machine.deliver(target, message)
        else:
            machine.transport.monitor(record, self.tag, target)
            machine.transport.send(record.pid, target, message)

    def __await__(self) -> Generator[Any, None, RequestId]:
        return self
        yield

    def __deepcopy__(self, memo: Any) -> RequestId:
        return self

    def check_owner(self) -> ProcessRecord:
        """Give the process that sent the request.

        Raises:
            ValueError: it is not the one that asks.
        """
        if current_record() is not self._record:
            raise ValueError(
                f"this request was sent by {self._record.pid!r}, and only it can take the response; "
                f"this is {current_record().pid!r}"
            )
        return self._record

    def forget(self) -> None:
        """Drop the answer and the news of the server's end, whether they have come or not. For its owner."""
        demonitor(self.tag, flush=True)
        gen.flush_answer(self._record, self.tag)


async def _serve(starter: Starter, cls: type[GenServer], arg: Any) -> None:
    await ServerLoop(cls, starter).run(starter, arg)


def _missing(kind: str, callback: str) -> str:
    record = current_record()
    who = inspect_term(record.name) if record.name is not None else repr(record.pid)
    return f"attempted to {kind} GenServer {who} but no {callback} clause was provided"


async def stop_server(
    server: Server, reason: Any, timeout: float | None, exited_in: tuple[str, str, list[Any]]
) -> None:
    """Ask a server to end and wait until it has.

    Raises:
        Exit: it is not there, is the caller, or ended with another reason.
        CallTimeout: it took too long.
    """
    record = current_record()
    machine = record.machine
    deadline = deadline_after(record, timeout)
    target = gen.find_server(machine, server)
    if target is record:
        raise Exit(("calling_self", exited_in))
    if target is None:
        await count_failure(record)
        raise Exit(("noproc", exited_in))
    # The answer to the request goes to an alias that nobody reads: the end of the server says it all.
    unread = Alias(NO_NODE, 0, machine.creation)
    ref = machine.new_ref()
    message = ("system", (record.pid, unread), ("terminate", copied(reason)))
    try:
        if isinstance(target, ProcessRecord):
            machine.monitor(record, target, None, ref=ref)
            machine.deliver(target, message)
        else:
            machine.transport.monitor(record, ref, target)
            machine.transport.send(record.pid, target, message)
        down = await take_reply(record, ref, 0, deadline)
    finally:
        demonitor(ref, flush=True)
    if down is None:
        raise CallTimeout(("timeout", exited_in))
    if down.reason != reason:
        why = down.reason if isinstance(target, ProcessRecord) else gen.why_unreachable(target, down.reason)
        raise Exit((why, exited_in))
