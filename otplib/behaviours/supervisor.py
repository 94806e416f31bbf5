"""Supervisors: processes that start other processes, stop them in order, and start them again when they end.

Callbacks of a `Supervisor` subclass:

| callback | returns | what happens |
|---|---|---|
| `init(self, arg)` (may be `async`) | `Supervise(children, strategy=...)` | the children are started, left to right |
| | `Ignore()` | no supervisor; `start_link` gives `None` |
| | anything else | `StartError(("bad_return", (cls, "init", value)))` |
| | raises | `StartError(Raised(exception, stacktrace))` |

How `start_link` fails: `("supervisor_data", fault)` for a wrong flag, `("start_spec", fault)` for a wrong child,
`("shutdown", ("failed_to_start_child", id, reason))` when a child does not start; the ones before it are stopped in
reverse order. What a supervisor decides when a child ends stands in `core.restarts`, the loop in `supervisor_server`.

A supervisor traps exits: only its parent's exit, `stop`, `exit(pid, "kill")` and its own decision end it. Whichever it
is but the kill, it stops its children in reverse order before it ends; after a kill the links do it. While it starts or
stops a child it answers nobody.
"""

from __future__ import annotations

from typing import Any, Final

from otplib.behaviours.gen_server import GenServer, overridable
from otplib.behaviours.spec_options import SpecOptions
from otplib.behaviours.supervisor_server import SupervisorServer
from otplib.core.child_spec import AutoShutdown, Child, ChildSpec, normalise
from otplib.core.errors import ChildError, StartError
from otplib.core.faults import describe_fault, names_fault
from otplib.core.inspection import inspect_term
from otplib.core.restarts import STRATEGY_WORDS, Strategy, Supervise
from otplib.core.terms import Global, Pid, Via

__all__ = ["Child", "Supervise", "Supervisor"]

_MISSING: Final[Any] = object()


class Supervisor(SpecOptions):
    """A process that looks after others. Subclass it and write `init`, or start one from a list of children.

    Mirrors Elixir's `Supervisor`. Class keywords change the specification under which instances are supervised:
    `class Shop(Supervisor, restart="transient", shutdown=10, id="shop", significant=False)`.

    Example:
        >>> from otplib import GenServer, Ok, Reply, run
        >>> class Counter(GenServer):
        ...     def init(self, start): return Ok(start)
        ...     def handle_call(self, request, caller, count): return Reply(count, count + 1)
        >>> class Counters(Supervisor):
        ...     def init(self, arg):
        ...         return Supervise([Supervisor.child_spec((Counter, 10), id="tens")], strategy="one_for_one")
        >>> async def main():
        ...     sup = await Counters.start_link(None)
        ...     [tens] = await Supervisor.which_children(sup)
        ...     first = await GenServer.call(tens.pid, "next")
        ...     counts = await Supervisor.count_children(sup)
        ...     await Supervisor.stop(sup)
        ...     return first, counts
        >>> run(main)
        (10, {'specs': 1, 'active': 1, 'supervisors': 0, 'workers': 1})
    """

    def init(self, arg: Any) -> Any:
        """Return `Supervise(children, strategy=...)` or `Ignore()`. Runs in the new supervisor."""
        raise NotImplementedError(
            f"{type(self).__qualname__} needs `def init(self, arg)` that returns Supervise(children, strategy=...)"
        )

    # ---- starting --------------------------------------------------------------------------------------------

    @classmethod
    @overridable
    async def start_link(
        cls,
        arg: Any = None,
        *,
        name: str | Global | Via | None = None,
        strategy: Strategy = _MISSING,
        max_restarts: int = _MISSING,
        max_seconds: float = _MISSING,
        auto_shutdown: AutoShutdown = _MISSING,
    ) -> Pid | Any:
        """Start a supervisor linked to the caller, all its children included; gives its pid.

        `await Sub.start_link(arg)` asks `Sub.init(arg)` for the children. `await Supervisor.start_link(children,
        strategy=...)` needs no subclass. Mirrors `Supervisor.start_link/2,3`. `None` when `init` returns `Ignore()`.

        Raises:
            StartError: it did not start, the `.reason` tells why; a caller that does not trap exits dies with it.
            TypeError: no strategy, something that is no child, or options for a subclass.
        """
        given = {
            "strategy": strategy,
            "max_restarts": max_restarts,
            "max_seconds": max_seconds,
            "auto_shutdown": auto_shutdown,
        }
        options = {key: value for key, value in given.items() if value is not _MISSING}
        if cls is Supervisor:
            return await _start(_Default, _supervise_list(arg, options), name)
        if options:
            raise TypeError(
                f"{cls.__qualname__}.start_link takes no {', '.join(options)}: write it into the Supervise(...) that "
                f"{cls.__qualname__}.init returns"
            )
        if cls.init is Supervisor.init:
            raise TypeError(
                f"{cls.__qualname__} has no init; write\n\n    def init(self, arg):\n"
                '        return Supervise([...], strategy="one_for_one")\n'
            )
        return await _start(cls, arg, name)

    @classmethod
    def child_spec(cls, child: Any, **overrides: Any) -> ChildSpec:
        """Give the specification of a child, some fields of it replaced. Mirrors `Supervisor.child_spec/2`.

        On `Supervisor` itself `child` is a class, a `(Class, arg)` pair or a `ChildSpec`. On a subclass it is the
        argument, and the result starts that subclass: `Sub.child_spec(arg)`.

        Raises:
            TypeError: no child, or an unknown override.

        Example:
            >>> Supervisor.child_spec(ChildSpec("a", (print, ())), id="b", restart="temporary").restart
            'temporary'
        """
        if cls is Supervisor:
            return normalise(child, **overrides)
        fields: dict[str, Any] = {"id": cls, "type": "supervisor", **cls._spec_overrides}
        return normalise(ChildSpec(start=(cls.start_link, (child,)), **fields), **overrides)

    # ---- asking ----------------------------------------------------------------------------------------------

    @staticmethod
    async def which_children(supervisor: Any) -> list[Child]:
        """Give the children, last started first. Mirrors `Supervisor.which_children/1`.

        Raises:
            Exit: nobody answers to `supervisor`.
        """
        rows: list[Any] = await GenServer.call(supervisor, "which_children", timeout=None)
        return [Child(*row) for row in rows]

    @staticmethod
    async def count_children(supervisor: Any) -> dict[str, int]:
        """Count specs, active children, supervisors and workers. Mirrors `Supervisor.count_children/1`."""
        return dict(await GenServer.call(supervisor, "count_children", timeout=None))

    @staticmethod
    async def get_childspec(supervisor: Any, child_id: Any) -> ChildSpec:
        """Give the specification of a child, defaults filled in. Mirrors `:supervisor.get_childspec/2`.

        Raises:
            ChildError: there is no such child.
        """
        spec: ChildSpec = await _order(supervisor, "get_childspec", child_id)
        return spec

    # ---- ordering --------------------------------------------------------------------------------------------

    @staticmethod
    async def start_child(supervisor: Any, child: Any) -> Pid | None:
        """Add a child at the end and start it; gives its pid. Mirrors `Supervisor.start_child/2`.

        `None` when the child chose not to run; its row stays unless it is temporary.

        Raises:
            StartError: `("already_started", pid)`, `"already_present"`, or the child's own reason.
            TypeError: this is no child.
        """
        match await GenServer.call(supervisor, ("start_child", normalise(child)), timeout=None):
            case ("ok", (Pid() | None) as pid):
                return pid
            case ("error", reason):
                raise _explain_refused_start(reason)
            case other:
                raise _describe_stranger(supervisor, other)

    @staticmethod
    async def terminate_child(supervisor: Any, child_id: Any) -> None:
        """Stop a child and keep its row, unless it is temporary. Mirrors `Supervisor.terminate_child/2`.

        Raises:
            ChildError: `"not_found"`.
        """
        await _order(supervisor, "terminate_child", child_id)

    @staticmethod
    async def restart_child(supervisor: Any, child_id: Any) -> Pid | None:
        """Start a stopped child again; gives its pid. Mirrors `Supervisor.restart_child/2`.

        Raises:
            ChildError: `"not_found"`, `"running"` or `"restarting"`.
            StartError: it did not start.
        """
        pid: Pid | None = await _order(supervisor, "restart_child", child_id)
        return pid

    @staticmethod
    async def delete_child(supervisor: Any, child_id: Any) -> None:
        """Remove the row of a stopped child. Mirrors `Supervisor.delete_child/2`.

        Raises:
            ChildError: `"not_found"`, `"running"` or `"restarting"`.
        """
        await _order(supervisor, "delete_child", child_id)

    @staticmethod
    async def stop(supervisor: Any, reason: Any = "normal", timeout: float | None = None) -> None:
        """Stop a supervisor with `reason`; its children end with `"shutdown"`. Mirrors `Supervisor.stop/3`.

        Raises:
            Exit: nobody answers to `supervisor`, or it took longer than `timeout`.
        """
        await GenServer.stop(supervisor, reason, timeout)


