"""What the machine needs of the floor that reaches other nodes, and what there is as long as nothing does.

An address that is far: a pid or an alias whose `home` is another node, or `(name, node)` of another node. All of these
verbs are plain calls and never wait. What cannot be reached answers as a dead process does, with `"noconnection"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from otplib.core.reasons import Down
from otplib.core.terms import NO_NODE, Pid, Ref

if TYPE_CHECKING:
    from otplib.vm.aliases import CallTag
    from otplib.vm.machine import Machine
    from otplib.vm.process_record import ProcessRecord

Far = Pid | Ref | tuple[str, str]
FarProcess = Pid | tuple[str, str]


def is_far(pid: Pid) -> bool:
    """Tell whether a pid belongs to another node."""
    return pid.home is not NO_NODE and pid.home != NO_NODE


def is_far_process(here: str, target: Any) -> bool:
    """Tell whether a monitor's target, a pid or `(name, node)`, belongs to another node than `here`."""
    return is_far(target) if type(target) is Pid else type(target) is tuple and target[1] != here


class Transport(Protocol):
    """Carries the signals of this machine's processes to those of other nodes."""

    def send(self, sender: Pid, dest: Far, message: Any) -> None:
        """Send a message. It must be copied, or made bytes, before this returns.

        Raises:
            CopyError: it holds something that cannot be sent.
        """

    def link(self, record: ProcessRecord, pid: Pid) -> None:
        """Link a process of ours and a far one. The dead, the unreachable too, answer with an exit signal."""

    def unlink(self, record: ProcessRecord, pid: Pid) -> None:
        """Take the link away; once this returns nothing of it comes any more."""

    def monitor(self, record: ProcessRecord, ref: Ref, target: FarProcess) -> None:
        """Watch a far process: it is in `record.monitors` when this returns, or its Down in the mailbox."""

    def demonitor(self, watcher: Pid, ref: Ref, target: FarProcess) -> None:
        """Stop a watch that is no longer in `record.monitors`."""

    def exit(self, sender: Pid, pid: Pid, reason: Any) -> None:
        """Send an exit signal."""

    def break_link(self, dead: Pid, peer: Pid, reason: Any) -> None:
        """Tell a far process that one of ours, linked to it, has ended."""

    def report_down(self, ref: Ref, watcher: Pid, what: Pid | str, reason: Any) -> None:
        """Tell a far watcher that a process of ours has ended."""

    def set_leader(self, leader: Pid, pid: Pid) -> None:
        """Give a far process another group leader."""

    def open_call(self, record: ProcessRecord, target: FarProcess) -> CallTag:
        """Make the tag of a call: an alias of the caller that is a monitor of the far server too."""

    def close_call(self, record: ProcessRecord, target: FarProcess, tag: CallTag) -> bool:
        """Undo `open_call`; False if an answer has come, or is on its way."""

    async def connect(self, record: ProcessRecord, node: str, deadline: float | None) -> None:
        """Wait until a node is connected, or cannot be, or time is up. What is sent afterwards is refused at once."""

    def reaches(self, pid: Pid) -> bool:
        """Tell whether the node of a far pid is connected, or is being connected, and is still the same."""

    def abandon(self) -> None:
        """Let go of everything in a forked child, without a word to anybody."""


class NoTransport:
    """The transport of a machine that is no node: nobody far away can be reached."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def send(self, sender: Pid, dest: Far, message: Any) -> None:
        """Lose the message, as `send/2` does."""

    def link(self, record: ProcessRecord, pid: Pid) -> None:
        """Answer at once."""
        self._machine.signal_exit(pid, record, "noconnection", by_link=True)

    def unlink(self, record: ProcessRecord, pid: Pid) -> None:
        """There is no link."""

    def monitor(self, record: ProcessRecord, ref: Ref, target: FarProcess) -> None:
        """Answer at once."""
        self._machine.deliver(record, Down("DOWN", ref, "process", target, "noconnection"))

    def demonitor(self, watcher: Pid, ref: Ref, target: FarProcess) -> None:
        """There is no monitor."""

    def exit(self, sender: Pid, pid: Pid, reason: Any) -> None:
        """Lose the signal."""

    def break_link(self, dead: Pid, peer: Pid, reason: Any) -> None:
        """There is no link."""

    def report_down(self, ref: Ref, watcher: Pid, what: Pid | str, reason: Any) -> None:
        """There is no monitor."""

    def set_leader(self, leader: Pid, pid: Pid) -> None:
        """Lose the signal."""

    def open_call(self, record: ProcessRecord, target: FarProcess) -> CallTag:
        """Answer at once."""
        aliases = self._machine.aliases
        tag = aliases.new_call(record)
        aliases.report_broken(tag, target, "noconnection")
        return tag

    def close_call(self, record: ProcessRecord, target: FarProcess, tag: CallTag) -> bool:
        """Nothing is under way."""
        return self._machine.aliases.close(tag)

    async def connect(self, record: ProcessRecord, node: str, deadline: float | None) -> None:
        """Nobody can be."""

    def reaches(self, pid: Pid) -> bool:
        """Nobody is."""
        return False

    def abandon(self) -> None:
        """Nothing to let go of."""
