"""The messages of the handshake as values: to bytes and back. The length in front of them belongs to `framing`.

    step   message                 sent by     wire
    2      NameMessage             initiator   'N' flags:64 creation:32 length:16 name, more
    3      status                  acceptor    's' text
    3B     status                  initiator   's' "true" | "false"
    4      ChallengeMessage        acceptor    'N' flags:64 challenge:32 creation:32 length:16 name, more
    5      ChallengeReply          initiator   'r' challenge:32 digest:16 bytes
    6      ChallengeAck            acceptor    'a' digest:16 bytes

Whatever follows the name ("more") must be accepted and ignored, so it is where a Python node says that it is one.
Every `decode` raises `DecodeError` and nothing else.
"""

from __future__ import annotations

import enum
import struct
from typing import Final, NamedTuple, Self

from otplib.core.errors import DecodeError
from otplib.dist.flags import DFlag

MAX_NODE_NAME: Final = 255  # characters, as of any atom

_NAME = struct.Struct(">cQIH")
_CHALLENGE = struct.Struct(">cQIIH")
_REPLY = struct.Struct(">cI16s")
_ACK = struct.Struct(">c16s")


class Status(enum.Enum):
    """What the acceptor says to a name (step 3), and what the initiator answers to ALIVE (step 3B)."""

    OK = "ok"
    OK_SIMULTANEOUS = "ok_simultaneous"
    NOK = "nok"
    NOT_ALLOWED = "not_allowed"
    ALIVE = "alive"
    TRUE = "true"
    FALSE = "false"


class NameMessage(NamedTuple):
    """Step 2, `send_name`: who I am, what I am able to do, and which of my lives this is.

    With NAME_ME among the flags `node` is a host's name alone: the sender wants to be given a name.
    """

    flags: DFlag
    creation: int
    node: str
    extra: bytes = b""

    def encode(self) -> bytes:
        name = encode_node_name(self.node)
        return _NAME.pack(b"N", self.flags, self.creation, len(name)) + name + self.extra

    @classmethod
    def decode(cls, message: bytes) -> Self:
        if len(message) < _NAME.size or message[:1] != b"N":
            raise DecodeError("not a send_name message")
        _, flags, creation, length = _NAME.unpack_from(message)
        name, extra = _split_name(message[_NAME.size :], length, dynamic=bool(flags & DFlag.NAME_ME))
        return cls(DFlag(flags), creation, name, extra)


class ChallengeMessage(NamedTuple):
    """Step 4, `send_challenge`: the acceptor's side of the same, and the number to be signed."""

    flags: DFlag
    challenge: int
    creation: int
    node: str
    extra: bytes = b""

    def encode(self) -> bytes:
        name = encode_node_name(self.node)
        return _CHALLENGE.pack(b"N", self.flags, self.challenge, self.creation, len(name)) + name + self.extra

    @classmethod
    def decode(cls, message: bytes) -> Self:
        if len(message) < _CHALLENGE.size or message[:1] != b"N":
            raise DecodeError("not a send_challenge message")
        _, flags, challenge, creation, length = _CHALLENGE.unpack_from(message)
        name, extra = _split_name(message[_CHALLENGE.size :], length, dynamic=False)
        return cls(DFlag(flags), challenge, creation, name, extra)


class ChallengeReply(NamedTuple):
    """Step 5, `send_challenge_reply`: the acceptor's number signed, and a number for the acceptor."""

    challenge: int
    digest: bytes

    def encode(self) -> bytes:
        return _REPLY.pack(b"r", self.challenge, self.digest)

    @classmethod
    def decode(cls, message: bytes) -> Self:
        if len(message) != _REPLY.size or message[:1] != b"r":
            raise DecodeError("not a send_challenge_reply message")
        _, challenge, digest = _REPLY.unpack(message)
        return cls(challenge, digest)


class ChallengeAck(NamedTuple):
    """Step 6, `send_challenge_ack`: the initiator's number signed."""

    digest: bytes

    def encode(self) -> bytes:
        return _ACK.pack(b"a", self.digest)

    @classmethod
    def decode(cls, message: bytes) -> Self:
        if len(message) != _ACK.size or message[:1] != b"a":
            raise DecodeError("not a send_challenge_ack message")
        _, digest = _ACK.unpack(message)
        return cls(digest)


def encode_status(status: Status) -> bytes:
    """Steps 3 and 3B.

    Example:
        >>> encode_status(Status.OK_SIMULTANEOUS)
        b'sok_simultaneous'
    """
    return b"s" + status.value.encode("ascii")


def decode_status(message: bytes) -> Status:
    """Steps 3 and 3B. `named:` is no status for us: it answers a request (NAME_ME) that we never make.

    Example:
        >>> decode_status(b"salive")
        <Status.ALIVE: 'alive'>
    """
    if message[:1] == b"s":
        for status in Status:
            if message[1:] == status.value.encode("ascii"):
                return status
    raise DecodeError("not a status message that we know")


def encode_node_name(node: str) -> bytes:
    """A node's name on the wire: Latin-1, as `atom_to_binary(Node, latin1)`.

    Raises:
        ValueError: no Latin-1, not "name@host", or longer than an atom may be.

    Example:
        >>> encode_node_name("foo@host")
        b'foo@host'
    """
    if (problem := _find_fault(node, dynamic=False)) is not None:
        raise ValueError(f'expected the name of a node such as "foo@host", got {node!r}: {problem}')
    return node.encode("latin-1")


def _find_fault(name: str, *, dynamic: bool) -> str | None:
    if len(name) > MAX_NODE_NAME:
        return f"it is longer than {MAX_NODE_NAME} characters"
    if any(ord(character) > 0xFF or not character.isprintable() or character == " " for character in name):
        return "a character that no node's name may have"
    parts = name.split("@")
    if len(parts) != (1 if dynamic else 2) or not all(parts):
        return "a host alone was expected" if dynamic else "one @ between a name and a host was expected"
    return None


def _split_name(rest: bytes, length: int, *, dynamic: bool) -> tuple[str, bytes]:
    if length > len(rest):
        raise DecodeError("the name is cut off")
    name = rest[:length].decode("latin-1")
    if (problem := _find_fault(name, dynamic=dynamic)) is not None:
        # Not the name itself: whoever sends this has not shown the cookie, and the text goes into a log.
        raise DecodeError(f"not the name of a node: {problem}")
    return name, rest[length:]
