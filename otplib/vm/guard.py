"""A mailbox that looks at what comes in: a limit, and answers to output that nobody waits for.

`print` in a process does not wait for its group leader's answer (it cannot: it is a plain call), so the answer would
lie in the mailbox for ever. Only processes with a limit, or with a leader of the user's own, have such a mailbox.

What happens at the limit is each process's choice, by `process.flag(max_mailbox=n, on_full=...)`:

| on_full | a call that finds n messages waiting | any other message |
|---|---|---|
| `"kill"` | is the one too many: the owner is killed, with a report | likewise |
| `"refuse"` | fails at once in its caller, with reason `"overloaded"` | is let in; one beyond 2n kills, with a report |

A cast or a plain `send` has nobody who could be told no, and a signal must not be lost; so they are let in, and the
second bound is there because "let in" must not mean "without end".
"""

from __future__ import annotations

import logging
from typing import Any, Final

from otplib.core.mailbox import Mailbox
from otplib.core.terms import NO_NODE, Atom, Pid, Ref
from otplib.vm.process_record import ProcessRecord

log = logging.getLogger("otplib")


#: Set in the number of every output tag: one that has been to another node and back is a plain reference.
OUTPUT_BIT: Final = 1 << 62

#: Why a call was refused; an atom, for the caller may be a BEAM's.
OVERLOADED: Final = Atom("overloaded")


class OutputTag(Ref):
    """The `reply_as` of an output request that nobody waits for."""

    __slots__ = ()


class CallLimit(int):
    """A `max_mailbox` at which calls are refused. A number, so that whoever reads the limit need not know."""

    __slots__ = ()


class GuardedMailbox(Mailbox):
    """Drops answers to output; at its limit refuses calls or kills its owner."""

    __slots__ = ()

    def append(self, message: Any) -> None:
        """Take a message in, unless it is an answer nobody waits for, or a call there is no room for."""
        if type(message) is tuple and len(message) == 3:
            if message[0] == "io_reply" and _is_output_tag(message[1]):
                return
            if message[0] == "$gen_call" and type(self.owner.limit) is CallLimit and self._refuse(message[1]):
                return
        super().append(message)
        self.check_limit()

    def check_limit(self) -> None:
        """Kill the owner if its mailbox has grown too long. Not to be called with the machine's lock held."""
        owner = self.owner
        limit = owner.limit
        if limit is None or owner.doom is not None:
            return
        bound = 2 * limit if type(limit) is CallLimit else limit
        if self.count() > bound:
            twice = ", twice over: only calls can be refused" if bound != limit else ""
            log.error("Process %r killed: its mailbox grew past max_mailbox=%d messages%s", owner.pid, limit, twice)
            owner.machine.doom(owner, "killed")

    def _refuse(self, caller: Any) -> bool:
        """Tell a caller, if there is no room for its call, that there will be no answer; False if it is to be let in.

        It hears so by its monitor of the owner, which every call sets before it sends. Who has none is let in: it
        would wait for ever. Race, in order: two callers may both find room for one; so the mailbox may grow past its
        limit by as many calls as there are threads that run processes, and no more.
        """
        owner: ProcessRecord = self.owner
        if self.count() < owner.limit:  # type: ignore[operator]  # a CallLimit
            return False
        ref = _monitor_of(caller)
        watchers = owner.watchers
        watcher = watchers.get(ref) if watchers is not None and ref is not None else None
        if watcher is None or ref is None:
            return False
        machine = owner.machine
        if type(watcher) is not tuple:
            machine.aliases.report_broken(ref, owner.pid, OVERLOADED)
            return True
        with machine.lock:
            if owner.watchers is None or owner.watchers.pop(ref, None) is None:
                return True  # it has given up meanwhile
        far_or_here, named = watcher
        what = owner.pid if named is None else named
        if isinstance(far_or_here, Pid):
            machine.transport.report_down(ref, far_or_here, what, OVERLOADED)
        else:
            machine.report_down(ref, far_or_here, what, OVERLOADED)
        return True


def _monitor_of(caller: Any) -> Ref | None:
    """Give the monitor that a call's `(pid, tag)` speaks of: the tag is its reference."""
    tag = caller[1] if isinstance(caller, tuple) and len(caller) == 2 else None
    return tag if isinstance(tag, Ref) else None


def _is_output_tag(tag: Any) -> bool:
    return isinstance(tag, Ref) and tag.home == NO_NODE and tag.id & OUTPUT_BIT != 0
