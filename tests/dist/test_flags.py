"""The capability flags: their values are those of real nodes, and what we claim is enough and not too much."""

from __future__ import annotations

import pytest

from otplib.dist.flags import (
    CLAIMED,
    MANDATORY,
    MANDATORY_25,
    REQUIRED,
    DFlag,
    claimed_flags,
    expand_digest,
    missing_flags,
    negotiated,
)
from tests.dist.beam import beam_node, needs_beam, our_epmd
from tests.dist.vectors import read_vectors


def test_the_mandatory_flags_are_those_that_real_nodes_ask_for():
    # erts_internal:get_dflags() of OTP 25.2 and of OTP 28.5
    assert MANDATORY[25] == 0x1070F94
    assert MANDATORY[28] == 0x403070F94


@needs_beam
def test_the_beam_of_this_machine_asks_for_no_flag_that_we_do_not_claim():
    program = (
        'io:format("flags ~p ~p~n", [element(2, erts_internal:get_dflags()), element(3, erts_internal:get_dflags())])'
    )
    with our_epmd() as port, beam_node("flags", port, program=program) as beam:
        _, default, mandatory = beam.line_with("flags ").split()
    assert missing_flags(CLAIMED, DFlag(int(mandatory))) == ()
    assert missing_flags(DFlag(int(default))) == ()


@pytest.mark.parametrize("release", MANDATORY)
def test_we_claim_what_every_release_demands(release):
    assert missing_flags(CLAIMED, MANDATORY[release]) == ()


def test_a_recorded_node_has_what_we_require():
    name = bytes.fromhex(read_vectors("handshake")["frames"][0][1])
    flags = DFlag(int.from_bytes(name[1:9], "big"))
    assert missing_flags(flags) == ()
    assert DFlag.FRAGMENTS in flags
    assert DFlag.PUBLISHED in flags


@pytest.mark.parametrize(
    "flag", [DFlag.ATOM_CACHE, DFlag.HIDDEN_ATOM_CACHE, DFlag.DIST_HDR_ATOM_CACHE, DFlag.FRAGMENTS, DFlag.NAME_ME]
)
def test_what_would_make_packets_other_than_plain_is_not_claimed(flag):
    assert not claimed_flags() & flag


def test_a_visible_node_is_published_and_a_hidden_one_is_not():
    assert DFlag.PUBLISHED in claimed_flags()
    assert DFlag.PUBLISHED not in claimed_flags(hidden=True)


@pytest.mark.parametrize("flag", list(REQUIRED))
def test_each_missing_flag_is_named(flag):
    assert missing_flags(CLAIMED & ~flag & ~DFlag.MANDATORY_25_DIGEST) == (flag.name,)


def test_the_digest_flag_stands_for_the_flags_of_25_and_no_others():
    assert expand_digest(DFlag.MANDATORY_25_DIGEST) == MANDATORY_25 | DFlag.MANDATORY_25_DIGEST
    assert missing_flags(DFlag.MANDATORY_25_DIGEST) == ("UNLINK_ID", "V4_NC")
    assert expand_digest(DFlag.SPAWN) == DFlag.SPAWN


def test_a_connection_uses_what_both_have():
    assert negotiated(DFlag.SPAWN | DFlag.ALIAS, DFlag.ALIAS | DFlag.FRAGMENTS) == DFlag.ALIAS
    assert negotiated(CLAIMED, DFlag.MANDATORY_25_DIGEST) == MANDATORY_25 | DFlag.MANDATORY_25_DIGEST


def test_bits_that_nobody_has_named_yet_survive():
    future = DFlag(1 << 60) | DFlag.SPAWN
    assert int(future) == 1 << 60 | 1 << 32