class _Default(Supervisor):
    """The supervisor made from a list: its argument is what its `init` returns. Elixir's `Supervisor.Default`."""

    def init(self, arg: Any) -> Any:
        return arg


_Default.__name__ = "Default"
_Default.__qualname__ = "Supervisor.Default"


def _supervise_list(children: Any, options: dict[str, Any]) -> Supervise:
    if isinstance(children, type) and issubclass(children, Supervisor):
        name = children.__qualname__
        raise TypeError(f"to start the supervisor {name} write {name}.start_link(arg)")
    if "strategy" not in options:
        raise TypeError(
            f"expected strategy= to be given, one of {STRATEGY_WORDS}, as in "
            'Supervisor.start_link(children, strategy="one_for_one")'
        )
    return Supervise(children, **options)


async def _start(cls: type[Supervisor], arg: Any, name: Any) -> Pid | None:
    pid: Pid | None = await SupervisorServer.start_link((cls, arg, name), name=name)
    return pid


_REFUSALS: Final = {
    "not_found": "{} is no child of this supervisor: Supervisor.which_children lists those it has",
    "running": "{} is still running: stop it with Supervisor.terminate_child first",
    "restarting": "{} is being restarted: wait, or stop it with Supervisor.terminate_child first",
}


async def _order(supervisor: Any, verb: str, child_id: Any) -> Any:
    match await GenServer.call(supervisor, (verb, child_id), timeout=None):
        case "ok":
            return None
        case ("ok", value):
            return value
        case ("error", str(reason)) if reason in _REFUSALS:
            raise ChildError(reason, _REFUSALS[reason].format(inspect_term(child_id)))
        case ("error", reason):
            raise StartError(reason)
        case other:
            raise _describe_stranger(supervisor, other)


def _explain_refused_start(reason: Any) -> StartError:
    refusal = StartError(reason)
    if names_fault(reason):
        refusal.add_note("bad child specification, " + describe_fault(reason))
    return refusal


def _describe_stranger(supervisor: Any, answer: Any) -> TypeError:
    return TypeError(f"expected a supervisor, but {supervisor!r} is none: it answered {inspect_term(answer)}")
