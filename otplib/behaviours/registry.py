"""Registry: processes found by any key, and many processes found by one. Elixir's `Registry`.

| `keys` | what a key stands for | good for |
|---|---|---|
| `"unique"` | one process | names: `Via(Registry, ("rooms", "kitchen"))` wherever a name is taken |
| `"duplicate"` | any number of registrations, of one process too | topics: publish with `Registry.dispatch` |

All verbs but `start_link` are plain calls and ask no process: a lookup reads a dict. Keys and values are copied on
their way in and values on their way out; a key is a term that cannot change, and `1`, `1.0` and `True` are three keys.
Who registers does it for itself. Its entries end with it: whoever has heard of a process's end, by a `Down` or an exit
message, finds none of its entries, with any verb (Elixir promises that for unique keys).

A registry is a supervisor, which bears its name, of `partitions` processes named `"<name>.PIDPartition<n>"`. Who
registers is linked to one of them until it has no entry left, so a registry that crashes takes with it whoever relies
on it and does not trap exits; entries are lost with a partition, `meta` only with the registry.

**PubSub** needs no more than this:

```python
await Registry.start_link(keys="duplicate", name="news")
Registry.register("news", "sports")                                                      # each subscriber
Registry.dispatch("news", "sports", lambda found: [send(pid, "goal!") for pid, _ in found])  # whoever publishes
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

from otplib import process
from otplib.behaviours.gen_server import GenServer
from otplib.behaviours.registry_table import REGISTRIES, KeyTakenError, Shard, Table, exact_key, find_table
from otplib.behaviours.returns import NoReply, Ok
from otplib.behaviours.supervisor import Supervise, Supervisor
from otplib.core.child_spec import ChildSpec
from otplib.core.copying import copied
from otplib.core.errors import NoSuchNameError
from otplib.core.inspection import inspect_term
from otplib.core.patterns import check_pattern, tester
from otplib.core.reasons import ExitMessage
from otplib.core.terms import Pid, Via
from otplib.vm.process_record import Status
from otplib.vm.shell import current_machine, current_record

__all__ = ["KeyTakenError", "Registry"]

DEAD: Final = Status.DEAD
_ABSENT: Final[Any] = object()
_OPTIONS: Final = ("keys", "name", "partitions", "listeners", "meta")


class Registry:
    """Where processes are found by key. Mirrors Elixir's `Registry`; `registry` is always its name.

    Example:
        >>> from otplib import GenServer, Ok, Reply, run, self_
        >>> class Room(GenServer):
        ...     def init(self, arg): return Ok(arg)
        ...     def handle_call(self, request, caller, state): return Reply(state, state)
        >>> async def main():
        ...     await Registry.start_link(keys="unique", name="rooms")
        ...     kitchen = Registry.via("rooms", "kitchen")
        ...     pid = await Room.start_link("pots", name=kitchen)
        ...     Registry.register("rooms", "hall", "me")
        ...     return (
        ...         await GenServer.call(kitchen, "look"),
        ...         Registry.lookup("rooms", "hall") == [(self_(), "me")],
        ...         process.whereis(kitchen) == pid,
        ...     )
        >>> run(main)
        ('pots', True, True)
    """

    # ---- starting --------------------------------------------------------------------------------------------

    @staticmethod
    async def start_link(
        *,
        keys: Literal["unique", "duplicate"],
        name: str,
        partitions: int = 1,
        listeners: Iterable[str] = (),
        meta: dict[Any, Any] | None = None,
    ) -> Pid:
        """Start a registry linked to the caller; gives the pid of its supervisor. Mirrors `Registry.start_link/1`.

        Args:
            keys: whether a key is one process's, or any number's.
            name: how all verbs call it.
            partitions: how many processes share the clean-up.
            listeners: names of processes that are sent `("register", registry, key, pid, value)` and `("unregister",
                registry, key, pid)`. The end of a process is not told: monitor it.
            meta: what `meta` gives from the start.

        Raises:
            StartError: `("already_started", pid)`.
            TypeError, ValueError: says which option is wrong.
        """
        options = {"keys": keys, "name": name, "partitions": partitions, "listeners": listeners, "meta": meta}
        checked = _check_options(options)
        pid = await _RegistrySupervisor.start_link(checked, name=name)
        assert pid is not None
        return pid

    @staticmethod
    def child_spec(options: dict[str, Any]) -> ChildSpec:
        """Give the specification of a registry, `options` being what `start_link` takes; its id is its name. Mirrors
        `Registry.child_spec/1`.

        Example:
            >>> Registry.child_spec({"keys": "unique", "name": "rooms"}).id
            'rooms'
        """
        if not isinstance(options, dict):
            raise TypeError(
                'expected the options of a registry as a dict, as in (Registry, {"keys": "unique", "name": "rooms"}); '
                f"got {inspect_term(options)}"
            )
        _check_options(options)
        start = (_start_by_options, (dict(options),))
        return ChildSpec(options["name"], start, type="supervisor", modules=[Registry])

    # ---- registering -----------------------------------------------------------------------------------------

    @staticmethod
    def register(registry: str, key: Any, value: Any = None) -> Pid:
        """Register this process under a key; gives the pid of the partition it is linked to now. Mirrors
        `Registry.register/3`.

        Raises:
            KeyTakenError: a unique key is taken; `.pid` tells by whom, this process itself perhaps.
            NoSuchNameError: no such registry.
            TypeError, CopyError: the key can change, or something cannot be copied.
        """
        record = current_record()
        return find_table(record.machine, registry).register(record, key, value)

    @staticmethod
    def unregister(registry: str, key: Any) -> None:
        """Take away all that this process has registered under a key; nothing if there is none. Mirrors
        `Registry.unregister/2`."""
        record = current_record()
        find_table(record.machine, registry).unregister(record, key)

    @staticmethod
    def unregister_match(registry: str, key: Any, pattern: Any) -> None:
        """Take away those of this process's registrations under a key whose value fits. Mirrors
        `Registry.unregister_match/3`; the pattern is one of `receive`'s."""
        record = current_record()
        find_table(record.machine, registry).unregister(record, key, _tester(pattern))

    @staticmethod
    def update_value(registry: str, key: Any, change: Callable[[Any], Any]) -> tuple[Any, Any]:
        """Put `change(value)` in the place of this process's value of a unique key; gives the new and the old one.
        Mirrors `Registry.update_value/3`.

        Raises:
            NoSuchNameError: this process does not have this key.
            ValueError: a registry with duplicate keys.
        """
        record = current_record()
        table = find_table(record.machine, registry)
        if not table.unique:
            raise ValueError(f"Registry.update_value needs unique keys, and {registry!r} has duplicate ones")
        return table.update(record, key, change)

    # ---- looking ---------------------------------------------------------------------------------------------

    @staticmethod
    def lookup(registry: str, key: Any) -> list[tuple[Pid, Any]]:
        """Give who is registered under a key, with its value: a list of `(pid, value)`, oldest first in each partition.
        Mirrors `Registry.lookup/2`.

        Raises:
            NoSuchNameError: no such registry.

        Example:
            >>> from otplib import run
            >>> async def main():
            ...     await Registry.start_link(keys="duplicate", name="colours")
            ...     for colour in ("red", "blue"): Registry.register("colours", "mine", colour)
            ...     return [value for _, value in Registry.lookup("colours", "mine")]
            >>> run(main)
            ['red', 'blue']
        """
        machine = current_machine()
        try:
            table: Table = machine.services["registries"][registry]
        except (KeyError, TypeError):
            table = find_table(machine, registry)
        shard = table.only
        if shard is not None:
            entry = shard.entries.get(key if type(key) is str else exact_key(key))
            if entry is None or entry.record.doom is not None or entry.record.state is DEAD:
                return []
            value = entry.value
            return [(entry.pid, value if value is None else copied(value))]
        return [(entry.pid, copied(entry.value)) for entries in table.entries_of(key) for entry in entries]

    @staticmethod
    def match(registry: str, key: Any, pattern: Any) -> list[tuple[Pid, Any]]:
        """Give those under a key whose value fits a pattern, as `receive` knows them; a predicate does what guards do.
        Mirrors `Registry.match/3,4`.

        Example:
            >>> from otplib import run
            >>> async def main():
            ...     await Registry.start_link(keys="duplicate", name="jobs")
            ...     for job in (("cpu", 2), ("cpu", 9), ("io", 1)): Registry.register("jobs", "all", job)
            ...     return [job for _, job in Registry.match("jobs", "all", ("cpu", lambda load: load > 5))]
            >>> run(main)
            [('cpu', 9)]
        """
        fits = _tester(pattern)
        return [pair for pair in Registry.lookup(registry, key) if fits(pair[1])]

    @staticmethod
    def count_match(registry: str, key: Any, pattern: Any) -> int:
        """Count what `match` would give. Mirrors `Registry.count_match/3,4`."""
        return len(Registry.match(registry, key, pattern))

    @staticmethod
    def select(registry: str, pattern: Any = ...) -> list[tuple[Any, Pid, Any]]:
        """Give all registrations `(key, pid, value)` that fit a pattern. Mirrors `Registry.select/2`, whose bodies a
        comprehension writes.

        Example:
            >>> from otplib import run
            >>> async def main():
            ...     await Registry.start_link(keys="unique", name="ages")
            ...     for name, age in (("ann", 7), ("bob", 40)): Registry.register("ages", name, age)
            ...     return [name for name, _, _ in Registry.select("ages", (str, Pid, lambda age: age < 18))]
            >>> run(main)
            ['ann']
        """
        fits = _tester(pattern)
        entries = find_table(current_machine(), registry).all_entries()
        rows = ((copied(entry.key), entry.pid, copied(entry.value)) for entry in entries)
        return [row for row in rows if fits(row)]

    @staticmethod
    def count_select(registry: str, pattern: Any = ...) -> int:
        """Count what `select` would give. Mirrors `Registry.count_select/2`."""
        return len(Registry.select(registry, pattern))

    @staticmethod
    def count(registry: str) -> int:
        """Count all registrations. Mirrors `Registry.count/1`."""
        return sum(1 for _ in find_table(current_machine(), registry).all_entries())

    @staticmethod
    def keys(registry: str, pid: Pid) -> list[Any]:
        """Give the keys of a process, as often as it is registered under each. Mirrors `Registry.keys/2`."""
        return [copied(entry.key) for entry in find_table(current_machine(), registry).owned_by(pid)]

    @staticmethod
    def values(registry: str, key: Any, pid: Pid) -> list[Any]:
        """Give the values of a process under a key. Mirrors `Registry.values/3`."""
        exact = exact_key(key)
        owned = find_table(current_machine(), registry).owned_by(pid)
        return [copied(entry.value) for entry in owned if entry.exact == exact]

    @staticmethod
    def dispatch(registry: str, key: Any, publish: Callable[[list[tuple[Pid, Any]]], Any]) -> None:
        """Call `publish(entries)`, here and now, with the `(pid, value)` pairs of a key: once for each partition that
        has any.
        Mirrors `Registry.dispatch/3`. Elixir's `parallel: true` is left out: it would have to wait."""
        for entries in find_table(current_machine(), registry).entries_of(key):
            publish([(entry.pid, copied(entry.value)) for entry in entries])

    # ---- metadata --------------------------------------------------------------------------------------------

    @staticmethod
    def meta(registry: str, key: Any, default: Any = _ABSENT) -> Any:
        """Give what the registry itself has under a key. Mirrors `Registry.meta/2`.

        Raises:
            KeyError: nothing, and no `default` was given.
        """
        found = find_table(current_machine(), registry).meta.get(exact_key(key), default)
        if found is _ABSENT:
            raise KeyError(key)
        return copied(found)

    @staticmethod
    def put_meta(registry: str, key: Any, value: Any) -> None:
        """Keep something with the registry itself. Mirrors `Registry.put_meta/3`."""
        find_table(current_machine(), registry).meta[exact_key(copied(key))] = copied(value)

    @staticmethod
    def delete_meta(registry: str, key: Any) -> None:
        """Drop what `put_meta` kept; nothing is fine. Mirrors `Registry.delete_meta/2`."""
        find_table(current_machine(), registry).meta.pop(exact_key(key), None)

    # ---- names -----------------------------------------------------------------------------------------------

    @staticmethod
    def via(registry: str, key: Any, value: Any = _ABSENT) -> Via:
        """Give the name that stands for a key: `{:via, Registry, {registry, key}}`. With a value, that is what is
        registered when a process is started under the name.

        Example:
            >>> Registry.via("rooms", "kitchen").key
            ('rooms', 'kitchen')
        """
        return Via(Registry, (registry, key) if value is _ABSENT else (registry, key, value))

    @staticmethod
    def register_name(name: tuple[Any, ...], pid: Pid) -> bool:
        """Do as `Via` wants: register the running process under `(registry, key)`; False if the key is taken.

        Raises:
            ValueError: duplicate keys, or another process than the running one.
        """
        table, key, value = _take_apart(name)
        if pid != current_record().pid:
            raise ValueError(
                f"a process registers itself in a Registry: {pid!r} must do it, not {current_record().pid!r}"
            )
        return table.register_name(key, pid, value)

    @staticmethod
    def unregister_name(name: tuple[Any, ...]) -> None:
        """Do as `Via` wants: take away the running process's own key."""
        table, key, _ = _take_apart(name)
        table.unregister(current_record(), key)

    @staticmethod
    def whereis_name(name: tuple[Any, ...]) -> Pid | None:
        """Do as `Via` wants: give who has the key."""
        table, key, _ = _take_apart(name)
        return table.whereis_name(key)

    @staticmethod
    def send(name: tuple[Any, ...], message: Any) -> Any:
        """Send to whoever has the unique key of `(registry, key)`; gives the message. Mirrors `Registry.send/2`.

        Raises:
            NoSuchNameError: nobody has it (Elixir: `:badarg`).
        """
        pid = Registry.whereis_name(name)
        if pid is None:
            raise NoSuchNameError(f"send to {inspect_term(name)}: no process has registered this key")
        return process.send(pid, message)


