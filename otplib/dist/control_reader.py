"""Packets to signals: the control tuple, the payload behind it, and nothing after that.

Nearly every packet passes between two processes that have talked before, and its control tuple is the same bytes as
last time, but for the number of a reference. So these bytes are kept with what they mean, and only the number and the
payload are read anew: 3 us instead of 6 for a small message, 1.5 instead of 5 for a monitor.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from otplib.core.errors import DecodeError
from otplib.core.terms import Ref
from otplib.dist.control import (
    NO_PAYLOAD,
    PASS_THROUGH,
    AliasSend,
    ControlMessage,
    DemonitorP,
    MonitorP,
    RegSend,
    Send,
    SpawnRequest,
    has_payload,
    parse_control,
)
from otplib.dist.etf_decode import Decoder

#: How many control tuples are kept; full, the table starts again.
MAX_KNOWN: Final = 2_048
#: "p", the version, the tuple's tag and arity, the tag and value of its first element: what a packet's shape is.
_SHAPE: Final = 6
#: The bytes of a reference's number, its last ones, if it has the usual three words.
_NUMBER: Final = 12
#: How such a reference begins: its tag, its number of words, the tag of its node's name. That and four bytes follow.
_USUAL_REF: Final = b"Z\0\3w"


class _Kept(NamedTuple):
    """An operation whose control tuples are kept: so many fields, in the order of the class, before the payload."""

    make: type[Any]
    fields: int
    #: The place of a reference that comes with another number each time: the first field of the tuple or the last.
    ref: int | None
    #: What kind of term the payload is.
    payload: type[Any] | None


#: Not among them is what comes once from a process, as its end.
_KEPT: Final[dict[bytes, _Kept]] = {
    b"p\x83h\x03a\x16": _Kept(Send, 2, None, object),
    b"p\x83h\x04a\x06": _Kept(RegSend, 2, None, object),
    b"p\x83h\x03a\x21": _Kept(AliasSend, 2, 1, object),
    b"p\x83h\x04a\x13": _Kept(MonitorP, 3, 2, None),
    b"p\x83h\x04a\x14": _Kept(DemonitorP, 3, 2, None),
    b"p\x83h\x06a\x1d": _Kept(SpawnRequest, 5, 0, list),
}


class ControlReader:
    r"""Reads the packets of one connection.

    Args:
        decoder: the connection's.

    Example:
        >>> from otplib.core.terms import Pid
        >>> from otplib.dist.etf import encode
        >>> reader = ControlReader(Decoder())
        >>> reader.read(b"p" + encode((22, Pid("a@h", 1, 0, 1), Pid("b@h", 2, 0, 1))) + encode("hi"))
        Send(from_pid=#PID<a@h.1.0>, to_pid=#PID<b@h.2.0>, message='hi', token=None)
    """

    __slots__ = ("_decoder", "_known", "_places")

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        #: From where a reference's number stands, and the bytes of a packet before its payload without that number, to
        #: the fields that they are; with the number of the first that came.
        self._known: dict[tuple[int, bytes], tuple[Any, ...]] = {}
        #: From a packet's first bytes to where in the last one with these the number stood and the control tuple ended.
        self._places: dict[bytes, tuple[int, int]] = {}

    def read(self, packet: bytes) -> ControlMessage:
        """Give the signal that a packet (without its length) is.

        Raises:
            DecodeError: it is none; the connection is to be closed, as nothing behind it can be trusted.
        """
        # No term's bytes are the beginning of another's. So whatever is known and stands at the front of the packet
        # is its control tuple, and the places may be a guess.
        shape = packet[:_SHAPE]
        places = self._places.get(shape)
        if places is None:
            return self._read_anew(packet)
        number, start = places
        fields = self._known.get((number, packet[:number] + packet[number + _NUMBER : start]))
        if fields is None or len(packet) < start:
            return self._read_anew(packet)
        make, _, ref, payload_type = _KEPT[shape]
        if ref is not None:
            usual = fields[ref]
            new = Ref(usual.home, int.from_bytes(packet[number : number + _NUMBER]), usual.creation)
            fields = (*fields[:ref], new, *fields[ref + 1 :])
        end = start
        if payload_type is not None:
            payload, end = self._decoder.decode_prefix(packet, start)
            if not isinstance(payload, payload_type):
                return self._read_anew(packet)  # which says what is wrong
            fields = (*fields, payload)
        if end != len(packet):
            raise DecodeError(f"{len(packet) - end} bytes follow the last term of a packet")
        message: ControlMessage = make(*fields)
        return message

    def _read_anew(self, packet: bytes) -> ControlMessage:
        if packet[:1] != PASS_THROUGH:
            raise DecodeError(f"a packet starts with {PASS_THROUGH!r}, got {packet[:1]!r}")
        control, start = self._decoder.decode_prefix(packet, 1)
        payload, end = NO_PAYLOAD, start
        if has_payload(control):
            payload, end = self._decoder.decode_prefix(packet, start)
        if end != len(packet):
            raise DecodeError(f"{len(packet) - end} bytes follow the last term of a packet")
        message = parse_control(control, payload)
        shape = packet[:_SHAPE]
        kept = _KEPT.get(shape)
        if kept is not None:
            self._keep(packet, shape, kept, start, message)
        return message

    def _keep(self, packet: bytes, shape: bytes, kept: _Kept, start: int, fields: tuple[Any, ...]) -> None:
        number = start
        if kept.ref is not None:
            if fields[kept.ref].id >> (8 * _NUMBER):
                return  # one of another number of words
            number = start - _NUMBER
            if kept.ref == 0:
                if not packet.startswith(_USUAL_REF, _SHAPE):
                    return
                name = _SHAPE + len(_USUAL_REF) + 1
                number = name + packet[name - 1] + 4
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[number, packet[:number] + packet[number + _NUMBER : start]] = fields[: kept.fields]
        self._places[shape] = number, start
