"""The Erlang Port Mapper Daemon: which node of a machine listens on which port. The protocol, and a client.

A node registers its name with ALIVE2_REQ and keeps that connection open: when it closes, the name is free. Whoever
wants to connect asks PORT_PLEASE2_REQ first. The functions that ask (`register`, `port_please`, `names`, ...) block, so
inside a process they belong into `process.blocking`; each takes at most `timeout` seconds. Nobody there, or no answer
in time, is an `OSError`; an answer that is none is a `DecodeError`.

    request            wire                                                           answer
    AliveRequest       120 port:16 type protocol highest:16 lowest:16 name extra      118 result creation:32
                       (strings: length:16 and UTF-8)                                 or 121 result creation:16
    PortPleaseRequest  122 name                                                       119 result, then as AliveRequest
    NamesRequest       110                                                            port:32 and text
    DumpRequest        100                                                            port:32 and text
    KillRequest        107                                                            "OK" or "NO"
    StopRequest        115 name                                                       "STOPPED", "NOEXIST" or nothing

Every request has its length (16 bits) in front, no answer has; after every answer but ALIVE2's epmd closes.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeAlias

from otplib.core.errors import DecodeError, NameTakenError

DEFAULT_PORT: Final = 4369
LOOPBACK: Final = "127.0.0.1"
TIMEOUT: Final = 5.0

#: The only distribution version since OTP 25.
VERSION: Final = 6

VISIBLE: Final = 77  # 'M', a normal Erlang node
HIDDEN: Final = 72  # 'H', a hidden one

MAX_NAME: Final = 255  # characters, as in epmd itself
MAX_REQUEST: Final = 4_096  # our own bound: the two longest strings and what stands around them fit
_MAX_ANSWER: Final = 1024 * 1024

_ALIVE = struct.Struct(">BHBBHH")
_LENGTH = struct.Struct(">H")
_NAME_LINE = re.compile(r"^name (?P<name>.*) at port (?P<port>\d+)$", re.MULTILINE)


class AliveRequest(NamedTuple):
    """ALIVE2_REQ: register a name. Also what PORT2_RESP tells about a node, so the two share their fields."""

    name: str
    port: int
    node_type: int = VISIBLE
    protocol: int = 0  # TCP over IPv4
    highest: int = VERSION
    lowest: int = VERSION
    extra: bytes = b""


class PortPleaseRequest(NamedTuple):
    """PORT_PLEASE2_REQ."""

    name: str


class NamesRequest(NamedTuple):
    """NAMES_REQ."""


class DumpRequest(NamedTuple):
    """DUMP_REQ."""


class KillRequest(NamedTuple):
    """KILL_REQ."""


class StopRequest(NamedTuple):
    """STOP_REQ."""

    name: str


Request: TypeAlias = AliveRequest | PortPleaseRequest | NamesRequest | DumpRequest | KillRequest | StopRequest


class AliveReply(NamedTuple):
    """ALIVE2_X_RESP or ALIVE2_RESP: `result` 0 is success."""

    result: int
    creation: int


def default_port() -> int:
    """Where the machine's epmd is: 4369, unless the variable ERL_EPMD_PORT says otherwise, as for a BEAM."""
    text = os.environ.get("ERL_EPMD_PORT", "")
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 65_536 else DEFAULT_PORT


# ---- the protocol: bytes and values -------------------------------------------------------------------------------


def encode_request(request: Request) -> bytes:
    r"""A request with its length.

    Raises:
        ValueError: a name, port or extra that the protocol has no room for.

    Example:
        >>> encode_request(PortPleaseRequest("foo"))
        b'\x00\x04zfoo'
    """
    match request:
        case AliveRequest():
            body = b"x" + _encode_entry(request)
        case PortPleaseRequest(name):
            body = b"z" + _encode_name(name)
        case NamesRequest():
            body = b"n"
        case DumpRequest():
            body = b"d"
        case KillRequest():
            body = b"k"
        case StopRequest(name):
            body = b"s" + _encode_name(name)
    return _LENGTH.pack(len(body)) + body


def decode_request(body: bytes) -> Request:
    r"""A request without its length.

    Raises:
        DecodeError: none of the six.

    Example:
        >>> decode_request(b"n"), decode_request(b"zfoo")
        (NamesRequest(), PortPleaseRequest(name='foo'))
    """
    match body[:1]:
        case b"x":
            return _decode_entry(body[1:])
        case b"z":
            return PortPleaseRequest(_decode_name(body[1:].rstrip(b"\0")))
        case b"n":
            return NamesRequest()
        case b"d":
            return DumpRequest()
        case b"k":
            return KillRequest()
        case b"s":
            return StopRequest(_decode_name(body[1:].rstrip(b"\0")))
    raise DecodeError("not a request to epmd")


