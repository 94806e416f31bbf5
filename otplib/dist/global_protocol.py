"""How the `global` name servers of two nodes agree on their names: the decisions, without process or socket.

Two nodes that connect may each belong to a partition of nodes that know one another and have the same names. So, with
C in A's partition, and the locker being a process of ours (`otplib.dist.global_locker`):

    A                                                    B
    node_up(B): init_connect            -->  <--         node_up(A): init_connect
    init_connect: the locker may begin                   the same; each side tells by init_connect_ack
                                                         which two tags it has seen
    lock_is_set: all of A's partition is locked          lock_is_set
    exchange (all its names)            -->  <--         exchange
    Resolve: decide each conflict; A decides those       nothing to decide, as "a" < "b"
      in which both sides have a name
    exchange_ops: resolved (the changes,-->  <--         resolved
      and the nodes that A knows)
    Apply, Meet, add to the known nodes                  the same
    the locker tells C, and unlocks:
      new_nodes (changes, B's partition)--> C            C: Apply, Meet
                                            in_sync between each pair of nodes from the two sides

Each attempt has a tag of either side, by which messages of an attempt that was given up are told from those of the
present one; such a message ends in `cancel`. Version 8 of the protocol is that of OTP 25 to 28; version 5 to 7, of
older nodes, lacks init_connect_ack and cancel_connect, and below 7 lists of nodes have no versions.

Every method gives actions, to be carried out in their order:

    Cast(node, request)          `gen_server:cast` to the name server of a node; nothing if not connected to it
    Tell(node, message)          a plain message to it
    Order(message)               a message to our locker
    Resolve(node, tag, names)    compare with our names, resolve conflicts, then call `exchange_ops`
    Apply(ops, source, lock)     change our names
    Meet(nodes)                  connect to each, and cast it ("in_sync", here, True); or call `node_down`
    Synced(node)                 has the same names now
    Release(node)                drop names and locks of its processes
    Retry(node)                  call `node_up` again in a moment, if the node is connected then
    Disconnect(node)             let the net kernel hang up
    Warn(text)                   into the log
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from otplib.core.terms import Atom, Pid

#: The version we speak.
VERSION: Final = 8
#: From this version on a node says by init_connect_ack what it has seen, and by cancel_connect that it gave up.
VERIFIES_CONNECT: Final = 8
#: From this version on a node takes part in preventing overlapping partitions, and lists nodes with their versions.
PREVENTS_OVERLAP: Final = 7
#: What older nodes than this speak is no longer spoken by anybody.
OLDEST: Final = 5

#: The changes that make two replicas equal: `("insert", (name, pid, method))` or `("delete", name)`.
Operations: TypeAlias = list[tuple[str, Any]]
#: Which lock: `("global", requester)`.
LockId: TypeAlias = tuple[Any, Any]


class Cast(NamedTuple):
    """A `gen_server:cast`."""

    node: str
    request: Any


class Tell(NamedTuple):
    """A plain message."""

    node: str
    message: Any


class Order(NamedTuple):
    """A message to our locker."""

    message: Any


class Resolve(NamedTuple):
    """Compare these names, of that node, with ours."""

    node: str
    tag: int
    names: list[Any]


class Apply(NamedTuple):
    """Change our names, if `lock` is still set; `source` is who says so."""

    ops: Operations
    source: str
    lock: LockId | None


class Meet(NamedTuple):
    """Connect to these nodes and tell them that we are in sync."""

    nodes: list[str]


class Synced(NamedTuple):
    """That node has the same names as we now."""

    node: str


class Release(NamedTuple):
    """Drop the names and locks of that node's processes."""

    node: str


class Retry(NamedTuple):
    """Begin anew with that node in a moment."""

    node: str


class Disconnect(NamedTuple):
    """Hang up."""

    node: str


class Warn(NamedTuple):
    """A line for the log."""

    text: str


Action: TypeAlias = Cast | Tell | Order | Resolve | Apply | Meet | Synced | Release | Retry | Disconnect | Warn


@dataclass(slots=True)
class _Attempt:
    """One attempt to agree with a node, from its node_up to the end of the exchange."""

    tag: int
    #: From his init_connect: until it comes, the rest is empty.
    his_tag: Any = None
    version: int = 0
    #: The two things that must both be there before conflicts are resolved, in either order.
    lock: LockId | None = None
    his_names: list[Any] | None = None
    #: The two that must both be there before the replicas change, in either order.
    ops: Operations | None = None
    his_part: tuple[Operations, list[Any]] | None = None

    @property
    def is_pending(self) -> bool:
        """Both sides have begun."""
        return self.version > 0


