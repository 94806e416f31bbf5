"""Every signal that two real nodes sent each other (`recording.py`) is understood, and written again as it came."""

from __future__ import annotations

from collections import Counter

import pytest

from otplib.core.terms import Atom, Pid
from otplib.dist import control
from otplib.dist.control import NO_PAYLOAD, PASS_THROUGH, build_control, has_payload, parse_control
from otplib.dist.etf import decode_prefix
from otplib.dist.flags import CLAIMED, DFlag
from tests.dist.vectors import read_vectors

RECORDINGS = ["signals", "signals_of_old_nodes"]


def signals(name):
    """Each packet after the handshake: who sent it, its control tuple, its payload."""
    for who, text in read_vectors(name)["frames"][5:]:
        packet = bytes.fromhex(text)
        if not packet:
            continue  # a tick
        assert packet[:1] == PASS_THROUGH
        wire, offset = decode_prefix(packet, 1)
        payload = NO_PAYLOAD
        if has_payload(wire):
            payload, offset = decode_prefix(packet, offset)
        assert offset == len(packet)
        yield who, wire, payload


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_recorded_signal_is_understood_and_written_again_as_it_came(name):
    flags = CLAIMED & ~DFlag(read_vectors(name)["without"]) | DFlag.UNLINK_ID
    seen = 0
    for _, wire, payload in signals(name):
        message = parse_control(wire, payload)
        again, payload_again = build_control(message, flags)
        assert again == wire
        assert payload_again == payload
        seen += 1
    assert seen > 80


def test_the_recordings_hold_almost_every_operation_that_there_is():
    seen = Counter(wire[0] for name in RECORDINGS for _, wire, _ in signals(name))
    assert set(control._FORMS) - set(seen) == {18, 27}  # exit/2 with a trace token: tests/dist/test_control.py


def test_new_nodes_send_reasons_as_payloads_and_old_ones_do_not():
    new, old = ({wire[0] for _, wire, _ in signals(name)} for name in RECORDINGS)
    assert {22, 23, 24, 25, 26, 28, 35, 36} <= new - old
    assert {2, 3, 4, 8, 12, 13, 21} <= old - new


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_conversation_reads_as_it_was_held(name):
    read = [(who, parse_control(wire, payload)) for who, wire, payload in signals(name)]
    said = [message for who, message in read if who == "a" and isinstance(message, control.Send)]
    assert (Atom("hello"), "binary") in [message.message for message in said]
    spawned = {m.req_id for who, m in read if who == "a" and isinstance(m, control.SpawnRequest)}
    answered = {m.req_id for who, m in read if who == "b" and isinstance(m, control.SpawnReply)}
    assert spawned == answered != set()
    links = [m.flags for who, m in read if who == "b" and isinstance(m, control.SpawnReply)]
    assert {control.SpawnFlag(0), control.SpawnFlag.LINK, control.SpawnFlag.MONITOR} == set(links)
    downs = [m for who, m in read if who == "b" and isinstance(m, control.MonitorPExit)]
    assert any(m.from_proc == Atom("nosuch") and m.reason == Atom("noproc") for m in downs)
    assert any(isinstance(m.from_proc, Pid) and m.reason == Atom("bye") for m in downs)
    reasons = {m.reason for who, m in read if who == "b" and isinstance(m, control.Exit)}
    assert reasons == {Atom("bye"), Atom("oops")}
