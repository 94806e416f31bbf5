"""What the tests of the term format share: the vectors, what they mean, a BEAM that echoes, and Hypothesis's terms."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import strategies as st

from otplib.core.terms import Atom, Pid, Ref
from otplib.dist.etf_terms import BitString, Export, FrozenList, FrozenMap, Fun, ImproperList, Port

FOLDER = Path(__file__).parent / "vectors"
NODE = "far@host"

needs_elixir = pytest.mark.skipif(shutil.which("elixir") is None, reason="no Elixir on this machine")


class Vector(NamedTuple):
    name: str
    #: What is to be read.
    wire: bytes
    #: What the BEAM that read it writes.
    written: bytes


def read_vectors(text: str) -> dict[str, Vector]:
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return {name: Vector(name, bytes.fromhex(wire), bytes.fromhex(written)) for name, wire, written in rows}


RECORDED = (FOLDER / "etf.tsv").read_text(encoding="utf-8")
VECTORS = read_vectors(RECORDED)


def run_elixir(script: str, given: str = "") -> str:
    """Run one of the scripts beside the vectors."""
    done = subprocess.run(
        ["elixir", FOLDER / script], input=given, capture_output=True, encoding="utf-8", timeout=120, check=True
    )
    return done.stdout


def echo(binaries: list[bytes]) -> list[bytes | None]:
    """What a BEAM writes for each of these after it has read it; None where it refuses to read it."""
    answers = run_elixir("etf_echo.exs", "".join(f"{binary.hex()}\n" for binary in binaries)).split()
    return [None if answer == "refused" else bytes.fromhex(answer) for answer in answers]


def nested(depth: int) -> Any:
    term: Any = Atom("core")
    for n in range(1, depth + 1):
        term = (n, [term])
    return term


_FREE = bytes.fromhex("61016d00000003" + b"two".hex())

#: What each vector is in Python, compared exactly (an int is no float, an atom no str).
MEANINGS: dict[str, Any] = {
    **{f"atom {spelling}": Atom("ok") for spelling in ("latin-1 long", "latin-1 small", "utf-8 long", "utf-8 small")},
    "atom latin-1 long, not ASCII": Atom("café"),
    "atom latin-1 small, not ASCII": Atom("café"),
    "atom utf-8 long, not ASCII": Atom("café"),
    "atom utf-8 small, not latin-1": Atom("日本!"),
    "atom utf-8 of 255 characters": Atom("語" * 255),
    "atom empty": Atom(""),
    "nil in latin-1": None,
    "true small latin-1": True,
    "false long utf-8": False,
    "float as text": 1.5,
    "float as text, negative": -2.5e-10,
    "big integer that is small": 5,
    "big integer of no bytes": 0,
    "big integer with zeros in front": -1,
    "integer that is small": 5,
    "large tuple that is small": (1,),
    "list of nothing": [],
    "list of nothing with a tail": 1,
    "string of nothing": [],
    "list whose tail is a list": [1, Atom("b")],
    "list whose tail is a string": [1, 104, 105],
    "list whose tail is improper": ImproperList([1, 2], 3),
    "bit string of whole bytes": b"hi",
    "bit string of nothing": b"",
    "bit string with dirt behind its end": BitString(b"\xe0", 3),
    "pid": Pid(NODE, 112, 3, 0x66554433),
    "pid with 32 bits everywhere": Pid(NODE, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF),
    "pid old": Pid(NODE, 112, 3, 2),
    "port old": Port(NODE, 6, 3),
    "port new": Port(NODE, 6, 0x66554433),
    "port of version 4": Port(NODE, 0x123456789A, 0x66554433),
    "reference of 3 words": Ref(NODE, (12345 << 64) | (0x80000001 << 32) | 0x7FFFFFFF, 0x66554433),
    "reference of 1 word": Ref(NODE, (1 << 160) | 7, 5),
    "reference of 2 words": Ref(NODE, (2 << 160) | (7 << 32) | 9, 5),
    "reference of 4 words": Ref(NODE, (4 << 160) | (1 << 96) | (2 << 64) | (3 << 32) | 4, 5),
    "reference of 5 words": Ref(NODE, (5 << 160) | (1 << 128) | (2 << 96) | (3 << 64) | (4 << 32) | 5, 5),
    "reference of 5 words, the first 0": Ref(NODE, (5 << 160) | 5, 5),
    "reference new with one byte of creation": Ref(NODE, (12345 << 64) | (2 << 32) | 3, 3),
    "reference old": Ref(NODE, (1 << 160) | 7, 1),
    "export": Export("lists", "reverse", 1),
    "export of Elixir": Export("Elixir.String", "upcase", 1),
    "fun without free variables": Fun("h", 3, 112659149, 1, VECTORS["fun without free variables"].wire[1:]),
    "fun with free variables": Fun("h", 3, 112659149, 2, VECTORS["fun with free variables"].wire[1:]),
    "map with keys out of order": {Atom("b"): 1, Atom("a"): 2},
    "0": 0,
    "255": 255,
    "256": 256,
    "-1": -1,
    "float 1.5": 1.5,
    "float -0.0": -0.0,
    "float largest": 1.7976931348623157e308,
    "float smallest": 5e-324,
    "nil": None,
    "true": True,
    "false": False,
    "undefined": Atom("undefined"),
    "text": "hello",
    "text beyond ASCII": "żółw 日本 🐢",
    "text empty": "",
    "bytes that are no text": b"\xff\0\x80",
    "bit string of 11 bits": BitString(b"\xff\xa0", 3),
    "bit string of 1 bit": BitString(b"\x80", 1),
    "charlist": [*b"hello"],
    "charlist of 300": [120] * 300,
    "charlist beyond bytes": [0x65E5, 0x672C],
    "list empty": [],
    "list mixed": [1, Atom("two"), "three", 4.0, [], [[]], ()],
    "list improper": ImproperList([1, 2], Atom("tail")),
    "list improper, as in a call's tag": ImproperList([Atom("alias")], Ref(NODE, (1 << 64) | (2 << 32) | 3, 5)),
    "tuple empty": (),
    "tuple of 255": tuple(range(1, 256)),
    "tuple of 256": tuple(range(1, 257)),
    "map empty": {},
    "map of atoms": {Atom("name"): "Ada", Atom("age"): 36, Atom("ok"): True, Atom("no"): None},
    "map of text": {"a": 1, "b": {"c": [2, 3]}},
    "map of 40": {n: n * n for n in range(1, 41)},
    "map with structured keys": {
        FrozenList([1, 2]): Atom("list"),
        (1, 2): Atom("tuple"),
        FrozenMap([(Atom("a"), 1)]): Atom("map"),
        2.5: Atom("float"),
    },
    "map whose keys a dict takes for equal": FrozenMap(
        [(1, Atom("integer")), (1.0, Atom("float")), (True, Atom("atom"))]
    ),
    "map with an atom and its text": FrozenMap([(Atom("a"), 1), ("a", 2)]),
    "map with a deep key": {(FrozenList([FrozenMap([(FrozenList([1]), 2)])]),): {}},
    "struct": {Atom("__struct__"): Atom("Elixir.URI"), Atom("host"): "example.org", Atom("port"): 443},
    "nested 100 deep": nested(100),
    "table of maps": [{"id": n, Atom("name"): f"row {n}", "score": n / 2, "ok": n % 2 == 0} for n in range(1, 13)],
    "table of tuples": [(Atom("row"), n * 100, f"row {n}", bytes([255, n])) for n in range(1, 13)],
    "table that changes": [{Atom("n"): n} if n < 9 else {Atom("m"): (n,)} for n in range(1, 13)] + [(), 1],
    "gen call": (
        Atom("$gen_call"),
        (Pid(NODE, 1, 2, 3), ImproperList([Atom("alias")], Ref(NODE, (1 << 64) | (2 << 32) | 3, 3))),
        (Atom("get"), "some-key", 42),
    ),
    "compressed text, much of it": "na " * 500,
    "compressed list": list(range(1, 501)),
}
for _text, _number in {
    "2^31 - 1": 2**31 - 1, "2^31": 2**31, "2^63": 2**63, "2^64": 2**64,
    "2^2040 - 1": 2**2040 - 1, "2^2040": 2**2040, "3^3000": 3**3000,
}.items():  # fmt: skip
    MEANINGS[f"integer {_text}"] = _number
    MEANINGS[f"integer -{_text}"] = -_number
for _name in ("map of atoms", "float 1.5", "gen call"):
    MEANINGS[f"of minor version 0: {_name}"] = MEANINGS[_name]
    MEANINGS[f"of minor version 2: {_name}"] = MEANINGS[_name]


# ---- Hypothesis ---------------------------------------------------------------------------------------------------

_words = st.integers(0, 2**32 - 1)
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_nodes = st.sampled_from([NODE, "foo@bar", "żółw@dom"])
atoms = st.text(st.characters(exclude_categories=["Cs"]), max_size=255).map(Atom).filter(
    lambda atom: atom not in ("nil", "true", "false")
)  # fmt: skip
pids = st.builds(Pid, _nodes, _words, _words, _words)
refs = st.builds(Ref, _nodes, st.integers(0, 2**96 - 1), _words)
#: Leaves that mean the same on both sides of a connection, whoever the peer is.
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-300, 300),
    st.integers(),
    st.integers(-(2**3000), 2**3000),
    st.floats(allow_nan=False, allow_infinity=False),
    _text,
    st.sampled_from(["ok", "error", "DOWN", "x"]).map(Atom),
    atoms,
    pids,
    refs,
    st.builds(Port, _nodes, st.integers(0, 2**64 - 1), _words),
    st.builds(Export, _text, _text, st.integers(0, 255)),
    st.builds(BitString, st.binary(min_size=1, max_size=20), st.integers(1, 7)),
)
hashables = st.recursive(leaves, lambda inner: st.tuples(inner, inner) | st.tuples(inner), max_leaves=4)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=12),
        st.lists(inner, max_size=6).map(tuple),
        st.dictionaries(hashables, inner, max_size=6),
        st.lists(st.integers(0, 255), min_size=6, max_size=40),
        st.lists(st.integers(-(2**31), 2**31), min_size=6, max_size=40),
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=6, max_size=40),
        st.builds(ImproperList, st.lists(inner, min_size=1, max_size=3), leaves),
    )


#: Tables as `etf_rows` reads them, with rows among them that are not alike.
_keys = st.one_of(_text, st.sampled_from(["a", "b", "c"]).map(Atom), st.integers(0, 5), st.none())
_cells = st.one_of(leaves, st.lists(st.integers(), max_size=2), st.tuples(st.integers()))
tables = st.one_of(
    st.lists(_keys, max_size=4, unique_by=lambda key: str(key)).flatmap(
        lambda keys: st.lists(
            st.fixed_dictionaries(dict.fromkeys(keys, leaves)) | st.dictionaries(_keys, _cells, max_size=2),
            min_size=9,
            max_size=14,
        )
    ),
    st.integers(0, 4).flatmap(lambda size: st.lists(st.tuples(*[leaves] * size), min_size=9, max_size=14)),
    st.lists(st.tuples(leaves, _cells) | st.tuples(leaves), min_size=9, max_size=14),
)
terms = st.recursive(leaves, containers, max_leaves=40)
