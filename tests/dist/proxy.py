"""A bad network: stands between two nodes, passes on what they say, and on request cuts, swallows or adds something."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator

from otplib.dist import epmd
from tests.dist.beam import our_epmd

#: The two directions: to whoever called, and to the node that stands behind.
TO_CALLER, TO_NODE = "to the caller", "to the node"


class Proxy:
    """Passes on each connection to `port`. `passed` counts the bytes of each direction."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.passed = {TO_CALLER: 0, TO_NODE: 0}
        self._left: dict[str, int] = {}
        self._muted: set[str] = set()
        #: Guards what follows.
        self._lock = threading.Lock()
        self._ends: dict[str, socket.socket] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Close both sockets, now."""
        with self._lock:
            for end in self._ends.values():
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def cut_after(self, direction: str, size: int) -> None:
        """Close both sockets when so many more bytes have passed in a direction: not one byte more passes."""
        self._left[direction] = size

    def mute(self, *directions: str) -> None:
        """Swallow what goes there from now on; the sockets stay open."""
        self._muted.update(directions)

    def inject(self, direction: str, data: bytes) -> None:
        """Say something that nobody said."""
        with self._lock:
            self._ends[direction].sendall(data)

    def _serve(self) -> None:
        while not self._stopping:
            with contextlib.suppress(OSError):
                caller, _ = self._listener.accept()
                with caller, socket.create_connection(("127.0.0.1", self._target)) as node:
                    self._ends = {TO_CALLER: caller, TO_NODE: node}
                    self._pass_on(caller, node)
                    with self._lock:
                        self._ends = {}

    def _pass_on(self, caller: socket.socket, node: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(caller, selectors.EVENT_READ, TO_NODE)
            selector.register(node, selectors.EVENT_READ, TO_CALLER)
            while not self._stopping:
                for key, _ in selector.select(0.05):
                    data = key.fileobj.recv(4096)  # type: ignore[union-attr]
                    if not data or not self._pass(key.data, data):
                        return

    def _pass(self, direction: str, data: bytes) -> bool:
        if direction in self._muted:
            return True
        left = self._left.pop(direction, None)
        if left is not None:
            data = data[:left]
        with self._lock:
            self._ends[direction].sendall(data)
        self.passed[direction] += len(data)
        if left is None:
            return True
        if left > len(data):
            self._left[direction] = left - len(data)
            return True
        return False

    def close(self) -> None:
        """Cut, and accept nobody any more."""
        self._stopping = True
        self.cut()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            pass  # wakes the accept
        self._thread.join(10)
        self._listener.close()


@contextlib.contextmanager
def proxied(node: str, epmd_port: int) -> Iterator[tuple[Proxy, int]]:
    """A proxy before a node, and the port of an epmd that gives the proxy's port for it."""
    name = node.split("@")[0]
    entry = epmd.port_please(name, epmd_port=epmd_port)
    assert entry is not None
    proxy = Proxy(entry.port)
    try:
        with our_epmd() as port, epmd.register(name, proxy.port, epmd_port=port):
            yield proxy, port
    finally:
        proxy.close()
