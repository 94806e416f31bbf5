"""Bytes that a real BEAM wrote or read: what they mean, and that what we write means the same to it."""

from __future__ import annotations

import pytest

from otplib.core.errors import DecodeError
from otplib.dist.etf import Here, decode, decode_prefix, encode
from otplib.dist.etf_terms import Fun, exact_key
from tests.dist.etf_samples import MEANINGS, RECORDED, VECTORS, Vector, echo, needs_elixir, read_vectors, run_elixir

each_vector = pytest.mark.parametrize("vector", VECTORS.values(), ids=lambda vector: vector.name)


def same(one: object, other: object) -> bool:
    return exact_key(one) == exact_key(other)


def test_every_vector_has_its_meaning_written_down():
    assert set(MEANINGS) == set(VECTORS)


@each_vector
def test_what_a_beam_reads_is_read(vector: Vector):
    term = decode(vector.wire)
    assert same(term, MEANINGS[vector.name]), term


@each_vector
def test_what_a_beam_writes_is_read_as_the_same_term(vector: Vector):
    if vector.name != "bit string of whole bytes" and vector.name != "bit string of nothing":
        assert same(decode(vector.written), MEANINGS[vector.name]) or isinstance(MEANINGS[vector.name], Fun)


@each_vector
def test_what_was_read_is_written_so_that_it_is_read_again(vector: Vector):
    term = decode(vector.wire)
    for options in ({}, {"python_peer": True}, {"here": Here("near@host", 7, 9)}):
        again = decode(encode(term, **options), python_peer="python_peer" in options)
        assert same(again, term if not isinstance(term, bytes) or "python_peer" in options else decode(encode(term)))


@each_vector
def test_every_cut_is_refused(vector: Vector):
    for size in range(min(len(vector.wire), 600)):
        with pytest.raises(DecodeError):
            decode(vector.wire[:size])


@each_vector
def test_two_in_a_row_are_read_one_by_one(vector: Vector):
    packet = vector.wire + encode("next")
    term, end = decode_prefix(packet)
    assert end == len(vector.wire)
    assert same(term, MEANINGS[vector.name])
    assert decode_prefix(packet, end) == ("next", len(packet))
    with pytest.raises(DecodeError, match=f"{len(packet) - end} bytes follow the term"):
        decode(packet)


@needs_elixir
def test_a_beam_takes_what_we_write_for_what_it_wrote():
    vectors = list(VECTORS.values())
    ours = [encode(decode(vector.wire)) for vector in vectors]
    theirs = [vector.wire for vector in vectors]
    # Both through the same BEAM, so both in its own spelling.
    differing = [
        vector.name
        for vector, mine, original in zip(vectors, echo(ours), echo(theirs), strict=True)
        if mine is None or mine != original
    ]
    assert differing == []


@needs_elixir
def test_bytes_for_a_python_node_are_a_binary_to_a_beam():
    sent = [b"", b"hi", b"\xff\xfe", bytes(range(256)) * 100]
    back = echo([encode(data, python_peer=True) for data in sent])
    assert back == [encode(data) for data in sent]


@needs_elixir
def test_the_vectors_are_what_the_beam_of_this_machine_writes():
    now = run_elixir("etf.exs")
    if now.split("\n", 1)[0] == RECORDED.split("\n", 1)[0]:
        assert now == RECORDED
    else:  # another OTP spells atoms differently, and means the same
        others = read_vectors(now)
        assert set(others) == set(VECTORS)
        assert [name for name in others if not same(decode(others[name].wire), MEANINGS[name])] == []
