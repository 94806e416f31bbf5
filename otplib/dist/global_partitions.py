"""How partitions of nodes are kept from overlapping: the decisions, without process or socket.

`Global` names hold in a partition whose nodes all know one another. Where A has lost B, and C is connected to both, the
names at C would be those of two partitions. OTP's `prevent_overlapping_partitions` prevents that, and we take part:

    1. whoever loses a connection tells all nodes it knows:     ("lost_connection", A, life, operation, B)
    2. who hears that for the first time passes it on to all it knows, asks B to go, ("remove_connection", C), and
       counts B no longer among its nodes
    3. who is asked to go hangs up; neither of the two tells anybody of that

`life` is a number of A's own for the time between its start and its end, `operation` one that grows with each loss.
"""

from __future__ import annotations

from typing import Any, Final

from otplib.core.terms import Atom
from otplib.dist.global_protocol import PREVENTS_OVERLAP, Action, Disconnect, GlobalProtocol, Tell, Warn

#: Seconds for which it is remembered that a loss has been heard of.
MEMORY: Final = 3600.0


class Partitions:
    """What a node does when a connection is lost, its own or another's.

    Args:
        protocol: knows the nodes.
        life: unlike that of any other life of a node of this name.
    """

    def __init__(self, protocol: GlobalProtocol, life: int) -> None:
        self._protocol = protocol
        self._life = life
        self._operations = 0
        #: Nodes that are no longer ours, and whose node_down is still to come.
        self._removing: set[str] = set()
        #: The losses we have heard of, the oldest hearing first: (who, whom) -> (life, operation, when).
        self._heard: dict[tuple[str, str], tuple[Any, int, float]] = {}

    def node_up(self, node: str) -> list[Action]:
        """A node has been connected."""
        self._removing.discard(node)
        return self._protocol.node_up(node)

    def node_down(self, node: str) -> list[Action]:
        """A connection has gone: tell the others, unless it was to go."""
        actions = self._protocol.forget(node)
        if node in self._removing:
            self._removing.discard(node)
            return actions
        self._operations += 1
        here = Atom(self._protocol.here)
        message = (Atom("lost_connection"), here, self._life, self._operations, Atom(node))
        return [*actions, *self._tell_all(message, node)]

    def lost_connection(self, message: tuple[str, str, Any, int, str], now: float) -> list[Action]:
        """A node, `message[1]`, has lost another, `message[4]`; `now` in seconds."""
        _, loser, life, operation, lost = message
        heard = self._heard.get((loser, lost))
        if heard is not None and heard[0] == life and operation <= heard[1]:
            return []
        self._heard.pop((loser, lost), None)  # so that it goes to the end
        self._heard[loser, lost] = (life, operation, now)
        self._forget_old(now)
        actions = self._tell_all(message, loser)
        # That it is we who were lost means that the message went round; the others will remove us: one of the two
        # is enough.
        node = lost if lost != self._protocol.here else loser
        version = self._protocol.connected().get(node)
        if version is None:
            return actions
        if version < PREVENTS_OVERLAP:
            actions.append(Disconnect(node))
            what = "disconnected old node"
        else:
            actions.append(Tell(node, (Atom("remove_connection"), Atom(self._protocol.here))))
            what = "requested disconnect from node"
        return [*actions, _warning(what, node), *self._remove(node)]

    def remove_connection(self, node: str) -> list[Action]:
        """A node asks us to go.

        Also if it is none of ours: we may have asked it at the same time, or not have got to know it yet. OTP's server
        does nothing then, and two that are both OTP's stay connected as strangers.
        """
        if node in self._removing:
            return [Disconnect(node)]
        return [Disconnect(node), *self._remove(node), _warning("disconnected node", node)]

    def _remove(self, node: str) -> list[Action]:
        self._removing.add(node)
        return self._protocol.forget(node)

    def _tell_all(self, message: Any, but: str) -> list[Action]:
        connected = self._protocol.connected()
        return [
            Tell(node, message) for node, version in connected.items() if node != but and version >= PREVENTS_OVERLAP
        ]

    def _forget_old(self, now: float) -> None:
        while True:
            pair, (_, _, when) = next(iter(self._heard.items()))
            if now - when <= MEMORY:
                return
            del self._heard[pair]


def _warning(what: str, node: str) -> Warn:
    return Warn(f"{what} {node} in order to prevent overlapping partitions")
