"""Lists of like rows, read faster: maps with the same keys, or tuples of one size, that hold no further containers.

Most large messages are such tables. The first row tells what bytes stand before each value; where the next row has the
same bytes in the same places, its keys need not be read. The first row that differs ends it, and the decoder's loop
goes on from there: what is read here is what the loop would have read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from otplib.dist import etf_tags as tags
from otplib.dist.etf_pieces import ATOMS

#: Reads one term: from where, to it and its end.
Reader = Callable[[int], tuple[Any, int]]

_u32: Final = struct.Struct(">I").unpack_from
_i32: Final = struct.Struct(">i").unpack_from
_ROWS: Final = (tags.MAP, tags.SMALL_TUPLE)
_KEYS: Final = (tags.SMALL_ATOM_UTF8, tags.ATOM, tags.BINARY)
#: What a row may not hold. Funs are left to the loop, which knows how deep it stands.
_INNER: Final = frozenset(
    {tags.SMALL_TUPLE, tags.LARGE_TUPLE, tags.LIST, tags.MAP, tags.FUN, tags.NEW_FUN, tags.BIT_BINARY}
)
_MAX_WIDTH: Final = 32
_SMALL_ATOM: Final = tags.SMALL_ATOM_UTF8
_BINARY: Final = tags.BINARY
_SMALL_INTEGER: Final = tags.SMALL_INTEGER
_INTEGER: Final = tags.INTEGER

#: For each value of a row: the bytes in front of it, how many, and its key.
Layout = list[tuple[bytes, int, Any]]


def learn_layout(data: bytes, i: int, read: Reader) -> Layout | None:
    """Look at the row that starts at `i`; None if it is not of the kind that is read here."""
    tag, layout = data[i], []
    if tag == tags.SMALL_TUPLE:
        width, end = data[i + 1], i + 2
    else:
        width, end = _u32(data, i + 1)[0], i + 5
    if not 0 < width <= _MAX_WIDTH:
        return None
    keys, start = set(), i
    for number in range(width):
        key: Any = number
        if tag == tags.MAP:
            if data[end] not in _KEYS:
                return None
            key, end = read(end)
        keys.add(key)
        if end >= len(data) or data[end] in _INNER:
            return None
        layout.append((data[start:end], end - start, key))
        start = end = read(end)[1]
    return layout if len(keys) == width else None


def read_rows(data: bytes, i: int, count: int, rows: list[Any], read: Reader, read_other: Reader) -> tuple[int, int]:
    """Read into `rows` as many of `count` rows as are like the first: where they end, and how many are left.

    `read` reads any term that is no container, `read_other` one whose tag is not dealt with here.
    """
    tag = data[i]
    layout = learn_layout(data, i, read) if tag in _ROWS else None
    if layout is None:
        return i, count
    atoms, begins, size = ATOMS, data.startswith, len(data)
    while count:
        row: dict[Any, Any] = {}
        at = i
        for before, length, key in layout:
            if length:
                if not begins(before, at):
                    return i, count
                at += length
            kind = data[at]
            if kind == _BINARY:
                end = at + 5 + _u32(data, at + 1)[0]
                try:
                    row[key] = data[at + 5 : end].decode()
                except UnicodeDecodeError:
                    row[key] = data[at + 5 : end]
                at = end
            elif kind == _SMALL_ATOM:
                end = at + 2 + data[at + 1]
                row[key] = atoms[data[at:end]]
                at = end
            elif kind == _SMALL_INTEGER:
                row[key] = data[at + 1]
                at += 2
            elif kind == _INTEGER:
                row[key] = _i32(data, at + 1)[0]
                at += 5
            elif kind in _INNER:
                return i, count
            else:
                row[key], at = read_other(at)
        if at > size:
            return i, count  # the loop finds what is cut
        rows.append(row if tag == tags.MAP else tuple(row.values()))
        i = at
        count -= 1
    return i, count
