"""Control messages: what is built is read back, in every form; what a BEAM wrote is understood; the rest is refused."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otplib.core.errors import DecodeError, NodeError
from otplib.core.terms import Atom, Pid, Ref
from otplib.dist import control
from otplib.dist.control import NO_PAYLOAD, SpawnFlag, build_control, has_payload, parse_control
from otplib.dist.flags import CLAIMED, DFlag

A, B = Pid("a@h", 9, 0, 3), Pid("b@h", 54, 1, 4)
REF = Ref("a@h", 77, 3)
TOKEN = (1, 17, A, 0, 0)
OPTIONAL = DFlag.SEND_SENDER | DFlag.EXIT_PAYLOAD

nodes = st.sampled_from(["a@h", "b@h"])
numbers = st.integers(0, 2**32 - 1)
pids = st.builds(Pid, nodes, numbers, numbers, numbers)
refs = st.builds(Ref, nodes, st.integers(0, 2**96 - 1), numbers)
atoms = st.text(max_size=8).map(Atom)
terms = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), atoms, pids, refs),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple)),
    max_leaves=5,
)
tokens = st.one_of(st.none(), st.tuples(numbers, terms, pids, numbers, numbers))
processes = st.one_of(pids, atoms)
unlink_ids = st.integers(1, 2**64 - 1)

messages = st.one_of(
    st.builds(control.Link, pids, pids),
    st.builds(control.Send, st.one_of(st.none(), pids), pids, terms, tokens),
    st.builds(control.Exit, pids, pids, terms, tokens),
    st.builds(control.Unlink, pids, pids),
    st.builds(control.RegSend, pids, atoms, terms, tokens),
    st.builds(control.GroupLeader, pids, pids),
    st.builds(control.Exit2, pids, pids, terms, tokens),
    st.builds(control.MonitorP, pids, processes, refs),
    st.builds(control.DemonitorP, pids, processes, refs),
    st.builds(control.MonitorPExit, processes, pids, refs, terms),
    st.builds(
        control.SpawnRequest,
        refs,
        pids,
        pids,
        st.tuples(atoms, atoms, st.integers(0, 255)),
        st.lists(terms, max_size=3),
        st.lists(terms, max_size=3),
        tokens,
    ),
    st.builds(control.SpawnReply, refs, pids, st.integers(0, 7).map(SpawnFlag), processes, tokens),
    st.builds(control.AliasSend, pids, refs, terms, tokens),
    st.builds(control.UnlinkId, unlink_ids, pids, pids),
    st.builds(control.UnlinkIdAck, unlink_ids, pids, pids),
)
flag_sets = st.sampled_from([CLAIMED & ~OPTIONAL, CLAIMED & ~DFlag.SEND_SENDER, CLAIMED & ~DFlag.EXIT_PAYLOAD, CLAIMED])

#: One of each class, with a token where there may be one.
SAMPLES = [
    control.Link(A, B),
    control.Send(A, B, "hi"),
    control.Send(A, B, "hi", TOKEN),
    control.Send(None, B, "hi"),
    control.Send(None, B, "hi", TOKEN),
    control.Exit(A, B, "boom"),
    control.Exit(A, B, "boom", TOKEN),
    control.Unlink(A, B),
    control.RegSend(A, Atom("rex"), "hi"),
    control.RegSend(A, Atom("rex"), "hi", TOKEN),
    control.GroupLeader(A, B),
    control.Exit2(A, B, "boom"),
    control.Exit2(A, B, "boom", TOKEN),
    control.MonitorP(A, B, REF),
    control.DemonitorP(A, Atom("rex"), REF),
    control.MonitorPExit(B, A, REF, "noproc"),
    control.SpawnRequest(REF, A, A, (Atom("m"), Atom("f"), 1), [Atom("link")], [1]),
    control.SpawnRequest(REF, A, A, (Atom("m"), Atom("f"), 1), [Atom("link")], [1], TOKEN),
    control.SpawnReply(REF, A, SpawnFlag.LINK, B),
    control.SpawnReply(REF, A, SpawnFlag(0), Atom("badarg"), TOKEN),
    control.AliasSend(A, REF, "hi"),
    control.AliasSend(A, REF, "hi", TOKEN),
    control.UnlinkId(7, A, B),
    control.UnlinkIdAck(7, A, B),
]

#: The specification's table: operation, and how many fields follow it; with a payload behind it or not.
SPECIFIED = {
    1: (2, False),
    2: (2, True),
    3: (3, False),
    4: (2, False),
    6: (3, True),
    7: (2, False),
    8: (3, False),
    12: (3, True),
    13: (4, False),
    16: (4, True),
    18: (4, False),
    19: (3, False),
    20: (3, False),
    21: (4, False),
    22: (2, True),
    23: (3, True),
    24: (2, True),
    25: (3, True),
    26: (2, True),
    27: (3, True),
    28: (3, True),
    29: (5, True),
    30: (6, True),
    31: (4, False),
    32: (5, False),
    33: (2, True),
    34: (3, True),
    35: (3, False),
    36: (3, False),
}


def sender_told(message, flags):
    """SEND without the flag does not name its sender."""
    if isinstance(message, control.Send) and not flags & DFlag.SEND_SENDER:
        return message._replace(from_pid=None)
    return message


# ---- both ways ----------------------------------------------------------------------------------------------------


@given(messages, flag_sets)
def test_what_is_built_is_read_back(message, flags):
    wire, payload = build_control(message, flags)
    assert has_payload(wire) is (payload is not NO_PAYLOAD)
    read = parse_control(wire, payload)
    assert type(read) is type(message)
    assert read == sender_told(message, flags)


def test_every_operation_of_the_specification_can_be_built_with_its_fields_and_no_other():
    built = {}
    for message, flags in product(SAMPLES, [CLAIMED, CLAIMED & ~OPTIONAL]):
        (operation, *fields), payload = build_control(message, flags)
        built[operation] = (len(fields), payload is not NO_PAYLOAD)
    assert built == SPECIFIED


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_the_flags_choose_the_form(message):
    (plain, *_), _ = build_control(message, CLAIMED & ~OPTIONAL)
    (claimed, *_), _ = build_control(message, CLAIMED)
    replaced = {3: 24, 13: 25, 8: 26, 18: 27, 21: 28}
    if isinstance(message, control.Send) and message.from_pid is not None:
        replaced |= {2: 22, 12: 23}
    assert claimed == replaced.get(plain, plain)


def test_the_fields_stand_where_the_specification_puts_them():
    assert build_control(control.RegSend(A, Atom("rex"), "hi", TOKEN), CLAIMED) == (
        (16, A, Atom(""), "rex", TOKEN),
        "hi",
    )
    assert build_control(control.Send(None, B, "hi"), CLAIMED) == ((2, Atom(""), B), "hi")
    assert build_control(control.Exit(A, B, "r", TOKEN), DFlag(0)) == ((13, A, B, TOKEN, "r"), NO_PAYLOAD)
    assert build_control(control.MonitorPExit(B, A, REF, "r"), CLAIMED & ~OPTIONAL)[0] == (21, B, A, REF, "r")
    request = control.SpawnRequest(REF, A, B, (Atom("m"), Atom("f"), 2), [], [1, 2], TOKEN)
    assert build_control(request, CLAIMED) == ((30, REF, A, B, ("m", "f", 2), [], TOKEN), [1, 2])
    assert build_control(control.SpawnReply(REF, A, SpawnFlag.MONITOR, B), CLAIMED)[0] == (31, REF, A, 2, B)


def test_nil_is_a_message_and_not_the_lack_of_one():
    wire, payload = build_control(control.Send(A, B, None), CLAIMED)
    assert payload is None
    assert parse_control(wire, None) == control.Send(A, B, None)


def test_a_name_given_as_a_string_travels_as_an_atom():
    wire, _ = build_control(control.RegSend(A, "rex", "hi"), CLAIMED)
    assert type(wire[3]) is Atom
    wire, _ = build_control(control.MonitorP(A, "rex", REF), CLAIMED)
    assert type(wire[2]) is Atom
    wire, _ = build_control(control.SpawnRequest(REF, A, A, ("m", "f", 0), [], []), CLAIMED)
    assert [type(part) for part in wire[4]] == [Atom, Atom, int]


def test_spawn_flags_travel_as_a_plain_integer():
    wire, _ = build_control(control.SpawnReply(REF, A, SpawnFlag.LINK | SpawnFlag.MONITOR, B), CLAIMED)
    assert (wire[3], type(wire[3])) == (3, int)


@pytest.mark.parametrize(
    ("message", "flag"),
    [
        (control.MonitorP(A, B, REF), DFlag.DIST_MONITOR),
        (control.AliasSend(A, REF, "hi"), DFlag.ALIAS),
        (control.SpawnRequest(REF, A, A, (Atom("m"), Atom("f"), 0), [], []), DFlag.SPAWN),
        (control.UnlinkId(1, A, B), DFlag.UNLINK_ID),
    ],
)
def test_what_the_peer_cannot_handle_is_not_built(message, flag):
    with pytest.raises(NodeError, match=flag.name):
        build_control(message, CLAIMED & ~flag)


# ---- what is no control message -----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [-1, 0, 5, 9, 10, 11, 14, 15, 17, 37, 38, 255, 10**30])
def test_an_unknown_operation_is_refused(operation):
    with pytest.raises(DecodeError, match="unknown control operation"):
        parse_control((operation, A, B))
    with pytest.raises(DecodeError, match="unknown control operation"):
        has_payload((operation, A, B))


@pytest.mark.parametrize("term", [None, (), [1, A, B], 1, "link", (True, A, B), (1.0, A, B), (Atom("1"), A, B)])
def test_what_is_no_control_tuple_is_refused(term):
    with pytest.raises(DecodeError, match="starts with the number"):
        parse_control(term)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_a_payload_too_many_or_missing_and_a_field_too_many_or_missing_are_refused(message):
    for flags in (CLAIMED, CLAIMED & ~OPTIONAL):
        wire, payload = build_control(message, flags)
        with pytest.raises(DecodeError, match="payload"):
            parse_control(wire, NO_PAYLOAD if payload is not NO_PAYLOAD else "extra")
        for changed in (wire[:-1], (*wire, A)):
            with pytest.raises(DecodeError, match="fields"):
                parse_control(changed, payload)


WRONG = {
    control.Link(A, B): [1, 2],
    control.Send(A, B, "hi"): [1, 2],
    control.Exit(A, B, "r"): [1, 2],
    control.RegSend(A, Atom("rex"), "hi"): [1, 3],
    control.GroupLeader(A, B): [1, 2],
    control.Exit2(A, B, "r"): [1, 2],
    control.MonitorP(A, B, REF): [1, 2, 3],
    control.DemonitorP(A, B, REF): [1, 2, 3],
    control.MonitorPExit(B, A, REF, "r"): [1, 2, 3],
    control.SpawnReply(REF, A, SpawnFlag(0), B): [1, 2, 3, 4],
    control.AliasSend(A, REF, "hi"): [1, 2],
    control.UnlinkId(7, A, B): [1, 2, 3],
    control.UnlinkIdAck(7, A, B): [1, 2, 3],
}


@pytest.mark.parametrize("message", WRONG, ids=lambda message: type(message).__name__)
def test_a_field_of_the_wrong_kind_is_refused(message):
    wire, payload = build_control(message, CLAIMED)
    for place, value in product(WRONG[message], ["text", b"bytes", 1.5, [A], (A,), -1, {}]):
        changed = (*wire[:place], value, *wire[place + 1 :])
        with pytest.raises(DecodeError, match="expected"):
            parse_control(changed, payload)


@pytest.mark.parametrize("place", [1, 2, 3, 4, 5])
def test_a_spawn_request_of_the_wrong_shape_is_refused(place):
    wire, payload = build_control(SAMPLES[16], CLAIMED)
    assert wire[0] == 29
    bad = [1, "text", ("m", Atom("f"), 1), (Atom("m"), Atom("f"), -1), (Atom("m"), Atom("f"), True), (Atom("m"),)]
    for value in bad:
        with pytest.raises(DecodeError, match="expected"):
            parse_control((*wire[:place], value, *wire[place + 1 :]), payload)
    with pytest.raises(DecodeError, match="proper list"):
        parse_control(wire, (1, 2))


@pytest.mark.parametrize("id", [0, 2**64, -1, True])
def test_an_unlink_id_outside_of_its_range_is_refused(id):
    with pytest.raises(DecodeError, match="unlink id"):
        parse_control((35, id, A, B))


@pytest.mark.parametrize(("constant", "name"), [(None, "nil"), (True, "true"), (False, "false")])
def test_the_three_atoms_that_are_pythons_constants_are_names_as_any_other(constant, name):
    # A process may send to such a name, and the connection must survive it.
    assert parse_control((6, A, Atom(""), constant), "hi").to_name == Atom(name)


@given(st.one_of(terms, st.tuples(st.integers(0, 40), terms, terms), st.tuples(st.integers(0, 40), pids, terms, terms)))
def test_any_term_is_read_or_refused(term):
    for payload in (NO_PAYLOAD, "payload"):
        try:
            read = parse_control(term, payload)
        except DecodeError:
            continue
        wire, again = build_control(read, CLAIMED if term[0] in (22, 23, 24, 25, 26, 27, 28) else CLAIMED & ~OPTIONAL)
        assert parse_control(wire, again) == read