class GlobalProtocol:
    """What the name server of node `here` knows of the others and says to them.

    Args:
        here: the name of this node.
        locker: the pid that others see as our locker.
        next_tag: gives an integer it has not given before.

    Example:
        >>> protocol = GlobalProtocol("a@h", Pid("a@h", 5, 0, 1), iter(range(100)).__next__)
        >>> [cast] = protocol.node_up("b@h")
        >>> cast.node, cast.request[:3]
        ('b@h', (:init_connect, (8, 0), :a@h))
    """

    def __init__(self, here: str, locker: Pid, next_tag: Callable[[], int]) -> None:
        self.here = here
        self._locker = locker
        self._next_tag = next_tag
        #: The nodes of our partition, with the versions they speak; 0 for one that nobody has told us.
        self.known: dict[str, int] = {}
        #: The nodes whose names are ours.
        self.synced: set[str] = set()
        self._attempts: dict[str, _Attempt] = {}
        #: init_connect that came before the node was up: (version, tag, locker).
        self._early: dict[str, tuple[int, Any, Pid]] = {}

    # ---- looking ---------------------------------------------------------------------------------------------

    def connected(self) -> dict[str, int]:
        """Give the nodes that we know or are about to know, with their versions."""
        pending = {node: attempt.version for node, attempt in self._attempts.items() if attempt.is_pending}
        return {**pending, **self.known}

    def tag_of(self, node: str) -> int | None:
        """Give our tag of the present attempt with a node."""
        attempt = self._attempts.get(node)
        return attempt.tag if attempt is not None else None

    def _known_list(self, version: int) -> list[Any]:
        if version < PREVENTS_OVERLAP:
            return [Atom(node) for node in self.known]
        return [(Atom(node), known) for node, known in self.known.items()]

    # ---- the beginning -------------------------------------------------------------------------------------------

    def node_up(self, node: str) -> list[Action]:
        """A node has been connected."""
        if node in self.known or node in self._attempts:
            return []
        tag = self._next_tag()
        self._attempts[node] = _Attempt(tag)
        introduction = (Atom("locker"), Atom("no_longer_a_pid"), self._known_list(0), self._locker)
        begin = Cast(node, (Atom("init_connect"), (VERSION, tag), Atom(self.here), introduction))
        early = self._early.pop(node, None)
        return [begin, *(self.init_connect(node, *early) if early is not None else ())]

    def init_connect(self, node: str, version: int, his_tag: Any, locker: Pid) -> list[Action]:
        """A node has introduced itself."""
        if version < OLDEST:
            return [Warn(f"illegal global protocol version {version!r} of node {node}")]
        attempt = self._attempts.get(node)
        if attempt is None:
            self._early[node] = (version, his_tag, locker)
            return []
        if attempt.is_pending:
            # He has begun anew and we have not heard why: both begin anew.
            if version < VERIFIES_CONNECT:
                return [Warn(f"{node} is out of sync, disconnecting from it"), Disconnect(node)]
            return [self._cancel_connect(node, his_tag), *self._restart(node)]
        attempt.his_tag = his_tag
        attempt.version = version
        begin = Order(("his_the_locker", locker, min(version, VERSION), his_tag, attempt.tag))
        if version < VERIFIES_CONNECT:
            return [begin]
        return [begin, Tell(node, (Atom("init_connect_ack"), Atom(self.here), his_tag, attempt.tag))]

    def init_connect_ack(self, node: str, my_tag: Any, his_tag: Any) -> list[Action]:
        """A node says which two tags it has seen."""
        attempt = self._attempts.get(node)
        if attempt is not None and (attempt.tag, attempt.his_tag) == (my_tag, his_tag):
            return []
        # Without an attempt: it ended before its time, as a third node brought us together; he will hear in_sync.
        return [self._cancel_connect(node, his_tag), *(self._restart(node) if attempt is not None else ())]

    def cancel_connect(self, node: str, my_tag: Any) -> list[Action]:
        """A node has given the attempt with this tag of ours up."""
        return self._restart(node) if self.tag_of(node) == my_tag else []

    def _cancel_connect(self, node: str, his_tag: Any) -> Tell:
        return Tell(node, (Atom("cancel_connect"), Atom(self.here), his_tag))

    def _restart(self, node: str) -> list[Action]:
        # Not at once, as OTP does: two that both begin anew and tell each other so can go on for ever, each hearing
        # of the other's last beginning after its own next one. While one waits, what the other sends comes to rest.
        return [*self._give_up(node), Release(node), Retry(node)]

    # ---- the exchange --------------------------------------------------------------------------------------------

    def lock_is_set(self, node: str, tag: int, lock: LockId, names: list[Any]) -> list[Action]:
        """Our locker holds the lock in our partition; `names` are all of ours as `(name, pid, method)`."""
        attempt = self._attempts.get(node)
        if attempt is None or attempt.tag != tag:
            return self._stale(node, tag)
        attempt.lock = lock
        mine = Cast(node, (Atom("exchange"), Atom(self.here), names, [], attempt.his_tag))
        return [mine, *self._resolve_if_ready(node, attempt)]

    def exchange(self, node: str, names: list[Any], tag: Any) -> list[Action]:
        """A node sends all its names: its locker holds the lock in its partition."""
        attempt = self._attempts.get(node)
        if attempt is None or attempt.tag != tag:
            return self._stale(node, tag)
        attempt.his_names = names
        return self._resolve_if_ready(node, attempt)

    def _resolve_if_ready(self, node: str, attempt: _Attempt) -> list[Action]:
        if attempt.lock is None or attempt.his_names is None:
            return []
        return [Resolve(node, attempt.tag, attempt.his_names)]

    def exchange_ops(self, node: str, tag: int, ops: Operations, resolved: Operations) -> list[Action]:
        """What `Resolve` has led to: changes here, changes there."""
        attempt = self._attempts.get(node)
        if attempt is None or attempt.tag != tag:
            return self._stale(node, tag)
        attempt.ops = ops
        mine = Cast(
            node,
            (
                *(Atom("resolved"), Atom(self.here), resolved, self._known_list(attempt.version)),
                *(Atom("unused"), [], attempt.his_tag),
            ),
        )
        return [mine, *self._finish_if_ready(node, attempt)]

    def resolved(self, node: str, ops: Operations, known: list[Any], tag: Any) -> list[Action]:
        """A node sends the changes it asks of us, and the nodes it knows."""
        attempt = self._attempts.get(node)
        if attempt is None or attempt.tag != tag:
            return self._stale(node, tag)
        attempt.his_part = (ops, known)
        return self._finish_if_ready(node, attempt)

    def _finish_if_ready(self, node: str, attempt: _Attempt) -> list[Action]:
        if attempt.ops is None or attempt.his_part is None:
            return []
        ops = [*attempt.ops, *attempt.his_part[0]]
        his_nodes = _with_versions(attempt.his_part[1])
        his_nodes.pop(self.here, None)
        to_meet = list(his_nodes)
        actions: list[Action] = [Meet(to_meet), Apply(ops, self.here, attempt.lock), Synced(node)]
        # Whom he knows we need no attempt of our own with: it will be in sync by this one.
        actions += [action for other in to_meet for action in self._end(other)]
        new = {node: attempt.version, **his_nodes}
        actions += self._end(node, self._new_nodes(ops, new, attempt))
        actions += self._add_known(new)
        self.synced.add(node)
        return actions

    def _new_nodes(self, ops: Operations, new: dict[str, int], attempt: _Attempt) -> list[Cast]:
        """What the locker tells our partition while it still holds the lock."""
        extra = [(Atom("vsn"), min(attempt.version, VERSION)), (Atom("lock"), attempt.lock)]
        plain = [Atom(node) for node in new]
        versions = [(Atom(node), version) for node, version in new.items()]
        return [
            Cast(
                node,
                (
                    *(Atom("new_nodes"), Atom(self.here), ops, []),
                    *(versions if version >= PREVENTS_OVERLAP else plain, extra),
                ),
            )
            for node, version in self.known.items()
        ]

    def new_nodes(self, node: str, ops: Operations, nodes: list[Any], extra: Any) -> list[Action]:
        """A node of our partition has agreed with others, and they with us thereby."""
        lock = next((pair[1] for pair in extra if isinstance(pair, tuple) and pair[:1] == ("lock",)), None)
        before = set(self.known)
        order = self._add_known(_with_versions(nodes))
        added = [other for other in self.known if other not in before]
        return [Meet(added), Apply(ops, node, lock), *order]

    def in_sync(self, node: str) -> list[Action]:
        """A node of the other partition has our names now."""
        self.synced.add(node)
        return [Synced(node), *self._end(node)]

    # ---- the end ---------------------------------------------------------------------------------------------

    def forget(self, node: str) -> list[Action]:
        """A node is no longer ours: it is down, or about to be."""
        actions = [*self._give_up(node), Order(("remove_from_known", node))]
        self.known.pop(node, None)
        self.synced.discard(node)
        return actions

    def _end(self, node: str, farewell: Iterable[Cast] = ()) -> list[Action]:
        """Nothing more is to be agreed with a node; the locker casts `farewell` and lets the lock go."""
        attempt = self._attempts.pop(node, None)
        self._early.pop(node, None)
        return [Order(("cancel", node, attempt.tag, list(farewell)))] if attempt is not None else []

    def _give_up(self, node: str) -> list[Action]:
        """End an attempt before its time, and tell him."""
        attempt = self._attempts.get(node)
        ended = self._end(node)
        if attempt is not None and attempt.version >= VERIFIES_CONNECT:
            ended.append(self._cancel_connect(node, attempt.his_tag))
        return ended

    def _stale(self, node: str, tag: int) -> list[Action]:
        """Something of an attempt that is over: should our locker still hold its lock, it must not."""
        return [Order(("cancel", node, tag, []))]

    def _add_known(self, nodes: dict[str, int]) -> list[Action]:
        added = []
        for node, version in nodes.items():
            if node == self.here:
                continue
            if node not in self.known:
                added.append(node)
            if not self.known.get(node):
                self.known[node] = version
        return [Order(("add_to_known", added))]


def _with_versions(nodes: Iterable[Any]) -> dict[str, int]:
    """Take a list of nodes, or of `(node, version)`, apart."""
    found: dict[str, int] = {}
    for entry in nodes:
        match entry:
            case (str(node), int(version)):
                found[node] = version
            case str(node):
                found[node] = 0
    return found
