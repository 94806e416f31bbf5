"""A mailbox that looks at what comes in: a limit, and answers to output that nobody waits for.

`print` in a process does not wait for its group leader's answer (it cannot: it is a plain call), so the answer would
lie in the mailbox for ever. Only processes with a limit, or with a leader of the user's own, have such a mailbox.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from otplib.core.mailbox import Mailbox
from otplib.core.terms import NO_NODE, Ref

log = logging.getLogger("otplib")


#: Set in the number of every output tag: one that has been to another node and back is a plain reference.
OUTPUT_BIT: Final = 1 << 62


class OutputTag(Ref):
    """The `reply_as` of an output request that nobody waits for."""

    __slots__ = ()


class GuardedMailbox(Mailbox):
    """Drops answers to output; kills the owner when its mailbox grows past its limit."""

    __slots__ = ()

    def append(self, message: Any) -> None:
        """Take a message in, unless it is an answer nobody waits for."""
        if type(message) is tuple and len(message) == 3 and message[0] == "io_reply" and _is_output_tag(message[1]):
            return
        super().append(message)
        self.check_limit()

    def check_limit(self) -> None:
        """Kill the owner if its mailbox has grown too long. Not to be called with the machine's lock held."""
        owner = self.owner
        limit = owner.limit
        if limit is not None and owner.doom is None and self.count() > limit:
            log.error("Process %r killed: its mailbox grew past max_mailbox=%d messages", owner.pid, limit)
            owner.machine.doom(owner, "killed")


def _is_output_tag(tag: Any) -> bool:
    return isinstance(tag, Ref) and tag.home == NO_NODE and tag.id & OUTPUT_BIT != 0
