"""What a registry knows: who is registered under which key. Plain dicts, read by anybody at any time without a call.

Whoever registers writes its own entry, under the machine's lock, and is linked to a partition of the registry, a
process that takes the entries away when it hears of the end. That may be a moment later, so every reader passes over
the entries of the dead: who has heard of a death finds no entry of it any more.

Races, told in order.
* *Registering against the holder's death.* The holder is doomed, or dead, before its entries are taken away; who comes
  in between takes the key over, and the partition later takes away only what is still the dead one's.
* *Registering against one's own death.* Entry and link are made in one hold of the lock; a process that dies after that
  breaks the link, so the partition hears of it, and one that was dead before enters nothing.
* *Registering against the partition's death.* A partition that is doomed counts as gone: the key is refused, as there
  would be nobody to clean up. The registry's supervisor then starts all partitions anew, empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Number
from typing import Any, Final

from otplib.core.copying import copied
from otplib.core.errors import NameTakenError, NoSuchNameError
from otplib.core.inspection import inspect_term
from otplib.core.terms import Pid
from otplib.vm.machine import Machine
from otplib.vm.process_record import ProcessRecord, Status

#: Under this name a machine's `services` hold its registries, by their names.
REGISTRIES: Final = "registries"


class KeyTakenError(NameTakenError):
    """`Registry.register` refused: another process, or this one, has the key; `pid` tells who."""

    def __init__(self, text: str, pid: Pid) -> None:
        super().__init__(text)
        self.pid = pid


class Entry:
    """One registration. Equal to itself only."""

    __slots__ = ("exact", "key", "pid", "record", "value")

    def __init__(self, record: ProcessRecord, key: Any, exact: Any, value: Any) -> None:
        self.record = record
        self.pid = record.pid
        self.key = key
        #: The key as the dicts know it, see `exact_key`.
        self.exact = exact
        self.value = value

    def is_alive(self) -> bool:
        """Tell whether its process lives and no fatal signal has reached it."""
        return self.record.doom is None and self.record.state is not Status.DEAD


class Shard:
    """What one partition looks after. Written with the machine's lock held, read without."""

    __slots__ = ("buckets", "entries", "owned", "owner")

    def __init__(self) -> None:
        #: The partition's process; None until it has started.
        self.owner: ProcessRecord | None = None
        self.clear()

    def clear(self) -> None:
        """Forget everything; new dicts, as somebody may be reading the old ones."""
        #: Of a registry with unique keys: the entry of a key.
        self.entries: dict[Any, Entry] = {}
        #: Of one with duplicate keys: the entries of a key, oldest first; no empty bucket.
        self.buckets: dict[Any, dict[Entry, None]] = {}
        #: The entries of the processes that this partition is linked to, oldest first; no empty list.
        self.owned: dict[Pid, list[Entry]] = {}


