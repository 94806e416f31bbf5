"""Terms of a BEAM that Python has no type for: kept as they came, usable as keys, sent back intact.

| here | on a BEAM |
|---|---|
| `ImproperList` | `[alias | ref]`, a list whose tail is no list |
| `BitString` | `<<5::3>>`, bits that do not fill their last byte |
| `Port` | `#Port<0.6>` |
| `Export` | `&Mod.fun/1` |
| `Fun` | an anonymous function; it can be handed back, not called |
| `FrozenMap` | a map that no dict can be: as a key of a map, or with keys that Python calls equal (`1` and `1.0`) |
| `FrozenList` | a list as the key of a map |
| `Sealed` | no BEAM term: a Python object of another Python node that was not opened here |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from otplib.core.inspection import inspect_term
from otplib.core.terms import Atom, Pid, Ref


class _Opaque:
    """Equality by value and type, hash by value, copies that are the thing itself.

    Nothing assigns to the fields after `__init__`, as with `Pid`: a guard would cost more than the decoding.
    """

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = ()

    def _key(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self._fields])

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, _Opaque) and type(self) is type(other) and self._key() == other._key()
        )

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._key()))

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return type(self), self._key()


class ImproperList(_Opaque):
    """A list that ends in something else than a list: Erlang's `[a, b | tail]`.

    Raises:
        TypeError: `tail` is a list, so the whole is an ordinary one.
        ValueError: there is nothing before the tail.

    Example:
        >>> ImproperList([Atom("alias")], 7)
        [:alias | 7]
    """

    __slots__ = ("items", "tail")
    _fields = ("items", "tail")

    items: tuple[Any, ...]
    tail: Any

    def __init__(self, items: Iterable[Any], tail: Any) -> None:
        if isinstance(tail, list | FrozenList):
            raise TypeError(f"a list whose tail is a list is an ordinary one: [*items, *{tail!r}]")
        self.items = tuple(items)
        self.tail = tail
        if not self.items:
            raise ValueError("an improper list has at least one item before its tail")

    def __repr__(self) -> str:
        return f"[{', '.join(map(inspect_term, self.items))} | {inspect_term(self.tail)}]"


class BitString(_Opaque):
    r"""Bits that do not fill their last byte, of which the upper `bits` (1 to 7) count: Elixir's `<<5::3>>`.

    Example:
        >>> BitString(b"\xff\xa0", 3), len(BitString(b"\xff\xa0", 3))
        (<<255, 5::size(3)>>, 11)
        >>> BitString(b"\xbf", 3) == BitString(b"\xa0", 3)  # what lies beyond the last bit is nothing
        True
    """

    __slots__ = ("bits", "data")
    _fields = ("data", "bits")

    data: bytes
    bits: int

    def __init__(self, data: bytes, bits: int) -> None:
        if not 1 <= bits <= 7 or not data:
            raise ValueError(f"expected bytes and 1 to 7 bits of the last one, got {data!r} and {bits!r}")
        self.data = data[:-1] + bytes([data[-1] & (0xFF << (8 - bits)) & 0xFF])
        self.bits = bits

    def __len__(self) -> int:
        return (len(self.data) - 1) * 8 + self.bits

    def __repr__(self) -> str:
        last = f"{self.data[-1] >> (8 - self.bits)}::size({self.bits})"
        return f"<<{', '.join([*map(str, self.data[:-1]), last])}>>"


class Port(_Opaque):
    """A port of a BEAM.

    Example:
        >>> Port("foo@host", 6, 1)
        #Port<foo@host.6>
    """

    __slots__ = ("creation", "id", "node")
    _fields = ("node", "id", "creation")

    node: str
    id: int
    creation: int

    def __init__(self, node: str, id: int, creation: int) -> None:
        self.node = node
        self.id = id
        self.creation = creation

    def __repr__(self) -> str:
        return f"#Port<{self.node}.{self.id}>"


class Export(_Opaque):
    """A function of a module by its name: Elixir's `&Mod.fun/arity`.

    Example:
        >>> Export("lists", "reverse", 1), Export("Elixir.String", "upcase", 1)
        (&:lists.reverse/1, &String.upcase/1)
    """

    __slots__ = ("arity", "function", "module")
    _fields = ("module", "function", "arity")

    module: str
    function: str
    arity: int

    def __init__(self, module: str, function: str, arity: int) -> None:
        self.module = module
        self.function = function
        self.arity = arity

    def __repr__(self) -> str:
        return f"&{_module_text(self.module)}.{self.function}/{self.arity}"


class Fun(_Opaque):
    """An anonymous function of a BEAM. Only the node that has its module can call it; `wire` is what came.

    Example:
        >>> Fun("Elixir.H", 0, 112659149, 1, b"...")
        #Function<0.112659149/1 in H>
    """

    __slots__ = ("arity", "index", "module", "uniq", "wire")
    _fields = ("module", "index", "uniq", "arity", "wire")

    module: str
    index: int
    uniq: int
    #: None in the form that OTP wrote before R5.
    arity: int | None
    wire: bytes

    def __init__(self, module: str, index: int, uniq: int, arity: int | None, wire: bytes) -> None:
        self.module = module
        self.index = index
        self.uniq = uniq
        self.arity = arity
        self.wire = wire

    def __repr__(self) -> str:
        arity = "" if self.arity is None else f"/{self.arity}"
        return f"#Function<{self.index}.{self.uniq}{arity} in {_module_text(self.module)}>"


class FrozenList(_Opaque):
    """A list that is a key in a map; it equals no tuple, as on a BEAM, but a list of the same items.

    Example:
        >>> key = FrozenList([1, 2])
        >>> key == [1, 2], key == (1, 2), list(key)
        (True, False, [1, 2])
    """

    __slots__ = ("items",)
    _fields = ("items",)

    items: tuple[Any, ...]

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = tuple(items)

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, FrozenList) and self.items == other.items) or (
            isinstance(other, list) and list(self.items) == other
        )

    __hash__ = _Opaque.__hash__

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return inspect_term(list(self.items))


class FrozenMap(_Opaque):
    """A map that no dict can be: the key of another map, or with keys that differ on a BEAM alone.

    A BEAM tells `1` from `1.0`, `true` from `1` and `:a` from `"a"`; a dict does not, so a map with both is given as
    its pairs. The order of the pairs is no part of its value.

    Example:
        >>> mixed = FrozenMap([(1, "whole"), (1.0, "float")])
        >>> mixed.get(1), mixed.get(1.0), mixed.get(2)
        ('whole', 'float', None)
        >>> mixed == FrozenMap([(1.0, "float"), (1, "whole")])
        True
    """

    __slots__ = ("_exact", "_form", "is_frozen", "pairs")
    _fields = ("pairs",)

    pairs: tuple[tuple[Any, Any], ...]
    #: Its values are hashable too, so it may be a key.
    is_frozen: bool

    def __init__(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        self.pairs = tuple(pairs)
        self.is_frozen = False
        self._form: frozenset[Any] | None = None
        self._exact = {exact_key(key): value for key, value in self.pairs}
        if len(self._exact) != len(self.pairs):
            raise ValueError("the same key twice")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrozenMap) and self._exact == other._exact

    def __hash__(self) -> int:
        return hash(self.form())

    def form(self) -> frozenset[Any]:
        """Give what two maps have in common exactly if a BEAM calls them equal.

        Made once, and a frozenset keeps its hash: maps as keys of maps as keys would else be gone through again and
        again.
        """
        if self._form is None:
            self._form = frozenset([(key, exact_key(value)) for key, value in self._exact.items()])
        return self._form

    def __len__(self) -> int:
        return len(self.pairs)

    def get(self, key: Any, default: Any = None) -> Any:
        """Give the value of exactly this key, as `Map.get/3`."""
        return self._exact.get(exact_key(key), default)

    def __repr__(self) -> str:
        return f"FrozenMap({list(self.pairs)!r})"


class Sealed(_Opaque):
    """A Python object of another Python node that was not opened: unpickling is off here, or it failed (`why`).

    It stands in the message in place of the object, and goes back to a Python node intact.
    """

    __slots__ = ("data", "why")
    _fields = ("data", "why")

    data: bytes
    why: str

    def __init__(self, data: bytes, why: str) -> None:
        self.data = data
        self.why = why

    def __repr__(self) -> str:
        return f"#Sealed<{len(self.data)} bytes: {self.why}>"


def _module_text(module: str) -> str:
    return module.removeprefix("Elixir.") if module.startswith("Elixir.") else f":{module!s}"


def freeze(term: Any) -> Any:
    """Give a term as the key of a dict: its lists and maps become `FrozenList` and `FrozenMap`.

    Example:
        >>> freeze(("a", [1, {"b": 2}]))
        ('a', [1, FrozenMap([('b', 2)])])
    """
    kind = type(term)
    if kind is list:
        return FrozenList(map(freeze, term))
    if kind is tuple:
        return tuple(map(freeze, term))
    if kind is dict:
        return _freeze_pairs(term.items())
    if kind is ImproperList:
        return ImproperList(map(freeze, term.items), freeze(term.tail))
    if kind is FrozenMap and not term.is_frozen:
        return _freeze_pairs(term.pairs)
    return term


def _freeze_pairs(pairs: Iterable[tuple[Any, Any]]) -> FrozenMap:
    frozen = FrozenMap([(key, freeze(value)) for key, value in pairs])
    frozen.is_frozen = True
    return frozen


def exact_key(term: Any) -> Any:
    """Give something that is equal for two terms exactly if a BEAM calls them equal (`===`).

    Example:
        >>> 1 == 1.0 == True, exact_key(1) == exact_key(1.0), exact_key(1) == exact_key(True)
        (True, False, False)
    """
    kind = type(term)
    if kind in (tuple, FrozenList, list):
        return (kind is tuple, tuple(map(exact_key, term)))
    if kind is FrozenMap:
        return (dict, term.form())
    if kind is dict:
        return (dict, frozenset([(exact_key(key), exact_key(value)) for key, value in term.items()]))
    if kind is ImproperList:
        return (kind, tuple(map(exact_key, term.items)), exact_key(term.tail))
    if kind is float:
        return (kind, term.hex())  # 0.0 and -0.0 are two terms since OTP 27
    if isinstance(term, Pid | Ref):
        return (Pid if isinstance(term, Pid) else Ref, term)  # an alias is a reference
    return (Atom if isinstance(term, Atom) else kind, term)
