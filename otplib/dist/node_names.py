"""Names of nodes: `name@host`. What is one, and what stands for a name without a host.

`"foo"` is `foo@<this machine's name>`, as with `iex --sname foo`. A host with a dot in it makes a long name, as with
`iex --name foo@10.0.0.5`. Nodes with long names and nodes with short ones do not connect: on the BEAM they refuse to.
Which addresses belong to a host is `addresses`'s matter.
"""

from __future__ import annotations

import re
import socket
from typing import Final

from otplib.core.errors import NodeError
from otplib.dist.handshake_messages import encode_node_name

#: What a BEAM allows before the @ of its own name; and what of another's name is an atom on the wire is allowed there.
_NAME = re.compile(r"[0-9A-Za-z_-]+")

#: When this machine's own name could be part of no node's.
FALLBACK_HOST: Final = "localhost"


def full_name(name: str, *, host: str | None = None) -> str:
    """The full name of a node; mirrors what `Node.start/2` and `--sname` make of theirs.

    Args:
        name: `"foo"`, or a full name already.
        host: for a name without one; this machine's if None.

    Raises:
        NodeError: not the name of a node; the text says why.

    Example:
        >>> full_name("foo", host="vm"), full_name("foo@10.0.0.5")
        ('foo@vm', 'foo@10.0.0.5')
        >>> full_name("foo bar")
        Traceback (most recent call last):
        otplib.core.errors.NodeError: 'foo bar' cannot be the name of a node: expected letters, digits, _ and - \
before the @, as in "foo"
    """
    if not isinstance(name, str):
        raise TypeError(f'the name of a node is a str, such as "foo" or "foo@host"; got {name!r}')
    alive, at, given = name.partition("@")
    if _NAME.fullmatch(alive) is None:
        raise _refuse(name, 'expected letters, digits, _ and - before the @, as in "foo"')
    if alive == "undefined":
        raise _refuse(name, 'a BEAM takes "undefined" for a node that wants to be given a name')
    if at and not given:
        raise _refuse(name, 'a host is missing behind the @; write "foo" for one on this machine')
    return check_name(f"{alive}@{given or host or short_host()}")


def check_name(node: str) -> str:
    """The full name given, if it may be one of some node, ours or not.

    Raises:
        NodeError: it is none.

    Example:
        >>> check_name("foo@host")
        'foo@host'
        >>> check_name("foo")
        Traceback (most recent call last):
        otplib.core.errors.NodeError: 'foo' cannot be the name of a node: one @ between a name and a host was expected
    """
    if not isinstance(node, str):
        raise TypeError(f'the name of a node is a str, such as "foo@host"; got {node!r}')
    try:
        encode_node_name(node)
    except ValueError as error:
        raise _refuse(node, str(error).rpartition(": ")[2]) from None
    return node


def split_name(node: str) -> tuple[str, str]:
    """Name and host of a full name.

    Raises:
        NodeError: it is none.

    Example:
        >>> split_name("foo@host")
        ('foo', 'host')
    """
    name, _, host = check_name(node).partition("@")
    return name, host


def is_long(node: str) -> bool:
    """Whether it is a long name: its host has a dot.

    Example:
        >>> is_long("foo@vm"), is_long("foo@vm.example.org"), is_long("foo@127.0.0.1")
        (False, True, True)
    """
    return "." in split_name(node)[1]


def check_alike(here: str, other: str) -> None:
    """See that two nodes may connect: both have short names, or both long ones.

    Raises:
        NodeError: a BEAM would not even try.

    Example:
        >>> check_alike("foo@vm", "bar@10.0.0.5")
        Traceback (most recent call last):
        otplib.core.errors.NodeError: 'foo@vm' has a short name and 'bar@10.0.0.5' a long one: they cannot connect. \
Start both with a host, as in node.start("foo@10.0.0.5"), or both without
    """
    if is_long(here) != is_long(other):
        kinds = ("long", "short") if is_long(here) else ("short", "long")
        raise NodeError(
            f"{here!r} has a {kinds[0]} name and {other!r} a {kinds[1]} one: they cannot connect. Start both with a "
            f'host, as in node.start("foo@10.0.0.5"), or both without'
        )


def short_host() -> str:
    """The machine's name up to its first dot, as `iex --sname` takes it; `"localhost"` if that fits in no name."""
    host = socket.gethostname().partition(".")[0]
    try:
        check_name(f"x@{host}")
    except NodeError:
        return FALLBACK_HOST
    return host


def _refuse(name: str, fault: str) -> NodeError:
    return NodeError(f"{name!r} cannot be the name of a node: {fault}")
