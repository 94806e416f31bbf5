"""Framing: however the stream is cut, the same packets come out; and nobody makes us keep more than the limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otplib.core.errors import DecodeError
from otplib.dist.framing import TICK, Framing, handshake_frame, packet_frame

messages = st.lists(st.binary(min_size=1, max_size=300), max_size=6)
packets = st.lists(st.one_of(st.just(b""), st.binary(max_size=5_000)), max_size=8)


@given(handshake=messages, connected=packets, data=st.data())
def test_any_cut_of_the_stream_gives_the_same_packets(handshake, connected, data):
    stream = b"".join([*map(handshake_frame, handshake), *map(packet_frame, connected)])
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    framing = Framing()
    if not handshake:
        framing.connected()
    seen = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        framing.feed(stream[begin:end])
        for packet in framing.packets():
            seen.append(packet)
            if len(seen) == len(handshake):
                framing.connected()
    assert seen == handshake + connected
    assert framing.buffered == 0


@given(connected=packets)
def test_a_reader_that_takes_one_packet_at_a_time_misses_none(connected):
    framing = Framing()
    framing.connected()
    framing.feed(b"".join(map(packet_frame, connected)))
    seen = []
    while (packet := next(framing.packets(), None)) is not None:
        seen.append(packet)
    assert seen == connected


def test_the_last_handshake_message_and_the_first_packet_may_come_in_one_piece():
    framing = Framing()
    framing.feed(handshake_frame(b"a" * 17) + packet_frame(b"p", b"one") + TICK)
    seen = []
    for packet in framing.packets():
        framing.connected()
        seen.append(packet)
    assert seen == [b"a" * 17, b"pone", b""]


def test_feeding_more_while_packets_are_taken_is_allowed():
    framing = Framing()
    framing.connected()
    framing.feed(packet_frame(b"1") + packet_frame(b"2"))
    seen = []
    for packet in framing.packets():
        if packet == b"1":
            framing.feed(packet_frame(b"3"))
        seen.append(packet)
    assert seen == [b"1", b"2", b"3"]


def test_a_packet_of_the_limit_passes_and_one_byte_more_is_an_error_as_soon_as_its_length_is_known():
    framing = Framing(max_packet=10)
    framing.connected()
    framing.feed(packet_frame(b"x" * 10))
    assert list(framing.packets()) == [b"x" * 10]
    framing.feed(packet_frame(b"x" * 11)[:4])
    for _ in range(2):
        with pytest.raises(DecodeError, match="11 bytes; the limit is 10"):
            list(framing.packets())


def test_a_stranger_cannot_announce_a_long_handshake_message():
    framing = Framing()
    framing.feed(b"\xff\xff")
    with pytest.raises(DecodeError):
        list(framing.packets())


def test_what_came_before_a_packet_that_is_too_long_is_still_given():
    framing = Framing(max_packet=4)
    framing.connected()
    framing.feed(packet_frame(b"good") + packet_frame(b"too long"))
    taken = framing.packets()
    assert next(taken) == b"good"
    with pytest.raises(DecodeError):
        next(taken)


def test_what_cannot_be_said_in_the_length_is_refused():
    with pytest.raises(ValueError, match="65535"):
        handshake_frame(bytes(65_536))


def test_an_empty_packet_is_the_tick():
    assert packet_frame() == packet_frame(b"") == TICK == b"\0\0\0\0"
