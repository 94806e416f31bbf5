"""Net ticks: how a node that has gone silent is told from one that has nothing to say. Pure: the caller has the clock.

Each side looks at its connection `TICK_INTENSITY` times in a net tick time (60 s, so every 15 s). Who has sent nothing
since the last look sends a tick; who has heard nothing for a whole net tick time gives the connection up. A silent peer
is noticed after 45 to 75 seconds.
"""

from __future__ import annotations

import enum
from typing import Final

NET_TICK_TIME: Final = 60.0
TICK_INTENSITY: Final = 4


class TickAction(enum.Enum):
    """What to do after a look at the connection."""

    NOTHING = "nothing"
    SEND_TICK = "send_tick"
    NOT_RESPONDING = "not_responding"


class NetTicker:
    """One connection's ticks. Call `tick` every `net_tick_time / intensity` seconds.

    Example:
        >>> ticker = NetTicker()
        >>> [ticker.tick(read=0, written=sent).name for sent in (0, 1, 2, 3)]
        ['SEND_TICK', 'SEND_TICK', 'SEND_TICK', 'NOT_RESPONDING']
    """

    __slots__ = ("_hidden", "_intensity", "_read", "_silent", "_written")

    def __init__(self, *, intensity: int = TICK_INTENSITY, hidden: bool = False) -> None:
        if not 4 <= intensity <= 1000:
            raise ValueError(f"a tick intensity is 4 to 1000, as in OTP; got {intensity}")
        self._intensity = intensity
        self._hidden = hidden
        self._read = 0
        self._written = 0
        self._silent = 0  # looks in a row at which nothing had been read

    def tick(self, *, read: int, written: int, pending: bool = False) -> TickAction:
        """Decide by how many packets have been read and written since the connection is up, ticks included.

        `pending`: output waits in the queue, so a tick behind it would say nothing that the output does not say.
        A hidden peer is ticked whenever it is silent: a primitive C node ticks only in answer to a tick.
        """
        heard = read != self._read
        said = written != self._written
        self._read, self._written = read, written
        self._silent = 0 if heard else self._silent + 1
        if self._silent >= self._intensity:
            return TickAction.NOT_RESPONDING
        if (not said and not pending) or (self._hidden and not heard):
            self._written += 1  # the tick itself, or the next look would take it for something said
            return TickAction.SEND_TICK
        return TickAction.NOTHING
