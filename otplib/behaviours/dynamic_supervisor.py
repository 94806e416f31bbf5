"""DynamicSupervisor: a supervisor that begins empty and starts children when it is asked to, by the hundred thousand.

Callbacks of a `DynamicSupervisor` subclass:

| callback | returns | what happens |
|---|---|---|
| `init(self, arg)` (may be `async`) | `DynamicSupervise(max_children=...)` | it waits for `start_child` |
| | `Ignore()` | no supervisor; `start_link` gives `None` |
| | anything else | `StartError(("bad_return", (cls, "init", value)))` |
| | raises | `StartError(Raised(exception, stacktrace))` |

What differs from a `Supervisor`: its children have no ids, so the same specification may be started many times, and a
child is ordered about by its pid; the only strategy is `"one_for_one"`; the row of a child that ends for good goes,
also of a permanent one whose start is ignored at a restart; and it stops all children at once, not one after the other,
each with the time its own `shutdown` gives. `significant` means nothing here. Restart types and intensity are the same.

The loop stands in `dynamic_supervisor_server`.
"""

from __future__ import annotations

from typing import Any, Final

from otplib.behaviours.dynamic_supervisor_server import ChildOrder, DynamicSupervise, DynamicSupervisorServer
from otplib.behaviours.gen_server import GenServer
from otplib.behaviours.spec_options import SpecOptions
from otplib.core.child_spec import Child, ChildSpec, find_fault, normalise
from otplib.core.errors import ChildError, StartError
from otplib.core.faults import describe_fault, names_fault
from otplib.core.inspection import inspect_term
from otplib.core.terms import Global, Pid, Via

__all__ = ["DynamicSupervise", "DynamicSupervisor"]

_OPTIONS: Final = ("strategy", "max_restarts", "max_seconds", "max_children", "extra_arguments")


class DynamicSupervisor(SpecOptions):
    """A supervisor of children that come and go. Start one as it is, or subclass it and write `init`.

    Mirrors Elixir's `DynamicSupervisor`. Class keywords change the specification under which instances are supervised,
    as for `Supervisor`.

    Example:
        >>> from otplib import GenServer, Ok, run
        >>> class Session(GenServer, restart="temporary"):
        ...     def init(self, user): return Ok(user)
        >>> async def main():
        ...     sup = await DynamicSupervisor.start_link(max_children=2)
        ...     pids = [await DynamicSupervisor.start_child(sup, (Session, user)) for user in ("ann", "bob")]
        ...     try:
        ...         await DynamicSupervisor.start_child(sup, (Session, "eve"))
        ...     except StartError as refusal:
        ...         full = refusal.reason
        ...     await DynamicSupervisor.terminate_child(sup, pids[0])
        ...     counts = await DynamicSupervisor.count_children(sup)
        ...     await DynamicSupervisor.stop(sup)
        ...     return full, counts
        >>> run(main)
        ('max_children', {'specs': 1, 'active': 1, 'supervisors': 0, 'workers': 1})
    """

    def init(self, arg: Any) -> Any:
        """Return `DynamicSupervise(...)` or `Ignore()`. Runs in the new supervisor. Mirrors `init/1`."""
        raise NotImplementedError(
            f"{type(self).__qualname__} needs `def init(self, arg)` that returns DynamicSupervise(...)"
        )

    # ---- starting --------------------------------------------------------------------------------------------

    @classmethod
    async def start_link(cls, arg: Any = None, *, name: str | Global | Via | None = None, **options: Any) -> Pid | None:
        """Start a supervisor without children, linked to the caller; gives its pid.

        `await Sub.start_link(arg)` asks `Sub.init(arg)` how to treat children. `await DynamicSupervisor.start_link()`
        needs no subclass. Mirrors `DynamicSupervisor.start_link/1` and `/3`. `None` when `init` returns `Ignore()`.

        Args:
            arg: for `init` of a subclass.
            name: a str, `Global(term)` or `Via(registry, key)`.
            options: those of `DynamicSupervise`.

        Raises:
            StartError: it did not start, the `.reason` tells why; a caller that does not trap exits dies with it.
            TypeError: unknown options, or options for a subclass.
        """
        if cls is DynamicSupervisor:
            if arg is not None:
                raise TypeError(
                    "DynamicSupervisor.start_link takes no list of children, as it begins empty: start them with "
                    f"await DynamicSupervisor.start_child(supervisor, child); got {inspect_term(arg)}"
                )
            return await _start(_Default, _supervise(options), name)
        if options:
            raise TypeError(
                f"{cls.__qualname__}.start_link takes no {', '.join(options)}: write it into the "
                f"DynamicSupervise(...) that {cls.__qualname__}.init returns"
            )
        if cls.init is DynamicSupervisor.init:
            raise TypeError(
                f"{cls.__qualname__} has no init; write\n\n    def init(self, arg):\n"
                "        return DynamicSupervise(max_children=100)\n"
            )
        return await _start(cls, arg, name)

    @classmethod
    def child_spec(cls, arg: Any = None) -> ChildSpec:
        """Give the specification under which a supervisor starts this one. Mirrors `DynamicSupervisor.child_spec/1`.

        For `DynamicSupervisor` itself `arg` is a dict of what `start_link` takes, or None; for a subclass, the argument
        of its `init`.

        Example:
            >>> DynamicSupervisor.child_spec({"name": "sessions", "max_children": 10}).id
            'sessions'
        """
        if cls is DynamicSupervisor:
            options = _check_options({} if arg is None else arg)
            return ChildSpec(
                options.get("name", cls), (_start_by_options, (options,)), type="supervisor", modules=[cls]
            )
        fields: dict[str, Any] = {"id": cls, "type": "supervisor", **cls._spec_overrides}
        return ChildSpec(start=(cls.start_link, (arg,)), **fields)

    # ---- asking ----------------------------------------------------------------------------------------------

    @staticmethod
    async def which_children(supervisor: Any) -> list[Child]:
        """Give the children, oldest first; the id of each is `"undefined"`. Mirrors `which_children/1`.

        Raises:
            Exit: nobody answers to `supervisor`.
        """
        rows: list[Any] = await GenServer.call(supervisor, "which_children", timeout=None)
        return [Child(*row) for row in rows]

    @staticmethod
    async def count_children(supervisor: Any) -> dict[str, int]:
        """Count specs, active children, supervisors and workers. Mirrors `DynamicSupervisor.count_children/1`."""
        return dict(await GenServer.call(supervisor, "count_children", timeout=None))

    # ---- ordering --------------------------------------------------------------------------------------------

    @staticmethod
    async def start_child(supervisor: Any, child: Any) -> Pid | None:
        """Start a child: a class, `(Class, arg)` or a `ChildSpec`, whose id does not matter; gives its pid. Mirrors
        `DynamicSupervisor.start_child/2`.

        `None` when the child chose not to run; then it leaves no row.

        Raises:
            StartError: `"max_children"`, a fault of the specification such as `("invalid_restart_type", "often")`, or
                the child's own reason.
            TypeError: this is no child.
        """
        spec = normalise(child)
        fault = find_fault(spec, "any_significant") if not spec.significant else _find_fault_but_significant(spec)
        if fault is not None:
            raise _explain_refused_start(fault)
        answer = await GenServer.call(supervisor, ("start_child", ChildOrder.of(spec).itself), timeout=None)
        if answer is None or isinstance(answer, Pid):
            return answer
        match answer:
            case ("error", reason):
                raise _explain_refused_start(reason)
            case other:
                raise _describe_stranger(supervisor, other)

    @staticmethod
    async def terminate_child(supervisor: Any, pid: Pid) -> None:
        """Stop a child, as its `shutdown` says; its row goes. Mirrors `DynamicSupervisor.terminate_child/2`.

        Raises:
            ChildError: `"not_found"`.
            TypeError: not a pid; names are not taken.
        """
        if not isinstance(pid, Pid):
            raise TypeError(f"expected the pid of a child, as start_child gave it; got {inspect_term(pid)}")
        match await GenServer.call(supervisor, ("terminate_child", pid), timeout=None):
            case "ok":
                return
            case ("error", "not_found"):
                raise ChildError("not_found", f"{pid!r} is no child of this supervisor: which_children lists them")
            case other:
                raise _describe_stranger(supervisor, other)

    @staticmethod
    async def stop(supervisor: Any, reason: Any = "normal", timeout: float | None = None) -> None:
        """Stop a supervisor with `reason`; its children end with `"shutdown"`, all at once. Mirrors
        `DynamicSupervisor.stop/3`.

        Raises:
            Exit: nobody answers to `supervisor`, or it took longer than `timeout`.
        """
        await GenServer.stop(supervisor, reason, timeout)


