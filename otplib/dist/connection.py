"""A connection that is up: packets in, ticks, and its end. On the poller's thread."""

from __future__ import annotations

import logging
from collections.abc import Callable

from otplib.core.errors import DecodeError
from otplib.dist.channel import Channel
from otplib.dist.control_reader import ControlReader
from otplib.dist.etf import Decoder
from otplib.dist.framing import Framing
from otplib.dist.handshake import Peer
from otplib.dist.poller import Appointment, Poller
from otplib.dist.receiver import Receiver
from otplib.dist.ticks import TICK_INTENSITY, NetTicker, TickAction
from otplib.dist.wire import Wire

log = logging.getLogger("otplib")


class Connection:
    """One node that is connected.

    Args:
        poller: whose thread this is.
        channel: what goes up and down with it.
        wire, framing: of the handshake that has made it.
        decoder: reads this peer's terms.
        receiver: carries out its signals.
        net_tick_time: seconds of silence after which the peer counts as gone.
        on_end: told once when it is over, with the reason.
    """

    def __init__(
        self,
        poller: Poller,
        channel: Channel,
        peer: Peer,
        wire: Wire,
        framing: Framing,
        decoder: Decoder,
        receiver: Receiver,
        net_tick_time: float,
        on_end: Callable[[Connection, str], None],
    ) -> None:
        self.channel = channel
        self.peer = peer
        self.wire = wire
        self._poller = poller
        self._framing = framing
        self._read_control = ControlReader(decoder).read
        self._carry_out = receiver.carry_out
        self._interval = net_tick_time / TICK_INTENSITY
        self._ticker = NetTicker(hidden=peer.hidden)
        self._next_tick: Appointment | None = poller.later(self._interval, self._tick)
        self._on_end = on_end
        wire.on_bytes = self._on_bytes
        wire.on_closed = self._ended

    def read_on(self) -> None:
        """Take what the framing holds."""
        try:
            read, carry_out = self._read_control, self._carry_out
            for packet in self._framing.packets():
                if packet:
                    carry_out(read(packet))
        except DecodeError as error:
            log.error("** Bad bytes from node %s: %s. The connection is closed **", self.peer.node, error)
            self.wire.close(f"bad bytes: {error}")

    def _on_bytes(self, data: bytes | memoryview) -> None:
        self._framing.feed(data)
        self.read_on()

    def _tick(self) -> None:
        wire = self.wire
        action = self._ticker.tick(read=wire.read, written=wire.written, pending=wire.waiting > 0)
        if action is TickAction.NOT_RESPONDING:
            log.error("** Node %s not responding **\n** Removing (timedout) connection **", self.peer.node)
            wire.close("net tick timeout")
            return
        if action is TickAction.SEND_TICK:
            self.channel.tick()
        self._next_tick = self._poller.later(self._interval, self._tick)

    def _ended(self, reason: str) -> None:
        if self._next_tick is not None:
            self._next_tick.cancel()
        self._on_end(self, reason)
