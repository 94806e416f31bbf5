"""The `global` name server of a node: `Global` names that hold in the whole cluster. Mirrors OTP's `global`.

`global_protocol`, `global_partitions` decide what to say to the name servers of other nodes, Python's or a BEAM's;
this process, which never waits, carries it out. It has two helpers that do wait, `global_locker` and
`global_registrar`; the names are in the machine's `global_names`.

**What is promised.** A name that was registered is known on all connected nodes a moment later, and is gone a moment
after its process, or the node of its process, has ended. `GenServer.start(..., name=Global(term))` takes the lock of
the whole cluster first, so of two that start the same at once one is refused (row y14). `process.register` cannot wait:
it refuses what is known to be taken, enters the name here at once, and tells the others afterwards. Should another node
have registered the same name in that moment, that is a conflict as after a split has healed (row y15): the process on
the node with the smaller name keeps it, the other is killed.

Names are those of a BEAM: `Global("svc")` is `{:global, "svc"}` there, `Global(Atom("svc"))` is `{:global, :svc}`. Who
looks either up here finds it, whichever of the two was registered.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from otplib.behaviours import gen
from otplib.behaviours.gen import Caller
from otplib.behaviours.gen_server import GenServer
from otplib.behaviours.returns import NoReply, Ok, Reply, Stop
from otplib.core.copying import shared
from otplib.core.reasons import Down, ExitMessage
from otplib.core.terms import Atom, Pid
from otplib.dist.etf_terms import Export, Fun
from otplib.dist.global_conflicts import USUAL, run_resolver
from otplib.dist.global_locker import run_locker
from otplib.dist.global_locking import SERVER
from otplib.dist.global_locks import LockTable
from otplib.dist.global_partitions import Partitions
from otplib.dist.global_protocol import (
    VERSION,
    Action,
    Apply,
    Cast,
    Disconnect,
    GlobalProtocol,
    Meet,
    Order,
    Release,
    Resolve,
    Retry,
    Synced,
    Tell,
    Warn,
)
from otplib.dist.global_registrar import run_registrar
from otplib.dist.net_kernel import NetKernel
from otplib.process import demonitor, flag, monitor, self_, send, send_after, spawn, spawn_link
from otplib.vm.global_names import Change, Holder
from otplib.vm.machine import Machine
from otplib.vm.process_record import ProcessRecord
from otplib.vm.shell import current_record

log = logging.getLogger("otplib")

#: Seconds, from and to, before an attempt that got out of step is begun anew.
RETRY_AFTER: Final = (0.1, 0.3)

#: Seconds at most before a question that came while names were being changed is asked again.
ASK_AGAIN: Final = 1.0


async def start(kernel: NetKernel) -> Pid:
    """Start the name server of a node, linked to the caller, before the first connection is up.

    When it ends, whichever way, names of other nodes are forgotten here, and others can no longer be registered there.
    """
    pid = await GlobalNameServer.start_link(shared(kernel), name=SERVER)
    assert pid is not None
    return pid


async def sync(nodes: Iterable[str] | None = None, timeout: float | None = None) -> None:
    """Wait until these nodes, all that are connected if None, have the same names as we. Mirrors `:global.sync/0`.

    Raises:
        CallTimeout: not within `timeout` seconds.
    """
    await GenServer.call(SERVER, ("sync", None if nodes is None else list(nodes)), timeout)


async def register_name(term: Any, pid: Pid) -> bool:
    """Register a name under the lock of the whole cluster; False if somebody has it. Mirrors
    `:global.register_name/2`.

    Unlike `process.register` it takes pids of other nodes too, and terms that can change, a copy of which is the name.
    """
    return bool(await GenServer.call(SERVER, ("register_name", term, pid), None))


@dataclass(slots=True)
class _State:
    """What the server knows; changed in place."""

    kernel: NetKernel
    machine: Machine
    record: ProcessRecord
    protocol: GlobalProtocol
    partitions: Partitions
    locker: Pid
    registrar: Pid
    locks: LockTable = field(default_factory=LockTable)
    #: Monitors: of each process that has locked something, and of each far one that has a name.
    watches: dict[Pid, Any] = field(default_factory=dict)
    #: Who waits for which nodes to be in sync.
    syncers: list[tuple[Caller, set[str]]] = field(default_factory=list)

    def __deepcopy__(self, memo: Any) -> _State:
        return self  # for `system.get_state`: to look at


class GlobalNameServer(GenServer):
    """The process registered as `global_name_server`."""

    def init(self, kernel: NetKernel) -> Any:
        """Begin alone."""
        flag(trap_exit=True)
        record = current_record()
        machine, here = record.machine, kernel.node
        locker = spawn_link(run_locker, here)
        registrar = spawn_link(run_registrar, here)
        protocol = GlobalProtocol(here, locker, count(1).__next__)
        partitions = Partitions(protocol, random.getrandbits(58))
        hears = machine.find(registrar)
        assert hears is not None

        def announce(change: Change, term: Any, pid: Pid) -> None:
            word = "claim" if change is Change.REGISTERED else "unregister"
            machine.deliver(hears, (word, term, pid))

        machine.global_names.join(announce)
        record.on_exit = lambda reason, result: machine.global_names.leave(announce)
        kernel.monitor_nodes(record.pid, True)
        for node in kernel.nodes():  # the name server they knew has died, or they were too early: nobody listened
            kernel.disconnect(node, _pass)
        return Ok(_State(kernel, machine, record, protocol, partitions, locker, registrar))

    # ---- calls -----------------------------------------------------------------------------------------------

    def handle_call(self, request: Any, caller: Caller, state: _State) -> Any:
        """Serve lockers and registrars, those of other nodes too."""
        match request:
            case ("set_lock", (_, _) as lock):
                done = state.locks.set(lock, caller[0])
                _watch(state, caller[0])
                return Reply(done, state)
            case ("del_lock", (_, _) as lock):
                state.locks.free(lock, caller[0])
                _watch(state, caller[0])
                return Reply(True, state)
            case ("register", name, Pid() as pid, method) | ("register_ext", name, Pid() as pid, method, _):
                _change(state, name, pid, method, covered=state.locks.still_covers(caller[0]))
                return Reply(Atom("yes"), state)
            case ("unregister", name):
                _delete(state, name)
                return Reply(Atom("ok"), state)
            case ("can_set_lock", lock):
                return Reply(state.locks.can_set(lock), state)
            case "is_locked":
                return Reply(state.locks.is_set(), state)
            case ("register_name", term, Pid() as pid):
                send(state.registrar, ("register", term, pid, caller))
                return NoReply(state)
            case ("sync", nodes):
                wanted = set(state.kernel.nodes()).intersection(state.kernel.nodes() if nodes is None else nodes)
                state.syncers.append((caller, wanted - state.protocol.synced))
                _answer_syncers(state)
                return NoReply(state)
            case _:
                return _describe(request, caller, state)

    # ---- casts -----------------------------------------------------------------------------------------------

    def handle_cast(self, request: Any, state: _State) -> Any:
        """Take a step of the protocol: its messages, and what our helpers have done."""
        protocol = state.protocol
        match request:
            case ("init_connect", (int(version), tag, *_), str(node), ("locker", _, _, Pid() as locker)):
                actions = protocol.init_connect(node, version, tag, locker)
            case ("lock_is_set", node, tag, lock):
                actions = protocol.lock_is_set(node, tag, lock, _all_names(state))
            case ("exchange", str(node), list(names), _, tag):
                actions = protocol.exchange(node, _well_formed(names), tag)
            case ("exchange_ops", node, tag, ops, resolved):
                actions = protocol.exchange_ops(node, tag, ops, resolved)
            case ("resolved", str(node), list(ops), list(known), _, _, tag):
                actions = protocol.resolved(node, ops, known, tag)
            case ("new_nodes", str(node), list(ops), _, list(nodes), extra):
                actions = protocol.new_nodes(node, ops, nodes, extra if isinstance(extra, list) else [])
            case ("in_sync", str(node), _):
                actions = protocol.in_sync(node)
            case ("lock_set", Pid() as locker, bool(), _, *tags):
                # Of an attempt that is over: whoever sent it will hear so.
                if not tags or tags[0] == protocol.tag_of(locker.node):
                    send(state.locker, request)
                actions = []
            case ("async_del_name" | "async_del_lock", _, _):
                actions = []  # told by very old nodes; our monitors tell too
            case _:
                log.warning("the global_name_server received an unexpected cast: %r", request)
                actions = []
        _act(state, actions)
        return NoReply(state)

    # ---- everything else -----------------------------------------------------------------------------------------

    def handle_info(self, message: Any, state: _State) -> Any:
        """Hear of nodes, of processes, and of what other name servers send without a cast."""
        match message:
            case Down(pid=Pid() as pid, ref=ref):
                if state.watches.get(pid) == ref:
                    del state.watches[pid]
                    _release(state, pid)
            case ("nodedown" | "met", *_) if state.machine.stopped:
                pass  # it is we who go, one connection after the other: no node is lost
            case ("nodeup", str(node)):
                _act(state, state.partitions.node_up(node))
            case ("nodedown", str(node)):
                _lose(state, node)
            case ("met", node, is_connected):
                if is_connected:
                    _act(state, [Cast(node, (Atom("in_sync"), Atom(state.protocol.here), True))])
                else:
                    log.warning("'global' at %s failed to connect to %s", state.protocol.here, node)
                    _lose(state, node)
            case ("retry", node):
                if state.kernel.peer(node) is not None:
                    _act(state, state.protocol.node_up(node))
            case ("init_connect_ack", str(node), my_tag, his_tag):
                _act(state, state.protocol.init_connect_ack(node, my_tag, his_tag))
            case ("cancel_connect", str(node), my_tag):
                _act(state, state.protocol.cancel_connect(node, my_tag))
            case ("lost_connection", str(), _, int(), str()):
                _act(state, state.partitions.lost_connection(message, state.machine.now()))
            case ("remove_connection", str(node)):
                _act(state, state.partitions.remove_connection(node))
            case ("whereis", name, (Pid(), _) as caller):
                _tell_where(state, name, caller)
            case ExitMessage(pid=pid, reason=reason):
                return _hear_exit(state, pid, reason)
            case _:
                log.warning("the global_name_server received an unexpected message: %r", message)
        return NoReply(state)


def _describe(request: Any, caller: Caller, state: _State) -> Any:
    protocol = state.protocol
    match request:
        case "get_known":
            return Reply([Atom(node) for node in protocol.known], state)
        case "get_synced":
            return Reply([Atom(node) for node in protocol.synced], state)
        case "get_protocol_version":
            return Reply(VERSION, state)
        case "get_names_ext":
            return Reply([], state)
        case _:
            log.warning("the global_name_server received an unexpected call from %r: %r", caller[0], request)
            return NoReply(state)


def _hear_exit(state: _State, pid: Pid, reason: Any) -> Any:
    if pid == state.locker:
        return Stop((Atom("locker_died"), reason), state)
    if pid == state.registrar:
        return Stop((Atom("registrar_died"), reason), state)
    return NoReply(state) if reason == "normal" else Stop(reason, state)


# ---- carrying out --------------------------------------------------------------------------------------------------


def _act(state: _State, actions: list[Action]) -> None:
    kernel = state.kernel
    for action in actions:
        match action:
            # Nothing here may connect: a node that has gone would be back before anybody has heard that it went.
            case Cast(node, request):
                if kernel.peer(node) is not None:
                    gen.cast((SERVER, node), request)
            case Tell(node, message):
                if kernel.peer(node) is not None:
                    send((SERVER, node), message)
            case Order(message):
                send(state.locker, message)
            case Resolve(node, tag, names):
                spawn(run_resolver, node, tag, names)
            case Apply(ops, _, lock):
                _apply(state, ops, covered=state.locks.still_covers(lock))
            case Meet(nodes):
                for node in nodes:
                    _meet(state, node)
            case Synced(node):
                _answer_syncers(state, node)
            case Release(node):
                _release_node(state, node)
            case Retry(node):
                send_after(self_(), ("retry", node), random.uniform(*RETRY_AFTER))
            case Disconnect(node):
                kernel.disconnect(node, _pass)
            case Warn(text):
                log.warning("'global' at node %s %s", kernel.node, text)


def _meet(state: _State, node: str) -> None:
    machine, record = state.machine, state.record
    # Told on whatever thread connects; a message, so that it comes after node_up.
    state.kernel.when_connected(node, lambda up: machine.deliver(record, ("met", node, up)))


def _lose(state: _State, node: str) -> None:
    _release_node(state, node)
    _act(state, state.partitions.node_down(node))
    _answer_syncers(state, node)


def _pass(outcome: bool) -> None:
    """Nobody waits for this."""


def _answer_syncers(state: _State, node: str | None = None) -> None:
    for caller, missing in state.syncers:
        missing.discard(node or "")
        if not missing:
            GenServer.reply(caller, Atom("ok"))
    state.syncers = [(caller, missing) for caller, missing in state.syncers if missing]


def _tell_where(state: _State, name: Any, caller: Caller) -> None:
    if state.locks.is_set():
        send_after(self_(), (Atom("whereis"), name, caller), random.uniform(0.0, ASK_AGAIN))
        return
    named = state.machine.global_names.find_agreed(name)
    GenServer.reply(caller, named.pid if named is not None else Atom("undefined"))


# ---- names ---------------------------------------------------------------------------------------------------------


def _all_names(state: _State) -> list[Any]:
    return [(name.term, name.pid, name.method or USUAL) for name in state.machine.global_names.agreed()]


def _well_formed(names: list[Any]) -> list[Any]:
    return [entry for entry in names if isinstance(entry, tuple) and len(entry) == 3 and isinstance(entry[1], Pid)]


def _apply(state: _State, ops: list[Any], *, covered: bool) -> None:
    for op in ops:
        match op:
            case ("insert", (name, Pid() as pid, method)):
                _change(state, name, pid, method, covered=covered)
    for op in ops:
        match op:
            case ("delete", name):
                _delete(state, name)


def _change(state: _State, name: Any, pid: Pid, method: Any, *, covered: bool) -> None:
    """Let a process have a name, in place of whoever has it."""
    holder = _holder(state, pid)
    if not covered or holder is None:
        _delete(state, name)
        return
    known = method if isinstance(method, Export | Fun) else None
    before = state.machine.global_names.insert(name, holder, known)
    for changed in (before, holder):
        if isinstance(changed, Pid):
            _watch(state, changed)


def _delete(state: _State, name: Any) -> None:
    before = state.machine.global_names.delete(name)
    if isinstance(before, Pid):
        _watch(state, before)


def _holder(state: _State, pid: Pid) -> Holder | None:
    return pid if _is_far(state, pid) else state.machine.find(pid)


def _is_far(state: _State, pid: Pid) -> bool:
    return pid.creation != state.machine.creation or pid.node != state.kernel.node


# ---- who is watched ------------------------------------------------------------------------------------------------


def _watch(state: _State, pid: Pid) -> None:
    """Monitor a process as long as it has a lock or, a far one, a name. That of ours loses its names as it ends."""
    wanted = state.locks.holds_any(pid) or pid in state.machine.global_names.terms
    if wanted and pid not in state.watches:
        state.watches[pid] = monitor(pid)
    elif not wanted and pid in state.watches:
        demonitor(state.watches.pop(pid), flush=True)


def _release(state: _State, pid: Pid) -> None:
    state.locks.drop(pid)
    if _is_far(state, pid):
        state.machine.global_names.drop(pid)


def _release_node(state: _State, node: str) -> None:
    """Drop what processes of a node have. When it goes down their monitors say so, too."""
    for pid in [pid for pid in state.watches if pid.node == node]:
        _release(state, pid)
        _watch(state, pid)
