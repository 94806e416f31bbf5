"""An epmd of our own, for machines without one: the whole protocol, for this machine alone unless told otherwise.

`EpmdState` decides, without sockets. `EpmdServer` is the one thread that carries the answers. It is a daemon thread:
the process that holds it may end at any time, and then whoever is still registered finds its connection closed and
registers anew, with whoever answers next.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Final, NamedTuple, Self, cast

from otplib.core.errors import DecodeError
from otplib.dist import epmd
from otplib.dist.addresses import Places, is_local

#: Seconds for a request to arrive whole. (epmd's own is 60, with as many connections.)
REQUEST_TIME: Final = 5.0
MAX_CONNECTIONS: Final = 512


class Answer(NamedTuple):
    """What to do about a request: write `data`; then keep the connection, or close it; or end the whole server."""

    data: bytes
    keep: bool = False
    end: bool = False


class EpmdState:
    r"""Who is registered, and by which connection. Pure: a connection is any number.

    Example:
        >>> state = EpmdState(4369)
        >>> state.handle(1, b"x" + epmd.encode_request(epmd.AliveRequest("foo", 4711))[3:]).keep
        True
        >>> state.handle(2, b"n").data[4:]
        b'name foo at port 4711\n'
        >>> state.forget(1)
        >>> state.handle(2, b"n").data[4:]
        b''
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._entries: dict[int, epmd.AliveRequest] = {}  # connection: what it registered; no name stands twice

    @property
    def names(self) -> list[str]:
        """The registered names, oldest first."""
        return [entry.name for entry in self._entries.values()]

    def handle(self, connection: int, body: bytes, *, local: bool = True) -> Answer:
        """One request without its length; an error is answered by closing, as epmd does.

        Other machines (`local` false) may ask who is here and where, and nothing else.
        """
        if connection in self._entries:
            return Answer(b"")  # a registered node has nothing more to say: it is confused, or no node
        if not local and body[:1] not in (b"z", b"n"):
            return Answer(b"")
        try:
            request = epmd.decode_request(body)
        except DecodeError:
            return Answer(b"")
        match request:
            case epmd.AliveRequest():
                return self._register(connection, request)
            case epmd.PortPleaseRequest(name):
                found = [entry for entry in self._entries.values() if entry.name == name]
                return Answer(epmd.encode_port_reply(found[0] if found else None))
            case epmd.NamesRequest():
                return Answer(epmd.encode_names(self._port, [(e.name, e.port) for e in self._entries.values()]))
            case epmd.DumpRequest():
                return Answer(self._port.to_bytes(4, "big") + self._describe().encode())
            case epmd.KillRequest():
                return Answer(b"NO") if self._entries else Answer(b"OK", end=True)
            case epmd.StopRequest():
                return Answer(b"")  # as epmd without -relaxed_command_check: a name belongs to who registered it

    def forget(self, connection: int) -> None:
        """The connection is closed: its name is free."""
        self._entries.pop(connection, None)

    def _register(self, connection: int, request: epmd.AliveRequest) -> Answer:
        if request.name in self.names:
            return Answer(epmd.encode_alive_reply(epmd.AliveReply(1, 99), highest=request.highest))
        self._entries[connection] = request
        # A name's next life must be told from its last. 0 to 3 are the creations of old nodes.
        bits = 32 if request.highest >= epmd.VERSION else 16
        creation = 4 + secrets.randbelow((1 << bits) - 4)
        return Answer(epmd.encode_alive_reply(epmd.AliveReply(0, creation), highest=request.highest), keep=True)

    def _describe(self) -> str:
        lines = (f"active name     <{e.name}> at port {e.port}, fd = {at}\n" for at, e in self._entries.items())
        return "".join(lines)


class _Connection:
    __slots__ = ("answer", "deadline", "input", "local", "output", "registered", "socket")

    def __init__(self, connection: socket.socket, local: bool) -> None:
        self.socket = connection
        self.local = local  # the caller is on this machine
        self.input = bytearray()
        self.output = b""
        self.answer: Answer | None = None  # None until the request has arrived
        self.registered = False  # then it has no deadline
        self.deadline = time.monotonic() + REQUEST_TIME


