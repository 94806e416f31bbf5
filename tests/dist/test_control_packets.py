"""Packets: what `ControlWriter` writes `ControlReader` reads, the first time and every time after."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otplib.core.errors import CopyError, DecodeError, NodeError
from otplib.core.terms import NO_NODE, Atom, Pid, Ref
from otplib.dist import control, control_reader, control_writer
from otplib.dist.control import NO_PAYLOAD, build_control, has_payload, parse_control
from otplib.dist.control_reader import ControlReader
from otplib.dist.control_writer import ControlWriter
from otplib.dist.etf import Decoder, Encoder, Here, decode_prefix, encode
from otplib.dist.etf_tags import REF_SHIFT
from otplib.dist.flags import CLAIMED, DFlag
from otplib.dist.framing import packet_frame
from tests.dist.test_control import REF, SAMPLES, TOKEN, A, B, flag_sets, messages
from tests.dist.vectors import read_vectors


def read_plainly(packet: bytes) -> object:
    """What the packet says, without any memory."""
    wire, offset = decode_prefix(packet, 1)
    payload = NO_PAYLOAD
    if has_payload(wire):
        payload, offset = decode_prefix(packet, offset)
    assert offset == len(packet)
    return parse_control(wire, payload)


def write_plainly(message: control.ControlMessage, flags: DFlag) -> bytes:
    wire, payload = build_control(message, flags)
    return packet_frame(b"p", encode(wire), b"" if payload is NO_PAYLOAD else encode(payload))


@given(st.lists(messages, max_size=4), flag_sets)
def test_whatever_is_written_is_what_it_would_be_without_memory_and_is_read_so(signals: list, flags: DFlag):
    reader, writer = ControlReader(Decoder()), ControlWriter(Encoder(), flags)
    for message in signals * 3:
        try:
            packet = writer.write(message)
        except CopyError:  # a reference of more than 96 bits
            with pytest.raises(CopyError):
                write_plainly(message, flags)
            continue
        assert packet == write_plainly(message, flags)
        assert reader.read(packet[4:]) == read_plainly(packet[4:])


@pytest.mark.parametrize("name", ["signals", "signals_of_old_nodes"])
def test_every_recorded_packet_is_read_twice_as_it_is_read_once(name: str):
    packets = [bytes.fromhex(text) for _, text in read_vectors(name)["frames"][5:]]
    reader = ControlReader(Decoder())
    signals = [packet for packet in packets if packet] * 2
    assert len(signals) > 160
    for packet in signals:
        message = reader.read(packet)
        assert message == read_plainly(packet)
        assert type(message) is type(read_plainly(packet))


def test_a_known_pair_is_told_from_others_with_names_of_other_lengths():
    reader, writer = ControlReader(Decoder()), ControlWriter(Encoder(), CLAIMED)
    far = Pid("a_longer_name@h", 9, 0, 3)
    signals = [
        control.Send(A, B, 1),
        control.Send(far, B, 2),
        control.Send(B, A, 3),
        control.RegSend(A, Atom("x"), 4),
        control.RegSend(A, Atom("rex"), 5),
        control.RegSend(far, Atom("x"), 6),
    ]
    for message in signals * 3:
        assert reader.read(writer.write(message)[4:]) == message


def test_references_of_one_to_five_words_are_told_apart():
    reader, writer = ControlReader(Decoder()), ControlWriter(Encoder(), CLAIMED)
    usual = [Ref("a@h", number, 3) for number in (0, 7, 2**96 - 1)]
    others = [Ref("a@h", 1 << 31 | words << REF_SHIFT, 3) for words in (1, 2, 4, 5)]
    elsewhere = [Ref("b@h", 7, 3), Ref("a@h", 7, 4), Ref(f"{'ż' * 200}@h", 7, 3)]
    for ref in (*usual, *others, *elsewhere) * 2:
        for message in (
            control.AliasSend(A, ref, "hi"),
            control.MonitorP(A, B, ref),
            control.DemonitorP(A, B, ref),
            control.MonitorPExit(B, A, ref, ("shutdown", 1)),
            control.MonitorPExit(Atom("rex"), A, ref, "noproc"),
            control.SpawnRequest(ref, A, B, (Atom("m"), Atom("f"), 1), [Atom("link")], [1]),
            control.SpawnRequest(ref, A, B, (Atom("m"), Atom("f"), 1), [], [2]),
        ):
            packet = writer.write(message)
            assert packet == write_plainly(message, CLAIMED)
            assert reader.read(packet[4:]) == message


def test_references_of_this_node_become_its_own_also_when_their_owner_is_known():
    here = Here("a@h", 3, 99)
    reader, writer = ControlReader(Decoder(here=here)), ControlWriter(Encoder(here=here), CLAIMED)
    for number in (7, 8, 9):
        message = control.AliasSend(B, Ref(NO_NODE, number, 99), "hi")
        packet = writer.write(message)
        assert packet == write_plainly(control.AliasSend(B, Ref("a@h", number, 3), "hi"), CLAIMED)
        assert reader.read(packet[4:]) == message


def test_a_name_given_as_a_plain_string_travels_as_an_atom_also_the_second_time():
    writer = ControlWriter(Encoder(), CLAIMED)
    plain, atom = control.RegSend(A, "rex", 1), control.RegSend(A, Atom("rex"), 1)
    expected = write_plainly(atom, CLAIMED)
    assert [writer.write(message) for message in (plain, atom, plain)] == [expected] * 3
    assert ControlWriter(Encoder(), CLAIMED).write(atom) == expected


@pytest.mark.parametrize("message", SAMPLES, ids=repr)
def test_a_packet_that_is_cut_or_has_something_behind_it_is_refused_also_when_its_pair_is_known(message):
    packet = write_plainly(message, CLAIMED)[4:]
    reader = ControlReader(Decoder())
    for _ in range(2):
        for end in range(len(packet)):
            with pytest.raises(DecodeError):
                reader.read(packet[:end])
        with pytest.raises(DecodeError, match="follow"):
            reader.read(packet + b"\x83j")
        assert reader.read(packet) == read_plainly(packet)


@pytest.mark.parametrize("packet", [b"", b"p", b"q" + encode((1, A, B)), b"\x83" + encode((1, A, B)), b"p" + encode(1)])
def test_what_is_no_packet_is_refused(packet: bytes):
    with pytest.raises(DecodeError):
        ControlReader(Decoder()).read(packet)


def test_arguments_that_are_no_list_are_refused_also_when_the_rest_is_known():
    reader = ControlReader(Decoder())
    asked = control.SpawnRequest(REF, A, B, (Atom("m"), Atom("f"), 1), [], [1])
    packet = write_plainly(asked, CLAIMED)[4:]
    head = packet[: -len(encode([1]))]
    assert reader.read(packet) == reader.read(packet) == asked
    for arguments in (7, "text", (1,), {}):
        with pytest.raises(DecodeError, match="expected a proper list"):
            reader.read(head + encode(arguments))


def test_a_field_of_the_wrong_kind_is_refused_every_time():
    reader = ControlReader(Decoder())
    packet = b"p" + encode((22, A, Atom("no pid"))) + encode("hi")
    for _ in range(3):
        with pytest.raises(DecodeError, match="expected a pid"):
            reader.read(packet)


def test_many_pairs_do_not_grow_the_tables_without_bound():
    reader, writer = ControlReader(Decoder()), ControlWriter(Encoder(), CLAIMED)
    for number in range(2 * control_reader.MAX_KNOWN + 100):
        sender = Pid("a@h", number, 0, 3)
        message = control.Send(sender, B, number) if number % 2 else control.AliasSend(sender, REF, number)
        assert reader.read(writer.write(message)[4:]) == message
        assert len(reader._known) <= control_reader.MAX_KNOWN
        assert len(writer._known) <= control_writer.MAX_KNOWN


def test_messages_with_a_trace_token_are_not_mistaken_for_those_without():
    reader, writer = ControlReader(Decoder()), ControlWriter(Encoder(), CLAIMED)
    for token in (None, TOKEN, None, TOKEN):
        message = control.Send(A, B, "hi", token)
        assert reader.read(writer.write(message)[4:]) == message


def test_what_a_peer_does_not_know_and_what_cannot_travel_is_refused_every_time():
    writer = ControlWriter(Encoder(), CLAIMED & ~DFlag.SPAWN)
    for _ in range(2):
        with pytest.raises(NodeError, match="SPAWN"):
            writer.write(control.SpawnReply(REF, A, control.SpawnFlag(0), B))
        with pytest.raises(CopyError, match=r'message\["lock"\]'):
            writer.write(control.Send(A, B, {"lock": object()}))
