"""One connected socket: bytes in on the poller's thread, bytes out from any thread, in order, without waiting.

Writing. A writer appends to the output and promises a flush, unless one is promised already. A process that holds the
scheduler's role leaves the promise to its carrier, which keeps it when the step is over, in one system call for all
that the step sent; everybody else leaves it to the poller. Of two flushes at once the second finds nothing to do:
`busy` belongs to one of them, and stays with the poller for as long as the socket is full.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from otplib.core.errors import DecodeError
from otplib.dist.poller import READ, WRITE, Poller
from otplib.vm.context import local

#: Bytes taken from a socket at once; then it is the others' turn.
PIECE: Final = 256 * 1024
#: Output that may wait for a peer that does not read, bytes. Beyond it the connection is given up.
MAX_OUTPUT: Final = 512 * 1024 * 1024


class Layer(Protocol):
    """What may stand between a socket and its packets: TLS."""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Take what the socket gave: what it says, and whether the layer has an answer, to be fetched by `write`.

        Raises:
            OSError: the peer is refused, or refuses us.
        """

    def write(self, data: bytes) -> bytes:
        """Give what the socket is to be given for this, and for all that the layer itself has to say."""


class Wire:
    """A connected socket that belongs to a poller.

    `on_bytes` and `on_closed` are called on the poller's thread, `on_closed` once, with the reason; no bytes follow it.
    """

    def __init__(self, poller: Poller, connection: socket.socket, layer: Layer | None = None) -> None:
        self._poller = poller
        self._socket = connection
        self._layer = layer
        self.on_bytes: Callable[[bytes | memoryview], None] = lambda data: None
        self.on_closed: Callable[[str], None] = lambda reason: None
        self.closed = False
        #: Guards what follows.
        self._lock = threading.Lock()
        #: Held while bytes go into the socket, which takes no time as it does not block, and while it is closed.
        self._sending = threading.Lock()
        self._output: list[bytes] = []
        self._size = 0
        self._promised = False
        self._busy = False
        #: Only whoever is busy touches these: what is to be written after the rest, how much is behind the rest, and
        #: what the socket has not taken of it.
        self._pieces: deque[bytes] = deque()
        self._taken = 0
        self._rest = memoryview(b"")
        #: How many writes and reads there were, for the ticks.
        self.written = 0
        self.read = 0
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    # ---- from any thread ---------------------------------------------------------------------------------------

    @property
    def layered(self) -> bool:
        """Whether TLS stands between the socket and the packets."""
        return self._layer is not None

    @property
    def waiting(self) -> int:
        """Bytes of output that the socket has not taken yet."""
        return self._size

    def write(self, data: bytes) -> None:
        """Have these bytes written behind all earlier ones."""
        with self._lock:
            if self.closed:
                return
            self._output.append(data)
            self._size += len(data)
            self.written += 1
            if self._size <= MAX_OUTPUT:
                if self._promised or self._busy:
                    return  # whoever is busy looks here again before it leaves
                self._promised = True
        if self._size > MAX_OUTPUT:
            self.close(f"more than {MAX_OUTPUT} bytes wait for a peer that does not read")
            return
        carrier = local.carrier
        if carrier is not None and not carrier.may_block and carrier.machine.scheduler.role is carrier:
            carrier.promises.append(self)
            # Race: the watchdog takes the role away, then looks at the promises. If it did so between the two lines
            # above it did not see this one.
            if carrier.machine.scheduler.role is carrier:
                return
        self._poller.call(self.flush)

    def flush(self) -> None:
        """Write as much as the socket takes now. Never blocks."""
        with self._lock:
            self._promised = False
            if self._busy or self.closed:
                return
            self._busy = True
        self._write_out()

    def close(self, reason: str) -> None:
        """Close at once; what is not written is lost. Idempotent."""
        if not self.closed:
            self._poller.call(lambda: self._end(reason))

    # ---- writing, by whoever is busy ---------------------------------------------------------------------------

    def _write_out(self) -> None:
        while True:
            try:
                if not self._rest and not self._take():
                    return
                with self._sending:
                    if self.closed:
                        return
                    sent = self._socket.send(self._rest) if self._rest else 0
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self.close(f"cannot write: {error.strerror or error}")
                return
            # A view: to cut the front off bytes would copy all the rest each time, which is a second for 100 MB.
            self._rest = self._rest[sent:]
            if self._rest:
                self._poller.call(lambda: self._watch(READ | WRITE))
                return

    def _take(self) -> bool:
        """Take the next piece to write; False if there is none, and nobody is busy any more."""
        with self._lock:
            self._size -= self._taken
            self._taken = 0
            if not self._pieces:
                if not self._output:
                    self._busy = False
                    return False
                self._pieces.extend(self._output)
                self._output.clear()
        some = []
        while self._pieces and self._taken < PIECE:
            some.append(self._pieces.popleft())
            self._taken += len(some[-1])
        data = b"".join(some) if len(some) != 1 else some[0]
        self._rest = memoryview(data if self._layer is None else self._layer.write(data))
        return True

    def _watch(self, events: int) -> None:
        if not self.closed:
            self._poller.watch(self._socket, events, self)

    # ---- on the poller's thread --------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to read."""
        self._watch(READ)

    def on_ready(self, events: int) -> None:
        """Read and write what is possible."""
        if events & WRITE:
            self._watch(READ)
            self._write_out()
        if events & READ and not self.closed:
            self._read()

    def _read(self) -> None:
        try:
            size = self._socket.recv_into(self._poller.space)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(f"cannot read: {error.strerror or error}")
            return
        if not size:
            self._end("the peer has closed the connection")
            return
        data: bytes | memoryview = self._poller.space[:size]
        self.read += 1
        try:
            if self._layer is not None:
                data, answer = self._layer.feed(bytes(data))
                if answer:
                    self.write(b"")  # in its turn, as the layer's records are numbered
            if data:
                self.on_bytes(data)
        except (DecodeError, OSError) as error:
            self._end(f"bad bytes: {error}")

    def _end(self, reason: str) -> None:
        with self._lock:
            if self.closed:
                return
            self.closed = True
            self._output.clear()
        self._poller.forget(self._socket)
        # Nobody may be inside `send` when the number of the file becomes free for another one.
        with self._sending:
            self._socket.close()
        self.on_closed(reason)