# ---- its processes ---------------------------------------------------------------------------------------------------


class _RegistrySupervisor(Supervisor):
    """The process that bears the registry's name; the table is there as long as it lives."""

    def init(self, arg: Any) -> Any:
        name, unique, partitions, listeners, meta = arg
        record = current_record()
        machine = record.machine
        table = Table(machine, name, unique=unique, partitions=partitions, listeners=listeners)
        table.meta.update((exact_key(key), value) for key, value in meta.items())
        registries = machine.services.setdefault(REGISTRIES, {})
        registries[name] = table

        def forget(reason: Any, result: Any) -> None:
            if registries.get(name) is table:  # by now another may have the name
                del registries[name]

        record.on_exit = forget
        children = [
            ChildSpec(f"{name}.PIDPartition{index}", (_start_partition, (name, index)), modules=[RegistryPartition])
            for index in range(partitions)
        ]
        return Supervise(children, strategy="one_for_all")


async def _start_partition(name: str, index: int) -> Pid | None:
    return await RegistryPartition.start_link((name, index), name=f"{name}.PIDPartition{index}")


class RegistryPartition(GenServer):
    """Hears of the end of those who have registered, and takes their entries away."""

    def init(self, arg: Any) -> Any:
        name, index = arg
        process.flag(trap_exit=True)
        record = current_record()
        table = find_table(record.machine, name)
        shard = table.shards[index]
        with record.machine.lock:
            shard.clear()
            shard.owner = record

        def leave(reason: Any, result: Any) -> None:
            with record.machine.lock:
                if shard.owner is record:
                    shard.owner = None
                    shard.clear()

        record.on_exit = leave
        return Ok(_Cleaner(table, shard))

    def handle_info(self, message: Any, state: Any) -> Any:
        if type(message) is ExitMessage:
            state.table.bury(state.shard, message.pid)
        return NoReply(state)


