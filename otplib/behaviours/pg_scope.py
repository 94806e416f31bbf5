"""A scope of process groups: the table that everybody reads, and the process that keeps it and speaks with its peers.

The process alone writes the table. What it knows of a peer, the scope of another node, came in that peer's messages, in
their order; it watches each peer it has heard of, and forgets all it said when the watch ends.

Race, in order: a node goes, and comes back before its last `join` has been read. The end of the watch was read before
that message, so the peer is unknown then, and the message is ignored; its `sync` after the next `discover` tells all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from otplib import process
from otplib.behaviours.gen import Caller
from otplib.behaviours.gen_server import GenServer
from otplib.behaviours.returns import NoReply, Ok, Reply
from otplib.core.reasons import Down
from otplib.core.terms import NO_NODE, Atom, Pid, Ref
from otplib.vm.global_names import name_key
from otplib.vm.machine import Machine
from otplib.vm.process_record import ProcessRecord
from otplib.vm.shell import current_record
from otplib.vm.transport import is_far

#: Under this name a machine's `services` hold its scopes, by their names.
SERVICE: Final = "pg"

#: Under this name they hold the pids of those who want to hear of nodes also when there is no node yet.
NODE_OBSERVERS: Final = "node_observers"

#: Who is in one group: how often each.
Members = dict[Pid, int]


class Group:
    """One group; no group without members."""

    __slots__ = ("local", "remote", "term")

    def __init__(self, term: Any) -> None:
        self.term = term
        self.local: Members = {}
        self.remote: Members = {}


class Groups:
    """The groups of a scope. Written by its process alone, read by anybody: what a reader copies is one step."""

    def __init__(self) -> None:
        self._groups: dict[Any, Group] = {}
        #: The keys of groups that Python calls equal though they are two on a BEAM, oldest first.
        self._alike: dict[Any, dict[Any, None]] = {}

    def find(self, term: Any) -> Group | None:
        """Give the group of exactly this term, else one that Python calls equal to it."""
        exact = self._groups.get(name_key(term))
        if exact is not None:
            return exact
        for key in list(self._alike.get(loose_key(term), ())):
            return self._groups.get(key)
        return None

    def members(self, term: Any) -> list[Pid]:
        """Give all members, those of this node first."""
        group = self.find(term)
        return [] if group is None else [*_list(group.local), *_list(group.remote)]

    def local_members(self, term: Any) -> list[Pid]:
        """Give the members on this node."""
        group = self.find(term)
        return [] if group is None else _list(group.local)

    def names(self) -> list[Any]:
        """Give the groups, oldest first."""
        return [group.term for group in list(self._groups.values())]

    def local_names(self) -> list[Any]:
        """Give those with members on this node."""
        return [group.term for group in list(self._groups.values()) if group.local]

    def add(self, term: Any, pids: Iterable[Pid], *, local: bool) -> None:
        """Put members in."""
        key = name_key(term)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(term)
            self._alike.setdefault(loose_key(term), {})[key] = None
        members = group.local if local else group.remote
        for pid in pids:
            members[pid] = members.get(pid, 0) + 1

    def take(self, term: Any, pids: Iterable[Pid], *, local: bool) -> list[Pid]:
        """Take members of exactly this group out; gives those that were in it."""
        key = name_key(term)
        group = self._groups.get(key)
        if group is None:
            return []
        gone = take_members(group.local if local else group.remote, pids)
        if not group.local and not group.remote:
            del self._groups[key]
            alike = self._alike[loose_key(term)]
            del alike[key]
            if not alike:
                del self._alike[loose_key(term)]
        return gone


def take_members(members: Members, pids: Iterable[Pid]) -> list[Pid]:
    """Take each out once for each time it is named; gives those that were in."""
    gone = []
    for pid in pids:
        times = members.get(pid, 0)
        if times:
            gone.append(pid)
            if times > 1:
                members[pid] = times - 1
            else:
                del members[pid]
    return gone


def _list(members: Members) -> list[Pid]:
    return [pid for pid, times in list(members.items()) for _ in range(times)]


def loose_key(term: Any) -> Any:
    """Give a key that is the same for terms that differ only in what Python takes for equal: atoms and strings.

    Example:
        >>> loose_key(Atom("g")) == loose_key("g"), loose_key(("g", 1)) == loose_key((Atom("g"), 1))
        (True, True)
    """
    if isinstance(term, str):
        return str(term)
    if isinstance(term, tuple):
        return (tuple, *map(loose_key, term))
    return name_key(term)


def find_groups(machine: Machine, scope: Any) -> Groups | None:
    """Give the groups of a scope, None if it has not been started."""
    found: Groups | None = machine.services.get(SERVICE, {}).get(scope)
    return found


# ---- the process -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Joined:
    """A process of this node that is in some group."""

    watch: Ref
    #: The groups, as often as it is in each, by key; and their terms.
    times: Counter[Any] = field(default_factory=Counter)
    terms: dict[Any, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Peer:
    """The scope of another node, and what it has told: the members of each group, by key; and the groups' terms."""

    watch: Ref
    members: dict[Any, Members] = field(default_factory=dict)
    terms: dict[Any, Any] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """What a scope's process knows; changed in place."""

    scope: str
    record: ProcessRecord
    groups: Groups
    local: dict[Pid, Joined] = field(default_factory=dict)
    peers: dict[Pid, Peer] = field(default_factory=dict)
    #: Who wants to be told: of a group, by its loose key, or of all groups if that is None.
    monitors: dict[Ref, tuple[Pid, Any]] = field(default_factory=dict)

    def __deepcopy__(self, memo: Any) -> State:
        return self  # for `system.get_state`: to look at


