"""Where a node listens, and where others are looked for: IPv4 addresses behind the hosts of names.

A node is always reachable from its own machine, and from nowhere else unless it is told to be:

* A BEAM looks for `foo@vm` at the address that `vm` has, so a node listens there as well as on 127.0.0.1. That may
  be 127.0.1.1 (Debian), or the address of a container (Docker, Binder). If `vm` has no address, a BEAM on `vm` takes
  127.0.0.1.
* Whoever calls at such an address from another machine is turned away before a byte is read (`Places.admits`).
* `listen="0.0.0.0"`, or the address of one network card, opens that one for others.
* Nodes of this machine are called on 127.0.0.1 first, so two kernels find each other even where the machine's own name
  leads nowhere.

Looking a name up may take seconds; these functions block, each no longer than its timeout.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import sys
import threading
from collections.abc import Iterable
from typing import Final, NamedTuple

from otplib.core.errors import NodeError
from otplib.dist.epmd import LOOPBACK
from otplib.dist.node_names import short_host

EVERYWHERE: Final = "0.0.0.0"

#: Seconds for a name's address. Offline, a resolver may take half a minute to say that it knows nothing.
LOOKUP_TIME: Final = 2.0

_BACKLOG: Final = 128
_TRIES: Final = 16


class Places(NamedTuple):
    """Where a node listens: the addresses, and which of them is open to other machines (None: none of them)."""

    addresses: tuple[str, ...]
    public: str | None = None

    def admits(self, own: str, peer: str) -> bool:
        """Whether a caller from `peer` may stay that has reached us on our address `own`.

        Example:
            >>> Places(("127.0.0.1", "172.17.0.2")).admits("172.17.0.2", "172.17.0.3")
            False
            >>> Places(("127.0.0.1", "172.17.0.2")).admits("172.17.0.2", "172.17.0.2")
            True
            >>> Places(("0.0.0.0",), "0.0.0.0").admits("172.17.0.2", "172.17.0.3")
            True
        """
        return self.public in (EVERYWHERE, own) or is_local(own, peer)


def is_local(own: str, peer: str) -> bool:
    """Whether a caller from `peer` that has reached us on our address `own` is on this machine."""
    return peer == own or peer.startswith("127.")


def listening_places(host: str, listen: str = LOOPBACK) -> Places:
    """Where a node of that host listens.

    Args:
        host: the host of the node's name.
        listen: an address of this machine, or a name that has one; 127.0.0.1 means this machine alone.

    Raises:
        NodeError: no address of this machine.

    Example:
        >>> listening_places("localhost")
        Places(addresses=('127.0.0.1',), public=None)
        >>> listening_places("localhost", "0.0.0.0")
        Places(addresses=('0.0.0.0',), public='0.0.0.0')
    """
    wanted = _find_own(listen)
    if wanted == EVERYWHERE:
        return Places((EVERYWHERE,), EVERYWHERE)
    ours = [address for address in look_up(host) if is_ours(address)]
    addresses = tuple(dict.fromkeys((LOOPBACK, wanted, *ours)))
    return Places(addresses, None if wanted.startswith("127.") else wanted)


def calling_addresses(host: str, here: str) -> list[str]:
    """Where nodes of `host` are to be called, best first; nothing if nobody knows that host.

    Args:
        here: the host of our own node's name.
    """
    found = look_up(host)
    if host in (here, short_host(), socket.gethostname()) or any(map(is_ours, found)):
        found.insert(0, LOOPBACK)
    return list(dict.fromkeys(found))


def look_up(host: str, timeout: float = LOOKUP_TIME) -> list[str]:
    """The IPv4 addresses of a host, in the resolver's order; nothing if it has none or the answer takes too long."""
    try:
        return [str(ipaddress.IPv4Address(host))]
    except ValueError:
        pass
    found: list[str] = []

    def ask() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            answers = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
            found.extend(str(answer[4][0]) for answer in answers)

    # getaddrinfo cannot be told when to stop: then its thread is left behind until it does.
    asking = threading.Thread(target=ask, name="otplib look up", daemon=True)
    asking.start()
    asking.join(timeout)
    return [] if asking.is_alive() else list(dict.fromkeys(found))


def is_ours(address: str) -> bool:
    """Whether an IPv4 address is one of this machine; `"0.0.0.0"` is none."""
    if address == EVERYWHERE:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def open_listeners(addresses: Iterable[str], port: int = 0) -> list[socket.socket]:
    """Listen on one port of all these addresses; 0 is a free one. Gives non-blocking sockets, the first address first.

    Raises:
        NodeError: the port is taken, or the first address is not ours.
    """
    wanted = list(addresses)
    for _ in range(_TRIES):
        listeners: list[socket.socket] = []
        chosen = port
        for address in wanted:
            try:
                listeners.append(_listen(address, chosen))
            except OSError as error:
                for each in listeners:
                    each.close()
                if port == 0 and listeners and error.errno == errno.EADDRINUSE:
                    break  # free on one address and taken on another: the next free one may do
                raise NodeError(f"cannot listen on {address} port {chosen}: {error.strerror}") from None
            chosen = listeners[0].getsockname()[1]
        else:
            return listeners
    raise NodeError(f"found no port that is free on all of {', '.join(wanted)}")


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # On POSIX: do not wait for what is left of closed connections. On Windows the same option would let two
        # programs share the port.
        if sys.platform == "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _find_own(listen: str) -> str:
    for address in look_up(listen):
        if address == EVERYWHERE or is_ours(address):
            return address
    raise NodeError(
        f'cannot listen on {listen!r}: expected an IPv4 address of this machine, or "0.0.0.0" for all of them'
    )
