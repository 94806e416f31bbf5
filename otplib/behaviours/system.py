"""Looking into a living server: OTP's `:sys`.

Every verb is awaited, takes `timeout=` seconds (5 by default), and raises `Exit((reason, ("system", verb, [server])))`
as `GenServer.call` does. A process that is no server does not answer: the call times out (row g28).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otplib.behaviours import gen
from otplib.behaviours.gen import Server
from otplib.behaviours.gen_server import stop_server
from otplib.behaviours.returns import Refused
from otplib.core.terms import Atom

TIMEOUT = 5.0


async def _ask(verb: str, server: Server, request: Any, timeout: float | None, *shown: Any) -> Any:
    answer = await gen.call("system", server, request, timeout, ("system", verb, [server, *shown]))
    if isinstance(answer, Refused):
        raise answer.error
    return answer


async def get_state(server: Server, timeout: float | None = TIMEOUT) -> Any:
    """Give a server's state, a copy of it. Mirrors `:sys.get_state/1`."""
    return await _ask("get_state", server, "get_state", timeout)


async def replace_state(server: Server, fn: Callable[[Any], Any], timeout: float | None = TIMEOUT) -> Any:
    """Let the server run `fn(state)` and take what it gives as its state; gives it. Mirrors `:sys.replace_state/2`.

    Raises:
        whatever `fn` raises; the state stays as it was.
    """
    return await _ask("replace_state", server, ("replace_state", fn), timeout, fn)


async def get_status(server: Server, timeout: float | None = TIMEOUT) -> dict[str, Any]:
    """Give what a server says of itself: status, parent, class, pid, name, state. Mirrors `:sys.get_status/1`."""
    status: dict[str, Any] = await _ask("get_status", server, "get_status", timeout)
    return status


async def suspend(server: Server, timeout: float | None = TIMEOUT) -> None:
    """Let a server answer nothing but system requests, until `resume`. Mirrors `:sys.suspend/1`."""
    await _ask("suspend", server, "suspend", timeout)


async def resume(server: Server, timeout: float | None = TIMEOUT) -> None:
    """Let a suspended server go on. Mirrors `:sys.resume/1`."""
    await _ask("resume", server, "resume", timeout)


async def change_code(
    server: Server, old_version: Any = None, extra: Any = None, timeout: float | None = TIMEOUT
) -> None:
    """Let a suspended server take up its class as it is now and run `code_change`. Mirrors `:sys.change_code/4`.

    Raises:
        RuntimeError: the server is not suspended.
        whatever `code_change` raises; the state stays as it was.
    """
    status = await get_status(server, timeout)
    if status["status"] != "suspended":
        raise RuntimeError(f"suspend {server!r} before you change its code: await system.suspend(server)")
    await _ask("change_code", server, ("change_code", old_version, extra), timeout)


async def trace(server: Server, on: bool, timeout: float | None = TIMEOUT) -> None:
    """Let a server print what it does, or stop it. Mirrors `:sys.trace/2`."""
    await _ask("trace", server, ("debug", (Atom("trace"), on)), timeout)


async def statistics(server: Server, flag: bool | str = "get", timeout: float | None = TIMEOUT) -> Any:
    """Start (True) or stop (False) counting, or give the counts: a dict, `"no_statistics"` if none were kept. Mirrors
    `:sys.statistics/2`.

    Raises:
        ValueError: neither True, False nor "get".
    """
    if flag not in (True, False, "get"):
        raise ValueError(f'statistics takes True, False or "get", got {flag!r}')
    asked = Atom(flag) if isinstance(flag, str) else flag
    answer = await _ask("statistics", server, ("debug", (Atom("statistics"), asked)), timeout)
    return answer[1] if isinstance(answer, tuple) else None


async def terminate(server: Server, reason: Any = "normal", timeout: float | None = None) -> None:
    """End a server; `terminate` runs. Mirrors `:sys.terminate/2`."""
    await stop_server(server, reason, timeout, ("system", "terminate", [server, reason]))
