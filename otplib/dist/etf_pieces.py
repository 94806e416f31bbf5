"""The pieces that the decoder puts together: atoms, big integers, lists and maps."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable
from math import isfinite
from typing import Any, Final

from otplib.core.errors import DecodeError
from otplib.core.terms import Atom
from otplib.dist import etf_tags as tags
from otplib.dist.etf_terms import FrozenMap, ImproperList, freeze

_u16: Final = struct.Struct(">H").unpack_from

_SMALL_MAP: Final = 12
#: Maps of more keys and values are checked for keys made to collide. Refused are more such than chance ever gives.
_CHECKED_MAP: Final = 256
_MAX_COLLISIONS: Final = 64
_CACHED: Final = 4096
#: Numbers that are tried at first when a list is looked at for a row of them.
_FIRST_PIECE: Final = 64
_WIDTHS: Final = {tags.SMALL_INTEGER: 2, tags.INTEGER: 5, tags.NEW_FLOAT: 9}


class Bounded(dict[Any, Any]):
    """A table from wire bytes to what they mean, or back, filled on demand; full, it starts again."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: Any) -> Any:
        value = self._make(key)
        if len(self) >= _CACHED:
            self.clear()
        self[key] = value
        return value


def _read_atom_text(raw: bytes) -> str:
    tag = raw[0]
    wide = tag in (tags.ATOM, tags.ATOM_UTF8)
    start = 3 if wide else 2
    if len(raw) != start + (_u16(raw, 1)[0] if wide else raw[1]):
        raise IndexError
    text = raw[start:].decode("utf-8" if tag in (tags.ATOM_UTF8, tags.SMALL_ATOM_UTF8) else "latin-1")
    if len(text) > tags.MAX_ATOM:
        raise DecodeError(f"an atom of {len(text)} characters; {tags.MAX_ATOM} are allowed")
    return text


class _Atoms(dict[bytes, Any]):
    """From an atom's bytes to the atom, or to None, True, False.

    `Atom` interns for ever, so only the first MAX_WIRE_ATOMS go through it; a peer that keeps inventing atoms gets
    equal ones that die with their message. The table is never emptied, so atoms in use stay identical meanwhile.
    """

    _constants: Final = {"nil": None, "true": True, "false": False}

    def __missing__(self, raw: bytes) -> Any:
        text = _read_atom_text(raw)
        if text in self._constants:
            value: Any = self._constants[text]
        elif len(self) < tags.MAX_WIRE_ATOMS:
            value = Atom(text)
        else:
            return str.__new__(Atom, text)
        self[raw] = value
        return value


#: One table for all connections: atoms are the same wherever they come from.
ATOMS: Final = _Atoms()
#: The plain text of atoms that are node names, modules and functions.
NAMES: Final = Bounded(lambda raw: sys.intern(_read_atom_text(raw)))

_WIDE_ATOMS: Final = (tags.ATOM, tags.ATOM_UTF8)
_SMALL_ATOMS: Final = (tags.SMALL_ATOM, tags.SMALL_ATOM_UTF8)


def end_of_atom(data: bytes, i: int) -> int:
    tag = data[i]
    if tag in _SMALL_ATOMS:
        return i + 2 + data[i + 1]
    if tag in _WIDE_ATOMS:
        return i + 3 + int(_u16(data, i + 1)[0])
    raise DecodeError(f"expected an atom at byte {i}, got tag {tag}")


def name_at(data: bytes, i: int) -> tuple[str, int]:
    end = end_of_atom(data, i)
    return NAMES[data[i:end]], end


def big_at(data: bytes, i: int, size: int) -> tuple[int, int]:
    end = i + 1 + size
    value = int.from_bytes(data[i + 1 : end], "little")
    return (-value if data[i] else value), end


def read_numbers(data: bytes, i: int, count: int, items: list[Any], any_float: bool) -> tuple[int, int]:
    """Read into `items` as many of `count` numbers of one width as stand in a row: where they end, and what is left.

    If the byte at the place of every tag is that tag, then all of them are tags, as each fixes where the next stands.
    Rows are tried in pieces that double, so that what is tried in vain is never more than what was read.
    """
    tag, piece = data[i], _FIRST_PIECE
    width = _WIDTHS.get(tag)
    while width is not None and count:
        size = min(count, piece)
        end = i + width * size
        if end > len(data) or data[i:end:width] != bytes([tag]) * size:
            break
        numbers = _read_row(data[i:end], tag, width)
        if tag == tags.NEW_FLOAT and not any_float and not isfinite(sum(numbers)):
            break  # one is no number, or all together are too large
        items += numbers
        i, count, piece = end, count - size, piece * 2
    return i, count


def _read_row(row: bytes, tag: int, width: int) -> list[Any]:
    if tag == tags.SMALL_INTEGER:
        return list(row[1::2])
    raw = bytearray(len(row) // width * (width - 1))
    for place in range(width - 1):
        raw[place :: width - 1] = row[place + 1 :: width]
    values = array("i" if tag == tags.INTEGER else "d", bytes(raw))
    if sys.byteorder == "little":
        values.byteswap()
    return values.tolist()


def close_list(items: list[Any]) -> Any:
    """Make a list of its items and its tail, which stands last."""
    tail = items.pop()
    if type(tail) is list:
        items += tail
        return items
    if not items:
        return tail
    if type(tail) is ImproperList:
        return ImproperList((*items, *tail.items), tail.tail)
    return ImproperList(items, tail)


#: Makers of small dicts, by the number of keys and values, in a third of the time that a loop takes.
_SMALL_MAPS: Final[dict[int, Callable[..., dict[Any, Any]]]] = {
    0: dict,
    2: lambda a, b: {a: b},
    4: lambda a, b, c, d: {a: b, c: d},
    6: lambda a, b, c, d, e, f: {a: b, c: d, e: f},
    8: lambda a, b, c, d, e, f, g, h: {a: b, c: d, e: f, g: h},
    10: lambda a, b, c, d, e, f, g, h, i, j: {a: b, c: d, e: f, g: h, i: j},
    12: lambda a, b, c, d, e, f, g, h, i, j, k, m: {a: b, c: d, e: f, g: h, i: j, k: m},
}


def close_map(flat: list[Any]) -> Any:
    """Make a dict of keys and values in turn, or a FrozenMap where no dict can hold the keys."""
    size = len(flat)
    try:
        if size <= _SMALL_MAP:
            value = _SMALL_MAPS[size](*flat)
        else:
            keys = flat[::2]
            if size > _CHECKED_MAP:
                _check_hashes(keys)
            value = dict(zip(keys, flat[1::2], strict=True))
    except TypeError:
        return _close_frozen([freeze(key) for key in flat[::2]], flat[1::2])
    if len(value) * 2 == size:
        return value
    return _close_frozen(flat[::2], flat[1::2])


def _close_frozen(keys: list[Any], values: list[Any]) -> Any:
    """Make a dict of keys that had lists or maps in them, or a FrozenMap of those that are equal to Python alone."""
    try:
        _check_hashes(keys)
        value = dict(zip(keys, values, strict=True))
        return value if len(value) == len(keys) else FrozenMap(zip(keys, values, strict=True))
    except TypeError:
        raise DecodeError("a map with a key that cannot be one here") from None
    except ValueError:
        raise DecodeError("a map that has the same key twice") from None


def _check_hashes(keys: list[Any]) -> None:
    """Refuse keys that were chosen to collide: a dict of 100,000 such takes minutes to fill."""
    if len(keys) - len(set(map(hash, keys))) > _MAX_COLLISIONS:
        raise DecodeError("a map whose keys were made to collide")
