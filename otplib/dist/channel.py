"""The channel to one node: signals in their order, and the bonds that span the two nodes.

A channel is made by the first signal to a node, or by a node that calls us. Until the connection is up signals wait in
it, in order; once it is down it is thrown away, with everything that was bound to it, and the next signal makes a new
one. So a link or a monitor belongs to one channel from its beginning to its end, and fires once.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol, cast

from otplib.core.copying import copied
from otplib.core.errors import CopyError
from otplib.core.terms import Pid, Ref
from otplib.dist.control import ControlMessage
from otplib.dist.framing import TICK
from otplib.dist.handshake import Peer

log = logging.getLogger("otplib")

#: Signals that may wait for a connection; one more, and the attempt counts as failed, with all that waits.
MAX_WAITING: Final = 1_000_000


class State(enum.Enum):
    """PENDING --handshake done--> UP --connection lost, or closed--> DOWN; PENDING --attempt failed--> DOWN."""

    PENDING = "pending"
    UP = "up"
    DOWN = "down"


class Output(Protocol):
    """What carries the bytes: a socket, or a test's pipe."""

    def write(self, data: bytes) -> None:
        """Have these bytes written behind all earlier ones, without waiting."""

    def close(self, reason: str) -> None:
        """Close the connection."""


class Line(NamedTuple):
    """A connection that is up: what writes a signal as bytes, what carries them, and who is at the other end."""

    write: Callable[[ControlMessage], bytes]
    output: Output
    peer: Peer


class SpawnWait(NamedTuple):
    """A spawn request that has not been answered."""

    requester: Pid
    link: bool
    monitor: bool
    #: Whether the requester waits for the answer, or for the end of the process alone.
    told: bool


class Bonds:
    """What ends with the connection. All guarded by the machine's lock."""

    def __init__(self) -> None:
        #: (ours, theirs) of every link that spans the two nodes.
        self.links: set[tuple[Pid, Pid]] = set()
        #: (ours, theirs) of links taken away here while the peer has not said that it knows; with the number of the
        #: last such message. An exit signal of such a link is from before, and counts as none.
        self.unlinking: dict[tuple[Pid, Pid], int] = {}
        #: Monitors and calls of ours over theirs: who watches, and what.
        self.watching: dict[Ref, tuple[Pid, Pid | tuple[str, str]]] = {}
        #: Monitors of theirs over ours: who is watched.
        self.watched: dict[Ref, Pid] = {}
        self.spawns: dict[Ref, SpawnWait] = {}
        #: Who hears of the end of the node, and how often (`node.monitor`).
        self.node_monitors: Counter[Pid] = Counter()
        #: Told once with whether the connection came up: who waits in `node.connect`.
        self.waiters: list[Callable[[bool], None]] = []


class Channel:
    """What passes between this node and `node`."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.bonds = Bonds()
        #: Guards `state`, `line` and `_waiting`.
        self._lock = threading.Lock()
        self.state = State.PENDING
        #: None unless the channel is up.
        self.line: Line | None = None
        self._waiting: list[ControlMessage] = []
        self._overflowed = False

    def __repr__(self) -> str:
        return f"<Channel to {self.node}: {self.state.value}>"

    def put(self, message: ControlMessage) -> None:
        """Send a signal behind all earlier ones; lost if the connection is. On any thread.

        Raises:
            CopyError: it cannot be sent to this peer. While no connection is up that is only logged, when it is.
        """
        line = self.line
        if line is None:
            # Once it is up the sender may have changed what it sent: so a copy waits.
            message = cast("Any", message)._make(map(copied, message))  # all are NamedTuples
            with self._lock:
                if self.state is State.PENDING:
                    self._overflowed = self._overflowed or len(self._waiting) >= MAX_WAITING
                    if not self._overflowed:
                        self._waiting.append(message)
                    return
                line = self.line
            if line is None:
                return
        line.output.write(line.write(message))

    def tick(self) -> None:
        """Say that we are alive."""
        if self.line is not None:
            self.line.output.write(TICK)

    def go_up(self, line: Line, refused: Callable[[ControlMessage], None]) -> bool:
        """Send what has waited, and from now on directly; False if more came than could wait, and this must end.

        `refused` is given what cannot be sent to this peer; its sender has gone on long ago.

        Race: a sender that found no line appends to what waits, under the lock, or finds the state changed and looks
        again. So nothing overtakes what waits, and nothing is left behind.
        """
        while True:
            with self._lock:
                if self.state is not State.PENDING or self._overflowed:
                    return False
                waiting, self._waiting = self._waiting, []
                if not waiting:
                    self.line = line
                    self.state = State.UP
                    return True
            for message in waiting:
                try:
                    line.output.write(line.write(message))
                except (CopyError, ValueError) as error:
                    log.error("a message to %s was lost: %s", self.node, error)
                    refused(message)

    def go_down(self) -> None:
        """Lose whatever is sent from now on."""
        with self._lock:
            self.state = State.DOWN
            self.line = None
            self._waiting.clear()