_ALL: Final = None


class PgScope(GenServer):
    """The process registered under the scope's name."""

    def init(self, scope: Any) -> Any:
        """Begin empty, and ask all nodes."""
        record = current_record()
        state = State(scope, record, Groups())
        scopes = record.machine.services.setdefault(SERVICE, {})
        scopes[scope] = state.groups
        observers = record.machine.services.setdefault(NODE_OBSERVERS, set())

        def forget(reason: Any, result: Any) -> None:
            observers.discard(record.pid)
            if scopes.get(scope) is state.groups:  # by now another may have the name
                del scopes[scope]

        record.on_exit = forget
        for node in _observe_nodes(record.machine, record.pid, observers):
            process.send((scope, node), (_DISCOVER, record.pid))
        return Ok(state)

    def handle_call(self, request: Any, caller: Caller, state: State) -> Any:
        match request:
            case ("join_local", group, (Pid() | list()) as pids):
                _join(state, group, [pids] if isinstance(pids, Pid) else pids)
                return Reply(_OK, state)
            case ("leave_local", group, (Pid() | list()) as pids):
                gone = _leave(state, group, [pids] if isinstance(pids, Pid) else pids)
                return Reply(_OK if gone else Atom("not_joined"), state)
            case "monitor":
                ref = process.monitor(caller[0])
                state.monitors[ref] = (caller[0], _ALL)
                rows = [(group, state.groups.members(group)) for group in state.groups.names()]
                return Reply((ref, rows), state)
            case ("monitor", group):
                ref = process.monitor(caller[0])
                state.monitors[ref] = (caller[0], loose_key(group))
                return Reply((ref, state.groups.members(group)), state)
            case ("demonitor", Ref() as ref):
                if state.monitors.pop(ref, None) is None:
                    return Reply(False, state)
                process.demonitor(ref, flush=True)
                return Reply(_OK, state)
        raise ValueError(f"a scope of process groups knows no request {request!r}")

    def handle_cast(self, request: Any, state: State) -> Any:
        match request:
            case ("sync", Pid() as pid, list(groups)):
                _hear_sync(state, pid, groups)
        return NoReply(state)

    def handle_info(self, message: Any, state: State) -> Any:
        match message:
            case Down(ref=ref, pid=pid):
                _hear_end(state, ref, pid)
            case ("discover", Pid() as pid, *_):  # later versions of OTP add what they can do
                _hear_discover(state, pid)
            case ("join", Pid() as peer, group, (Pid() | list()) as pids):
                if peer in state.peers:
                    _add_far(state, state.peers[peer], group, _pids(pids))
            case ("leave", Pid() as peer, (Pid() | list()) as pids, list(groups)):
                if peer in state.peers:
                    for group in groups:
                        _take_far(state, state.peers[peer], group, _pids(pids))
            case ("nodeup", str(node)) if node != state.record.machine.node:
                process.send((state.scope, node), (_DISCOVER, state.record.pid))
        return NoReply(state)


# The wire must carry these as atoms.
_OK: Final = Atom("ok")
_DISCOVER: Final = Atom("discover")
_SYNC: Final = Atom("sync")
_JOIN: Final = Atom("join")
_LEAVE: Final = Atom("leave")


def _observe_nodes(machine: Machine, pid: Pid, observers: set[Pid]) -> list[str]:
    """Have a process told of nodes that come, now or once this machine is a node; gives those that are there."""
    with machine.lock:
        observers.add(pid)
        if machine.node == NO_NODE:
            return []
        kernel = machine.services["net_kernel"]
        kernel.monitor_nodes(pid, True)
        nodes: list[str] = kernel.nodes()
        return nodes


def _pids(pids: Any) -> list[Pid]:
    return [pids] if isinstance(pids, Pid) else [pid for pid in pids if isinstance(pid, Pid)]


# ---- what happens here ---------------------------------------------------------------------------------------------


