"""Control messages: the signals between processes of two nodes, as values.

A packet between connected nodes holds a control tuple and, for some, a payload behind it. The wire has up to four forms
of one signal (with its reason inside or as a payload, with a trace token or without); here each signal is one class.

    class           wire: operation and fields                                payload
    Link            1  from, to
    Send            2  '', to | 22 from, to                                   the message
                    12 '', to, token | 23 from, to, token
    Exit            3  from, to, reason | 13 from, to, token, reason
                    24 from, to | 25 from, to, token                          the reason
    Unlink          4  from, to (before OTP 26, encoded before the connection was up)
    RegSend         6  from, '', name | 16 from, '', name, token              the message
    GroupLeader     7  leader, to
    Exit2           8  from, to, reason | 18 from, to, token, reason
                    26 from, to | 27 from, to, token                          the reason
    MonitorP        19 from, to or name, ref
    DemonitorP      20 from, to or name, ref
    MonitorPExit    21 from or name, to, ref, reason
                    28 from or name, to, ref                                  the reason
    SpawnRequest    29 id, from, leader, {m, f, a}, options | 30 ..., token   the arguments
    SpawnReply      31 id, to, flags, result | 32 ..., token
    AliasSend       33 from, alias | 34 from, alias, token                    the message
    UnlinkId        35 id, from, to
    UnlinkIdAck     36 id, from, to

`parse_control` takes the decoded control tuple, `build_control` gives it back, in the form that the connection's flags
call for. Operations of flags that we do not claim (ALTACT_SIG_SEND, 37) are errors, as anything else unknown.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from otplib.core.errors import DecodeError, NodeError
from otplib.core.terms import Atom, Pid, Ref
from otplib.dist.flags import DFlag

#: Every packet between connected nodes starts with this byte ("pass through") as long as no distribution header is
#: negotiated. The control term follows, then the payload, if the operation has one; each term with its version byte.
PASS_THROUGH: Final = b"p"


class _NoPayload(enum.Enum):
    NO_PAYLOAD = "NO_PAYLOAD"

    def __repr__(self) -> str:
        return "NO_PAYLOAD"


#: Stands for "nothing follows the control tuple": None is a term of its own (`nil`).
NO_PAYLOAD: Final = _NoPayload.NO_PAYLOAD

_UNUSED: Final = Atom("")
_MAX_UNLINK_ID: Final = 0xFFFF_FFFF_FFFF_FFFF


class SpawnFlag(enum.IntFlag, boundary=enum.KEEP):
    """What a SpawnReply says was set up together with the process."""

    LINK = 1
    MONITOR = 2


class Link(NamedTuple):
    """`link/1`."""

    from_pid: Pid
    to_pid: Pid


class Send(NamedTuple):
    """`send/2` to a pid. `from_pid` is None where the sender is not told."""

    from_pid: Pid | None
    to_pid: Pid
    message: Any
    token: Any = None


class Exit(NamedTuple):
    """The exit signal of a broken link."""

    from_pid: Pid
    to_pid: Pid
    reason: Any
    token: Any = None


class Unlink(NamedTuple):
    """`unlink/1` of the old link protocol: never answered."""

    from_pid: Pid
    to_pid: Pid


class RegSend(NamedTuple):
    """`send/2` to a name on the receiving node."""

    from_pid: Pid
    to_name: Atom
    message: Any
    token: Any = None


class GroupLeader(NamedTuple):
    """`group_leader/2`: from now on `from_pid` is the leader of `to_pid`."""

    from_pid: Pid
    to_pid: Pid


class Exit2(NamedTuple):
    """`exit/2`."""

    from_pid: Pid
    to_pid: Pid
    reason: Any
    token: Any = None


class MonitorP(NamedTuple):
    """`monitor/2` of a pid or of a name on the receiving node."""

    from_pid: Pid
    to_proc: Pid | Atom
    ref: Ref


class DemonitorP(NamedTuple):
    """`demonitor/1`."""

    from_pid: Pid
    to_proc: Pid | Atom
    ref: Ref


class MonitorPExit(NamedTuple):
    """The monitored process (or the holder of the monitored name) is gone."""

    from_proc: Pid | Atom
    to_pid: Pid
    ref: Ref
    reason: Any


class SpawnRequest(NamedTuple):
    """`spawn_request/5`; `opt_list` and `arg_list` are checked by whoever spawns."""

    req_id: Ref
    from_pid: Pid
    group_leader: Pid
    mfa: tuple[Atom, Atom, int]
    opt_list: list[Any]
    arg_list: list[Any]
    token: Any = None


class SpawnReply(NamedTuple):
    """The answer: the pid of the new process, or an atom that says why there is none."""

    req_id: Ref
    to_pid: Pid
    flags: SpawnFlag
    result: Pid | Atom
    token: Any = None


class AliasSend(NamedTuple):
    """`send/2` to an alias."""

    from_pid: Pid
    alias: Ref
    message: Any
    token: Any = None


class UnlinkId(NamedTuple):
    """`unlink/1`; the receiver answers with UnlinkIdAck before anything else that it sends to `from_pid`."""

    id: int
    from_pid: Pid
    to_pid: Pid


class UnlinkIdAck(NamedTuple):
    """The answer to UnlinkId, with the same id."""

    id: int
    from_pid: Pid
    to_pid: Pid


ControlMessage: TypeAlias = (
    Link
    | Send
    | Exit
    | Unlink
    | RegSend
    | GroupLeader
    | Exit2
    | MonitorP
    | DemonitorP
    | MonitorPExit
    | SpawnRequest
    | SpawnReply
    | AliasSend
    | UnlinkId
    | UnlinkIdAck
)


# ---- fields: each check gives the value or raises -----------------------------------------------------------------


def _any(value: Any) -> Any:
    return value


def _pid(value: Any) -> Pid:
    if type(value) is Pid:
        return value
    raise DecodeError(f"expected a pid, got {type(value).__name__}")


def _ref(value: Any) -> Ref:
    if type(value) is Ref:
        return value
    raise DecodeError(f"expected a reference, got {type(value).__name__}")


#: The atoms that arrive as Python's own constants. Nobody is registered so, but asking is no breach of the protocol.
_CONSTANTS: Final = {None: Atom("nil"), True: Atom("true"), False: Atom("false")}


def _atom(value: Any) -> Atom:
    if type(value) is Atom:
        return value
    if value is None or value is True or value is False:
        return _CONSTANTS[value]
    raise DecodeError(f"expected an atom, got {type(value).__name__}")


def _process(value: Any) -> Pid | Atom:
    return value if type(value) is Pid else _atom(value)


def _list(value: Any) -> list[Any]:
    if type(value) is list:
        return value
    raise DecodeError(f"expected a proper list, got {type(value).__name__}")


def _unlink_id(value: Any) -> int:
    if type(value) is int and 0 < value <= _MAX_UNLINK_ID:
        return value
    raise DecodeError("expected an unlink id: an integer from 1 to 2^64 - 1")


def _spawn_flags(value: Any) -> SpawnFlag:
    if type(value) is int and value >= 0:
        return SpawnFlag(value)
    raise DecodeError("expected spawn flags: an integer that is not negative")


def _mfa(value: Any) -> tuple[Atom, Atom, int]:
    if type(value) is tuple and len(value) == 3:
        module, function, arity = value
        if type(arity) is int and arity >= 0:
            return _atom(module), _atom(function), arity
    raise DecodeError("expected {module, function, arity}")


# ---- the wire to values -------------------------------------------------------------------------------------------

_Check: TypeAlias = Callable[[Any], Any]


class _Form(NamedTuple):
    """One operation: the fields of its tuple in order (None: unused), and the field that its payload fills."""

    type: type[Any]
    fields: tuple[tuple[str, _Check] | None, ...]
    payload: str | None = None


_FROM = ("from_pid", _pid)
_TO = ("to_pid", _pid)
_TOKEN = ("token", _any)
_REASON = ("reason", _any)
_SPAWN: Final = (("req_id", _ref), _FROM, ("group_leader", _pid), ("mfa", _mfa), ("opt_list", _list))
_REPLY: Final = (("req_id", _ref), _TO, ("flags", _spawn_flags), ("result", _process))
_MONITOR: Final = (_FROM, ("to_proc", _process), ("ref", _ref))
_MONITOR_EXIT: Final = (("from_proc", _process), _TO, ("ref", _ref))
_UNLINK: Final = (("id", _unlink_id), _FROM, _TO)
_ALIAS: Final = (_FROM, ("alias", _ref))

_FORMS: Final[dict[int, _Form]] = {
    1: _Form(Link, (_FROM, _TO)),
    2: _Form(Send, (None, _TO), "message"),
    3: _Form(Exit, (_FROM, _TO, _REASON)),
    4: _Form(Unlink, (_FROM, _TO)),
    6: _Form(RegSend, (_FROM, None, ("to_name", _atom)), "message"),
    7: _Form(GroupLeader, (_FROM, _TO)),
    8: _Form(Exit2, (_FROM, _TO, _REASON)),
    12: _Form(Send, (None, _TO, _TOKEN), "message"),
    13: _Form(Exit, (_FROM, _TO, _TOKEN, _REASON)),
    16: _Form(RegSend, (_FROM, None, ("to_name", _atom), _TOKEN), "message"),
    18: _Form(Exit2, (_FROM, _TO, _TOKEN, _REASON)),
    19: _Form(MonitorP, _MONITOR),
    20: _Form(DemonitorP, _MONITOR),
    21: _Form(MonitorPExit, (*_MONITOR_EXIT, _REASON)),
    22: _Form(Send, (_FROM, _TO), "message"),
    23: _Form(Send, (_FROM, _TO, _TOKEN), "message"),
    24: _Form(Exit, (_FROM, _TO), "reason"),
    25: _Form(Exit, (_FROM, _TO, _TOKEN), "reason"),
    26: _Form(Exit2, (_FROM, _TO), "reason"),
    27: _Form(Exit2, (_FROM, _TO, _TOKEN), "reason"),
    28: _Form(MonitorPExit, _MONITOR_EXIT, "reason"),
    29: _Form(SpawnRequest, _SPAWN, "arg_list"),
    30: _Form(SpawnRequest, (*_SPAWN, _TOKEN), "arg_list"),
    31: _Form(SpawnReply, _REPLY),
    32: _Form(SpawnReply, (*_REPLY, _TOKEN)),
    33: _Form(AliasSend, _ALIAS, "message"),
    34: _Form(AliasSend, (*_ALIAS, _TOKEN), "message"),
    35: _Form(UnlinkId, _UNLINK),
    36: _Form(UnlinkIdAck, _UNLINK),
}


class _Reader(NamedTuple):
    """A form made ready for reading: where each field of the value comes from, in the order of the class."""

    type: type[Any]
    arity: int
    #: For each field of the class: its place in the control tuple (0: the payload, None: not told), and its check.
    sources: tuple[tuple[int | None, _Check], ...]
    payload: bool


def _prepare(form: _Form) -> _Reader:
    places = {field[0]: (place, field[1]) for place, field in enumerate(form.fields, 1) if field is not None}
    if form.payload is not None:
        places[form.payload] = (0, _list if form.payload == "arg_list" else _any)
    nowhere: tuple[int | None, _Check] = (None, _any)
    sources = tuple(places.get(name, nowhere) for name in form.type._fields)
    return _Reader(form.type, len(form.fields) + 1, sources, form.payload is not None)


_READERS: Final = {operation: _prepare(form) for operation, form in _FORMS.items()}


def has_payload(control: Any) -> bool:
    """Whether a term follows the decoded control tuple.

    Raises:
        DecodeError: no control tuple, or an operation that no peer may send under the flags that we claim.

    Example:
        >>> has_payload((2, Atom(""), Pid("a@h", 1, 0, 1)))
        True
    """
    return _find_reader(control).payload


def parse_control(control: Any, payload: Any = NO_PAYLOAD) -> ControlMessage:
    """The signal in a decoded control tuple and in the term behind it.

    Raises:
        DecodeError: no control tuple, an unknown operation, a field of the wrong kind, a payload too many or missing.

    Example:
        >>> parse_control((35, 7, Pid("a@h", 1, 0, 1), Pid("b@h", 2, 0, 1)))
        UnlinkId(id=7, from_pid=#PID<a@h.1.0>, to_pid=#PID<b@h.2.0>)
    """
    reader = _find_reader(control)
    if (payload is not NO_PAYLOAD) is not reader.payload:
        raise DecodeError(f"control operation {control[0]} has {'a' if reader.payload else 'no'} payload")
    if len(control) != reader.arity:
        raise DecodeError(f"control operation {control[0]} has {reader.arity - 1} fields, not {len(control) - 1}")
    values = [None if place is None else check(control[place] if place else payload) for place, check in reader.sources]
    message: ControlMessage = reader.type(*values)
    return message


def _find_reader(control: Any) -> _Reader:
    if type(control) is not tuple or not control or type(control[0]) is not int:
        raise DecodeError("a control message is a tuple that starts with the number of its operation")
    reader = _READERS.get(control[0])
    if reader is None:
        raise DecodeError(f"unknown control operation {control[0] if abs(control[0]) < 1_000 else 'out of range'}")
    return reader


# ---- values to the wire -------------------------------------------------------------------------------------------

#: class: (plain, with a token, plain where the flag is shared, with a token where the flag is shared, that flag)
_OPERATIONS: Final[dict[type[Any], tuple[int, int, int, int, int]]] = {
    Send: (2, 12, 22, 23, DFlag.SEND_SENDER.value),
    Exit: (3, 13, 24, 25, DFlag.EXIT_PAYLOAD.value),
    Exit2: (8, 18, 26, 27, DFlag.EXIT_PAYLOAD.value),
    MonitorPExit: (21, 21, 28, 28, DFlag.EXIT_PAYLOAD.value),
    **{
        kind: (plain, traced, plain, traced, 0)
        for kind, plain, traced in (
            (Link, 1, 1),
            (Unlink, 4, 4),
            (RegSend, 6, 16),
            (GroupLeader, 7, 7),
            (MonitorP, 19, 19),
            (DemonitorP, 20, 20),
            (SpawnRequest, 29, 30),
            (SpawnReply, 31, 32),
            (AliasSend, 33, 34),
            (UnlinkId, 35, 35),
            (UnlinkIdAck, 36, 36),
        )
    },
}

#: A peer without the flag would drop the connection at such a message.
_NEEDED: Final[dict[type[Any], int]] = {
    MonitorP: DFlag.DIST_MONITOR.value,
    DemonitorP: DFlag.DIST_MONITOR.value,
    MonitorPExit: DFlag.DIST_MONITOR.value,
    SpawnRequest: DFlag.SPAWN.value,
    SpawnReply: DFlag.SPAWN.value,
    AliasSend: DFlag.ALIAS.value,
    UnlinkId: DFlag.UNLINK_ID.value,
    UnlinkIdAck: DFlag.UNLINK_ID.value,
}


def build_control(message: ControlMessage, flags: DFlag) -> tuple[tuple[Any, ...], Any]:
    """The control tuple of a signal, and its payload or `NO_PAYLOAD`. `flags`: those that both sides have.

    Raises:
        NodeError: the peer's flags say that it would not understand.

    Example:
        >>> a, b = Pid("a@h", 1, 0, 1), Pid("b@h", 2, 0, 1)
        >>> build_control(Exit(a, b, "boom"), DFlag.EXIT_PAYLOAD)
        ((24, #PID<a@h.1.0>, #PID<b@h.2.0>), 'boom')
        >>> build_control(Exit(a, b, "boom"), DFlag(0))
        ((3, #PID<a@h.1.0>, #PID<b@h.2.0>, 'boom'), NO_PAYLOAD)
    """
    kind = type(message)
    bits = int(flags)  # `&` between flags makes a new enum value each time: 1 us, more than all the rest of a send
    needed = _NEEDED.get(kind)
    if needed is not None and not bits & needed:
        raise NodeError(f"the peer cannot handle {kind.__name__}: it lacks the flag {DFlag(needed).name}")
    plain, traced, plain_flagged, traced_flagged, flag = _OPERATIONS[kind]
    flagged = bits & flag
    if kind is Send and message[0] is None:
        flagged = 0  # nobody to name
    if getattr(message, "token", None) is None:
        operation = plain_flagged if flagged else plain
    else:
        operation = traced_flagged if flagged else traced
    places, payload_place = _WRITERS[operation]
    fields = [_UNUSED if place is None else convert(message[place]) for place, convert in places]
    return (operation, *fields), NO_PAYLOAD if payload_place is None else message[payload_place]


def _as_atom(value: Any) -> Any:
    # A name may be given as the plain string that it is locally; as such it would travel as a binary.
    return Atom(value) if type(value) is str else value


def _as_mfa(value: tuple[Any, Any, int]) -> tuple[Any, Any, int]:
    module, function, arity = value
    return _as_atom(module), _as_atom(function), arity


_CONVERSIONS: Final[dict[_Check, Callable[[Any], Any]]] = {
    _atom: _as_atom,
    _process: _as_atom,
    _mfa: _as_mfa,
    _spawn_flags: int,
}


def _prepare_writer(form: _Form) -> tuple[list[tuple[int | None, Callable[[Any], Any]]], int | None]:
    index: dict[str, int] = {name: place for place, name in enumerate(form.type._fields)}
    places: list[tuple[int | None, Callable[[Any], Any]]] = [
        (None, _any) if field is None else (index[field[0]], _CONVERSIONS.get(field[1], _any)) for field in form.fields
    ]
    return places, None if form.payload is None else index[form.payload]


#: Operation: for each field of the tuple its place in the class (None: unused) and its conversion; the payload's place.
_WRITERS: Final = {operation: _prepare_writer(form) for operation, form in _FORMS.items()}
