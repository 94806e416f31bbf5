"""Packets to signals: the control tuple, the payload behind it, and nothing after that.

Nearly every packet is a message between two processes that have talked before, and its control tuple is the same bytes
as last time. They are kept with what they mean, so only the payload is read anew: 3 us instead of 7 for a small tuple.
"""

from __future__ import annotations

from typing import Any, Final

from otplib.core.errors import DecodeError
from otplib.dist.control import (
    NO_PAYLOAD,
    PASS_THROUGH,
    ControlMessage,
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
#: The operations whose tuples are kept: {22, From, To} and {6, From, '', Name}.
_KEPT: Final[dict[bytes, type[Any]]] = {b"p\x83h\x03a\x16": Send, b"p\x83h\x04a\x06": RegSend}


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
        #: From the bytes of a packet up to its payload to the signal's first two fields.
        self._known: dict[bytes, tuple[Any, Any]] = {}
        #: From a packet's first bytes to where the payload of the last one with these began.
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
        known = self._known.get(packet[:start])
        if known is None:
            return self._read_anew(packet)
        payload, end = self._decoder.decode_prefix(packet, start)
        if end != len(packet):
            raise DecodeError(f"{len(packet) - end} bytes follow the payload")
        message: ControlMessage = _KEPT[shape](*known, payload)
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
        if shape in _KEPT:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[packet[:start]] = (message[0], message[1])
            self._lengths[shape] = start
        return message