def encode_alive_reply(reply: AliveReply, *, highest: int = VERSION) -> bytes:
    r"""The long form for nodes that know version 6, else the short one.

    Example:
        >>> encode_alive_reply(AliveReply(0, 7)), encode_alive_reply(AliveReply(0, 7), highest=5)
        (b'v\x00\x00\x00\x00\x07', b'y\x00\x00\x07')
    """
    if highest >= VERSION:
        return struct.pack(">BBI", 118, reply.result, reply.creation)
    return struct.pack(">BBH", 121, reply.result, reply.creation & 0xFFFF)


def decode_alive_reply(data: bytes) -> AliveReply | None:
    r"""Either form; None while bytes are missing.

    Raises:
        DecodeError: neither.

    Example:
        >>> decode_alive_reply(b"v\0\0\0"), decode_alive_reply(b"v\0\0\0\0\7")
        (None, AliveReply(result=0, creation=7))
    """
    if data[:1] not in (b"", b"v", b"y"):
        raise DecodeError("not an answer to ALIVE2_REQ")
    if data[:1] == b"v" and len(data) >= 6:
        return AliveReply(*struct.unpack_from(">xBI", data))
    if data[:1] == b"y" and len(data) >= 4:
        return AliveReply(*struct.unpack_from(">xBH", data))
    return None


def encode_port_reply(entry: AliveRequest | None) -> bytes:
    r"""PORT2_RESP. None: nobody has that name.

    Example:
        >>> encode_port_reply(None)
        b'w\x01'
    """
    return b"w\1" if entry is None else b"w\0" + _encode_entry(entry)


def decode_port_reply(data: bytes) -> AliveRequest | None:
    """PORT2_RESP, whole: epmd closes behind it.

    Raises:
        DecodeError: cut off, or something else.
    """
    if data[:1] != b"w" or len(data) < 2:
        raise DecodeError("not an answer to PORT_PLEASE2_REQ")
    return None if data[1] else _decode_entry(data[2:])


def encode_names(epmd_port: int, entries: list[tuple[str, int]]) -> bytes:
    r"""NAMES_RESP.

    Example:
        >>> encode_names(4369, [("foo", 4711)])
        b'\x00\x00\x11\x11name foo at port 4711\n'
    """
    return struct.pack(">I", epmd_port) + "".join(f"name {name} at port {port}\n" for name, port in entries).encode()


def decode_names(data: bytes) -> dict[str, int]:
    r"""NAMES_RESP, whole: name and port of each registered node. Lines that say something else are passed over.

    Raises:
        DecodeError: shorter than the port in front.

    Example:
        >>> decode_names(b"\0\0\x11\x11name foo at port 4711\n")
        {'foo': 4711}
    """
    if len(data) < 4:
        raise DecodeError("not an answer to NAMES_REQ")
    lines = data[4:].decode("utf-8", "replace")
    return {found["name"]: int(found["port"]) for found in _NAME_LINE.finditer(lines)}


def _encode_name(name: str) -> bytes:
    # What epmd prints line by line must not break its lines, and one @ would make it a full name.
    if not 0 < len(name) <= MAX_NAME or not name.isprintable() or "@" in name:
        raise ValueError(f'expected the part of a node\'s name before the @, such as "foo", got {name!r}')
    return name.encode("utf-8")


