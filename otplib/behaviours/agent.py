"""Agent: a process that keeps a state, and runs the functions that it is sent on it.

| verb | the function gives | what happens |
|---|---|---|
| `start_link(fn)`, `start(fn)` | the first state | gives the pid |
| `get(agent, fn)` | anything | the caller gets it; the state stays |
| `update(agent, fn)` | the new state | the caller waits until it is so |
| `get_and_update(agent, fn)` | `(value, new_state)` | the caller gets the value |
| | anything else | the agent ends with `("bad_return_value", value)` |
| `cast(agent, fn)` | the new state | nobody waits |
| any | raises | the agent ends with that reason, and the caller exits with it |

Functions run in the agent, so it is busy until they return: what takes long in `get` holds up everybody, what takes
long in the caller nobody. They may be `async def`, and take further arguments: `Agent.update(agent, operator.add, 2)`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, TypeVar, overload

from otplib.behaviours import gen
from otplib.behaviours.agent_server import AgentServer
from otplib.behaviours.gen import Server
from otplib.behaviours.gen_server import GenServer
from otplib.core.child_spec import ChildSpec
from otplib.core.terms import Pid
from otplib.vm.addressing import Name
from otplib.vm.running import check_function

R = TypeVar("R")


class Agent:
    """A process around a state. Mirrors Elixir's `Agent`.

    Subclass it, with a `start_link` of your own, for an agent of your own in a supervision tree.

    Example:
        >>> from otplib import run
        >>> async def main():
        ...     agent = await Agent.start_link(dict)
        ...     await Agent.update(agent, lambda stock: {**stock, "tea": 2})
        ...     return await Agent.get(agent, lambda stock: stock["tea"])
        >>> run(main)
        2
    """

    _spec_overrides: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        # A subclass of a subclass inherits the manner of supervision, but not the id: two children need two ids.
        overrides = {name: value for name, value in cls._spec_overrides.items() if name != "id"}
        for name in ("id", "restart", "shutdown", "significant"):
            if name in options:
                overrides[name] = options.pop(name)
        super().__init_subclass__(**options)
        cls._spec_overrides = overrides

    # ---- starting ------------------------------------------------------------------------------------------------

    @classmethod
    async def start_link(
        cls, fn: Callable[..., Any], *args: Any, name: Name | None = None, timeout: float | None = None
    ) -> Pid | None:
        """Start an agent linked to the caller; `fn(*args)`, run in it, gives its state. Mirrors
        `Agent.start_link/2` and `/4`.

        Args:
            fn: a plain function or an `async def`.
            name: a str, `Global(term)` or `Via(registry, key)`.
            timeout: seconds that `fn` may take; then the agent is killed and `StartError("timeout")` raised.

        Raises:
            StartError: `("already_started", pid)`, or the reason `fn` ended with; a caller that does not trap exits
                dies of the latter.
            TypeError: no function.
        """
        check_function(fn)
        return await AgentServer.start_link((fn, args), name=name, timeout=timeout)

    @classmethod
    async def start(
        cls, fn: Callable[..., Any], *args: Any, name: Name | None = None, timeout: float | None = None
    ) -> Pid | None:
        """As `start_link`, without the link. Mirrors `Agent.start/2` and `/4`."""
        check_function(fn)
        return await AgentServer.start((fn, args), name=name, timeout=timeout)

    @classmethod
    def child_spec(cls, arg: Any = None) -> ChildSpec:
        """Give the specification of an agent as a child: `(Agent, fn)`, or `(Sub, arg)` for `Sub.start_link(arg)`.

        Mirrors `Agent.child_spec/1` and `use Agent`.

        Example:
            >>> Agent.child_spec(dict)
            ChildSpec(id=Agent, start=(Agent.start_link, (dict,)))
        """
        fields: dict[str, Any] = {"id": cls, **cls._spec_overrides}
        return ChildSpec(start=(cls.start_link, (arg,)), **fields)

    # ---- asking --------------------------------------------------------------------------------------------------

    @overload
    @staticmethod
    def get(
        agent: Server, fn: Callable[..., Coroutine[Any, Any, R]], *args: Any, timeout: float | None = 5.0
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    @staticmethod
    def get(agent: Server, fn: Callable[..., R], *args: Any, timeout: float | None = 5.0) -> Coroutine[Any, Any, R]: ...

    @staticmethod
    def get(agent: Server, fn: Callable[..., Any], *args: Any, timeout: float | None = 5.0) -> Coroutine[Any, Any, Any]:
        """Give `fn(state, *args)`, run in the agent; what comes is a copy. Mirrors `Agent.get/3` and `/5`.

        Raises:
            Exit: `(reason, ("GenServer", "call", [agent, ("get", fn, args), timeout]))`: the agent is not there, or
                ends before it answers.
            CallTimeout: no answer within `timeout` seconds.
            TypeError: no function.
        """
        return _ask(agent, "get", fn, args, timeout)  # not `async` itself: one frame less

    @staticmethod
    async def update(agent: Server, fn: Callable[..., Any], *args: Any, timeout: float | None = 5.0) -> None:
        """Let `fn(state, *args)` be the new state, and wait until it is. Mirrors `Agent.update/3` and `/5`.

        Raises:
            Exit, CallTimeout, TypeError: as `get`.

        Example:
            >>> from otplib import run
            >>> async def main():
            ...     agent = await Agent.start_link(lambda: 40)
            ...     await Agent.update(agent, lambda count, more: count + more, 2)
            ...     return await Agent.get(agent, lambda count: count)
            >>> run(main)
            42
        """
        await _ask(agent, "update", fn, args, timeout)

    @overload
    @staticmethod
    async def get_and_update(
        agent: Server,
        fn: Callable[..., Coroutine[Any, Any, tuple[R, Any]]],
        *args: Any,
        timeout: float | None = 5.0,
    ) -> R: ...

    @overload
    @staticmethod
    async def get_and_update(
        agent: Server, fn: Callable[..., tuple[R, Any]], *args: Any, timeout: float | None = 5.0
    ) -> R: ...

    @staticmethod
    async def get_and_update(agent: Server, fn: Callable[..., Any], *args: Any, timeout: float | None = 5.0) -> Any:
        """Let `fn(state, *args)` give a value for the caller and the new state. Mirrors `Agent.get_and_update/3`, `/5`.

        Raises:
            Exit, CallTimeout, TypeError: as `get`; `fn` gave no pair: `("bad_return_value", what)`.

        Example:
            >>> from otplib import run
            >>> async def main():
            ...     agent = await Agent.start_link(lambda: ["a", "b"])
            ...     return await Agent.get_and_update(agent, lambda queue: (queue[0], queue[1:]))
            >>> run(main)
            'a'
        """
        return await _ask(agent, "get_and_update", fn, args, timeout)

    @staticmethod
    def cast(agent: Server, fn: Callable[..., Any], *args: Any) -> None:
        """Let `fn(state, *args)` be the new state, some time soon; never fails for an agent that is not there. Mirrors
        `Agent.cast/2` and `/4`.

        Raises:
            TypeError: no function.
        """
        check_function(fn)
        gen.cast(agent, ("cast", fn, args))

    @staticmethod
    async def stop(agent: Server, reason: Any = "normal", timeout: float | None = None) -> None:
        """End an agent and wait for its end. Mirrors `Agent.stop/3`.

        Raises:
            Exit: it is not there, or ended with another reason.
            CallTimeout: not within `timeout` seconds.
        """
        await GenServer.stop(agent, reason, timeout)


def _ask(agent: Server, verb: str, fn: Any, args: tuple[Any, ...], timeout: float | None) -> Coroutine[Any, Any, Any]:
    check_function(fn)
    request = (verb, fn, args)
    return gen.call("$gen_call", agent, request, timeout, ("GenServer", "call", [agent, request, timeout]))
