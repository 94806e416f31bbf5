"""The external term format: terms to bytes and back, as `:erlang.term_to_binary/1` and `:erlang.binary_to_term/1`.

| Python | on the wire | comes back as |
|---|---|---|
| `Atom` | atom | `Atom`; `nil`, `true`, `false` as None, True, False |
| `None`, `True`, `False` | the atoms nil, true, false | themselves |
| `int`, `float` | integer of any size, 64-bit float | themselves; NaN and infinity between Python nodes alone |
| `str` | binary, UTF-8 | `str` |
| `bytes` | binary | between Python nodes `bytes`; from a BEAM `str` if it is UTF-8, else `bytes` |
| `tuple`, `list`, `dict` | tuple, list, map | themselves |
| `Pid`, `Ref` | pid, reference | themselves: equal after any number of hops |
| `etf_terms`: Fun, Export, Port, ... | what they came as | themselves, intact |
| other Python objects | between Python nodes a pickle | themselves |
| the same, for a BEAM | `etf_readable`: an exception, a NamedTuple; or refused | |

**Text and bytes.** A BEAM has one type for both, so what it sends is `str` if it is valid UTF-8, as Elixir's strings
are, and `bytes` otherwise. To a Python node (`python_peer=True`) bytes go as a bit string that fills its last byte, a
form that OTP reads and never writes.

**Python objects** between Python nodes (`python_peer=True`): by cloudpickle, so classes and functions of a notebook
travel too, and a name that a function did not bring is looked up where it lands. They are opened only with
`allow_pickle=True`, to be said of a peer that has shown that it knows the cookie; otherwise they stand in the message
as `etf_terms.Sealed`.

**Safety.** Whatever the input, the outcome is a term or a `DecodeError`, in time and memory that grow with the input's
size alone; size, depth, expansion of compressed terms, and atoms kept are bounded (`etf_tags`).

A connection keeps one `Encoder` and one `Decoder`, which know the peer; the functions below make one for each call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otplib.dist.etf_decode import Decoder
from otplib.dist.etf_encode import Encoder
from otplib.dist.etf_tags import Here

_PLAIN_ENCODER: Final = Encoder()


def encode(term: Any, *, python_peer: bool = False, allow_pickle: bool = True, here: Here | None = None) -> bytes:
    r"""Write a term, as `:erlang.term_to_binary/1`.

    `python_peer`: the reader is an otplib node. `allow_pickle` (with it): that node opens Python objects; without it
    they go as to a BEAM. `here`: what this node is called on the wire.

    Raises:
        CopyError: (a `TypeError`) it holds something that cannot be sent; the text names the place.

    Example:
        >>> from otplib.core.terms import Atom
        >>> encode((Atom("ok"), "hi", 7))
        b'\x83h\x03w\x02okm\x00\x00\x00\x02hia\x07'
        >>> encode(("job", {"when": {1, 2}}))
        Traceback (most recent call last):
        otplib.core.errors.CopyError: cannot send message[1]["when"] to another node: a set; ...
    """
    if not python_peer and here is None:
        return _PLAIN_ENCODER.encode(term)
    return Encoder(python_peer=python_peer, allow_pickle=allow_pickle, here=here).encode(term)


def decode(
    data: bytes | bytearray | memoryview,
    *,
    python_peer: bool = False,
    allow_pickle: bool = False,
    here: Here | None = None,
    names: Mapping[str, Any] | None = None,
) -> Any:
    r"""Read a term, as `:erlang.binary_to_term/1`.

    `python_peer`: the writer is an otplib node. `allow_pickle` (with it): open the Python objects it sends; only for
    peers that are authenticated. `names`: where a function looks up names that it did not bring; `__main__` if None.

    Raises:
        DecodeError: (a `ValueError`) these bytes are not one term, or one beyond the limits.

    Example:
        >>> decode(encode({"a": [1, 2.5, None]}))
        {'a': [1, 2.5, None]}
        >>> decode(encode(b"text"), python_peer=True), decode(encode(b"text", python_peer=True), python_peer=True)
        ('text', b'text')
        >>> decode(b"\x83h\x03w\x02ok")
        Traceback (most recent call last):
        otplib.core.errors.DecodeError: the input ends in the middle of a term
    """
    return Decoder(python_peer=python_peer, allow_pickle=allow_pickle, here=here, names=names).decode(data)


def decode_prefix(
    data: bytes | bytearray | memoryview,
    offset: int = 0,
    *,
    python_peer: bool = False,
    allow_pickle: bool = False,
    here: Here | None = None,
    names: Mapping[str, Any] | None = None,
) -> tuple[Any, int]:
    r"""Read the term that starts at `offset`: it, and where the next one starts.

    A packet of the distribution protocol is two terms in a row. Otherwise as `decode`; mirrors
    `:erlang.binary_to_term(data, [:used])`.

    Example:
        >>> packet = encode((2, "", 7)) + encode("hello")
        >>> decode_prefix(packet)
        ((2, '', 7), 12)
        >>> decode_prefix(packet, 12)
        ('hello', 23)
    """
    decoder = Decoder(python_peer=python_peer, allow_pickle=allow_pickle, here=here, names=names)
    return decoder.decode_prefix(data, offset)


__all__ = ["Decoder", "Encoder", "Here", "decode", "decode_prefix", "encode"]
