"""The registered processes that other nodes expect of a node, under a supervisor of their own.

| name | asked by | answers |
|---|---|---|
| `net_kernel` | `Node.ping`, `net_adm:ping` | `{is_auth, node}`: `yes` |
| `rex` | `:rpc.block_call`, old releases | `{call, m, f, args, leader}`, `{cast, ...}`, `features_request` |
| `logger_proxy` | a node on which a process of ours has crashed, or of which ours logs | nothing; it is shown |
| `global_name_server` | `:global` | see `global_server` |
"""

from __future__ import annotations

from typing import Any

from otplib.behaviours.gen_server import GenServer
from otplib.behaviours.returns import NoReply, Ok, Reply
from otplib.core.errors import Exit
from otplib.core.reasons import Down, Raised
from otplib.core.terms import Atom, Pid
from otplib.dist.far_calls import run_function
from otplib.process import group_leader, monitor, self_, send, spawn


class NetKernelServer(GenServer):
    """`net_kernel`, as far as others speak to it."""

    def init(self, arg: Any) -> Any:
        """Nothing to keep."""
        return Ok(None)

    def handle_call(self, request: Any, caller: Any, state: Any) -> Any:
        """Confirm that the cookie was right: whoever gets here has shown it."""
        match request:
            case ("is_auth", _):
                return Reply(Atom("yes"), state)
            case _:
                return Reply((Atom("error"), Atom("not_implemented")), state)

    def handle_info(self, message: Any, state: Any) -> Any:
        """Let pass what is not for us."""
        return NoReply(state)

    def handle_cast(self, request: Any, state: Any) -> Any:
        """Let pass what is not for us."""
        return NoReply(state)


class Rex(GenServer):
    """`rex`: runs functions for others, each in a process of its own; the state is who waits, by monitor."""

    def init(self, arg: Any) -> Any:
        """Nobody waits yet."""
        return Ok({})

    def handle_call(self, request: Any, caller: Any, state: Any) -> Any:
        """Run a function; its result, or `{badrpc, {'EXIT', reason}}`, is the answer."""
        match request:
            case ("call" | "block_call", str(module), str(function), list(args), leader):
                pid = spawn(_answer, caller, leader, module, function, args)
                return NoReply({**state, monitor(pid): caller})
            case _:
                return Reply((Atom("badrpc"), Atom("notsup")), state)

    def handle_cast(self, request: Any, state: Any) -> Any:
        """Run a function for nothing."""
        match request:
            case ("cast", str(module), str(function), list(args), leader):
                spawn(_run, leader, module, function, args)
        return NoReply(state)

    def handle_info(self, message: Any, state: Any) -> Any:
        """Tell what we can do; answer for a process that died of a signal."""
        match message:
            case (Pid() as asker, "features_request"):
                # A third node may have asked on its behalf; the name is the one the asker knows us by.
                send(asker, (Atom("features_reply"), Atom(self_().node), [Atom("erpc")]))
            case Down(ref=ref, reason=reason) if ref in state:
                caller = state[ref]
                if reason != "normal":
                    GenServer.reply(caller, (Atom("badrpc"), (Atom("EXIT"), reason)))
                return NoReply({other: waiting for other, waiting in state.items() if other != ref})
        return NoReply(state)


async def _answer(caller: Any, leader: Any, module: str, function: str, args: list[Any]) -> None:
    try:
        result = await _run(leader, module, function, args)
    except Exit as error:
        result = (Atom("badrpc"), (Atom("EXIT"), error.reason))
    except Exception as error:
        result = (Atom("badrpc"), (Atom("EXIT"), Raised(error.with_traceback(None), ())))
    GenServer.reply(caller, result)


async def _run(leader: Any, module: str, function: str, args: list[Any]) -> Any:
    if isinstance(leader, Pid):
        group_leader(self_(), leader)
    return await run_function(module, function, args)