class _Cleaner:
    """The state of a partition; shown as it is."""

    def __init__(self, table: Table, shard: Shard) -> None:
        self.table = table
        self.shard = shard

    def __deepcopy__(self, memo: Any) -> _Cleaner:
        return self


# ---- checking --------------------------------------------------------------------------------------------------------


async def _start_by_options(options: dict[str, Any]) -> Pid:
    return await Registry.start_link(**options)


def _check_options(options: dict[str, Any]) -> tuple[Any, ...]:
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise TypeError(f"unknown option {unknown[0]!r} of a Registry; it may be one of {', '.join(_OPTIONS)}")
    keys, name = options.get("keys"), options.get("name")
    if keys not in ("unique", "duplicate"):
        raise ValueError(f'expected keys= to be given and be "unique" or "duplicate", got: {inspect_term(keys)}')
    if not isinstance(name, str) or not name:
        raise TypeError(f'expected name= to be given, a str, as in name="rooms"; got {inspect_term(name)}')
    partitions, listeners = options.get("partitions", 1), options.get("listeners", ())
    if type(partitions) is not int or partitions < 1:
        raise ValueError(f"expected partitions= to be a positive int, got: {inspect_term(partitions)}")
    if isinstance(listeners, str) or not isinstance(listeners, Iterable):
        raise TypeError(f"expected listeners= to be a list of names of processes, got: {inspect_term(listeners)}")
    listeners = tuple(listeners)
    if not all(isinstance(one, str) for one in listeners):
        raise TypeError(f"expected listeners= to be a list of names of processes, got: {inspect_term(listeners)}")
    meta = options.get("meta")
    if meta is not None and not isinstance(meta, dict):
        raise TypeError(f"expected meta= to be a dict, got: {inspect_term(meta)}")
    return (name, keys == "unique", partitions, listeners, meta or {})


def _tester(pattern: Any) -> Callable[[Any], bool]:
    check_pattern(pattern)
    return tester((pattern,))


def _take_apart(name: Any) -> tuple[Table, Any, Any]:
    if not (isinstance(name, tuple) and len(name) in (2, 3)):
        raise TypeError(
            f'expected Via(Registry, (registry, key)), as Registry.via("rooms", "hall") gives it; got {name!r}'
        )
    return find_table(current_machine(), name[0]), name[1], name[2] if len(name) == 3 else None
