"""From a fresh socket to a connection: drives one handshake, on the poller's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from otplib.dist.framing import Framing, handshake_frame
from otplib.dist.handshake import (
    SETUP_TIME,
    Acceptor,
    Action,
    AliveReceived,
    Close,
    CloseReason,
    Connected,
    Initiator,
    NameReceived,
    OldConnectionMustGo,
    Peer,
    Send,
)
from otplib.dist.handshake_messages import Status
from otplib.dist.poller import Poller
from otplib.dist.wire import Wire


class Host(Protocol):
    """Who decides about connections: the net kernel."""

    def status_for(self, setup: LinkSetup, name: NameReceived) -> Status:
        """Answer the name of a caller."""

    def still_wanted(self, setup: LinkSetup) -> bool:
        """The peer believes that it is connected with us: is this attempt to go on?"""

    def drop_old(self, node: str) -> None:
        """Lose the connection that there was with a node that has proved itself anew."""

    def setup_done(self, setup: LinkSetup, peer: Peer, framing: Framing) -> Callable[[], None]:
        """Take the wire over; gives what is to be called when more bytes have been fed to the framing."""

    def setup_failed(self, setup: LinkSetup, reason: CloseReason | None, text: str) -> None:
        """Hear that it came to nothing; the wire is closed."""


class LinkSetup:
    """One handshake over one wire.

    Args:
        host: who decides.
        poller: whose thread this is.
        wire: the fresh connection.
        handshake: our side's machine.
        node: whom we call; None if somebody calls us, until the name has come.
    """

    def __init__(
        self, host: Host, poller: Poller, wire: Wire, handshake: Initiator | Acceptor, node: str | None
    ) -> None:
        self.node = node
        self.outgoing = node is not None
        self.wire = wire
        #: It came in while we were calling that node ourselves, and has taken our call's place.
        self.supersedes = False
        self._host = host
        self._handshake = handshake
        self._framing = Framing(wide=wire.layered)
        self._over = False
        self._deadline = poller.later(SETUP_TIME, lambda: self.give_up("the peer took too long"))
        wire.on_bytes = self._on_bytes
        wire.on_closed = self._on_closed

    def begin(self) -> None:
        """Say our name, if it is ours to begin, and listen."""
        self.wire.start()
        if isinstance(self._handshake, Initiator):
            self._carry_out(self._handshake.start())

    def give_up(self, text: str, reason: CloseReason | None = None) -> None:
        """End it without a connection. Idempotent."""
        if self._over:
            return
        self._over = True
        self._deadline.cancel()
        self.wire.flush()  # what refuses the caller goes out first
        self.wire.close(text)
        self._host.setup_failed(self, reason, text)

    def _on_closed(self, reason: str) -> None:
        self.give_up(reason)

    def _on_bytes(self, data: bytes | memoryview) -> None:
        if self._over:
            return  # given up; the wire, which closes behind what it has to write, still reads
        self._framing.feed(data)
        for message in self._framing.packets():
            self._carry_out(self._handshake.receive(message))
            if self._over:
                return

    def _carry_out(self, actions: list[Action]) -> None:
        waiting = list(actions)
        while waiting:
            action = waiting.pop(0)
            match action:
                case Send(message):
                    self.wire.write(handshake_frame(message, wide=self.wire.layered))
                case NameReceived(node):
                    self.node = node
                    assert isinstance(self._handshake, Acceptor)
                    waiting += self._handshake.decide(self._host.status_for(self, action))
                case AliveReceived():
                    assert isinstance(self._handshake, Initiator)
                    waiting += self._handshake.confirm(self._host.still_wanted(self))
                case OldConnectionMustGo(node):
                    self._host.drop_old(node)
                    assert isinstance(self._handshake, Acceptor)
                    waiting += self._handshake.old_connection_gone()
                case Connected(peer):
                    self._connected(peer)
                case Close(reason, text):
                    self.give_up(text, reason)

    def _connected(self, peer: Peer) -> None:
        self._over = True
        self._deadline.cancel()
        self._framing.connected()
        read_on = self._host.setup_done(self, peer, self._framing)
        read_on()  # the first packets may have come in one piece with the last message
