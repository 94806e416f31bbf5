"""Aliases: references that a process answers to, and the calls that are made with them.

A call needs an alias, so that a late answer can be dropped, and a monitor of the server, so that its death is heard of.
Both are one here, a `CallTag`, good for one message, and neither opening nor closing a call takes the machine's lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from otplib.core.delivery import copied_reason
from otplib.core.reasons import Down
from otplib.core.terms import NO_NODE, Pid, Ref
from otplib.vm.process_record import ProcessRecord, Status

if TYPE_CHECKING:
    from otplib.vm.machine import Machine

DEAD: Final = Status.DEAD


class Alias(Ref):
    """A reference that a process answers to until it takes it back (Erlang's process alias)."""

    __slots__ = ()


class CallTag(Alias):
    """The alias of a call, good for one message: the answer, or the news that there will be none."""

    __slots__ = ()


class Aliases:
    """The aliases of one machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        #: Who answers, by the number of the alias; one step of the interpreter for each change.
        self._holders: dict[int, ProcessRecord] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def forget(self, aliases: Iterable[Ref] | None) -> None:
        """Take back those of a dead process."""
        for alias in aliases or ():
            self._holders.pop(alias.id, None)

    def new(self, record: ProcessRecord) -> Alias:
        """Give a fresh reference that messages to `record` may be sent to."""
        machine = self._machine
        alias = Alias(NO_NODE, machine.next_ref(), machine.creation)
        self._holders[alias.id] = record
        if record.aliases is None:
            record.aliases = set()
        record.aliases.add(alias)
        return alias

    def drop(self, record: ProcessRecord, alias: Ref) -> bool:
        """Take an alias back: what is sent to it from now on is dropped."""
        if record.aliases is None or alias not in record.aliases:
            return False
        record.aliases.discard(alias)
        return self._holders.pop(alias.id, None) is not None

    def take(self, alias: Ref) -> ProcessRecord | None:
        """Give the process that answers to an alias, so as to deliver to it now; None once it has been taken back.

        That of a call is taken back by this. So of an answer and the news of the server's end one alone arrives, and
        none after `close_call`.
        """
        if alias.creation != self._machine.creation:
            return None
        if type(alias) is CallTag:
            return self._holders.pop(alias.id, None)
        record = self._holders.get(alias.id)
        if type(alias) is Alias or record is None:
            return record
        # A plain reference: an alias that has been to another node and back.
        lasting = record.aliases is not None and alias in record.aliases
        return record if lasting else self._holders.pop(alias.id, None)

    def open_call(self, record: ProcessRecord, target: ProcessRecord) -> CallTag:
        """Make an alias of the caller that is a monitor of the server too: all that a call needs, without the lock.

        Race, in order: this enters itself with the watchers and then looks whether the server lives; a dying server
        is marked dead and then takes the list of its watchers. Both may tell of the death: whoever takes the alias
        away first does.
        """
        machine = self._machine
        tag = CallTag(NO_NODE, machine.next_ref(), machine.creation)
        self._holders[tag.id] = record
        watchers = target.watchers
        if watchers is None:
            with machine.lock:
                watchers = target.watchers
                if watchers is None:
                    watchers = {}
                    if target.state is not DEAD:
                        target.watchers = watchers
        watchers[tag] = record
        if target.doom is not None or target.state is DEAD:
            self.report_broken(tag, target.pid, "noproc")
        return tag

    def new_call(self, record: ProcessRecord) -> CallTag:
        """Make the tag of a question to another node; whoever asks sees to the watch over the server."""
        machine = self._machine
        tag = CallTag(NO_NODE, machine.next_ref(), machine.creation)
        self._holders[tag.id] = record
        return tag

    def close(self, tag: Ref) -> bool:
        """Take the tag of a call back; False if an answer has come, or is on its way."""
        return self._holders.pop(tag.id, None) is not None

    def report_broken(self, tag: Ref, server: Pid | tuple[str, str], reason: Any) -> None:
        """Tell a caller that its server is dead, unless it has its answer or has given up."""
        caller = self._holders.pop(tag.id, None)
        if caller is not None:
            self._machine.deliver(caller, Down("DOWN", tag, "process", server, copied_reason(reason)))

    def close_call(self, target: ProcessRecord, tag: CallTag) -> bool:
        """Undo `open_call`: a late answer is dropped from now on. False if one has come, or is on its way."""
        unanswered = self.close(tag)
        watchers = target.watchers
        if watchers is not None:
            watchers.pop(tag, None)
        return unanswered
