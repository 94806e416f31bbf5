"""PartitionSupervisor: the same child several times over, each call routed to one of them by a key.

A server that everybody needs is a bottleneck; several of them, each for some of the keys, are not. What a supervisor of
`partitions` children adds is the name `Via(PartitionSupervisor, (name, key))`, to be used wherever a server is:

| key | partition |
|---|---|
| an int | `abs(key) % partitions` |
| anything else | by its hash: the same key always the same one, as long as this interpreter lives |

Its children have the ids `0, 1, ...` and are supervised as `strategy`, `max_restarts` and `max_seconds` say. A
partition that is being restarted has no process: a call to it fails with `"noproc"`, as to any server.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Any, Final, NoReturn

from otplib import process
from otplib.behaviours.children import start_process
from otplib.behaviours.gen_server import GenServer
from otplib.behaviours.registry_table import exact_key
from otplib.behaviours.supervisor import Supervise, Supervisor
from otplib.core.child_spec import Child, ChildSpec, normalise
from otplib.core.copying import recopied
from otplib.core.errors import Exit
from otplib.core.inspection import inspect_term
from otplib.core.restarts import Strategy
from otplib.core.terms import Global, Pid, Via
from otplib.vm.machine import Machine
from otplib.vm.shell import current_machine, current_record

__all__ = ["PartitionSupervisor"]

#: Under this name a machine's `services` hold what there is of each partition supervisor, by its pid.
SERVICE: Final = "partition_supervisors"

_OPTIONS: Final = (
    "child_spec",
    "name",
    "partitions",
    "strategy",
    "max_restarts",
    "max_seconds",
    "with_arguments",
)


class PartitionSupervisor:
    """Starts one child several times, and finds the one for a key. Mirrors Elixir's `PartitionSupervisor`.

    Example:
        >>> from otplib import Ok, Reply, run
        >>> class Counter(GenServer):
        ...     def init(self, start): return Ok(start)
        ...     def handle_call(self, request, caller, count): return Reply(count, count + 1)
        >>> async def main():
        ...     await PartitionSupervisor.start_link(child_spec=(Counter, 0), name="counters", partitions=2)
        ...     return [await GenServer.call(PartitionSupervisor.via("counters", key), "next") for key in (0, 2, 1)]
        >>> run(main)
        [0, 1, 0]
    """

    @staticmethod
    async def start_link(
        *,
        child_spec: Any,
        name: str | Global | Via,
        partitions: int | None = None,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5,
        with_arguments: Callable[[list[Any], int], list[Any]] | None = None,
    ) -> Pid:
        """Start the children and their supervisor, linked to the caller; gives its pid. Mirrors
        `PartitionSupervisor.start_link/1`.

        Args:
            child_spec: a class, `(Class, arg)` or a `ChildSpec`; its id does not matter.
            name: by which the partitions are found.
            partitions: how many; as many as there are processors if None.
            strategy, max_restarts, max_seconds: as for `Supervise`.
            with_arguments: gives the arguments of a partition's start function: `with_arguments(arguments, partition)`.

        Raises:
            StartError: a child did not start, or the name is taken.
            TypeError, ValueError: says which option is wrong.
        """
        spec = normalise(child_spec)
        count = (os.cpu_count() or 1) if partitions is None else partitions
        _check_options({"child_spec": spec, "name": name, "partitions": count, "with_arguments": with_arguments})
        children = []
        for index in range(count):
            function, args = spec.start
            if with_arguments is not None:
                args = tuple(with_arguments(list(args or ()), index))
            start = (_start_partition, (index, function, recopied(tuple(args or ()))))
            children.append(normalise(spec, id=index, start=start, modules=spec.modules))
        supervise = Supervise(children, strategy=strategy, max_restarts=max_restarts, max_seconds=max_seconds)
        pid = await _PartitionSupervisor.start_link((count, supervise), name=name)
        assert pid is not None
        return pid

    @staticmethod
    def child_spec(options: dict[str, Any]) -> ChildSpec:
        """Give the specification of a partition supervisor, `options` being what `start_link` takes; its id is its
        name. Mirrors `PartitionSupervisor.child_spec/1`.

        Example:
            >>> PartitionSupervisor.child_spec({"child_spec": ChildSpec("w", (print, ())), "name": "workers"}).id
            'workers'
        """
        if not isinstance(options, dict):
            raise TypeError(
                "expected the options of a PartitionSupervisor as a dict, as in (PartitionSupervisor, "
                f'{{"child_spec": Worker, "name": "workers"}}); got {inspect_term(options)}'
            )
        _check_options(options)
        start = (_start_by_options, (dict(options),))
        return ChildSpec(options["name"], start, type="supervisor", modules=[PartitionSupervisor])

    # ---- asking ----------------------------------------------------------------------------------------------

    @staticmethod
    def partitions(name: Any) -> int:
        """Give the number of partitions. Mirrors `PartitionSupervisor.partitions/1`; a plain call.

        Raises:
            Exit: `("noproc", ...)`, there is no such supervisor.
        """
        return len(_find_partitions(current_machine(), name))

    @staticmethod
    async def which_children(name: Any) -> list[Child]:
        """Give the children, last one first. Mirrors `PartitionSupervisor.which_children/1`."""
        return await Supervisor.which_children(name)

    @staticmethod
    async def count_children(name: Any) -> dict[str, int]:
        """Count specs, active children, supervisors and workers. Mirrors `PartitionSupervisor.count_children/1`."""
        return await Supervisor.count_children(name)

    @staticmethod
    async def stop(name: Any, reason: Any = "normal", timeout: float | None = None) -> None:
        """Stop it and its children. Mirrors `PartitionSupervisor.stop/3`.

        Raises:
            Exit: nobody answers to the name, or it took longer than `timeout`.
        """
        await GenServer.stop(name, reason, timeout)

    # ---- names -----------------------------------------------------------------------------------------------

    @staticmethod
    def via(name: Any, key: Any) -> Via:
        """Give the name that stands for the partition of a key: `{:via, PartitionSupervisor, {name, key}}`.

        Example:
            >>> PartitionSupervisor.via("counters", 7).key
            ('counters', 7)
        """
        return Via(PartitionSupervisor, (name, key))

    @staticmethod
    def whereis_name(name: tuple[Any, Any]) -> Pid | None:
        """Do as `Via` wants: give the process of the partition of a key.

        Raises:
            Exit: `("noproc", ...)`, there is no such supervisor.
        """
        if not (isinstance(name, tuple) and len(name) == 2):
            raise TypeError(f"expected Via(PartitionSupervisor, (name, key)); got {inspect_term(name)}")
        partitions = _find_partitions(current_machine(), name[0])
        return partitions[_choose(name[1], len(partitions))]

    @staticmethod
    def register_name(name: tuple[Any, Any], pid: Pid) -> NoReturn:
        """Refuse: partitions are found by this name, and named by their supervisor alone.

        Raises:
            ValueError: always.
        """
        raise ValueError("Via(PartitionSupervisor, ...) cannot be given on registration: it finds what there is")

    @staticmethod
    def unregister_name(name: tuple[Any, Any]) -> NoReturn:
        """Refuse, as `register_name` does.

        Raises:
            ValueError: always.
        """
        raise ValueError("Via(PartitionSupervisor, ...) cannot be given on unregistration: it finds what there is")


def _choose(key: Any, count: int) -> int:
    if type(key) is int:
        return abs(key) % count
    if isinstance(key, str):  # its own hash differs from one interpreter to the next, and tests want none of that
        return zlib.crc32(key.encode("utf-8", "surrogatepass")) % count
    return hash(exact_key(key)) % count


def _find_partitions(machine: Machine, name: Any) -> list[Pid | None]:
    supervisor = name if isinstance(name, Pid) else process.whereis(name)
    found: list[Pid | None] | None = machine.services.get(SERVICE, {}).get(supervisor)
    if found is None:
        raise Exit(("noproc", ("PartitionSupervisor", "partitions", [name])))
    return found


# ---- its process -----------------------------------------------------------------------------------------------------


class _PartitionSupervisor(Supervisor):
    """The supervisor; which process each partition has is known as long as it lives."""

    def init(self, arg: Any) -> Any:
        count, supervise = arg
        record = current_record()
        known = record.machine.services.setdefault(SERVICE, {})
        known[record.pid] = [None] * count
        record.on_exit = lambda reason, result: known.pop(record.pid, None)
        return supervise


async def _start_partition(index: int, function: Any, args: tuple[Any, ...]) -> Pid | None:
    """Start a child, in the supervisor, and note its process; an ended one stays noted: it is found dead."""
    pid = await start_process(ChildSpec(index, (function, args)))
    record = current_record()
    record.machine.services[SERVICE][record.pid][index] = pid
    return pid


async def _start_by_options(options: dict[str, Any]) -> Pid:
    return await PartitionSupervisor.start_link(**options)


def _check_options(options: dict[str, Any]) -> None:
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise TypeError(
            f"unknown option {unknown[0]!r} of a PartitionSupervisor; it may be one of {', '.join(_OPTIONS)}"
        )
    for wanted in ("name", "child_spec"):
        if options.get(wanted) is None:
            raise TypeError(f"the {wanted}= option must be given to PartitionSupervisor")
    partitions = options.get("partitions")
    if partitions is not None and (type(partitions) is not int or partitions < 1):
        raise ValueError(f"the partitions= option must be a positive int, got: {inspect_term(partitions)}")
    change = options.get("with_arguments")
    if change is not None and not callable(change):
        raise TypeError(
            "the with_arguments= option must be a function that takes the arguments and the partition, got: "
            f"{inspect_term(change)}"
        )
