"""Capability flags: what each side of a connection is able to do, exchanged in the handshake.

Both sides send theirs; the connection uses what both have (`negotiated`). Who lacks a mandatory flag is refused.
"""

from __future__ import annotations

import enum
from typing import Final


class DFlag(enum.IntFlag, boundary=enum.KEEP):
    """The distribution flags, by OTP's names. Bits that we do not know survive: a newer peer may set them.

    Example:
        >>> DFlag(0x3).name
        'PUBLISHED|ATOM_CACHE'
        >>> DFlag.SPAWN in DFlag(0x1_0000_0000)
        True
    """

    PUBLISHED = 1 << 0
    ATOM_CACHE = 1 << 1
    EXTENDED_REFERENCES = 1 << 2
    DIST_MONITOR = 1 << 3
    FUN_TAGS = 1 << 4
    DIST_MONITOR_NAME = 1 << 5
    HIDDEN_ATOM_CACHE = 1 << 6
    NEW_FUN_TAGS = 1 << 7
    EXTENDED_PIDS_PORTS = 1 << 8
    EXPORT_PTR_TAG = 1 << 9
    BIT_BINARIES = 1 << 10
    NEW_FLOATS = 1 << 11
    UNICODE_IO = 1 << 12
    DIST_HDR_ATOM_CACHE = 1 << 13
    SMALL_ATOM_TAGS = 1 << 14
    UTF8_ATOMS = 1 << 16
    MAP_TAG = 1 << 17
    BIG_CREATION = 1 << 18
    SEND_SENDER = 1 << 19
    BIG_SEQTRACE_LABELS = 1 << 20
    EXIT_PAYLOAD = 1 << 22
    FRAGMENTS = 1 << 23
    HANDSHAKE_23 = 1 << 24
    UNLINK_ID = 1 << 25
    MANDATORY_25_DIGEST = 1 << 26  # the protocol's chapter says 1 bsl 36; dist.hrl and every real node say this
    SPAWN = 1 << 32
    NAME_ME = 1 << 33
    V4_NC = 1 << 34
    ALIAS = 1 << 35
    ALTACT_SIG = 1 << 37
    NATIVE_RECORDS = 1 << 38


#: `erts_internal:get_dflags()` of an OTP 25 node: 16#1070f94.
MANDATORY_25: Final = (
    DFlag.EXTENDED_REFERENCES
    | DFlag.FUN_TAGS
    | DFlag.EXTENDED_PIDS_PORTS
    | DFlag.NEW_FUN_TAGS
    | DFlag.EXPORT_PTR_TAG
    | DFlag.BIT_BINARIES
    | DFlag.NEW_FLOATS
    | DFlag.UTF8_ATOMS
    | DFlag.MAP_TAG
    | DFlag.BIG_CREATION
    | DFlag.HANDSHAKE_23
)
#: 16#403070f94, the same in OTP 26, 27 and 28: full-size pids and references, and the link protocol with ids.
MANDATORY_26: Final = MANDATORY_25 | DFlag.V4_NC | DFlag.UNLINK_ID

#: What a node of that release refuses to live without.
MANDATORY: Final[dict[int, DFlag]] = {25: MANDATORY_25, 26: MANDATORY_26, 27: MANDATORY_26, 28: MANDATORY_26}

#: What we refuse to live without: every node since OTP 24 has it, so there is one link protocol and one size of pid.
REQUIRED: Final = MANDATORY_26

#: What we claim. Beyond the mandatory flags, each for a reason:
#:   MANDATORY_25_DIGEST      OTP 27 and later may ask for it in place of the flags of 25
#:   DIST_MONITOR(_NAME)      else `Process.monitor` of our processes raises notsup
#:   UNICODE_IO               else a BEAM's io library turns what it prints on our group leader into Latin-1
#:   SMALL_ATOM_TAGS          short atoms cost one byte less
#:   SEND_SENDER              a message tells who sent it: traces and drawings show both ends
#:   EXIT_PAYLOAD             a large exit reason travels as a payload, decoded only when it is wanted
#:   SPAWN                    else `Node.spawn`, `:rpc.call` and `:erpc.call` to us fail
#:   ALIAS                    else `GenServer.call` to us cannot carry its reply tag
#: Not claimed:
#:   ATOM_CACHE, HIDDEN_ATOM_CACHE, DIST_HDR_ATOM_CACHE, FRAGMENTS   without them every packet is whole and plain
#:   BIG_SEQTRACE_LABELS      trace tokens are dropped here
#:   NAME_ME                  a request, not a capability: we have a name of our own
#:   ALTACT_SIG, NATIVE_RECORDS   new in OTP 28 and later, not needed to talk to them
CLAIMED: Final = (
    MANDATORY_26
    | DFlag.MANDATORY_25_DIGEST
    | DFlag.DIST_MONITOR
    | DFlag.DIST_MONITOR_NAME
    | DFlag.UNICODE_IO
    | DFlag.SMALL_ATOM_TAGS
    | DFlag.SEND_SENDER
    | DFlag.EXIT_PAYLOAD
    | DFlag.SPAWN
    | DFlag.ALIAS
)


def claimed_flags(*, hidden: bool = False) -> DFlag:
    """What we send: a visible node is also PUBLISHED, so that peers list it and tell others of it.

    Example:
        >>> claimed_flags() & ~claimed_flags(hidden=True)
        <DFlag.PUBLISHED: 1>
    """
    return CLAIMED if hidden else CLAIMED | DFlag.PUBLISHED


def expand_digest(flags: DFlag) -> DFlag:
    """MANDATORY_25_DIGEST may stand for all the flags that were mandatory in OTP 25.

    Example:
        >>> DFlag.MAP_TAG in expand_digest(DFlag.MANDATORY_25_DIGEST)
        True
    """
    return flags | MANDATORY_25 if flags & DFlag.MANDATORY_25_DIGEST else flags


def missing_flags(flags: DFlag, mandatory: DFlag = REQUIRED) -> tuple[str, ...]:
    """The names of the mandatory flags that a peer lacks; none: it may come in.

    Example:
        >>> missing_flags(CLAIMED), missing_flags(CLAIMED & ~DFlag.V4_NC)
        ((), ('V4_NC',))
    """
    lacking = mandatory & ~expand_digest(flags)
    return tuple(flag.name or hex(flag) for flag in DFlag if flag & lacking)


def negotiated(ours: DFlag, theirs: DFlag) -> DFlag:
    """The capabilities of a connection: those that both sides have.

    Example:
        >>> DFlag.FRAGMENTS in negotiated(claimed_flags(), DFlag(-1))
        False
    """
    return ours & expand_digest(theirs)
