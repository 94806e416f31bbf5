"""`Global` names: which process, here or far away, has which name. This machine's replica of them.

A name is *agreed* when it stands in the replica of every connected node, and *claimed* when it was registered here a
moment ago and the other nodes have yet to hear of it. On a machine that is no node there is nobody to agree with.
How nodes agree is told in `otplib.dist.global_server`; here is only the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, NamedTuple

from otplib.core.terms import Pid
from otplib.vm.process_record import ProcessRecord, Status

#: A process of this machine by its record, a far one by its pid.
Holder = ProcessRecord | Pid


class Change(Enum):
    """What a process of this machine has done to a name."""

    REGISTERED = "registered"
    UNREGISTERED = "unregistered"


#: Told what has been done to which name, of which process.
Announce = Callable[[Change, Any, Pid], None]


class Named(NamedTuple):
    """An agreed name."""

    term: Any
    holder: Holder
    #: The function that decides between two processes which both have the name; None: OTP's usual one.
    method: Any

    @property
    def pid(self) -> Pid:
        """The pid of who has it."""
        return self.holder.pid if isinstance(self.holder, ProcessRecord) else self.holder


class _Entry:
    """What there is under one name: one of the two at least, and never one process as both."""

    __slots__ = ("agreed", "claimant", "term")

    def __init__(self, term: Any) -> None:
        self.term = term
        self.agreed: Named | None = None
        self.claimant: ProcessRecord | None = None

    def holders(self) -> Iterator[Holder]:
        if self.agreed is not None:
            yield self.agreed.holder
        if self.claimant is not None:
            yield self.claimant


class GlobalNames:
    """Who has which name; one process may have many. Guarded by the machine's lock.

    Erlang knows more names than Python: `:svc` and `"svc"` are two there, and equal here. So what somebody asks for
    by `Global(term)` is exactly that term if it is a name, else a name that Python calls equal to it; and what is
    equal to a name is taken.
    """

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self._entries: dict[Any, _Entry] = {}
        #: The entries of equal terms, oldest first; the terms that can change are in none of them.
        self._equals: dict[Any, list[_Entry]] = {}
        #: The names of a process; no row without a name.
        self.terms: dict[Holder, list[Any]] = {}
        #: None: we are no node. Called on the threads of the processes that change names, after it is done here.
        self.announce: Announce | None = None

    # ---- for the verbs ---------------------------------------------------------------------------------------

    def find(self, term: Any) -> Holder | None:
        """Give who has a name.

        Raises:
            TypeError: the term cannot be a name, as it can change.
        """
        entry = self._entry_like(_check_term(term))
        if entry is None:
            return None
        agreed = entry.agreed  # read once: this runs beside whatever changes the table
        return agreed.holder if agreed is not None else entry.claimant

    def register(self, term: Any, record: ProcessRecord | None) -> bool:
        """Give a process of this machine a name; False if somebody has it, itself too, or the process is dead."""
        _check_term(term)
        with self._lock:
            if not _is_alive(record) or self._entry_like(term) is not None:
                return False
            assert record is not None
            announce = self.announce
            entry = self._enter(term)
            if announce is None:
                entry.agreed = Named(term, record, None)
            else:
                entry.claimant = record
            self._add_term(record, term)
        if announce is not None:
            announce(Change.REGISTERED, term, record.pid)
        return True

    def unregister(self, term: Any) -> None:
        """Take a name back, if anybody has it."""
        _check_term(term)
        with self._lock:
            entry = self._entry_like(term)
            if entry is None:
                return
            announce = self.announce
            holder = next(entry.holders())
            for other in entry.holders():
                self._drop_term(other, entry.term)
            self._remove(entry)
        if announce is not None:
            announce(Change.UNREGISTERED, entry.term, holder.pid if isinstance(holder, ProcessRecord) else holder)

    def forget(self, holder: Holder) -> None:
        """Free the names of a process that has ended, or gone out of reach. With the lock held."""
        for term in self.terms.pop(holder, ()):
            entry = self._entries[name_key(term)]
            if entry.agreed is not None and entry.agreed.holder == holder:
                entry.agreed = None
            if entry.claimant is holder:
                entry.claimant = None
            if entry.agreed is None and entry.claimant is None:
                self._remove(entry)

    # ---- for whoever agrees with the other nodes -----------------------------------------------------------------

    def agreed(self) -> list[Named]:
        """Give all agreed names."""
        with self._lock:
            return [entry.agreed for entry in self._entries.values() if entry.agreed is not None]

    def is_taken(self, term: Any) -> bool:
        """Tell whether somebody has this name, or one that Python calls equal."""
        return self._entry_like(term) is not None

    def find_agreed(self, term: Any) -> Named | None:
        """Give who has exactly this name, all nodes knowing."""
        entry = self._entries.get(name_key(term))
        return entry.agreed if entry is not None else None

    def find_claimant(self, term: Any) -> ProcessRecord | None:
        """Give who has claimed exactly this name, and not been heard yet."""
        entry = self._entries.get(name_key(term))
        return entry.claimant if entry is not None else None

    def insert(self, term: Any, holder: Holder, method: Any = None) -> Holder | None:
        """Enter what the nodes have agreed on; gives who had the name before. The dead do not get it.

        A claim of the same process is fulfilled by this; one of another stays, for somebody else to decide.
        """
        with self._lock:
            before = self._drop_agreed(term)
            if isinstance(holder, ProcessRecord) and not _is_alive(holder):
                return before
            entry = self._enter(term)
            if entry.claimant is holder:
                entry.claimant = None
            else:
                self._add_term(holder, term)
            entry.agreed = Named(term, holder, method)
            return before

    def delete(self, term: Any) -> Holder | None:
        """Drop what was agreed under exactly this name, not a claim; gives who had it."""
        with self._lock:
            return self._drop_agreed(term)

    def withdraw(self, term: Any, record: ProcessRecord) -> None:
        """Drop a claim that has not been heeded."""
        with self._lock:
            entry = self._entries.get(name_key(term))
            if entry is not None and entry.claimant is record:
                self._drop_term(record, term)
                entry.claimant = None
                if entry.agreed is None:
                    self._remove(entry)

    def drop(self, holder: Holder) -> None:
        """Free the names of a far process that has ended, or cannot be reached."""
        with self._lock:
            self.forget(holder)

    def join(self, announce: Announce) -> None:
        """Be a node that knows no other yet, and have it told from now on what processes here do to names."""
        with self._lock:
            self._keep_own()
            self.announce = announce

    def leave(self, announce: Announce) -> None:
        """Be no node any more; nothing if somebody else has joined since.

        Race: the name server of a node dies; its supervisor hears of it and starts the next, which joins; then what is
        left to do at the first one's end is done, and must not undo that.
        """
        with self._lock:
            if self.announce is announce:
                self._keep_own()
                self.announce = None

    def _keep_own(self) -> None:
        """Far holders are gone, and what was claimed is agreed."""
        for holder in [holder for holder in self.terms if isinstance(holder, Pid)]:
            self.forget(holder)
        for entry in self._entries.values():
            if entry.claimant is not None:
                entry.agreed = Named(entry.term, entry.claimant, None)
                entry.claimant = None

    # ---- the table; what changes it holds the lock ---------------------------------------------------------------

    def _entry_like(self, term: Any) -> _Entry | None:
        entry = self._entries.get(name_key(term))
        if entry is not None:
            return entry
        equals = self._equals.get(term, ()) if _is_hashable(term) else ()
        return next(iter(tuple(equals)), None)

    def _enter(self, term: Any) -> _Entry:
        key = name_key(term)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(term)
            if _is_hashable(term):
                self._equals.setdefault(term, []).append(entry)
        return entry

    def _remove(self, entry: _Entry) -> None:
        del self._entries[name_key(entry.term)]
        if _is_hashable(entry.term):
            equals = self._equals[entry.term]
            equals.remove(entry)
            if not equals:
                del self._equals[entry.term]

    def _drop_agreed(self, term: Any) -> Holder | None:
        entry = self._entries.get(name_key(term))
        if entry is None or entry.agreed is None:
            return None
        before = entry.agreed.holder
        entry.agreed = None
        self._drop_term(before, term)
        if entry.claimant is None:
            self._remove(entry)
        return before

    def _add_term(self, holder: Holder, term: Any) -> None:
        self.terms.setdefault(holder, []).append(term)

    def _drop_term(self, holder: Holder, term: Any) -> None:
        terms = self.terms[holder]
        key = name_key(term)
        del terms[next(index for index, other in enumerate(terms) if name_key(other) == key)]
        if not terms:
            del self.terms[holder]


def name_key(term: Any) -> Any:
    """Give something hashable that is equal for two terms exactly if they are one name on a BEAM.

    Example:
        >>> from otplib.core.terms import Atom
        >>> name_key("svc") == name_key(b"svc"), name_key("svc") == name_key(Atom("svc"))
        (True, False)
        >>> name_key(("room", 1)) == name_key(("room", 1.0)), name_key([1, 2]) == name_key((1, 2))
        (False, False)
    """
    kind = type(term)
    if kind is str:
        return term
    if kind is bytes:  # the same binary
        try:
            return term.decode()
        except UnicodeDecodeError:
            return term
    if isinstance(term, tuple):
        return (tuple, *map(name_key, term))
    if kind is list:
        return (list, *map(name_key, term))
    if kind is dict:
        return (dict, frozenset([(name_key(key), name_key(value)) for key, value in term.items()]))
    return (kind, term if _is_hashable(term) else repr(term))  # an improper list that holds lists, say


def _is_alive(record: ProcessRecord | None) -> bool:
    return record is not None and record.state is not Status.DEAD and record.doom is None


def _is_hashable(term: Any) -> bool:
    try:
        hash(term)
    except TypeError:
        return False
    return True


def _check_term(term: Any) -> Any:
    if not _is_hashable(term):
        raise TypeError(
            f"expected Global(term) with a term that cannot change, such as a str or a tuple of them; got {term!r}"
        )
    return term
