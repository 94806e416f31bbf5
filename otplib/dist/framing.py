"""Bytes to packets and back: a stream arrives in pieces of any size, a packet is handed out whole.

During the handshake a packet carries a length of two bytes, afterwards of four; over TLS four from the beginning, as
`inet_tls_dist` does. An empty packet is a tick.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from otplib.core.errors import DecodeError

#: What a connected node sends when it has nothing to say.
TICK: Final = bytes(4)

#: The longest legal handshake message is a challenge with a name of 255 characters. Room for what a later release
#: may append; a stranger cannot make us keep more than this.
MAX_HANDSHAKE: Final = 2_048
MAX_PACKET: Final = 128 * 1024 * 1024

#: A packet of more bytes is gathered in pieces.
_LARGE: Final = 64 * 1024

_LENGTH_2 = struct.Struct(">H")
_LENGTH_4 = struct.Struct(">I")


class Framing:
    """Takes the stream of one connection apart. It starts with the handshake's lengths; `connected()` switches.

    `wide`: four bytes of length in the handshake too.

    `packets()` gives what is complete, one at a time, and looks at the length of each anew: a handshake message and
    the first packet after it may arrive in one piece.

    Example:
        >>> framing = Framing()
        >>> framing.feed(handshake_frame(b"sok") + TICK)
        >>> for packet in framing.packets():
        ...     print(packet)
        ...     framing.connected()
        b'sok'
        b''
    """

    __slots__ = ("_buffer", "_length", "_limit", "_limit_connected", "_missing", "_pieces", "_start")

    def __init__(
        self, *, wide: bool = False, max_handshake: int = MAX_HANDSHAKE, max_packet: int = MAX_PACKET
    ) -> None:
        self._buffer = bytearray()  # never holds more than the limit, a length and one piece of input
        self._start = 0  # where the next packet begins; what lies before it goes at the next `feed`
        #: A large packet that is not complete: what has come of it, and how much has not. The buffer is empty meanwhile.
        self._pieces: list[bytes] = []
        self._missing = 0
        self._length = _LENGTH_4 if wide else _LENGTH_2
        self._limit = max_handshake
        self._limit_connected = max_packet

    @property
    def buffered(self) -> int:
        """How many bytes wait for the rest of their packet."""
        return len(self._buffer) - self._start + sum(map(len, self._pieces))

    def connected(self) -> None:
        """The handshake is done: from here on lengths have four bytes. A second call changes nothing."""
        self._length = _LENGTH_4
        self._limit = self._limit_connected

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take in what the socket gave."""
        if self._missing:
            self._pieces.append(bytes(data[: self._missing]))
            self._missing -= len(self._pieces[-1])
            data = data[len(self._pieces[-1]) :]
        # Once for a whole run of packets: cutting the front off for each would move the rest every time.
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    def packets(self) -> Iterator[bytes]:
        """What is complete, without the lengths. `b""` is a tick.

        Raises:
            DecodeError: the next packet would be longer than the limit. It is raised as soon as the length is known
                and again at every later call: nothing behind it can be told apart.
        """
        if self._pieces:
            if self._missing:
                return
            pieces, self._pieces = self._pieces, []
            yield b"".join(pieces)
        while True:
            # Everything anew for each packet: whoever has the last one may have called `connected` or `feed`.
            buffer, start, length_of = self._buffer, self._start, self._length
            begin = start + length_of.size
            if len(buffer) < begin:
                return
            (length,) = length_of.unpack_from(buffer, start)
            if length > self._limit:
                raise DecodeError(f"a packet of {length} bytes; the limit is {self._limit}")
            end = begin + length
            if len(buffer) < end:
                if length > _LARGE:
                    # In pieces it is copied once, not each time that the buffer grows.
                    self._pieces = [bytes(buffer[begin:])]
                    self._missing = end - len(buffer)
                    self._buffer, self._start = bytearray(), 0
                return
            self._start = end
            # bytes(buffer[a:b]) copies twice, a memoryview once; up to some kilobytes making the view costs more.
            yield bytes(buffer[begin:end]) if length < 4_096 else bytes(memoryview(buffer)[begin:end])


def handshake_frame(message: bytes, *, wide: bool = False) -> bytes:
    r"""One message of the handshake with its length; `wide` as for `Framing`.

    Raises:
        ValueError: it is longer than two bytes can say.

    Example:
        >>> handshake_frame(b"sok")
        b'\x00\x03sok'
    """
    if len(message) > 0xFFFF:
        raise ValueError(f"a handshake message has at most 65535 bytes, this one has {len(message)}")
    if wide:
        return packet_frame(message)
    return _LENGTH_2.pack(len(message)) + message


def packet_frame(*parts: bytes) -> bytes:
    r"""One packet between connected nodes with its length: the parts in their order. No part: a tick.

    Raises:
        ValueError: it is longer than four bytes can say.

    Example:
        >>> packet_frame(b"p", b"control", b"message")[:5], packet_frame() == TICK
        (b'\x00\x00\x00\x0fp', True)
    """
    length = sum(map(len, parts))
    if length > 0xFFFF_FFFF:
        raise ValueError(f"a packet has at most {0xFFFF_FFFF} bytes, this one has {length}")
    return b"".join((_LENGTH_4.pack(length), *parts))
