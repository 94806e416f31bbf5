"""Signals to packets: the frame's length, the control tuple, and the payload behind it.

The control tuple of a message depends on its sender and receiver alone; the bytes for such a pair are kept.
"""

from __future__ import annotations

from typing import Any, Final

from otplib.dist.control import NO_PAYLOAD, PASS_THROUGH, ControlMessage, RegSend, Send, build_control
from otplib.dist.etf_encode import Encoder
from otplib.dist.flags import DFlag
from otplib.dist.framing import packet_frame

#: How many pairs are kept; full, the table starts again.
MAX_KNOWN: Final = 2_048
_KEPT: Final = (Send, RegSend)


class ControlWriter:
    r"""Writes the packets of one connection.

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

    __slots__ = ("_encoder", "_flags", "_known")

    def __init__(self, encoder: Encoder, flags: DFlag) -> None:
        self._encoder = encoder
        self._flags = flags
        #: From sender and receiver to the packet's bytes before the payload. A name and a pid are never equal, so
        #: one table holds both kinds of message.
        self._known: dict[tuple[Any, Any], bytes] = {}

    def write(self, message: ControlMessage) -> bytes:
        """Give the packet, with its length in front.

        Raises:
            CopyError: (a `TypeError`) it holds something that cannot be sent to this peer.
            NodeError: this peer does not know such a signal.
            ValueError: the packet is longer than its length can say.
        """
        pieces = self._encoder.pieces
        if isinstance(message, _KEPT) and message.token is None:
            pair = message[:2]
            head = self._known.get(pair)
            if head is None:
                head = PASS_THROUGH + self._encoder.encode(build_control(message, self._flags)[0])
                if len(self._known) >= MAX_KNOWN:
                    self._known.clear()
                self._known[pair] = head
            return packet_frame(head, *pieces(message[2]))
        control, payload = build_control(message, self._flags)
        if payload is NO_PAYLOAD:
            return packet_frame(PASS_THROUGH, *pieces(control))
        return packet_frame(PASS_THROUGH, *pieces(control), *pieces(payload))
