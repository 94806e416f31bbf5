"""The terms that Python lacks: atoms, pids, references, and the two kinds of far names.

All are immutable values, go by reference between processes, and can be dictionary keys.
"""

from __future__ import annotations

import re
import sys
from typing import Any, ClassVar, Final, NamedTuple

NO_NODE: Final = "nonode@nohost"

_PID_TEXT = re.compile(r"^(?:#PID)?<(?P<node>[^<>]+)\.(?P<id>\d+)\.(?P<serial>\d+)>$")


class Atom(str):
    """An interned `str` that equals the plain string of the same text.

    Locally tags are plain strings; an atom says that the wire must carry an atom.
    Mirrors Elixir's atoms (`:ok`).

    Example:
        >>> Atom("ok") == "ok", Atom("ok") is Atom("ok"), Atom("ok")
        (True, True, :ok)
    """

    __slots__ = ()

    _interned: ClassVar[dict[str, Atom]] = {}

    def __new__(cls, text: str) -> Atom:
        if not isinstance(text, str):
            raise TypeError(f'Atom takes a str, as in Atom("ok"); got {text!r}')
        known = cls._interned.get(text)
        if known is None:
            # setdefault is one step, so two threads that make the same atom end with the same object.
            known = cls._interned.setdefault(sys.intern(str(text)), super().__new__(cls, text))
        return known

    def __repr__(self) -> str:
        plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_@]*[?!]?", self)
        return f":{self!s}" if plain else f':"{self!s}"'

    def __reduce__(self) -> tuple[type[Atom], tuple[str]]:
        return Atom, (str(self),)

    def __copy__(self) -> Atom:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Atom:
        return self


class _Value:
    """Equality by value, ordering, and copies that are the thing itself.

    Nothing assigns to the fields after `__init__`; a guard would cost 0.3 us on every spawn and call.
    """

    __slots__ = ()

    home: str
    creation: int

    @property
    def node(self) -> str:
        """The name of the node it belongs to; `"nonode@nohost"` while that is none. Mirrors `node/1`."""
        return node_names.get(self.creation, NO_NODE) if self.home == NO_NODE else self.home

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


#: What the machines of this interpreter are called as nodes, by their creation. A node's start and stop change it.
node_names: dict[int, str] = {}


class Pid(_Value):
    """The identity of a process: node, number, serial and the node's creation.

    Pids are compared and ordered by value and are never reused while a machine lives. One that was made here keeps
    no name of a node, so it stays the same when its machine becomes a node, or another one: `node` looks the name up.

    Example:
        >>> Pid("nonode@nohost", 112, 0, 1)
        #PID<0.112.0>
        >>> Pid("foo@host", 112, 0, 1)
        #PID<foo@host.112.0>
    """

    __slots__ = ("creation", "home", "id", "serial")

    #: `"nonode@nohost"` for what was made in this interpreter, else the name of the node it was made on.
    home: str
    id: int
    serial: int
    creation: int

    def __init__(self, node: str, id: int, serial: int, creation: int) -> None:
        self.home = node
        self.id = id
        self.serial = serial
        self.creation = creation

    def _key(self) -> tuple[str, int, int, int]:
        return (self.home, self.serial, self.id, self.creation)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Pid)
            and self.id == other.id
            and self.creation == other.creation
            and self.serial == other.serial
            and self.home == other.home
        )

    def __hash__(self) -> int:
        return hash((self.id, self.creation))

    def __lt__(self, other: Pid) -> bool:
        return self._key() < other._key() if isinstance(other, Pid) else NotImplemented

    def __repr__(self) -> str:
        where = "0" if self.home == NO_NODE else self.home
        return f"#PID<{where}.{self.id}.{self.serial}>"

    def __reduce__(self) -> tuple[type[Pid], tuple[str, int, int, int]]:
        return Pid, (self.home, self.id, self.serial, self.creation)


class Ref(_Value):
    """A unique reference, as `make_ref/0` gives; a process may also use one as its alias.

    Example:
        >>> Ref("nonode@nohost", 7, 1)
        #Reference<0.1.7>
    """

    __slots__ = ("creation", "home", "id")

    #: As a pid's.
    home: str
    id: int
    creation: int

    def __init__(self, node: str, id: int, creation: int) -> None:
        self.home = node
        self.id = id
        self.creation = creation

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Ref)
            and self.id == other.id
            and self.creation == other.creation
            and self.home == other.home
        )

    def __hash__(self) -> int:
        return self.id

    def __lt__(self, other: Ref) -> bool:
        if not isinstance(other, Ref):
            return NotImplemented
        return (self.home, self.creation, self.id) < (other.home, other.creation, other.id)

    def __repr__(self) -> str:
        where = "0" if self.home == NO_NODE else self.home
        return f"#Reference<{where}.{self.creation}.{self.id}>"

    def __reduce__(self) -> tuple[type[Ref], tuple[str, int, int]]:
        return Ref, (self.home, self.id, self.creation)


class Global(NamedTuple):
    """A name that holds on every connected node: Elixir's `{:global, term}`."""

    term: Any


class Via(NamedTuple):
    """A name kept by a registry: Elixir's `{:via, Registry, {registry, key}}`.

    `registry` is anything that offers `register_name(key, pid) -> bool`, `unregister_name(key)` and
    `whereis_name(key) -> Pid | None` (OTP's `:via` contract).
    """

    registry: Any
    key: Any


def parse_pid(text: str) -> tuple[str, int, int]:
    """Take the text of a pid apart: node, number, serial.

    Raises:
        ValueError: the text is no pid.

    Example:
        >>> parse_pid("<0.112.0>"), parse_pid("#PID<foo@host.7.1>")
        (('nonode@nohost', 112, 0), ('foo@host', 7, 1))
    """
    found = _PID_TEXT.match(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f'expected the text of a pid such as "<0.112.0>", got {text!r}')
    node = found["node"]
    return (NO_NODE if node in (None, "0") else node, int(found["id"]), int(found["serial"]))