class _Default(DynamicSupervisor):
    """The supervisor made from options: its argument is what its `init` returns."""

    def init(self, arg: Any) -> Any:
        return arg


_Default.__name__ = "Default"
_Default.__qualname__ = "DynamicSupervisor.Default"


def _supervise(options: dict[str, Any]) -> DynamicSupervise:
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise TypeError(
            f"unknown option {unknown[0]!r} of a DynamicSupervisor; it may be name or {', '.join(_OPTIONS)}"
        )
    return DynamicSupervise(**options)


def _check_options(options: Any) -> dict[str, Any]:
    if not isinstance(options, dict):
        raise TypeError(
            "expected the options of a DynamicSupervisor as a dict, as in "
            f'(DynamicSupervisor, {{"name": "sessions"}}); got {inspect_term(options)}'
        )
    _supervise({name: value for name, value in options.items() if name != "name"})
    return dict(options)


async def _start_by_options(options: dict[str, Any]) -> Pid | None:
    return await DynamicSupervisor.start_link(**options)


async def _start(cls: type[DynamicSupervisor], arg: Any, name: Any) -> Pid | None:
    pid: Pid | None = await DynamicSupervisorServer.start_link((cls, arg, name), name=name)
    return pid


def _find_fault_but_significant(spec: ChildSpec) -> Any:
    # Elixir looks at none of its combinations, as the end of a child never ends a DynamicSupervisor.
    return find_fault(normalise(spec, significant=False))


def _explain_refused_start(reason: Any) -> StartError:
    refusal = StartError(reason)
    if names_fault(reason):
        refusal.add_note("bad child specification, " + describe_fault(reason))
    return refusal


def _describe_stranger(supervisor: Any, answer: Any) -> TypeError:
    return TypeError(f"expected a DynamicSupervisor, but {supervisor!r} is none: it answered {inspect_term(answer)}")