class EpmdServer:
    """Answers on `port` of the given addresses until `close()`, or after `release()` until the last name is gone.

    Only this machine is answered, whatever the addresses: give the address of the host's own name as well, if it is
    not a loopback one, and `erl -sname` finds us under it. At the `public` address (`"0.0.0.0"`: at all of them) other
    machines may look for nodes; only nodes of this one are registered.

    Raises:
        OSError: the port is taken. Somebody else was faster: ask again whether an epmd answers.

    Example:
        >>> with EpmdServer(0) as server:
        ...     epmd.names(epmd_port=server.port)
        {}
    """

    def __init__(
        self, port: int | None = None, *, addresses: Iterable[str] = (epmd.LOOPBACK,), public: str | None = None
    ) -> None:
        self.port = epmd.default_port() if port is None else port
        self._places = Places(tuple(dict.fromkeys(addresses)), public)
        self._listeners: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._connections: dict[int, _Connection] = {}  # only the server's thread touches these, and the state
        self._wake_read, self._wake_write = socket.socketpair()
        self._wanted = True  # False: end with the last name
        self._closing = False
        self._ended = threading.Event()
        try:
            for address in self._places.addresses:
                self._listen(address)
        except BaseException:
            self._release_sockets()
            raise
        self._state = EpmdState(self.port)
        self._wake_read.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name=f"otplib epmd {self.port}", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the port is free again."""
        return self._ended.is_set()

    def release(self) -> None:
        """Nobody here needs the server any more: it ends as soon as no name is registered."""
        self._wanted = False
        self._wake()

    def close(self, timeout: float = 5.0) -> None:
        """End now, registered names or not, and wait for the port to be free. A second call changes nothing."""
        self._closing = True
        self._wake()
        self.join(timeout)

    def abandon(self) -> None:
        """In a forked child: close what the parent listens on, or callers would wait there for an answer."""
        self._release_sockets()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; whether it has come."""
        return self._ended.wait(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ---- from here on, the server's thread ----

    def _listen(self, address: str) -> None:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listeners.append(listener)
        # On POSIX: do not wait for what is left of closed connections. On Windows the same option would let two
        # servers share the port.
        if sys.platform == "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, self.port))
        listener.listen(128)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._selector.register(listener, selectors.EVENT_READ)

    def _wake(self) -> None:
        # Full means that a wake-up is on its way; closed, that there is nobody left to wake.
        with contextlib.suppress(OSError):
            self._wake_write.send(b"x")

    def _run(self) -> None:
        try:
            while not self._closing and (self._wanted or self._state.names or self._connections):
                ready = self._selector.select(self._next_timeout())
                # Who leaves makes room for who comes: the listeners last.
                for key, events in sorted(ready, key=lambda each: each[0].fileobj in self._listeners):
                    self._serve(cast("socket.socket", key.fileobj), events)
                self._drop_late()
        finally:
            self._release_sockets()
            self._ended.set()

    def _serve(self, source: socket.socket, events: int) -> None:
        if source is self._wake_read:
            with contextlib.suppress(BlockingIOError):
                self._wake_read.recv(4_096)
        elif source in self._listeners:
            self._accept(source)
        elif (connection := self._connections.get(source.fileno())) is not None:
            try:
                self._write(connection) if events & selectors.EVENT_WRITE else self._read(connection)
            except BlockingIOError:
                pass
            except OSError:
                self._drop(connection)

    def _accept(self, listener: socket.socket) -> None:
        try:
            accepted, peer = listener.accept()
        except OSError as error:  # it has hung up already
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(0.05)  # the process has no file left: the caller stays in the queue, and we must not spin
            return
        own = accepted.getsockname()[0]
        if not self._places.admits(own, peer[0]) or len(self._connections) >= MAX_CONNECTIONS:
            accepted.close()
            return
        accepted.setblocking(False)
        self._connections[accepted.fileno()] = _Connection(accepted, is_local(own, peer[0]))
        self._selector.register(accepted, selectors.EVENT_READ)

    def _read(self, connection: _Connection) -> None:
        piece = connection.socket.recv(4_096)
        if not piece or connection.answer is not None:
            self._drop(connection)
            return
        connection.input += piece
        length = int.from_bytes(connection.input[:2], "big")
        if length > epmd.MAX_REQUEST:
            self._drop(connection)
        elif len(connection.input) >= 2 + length and len(connection.input) >= 2:
            body = bytes(connection.input[2 : 2 + length])
            answer = self._state.handle(connection.socket.fileno(), body, local=connection.local)
            connection.answer, connection.output = answer, answer.data
            connection.registered = answer.keep
            self._selector.modify(connection.socket, selectors.EVENT_WRITE)

    def _write(self, connection: _Connection) -> None:
        assert connection.answer is not None
        connection.output = connection.output[connection.socket.send(connection.output) :]
        if connection.output:
            return
        if connection.answer.keep:
            self._selector.modify(connection.socket, selectors.EVENT_READ)
        else:
            self._drop(connection)
            self._closing = self._closing or connection.answer.end

    def _drop(self, connection: _Connection) -> None:
        number = connection.socket.fileno()
        self._selector.unregister(connection.socket)
        del self._connections[number]
        self._state.forget(number)
        connection.socket.close()

    def _next_timeout(self) -> float | None:
        deadlines = [each.deadline for each in self._connections.values() if not each.registered]
        return max(min(deadlines) - time.monotonic(), 0) if deadlines else None

    def _drop_late(self) -> None:
        now = time.monotonic()
        for connection in list(self._connections.values()):
            if not connection.registered and connection.deadline <= now:
                self._drop(connection)

    def _release_sockets(self) -> None:
        self._selector.close()
        for each in (*self._listeners, *(one.socket for one in self._connections.values())):
            each.close()
        self._wake_read.close()
        self._wake_write.close()
