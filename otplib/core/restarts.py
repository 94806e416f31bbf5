"""What a supervisor decides, as data: (table, policy, restarts so far, who ended and why, now) -> actions.

Nothing here starts or stops anything. `behaviours.supervisor` carries the actions out, one after the other.

| restart type | ends normally (`"normal"`, `"shutdown"`, `("shutdown", x)`) | ends otherwise |
|---|---|---|
| permanent | restarted | restarted |
| transient | its row stays, without a process | restarted |
| temporary | its row goes | its row goes |

| strategy | what a restart touches |
|---|---|
| one_for_one | the row that ended |
| rest_for_one | that row and all started after it |
| one_for_all | every row |

The rows touched are emptied in reverse start order (temporary ones go for good), then filled in start order, rows
that had no process before included. A restart is counted whether it succeeds or not; one more than `max_restarts`
within `max_seconds` ends the supervisor with `"shutdown"`. A start that fails leaves its row marked as restarting and
is tried again as a message of the supervisor to itself, so that other messages get their turn between two attempts.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

from otplib.core.child_spec import AutoShutdown, ChildSpec, find_list_fault, id_key, normalise
from otplib.core.inspection import inspect_term
from otplib.core.reasons import is_quiet
from otplib.core.terms import Pid

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]

STRATEGIES: Final = ("one_for_one", "one_for_all", "rest_for_one")
STRATEGY_WORDS: Final = '"one_for_one", "one_for_all" or "rest_for_one"'
AUTO_SHUTDOWNS: Final = ("never", "any_significant", "all_significant")


@dataclass(frozen=True)
class Policy:
    """How a supervisor reacts: OTP's supervisor flags."""

    strategy: Strategy
    max_restarts: int = 3
    max_seconds: float = 5
    auto_shutdown: AutoShutdown = "never"

    def find_fault(self) -> Any:
        """Give what is wrong with the flags as OTP names it, None when nothing is.

        Example:
            >>> Policy("one_for_two").find_fault()
            ('invalid_strategy', 'one_for_two')
        """
        if self.strategy not in STRATEGIES:
            return ("invalid_strategy", self.strategy)
        if not _is_number(self.max_restarts, int) or self.max_restarts < 0:
            return ("invalid_intensity", self.max_restarts)
        if not _is_number(self.max_seconds, int | float) or not self.max_seconds > 0:
            return ("invalid_period", self.max_seconds)
        if self.auto_shutdown not in AUTO_SHUTDOWNS:
            return ("invalid_auto_shutdown", self.auto_shutdown)
        return None


def _is_number(value: Any, kinds: Any) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


_NO_STRATEGY: Final[Any] = object()


class Supervise:
    """What `init` returns: the children and how to treat them. Mirrors `Supervisor.init/2`.

    Args:
        children: classes, `(Class, arg)` pairs and `ChildSpec`s, started in this order.
        strategy: `"one_for_one"`, `"one_for_all"` or `"rest_for_one"`.
        max_restarts: more than this many restarts within `max_seconds` end the supervisor with `"shutdown"`.
        max_seconds: the length of that window.
        auto_shutdown: `"any_significant"` ends the supervisor with the first significant child that ends for good,
            `"all_significant"` with the last.

    Raises:
        TypeError: no strategy, or something that is no child.
    """

    def __init__(
        self,
        children: Iterable[Any],
        *,
        strategy: Strategy = _NO_STRATEGY,
        max_restarts: int = 3,
        max_seconds: float = 5,
        auto_shutdown: AutoShutdown = "never",
    ) -> None:
        if strategy is _NO_STRATEGY:
            raise TypeError(f"expected strategy= to be given, one of {STRATEGY_WORDS}")
        if isinstance(children, str | bytes | dict | type | ChildSpec) or not isinstance(children, Iterable):
            raise TypeError(
                f"expected a list of children, as in [CounterServer, (CounterServer, 0)]; got {inspect_term(children)}"
            )
        self.children = [normalise(child) for child in children]
        self.policy = Policy(strategy, max_restarts, max_seconds, auto_shutdown)

    def __repr__(self) -> str:
        return f"Supervise({self.children!r}, {self.policy!r})"

    def find_fault(self) -> Any:
        """Give the reason for which a supervisor refuses this, None when it is sound."""
        fault = self.policy.find_fault()
        if fault is not None:
            return ("supervisor_data", fault)
        fault = find_list_fault(self.children, self.policy.auto_shutdown)
        return None if fault is None else ("start_spec", fault)