def _decode_name(raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
        _encode_name(name)
    except ValueError:
        raise DecodeError("not the name of a node") from None
    return name


def _encode_entry(entry: AliveRequest) -> bytes:
    name = _encode_name(entry.name)
    if len(entry.extra) > MAX_NAME:
        raise ValueError(f"the extra field has at most {MAX_NAME} bytes, this one has {len(entry.extra)}")
    try:
        head = _ALIVE.pack(0, entry.port, entry.node_type, entry.protocol, entry.highest, entry.lowest)[1:]
    except struct.error:
        raise ValueError(f"a number that does not fit: {entry!r}") from None
    return b"".join((head, _LENGTH.pack(len(name)), name, _LENGTH.pack(len(entry.extra)), entry.extra))


def _decode_entry(data: bytes) -> AliveRequest:
    try:
        port, node_type, protocol, highest, lowest, length = struct.unpack_from(">HBBHHH", data)
        end = 10 + length
        (extra_length,) = _LENGTH.unpack_from(data, end)
    except struct.error:
        raise DecodeError("the entry of a node is cut off") from None
    extra = data[end + 2 : end + 2 + extra_length]
    if len(extra) != extra_length or extra_length > MAX_NAME:
        raise DecodeError("the extra field of a node is cut off or too long")
    return AliveRequest(_decode_name(data[10:end]), port, node_type, protocol, highest, lowest, extra)


# ---- the client: blocking, each call with its own connection ------------------------------------------------------


class Registration:
    """A name that is ours as long as this stays open.

    `creation` tells the lives of a node with one name apart. `lost()` says whether epmd is gone: then register anew.
    """

    def __init__(self, name: str, creation: int, connection: socket.socket) -> None:
        self.name = name
        self.creation = creation
        self._connection = connection
        connection.setblocking(False)

    def lost(self) -> bool:
        """Whether epmd has closed the connection, or this side has. Never blocks."""
        try:
            return self._connection.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def fileno(self) -> int:
        """For a selector: readable means `lost`. -1 when closed."""
        return self._connection.fileno()

    def close(self) -> None:
        """Free the name. A second call changes nothing."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def register(
    name: str,
    port: int,
    *,
    hidden: bool = False,
    host: str = LOOPBACK,
    epmd_port: int | None = None,
    timeout: float = TIMEOUT,
) -> Registration:
    """Give this machine's epmd a name and the port behind it. Mirrors `erl_epmd:register_node/2`.

    Raises:
        NameTakenError: another living node has the name.
        ValueError: a name or port that the protocol has no room for.
    """
    request = encode_request(AliveRequest(name, port, HIDDEN if hidden else VISIBLE))
    deadline = time.monotonic() + timeout
    connection = _connect(host, epmd_port, deadline)
    try:
        connection.sendall(request)
        data = b""
        while (reply := decode_alive_reply(data)) is None:
            data += _receive(connection, deadline)
        if reply.result != 0:
            raise NameTakenError(f"epmd refuses the name {name!r}: another node has it")
        return Registration(name, reply.creation, connection)
    except BaseException:
        connection.close()
        raise


def port_please(
    name: str, *, host: str = LOOPBACK, epmd_port: int | None = None, timeout: float = TIMEOUT
) -> AliveRequest | None:
    """What epmd knows of a node, its port above all; None: no such node. Mirrors `erl_epmd:port_please/2`."""
    return decode_port_reply(_ask(PortPleaseRequest(name), host, epmd_port, timeout))


def names(*, host: str = LOOPBACK, epmd_port: int | None = None, timeout: float = TIMEOUT) -> dict[str, int]:
    """Every registered name and its port. Mirrors `net_adm:names/0`."""
    return decode_names(_ask(NamesRequest(), host, epmd_port, timeout))


def dump(*, host: str = LOOPBACK, epmd_port: int | None = None, timeout: float = TIMEOUT) -> str:
    """What epmd knows, as text for people (`epmd -d`'s view; old names too)."""
    return _ask(DumpRequest(), host, epmd_port, timeout)[4:].decode("utf-8", "replace")


def kill(*, host: str = LOOPBACK, epmd_port: int | None = None, timeout: float = TIMEOUT) -> bool:
    """Ask epmd to end, as `epmd -kill`. It refuses (False) while a node is registered."""
    return _ask(KillRequest(), host, epmd_port, timeout)[:2] == b"OK"


def answers(*, host: str = LOOPBACK, epmd_port: int | None = None, timeout: float = TIMEOUT) -> bool:
    """Whether an epmd is there that speaks the protocol."""
    try:
        names(host=host, epmd_port=epmd_port, timeout=timeout)
    except (OSError, DecodeError):
        return False
    return True


def _ask(request: Request, host: str, epmd_port: int | None, timeout: float) -> bytes:
    """Send one request and read to the end: epmd closes behind its answer."""
    message = encode_request(request)
    deadline = time.monotonic() + timeout
    with _connect(host, epmd_port, deadline) as connection:
        connection.sendall(message)
        answer = bytearray()
        while True:
            try:
                piece = _receive(connection, deadline)
            except EOFError:
                return bytes(answer)
            answer += piece
            if len(answer) > _MAX_ANSWER:
                raise DecodeError("epmd's answer does not end")


def _connect(host: str, epmd_port: int | None, deadline: float) -> socket.socket:
    address = (host, default_port() if epmd_port is None else epmd_port)
    connection = socket.create_connection(address, timeout=max(deadline - time.monotonic(), 0.001))
    try:
        _refuse_self_connection(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_self_connection(connection: socket.socket) -> None:
    """On Linux a client of a free port within the ephemeral range may meet itself, and would hear its own question."""
    if connection.getsockname() == connection.getpeername():
        raise ConnectionRefusedError("nobody listens on that port")


class _ClosedError(EOFError, ConnectionError):
    """Epmd closed where an answer was expected."""


def _receive(connection: socket.socket, deadline: float) -> bytes:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("epmd did not answer in time")
    connection.settimeout(left)
    piece = connection.recv(65_536)
    if not piece:
        raise _ClosedError("epmd closed the connection without an answer")
    return piece
