"""Child specifications: what a supervisor must know to start, restart and stop one child.

Two kinds of mistakes are told apart, as in Elixir. A thing that is no child at all (`5`, a class that cannot be
supervised, an unknown override) is a `TypeError` where it was written. A specification with a wrong value in it is
found by the supervisor, which then does not start: `StartError(("start_spec", fault))`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from otplib.core.copying import recopied
from otplib.core.inspection import inspect_term
from otplib.core.terms import Pid

Restart = Literal["permanent", "transient", "temporary"]
Shutdown = float | Literal["brutal_kill", "infinity"]
ChildType = Literal["worker", "supervisor"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]

RESTARTS: Final = ("permanent", "transient", "temporary")
CHILD_TYPES: Final = ("worker", "supervisor")

#: How long a worker may take to stop, in seconds (OTP's 5000 ms).
WORKER_SHUTDOWN: Final = 5.0


class _ByType:
    """The default of `shutdown`: 5.0 for a worker, `"infinity"` for a supervisor."""

    def __repr__(self) -> str:
        return "5.0"


_BY_TYPE: Final[Any] = _ByType()


@dataclass(frozen=True)
class ChildSpec:
    """How to start one child, and when to restart and how to stop it. Mirrors Elixir's child specification map.

    * `id`: any hashable value, the child's name inside its supervisor.
    * `start`: `(callable, args)`. The callable must start a process, link it to the caller, and give (or be awaited
      for) its pid; `None` stands for Elixir's `:ignore`; a `StartError` for `{:error, reason}`.
    * `restart`: `"permanent"` (always), `"transient"` (only after an abnormal end) or `"temporary"` (never).
    * `shutdown`: seconds to wait after `exit(pid, "shutdown")` before the child is killed; `"brutal_kill"` kills at
      once; `"infinity"` (also written `None` or `math.inf`) waits for ever, the default for `type="supervisor"`.
    * `significant`: its end may end the supervisor, see `auto_shutdown`.
    * `modules`: what the child runs, by default the class whose method starts it; or `"dynamic"`.

    Wrong values are found by the supervisor that gets the specification, not here.

    Example:
        >>> spec = ChildSpec("w", (print, ("hello",)), restart="transient")
        >>> spec.shutdown, spec.type, spec.significant
        (5.0, 'worker', False)
        >>> ChildSpec("s", (print, ()), type="supervisor").shutdown
        'infinity'
    """

    id: Any
    start: tuple[Callable[..., Any], tuple[Any, ...] | None]
    restart: Restart = "permanent"
    shutdown: Shutdown | None = _BY_TYPE
    type: ChildType = "worker"
    significant: bool = False
    modules: list[Any] | Literal["dynamic"] | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        if self.shutdown is _BY_TYPE:
            set_field(self, "shutdown", _default_shutdown(self.type))
        elif self.shutdown is None or self.shutdown == float("inf"):
            set_field(self, "shutdown", "infinity")
        start: Any = self.start
        if isinstance(start, list | tuple) and len(start) == 2 and isinstance(start[1], list | tuple):
            set_field(self, "start", (start[0], tuple(start[1])))
        if self.modules is None:
            set_field(self, "modules", _default_modules(self.start))

    def __repr__(self) -> str:
        # As Elixir's map: `id` and `start`, and of the rest what is not as usual.
        usual = {
            "restart": "permanent",
            "shutdown": _default_shutdown(self.type),
            "type": "worker",
            "significant": False,
        }
        shown = [f"id={inspect_term(self.id)}", f"start={_show_start(self.start)}"]
        shown += [
            f"{name}={inspect_term(getattr(self, name))}"
            for name, value in usual.items()
            if getattr(self, name) != value
        ]
        if self.modules != _default_modules(self.start):
            shown.append(f"modules={inspect_term(self.modules)}")
        return f"ChildSpec({', '.join(shown)})"

    def __deepcopy__(self, memo: dict[int, Any]) -> ChildSpec:
        # On its way to the supervisor `shared(...)` arguments keep their wrapper, as every start copies them again.
        modules = list(self.modules) if isinstance(self.modules, list) else self.modules
        return dataclasses.replace(self, id=recopied(self.id), start=recopied(self.start), modules=modules)


class Child(NamedTuple):
    """A row of `Supervisor.which_children`.

    `pid` is `None` for a child that is stopped, `"restarting"` for one whose start failed and will be tried again.
    """

    id: Any
    pid: Pid | Literal["restarting"] | None
    type: ChildType
    modules: list[Any] | Literal["dynamic"] | None


def _default_shutdown(child_type: Any) -> Shutdown:
    return "infinity" if child_type == "supervisor" else WORKER_SHUTDOWN


def _default_modules(start: Any) -> list[Any]:
    if not isinstance(start, tuple) or len(start) != 2:
        return []
    function = start[0]
    owner = getattr(function, "__self__", None)
    if owner is None or type(owner).__name__ == "module":
        return [getattr(function, "__module__", None) or "builtins"]
    return [owner if isinstance(owner, type) else type(owner)]


def _show_start(start: Any) -> str:
    """Give the text of a start as one would write it: `(Server.start_link, (1,))`."""
    if not isinstance(start, tuple) or len(start) != 2:
        return inspect_term(start)
    function, args = start
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__qualname__", None) or inspect_term(function)
    if isinstance(owner, type):  # `__qualname__` names the class that defines it, not the one it was taken from
        name = f"{owner.__qualname__}.{function.__name__}"
    return f"({name}, {inspect_term(args)})"


_NAMES: Final = tuple(field.name for field in dataclasses.fields(ChildSpec))


def normalise(child: Any, **overrides: Any) -> ChildSpec:
    """Make a `ChildSpec` of whatever may stand in a list of children. Mirrors `Supervisor.child_spec/2`.

    `Class` means `Class.child_spec(None)`, `(Class, arg)` means `Class.child_spec(arg)`.

    Raises:
        TypeError: no child, a class that cannot be supervised, or an unknown override.

    Example:
        >>> normalise(ChildSpec("a", (print, ())), id="b").id
        'b'
        >>> normalise(5)
        Traceback (most recent call last):
            ...
        TypeError: supervisors expect each child to be one of the following:
        <BLANKLINE>
          * a class, as in CounterServer
          * a (class, arg) tuple, as in (CounterServer, 0)
          * a ChildSpec with at least id and start, as in ChildSpec("counter", (CounterServer.start_link, (0,)))
        <BLANKLINE>
        Got: 5
    """
    spec = _find_spec(child)
    for name in overrides:
        if name not in _NAMES:
            raise TypeError(f"unknown key {name!r} in child specification override; it may be one of {_join(_NAMES)}")
    if "type" in overrides and spec.shutdown == _default_shutdown(spec.type):
        overrides.setdefault("shutdown", _BY_TYPE)
    if "start" in overrides and spec.modules == _default_modules(spec.start):
        overrides.setdefault("modules", None)
    return dataclasses.replace(spec, **overrides) if overrides else spec


def _find_spec(child: Any) -> ChildSpec:
    if isinstance(child, ChildSpec):
        return child
    if isinstance(child, type):
        return _ask_class(child, None)
    if isinstance(child, tuple) and len(child) == 2 and isinstance(child[0], type):
        return _ask_class(child[0], child[1])
    hint = "\n\nA dict is no child here; write ChildSpec(**that_dict)." if isinstance(child, dict) else ""
    raise TypeError(
        "supervisors expect each child to be one of the following:\n\n"
        "  * a class, as in CounterServer\n"
        "  * a (class, arg) tuple, as in (CounterServer, 0)\n"
        "  * a ChildSpec with at least id and start, as in "
        'ChildSpec("counter", (CounterServer.start_link, (0,)))\n\n'
        f"Got: {inspect_term(child)}{hint}"
    )


def _ask_class(cls: type, arg: Any) -> ChildSpec:
    make = getattr(cls, "child_spec", None)
    if make is None:
        raise TypeError(_explain_missing(cls.__qualname__))
    spec = make(arg)
    if not isinstance(spec, ChildSpec):
        raise TypeError(
            f"{cls.__qualname__}.child_spec must return a ChildSpec, as in "
            f"ChildSpec({cls.__qualname__}, ({cls.__qualname__}.start_link, (arg,))); got {inspect_term(spec)}"
        )
    return spec


def _explain_missing(name: str) -> str:
    return (
        f"The class {name} was given as a child to a supervisor but it does not have child_spec(arg).\n\n"
        "If you own the class, define child_spec as a class method that takes an argument and returns a ChildSpec.\n"
        "For example:\n\n"
        "    @classmethod\n"
        "    def child_spec(cls, arg):\n"
        '        return ChildSpec(id=cls, start=(cls.start_link, (arg,)), type="worker", restart="permanent", '
        "shutdown=0.5)\n\n"
        "Classes made from GenServer or Supervisor have it already.\n\n"
        "If you do not own the class, pass a ChildSpec instead of the class itself:\n\n"
        f"    ChildSpec(id={name}, start=({name}.start_link, (arg1, arg2)))\n"
    )


def id_key(child_id: Hashable) -> Hashable:
    """Give the key under which a supervisor files a child id.

    A class that is defined again (its cell has run twice) is a new object, while on the BEAM a module keeps its name;
    so classes of a module count as the same when their full names do. Two classes made inside functions do not.

    Example:
        >>> id_key("w"), id_key(int)
        ('w', ('class', 'builtins', 'int'))
    """
    if isinstance(child_id, type) and "<locals>" not in child_id.__qualname__:
        return ("class", child_id.__module__, child_id.__qualname__)
    return child_id


def find_fault(spec: ChildSpec, auto_shutdown: AutoShutdown = "never") -> Any:
    """Give what is wrong with a specification as OTP names it, None when nothing is.

    Example:
        >>> find_fault(ChildSpec("w", (print, ()), restart="sometimes"))
        ('invalid_restart_type', 'sometimes')
        >>> find_fault(ChildSpec("w", (print, ()), restart="temporary", significant=True))
        ('bad_combination', [('auto_shutdown', 'never'), ('significant', True)])
    """
    significant: Any = spec.significant
    if not _is_hashable(spec.id):
        return ("invalid_id", spec.id)
    if not _is_start(spec.start):
        return ("invalid_mfa", spec.start)
    if spec.restart not in RESTARTS:
        return ("invalid_restart_type", spec.restart)
    if significant is True and auto_shutdown == "never":
        return ("bad_combination", [("auto_shutdown", "never"), ("significant", True)])
    if significant is True and spec.restart == "permanent":
        return ("bad_combination", [("restart", "permanent"), ("significant", True)])
    if not isinstance(significant, bool):
        return ("invalid_significant", significant)
    if spec.type not in CHILD_TYPES:
        return ("invalid_child_type", spec.type)
    if not _is_shutdown(spec.shutdown):
        return ("invalid_shutdown", spec.shutdown)
    return _find_module_fault(spec.modules)


def find_list_fault(specs: list[ChildSpec], auto_shutdown: AutoShutdown = "never") -> Any:
    """Give what is wrong with a list of children: the first faulty one, or an id that comes twice; else None.

    Example:
        >>> find_list_fault([ChildSpec("w", (print, ())), ChildSpec("w", (print, ()))])
        ('duplicate_child_name', 'w')
    """
    seen: set[Hashable] = set()
    for spec in specs:
        fault = find_fault(spec, auto_shutdown)
        if fault is not None:
            return fault
        key = id_key(spec.id)
        if key in seen:
            return ("duplicate_child_name", spec.id)
        seen.add(key)
    return None


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _is_start(start: Any) -> bool:
    return isinstance(start, tuple) and len(start) == 2 and callable(start[0]) and isinstance(start[1], tuple)


def _is_shutdown(value: Any) -> bool:
    if isinstance(value, str):
        return value in ("brutal_kill", "infinity")
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _find_module_fault(modules: Any) -> Any:
    if modules == "dynamic":
        return None
    if not isinstance(modules, list):
        return ("invalid_modules", modules)
    for one in modules:
        if not isinstance(one, type | str) and type(one).__name__ != "module":
            return ("invalid_module", one)
    return None


def _join(words: tuple[str, ...]) -> str:
    return ", ".join(words[:-1]) + " or " + words[-1]
