"""Signals to packets: the frame's length, the control tuple, and the payload behind it.

The control tuple of most signals depends on who sends and receives them, and on the number of one reference; the bytes
around that number are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from otplib.core.terms import Atom, Ref
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
    build_control,
)
from otplib.dist.etf_encode import Encoder
from otplib.dist.etf_tags import SMALL_ATOM_UTF8
from otplib.dist.flags import DFlag
from otplib.dist.framing import packet_frame

#: How many control tuples are kept; full, the table starts again.
MAX_KNOWN: Final = 2_048
#: The bytes of a reference's number, its last ones, if it has the usual three words.
_NUMBER: Final = 12
#: Where a control tuple's first field after the operation stands in a packet.
_FIRST_FIELD: Final = 6
_ALL_ONES: Final = (1 << 8 * _NUMBER) - 1


class _Kept(NamedTuple):
    """A signal whose control tuples are kept. Its fields are named by their place."""

    #: What the tuple depends on, but for the reference; empty if it is too rare to be kept.
    key: Callable[[Any], tuple[Any, ...]]
    #: The first field of the tuple, or the last.
    ref: int | None
    payload: int | None
    token: int | None


def _pair(signal: Any) -> tuple[Any, ...]:
    pair: tuple[Any, ...] = signal[:2]
    return pair


def _request(signal: SpawnRequest) -> tuple[Any, ...]:
    options = signal.opt_list
    return (*signal[1:4], *options) if all(type(option) is Atom for option in options) else ()


#: Not among them is what a process sends once, as its end.
_KEPT: Final[dict[type[Any], _Kept]] = {
    Send: _Kept(_pair, None, 2, 3),
    RegSend: _Kept(_pair, None, 2, 3),
    AliasSend: _Kept(lambda signal: (signal[0],), 1, 2, 3),
    MonitorP: _Kept(_pair, 2, None, None),
    DemonitorP: _Kept(_pair, 2, None, None),
    SpawnRequest: _Kept(_request, 0, 5, 6),
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

    __slots__ = ("_encoder", "_flags", "_known")

    def __init__(self, encoder: Encoder, flags: DFlag) -> None:
        self._encoder = encoder
        self._flags = flags
        #: From what a control tuple depends on to the packet's bytes before the number, and from there to the payload.
        self._known: dict[tuple[Any, ...], tuple[bytes, bytes]] = {}

    def write(self, message: ControlMessage) -> bytes:
        """Give the packet, with its length in front.

        Raises:
            CopyError: (a `TypeError`) it holds something that cannot be sent to this peer.
            NodeError: this peer does not know such a signal.
            ValueError: the packet is longer than its length can say.
        """
        kept = _KEPT.get(type(message))
        if kept is None:
            return self._write_anew(message)
        fields: tuple[Any, ...] = message
        if kept.token is not None and fields[kept.token] is not None:
            return self._write_anew(message)
        key, number = kept.key(message), b""
        if kept.ref is not None:
            ref: Ref = fields[kept.ref]
            if not key or ref.id > _ALL_ONES:  # one of another number of words
                return self._write_anew(message)
            key = (ref.home, ref.creation, *key)
            number = ref.id.to_bytes(_NUMBER)
        key = (type(message), *key)
        before, after = self._known.get(key) or self._learn(key, kept, message)
        if kept.payload is None:
            return packet_frame(before, number, after)
        return packet_frame(before, number, after, *self._encoder.pieces(fields[kept.payload]))

    def _write_anew(self, message: ControlMessage) -> bytes:
        pieces = self._encoder.pieces
        control, payload = build_control(message, self._flags)
        if payload is NO_PAYLOAD:
            return packet_frame(PASS_THROUGH, *pieces(control))
        return packet_frame(PASS_THROUGH, *pieces(control), *pieces(payload))

    def _learn(self, key: tuple[Any, ...], kept: _Kept, message: ControlMessage) -> tuple[bytes, bytes]:
        head = PASS_THROUGH + self._encoder.encode(build_control(message, self._flags)[0])
        if kept.ref is None:
            known = head, b""
        elif kept.ref:
            known = head[:-_NUMBER], b""
        else:
            # A reference is its tag, its number of words, the name of its node, four bytes, and the number.
            name = _FIRST_FIELD + 3
            at = (
                name
                + (
                    2 + head[name + 1]
                    if head[name] == SMALL_ATOM_UTF8
                    else 3 + int.from_bytes(head[name + 1 : name + 3])
                )
                + 4
            )
            known = head[:at], head[at + _NUMBER :]
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[key] = known
        return known
