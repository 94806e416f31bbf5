"""What a message looks like to a BEAM: OTP's own messages bear atoms, and tags of calls are aliases in a list.

Locally the tags of OTP's messages are plain strings, which would arrive on a BEAM as binaries. A user's own tuples are
left alone: a str is a binary there and an `Atom` an atom, as the user wrote it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from otplib.core.reasons import Raised
from otplib.core.terms import Atom, Pid, Ref
from otplib.dist.etf_terms import ImproperList
from otplib.vm.aliases import Alias

_ALIAS: Final = Atom("alias")

#: Exit reasons that are OTP's own words.
_WORDS: Final = frozenset(
    (
        "normal",
        "shutdown",
        "kill",
        "killed",
        "noproc",
        "noconnection",
        "nodedown",
        "timeout",
        "terminated",
        "calling_self",
        "bad_return_value",
        "function_clause",
        "undef",
        "badarg",
        "system_limit",
        "already_started",
        "brutal_kill",
    )
)


# ---- out ---------------------------------------------------------------------------------------------------------


def to_wire(message: Any) -> Any:
    """Give a message as it goes to another node.

    Example:
        >>> to_wire(("$gen_cast", "hi"))
        (:"$gen_cast", 'hi')
        >>> to_wire(("mine", 1))
        ('mine', 1)
    """
    if type(message) is tuple and message:
        first = message[0]
        if type(first) is str:
            shape = _SHAPES.get(first)
            if shape is not None:
                return shape(message)
        elif isinstance(first, Alias) and len(message) == 2:
            return (_wire_tag(first), message[1])
    return message


def _wire_tag(tag: Any) -> Any:
    return ImproperList((_ALIAS,), tag) if isinstance(tag, Alias) else tag


def _call(message: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(message) != 3 or type(message[1]) is not tuple or len(message[1]) != 2:
        return message
    word, (pid, tag), request = message
    if word == "system":
        request = _system_request(request)
    return (Atom(word), (pid, _wire_tag(tag)), request)


def _system_request(request: Any) -> Any:
    if type(request) is str:
        return Atom(request)
    if type(request) is tuple and request and type(request[0]) is str:
        return (Atom(request[0]), *(reason_to_wire(part) for part in request[1:]))
    return request


def _cast(message: tuple[Any, ...]) -> tuple[Any, ...]:
    return (Atom(message[0]), message[1]) if len(message) == 2 else message


def _output(message: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(message) != 4 or type(message[3]) is not tuple:
        return message
    _, sender, tag, request = message
    words = tuple(Atom(part) if type(part) is str and place < 2 else part for place, part in enumerate(request))
    return (Atom("io_request"), sender, tag, words)


def _answer(message: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(message) != 3:
        return message
    _, tag, answer = message
    if type(answer) is str:
        answer = Atom(answer)
    elif type(answer) is tuple and all(type(part) is str for part in answer):
        answer = tuple(map(Atom, answer))
    return (Atom("io_reply"), tag, answer)


_SHAPES: Final[dict[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]]] = {
    "$gen_call": _call,
    "system": _call,
    "$gen_cast": _cast,
    "io_request": _output,
    "io_reply": _answer,
}


def reason_to_wire(reason: Any) -> Any:
    """Give an exit reason as it goes to a BEAM: OTP's own words as atoms, all else as any message.

    Example:
        >>> reason_to_wire("noproc"), reason_to_wire("mine"), reason_to_wire(("shutdown", "why"))
        (:noproc, 'mine', (:shutdown, 'why'))
        >>> reason_to_wire(("timeout", ("GenServer", "call", ["one", "get", 5.0])))
        (:timeout, (:"Elixir.GenServer", :call, ['one', 'get', 5.0]))
    """
    if type(reason) is str:
        return Atom(reason) if reason in _WORDS else reason
    if type(reason) is tuple and reason and not isinstance(reason, Raised):
        if len(reason) == 2:
            if _is_place(reason[1]):
                module, function, args = reason[1]
                return (reason_to_wire(reason[0]), (Atom(f"Elixir.{module}"), Atom(function), args))
            if reason[0] == "nodedown" and type(reason[1]) is str:
                return (Atom("nodedown"), Atom(reason[1]))
        return (reason_to_wire(reason[0]), *reason[1:])
    return reason


def _is_place(value: Any) -> bool:
    """Tell whether this is the call a process exited in: `("GenServer", "call", [...])`."""
    return (
        type(value) is tuple
        and len(value) == 3
        and type(value[0]) is str
        and type(value[1]) is str
        and type(value[2]) is list
    )


# ---- in ----------------------------------------------------------------------------------------------------------


def from_wire(message: Any) -> Any:
    """Give a message of another node as it looks here: the tags of calls are aliases.

    Example:
        >>> from otplib.core.terms import Pid, Ref
        >>> caller, tag = Pid("a@h", 1, 0, 1), Ref("a@h", 7, 1)
        >>> from_wire((Atom("$gen_call"), (caller, ImproperList((Atom("alias"),), tag)), "get"))[1][1] == tag
        True
        >>> from_wire((ImproperList((Atom("alias"),), tag), "answer"))[0] == tag
        True
    """
    if type(message) is not tuple:
        return message
    if len(message) == 3:
        caller = message[1]
        if type(caller) is tuple and len(caller) == 2 and type(caller[0]) is Pid:
            tag = _alias_in(caller[1])
            if tag is not None and message[0] in ("$gen_call", "system"):
                return (message[0], (caller[0], Alias(tag.home, tag.id, tag.creation)), message[2])
    elif len(message) == 2 and type(message[0]) is ImproperList:
        tag = _alias_in(message[0])
        if tag is not None:
            return (tag, message[1])
    return message


def _alias_in(tag: Any) -> Ref | None:
    if type(tag) is ImproperList and tag.items == (_ALIAS,) and isinstance(tag.tail, Ref):
        return tag.tail
    return None
