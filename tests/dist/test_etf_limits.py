"""Bad, truncated, deep and huge input: one error type, in time and memory that grow with the input alone."""

from __future__ import annotations

import gc
import struct
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from otplib.core.errors import CopyError, DecodeError
from otplib.core.terms import Atom
from otplib.dist import etf_pieces, etf_tags
from otplib.dist.etf import Decoder, Encoder, decode, decode_prefix, encode
from tests.dist.etf_samples import nested

SECONDS = 20.0  # far more than any of these takes; a quadratic one takes minutes


def refused(data: bytes, match: str | None = None, **options: Any) -> None:
    start = time.perf_counter()
    with pytest.raises(DecodeError, match=match):
        decode(data, **options)
    assert time.perf_counter() - start < SECONDS


def u32(number: int) -> bytes:
    return struct.pack(">I", number)


# ---- not a term ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", range(256))
def test_every_tag_alone_and_every_tag_with_garbage_ends_in_a_term_or_a_decode_error(tag: int):
    for rest in (b"", b"\0", b"\xff" * 9, b"\0" * 40, b"\xff" * 40, bytes(range(40))):
        for peer in (False, True):
            try:
                decode_prefix(bytes([131, tag]) + rest, python_peer=peer)
            except DecodeError as error:
                assert str(error)  # noqa: PT017 - both outcomes are right


def test_what_is_no_term_says_why():
    refused(b"", "empty")
    refused(b"\x83", "middle of a term")
    refused(b"\x82a\1", "starts with 131, got 130")
    refused(b"\x83\x52\0", "atom cache")
    refused(b"\x83\x79\0\0\0\0", "only the node which wrote it")
    refused(b"\x83\x01", "no term has the tag 1")
    refused(b"\x83\x77\x01\xff", "no UTF-8")
    refused(b"\x83\x63" + b"nan".ljust(31, b"\0"), "none")
    refused(b"\x83\x63" + b"1_0.0".ljust(31, b"\0"), "none")
    refused(b"\x83\x63" + b"1.0e999".ljust(31, b"\0"), "too large")
    refused(b"\x83\x46\x7f\xf0" + bytes(6), "no BEAM has")
    refused(b"\x83\x5a\0\0" + b"w\3a@b" + bytes(4), "0 words")
    refused(b"\x83\x5a\0\6" + b"w\3a@b" + bytes(28), "6 words")
    refused(b"\x83\x58a\1" + bytes(12), "expected an atom")
    refused(b"\x83\x71w\1mw\1fb\0\0\0\2", "arity")
    refused(b"\x83\x4d" + u32(0) + b"\x08" + b"\0", "1 bytes follow")
    refused(b"\x83\x4d" + u32(1) + b"\x09\0", "9 bits")
    refused(b"\x83\x4d" + u32(1) + b"\x00\0", "0 bits")
    refused(b"\x83\x74" + u32(1) + b"\x4d" + u32(1) + b"\x80\0" + b"a\1", "128 bits")


def test_an_offset_beyond_the_input_is_refused():
    with pytest.raises(DecodeError):
        decode_prefix(encode(1), 3)
    with pytest.raises(DecodeError):
        decode_prefix(encode(1), -1)


def test_all_kinds_of_bytes_are_taken():
    wire = encode(["x", b"\xff"])
    assert decode(bytearray(wire)) == decode(memoryview(wire)) == ["x", b"\xff"]


def test_funs_are_looked_into():
    def fun(size: int, module: bytes, owner: bytes, free: bytes, count: int) -> bytes:
        return b"\x83\x70" + u32(size) + b"\1" + bytes(16) + u32(3) + u32(count) + module + b"a\3a\4" + owner + free

    pid = b"Xw\3a@b" + bytes(12)
    good = len(fun(0, b"w\1m", pid, b"a\1", 1)) - 2
    assert decode(fun(good, b"w\1m", pid, b"a\1", 1)).arity == 1
    refused(fun(good + 1, b"w\1m", pid, b"a\1", 1), "another size")
    refused(fun(good, b"a\1", pid, b"a\1", 1), "expected an atom")
    refused(fun(good, b"w\1m", b"a\1", b"a\1", 1), "where its pid stands")
    refused(fun(good, b"w\1m", pid, b"\1\1", 1), "no term has the tag 1")
    refused(fun(good, b"w\1m", pid, b"", 2**32 - 1), "middle")
    old = b"\x83\x75" + u32(1) + pid + b"w\1ma\3b\0\0\0\4" + b"a\7"
    assert decode(encode(decode(old))) == decode(old)
    assert decode(old).arity is None
    refused(old[:-1], "middle")