class Intensity:
    """The restarts of the last seconds: more than `max_restarts` within `max_seconds` is too many.

    Example:
        >>> recent = Intensity(Policy("one_for_one", max_restarts=1, max_seconds=5))
        >>> recent.admit(0.0), recent.admit(5.1), recent.admit(10.1)
        (True, True, False)
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        #: Times of the latest restarts, oldest first; at most `max_restarts + 1`, as one more ends the supervisor.
        self.times: deque[float] = deque()

    def __repr__(self) -> str:
        return f"Intensity({len(self.times)} of {self.policy.max_restarts} in {self.policy.max_seconds} s)"

    def admit(self, now: float) -> bool:
        """Count one restart at `now`; tell whether it is still allowed."""
        self.times.append(now)
        while self.times and now - self.times[0] > self.policy.max_seconds:
            self.times.popleft()
        return len(self.times) <= self.policy.max_restarts


class RowState(Enum):
    """What a row of the table stands for."""

    RUNNING = "running"
    STOPPED = "stopped"
    RESTARTING = "restarting"


@dataclass(eq=False)  # a row is itself only: comparing specifications would compare the users' arguments
class Row:
    """One child: its specification and its process. Invariant: `pid` is set exactly in the state RUNNING."""

    spec: ChildSpec
    pid: Pid | None = None
    state: RowState = RowState.STOPPED


class Table:
    """The children of one supervisor in start order, found by id or by pid.

    Invariant: `_by_pid` holds exactly the rows in the state RUNNING.
    """

    def __init__(self, specs: Iterable[ChildSpec] = ()) -> None:
        self._rows: dict[Any, Row] = {}
        self._by_pid: dict[Pid, Row] = {}
        for spec in specs:
            self.add(spec)

    def __repr__(self) -> str:
        return f"Table({', '.join(f'{row.spec.id!r}: {row.pid or row.state.value}' for row in self)})"

    def __iter__(self) -> Iterator[Row]:
        """In start order."""
        return iter(self._rows.values())

    def __reversed__(self) -> Iterator[Row]:
        return reversed(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def copy(self) -> Table:
        """Give a table of rows of its own, so that this one stays as it is."""
        other = Table()
        for row in self:
            other.add(row.spec, row.pid).state = row.state
        return other

    def find(self, child_id: Any) -> Row | None:
        """Give the row of an id, None when there is none."""
        try:
            return self._rows.get(id_key(child_id))
        except TypeError:  # unhashable, so it cannot be the id of a child
            return None

    def find_pid(self, pid: Pid) -> Row | None:
        """Give the row whose process is `pid`, None when there is none."""
        return self._by_pid.get(pid)

    def add(self, spec: ChildSpec, pid: Pid | None = None) -> Row:
        """Add a row at the end of the start order."""
        row = Row(spec)
        self._rows[id_key(spec.id)] = row
        self.fill(row, pid)
        return row

    def fill(self, row: Row, pid: Pid | None) -> None:
        """Note the process that a row has now; None: it has none (`"ignore"`, stopped)."""
        if row.pid is not None:
            del self._by_pid[row.pid]
        row.pid = pid
        row.state = RowState.STOPPED if pid is None else RowState.RUNNING
        if pid is not None:
            self._by_pid[pid] = row

    def mark_restarting(self, row: Row) -> None:
        """Note that the start of a row failed and will be tried again."""
        self.fill(row, None)
        row.state = RowState.RESTARTING

    def empty(self, row: Row) -> None:
        """Note that a row has no process; the row of a temporary child goes."""
        self.fill(row, None)
        if row.spec.restart == "temporary":
            self.remove(row)

    def remove(self, row: Row) -> None:
        """Take a row away."""
        self.fill(row, None)
        self._rows.pop(id_key(row.spec.id), None)

    def respecify(self, specs: Iterable[ChildSpec]) -> None:
        """Take over new specifications, as OTP's `code_change` does.

        The order is the new one, then the rows that the new list lacks. Processes go on; new rows wait for an order.
        """
        old = self._rows
        self._rows = {}
        for spec in specs:
            key = id_key(spec.id)
            row = old.pop(key) if key in old else Row(spec)
            row.spec = spec
            self._rows[key] = row
        self._rows.update(old)


class Context(Enum):
    """Why a supervisor reports something about a child; the value is the word in the text."""

    STARTED = "started"
    START_ERROR = "failed to start"
    CHILD_TERMINATED = "terminated"
    SHUTDOWN = "caused shutdown"
    SHUTDOWN_ERROR = "shut down abnormally"


@dataclass(frozen=True)
class Report:
    """Write a report about a child."""

    context: Context
    id: Any
    reason: Any


@dataclass(frozen=True)
class Empty:
    """Stop these rows in this order, last started first; rows without a process are only noted as empty."""

    ids: tuple[Any, ...]


@dataclass(frozen=True)
class Start:
    """Start these rows in this order; the first that fails is marked as restarting, and the rest waits."""

    ids: tuple[Any, ...]


@dataclass(frozen=True)
class Keep:
    """The row stays, without a process."""

    id: Any


@dataclass(frozen=True)
class Remove:
    """The row goes."""

    id: Any


@dataclass(frozen=True)
class Shutdown:
    """Stop all children in reverse order and end the supervisor with this reason."""

    reason: Any = "shutdown"


Action = Report | Empty | Start | Keep | Remove | Shutdown


def decide_exit(table: Table, policy: Policy, recent: Intensity, row: Row, reason: Any, now: float) -> list[Action]:
    """Decide what the end of a child with `reason` calls for. `recent` counts the restart, if there is one.

    Example:
        >>> table = Table([ChildSpec("a", (print, ())), ChildSpec("b", (print, ()), restart="temporary")])
        >>> policy = Policy("one_for_one")
        >>> decide_exit(table, policy, Intensity(policy), table.find("b"), "normal", 0.0)
        [Remove(id='b')]
        >>> decide_exit(table, policy, Intensity(policy), table.find("a"), "normal", 0.0)[1:]
        [Start(ids=('a',))]
    """
    child_id, restart = row.spec.id, row.spec.restart
    wanted = restart == "permanent" or (restart == "transient" and not is_quiet(reason))
    actions: list[Action] = []
    if wanted or not is_quiet(reason):
        actions.append(Report(Context.CHILD_TERMINATED, child_id, reason))
    if wanted:
        return actions + decide_retry(table, policy, recent, row, now)
    actions.append(_drop(row))
    if _ends_supervisor(table, policy, row):
        actions.append(Shutdown())
    return actions


def decide_retry(table: Table, policy: Policy, recent: Intensity, row: Row, now: float) -> list[Action]:
    """Decide how a row gets a process again: by the strategy, or not at all when there were too many restarts."""
    child_id = row.spec.id
    if not recent.admit(now):
        return [Report(Context.SHUTDOWN, child_id, "reached_max_restart_intensity"), _drop(row), Shutdown()]
    if policy.strategy == "one_for_one":
        return [Start((child_id,))]
    touched = list(table)
    if policy.strategy == "rest_for_one":
        touched = touched[touched.index(row) :]
    return [
        Empty(tuple(one.spec.id for one in reversed(touched))),
        Start(tuple(one.spec.id for one in touched if one.spec.restart != "temporary")),
    ]


def _drop(row: Row) -> Keep | Remove:
    return Remove(row.spec.id) if row.spec.restart == "temporary" else Keep(row.spec.id)


def _ends_supervisor(table: Table, policy: Policy, ended: Row) -> bool:
    if policy.auto_shutdown == "never" or not ended.spec.significant:
        return False
    if policy.auto_shutdown == "any_significant":
        return True
    return not any(row.spec.significant and row.state is not RowState.STOPPED for row in table if row is not ended)


def is_clean_shutdown(spec: ChildSpec, reason: Any) -> bool:
    """Tell whether a child that was told to stop has ended as it should; otherwise a report is due.

    Example:
        >>> is_clean_shutdown(ChildSpec("w", (print, ())), "shutdown")
        True
        >>> is_clean_shutdown(ChildSpec("w", (print, ())), "killed")
        False
        >>> is_clean_shutdown(ChildSpec("w", (print, ()), shutdown="brutal_kill"), "killed")
        True
    """
    if isinstance(reason, str) and reason == "shutdown":
        # OTP finds fault with a permanent child that chose to say "shutdown" to a brutal kill; nobody else may.
        return spec.shutdown != "brutal_kill" or spec.restart != "permanent"
    if isinstance(reason, str) and reason == "killed" and spec.shutdown == "brutal_kill":
        return True
    return spec.restart != "permanent" and is_quiet(reason)


def seconds_to_wait(shutdown: Any) -> float | None:
    """Give how long a child may take to stop; None for ever, 0 for a child that is killed at once.

    Example:
        >>> seconds_to_wait("infinity"), seconds_to_wait("brutal_kill"), seconds_to_wait(0.5)
        (None, 0.0, 0.5)
    """
    if shutdown == "infinity" or shutdown == math.inf:
        return None
    return 0.0 if shutdown == "brutal_kill" else float(shutdown)
