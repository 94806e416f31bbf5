"""Signals of other nodes, carried out here; and what happens here when a node is gone.

All of it on the poller's thread, one packet after the other, so signals of one far process take effect in its order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from otplib.core.errors import SystemLimitError
from otplib.core.terms import Atom, Pid, Ref
from otplib.dist import control
from otplib.dist.channel import Channel, State
from otplib.dist.etf_terms import ImproperList
from otplib.dist.far_calls import run_function
from otplib.dist.router import Router
from otplib.dist.shapes import from_wire
from otplib.vm.machine import Machine
from otplib.vm.output import install_output
from otplib.vm.process_record import ProcessRecord, Status

log = logging.getLogger("otplib")

#: What a spawn request may ask for; `monitor` may come with options of its own, which concern the other side.
_KNOWN_OPTIONS: Final = frozenset(
    ("link", "monitor", "priority", "fullsweep_after", "min_heap_size", "min_bin_vheap_size", "max_heap_size",
     "message_queue_data", "async_dist")
)  # fmt: skip

#: As plain numbers: `&` between flags makes a new enum value each time, 1 us.
_LINK: Final = control.SpawnFlag.LINK.value
_MONITOR: Final = control.SpawnFlag.MONITOR.value


class Receiver:
    """Carries out what one node sends."""

    def __init__(self, machine: Machine, router: Router, channel: Channel) -> None:
        self._machine = machine
        self._router = router
        self._channel = channel
        self._bonds = channel.bonds
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            control.Send: self._send,
            control.RegSend: self._send_named,
            control.AliasSend: self._send_alias,
            control.Link: self._link,
            control.Unlink: self._unlink,
            control.UnlinkId: self._unlink_id,
            control.UnlinkIdAck: self._unlink_ack,
            control.Exit: self._exit,
            control.Exit2: self._exit2,
            control.MonitorP: self._monitor,
            control.DemonitorP: self._demonitor,
            control.MonitorPExit: self._down,
            control.GroupLeader: self._group_leader,
            control.SpawnRequest: self._spawn,
            control.SpawnReply: self._spawned,
        }

    def carry_out(self, message: control.ControlMessage) -> None:
        """Let a signal take effect."""
        self._handlers[type(message)](message)

    def _find(self, pid: Pid) -> ProcessRecord | None:
        record = self._machine.table.get(pid.id)
        return record if record is not None and record.pid == pid else None

    # ---- messages ----------------------------------------------------------------------------------------------

    def _send(self, signal: control.Send) -> None:
        record = self._find(signal.to_pid)
        if record is not None:
            self._machine.deliver(record, from_wire(signal.message))

    def _send_named(self, signal: control.RegSend) -> None:
        record = self._machine.names.get(signal.to_name)
        if record is not None:
            self._machine.deliver(record, from_wire(signal.message))

    def _send_alias(self, signal: control.AliasSend) -> None:
        record = self._machine.aliases.take(signal.alias)
        if record is not None:
            self._machine.deliver(record, from_wire(signal.message))

    def _group_leader(self, signal: control.GroupLeader) -> None:
        record = self._find(signal.to_pid)
        if record is not None:
            self._lead(record, signal.from_pid)

    def _lead(self, record: ProcessRecord, leader: Pid) -> None:
        record.leader = leader
        if not self._machine.leaders.is_built_in(leader):
            self._machine.guard(record, None)

    # ---- links and exits ---------------------------------------------------------------------------------------

    def _link(self, signal: control.Link) -> None:
        record = self._find(signal.to_pid)
        with self._machine.lock:
            if record is not None and self._machine.alive(record):
                self._tie(record, signal.from_pid)
                return
        self._channel.put(control.Exit(signal.to_pid, signal.from_pid, Atom("noproc")))

    def _tie(self, record: ProcessRecord, far: Pid) -> None:
        """Link, with the machine's lock held."""
        if record.links is None:
            record.links = {}
        record.links[far] = None
        self._bonds.links.add((record.pid, far))

    def _untie(self, pid: Pid, far: Pid) -> None:
        with self._machine.lock:
            self._bonds.links.discard((pid, far))
            record = self._find(pid)
            if record is not None and record.links is not None:
                record.links.pop(far, None)

    def _unlink(self, signal: control.Unlink) -> None:
        self._untie(signal.to_pid, signal.from_pid)

    def _unlink_id(self, signal: control.UnlinkId) -> None:
        self._untie(signal.to_pid, signal.from_pid)
        self._channel.put(control.UnlinkIdAck(signal.id, signal.to_pid, signal.from_pid))

    def _unlink_ack(self, signal: control.UnlinkIdAck) -> None:
        pair = (signal.to_pid, signal.from_pid)
        with self._machine.lock:
            if self._bonds.unlinking.get(pair) == signal.id:
                del self._bonds.unlinking[pair]

    def _exit(self, signal: control.Exit) -> None:
        pair = (signal.to_pid, signal.from_pid)
        with self._machine.lock:
            if pair in self._bonds.unlinking or pair not in self._bonds.links:
                return
            self._bonds.links.discard(pair)
        self._machine.break_link(signal.from_pid, signal.to_pid, signal.reason)

    def _exit2(self, signal: control.Exit2) -> None:
        record = self._find(signal.to_pid)
        if record is not None:
            self._machine.signal_exit(signal.from_pid, record, signal.reason, by_link=False)

    # ---- monitors ----------------------------------------------------------------------------------------------

    def _monitor(self, signal: control.MonitorP) -> None:
        target = signal.to_proc
        named = None if isinstance(target, Pid) else str(target)
        record = self._find(target) if isinstance(target, Pid) else self._machine.names.get(target)
        with self._machine.lock:
            if record is not None and record.state is not Status.DEAD:
                self._watch(record, signal.from_pid, signal.ref, named)
                return
        self._channel.put(control.MonitorPExit(target, signal.from_pid, signal.ref, Atom("noproc")))

    def _watch(self, record: ProcessRecord, watcher: Pid, ref: Ref, named: str | None) -> None:
        """Let a far process watch one of ours, with the machine's lock held."""
        if record.watchers is None:
            record.watchers = {}
        record.watchers[ref] = (watcher, named)
        self._bonds.watched[ref] = record.pid

    def _demonitor(self, signal: control.DemonitorP) -> None:
        with self._machine.lock:
            pid = self._bonds.watched.pop(signal.ref, None)
            self._forget_watcher(pid, signal.ref)

    def _forget_watcher(self, pid: Pid | None, ref: Ref) -> None:
        record = self._find(pid) if pid is not None else None
        if record is not None and record.watchers is not None:
            record.watchers.pop(ref, None)

    def _down(self, signal: control.MonitorPExit) -> None:
        with self._machine.lock:
            watch = self._bonds.watching.pop(signal.ref, None)
        if watch is not None:
            self._tell_down(signal.ref, *watch, signal.reason)

    def _tell_down(self, ref: Ref, watcher: Pid, target: Any, reason: Any) -> None:
        record = self._find(watcher)
        if record is not None and record.monitors is not None and ref in record.monitors:
            self._machine.report_down(ref, record, target, reason)
        else:
            self._machine.aliases.report_broken(ref, target, reason)

    # ---- births ------------------------------------------------------------------------------------------------

    def _spawn(self, signal: control.SpawnRequest) -> None:
        module, function, arity = signal.mfa
        words = [option[0] if type(option) is tuple and option else option for option in signal.opt_list]
        if not all(isinstance(word, str) and word in _KNOWN_OPTIONS for word in words):
            self._refuse(signal, "badopt")
            return
        if len(signal.arg_list) != arity:
            self._refuse(signal, "badarg")
            return
        parent = ProcessRecord(self._machine, signal.from_pid, None, signal.group_leader)
        link, monitor = "link" in words, "monitor" in words
        flags = control.SpawnFlag(link * control.SpawnFlag.LINK.value + monitor * control.SpawnFlag.MONITOR.value)

        def bind(record: ProcessRecord) -> None:
            # Before its first step, so that its end comes behind the answer and along every bond.
            with self._machine.lock:
                if link:
                    self._tie(record, signal.from_pid)
                if monitor:
                    self._watch(record, signal.from_pid, signal.req_id, None)
            self._channel.put(control.SpawnReply(signal.req_id, signal.from_pid, flags, record.pid))

        install_output()  # somebody may have put a stream of their own in place
        try:
            self._machine.spawn(run_function, (module, function, signal.arg_list), {}, parent, bind=bind)
        except SystemLimitError:
            self._refuse(signal, "system_limit")

    def _refuse(self, signal: control.SpawnRequest, why: str) -> None:
        reply = control.SpawnReply(signal.req_id, signal.from_pid, control.SpawnFlag(0), Atom(why))
        self._channel.put(reply)

    def _spawned(self, signal: control.SpawnReply) -> None:
        pid, tag = signal.result, signal.req_id
        with self._machine.lock:
            wait = self._bonds.spawns.pop(tag, None)
            record = self._find(signal.to_pid)
            living = wait is not None and record is not None and record.state is not Status.DEAD
            if isinstance(pid, Pid):
                if wait is not None and record is not None and living:
                    self._bind_spawned(record, pid, tag, int(signal.flags), wait.told)
                else:
                    self._let_go(signal, pid)
        if wait is not None and (wait.told or not isinstance(pid, Pid)):
            self._answer(tag, pid if isinstance(pid, Pid) else ("error", pid))

    def _bind_spawned(self, record: ProcessRecord, pid: Pid, tag: Ref, flags: int, told: bool) -> None:
        if flags & _LINK:
            self._tie(record, pid)
        if flags & _MONITOR:
            self._bonds.watching[tag] = (record.pid, pid)
            if told:  # else its end is the answer to a call, which looks at the tag alone
                if record.monitors is None:
                    record.monitors = {}
                record.monitors[tag] = pid

    def _let_go(self, signal: control.SpawnReply, pid: Pid) -> None:
        """The one that asked is dead, or has given up."""
        if signal.flags & control.SpawnFlag.LINK:
            self._channel.put(control.Exit(signal.to_pid, pid, Atom("noproc")))
        if signal.flags & control.SpawnFlag.MONITOR:
            self._channel.put(control.DemonitorP(signal.to_pid, pid, signal.req_id))

    def _answer(self, tag: Ref, answer: Any) -> None:
        waiting = self._machine.aliases.take(tag)
        if waiting is not None:
            self._machine.deliver(waiting, (tag, answer))

    def refused(self, message: control.ControlMessage) -> None:
        """Something that waited for the connection cannot be sent to this peer: who waits for an answer hears it."""
        badarg = Atom("badarg")
        if isinstance(message, control.SpawnRequest):
            with self._machine.lock:
                self._bonds.spawns.pop(message.req_id, None)
            self._answer(message.req_id, ("error", badarg))
            return
        match getattr(message, "message", None):
            case ("$gen_call" | "system", (Pid(), ImproperList(tail=Ref() as tag)), _):
                with self._machine.lock:
                    watch = self._bonds.watching.pop(tag, None)
                if watch is not None:
                    self._tell_down(tag, *watch, badarg)

    # ---- the end -----------------------------------------------------------------------------------------------

    def lose(self) -> None:
        """The connection is gone, or the attempt has failed: everybody who is bound to it hears of it, once."""
        machine, channel, bonds = self._machine, self._channel, self._bonds
        self._router.discard(channel)
        with machine.lock:
            if channel.state is State.DOWN:
                return
            channel.go_down()
            links, bonds.links = bonds.links, set()
            watching, bonds.watching = bonds.watching, {}
            watched, bonds.watched = bonds.watched, {}
            spawns, bonds.spawns = bonds.spawns, {}
            monitors, bonds.node_monitors = list(bonds.node_monitors.elements()), type(bonds.node_monitors)()
            waiters, bonds.waiters = bonds.waiters, []
            for ref, pid in watched.items():
                self._forget_watcher(pid, ref)
        for ours, theirs in links:
            machine.break_link(theirs, ours, Atom("noconnection"))
        for ref, (watcher, target) in watching.items():
            self._tell_down(ref, watcher, target, Atom("noconnection"))
        for tag in spawns:
            self._answer(tag, ("error", Atom("noconnection")))
        for watcher in monitors:
            record = self._find(watcher)
            if record is not None:
                machine.deliver(record, ("nodedown", Atom(channel.node)))
        for tell in waiters:
            tell(False)