class Table:
    """One registry. As an object with `register_name`, `unregister_name` and `whereis_name` it is what `Via` wants."""

    def __init__(
        self, machine: Machine, name: str, *, unique: bool, partitions: int, listeners: tuple[str, ...]
    ) -> None:
        self.machine = machine
        self.name = name
        self.unique = unique
        self.listeners = listeners
        self.meta: dict[Any, Any] = {}
        self.shards = [Shard() for _ in range(partitions)]
        #: The shard with all keys, if there is but one and a key is one process's: `lookup` is quicker.
        self.only = self.shards[0] if unique and partitions == 1 else None

    # ---- reading ---------------------------------------------------------------------------------------------

    def find(self, key: Any) -> Entry | None:
        """Give the living entry of a unique key."""
        exact = exact_key(key)
        entry = self._shard_of(exact).entries.get(exact)
        return entry if entry is not None and entry.is_alive() else None

    def entries_of(self, key: Any) -> list[list[Entry]]:
        """Give the living entries of a key, a list for each partition that has any."""
        if self.unique:
            entry = self.find(key)
            return [] if entry is None else [[entry]]
        exact = exact_key(key)
        found = ([one for one in list(shard.buckets.get(exact, ())) if one.is_alive()] for shard in self.shards)
        return [entries for entries in found if entries]

    def owned_by(self, pid: Pid) -> list[Entry]:
        """Give the living entries of a process, oldest first."""
        return [entry for entry in list(self._shard_of(pid).owned.get(pid, ())) if entry.is_alive()]

    def all_entries(self) -> Iterator[Entry]:
        """Give every living entry."""
        for shard in self.shards:
            for entries in list(shard.owned.values()):
                yield from [entry for entry in list(entries) if entry.is_alive()]

    # ---- writing ---------------------------------------------------------------------------------------------

    def register(self, record: ProcessRecord, key: Any, value: Any) -> Pid:
        """Enter a process, and link it to the partition that looks after it; gives the partition's pid.

        Raises:
            KeyTakenError: somebody has the unique key.
            NoSuchNameError: the registry is being restarted.
            CopyError, TypeError: key or value cannot be kept.
        """
        key, value = copied(key), copied(value)
        exact = exact_key(key)
        machine = self.machine
        with machine.lock:
            shard = self._shard_of(record.pid)
            owner = shard.owner
            if owner is None or not machine.alive(owner):
                raise NoSuchNameError(f"the registry {self.name!r} is being restarted: try again")
            entry = Entry(record, key, exact, value)
            if self.unique:
                self._take_key(entry)
            elif record.state is not Status.DEAD:
                shard.buckets.setdefault(exact, {})[entry] = None
            if record.state is not Status.DEAD:
                shard.owned.setdefault(record.pid, []).append(entry)
                machine.link(record, owner)
        self._tell("register", key, record.pid, value)
        return owner.pid

    def _take_key(self, entry: Entry) -> None:
        entries = self._shard_of(entry.exact).entries
        holder = entries.get(entry.exact)
        if holder is not None and holder.is_alive():
            raise KeyTakenError(
                f"could not register {entry.pid!r} as {inspect_term(entry.key)} in the registry {self.name!r}: the key "
                f"is taken by {holder.pid!r}",
                holder.pid,
            )
        if entry.record.state is not Status.DEAD:
            entries[entry.exact] = entry

    def unregister(self, record: ProcessRecord, key: Any, fits: Callable[[Any], bool] | None = None) -> None:
        """Take away what a process has registered under a key, all or those whose value fits; none is fine.

        A process with no entry left is unlinked from its partition, so it no longer dies with the registry.
        """
        exact = exact_key(key)
        shard = self._shard_of(record.pid)
        with self.machine.lock:
            owned = shard.owned.get(record.pid, [])
            gone = [entry for entry in owned if entry.exact == exact and (fits is None or fits(entry.value))]
            for entry in gone:
                owned.remove(entry)
                self._remove(entry, shard)
            if gone and not owned:
                del shard.owned[record.pid]
                if shard.owner is not None:
                    self.machine.unlink(record, shard.owner.pid)
        for _ in gone:
            self._tell("unregister", key, record.pid)

    def bury(self, shard: Shard, pid: Pid) -> None:
        """Take away what a dead process has left. Listeners are not told, as in Elixir: they may monitor it."""
        with self.machine.lock:
            for entry in shard.owned.pop(pid, ()):
                self._remove(entry, shard)

    def _remove(self, entry: Entry, shard: Shard) -> None:
        if self.unique:
            entries = self._shard_of(entry.exact).entries
            if entries.get(entry.exact) is entry:
                del entries[entry.exact]
            return
        bucket = shard.buckets.get(entry.exact)
        if bucket is not None:
            bucket.pop(entry, None)
            if not bucket:
                del shard.buckets[entry.exact]

    def update(self, record: ProcessRecord, key: Any, change: Callable[[Any], Any]) -> tuple[Any, Any]:
        """Replace the value of a process's own unique key; gives the new and the old one.

        Raises:
            NoSuchNameError: the process does not have this key.
        """
        entry = self.find(key)
        if entry is None or entry.record is not record:
            raise NoSuchNameError(f"{record.pid!r} has not registered {inspect_term(key)} in {self.name!r}")
        old = entry.value
        entry.value = copied(change(copied(old)))
        return copied(entry.value), old

    def _tell(self, *event: Any) -> None:
        word, *what = event
        for name in self.listeners:
            listener = self.machine.names.get(name)
            if listener is not None:
                self.machine.deliver(listener, copied((word, self.name, *what)))

    def _shard_of(self, what: Any) -> Shard:
        shards = self.shards
        return shards[0] if len(shards) == 1 else shards[hash(what) % len(shards)]

    # ---- for `Via` -------------------------------------------------------------------------------------------

    def register_name(self, key: Any, pid: Pid, value: Any = None) -> bool:
        """Give the running process a name; False if somebody has it."""
        self._check_via()
        record = self.machine.find(pid)
        if record is None:
            return False
        try:
            self.register(record, key, value)
        except KeyTakenError:
            return False
        return True

    def unregister_name(self, key: Any) -> None:
        """Take a name of whoever has it back."""
        entry = self.find(key)
        if entry is not None:
            self.unregister(entry.record, key)

    def whereis_name(self, key: Any) -> Pid | None:
        """Give who has a name."""
        self._check_via()
        entry = self.find(key)
        return None if entry is None else entry.pid

    def _check_via(self) -> None:
        if not self.unique:
            raise ValueError(
                f"the registry {self.name!r} has duplicate keys, and a name is one process's: "
                'start one with keys="unique" for Via names'
            )


def exact_key(key: Any) -> Any:
    """Give what stands for a key in a dict, so that `1`, `1.0` and `True` are three keys, as on the BEAM.

    Raises:
        TypeError: the key can change.

    Example:
        >>> exact_key(("room", 1)) == exact_key(("room", 1.0)), exact_key("k")
        (False, 'k')
    """
    kind = type(key)
    if kind is str or kind is int or kind is Pid:
        return key
    if kind is tuple:
        parts = tuple(map(exact_key, key))
        return key if all(part is item for part, item in zip(parts, key, strict=True)) else (tuple, *parts)
    if isinstance(key, Number):
        return (kind, key)
    try:
        hash(key)
    except TypeError:
        raise TypeError(
            f"expected a key that cannot change, such as a str or a tuple of them; got {inspect_term(key)}"
        ) from None
    return key


def find_table(machine: Machine, name: Any) -> Table:
    """Give the registry of a name.

    Raises:
        NoSuchNameError: there is none.
        TypeError: not a name.
    """
    if type(name) is not str and not isinstance(name, str):
        raise TypeError(
            f'expected the name of a registry, as in Registry.lookup("rooms", key); got {inspect_term(name)}'
        )
    table: Table | None = machine.services.get(REGISTRIES, {}).get(name)
    if table is None:
        raise NoSuchNameError(
            f'unknown registry: {name!r}. Start it with await Registry.start_link(keys="unique", name={name!r})'
        )
    return table
