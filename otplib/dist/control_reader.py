"""Packets to signals: the control tuple, the payload behind it, and nothing after that.

Nearly every packet passes between two processes that have talked before, and its control tuple is the same bytes as
last time, but for the number of a reference at its end. So these bytes are kept with what they mean, and only the
number and the payload are read anew: 3 us instead of 6 for a small message, 1.5 instead of 5 for a monitor.
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
    MonitorPExit,
    RegSend,
    Send,
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


class _Kept(NamedTuple):
    """An operation whose control tuples are kept."""

    type: type[Any]
    #: The place of a reference that ends the tuple; the fields before it are kept, and the payload is the last.
    ref: int | None
    payload: bool


_KEPT: Final[dict[bytes, _Kept]] = {
    b"p\x83h\x03a\x16": _Kept(Send, None, True),
    b"p\x83h\x04a\x06": _Kept(RegSend, None, True),
    b"p\x83h\x03a\x21": _Kept(AliasSend, 1, True),
    b"p\x83h\x04a\x13": _Kept(MonitorP, 2, False),
    b"p\x83h\x04a\x14": _Kept(DemonitorP, 2, False),
    b"p\x83h\x04a\x1c": _Kept(MonitorPExit, 2, True),
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

    __slots__ = ("_decoder", "_known", "_lengths")

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        #: From the bytes of a packet up to what differs to the fields that they are, the last of them perhaps a
        #: reference that has another number.
        self._known: dict[bytes, tuple[Any, ...]] = {}
        #: From a packet's first bytes to where the control tuple of the last one with these ended.
        self._lengths: dict[bytes, int] = {}

    def read(self, packet: bytes) -> ControlMessage:
        """Give the signal that a packet (without its length) is.

        Raises:
            DecodeError: it is none; the connection is to be closed, as nothing behind it can be trusted.
        """
        # No term's bytes are the beginning of another's. So whatever is known and stands at the front of the packet
        # is its control tuple, and the length may be a guess.
        shape = packet[:_SHAPE]
        start = self._lengths.get(shape)
        if start is None:
            return self._read_anew(packet)
        kind, ref, has_payload = _KEPT[shape]
        differs = start if ref is None else start - _NUMBER
        fields = self._known.get(packet[:differs])
        if fields is None or len(packet) < start:
            return self._read_anew(packet)
        if ref is not None:
            usual = fields[ref]
            fields = (*fields[:ref], Ref(usual.home, int.from_bytes(packet[differs:start]), usual.creation))
        end = start
        if has_payload:
            payload, end = self._decoder.decode_prefix(packet, start)
            fields = (*fields, payload)
        if end != len(packet):
            raise DecodeError(f"{len(packet) - end} bytes follow the last term of a packet")
        message: ControlMessage = kind(*fields)
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
        ref, differs = kept.ref, start
        if ref is not None:
            if fields[ref].id >> (8 * _NUMBER):
                return  # one of another number of words
            differs -= _NUMBER
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[packet[:differs]] = fields[: 2 if ref is None else ref + 1]
        self._lengths[shape] = start