# ---- size ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [105, 108, 109, 111, 116, 77, 112, 107, 80])
def test_a_length_that_is_a_lie_takes_no_memory(tag: int):
    tracemalloc.start()
    try:
        refused(bytes([131, tag]) + b"\xff" * 4 + bytes(64))
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_input_beyond_the_size_is_refused_before_it_is_read():
    decoder = Decoder(max_size=100)
    assert decoder.decode(encode("x" * 94)) == "x" * 94
    with pytest.raises(DecodeError, match="101 bytes; 100 are allowed"):
        decoder.decode(encode("x" * 95))


def test_a_bomb_does_not_go_off():
    small = zlib.compress(bytes(20_000_000), 9)
    tracemalloc.start()
    try:
        refused(b"\x83P" + u32(1000) + small, "another size")
        refused(b"\x83P" + u32(2**32 - 1) + small, "larger than allowed")
        refused(b"\x83P" + u32(etf_tags.MAX_EXPANDED + 1) + small, "larger than allowed")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_compressed_terms_keep_their_word():
    inner = encode([1, 2, 3])[1:]
    good = b"\x83P" + u32(len(inner)) + zlib.compress(inner)
    assert decode(good) == [1, 2, 3]
    refused(b"\x83P" + u32(len(inner) + 1) + zlib.compress(inner), "another size")
    refused(b"\x83P" + u32(len(inner) - 1) + zlib.compress(inner), "another size")
    refused(b"\x83P" + u32(len(inner) + 1) + zlib.compress(inner + b"j"), "another size")
    refused(b"\x83P" + u32(len(inner)) + b"rubbish", "does not expand")
    refused(good[:-1])
    refused(b"\x83P" + u32(len(good) - 1) + zlib.compress(good[1:]), "no term has the tag 80")


def test_a_flood_of_empty_lists_is_stopped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(etf_tags, "MAX_LISTS", 1000)
    decoder = Decoder()
    assert decoder.decode(encode([[]] * 1000)) == [[]] * 1000
    with pytest.raises(DecodeError, match="more than 1000 lists"):
        decoder.decode(encode([[]] * 1001))
    assert decoder.decode(encode([[]] * 1000)) == [[]] * 1000  # the count starts anew


def test_memory_stays_within_a_small_multiple_of_the_input():
    worst = {
        "empty maps": b"\x83l" + u32(20_000) + b"t\0\0\0\0" * 20_000 + b"j",
        "lists of one": b"\x83l" + u32(20_000) + (b"l\0\0\0\1jj") * 20_000 + b"j",
        "maps of one": b"\x83l" + u32(20_000) + (b"t\0\0\0\1jj") * 20_000 + b"j",
        "tuples of one": b"\x83l" + u32(20_000) + b"h\1h\0" * 20_000 + b"j",
        "small integers": encode((256, *range(255)) * 1000),
    }
    for name, data in worst.items():
        tracemalloc.start()
        try:
            decode(data)
            assert tracemalloc.get_traced_memory()[1] < 64 * len(data) + 500_000, name
        finally:
            tracemalloc.stop()


# ---- depth --------------------------------------------------------------------------------------------------------


def deep(piece: bytes, depth: int, end: bytes = b"a\1", after: bytes = b"") -> bytes:
    return b"\x83" + piece * depth + end + after * depth


@pytest.mark.parametrize(
    ("piece", "after"),
    [(b"h\1", b""), (b"l\0\0\0\1", b"j"), (b"i\0\0\0\1", b""), (b"t\0\0\0\1a\1", b""), (b"l\0\0\0\1a\1", b"")],
)
def test_depth_is_bounded_whatever_it_is_made_of(piece: bytes, after: bytes):
    deepest = etf_tags.MAX_DEPTH
    decode(deep(piece, deepest, after=after))
    refused(deep(piece, deepest + 1, after=after), "nested deeper than 500")
    refused(deep(piece, 1_000_000, after=after), "nested deeper than 500")


def test_a_deep_key_is_read_or_refused_but_does_not_break_the_stack():
    for depth in (50, 200, 499):
        for piece, after in ((b"t\0\0\0\1", b"a\1"), (b"l\0\0\0\1", b"j"), (b"h\1", b"")):
            data = b"\x83t\0\0\0\1" + deep(piece, depth, after=after)[1:] + b"a\2"
            try:
                assert encode(decode(data)) == data  # compared as bytes: as terms they are too deep for Python 3.11
            except DecodeError as error:
                assert "deep" in str(error)  # noqa: PT017 - both outcomes are right


def test_funs_inside_funs_are_bounded():
    fun = b""
    for _ in range(60):
        free = fun or b"a\1"
        rest = b"\1" + bytes(16) + u32(3) + u32(1) + b"w\1ma\3a\4" + b"Xw\3a@b" + bytes(12) + free
        fun = b"p" + u32(len(rest) + 4) + rest
    refused(b"\x83" + fun, "nested deeper")


