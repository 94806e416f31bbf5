"""Terms to bytes: one loop over the term with a stack of iterators, so depth costs no Python frames."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Final

from otplib.core.copying import Shared
from otplib.core.errors import CopyError
from otplib.core.inspection import inspect_term
from otplib.core.terms import NO_NODE, Atom, Pid, Ref
from otplib.dist import etf_objects
from otplib.dist import etf_tags as tags
from otplib.dist.etf_pieces import Bounded
from otplib.dist.etf_readable import make_readable
from otplib.dist.etf_tags import Here
from otplib.dist.etf_terms import BitString, Export, FrozenList, FrozenMap, Fun, ImproperList, Port, Sealed

_sized: Final = struct.Struct(">BI").pack
_int32: Final = struct.Struct(">Bi").pack
_float: Final = struct.Struct(">Bd").pack
_bits: Final = struct.Struct(">BIB").pack
_ids: Final = struct.Struct(">III").pack

_SMALL_INTS: Final = tuple(bytes([tags.SMALL_INTEGER, n]) for n in range(256))
_TUPLE_HEADS: Final = tuple(bytes([tags.SMALL_TUPLE, n]) for n in range(256))
_BINARY_HEADS: Final = tuple(_sized(tags.BINARY, n) for n in range(256))
_LIST_HEADS: Final = tuple(_sized(tags.LIST, n) for n in range(256))
_MAP_HEADS: Final = tuple(_sized(tags.MAP, n) for n in range(256))
_NIL: Final = bytes([tags.NIL])
_VERSION: Final = bytes([tags.VERSION])

_CACHED: Final = 8192
#: A list of at least so many numbers of one kind is packed in one go.
_PACKED_LIST: Final = 8
_NUMBERS: Final = (int, float)


#: Stands for the item where its writer does not know it.
_NOWHERE: Final = object()


class _Unsendable(Exception):
    """`item` has no form on this wire."""

    def __init__(self, item: Any, why: str) -> None:
        super().__init__(why)
        self.item = item


class _Atoms(dict[str, bytes]):
    """From an atom to its bytes, filled on demand up to a bound."""

    def __missing__(self, atom: str) -> bytes:
        try:
            text = atom.encode()
        except UnicodeEncodeError:
            raise _Unsendable(atom, "an atom with half a surrogate pair") from None
        if len(atom) > tags.MAX_ATOM:
            raise _Unsendable(atom, f"an atom of {len(atom)} characters, where {tags.MAX_ATOM} are allowed")
        if len(text) < 256:
            raw = bytes([tags.SMALL_ATOM_UTF8, len(text)]) + text
        else:
            raw = bytes([tags.ATOM_UTF8]) + len(text).to_bytes(2) + text
        if len(self) < _CACHED:
            self[atom] = raw
        return raw


_ATOMS: Final = _Atoms()


class _End:
    """Stands after the last item of a list."""


_END: Final = _End()

Writer = Callable[[Any], bytes]


class Encoder:
    """Writes terms for one peer; a connection keeps one.

    `python_peer` is said of an authenticated Python node: `bytes` and objects then arrive as themselves, unless
    `allow_pickle` is off, which sends objects as a BEAM would get them. `here` is this node's name on the wire.
    """

    def __init__(
        self,
        *,
        python_peer: bool = False,
        allow_pickle: bool = True,
        here: Here | None = None,
        max_depth: int = tags.MAX_DEPTH,
    ) -> None:
        self.python_peer = python_peer
        self.here = here
        self.max_depth = max_depth
        self._pickles = python_peer and allow_pickle
        self._writers: dict[type, Writer] = {
            type(None): lambda none: b"w\3nil",
            bool: lambda flag: b"w\4true" if flag else b"w\5false",
            _End: lambda end: _NIL,
            float: self._write_float,
            memoryview: lambda view: self._head_of_bytes(view.nbytes) + view.tobytes(),
            Pid: Bounded(self._write_pid).__getitem__,
            Ref: self._write_ref,
            Port: _write_port,
            BitString: lambda value: _bits(tags.BIT_BINARY, len(value.data), value.bits) + value.data,
            Export: _write_export,
            Fun: lambda fun: fun.wire,
            Sealed: self._write_sealed,
        }
        self._openers: dict[type, Callable[[Any, list[bytes]], Iterator[Any]]] = {
            ImproperList: _open_improper,
            FrozenList: _open_frozen_list,
            FrozenMap: _open_frozen_map,
            Shared: lambda item, out: iter((item.value,)),
        }

    def encode(self, term: Any) -> bytes:
        """Write a term.

        Raises:
            CopyError: (a `TypeError`) it holds something that cannot be sent; the text names the place.
        """
        return b"".join(self.pieces(term))

    def pieces(self, term: Any) -> list[bytes]:
        """Write a term in pieces, as `:erlang.term_to_iovec/1`: a large binary is itself, not a copy, among them.

        Raises:
            CopyError: as `encode`.
        """
        out = [_VERSION]
        try:
            self._write(term, out)
        except _Unsendable as failure:
            place = _find_place(term, failure.item)
            raise CopyError(f"cannot send {place} to another node: {failure}") from failure.__cause__
        return out

    def _write(self, term: Any, out: list[bytes]) -> None:
        append, writers, atoms = out.append, self._writers, _ATOMS
        stack: list[Iterator[Any]] = []
        items: Iterator[Any] = iter((term,))
        while True:
            for item in items:
                kind = type(item)
                if kind is str:
                    try:
                        text = item.encode()
                    except UnicodeEncodeError:
                        append(self._write_odd_text(item))
                        continue
                    size = len(text)
                    append(_BINARY_HEADS[size] if size < 256 else _sized_checked(tags.BINARY, size))
                    append(text)
                elif kind is Atom:
                    append(atoms[item])
                elif kind is int:
                    append(_SMALL_INTS[item] if 0 <= item < 256 else _write_int(item))
                elif kind is tuple:
                    size = len(item)
                    append(_TUPLE_HEADS[size] if size < 256 else _sized_checked(tags.LARGE_TUPLE, size))
                    stack.append(items)
                    items = iter(item)
                    break
                elif kind is dict:
                    size = len(item)
                    append(_MAP_HEADS[size] if size < 256 else _sized_checked(tags.MAP, size))
                    stack.append(items)
                    items = chain.from_iterable(item.items())
                    break
                elif kind is list:
                    size = len(item)
                    if size >= _PACKED_LIST and (packed := _pack_numbers(item)) is not None:
                        append(packed)
                    elif size:
                        append(_LIST_HEADS[size] if size < 256 else _sized_checked(tags.LIST, size))
                        stack.append(items)
                        items = iter([*item, _END])
                        break
                    else:
                        append(_NIL)
                elif kind is bytes:
                    append(self._head_of_bytes(len(item)))
                    append(item)
                elif (writer := writers.get(kind)) is not None:
                    append(writer(item))
                elif (inner := self._open_other(item, out)) is not None:
                    stack.append(items)
                    items = inner
                    break
            else:
                if not stack:
                    return
                items = stack.pop()
                continue
            if len(stack) > self.max_depth:
                raise _Unsendable(term, f"it is nested deeper than {self.max_depth}, or holds itself")

    # ---- what is rare ---------------------------------------------------------------------------------------------

    def _open_other(self, item: Any, out: list[bytes]) -> Iterator[Any] | None:
        """Write the head of what is no plain term and give what comes inside it, or write it whole and give None."""
        opener = self._openers.get(type(item))
        if opener is not None:
            return opener(item, out)
        if isinstance(item, Pid):
            out.append(self._write_pid(item))
        elif isinstance(item, Ref):  # an alias
            self._writers[type(item)] = self._write_ref
            out.append(self._write_ref(item))
        elif self._pickles:
            out.append(self._write_object(item))
        else:
            try:
                return iter((make_readable(item),))
            except LookupError as kind:
                article = "an" if str(kind)[:1].lower() in "aeio" else "a"
                why = f"{article} {kind}; other Python objects than plain terms travel between Python nodes alone"
                raise _Unsendable(item, why) from None
        return None

    def _write_object(self, item: Any) -> bytes:
        try:
            payload = etf_objects.dump(item, self._write_identity)
        except Exception as error:
            text = str(error) if isinstance(error, etf_objects.MissingPackage) else f"{type(error).__name__}: {error}"
            raise _Unsendable(item, f"{type(item).__qualname__} ({text:.200})") from error
        return _bits_checked(payload, tags.BITS_OF_PICKLE)

    def _write_identity(self, item: Any) -> bytes:
        return self._write_pid(item) if isinstance(item, Pid) else self._write_ref(item)

    def _write_sealed(self, item: Sealed) -> bytes:
        if not self.python_peer:
            raise _Unsendable(item, "a Python object that was not opened here, which only a Python node can read")
        return _bits_checked(item.data, tags.BITS_OF_PICKLE)

    def _write_odd_text(self, text: str) -> bytes:
        if not self.python_peer:
            raise _Unsendable(text, "a str with half a surrogate pair, which is no UTF-8")
        return _bits_checked(text.encode("utf-8", "surrogatepass"), tags.BITS_OF_TEXT)

    # ---- leaves ---------------------------------------------------------------------------------------------------

    def _write_float(self, value: float) -> bytes:
        if value - value != 0.0 and not self.python_peer:
            raise _Unsendable(value, f"the float {value!r}, which no BEAM has")
        return _float(tags.NEW_FLOAT, value)

    def _head_of_bytes(self, size: int) -> bytes:
        if not self.python_peer:
            return _sized_checked(tags.BINARY, size)
        return _bits_head(size, tags.BITS_OF_BYTES if size else 0)

    def _write_pid(self, pid: Pid) -> bytes:
        node, creation = pid.home, pid.creation
        here = self.here
        if here is not None and node == NO_NODE and creation == here.machine_creation:
            node, creation = here.node, here.creation
        try:
            return b"X" + _ATOMS[node] + _ids(pid.id, pid.serial, creation)
        except struct.error:
            raise _Unsendable(pid, f"a pid with numbers of more than 32 bits: {pid!r}") from None

    def _write_ref(self, ref: Ref) -> bytes:
        node, creation, number = ref.home, ref.creation, ref.id
        here = self.here
        if here is not None and node == NO_NODE and creation == here.machine_creation:
            node, creation = here.node, here.creation
        try:
            words = 3
            if number >> 96:
                words = number >> tags.REF_SHIFT
                number &= (1 << tags.REF_SHIFT) - 1
            return b"Z\0%c" % words + _ATOMS[node] + creation.to_bytes(4) + number.to_bytes(words * 4)
        except OverflowError:
            raise _Unsendable(ref, f"a reference with too large numbers: {ref!r}") from None


def _sized_checked(tag: int, size: int) -> bytes:
    if size > tags.MAX_SIZE:
        raise _Unsendable(_NOWHERE, f"it is larger than {tags.MAX_SIZE} bytes")
    return _sized(tag, size)


def _bits_head(size: int, bits: int) -> bytes:
    if size > tags.MAX_SIZE:
        raise _Unsendable(_NOWHERE, f"it is larger than {tags.MAX_SIZE} bytes")
    return _bits(tags.BIT_BINARY, size, bits)


def _bits_checked(data: bytes, bits: int) -> bytes:
    return _bits_head(len(data), bits) + data


def _write_int(value: int) -> bytes:
    if -0x80000000 <= value < 0x80000000:
        return _int32(tags.INTEGER, value)
    size = (value.bit_length() + 7) // 8
    content = abs(value).to_bytes(size, "little")
    if size < 256:
        return b"%c%c%c" % (tags.SMALL_BIG, size, value < 0) + content
    return _sized_checked(tags.LARGE_BIG, size) + (b"\1" if value < 0 else b"\0") + content


def _pack_numbers(items: list[Any]) -> bytes | None:
    """Write a list of integers or of floats in one go; None if it holds anything else."""
    kind = type(items[0])
    if kind not in _NUMBERS or set(map(type, items)) != {kind}:
        return None
    size = len(items)
    if kind is float:
        total = sum(items)
        if total - total != 0.0:
            return None  # one of them is no number, or all together are too large
        return _interleave(tags.NEW_FLOAT, array("d", items))
    if size < 65536:
        try:
            return b"%c%b%b" % (tags.STRING, size.to_bytes(2), bytes(items))
        except ValueError:
            pass  # one is no byte
    try:
        return _interleave(tags.INTEGER, array("i", items))
    except OverflowError:
        return None  # one is larger than 32 bits


def _interleave(tag: int, numbers: array[Any]) -> bytes:
    """Write a list of numbers of one width, each behind its tag."""
    if sys.byteorder == "little":
        numbers.byteswap()
    size, width = len(numbers), numbers.itemsize
    raw = numbers.tobytes()
    content = bytearray(bytes([tag])) * (size * (width + 1))
    for place in range(width):
        content[place + 1 :: width + 1] = raw[place::width]
    return b"".join((_sized_checked(tags.LIST, size), content, _NIL))


def _write_port(port: Port) -> bytes:
    node = _ATOMS[port.node]
    try:
        creation = port.creation.to_bytes(4)
        if port.id < 1 << 28:
            return bytes([tags.NEW_PORT]) + node + port.id.to_bytes(4) + creation
        return bytes([tags.V4_PORT]) + node + port.id.to_bytes(8) + creation
    except OverflowError:
        raise _Unsendable(port, f"a port with too large numbers: {port!r}") from None


def _write_export(export: Export) -> bytes:
    if not 0 <= export.arity < 256:
        raise _Unsendable(export, f"a function of {export.arity} arguments")
    return bytes([tags.EXPORT]) + _ATOMS[export.module] + _ATOMS[export.function] + _SMALL_INTS[export.arity]


def _open_improper(item: ImproperList, out: list[bytes]) -> Iterator[Any]:
    out.append(_sized_checked(tags.LIST, len(item.items)))
    return chain(item.items, (item.tail,))


def _open_frozen_list(item: FrozenList, out: list[bytes]) -> Iterator[Any]:
    if not item.items:
        return iter((_END,))
    out.append(_sized_checked(tags.LIST, len(item.items)))
    return iter((*item.items, _END))


def _open_frozen_map(item: FrozenMap, out: list[bytes]) -> Iterator[Any]:
    out.append(_sized_checked(tags.MAP, len(item.pairs)))
    return chain.from_iterable(item.pairs)


def _find_place(term: Any, item: Any) -> str:
    """Tell where in a term an item stands, as `message[1]["lock"]`; only refusals pay for this walk."""
    seen = 0
    waiting: list[tuple[Any, str]] = [(term, "message")]
    while waiting and seen < 100_000:
        one, place = waiting.pop()
        seen += 1
        if one is item:
            return place if len(place) <= 200 else f"{place[:90]} ... {place[-90:]}"
        if isinstance(one, tuple | list):
            waiting += [(each, f"{place}[{index}]") for index, each in enumerate(one)]
        elif isinstance(one, dict):
            for key, value in one.items():
                shown = inspect_term(key)
                waiting += [(value, f"{place}[{shown}]"), (key, f"{place} (the key {shown})")]
    return "message"
