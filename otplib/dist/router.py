"""Signals to other nodes, and the bonds that go with them: the machine's transport while it is a node.

Locks. The machine's guards the bonds of all channels, on both ends: whatever changes `record.links`, `record.monitors`
or `record.watchers` for a far process changes the channel's bonds in the same hold. A channel that has gone down has
had its bonds taken in one hold too, so nothing can be bound to it afterwards: whoever wants to finds it down, and is
answered with `"noconnection"` at once.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

from otplib.core.terms import Atom, Pid, Ref
from otplib.dist.channel import Channel, SpawnWait, State
from otplib.dist.control import (
    AliasSend,
    DemonitorP,
    Exit,
    Exit2,
    GroupLeader,
    Link,
    MonitorP,
    MonitorPExit,
    RegSend,
    Send,
    SpawnRequest,
    UnlinkId,
)
from otplib.dist.shapes import to_wire
from otplib.vm.aliases import CallTag
from otplib.vm.machine import Machine
from otplib.vm.process_record import ProcessRecord, Status
from otplib.vm.transport import Far, FarProcess, NoTransport
from otplib.vm.waiting import take_reply

_unlink_ids = itertools.count(1)


class Router:
    """The transport of a machine that is a node.

    Args:
        machine: whose processes send.
        connect: begins to connect a fresh channel, without waiting; False if there can be no such node.
        let_go: closes what a fork has left open in a child.
    """

    def __init__(self, machine: Machine, connect: Callable[[Channel], bool], let_go: Callable[[], None]) -> None:
        self._machine = machine
        self._connect = connect
        self._let_go = let_go
        self._nowhere = NoTransport(machine)
        #: Guards the making of channels; reading is one step of the interpreter.
        self._lock = threading.Lock()
        self.channels: dict[str, Channel] = {}

    # ---- channels ----------------------------------------------------------------------------------------------

    def channel_to(self, node: str) -> Channel:
        """Give the channel to a node, a fresh one that begins to connect if there is none."""
        channel = self.channels.get(node)
        if channel is not None:
            return channel
        with self._lock:
            channel = self.channels.get(node)
            if channel is not None:
                return channel
            channel = self.channels[node] = Channel(node)
        if not self._connect(channel):
            self.discard(channel)
            channel.go_down()
        return channel

    def adopt(self, node: str) -> Channel:
        """Give the channel to a node that is calling us."""
        with self._lock:
            return self.channels.setdefault(node, Channel(node))

    def discard(self, channel: Channel) -> None:
        """Have the next signal make a fresh channel."""
        with self._lock:
            if self.channels.get(channel.node) is channel:
                del self.channels[channel.node]

    # ---- messages and exit signals -----------------------------------------------------------------------------

    def send(self, sender: Pid, dest: Far, message: Any) -> None:
        """Send a message; see `Transport`."""
        shaped = to_wire(message)
        if isinstance(dest, Pid):
            self.channel_to(dest.home).put(Send(sender, dest, shaped))
        elif isinstance(dest, Ref):
            self.channel_to(dest.home).put(AliasSend(sender, dest, shaped))
        else:
            name, node = dest
            self.channel_to(node).put(RegSend(sender, Atom(name), shaped))

    def exit(self, sender: Pid, pid: Pid, reason: Any) -> None:
        """Send an exit signal; see `Transport`."""
        self.channel_to(pid.home).put(Exit2(sender, pid, reason))

    def set_leader(self, leader: Pid, pid: Pid) -> None:
        """Give a far process another group leader."""
        self.channel_to(pid.home).put(GroupLeader(leader, pid))

    # ---- links -------------------------------------------------------------------------------------------------

    def link(self, record: ProcessRecord, pid: Pid) -> None:
        """Link a process of ours and a far one; see `Transport`."""
        channel = self.channel_to(pid.home)
        with self._machine.lock:
            if record.state is Status.DEAD or (record.links is not None and pid in record.links):
                return
            if channel.state is not State.DOWN:
                if record.links is None:
                    record.links = {}
                record.links[pid] = None
                channel.bonds.links.add((record.pid, pid))
                channel.put(Link(record.pid, pid))
                return
        self._nowhere.link(record, pid)

    def unlink(self, record: ProcessRecord, pid: Pid) -> None:
        """Take a link away; see `Transport`."""
        with self._machine.lock:
            if record.links is None or record.links.pop(pid, self) is self:
                return
            channel = self.channels.get(pid.home)
            if channel is None:
                return
            channel.bonds.links.discard((record.pid, pid))
            number = channel.bonds.unlinking[record.pid, pid] = next(_unlink_ids)
            channel.put(UnlinkId(number, record.pid, pid))

    def break_link(self, dead: Pid, peer: Pid, reason: Any) -> None:
        """Tell a far process of the end of one of ours; see `Transport`."""
        with self._machine.lock:
            channel = self.channels.get(peer.home)
            if channel is None or (dead, peer) not in channel.bonds.links:
                return
            channel.bonds.links.discard((dead, peer))
        channel.put(Exit(dead, peer, reason))

    # ---- monitors ----------------------------------------------------------------------------------------------

    def monitor(self, record: ProcessRecord, ref: Ref, target: FarProcess) -> None:
        """Watch a far process; see `Transport`."""
        channel = self._channel_of(target)
        with self._machine.lock:
            if record.state is Status.DEAD:
                return
            if channel.state is not State.DOWN:
                if record.monitors is None:
                    record.monitors = {}
                record.monitors[ref] = target
                self._watch(channel, record, ref, target)
                return
        self._nowhere.monitor(record, ref, target)

    def demonitor(self, watcher: Pid, ref: Ref, target: FarProcess) -> None:
        """Stop a watch; see `Transport`."""
        with self._machine.lock:
            channel = self.channels.get(_node_of(target))
            if channel is not None and channel.bonds.watching.pop(ref, None) is not None:
                channel.put(DemonitorP(watcher, _process_in(target), ref))

    def report_down(self, ref: Ref, watcher: Pid, what: Pid | str, reason: Any) -> None:
        """Tell a far watcher of the end of a process of ours; see `Transport`."""
        with self._machine.lock:
            channel = self.channels.get(watcher.home)
            if channel is None or channel.bonds.watched.pop(ref, None) is None:
                return
        channel.put(MonitorPExit(Atom(what) if isinstance(what, str) else what, watcher, ref, reason))

    def open_call(self, record: ProcessRecord, target: FarProcess) -> CallTag:
        """Make the tag of a call; see `Transport`."""
        tag = self._machine.aliases.new_call(record)
        channel = self._channel_of(target)
        with self._machine.lock:
            open_ = channel.state is not State.DOWN
            if open_:
                self._watch(channel, record, tag, target)
        if not open_:
            self._machine.aliases.report_broken(tag, target, "noconnection")
        return tag

    def close_call(self, record: ProcessRecord, target: FarProcess, tag: CallTag) -> bool:
        """Undo `open_call`; see `Transport`."""
        unanswered = self._machine.aliases.close(tag)
        self.demonitor(record.pid, tag, target)
        return unanswered

    def _watch(self, channel: Channel, record: ProcessRecord, ref: Ref, target: FarProcess) -> None:
        channel.bonds.watching[ref] = (record.pid, target)
        channel.put(MonitorP(record.pid, _process_in(target), ref))

    # ---- births ------------------------------------------------------------------------------------------------

    def request_spawn(
        self,
        record: ProcessRecord,
        node: str,
        mfa: tuple[str, str],
        args: list[Any],
        *,
        link: bool = False,
        monitor: bool = False,
        told: bool = True,
    ) -> CallTag:
        """Ask a node for a process; `(tag, pid)` or `(tag, ("error", why))` comes to `record`.

        Args:
            record: who asks; its group leader leads the new process.
            node: where.
            mfa: module and function, in the BEAM's spelling.
            args: the function's arguments.
            link: link the process to `record`.
            monitor: monitor it; the reference is the tag.
            told: False if `record` waits for the end of the process (a Down of the tag), not for the answer.

        Raises:
            CopyError: an argument cannot be sent.
        """
        machine = self._machine
        leader = machine.leaders.of(record)
        if leader is not None and leader.creation == machine.creation:
            machine.leaders.abroad.add(leader)
        tag = machine.aliases.new_call(record)
        options = [Atom(word) for word, wanted in (("link", link), ("monitor", monitor)) if wanted]
        module, function = mfa
        request = SpawnRequest(
            tag, record.pid, leader or record.pid, (Atom(module), Atom(function), len(args)), options, args
        )
        channel = self.channel_to(node)
        with machine.lock:
            open_ = channel.state is not State.DOWN
            if open_:
                channel.bonds.spawns[tag] = SpawnWait(record.pid, link, monitor, told)
        if open_:
            try:
                channel.put(request)
            except BaseException:
                machine.aliases.close(tag)
                channel.bonds.spawns.pop(tag, None)
                raise
        elif (waiting := machine.aliases.take(tag)) is not None:
            machine.deliver(waiting, (tag, ("error", "noconnection")))
        return tag

    def abandon_spawn(self, record: ProcessRecord, node: str, tag: CallTag) -> bool:
        """Wait no longer for what `request_spawn` promised; False if it has come, or is on its way."""
        unanswered = self._machine.aliases.close(tag)
        with self._machine.lock:
            channel = self.channels.get(node)
            if channel is not None:
                channel.bonds.spawns.pop(tag, None)  # the answer, when it comes, ends the monitor
                watched = channel.bonds.watching.pop(tag, None)
                if watched is not None:
                    channel.put(DemonitorP(record.pid, _process_in(watched[1]), tag))
        return unanswered

    # ---- the node itself ---------------------------------------------------------------------------------------

    def monitor_node(self, watcher: Pid, node: str, on: bool) -> None:
        """Have `watcher` told once of the end of a node, at once if it cannot be reached; or one time less."""
        if not on:
            with self._machine.lock:
                channel = self.channels.get(node)
                if channel is not None and channel.bonds.node_monitors[watcher] > 0:
                    channel.bonds.node_monitors[watcher] -= 1
            return
        channel = self.channel_to(node)
        with self._machine.lock:
            if channel.state is not State.DOWN:
                channel.bonds.node_monitors[watcher] += 1
                return
        record = self._machine.find(watcher)
        if record is not None:
            self._machine.deliver(record, ("nodedown", Atom(node)))

    def when_connected(self, node: str, tell: Callable[[bool], None]) -> None:
        """Have it told whether the node is connected: now, or when the attempt has an outcome."""
        channel = self.channel_to(node)
        with self._machine.lock:
            if channel.state is State.PENDING:
                channel.bonds.waiters.append(tell)
                return
        tell(channel.state is State.UP)

    async def connect(self, record: ProcessRecord, node: str, deadline: float | None) -> None:
        """Wait until a node is connected, or cannot be, or time is up; see `Transport`."""
        channel = self.channels.get(node)
        if channel is None or channel.state is not State.UP:
            await ask(record, lambda tell: self.when_connected(node, tell), deadline)

    def reaches(self, pid: Pid) -> bool:
        """Tell whether the node of a far pid is there; see `Transport`."""
        channel = self.channels.get(pid.home)
        line = channel.line if channel is not None else None
        return channel is not None and (line is None or line.peer.creation == pid.creation)

    def abandon(self) -> None:
        """In a forked child the connections are the parent's."""
        self._let_go()

    def _channel_of(self, target: FarProcess) -> Channel:
        return self.channel_to(_node_of(target))


async def ask(
    record: ProcessRecord, begin: Callable[[Callable[[bool], None]], None], deadline: float | None = None
) -> bool:
    """Wait for what is told on the poller's thread; False when time is up.

    Args:
        record: the process that waits.
        begin: is given what to call with the outcome.
        deadline: a moment of the machine's clock.
    """
    machine = record.machine
    tag = machine.aliases.new_call(record)

    def tell(outcome: bool) -> None:
        waiting = machine.aliases.take(tag)
        if waiting is not None:
            machine.deliver(waiting, (tag, outcome))

    mark = record.mailbox.mark() if record.mailbox is not None else 0
    begin(tell)
    try:
        answer = await take_reply(record, tag, mark, deadline)
        if answer is None and not machine.aliases.close(tag):
            answer = await take_reply(record, tag, mark, None)  # it is on its way
    except BaseException:
        machine.aliases.close(tag)
        raise
    return answer is not None and bool(answer[1])


def _node_of(target: FarProcess) -> str:
    return target.home if isinstance(target, Pid) else target[1]


def _process_in(target: FarProcess) -> Pid | Atom:
    return target if isinstance(target, Pid) else Atom(target[0])
