"""The external term format's numbers, and the limits both directions keep.

The names are those of OTP's "External Term Format" chapter without their `_EXT`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

VERSION: Final = 131
COMPRESSED: Final = 80

NEW_FLOAT: Final = 70
BIT_BINARY: Final = 77
ATOM_CACHE_REF: Final = 82
NEW_PID: Final = 88
NEW_PORT: Final = 89
NEWER_REFERENCE: Final = 90
SMALL_INTEGER: Final = 97
INTEGER: Final = 98
FLOAT: Final = 99
ATOM: Final = 100
REFERENCE: Final = 101
PORT: Final = 102
PID: Final = 103
SMALL_TUPLE: Final = 104
LARGE_TUPLE: Final = 105
NIL: Final = 106
STRING: Final = 107
LIST: Final = 108
BINARY: Final = 109
SMALL_BIG: Final = 110
LARGE_BIG: Final = 111
NEW_FUN: Final = 112
EXPORT: Final = 113
NEW_REFERENCE: Final = 114
SMALL_ATOM: Final = 115
MAP: Final = 116
FUN: Final = 117
ATOM_UTF8: Final = 118
SMALL_ATOM_UTF8: Final = 119
V4_PORT: Final = 120
LOCAL: Final = 121

# A BIT_BINARY carries the number of bits of its last byte, 1 to 8. OTP writes 1 to 7 (all 8 make a BINARY), so 8 is
# free to say "these are bytes, not text"; a BEAM reads it as the binary that it is. The other two are for Python nodes.
BITS_OF_BYTES: Final = 8
BITS_OF_PICKLE: Final = 0x80
BITS_OF_TEXT: Final = 0x81

#: Bytes of one term, compressed or not: what a peer may make this node hold.
MAX_SIZE: Final = 128 * 1024 * 1024
#: Bytes of a compressed term once it is expanded; no node compresses what it sends to another of its own accord.
MAX_EXPANDED: Final = 64 * 1024 * 1024
#: Terms inside each other. OTP has no such limit; Python's own repr and comparison end near 1,000.
MAX_DEPTH: Final = 500
#: Lists in one term. An empty one is a single byte on the wire and 64 here.
MAX_LISTS: Final = 4_000_000
#: Characters of an atom, OTP's own limit.
MAX_ATOM: Final = 255
#: Different atoms from the wire that are interned for good; later ones equal others, but are no longer identical.
MAX_WIRE_ATOMS: Final = 16_384

#: The bits of a `Ref.id` above which the number of 32-bit words stands, where it is not the usual three.
REF_SHIFT: Final = 160


class Here(NamedTuple):
    """What this node is called on the wire.

    Inside a machine its own pids and references bear `nonode@nohost` and the machine's creation, also after it became
    a node (as on the BEAM, where a local pid knows no node); on the way out they get the name and creation that epmd
    gave, on the way in they become the machine's own again.
    """

    node: str
    creation: int
    #: The creation that pids bear inside the machine.
    machine_creation: int
