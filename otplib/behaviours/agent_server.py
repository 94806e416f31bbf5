"""The server behind `Agent`: it runs the functions that it is sent, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any

from otplib.behaviours.gen_server import GenServer
from otplib.behaviours.returns import NoReply, Ok, Reply, Stop
from otplib.behaviours.task_process import mfa_of
from otplib.vm.shell import current_record


class AgentServer(GenServer):
    """Its state is the user's. Requests are `(verb, function, args)`; each callback is plain unless it must wait."""

    def init(self, arg: Any) -> Any:
        fn, args = arg
        record = current_record()
        record.initial = fn
        if record.dictionary is not None:
            record.dictionary["$initial_call"] = mfa_of(fn, len(args))
        outcome = fn(*args)
        return _start_later(outcome) if type(outcome) is CoroutineType else Ok(outcome)

    def handle_call(self, request: Any, caller: Any, state: Any) -> Any:
        verb, fn, args = request
        outcome = fn(state, *args) if args else fn(state)
        if type(outcome) is CoroutineType:
            return _go_on_later(verb, outcome, state)
        if verb == "get":
            return Reply(outcome, state)
        return _go_on(verb, outcome, state)

    def handle_cast(self, request: Any, state: Any) -> Any:
        _, fn, args = request
        outcome = fn(state, *args)
        return _cast_later(outcome) if type(outcome) is CoroutineType else NoReply(outcome)

    def code_change(self, old_version: Any, state: Any, extra: Callable[[Any], Any]) -> Any:
        """As Elixir's: `extra` is a function from the old state to the new."""
        return Ok(state if extra is None else extra(state))


def _go_on(verb: str, outcome: Any, state: Any) -> Any:
    if verb == "get":
        return Reply(outcome, state)
    if verb == "update":
        return Reply("ok", outcome)
    if type(outcome) is tuple and len(outcome) == 2:
        return Reply(*outcome)
    return Stop(("bad_return_value", outcome), state)


async def _start_later(outcome: Any) -> Any:
    return Ok(await outcome)


async def _go_on_later(verb: str, outcome: Any, state: Any) -> Any:
    return _go_on(verb, await outcome, state)


async def _cast_later(outcome: Any) -> Any:
    return NoReply(await outcome)
