"""Bytes to terms: one loop over the input with a stack of its own, so depth costs no Python frames.

A slice past the end of the input is short, not an error, so the loop does not check each length: whatever was cut
leaves the position behind the end, where the next read, or the last comparison, finds it.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from math import isfinite
from operator import itemgetter
from typing import Any, Final, TypeAlias

from otplib.core.errors import DecodeError
from otplib.core.terms import NO_NODE, Pid, Ref
from otplib.dist import etf_objects
from otplib.dist import etf_tags as tags
from otplib.dist.etf_pieces import (
    ATOMS,
    NAMES,
    Bounded,
    big_at,
    close_list,
    close_map,
    end_of_atom,
    name_at,
    read_numbers,
)
from otplib.dist.etf_rows import read_rows
from otplib.dist.etf_tags import Here
from otplib.dist.etf_terms import BitString, Export, Fun, Port

_u16: Final = struct.Struct(">H").unpack_from
_u32: Final = struct.Struct(">I").unpack_from
_i32: Final = struct.Struct(">i").unpack_from
_f64: Final = struct.Struct(">d").unpack_from
_ids: Final = struct.Struct(">III").unpack_from
_ref_tail: Final = struct.Struct(">IIQ").unpack_from
#: How nearly every pid begins: a node's name in the spelling of today follows, and three words.
_USUAL_PID: Final = bytes([tags.NEW_PID, tags.SMALL_ATOM_UTF8])
#: How nearly every reference begins: three words, then a node's name in the spelling of today.
_USUAL_REFERENCE: Final = bytes([tags.NEWER_REFERENCE, 0, 3, tags.SMALL_ATOM_UTF8])
_FLOAT_TEXT: Final = re.compile(rb"[+-]?\d+\.\d+(?:[eE][+-]?\d+)?\Z")

#: A fun inside a fun costs this much depth, as it takes Python frames.
_FUN_DEPTH: Final = 10

# Shapes of what is being filled: its tag, or one of these.
_WHOLE: Final = 0
#: A list that has all its items and waits for a tail that is not the empty list.
_TAIL: Final = 1
#: A list of more items than this is looked at for numbers of one kind, which are read in one go.
_MANY: Final = 8


class Decoder:
    """Reads terms of one peer; a connection keeps one.

    `python_peer` is said of an authenticated Python node: its private forms are read. Python objects are opened only
    with `allow_pickle` on top, and stand as `Sealed` otherwise. `here` turns this node's own pids and references into
    the machine's. `names` is where a function looks up names that it did not bring (`__main__`, if None).
    """

    def __init__(
        self,
        *,
        python_peer: bool = False,
        allow_pickle: bool = False,
        here: Here | None = None,
        names: Mapping[str, Any] | None = None,
        max_size: int = tags.MAX_SIZE,
        max_depth: int = tags.MAX_DEPTH,
    ) -> None:
        self.python_peer = python_peer
        self.allow_pickle = allow_pickle
        self.here = here
        self.names = names
        self.max_size = max_size
        self.max_depth = max_depth
        self._pids = Bounded(self._parse_pid)
        self._lists = 0

    def decode(self, data: bytes | bytearray | memoryview) -> Any:
        """Read the one term that `data` is."""
        data = bytes(data)
        term, end = self.decode_prefix(data)
        if end != len(data):
            raise DecodeError(f"{len(data) - end} bytes follow the term")
        return term

    def decode_prefix(self, data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[Any, int]:
        """Read the term that starts at `offset`: it, and where the next one would start."""
        data = bytes(data)
        if not 0 <= offset < len(data):
            raise DecodeError("no term: the input is empty")
        if len(data) - offset > self.max_size:
            raise DecodeError(f"a term of {len(data) - offset} bytes; {self.max_size} are allowed")
        if data[offset] != tags.VERSION:
            raise DecodeError(f"a term starts with {tags.VERSION}, got {data[offset]}")
        try:
            if data[offset + 1] == tags.COMPRESSED:
                return self._read_compressed(data, offset + 2)
            term, end = self._read(data, offset + 1, self.max_depth)
        except (IndexError, struct.error):
            raise DecodeError("the input ends in the middle of a term") from None
        except UnicodeDecodeError as error:
            raise DecodeError(f"an atom that is no UTF-8: {error.object[:40]!r}") from None
        except RecursionError:
            raise DecodeError("a term nested too deep to be a key") from None
        finally:
            self._lists = 0
        if end > len(data):
            raise DecodeError("the input ends in the middle of a term")
        return term, end

    # ---- the loop -------------------------------------------------------------------------------------------------

    def _read(self, data: bytes, i: int, room: int) -> tuple[Any, int]:
        """Read one term, at most `room` deep. The commonest tags stand here, the rest in `_OTHERS`."""
        atoms, u32, i32 = ATOMS, _u32, _i32
        stack: list[tuple[int, list[Any], Iterator[None]]] = []
        shape = _WHOLE
        items: list[Any] = []
        turns: Iterator[None] = repeat(None, 1)
        while True:
            for _ in turns:
                tag = data[i]
                if tag == _SMALL_ATOM_UTF8:
                    end = i + 2 + data[i + 1]
                    items.append(atoms[data[i:end]])
                    i = end
                elif tag == _BINARY:
                    end = i + 5 + u32(data, i + 1)[0]
                    try:
                        items.append(data[i + 5 : end].decode())
                    except UnicodeDecodeError:
                        items.append(data[i + 5 : end])
                    i = end
                elif tag == _SMALL_INTEGER:
                    items.append(data[i + 1])
                    i += 2
                elif tag == _INTEGER:
                    items.append(i32(data, i + 1)[0])
                    i += 5
                elif tag == _SMALL_TUPLE:
                    count = data[i + 1]
                    i += 2
                    break
                elif tag in _WIDE:
                    count = u32(data, i + 1)[0] << (tag == _MAP)  # keys and values
                    i += 5
                    break
                else:
                    value, i = _OTHERS[tag](self, data, i, room - len(stack))
                    items.append(value)
            else:
                if shape == _LIST:
                    if data[i] != _NIL:
                        shape, turns = _TAIL, repeat(None, 1)
                        continue
                    i += 1
                    value = items
                else:
                    value = _CLOSERS[shape](items)
                if not stack:
                    return value, i
                shape, items, turns = stack.pop()
                items.append(value)
                continue
            stack.append((shape, items, turns))
            if len(stack) > room:
                raise DecodeError(f"a term nested deeper than {self.max_depth}")
            shape, items = tag, []
            if count > _MANY and tag == _LIST:
                i, count = self._read_table(data, i, count, items, room - len(stack))
            turns = repeat(None, count)

    def _read_table(self, data: bytes, i: int, count: int, items: list[Any], room: int) -> tuple[int, int]:
        """Read what can be read in a faster way of the items of a long list: where it ends, and how many are left."""
        if data[i] in _NUMBERS:
            return read_numbers(data, i, count, items, self.python_peer)
        if data[i] in _ROWS and room > 1:
            others = _OTHERS
            return read_rows(
                data,
                i,
                count,
                items,
                lambda at: self._read(data, at, 0),
                lambda at: others[data[at]](self, data, at, 0),
            )
        return i, count

    def _read_compressed(self, data: bytes, i: int) -> tuple[Any, int]:
        size = _u32(data, i)[0]
        if size > min(self.max_size, tags.MAX_EXPANDED):
            raise DecodeError(f"a compressed term of {size} bytes is larger than allowed")
        unpacker = zlib.decompressobj()
        try:
            # One byte more than promised, so that a larger one shows without being expanded.
            expanded = unpacker.decompress(data[i + 4 :], size + 1)
        except zlib.error as error:
            raise DecodeError(f"a compressed term that does not expand: {error}") from None
        if len(expanded) != size or not unpacker.eof:
            raise DecodeError("a compressed term of another size than it says")
        term, end = self._read(expanded, 0, self.max_depth)
        if end != size:
            raise DecodeError("a compressed term of another size than it says")
        return term, len(data) - len(unpacker.unused_data)

    # ---- numbers --------------------------------------------------------------------------------------------------

    def _read_small_big(self, data: bytes, i: int, room: int) -> tuple[int, int]:
        return big_at(data, i + 2, data[i + 1])

    def _read_large_big(self, data: bytes, i: int, room: int) -> tuple[int, int]:
        return big_at(data, i + 5, _u32(data, i + 1)[0])

    def _read_new_float(self, data: bytes, i: int, room: int) -> tuple[float, int]:
        value = _f64(data, i + 1)[0]
        if not isfinite(value) and not self.python_peer:
            raise DecodeError(f"a float that no BEAM has: {value!r}")
        return value, i + 9

    def _read_float(self, data: bytes, i: int, room: int) -> tuple[float, int]:
        end = i + 32
        text = data[i + 1 : end].rstrip(b"\0")
        if not _FLOAT_TEXT.match(text):
            raise DecodeError(f"a float that is none: {text!r}")
        value = float(text)
        if not isfinite(value):
            raise DecodeError(f"a float that is too large: {text!r}")
        return value, end

    # ---- atoms, lists, bits ---------------------------------------------------------------------------------------

    def _read_atom(self, data: bytes, i: int, room: int) -> tuple[Any, int]:
        end = end_of_atom(data, i)
        return ATOMS[data[i:end]], end

    def _read_nil(self, data: bytes, i: int, room: int) -> tuple[list[Any], int]:
        self._lists += 1
        if self._lists > tags.MAX_LISTS:
            raise DecodeError(f"more than {tags.MAX_LISTS} lists in one term")
        return [], i + 1

    def _read_string(self, data: bytes, i: int, room: int) -> tuple[list[int], int]:
        end = i + 3 + _u16(data, i + 1)[0]
        return list(data[i + 3 : end]), end

    def _read_bits(self, data: bytes, i: int, room: int) -> tuple[Any, int]:
        end = i + 6 + _u32(data, i + 1)[0]
        bits = data[i + 5]
        content = data[i + 6 : end]
        if end > len(data):
            raise IndexError  # before it is unpickled
        if bits == tags.BITS_OF_BYTES or (bits == 0 and not content):
            return content, end
        if 1 <= bits <= 7 and content:
            return BitString(content, bits), end
        if bits == tags.BITS_OF_PICKLE and self.python_peer:
            return etf_objects.load(content, self.allow_pickle, self._load_identity, self.names), end
        if bits == tags.BITS_OF_TEXT and self.python_peer:
            return content.decode("utf-8", "surrogatepass"), end
        raise DecodeError(f"a bit string of {len(content)} bytes with {bits} bits in the last")

    # ---- identities -----------------------------------------------------------------------------------------------

    def _read_pid(self, data: bytes, i: int, room: int) -> tuple[Pid, int]:
        if data[i : i + 2] == _USUAL_PID:
            end = i + 15 + data[i + 2]
        else:
            end = end_of_atom(data, i + 1) + (12 if data[i] == tags.NEW_PID else 9)
        return self._pids[data[i:end]], end

    def _parse_pid(self, raw: bytes) -> Pid:
        node, i = name_at(raw, 1)
        if raw[0] == tags.NEW_PID:
            number, serial, creation = _ids(raw, i)
        else:
            number, serial, creation = _u32(raw, i)[0], _u32(raw, i + 4)[0], raw[i + 8]
        here = self.here
        if here is not None and node == here.node and creation == here.creation:
            return Pid(NO_NODE, number, serial, here.machine_creation)
        return Pid(node, number, serial, creation)

    def _read_port(self, data: bytes, i: int, room: int) -> tuple[Port, int]:
        node, end = name_at(data, i + 1)
        tag = data[i]
        width = 8 if tag == tags.V4_PORT else 4
        number = int.from_bytes(data[end : end + width])
        end += width
        if tag == tags.PORT:
            return Port(node, number, data[end]), end + 1
        return Port(node, number, _u32(data, end)[0]), end + 4

    def _read_old_reference(self, data: bytes, i: int, room: int) -> tuple[Ref, int]:
        node, end = name_at(data, i + 1)
        return self._make_ref(node, data[end + 4], data[end : end + 4]), end + 5

    def _read_reference(self, data: bytes, i: int, room: int) -> tuple[Ref, int]:
        if data[i : i + 4] == _USUAL_REFERENCE:
            start = i + 5 + data[i + 4]
            creation, high, low = _ref_tail(data, start)
            return self._name_ref(NAMES[data[i + 3 : start]], creation, high << 64 | low), start + 16
        size = 4 * _u16(data, i + 1)[0]
        if not 4 <= size <= 20:
            raise DecodeError(f"a reference of {size // 4} words; 1 to 5 are allowed")
        node, start = name_at(data, i + 3)
        if data[i] == tags.NEWER_REFERENCE:
            creation = _u32(data, start)[0]
            start += 4
        else:
            creation = data[start]
            start += 1
        end = start + size
        words = data[start:end]
        if len(words) != size:
            raise IndexError
        return self._make_ref(node, creation, words), end

    def _make_ref(self, node: str, creation: int, words: bytes) -> Ref:
        number = int.from_bytes(words)
        if len(words) != 12:
            number |= (len(words) // 4) << tags.REF_SHIFT
        return self._name_ref(node, creation, number)

    def _name_ref(self, node: str, creation: int, number: int) -> Ref:
        here = self.here
        if here is not None and node == here.node and creation == here.creation:
            return Ref(NO_NODE, number, here.machine_creation)
        return Ref(node, number, creation)

    def _load_identity(self, raw: bytes) -> Any:
        """Read the pid or reference that an object of another Python node held."""
        return self._read(raw, 0, 1)[0]

    # ---- functions ------------------------------------------------------------------------------------------------

    def _read_export(self, data: bytes, i: int, room: int) -> tuple[Export, int]:
        module, end = name_at(data, i + 1)
        function, end = name_at(data, end)
        if data[end] != tags.SMALL_INTEGER:
            raise DecodeError("a function's arity is a small integer")
        return Export(module, function, data[end + 1]), end + 2

    def _read_new_fun(self, data: bytes, i: int, room: int) -> tuple[Fun, int]:
        size = _u32(data, i + 1)[0]
        arity = data[i + 5]
        index, free = _u32(data, i + 22)[0], _u32(data, i + 26)[0]
        module, end = name_at(data, i + 30)
        _, end = self._read_field(data, end, int, room)
        uniq, end = self._read_field(data, end, int, room)
        _, end = self._read_field(data, end, Pid, room)
        end = self._skip(data, end, free, room)
        if end != i + 1 + size:
            raise DecodeError("a fun of another size than it says")
        return Fun(module, index, uniq, arity, data[i:end]), end

    def _read_old_fun(self, data: bytes, i: int, room: int) -> tuple[Fun, int]:
        free = _u32(data, i + 1)[0]
        _, end = self._read_field(data, i + 5, Pid, room)
        module, end = name_at(data, end)
        index, end = self._read_field(data, end, int, room)
        uniq, end = self._read_field(data, end, int, room)
        end = self._skip(data, end, free, room)
        if end > len(data):
            raise IndexError
        return Fun(module, index, uniq, None, data[i:end]), end

    def _read_field(self, data: bytes, i: int, kind: type, room: int) -> tuple[Any, int]:
        value, end = self._read(data, i, room - _FUN_DEPTH)
        if type(value) is not kind:
            raise DecodeError(f"a fun with {value!r:.40} where its {kind.__name__.lower()} stands")
        return value, end

    def _skip(self, data: bytes, i: int, count: int, room: int) -> int:
        """Check `count` terms; a fun keeps their bytes."""
        if room <= _FUN_DEPTH:
            raise DecodeError(f"a term nested deeper than {self.max_depth}")
        for _ in range(count):
            i = self._read(data, i, room - _FUN_DEPTH)[1]
        return i


# Module globals are read once a turn; an attribute of `tags` would be two look-ups.
_SMALL_ATOM_UTF8: Final = tags.SMALL_ATOM_UTF8
_BINARY: Final = tags.BINARY
_SMALL_INTEGER: Final = tags.SMALL_INTEGER
_INTEGER: Final = tags.INTEGER
_SMALL_TUPLE: Final = tags.SMALL_TUPLE
_LARGE_TUPLE: Final = tags.LARGE_TUPLE
_LIST: Final = tags.LIST
_MAP: Final = tags.MAP
_NIL: Final = tags.NIL
_NUMBERS: Final = (tags.SMALL_INTEGER, tags.INTEGER, tags.NEW_FLOAT)
_ROWS: Final = (_SMALL_TUPLE, _MAP)
_WIDE: Final = (_LIST, _MAP, _LARGE_TUPLE)

_CLOSERS: Final[dict[int, Callable[[list[Any]], Any]]] = {
    _WHOLE: itemgetter(0),
    _SMALL_TUPLE: tuple,
    _LARGE_TUPLE: tuple,
    _TAIL: close_list,
    _MAP: close_map,
}

_Reader: TypeAlias = Callable[[Decoder, bytes, int, int], tuple[Any, int]]


class _Readers(dict[int, _Reader]):
    def __missing__(self, tag: int) -> _Reader:
        if tag == tags.ATOM_CACHE_REF:
            raise DecodeError("a reference to an atom cache, which was not agreed upon")
        if tag == tags.LOCAL:
            raise DecodeError("a term that only the node which wrote it can read")
        raise DecodeError(f"no term has the tag {tag}")


_OTHERS: Final = _Readers(
    {
        tags.NEW_FLOAT: Decoder._read_new_float,
        tags.BIT_BINARY: Decoder._read_bits,
        tags.NEW_PID: Decoder._read_pid,
        tags.NEW_PORT: Decoder._read_port,
        tags.NEWER_REFERENCE: Decoder._read_reference,
        tags.FLOAT: Decoder._read_float,
        tags.ATOM: Decoder._read_atom,
        tags.REFERENCE: Decoder._read_old_reference,
        tags.PORT: Decoder._read_port,
        tags.PID: Decoder._read_pid,
        tags.NIL: Decoder._read_nil,
        tags.STRING: Decoder._read_string,
        tags.SMALL_BIG: Decoder._read_small_big,
        tags.LARGE_BIG: Decoder._read_large_big,
        tags.NEW_FUN: Decoder._read_new_fun,
        tags.EXPORT: Decoder._read_export,
        tags.NEW_REFERENCE: Decoder._read_reference,
        tags.SMALL_ATOM: Decoder._read_atom,
        tags.FUN: Decoder._read_old_fun,
        tags.ATOM_UTF8: Decoder._read_atom,
        tags.V4_PORT: Decoder._read_port,
    }
)
