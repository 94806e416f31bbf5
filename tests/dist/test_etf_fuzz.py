"""Whatever comes in, a term or a `DecodeError` comes out; whatever goes out comes back."""

from __future__ import annotations

import random

import erlang
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otplib.core.errors import DecodeError
from otplib.core.terms import Atom, Pid, Ref
from otplib.dist.etf import Here, decode, encode
from otplib.dist.etf_terms import BitString, Export, FrozenMap, ImproperList, Port, exact_key
from tests.dist import etf_samples
from tests.dist.etf_fuzz import check, mutate, read_corpus
from tests.dist.etf_samples import VECTORS, echo, needs_elixir

CORPUS = read_corpus()


@pytest.mark.parametrize("number", range(0, len(CORPUS), 50))
def test_what_fuzzing_found_still_ends_well(number: int):
    for data in CORPUS[number : number + 50]:
        check(data)


def test_the_corpus_is_there_and_small():
    assert len(CORPUS) > 100
    assert sum(map(len, CORPUS)) < 100_000


@given(st.sampled_from([vector.wire for vector in VECTORS.values()]), st.integers(0, 2**64))
def test_changed_vectors_end_well(wire: bytes, seed: int):
    chance = random.Random(seed)
    for _ in range(20):
        check(mutate(wire, b"h\2a\1", chance))


@given(st.binary(max_size=200))
def test_any_bytes_end_well(garbage: bytes):
    check(b"\x83" + garbage)


@given(etf_samples.terms)
def test_every_term_comes_back_exactly(term: object):
    assert exact_key(decode(encode(term))) == exact_key(term)


@given(etf_samples.tables, st.integers(0, 5000))
def test_tables_come_back_exactly_and_cut_ones_are_refused(table: list[object], cut: int):
    wire = encode(table)
    assert exact_key(decode(wire)) == exact_key(table)
    # Row by row there is no table, so the decoder's loop reads each.
    assert exact_key([decode(encode(row)) for row in table]) == exact_key(table)
    with pytest.raises(DecodeError):
        decode(wire[: cut % len(wire)])


@given(etf_samples.terms, st.binary())
def test_every_term_comes_back_exactly_between_python_nodes_beside_bytes(term: object, data: bytes):
    message = [term, data, {data: term}]
    back = decode(encode(message, python_peer=True), python_peer=True)
    assert exact_key(back) == exact_key(message)


@given(etf_samples.terms)
def test_identities_survive_a_hop_over_a_third_node(term: object):
    here = Here("foo@bar", 5, 99)
    there = decode(encode(term, here=here))
    assert exact_key(decode(encode(there), here=here)) == exact_key(decode(encode(term, here=here), here=here))


def is_known_to_oracle(term: object) -> bool:
    """Some atoms have another meaning to erlang_py, and it cannot hold maps that no dict can be."""
    match term:
        case FrozenMap():
            return False
        case Atom():
            return term not in ("undefined", "nil") and term != ""
        case tuple() | list():
            return all(map(is_known_to_oracle, term))
        case dict():
            return all(is_known_to_oracle(key) and is_known_to_oracle(value) for key, value in term.items())
        case ImproperList(items=items, tail=tail):
            return is_known_to_oracle([*items, tail])
    return True


@given(etf_samples.terms.filter(is_known_to_oracle))
@example((Atom("ok"), Pid("a@b", 1, 0, 1), Ref("a@b", 1 << 80, 3), Port("a@b", 1 << 40, 1), Export("m", "f", 2)))
@example([BitString(b"\xa0", 3), ImproperList([1], 2), "żółw", 2**70, -1, 1.5, {(1, 2): "x"}, None, True])
def test_the_other_implementation_reads_what_we_write_and_writes_what_we_read(term: object):
    theirs = erlang.binary_to_term(encode(term))
    assert exact_key(decode(erlang.term_to_binary(theirs))) == exact_key(term)


@needs_elixir
def test_a_beam_echoes_whatever_hypothesis_makes_up():
    samples: list[object] = []

    @given(etf_samples.terms)
    def gather(term: object) -> None:
        samples.append(term)

    gather()
    answers = echo([encode(term) for term in samples])
    assert [term for term, answer in zip(samples, answers, strict=True) if answer is None] == []
    differing = [
        term
        for term, answer in zip(samples, answers, strict=True)
        if answer is not None and exact_key(decode(answer)) != exact_key(term)
    ]
    assert differing == []