def test_what_is_sent_may_be_as_deep_as_what_is_received():
    term = nested(etf_tags.MAX_DEPTH // 2)
    assert decode(encode(term)) == term
    with pytest.raises(CopyError, match="nested deeper than 500, or holds itself"):
        encode((term,))
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(CopyError, match="nested deeper than 500, or holds itself"):
        encode(endless)


def test_depth_does_not_depend_on_how_deep_the_caller_stands():
    wire, results = encode(nested(250)), []

    def dig(levels: int) -> None:
        if levels:
            dig(levels - 1)
        else:
            results.append(encode(decode(wire)) == wire)

    dig(sys.getrecursionlimit() - 150)
    assert results == [True]


# ---- time ---------------------------------------------------------------------------------------------------------

MERSENNE = (1 << 61) - 1  # Python's hash of an integer is its remainder by this


def test_keys_made_to_collide_are_refused_at_once():
    keys = [MERSENNE * n for n in range(1, 60_001)]
    pairs = b"".join(encode(key)[1:] + b"a\1" for key in keys)
    refused(b"\x83t" + u32(len(keys)) + pairs, "made to collide")
    inside = b"".join(b"h\1" + encode(key)[1:] + b"a\1" for key in keys)
    refused(b"\x83t" + u32(len(keys)) + inside, "made to collide")


def test_honest_maps_of_any_size_are_not_taken_for_an_attack():
    for table in (
        {n: n for n in range(-2000, 2000)},
        {n << 32: 1 for n in range(2000)},
        {float(n): 1 for n in range(2000)},
        {str(n): 1 for n in range(2000)},
        {(n, str(n)): 1 for n in range(2000)},
    ):
        assert decode(encode(table)) == table


def seconds_for(make: Callable[[int], bytes], size: int) -> float:
    data, best = make(size), float("inf")
    gc.collect()
    gc.disable()  # full collections come at other times for the small input than for the large one
    try:
        for _ in range(3):
            start = time.thread_time()
            try:
                decode(data)
            except DecodeError:
                pass
            best = min(best, time.thread_time() - start)
    finally:
        gc.enable()
    return best


@pytest.mark.parametrize(
    "make",
    [
        lambda n: deep(b"h\1", n),
        lambda n: b"\x83l" + u32(n) + b"j" * n + b"j",
        lambda n: b"\x83o" + u32(n) + b"\0" + b"\xff" * n,
        lambda n: b"\x83m" + u32(n) + b"\xff" * n,
        lambda n: b"\x83l" + u32(1) + (b"a\1l" + u32(1)) * (n // 7) + b"a\1j",
        lambda n: b"\x83l" + u32(n // 10) + b"".join(b"w\4%04xa\1a\1" % (k % 65536) for k in range(n // 10)),
    ],
    ids=["deep", "nils", "big integer", "bytes", "tails", "atoms"],
)
def test_time_grows_no_faster_than_the_input(make: Callable[[int], bytes]):
    assert seconds_for(make, 200_000) < 40 * max(seconds_for(make, 20_000), 0.0002)


# ---- atoms --------------------------------------------------------------------------------------------------------


def test_a_peer_that_keeps_inventing_atoms_does_not_grow_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(etf_tags, "MAX_WIRE_ATOMS", len(etf_pieces.ATOMS) + 10)
    known = decode(encode(Atom("known before the flood")))
    interned = len(Atom._interned)

    def flood(start: int) -> None:
        names = [f"flood {n}".encode() for n in range(start, start + 5_000)]
        wire = b"\x83l" + u32(len(names)) + b"".join(b"w%c%b" % (len(name), name) for name in names) + b"j"
        flooded = decode(wire)
        assert flooded[-1] == names[-1].decode()
        assert {type(atom) for atom in flooded} == {Atom}

    flood(0)
    assert len(Atom._interned) <= interned + 10
    assert len(etf_pieces.ATOMS) <= etf_tags.MAX_WIRE_ATOMS
    assert decode(encode(Atom("known before the flood"))) is known


def test_tables_of_names_pids_and_written_atoms_are_bounded():
    decoder, encoder = Decoder(), Encoder()
    for n in range(10_000):
        atom = str.__new__(Atom, f"bounded {n}")
        wire = b"\x83Xw\x0c" + b"%08d@abc" % n + bytes(12)
        assert decoder.decode(wire).node == f"{n:08}@abc"
        encoder.encode(atom)
    assert len(decoder._pids) <= 4096
    assert len(etf_pieces.NAMES) <= 4096
    from otplib.dist.etf_encode import _ATOMS

    assert len(_ATOMS) <= 8192


def test_one_decoder_serves_several_threads():
    decoder, encoder = Decoder(), Encoder()
    term = {Atom("a"): [1, "two", (3.0, b"\xff")] * 20, "list": list(range(300))}
    wire, failures = encoder.encode(term), []

    def work() -> None:
        failures.extend(n for n in range(300) if decoder.decode(wire) != term or encoder.encode(term) != wire)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
