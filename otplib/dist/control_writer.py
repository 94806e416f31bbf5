"""Signals to packets: the frame's length, the control tuple, and the payload behind it.

The control tuple of most signals depends on their sender and receiver alone, and on the number of a reference at its
end; the bytes before that are kept.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

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
    build_control,
)
from otplib.dist.etf_encode import Encoder
from otplib.dist.flags import DFlag
from otplib.dist.framing import packet_frame

#: How many beginnings are kept; full, the table starts again.
MAX_KNOWN: Final = 2_048
#: The bytes of a reference's number, its last ones, if it has the usual three words.
_NUMBER: Final = 12


class _Kept(NamedTuple):
    """A signal whose control tuples are kept: where it has a reference that ends the tuple, its payload, its token."""

    ref: int | None
    payload: int | None
    token: int | None


_KEPT: Final[dict[type[Any], _Kept]] = {
    Send: _Kept(None, 2, 3),
    RegSend: _Kept(None, 2, 3),
    AliasSend: _Kept(1, 2, 3),
    MonitorP: _Kept(2, None, None),
    DemonitorP: _Kept(2, None, None),
    MonitorPExit: _Kept(2, 3, None),
}


class ControlWriter:
    r"""Writes the packets of one connection. Any thread may, also several at once.

    Args:
        encoder: the connection's.
        flags: what both sides are able to do.

    Example:
        >>> from otplib.core.terms import Pid
        >>> from otplib.dist.flags import CLAIMED
        >>> writer = ControlWriter(Encoder(), CLAIMED)
        >>> packet = writer.write(Send(Pid("a@h", 1, 0, 1), Pid("b@h", 2, 0, 1), "hi"))
        >>> packet[:11], packet[-8:]
        (b'\x00\x00\x002p\x83h\x03a\x16X', b'\x83m\x00\x00\x00\x02hi')
    """

    __slots__ = ("_encoder", "_flags", "_kept", "_known")

    def __init__(self, encoder: Encoder, flags: DFlag) -> None:
        self._encoder = encoder
        self._flags = flags
        self._kept = dict(_KEPT)
        if not flags & DFlag.EXIT_PAYLOAD:
            del self._kept[MonitorPExit]  # the reason stands in the control tuple
        #: From what a control tuple depends on to the packet's bytes before the payload, or before the number.
        self._known: dict[tuple[Any, ...], bytes] = {}

    def write(self, message: ControlMessage) -> bytes:
        """Give the packet, with its length in front.

        Raises:
            CopyError: (a `TypeError`) it holds something that cannot be sent to this peer.
            NodeError: this peer does not know such a signal.
            ValueError: the packet is longer than its length can say.
        """
        kept = self._kept.get(type(message))
        if kept is None:
            return self._write_anew(message)
        fields: tuple[Any, ...] = message
        if kept.token is not None and fields[kept.token] is not None:
            return self._write_anew(message)
        if kept.ref is None:
            key = (type(message), *fields[:2])
            head = self._known.get(key) or self._learn(key, message, 0)
        else:
            ref: Ref = fields[kept.ref]
            key = (type(message), *fields[: kept.ref], ref.home, ref.creation)
            try:
                number = ref.id.to_bytes(_NUMBER)
            except OverflowError:  # one of another number of words
                return self._write_anew(message)
            head = (self._known.get(key) or self._learn(key, message, _NUMBER)) + number
        if kept.payload is None:
            return packet_frame(head)
        return packet_frame(head, *self._encoder.pieces(fields[kept.payload]))

    def _write_anew(self, message: ControlMessage) -> bytes:
        pieces = self._encoder.pieces
        control, payload = build_control(message, self._flags)
        if payload is NO_PAYLOAD:
            return packet_frame(PASS_THROUGH, *pieces(control))
        return packet_frame(PASS_THROUGH, *pieces(control), *pieces(payload))

    def _learn(self, key: tuple[Any, ...], message: ControlMessage, number: int) -> bytes:
        head = PASS_THROUGH + self._encoder.encode(build_control(message, self._flags)[0])
        head = head[: len(head) - number]
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[key] = head
        return head