def _join(state: State, group: Any, pids: list[Pid]) -> None:
    if not pids:
        return
    key = name_key(group)
    for pid in pids:
        joined = state.local.get(pid)
        if joined is None:
            joined = state.local[pid] = Joined(process.monitor(pid))
        joined.times[key] += 1
        joined.terms[key] = group
    state.groups.add(group, pids, local=True)
    _tell_monitors(state, _JOIN, group, pids)
    _broadcast(state, (_JOIN, state.record.pid, group, pids))


def _leave(state: State, group: Any, pids: list[Pid]) -> list[Pid]:
    found = state.groups.find(group)
    if found is None:
        return []
    group, key = found.term, name_key(found.term)
    gone = state.groups.take(group, pids, local=True)
    for pid in gone:
        joined = state.local[pid]
        joined.times[key] -= 1
        if not joined.times[key]:
            del joined.times[key], joined.terms[key]
        if not joined.times:
            process.demonitor(joined.watch, flush=True)
            del state.local[pid]
    if gone:
        _tell_monitors(state, _LEAVE, group, gone)
        # Exactly those that were in it: a BEAM's scope dies of a list for a group it does not know.
        _broadcast(state, (_LEAVE, state.record.pid, gone, [group]))
    return gone


def _hear_end(state: State, ref: Ref, pid: Any) -> None:
    joined, peer = state.local.get(pid), state.peers.get(pid)
    if joined is not None and joined.watch == ref:
        del state.local[pid]
        for key, times in joined.times.items():
            gone = state.groups.take(joined.terms[key], [pid] * times, local=True)
            for _ in gone:
                _tell_monitors(state, _LEAVE, joined.terms[key], [pid])
        groups = [joined.terms[key] for key in joined.times.elements()]
        _broadcast(state, (_LEAVE, state.record.pid, pid, groups))
    elif peer is not None and peer.watch == ref:
        del state.peers[pid]
        for key, members in list(peer.members.items()):
            _take_far(state, peer, peer.terms[key], _list(members))
    else:
        state.monitors.pop(ref, None)


def _tell_monitors(state: State, what: Atom, group: Any, pids: list[Pid]) -> None:
    if not state.monitors:
        return
    key = loose_key(group)
    for ref, (pid, wanted) in list(state.monitors.items()):
        if wanted is _ALL or wanted == key:
            process.send(pid, (ref, what, group, pids))


# ---- what peers say ------------------------------------------------------------------------------------------------


def _broadcast(state: State, message: Any) -> None:
    for peer in state.peers:
        _send(state, peer, message)


def _send(state: State, peer: Pid, message: Any) -> None:
    # Nothing here may connect: a node that has gone would be back before anybody has heard that it went.
    if not is_far(peer) or state.record.machine.transport.reaches(peer):
        process.send(peer, message)


def _hear_discover(state: State, pid: Pid) -> None:
    if pid == state.record.pid:
        return
    rows = [(group, state.groups.local_members(group)) for group in state.groups.local_names()]
    if not is_far(pid) or state.record.machine.transport.reaches(pid):
        GenServer.cast(pid, (_SYNC, state.record.pid, rows))
    if pid not in state.peers:
        state.peers[pid] = Peer(process.monitor(pid))
        _send(state, pid, (_DISCOVER, state.record.pid))


def _hear_sync(state: State, pid: Pid, groups: list[Any]) -> None:
    """Believe what a peer says of itself, and nothing else."""
    peer = state.peers.get(pid)
    if peer is None:
        peer = state.peers[pid] = Peer(process.monitor(pid))
    told: dict[Any, tuple[Any, Counter[Pid]]] = {}
    for row in groups:
        if isinstance(row, tuple) and len(row) == 2 and isinstance(row[1], list):
            told[name_key(row[0])] = (row[0], Counter(_pids(row[1])))
    for key, members in list(peer.members.items()):
        before = Counter(members)
        gone = before - told[key][1] if key in told else before
        _take_far(state, peer, peer.terms[key], list(gone.elements()))
    for key, (group, now) in told.items():
        new = now - Counter(peer.members.get(key, {}))
        _add_far(state, peer, group, list(new.elements()))


def _add_far(state: State, peer: Peer, group: Any, pids: list[Pid]) -> None:
    if not pids:
        return
    key = name_key(group)
    members = peer.members.setdefault(key, {})
    peer.terms[key] = group
    for pid in pids:
        members[pid] = members.get(pid, 0) + 1
    state.groups.add(group, pids, local=False)
    _tell_monitors(state, _JOIN, group, pids)


def _take_far(state: State, peer: Peer, group: Any, pids: list[Pid]) -> None:
    key = name_key(group)
    gone = take_members(peer.members.get(key, {}), pids)
    if not peer.members.get(key, True):
        del peer.members[key], peer.terms[key]
    if gone:
        state.groups.take(group, gone, local=False)
        _tell_monitors(state, _LEAVE, group, gone)
