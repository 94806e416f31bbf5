"""The net kernel: a machine as a node. It connects on first use, and lets in whoever knows the cookie.

Who does what:

    Poller      the thread that touches sockets        LinkSetup    one handshake
    Router      signals out, and what is bound to them  Receiver    signals in
    Channel     what waits for, and ends with, a connection to one node
    Connection  packets and ticks of a connection that is up

Everything about connections is decided on the poller's thread, so two things about one node never happen at once. Only
the calling of a node that we do not know yet, which asks its host's epmd, takes a thread of its own for a moment.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

from otplib.core.errors import NodeError
from otplib.core.terms import NO_NODE, Atom, Pid, node_names
from otplib.dist import epmd
from otplib.dist.addresses import calling_addresses, listening_places, open_listeners
from otplib.dist.channel import Channel, Line, State
from otplib.dist.connection import Connection
from otplib.dist.cookies import CookieJar
from otplib.dist.epmd_keeper import EpmdKeeper
from otplib.dist.etf import Decoder, Here
from otplib.dist.far_reports import Reporter
from otplib.dist.flags import claimed_flags
from otplib.dist.framing import Framing
from otplib.dist.handshake import (
    SETUP_TIME,
    Acceptor,
    CloseReason,
    ConnectionState,
    Cookie,
    Initiator,
    NameReceived,
    Peer,
    ThisNode,
    status_for_name,
)
from otplib.dist.handshake_messages import Status
from otplib.dist.link_setup import LinkSetup
from otplib.dist.node_names import check_alike, split_name
from otplib.dist.poller import READ, Poller
from otplib.dist.receiver import Receiver
from otplib.dist.router import Router
from otplib.dist.signal_writer import SignalWriter
from otplib.dist.ticks import NET_TICK_TIME
from otplib.dist.tls import Tls, TlsLayer
from otplib.dist.wire import Wire
from otplib.vm.machine import Machine
from otplib.vm.transport import NoTransport

log = logging.getLogger("otplib")

Kind = Literal["visible", "hidden", "connected", "this", "known"]

#: Callers that are in the middle of their handshake; one more, and the oldest must go. Whoever knows the cookie is
#: through in a millisecond.
MAX_CALLERS: Final = 64


class NetKernel:
    """One machine's life as a node. Make it, `open` it on a thread that may block, then `join`.

    Args:
        machine: whose processes become reachable.
        node: the full name.
        cookies: which secret is shared with whom.
        hidden: do not take part in the mesh, as `erl -hidden`.
        listen: the address on which other nodes reach us.
        port: where; 0 for any.
        pickle: whether Python objects are exchanged with Python nodes.
        tls: a certificate and whom to trust; None for plain TCP.
        net_tick_time: seconds of silence after which a node counts as gone.
        epmd_port: where the port mapper is, if not where `ERL_EPMD_PORT` says.
    """

    def __init__(
        self,
        machine: Machine,
        node: str,
        cookies: CookieJar,
        *,
        hidden: bool = False,
        listen: str = epmd.LOOPBACK,
        port: int = 0,
        pickle: bool = True,
        tls: Tls | None = None,
        net_tick_time: float = NET_TICK_TIME,
        epmd_port: int | None = None,
    ) -> None:
        self.machine = machine
        self.node = node
        self.cookies = cookies
        self.hidden = hidden
        self.net_tick_time = net_tick_time
        self.here = Here(node, 0, machine.creation)
        self.router = Router(machine, self._begin_to_connect, self._abandon)
        self.listen, self._port = listen, port
        self.epmd_port = epmd_port
        self.pickle = pickle
        self.tls = tls
        self._this = ThisNode(node, 0, claimed_flags(hidden=hidden))
        self._poller: Poller | None = None
        self._listeners: list[_Listener] = []
        self._keeper: EpmdKeeper | None = None
        self._reporter = Reporter(machine)
        self._closing = False
        # All of what follows is the poller's.
        self._outgoing: dict[str, LinkSetup] = {}
        self._incoming: list[LinkSetup] = []
        #: Who is connected; read by anybody, changed on the poller's thread.
        self._connections: dict[str, Connection] = {}
        #: Who hears of nodes that come and go, how often, and of which; guarded by the machine's lock.
        self._observers: dict[tuple[Pid, Kind], int] = Counter()

    # ---- life --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Listen, and register with the port mapper. Blocks.

        Raises:
            NameTakenError: another living node has the name.
            NodeError: the address cannot be listened on, or no port mapper is to be had.
        """
        name, host = split_name(self.node)
        places = listening_places(host, self.listen)
        self._listeners = [_Listener(self, one, places.admits) for one in open_listeners(places.addresses, self._port)]
        port = self._listeners[0].socket.getsockname()[1]
        try:
            self._keeper = EpmdKeeper(
                name,
                port,
                hidden=self.hidden,
                epmd_port=self.epmd_port,
                addresses=places.addresses,
                public=places.public,
            )
            creation = self._keeper.register()
        except BaseException:
            for listener in self._listeners:
                listener.socket.close()
            raise
        self.here = Here(self.node, creation, self.machine.creation)
        self._this = ThisNode(self.node, creation, claimed_flags(hidden=self.hidden))

    def join(self) -> None:
        """Become the machine's transport. After `open`; does not block. Callers wait until `let_callers_in`."""
        machine = self.machine
        with machine.lock:
            machine.node = self.node
            node_names[machine.creation] = self.node
            machine.transport = self.router
            machine.services["net_kernel"] = self
            # Who wants to hear of nodes, and asked before this machine was one: the scopes of `pg`.
            for pid in machine.services.get("node_observers", ()):
                self._observers[pid, "visible"] += 1
        machine.at_stop.append(self.close)
        log.addFilter(self._reporter)
        self._poller = Poller(f"otplib-net-{self.node}", machine.scheduler)

    def let_callers_in(self) -> None:
        """Answer other nodes from now on: what they will ask for is there."""
        if self._poller is not None:
            self._poller.call(self._accept_callers)

    def close(self) -> None:
        """Close every connection, give the name back, and be no node any more. Idempotent; blocks for a moment."""
        machine = self.machine
        with machine.lock:
            if self._closing:
                return
            self._closing = True
        poller = self._poller
        log.removeFilter(self._reporter)
        if poller is not None:
            poller.call(self._close_all)
            poller.stop()
        if self._keeper is not None:
            self._keeper.close()
        with machine.lock:
            if machine.services.get("net_kernel") is self:
                del machine.services["net_kernel"]
                machine.transport = NoTransport(machine)
                machine.node = NO_NODE
                node_names.pop(machine.creation, None)
            if self.close in machine.at_stop:
                machine.at_stop.remove(self.close)

    def _close_all(self) -> None:
        poller = self._poller
        assert poller is not None
        for listener in self._listeners:
            poller.forget(listener.socket)
            listener.socket.close()
        for setup in (*self._outgoing.values(), *self._incoming):
            setup.give_up("this node has been stopped")
        for connection in list(self._connections.values()):
            connection.wire.flush()
            connection.wire.close("this node has been stopped")
        for channel in list(self.router.channels.values()):
            if channel.node not in self._connections:
                self._lose(channel)

    def _abandon(self) -> None:
        if self._poller is not None:
            self._poller.abandon()
        if self._keeper is not None:
            self._keeper.abandon()

    # ---- who is there ------------------------------------------------------------------------------------------

    def nodes(self, kind: Kind = "visible") -> list[str]:
        """Give the names of nodes, as `Node.list/1`: oldest connection first."""
        if kind == "this":
            return [self.node]
        connections = list(self._connections.values())
        if kind == "visible":
            return [one.peer.node for one in connections if not one.peer.hidden]
        if kind == "hidden":
            return [one.peer.node for one in connections if one.peer.hidden]
        names = [one.peer.node for one in connections]
        return names if kind == "connected" else [*names, self.node]

    def peer(self, node: str) -> Peer | None:
        """Give what is known of a connected node."""
        connection = self._connections.get(node)
        return connection.peer if connection is not None else None

    def set_cookie(self, node: str, cookie: Cookie) -> None:
        """Share a secret of its own with one node, from the next handshake on."""
        self.cookies.set(node, cookie)

    def monitor_nodes(self, pid: Pid, on: bool, kind: Kind = "visible") -> None:
        """Have a process sent `("nodeup", node)` and `("nodedown", node)`, counted as `net_kernel:monitor_nodes/1`."""
        with self.machine.lock:
            if on:
                self._observers[pid, kind] += 1
            elif self._observers[pid, kind] > 1:
                self._observers[pid, kind] -= 1
            else:
                del self._observers[pid, kind]

    def _tell_observers(self, word: str, peer: Peer) -> None:
        with self.machine.lock:
            observers = list(self._observers.items())
        for (pid, kind), count in observers:
            record = self.machine.table.get(pid.id)
            if record is None or record.pid != pid:
                with self.machine.lock:
                    self._observers.pop((pid, kind), None)
            elif kind == "connected" or (kind == "hidden") == peer.hidden:
                for _ in range(count):
                    self.machine.deliver(record, (word, Atom(peer.node)))

    # ---- asking it ---------------------------------------------------------------------------------------------

    def when_connected(self, node: str, tell: Callable[[bool], None]) -> None:
        """Have it told whether a node is connected, once that is known. `tell` must not block."""
        self.router.when_connected(node, tell)

    def disconnect(self, node: str, tell: Callable[[bool], None]) -> None:
        """Close the connection with a node; have it told whether there was one, when all that hung on it is told."""
        poller = self._poller

        def close() -> None:
            connection = self._connections.get(node)
            if connection is None or poller is None:
                tell(False)
                return
            connection.wire.flush()
            connection.wire.close("disconnected")
            poller.call(lambda: tell(True))  # behind the end of the wire

        if poller is None or self._closing:
            tell(False)
            return
        poller.call(close)

    # ---- calling -----------------------------------------------------------------------------------------------

    def _begin_to_connect(self, channel: Channel) -> bool:
        """Start to call the node of a fresh channel. On any thread, without waiting."""
        if self._closing or channel.node == self.node:
            return False
        try:
            check_alike(self.node, channel.node)
        except NodeError as error:
            log.error("** %s **", error)
            return False
        thread = threading.Thread(
            target=self._dial, args=(channel,), name=f"otplib-connect-{channel.node}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads
            return False
        return True

    def _dial(self, channel: Channel) -> None:
        """Find the node's port and connect to it. On a thread of its own, as both block."""
        poller = self._poller
        assert poller is not None
        connection = None
        try:
            name, host = split_name(channel.node)
            for address in calling_addresses(host, split_name(self.node)[1]):
                connection = _call(name, address, self.epmd_port)
                if connection is not None:
                    break
        except (OSError, ValueError, NodeError) as error:
            log.debug("cannot reach node %s: %s", channel.node, error)
        found = connection
        poller.call(lambda: self._dialled(channel, found))

    def _dialled(self, channel: Channel, connection: socket.socket | None) -> None:
        if channel.state is not State.PENDING or self._closing:  # it has called us meanwhile
            if connection is not None:
                connection.close()
            if self._closing:
                self._lose(channel)
            return
        theirs = next((setup for setup in self._incoming if setup.node == channel.node), None)
        if theirs is not None:  # it has been quicker: one of the two calls is enough
            theirs.supersedes = True
            if connection is not None:
                connection.close()
            return
        if connection is None:
            self._lose(channel)
            return
        poller = self._poller
        assert poller is not None
        try:
            wire = Wire(poller, connection, self._layer(server_side=False, node=channel.node))
            handshake = Initiator(self._this, channel.node, self.cookies.cookie_for(channel.node))
        except (OSError, ValueError) as error:
            log.debug("cannot reach node %s: %s", channel.node, error)
            connection.close()
            self._lose(channel)
            return
        setup = self._outgoing[channel.node] = LinkSetup(self, poller, wire, handshake, channel.node)
        setup.begin()

    def _layer(self, *, server_side: bool, node: str | None) -> TlsLayer | None:
        if self.tls is None:
            return None
        return TlsLayer(self.tls, server_side=server_side, server_hostname=split_name(node)[1] if node else None)

    # ---- being called ------------------------------------------------------------------------------------------

    def _accept_callers(self) -> None:
        assert self._poller is not None
        if self._closing:
            return
        for listener in self._listeners:
            self._poller.watch(listener.socket, READ, listener)

    def let_in(self, listener: _Listener) -> None:
        """Let a caller in: one at a time, so that a crowd of strangers keeps no peer waiting."""
        poller = self._poller
        assert poller is not None
        try:
            connection, (caller, *_) = listener.socket.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # no file left: look again in a while, do not spin
                poller.forget(listener.socket)
                poller.later(0.1, self._accept_callers)
            return
        if not listener.admits(connection.getsockname()[0], caller):
            connection.close()
            return
        if len(self._incoming) >= MAX_CALLERS:
            self._incoming[0].give_up("too many callers at once")
        try:
            wire = Wire(poller, connection, self._layer(server_side=True, node=None))
        except OSError:
            connection.close()
            return
        setup = LinkSetup(self, poller, wire, Acceptor(self._this, self.cookies.cookie_for), None)
        self._incoming.append(setup)
        setup.begin()

    def _is_being_called_by(self, node: str, but: LinkSetup | None = None) -> bool:
        return any(setup.node == node and setup is not but for setup in self._incoming)

    def status_for(self, setup: LinkSetup, name: NameReceived) -> Status:
        """Answer the name of a caller; see `status_for_name`."""
        ours = self._outgoing.get(name.node)
        being_called = self._is_being_called_by(name.node, but=setup)
        if name.node in self._connections:
            state = ConnectionState.UP_PENDING if being_called else ConnectionState.UP
        else:
            state = ConnectionState.PENDING if ours is not None or being_called else ConnectionState.NONE
        status = status_for_name(self.node, name.node, state)
        if status is Status.OK_SIMULTANEOUS and ours is not None:
            setup.supersedes = True
            self._outgoing.pop(name.node)
            ours.give_up(f"{name.node} is calling us, and its call goes on")
        return status

    # ---- what becomes of a handshake ---------------------------------------------------------------------------

    def still_wanted(self, setup: LinkSetup) -> bool:
        """The peer believes that it is connected with us: is this attempt to go on?"""
        node = setup.node
        return node is not None and node not in self._connections and not self._is_being_called_by(node)

    def drop_old(self, node: str) -> None:
        """Lose the connection that there was with a node that has proved itself anew."""
        connection = self._connections.get(node)
        if connection is not None:
            connection.wire.close("replaced by a new connection")
            self._connection_ended(connection, "replaced by a new connection")

    def setup_failed(self, setup: LinkSetup, reason: CloseReason | None, text: str) -> None:
        """Hear that a handshake came to nothing."""
        node = setup.node
        if setup in self._incoming:
            self._incoming.remove(setup)
            if reason is CloseReason.BAD_COOKIE or reason is CloseReason.MISSING_FLAGS:
                log.error("** %s **", text[:1].upper() + text[1:])
            channel = self.router.channels.get(node) if node is not None else None
            if channel is not None and channel.state is State.PENDING and node not in self._outgoing:
                if not setup.supersedes or not self._begin_to_connect(channel):
                    self._lose(channel)
            return
        if node is None or self._outgoing.get(node) is not setup:
            return  # it has been superseded
        del self._outgoing[node]
        if reason is CloseReason.BAD_COOKIE:
            log.error("** %s **", text[:1].upper() + text[1:])
        channel = self.router.channels.get(node)
        if channel is None or channel.state is not State.PENDING or self._is_being_called_by(node):
            return
        if reason is CloseReason.NOK:  # its own call is on its way to us
            assert self._poller is not None
            self._poller.later(SETUP_TIME, lambda: self._lose_unless_called(channel))
        else:
            self._lose(channel)

    def _lose_unless_called(self, channel: Channel) -> None:
        if channel.state is State.PENDING and not self._is_being_called_by(channel.node):
            self._lose(channel)

    def setup_done(self, setup: LinkSetup, peer: Peer, framing: Framing) -> Callable[[], None]:
        """Take over a wire whose other end has proved itself."""
        poller = self._poller
        assert poller is not None
        if setup in self._incoming:
            self._incoming.remove(setup)
        self._outgoing.pop(peer.node, None)
        self.drop_old(peer.node)
        channel = self.router.adopt(peer.node)
        python = peer.is_python
        decoder = Decoder(python_peer=python, allow_pickle=python and self.pickle, here=self.here)
        receiver = Receiver(self.machine, self.router, channel)
        connection = Connection(
            poller, channel, peer, setup.wire, framing, decoder, receiver, self.net_tick_time, self._connection_ended
        )
        self._connections[peer.node] = connection
        # The observers first: whoever waits for the connection finds them told.
        self._tell_observers("nodeup", peer)
        line = Line(SignalWriter(peer, self.here, self.pickle), setup.wire, peer)
        if not channel.go_up(line, receiver.refused):
            setup.wire.close("more signals came than could wait for the connection")
        with self.machine.lock:
            waiters, channel.bonds.waiters = channel.bonds.waiters, []
        _tell_all(waiters, channel.state is State.UP)
        return connection.read_on

    def _connection_ended(self, connection: Connection, reason: str) -> None:
        if self._connections.get(connection.peer.node) is not connection:
            return
        del self._connections[connection.peer.node]
        log.debug("node %s is down: %s", connection.peer.node, reason)
        self._lose(connection.channel)
        self._tell_observers("nodedown", connection.peer)

    def _lose(self, channel: Channel) -> None:
        Receiver(self.machine, self.router, channel).lose()


class _Listener:
    """A socket at which other nodes call."""

    def __init__(self, kernel: NetKernel, listener: socket.socket, admits: Callable[[str, str], bool]) -> None:
        self.socket = listener
        self.admits = admits
        self._kernel = kernel

    def on_ready(self, events: int) -> None:
        """Somebody calls."""
        self._kernel.let_in(self)


def _call(name: str, address: str, epmd_port: int | None) -> socket.socket | None:
    """Ask the port mapper at an address for a node, and connect to it; None if there is no such node."""
    try:
        found = epmd.port_please(name, host=address, epmd_port=epmd_port, timeout=SETUP_TIME)
        if found is not None:
            return socket.create_connection((address, found.port), timeout=SETUP_TIME)
    except (OSError, ValueError) as error:
        log.debug("nobody answers for node %s at %s: %s", name, address, error)
    return None


def _tell_all(waiters: Iterable[Callable[[bool], None]], outcome: bool) -> None:
    for tell in waiters:
        with contextlib.suppress(Exception):
            tell(outcome)


def kernel_of(machine: Machine) -> NetKernel | None:
    """Give the net kernel of a machine; None if it is no node."""
    found: Any = machine.services.get("net_kernel")
    return found if isinstance(found, NetKernel) else None
