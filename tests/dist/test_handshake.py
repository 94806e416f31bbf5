"""The handshake machines, without sockets: against a recorded one, against each other, and against nonsense."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otplib.core.errors import DecodeError
from otplib.dist import handshake
from otplib.dist.flags import REQUIRED, DFlag, claimed_flags
from otplib.dist.handshake import (
    Acceptor,
    AliveReceived,
    Close,
    CloseReason,
    Connected,
    ConnectionState,
    Cookie,
    Initiator,
    NameReceived,
    OldConnectionMustGo,
    Peer,
    Send,
    Step,
    ThisNode,
    status_for_name,
)
from otplib.dist.handshake_messages import (
    ChallengeAck,
    ChallengeMessage,
    ChallengeReply,
    NameMessage,
    Status,
    decode_status,
    encode_status,
)
from tests.dist.vectors import read_vectors

A = ThisNode("a@localhost", 5)
B = ThisNode("b@localhost", 6)


def initiator(cookie="x", **keywords):
    return Initiator(A, B.node, Cookie(cookie), **keywords)


def acceptor(cookie="x", this=B):
    return Acceptor(this, lambda node: Cookie(cookie))


def name_message(**changes):
    return NameMessage(claimed_flags(), 5, "a@localhost")._replace(**changes).encode()


def meet(a, b, *, status=Status.OK):
    """Let two machines talk until both have ended; gives the last action of each."""
    ends = {}
    pending = [(a, action) for action in a.start()]
    while pending:
        speaker, action = pending.pop(0)
        listener = b if speaker is a else a
        match action:
            case Send(message):
                pending += [(listener, each) for each in listener.receive(message)]
            case NameReceived():
                pending += [(speaker, each) for each in speaker.decide(status)]
            case AliveReceived():
                pending += [(speaker, each) for each in speaker.confirm(True)]
            case OldConnectionMustGo():
                pending += [(speaker, each) for each in speaker.old_connection_gone()]
            case Connected() | Close():
                ends.setdefault("a" if speaker is a else "b", action)
    return ends.get("a"), ends.get("b")


# ---- somebody else's truth ----------------------------------------------------------------------------------------


@pytest.fixture(name="recorded")
def recorded_handshake():
    vectors = read_vectors("handshake")
    frames = [(who, bytes.fromhex(text)) for who, text in vectors["frames"][:5]]
    assert [who for who, _ in frames] == ["a", "b", "b", "a", "b"]
    return Cookie(vectors["cookie"]), [frame for _, frame in frames]


def test_the_recorded_initiator_could_have_been_ours(recorded):
    cookie, (name, status, challenge, reply, ack) = recorded
    a = NameMessage.decode(name)
    this = ThisNode(a.node, a.creation, a.flags, b"")
    machine = Initiator(this, "b@localhost", cookie, challenge=ChallengeReply.decode(reply).challenge)
    assert machine.start() == [Send(name)]
    assert machine.receive(status) == []
    assert machine.receive(challenge) == [Send(reply)]
    b = ChallengeMessage.decode(challenge)
    assert machine.receive(ack) == [Connected(Peer("b@localhost", b.creation, a.flags & b.flags))]


def test_the_recorded_acceptor_could_have_been_ours(recorded):
    cookie, (name, status, challenge, reply, ack) = recorded
    b = ChallengeMessage.decode(challenge)
    machine = Acceptor(ThisNode(b.node, b.creation, b.flags, b""), lambda _: cookie, challenge=b.challenge)
    assert machine.receive(name) == [NameReceived("a@localhost", NameMessage.decode(name).creation, False)]
    assert machine.decide(Status.OK) == [Send(status), Send(challenge)]
    sent, connected = machine.receive(reply)
    assert sent == Send(ack)
    assert connected.peer.node == "a@localhost"
    assert not connected.peer.is_python


def test_the_recorded_messages_are_written_as_they_were_read(recorded):
    _, (name, status, challenge, reply, ack) = recorded
    for kind, message in ((NameMessage, name), (ChallengeMessage, challenge), (ChallengeReply, reply)):
        assert kind.decode(message).encode() == message
    assert ChallengeAck.decode(ack).encode() == ack
    assert encode_status(decode_status(status)) == status


# ---- ours with ours -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.OK, Status.OK_SIMULTANEOUS, Status.ALIVE])
def test_two_of_ours_meet_and_know_each_other_for_python_nodes(status):
    at_a, at_b = meet(initiator(), acceptor(), status=status)
    assert at_a == Connected(Peer("b@localhost", 6, claimed_flags(), handshake.PYTHON_NODE))
    assert at_b == Connected(Peer("a@localhost", 5, claimed_flags(), handshake.PYTHON_NODE))
    assert at_a.peer.is_python
    assert at_b.peer.is_python


@pytest.mark.parametrize("hidden", ["a", "b"])
def test_when_one_side_is_hidden_both_list_the_other_as_hidden(hidden):
    this = {each.node[0]: each._replace(flags=claimed_flags(hidden=each.node[0] == hidden)) for each in (A, B)}
    machine = Initiator(this["a"], "b@localhost", Cookie("x"))
    at_a, at_b = meet(machine, acceptor(this=this["b"]))
    assert at_a.peer.hidden
    assert at_b.peer.hidden


def test_a_wrong_cookie_is_seen_by_the_acceptor_first_and_the_initiator_hears_nothing_more():
    at_a, at_b = meet(initiator("x"), acceptor("y"))
    assert at_a is None
    assert at_b.reason is CloseReason.BAD_COOKIE
    assert at_b.text == "connection attempt from node a@localhost rejected: invalid challenge reply"


def test_an_acceptor_that_only_pretends_to_know_the_cookie_is_seen_by_the_initiator():
    machine = initiator()
    machine.start()
    machine.receive(b"sok")
    machine.receive(ChallengeMessage(claimed_flags(), 1, 6, "b@localhost").encode())
    [close] = machine.receive(ChallengeAck(Cookie("y").digest(1)).encode())
    assert close.reason is CloseReason.BAD_COOKIE
    assert close.text == "connection attempt to node b@localhost cancelled: invalid challenge ack"


def test_the_acceptor_asks_for_the_cookie_of_the_node_that_calls():
    asked = []
    machine = Acceptor(B, lambda node: asked.append(node) or Cookie("x"))
    meet(initiator(), machine)
    assert asked == ["a@localhost"]


def test_every_handshake_has_challenges_of_its_own():
    challenges = set()
    for _ in range(20):
        machine = acceptor()
        machine.receive(name_message())
        _, challenge = machine.decide(Status.OK)
        challenges.add(ChallengeMessage.decode(challenge.message).challenge)
    assert len(challenges) == 20


# ---- who may come in ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "status_of_smaller", "status_of_greater"),
    [
        (ConnectionState.NONE, Status.OK, Status.OK),
        (ConnectionState.PENDING, Status.NOK, Status.OK_SIMULTANEOUS),
        (ConnectionState.UP, Status.ALIVE, Status.ALIVE),
        (ConnectionState.UP_PENDING, Status.NOK, Status.NOK),
    ],
)
def test_the_status_follows_from_what_we_have_with_the_node_and_from_the_order_of_the_names(
    state, status_of_smaller, status_of_greater
):
    assert status_for_name("m@h", "a@h", state) is status_of_smaller
    assert status_for_name("m@h", "z@h", state) is status_of_greater


@pytest.mark.parametrize("state", ConnectionState)
def test_a_node_with_our_own_name_is_not_allowed(state):
    assert status_for_name("m@h", "m@h", state) is Status.NOT_ALLOWED


def test_of_two_simultaneous_calls_exactly_one_goes_on():
    def call(caller, called):
        return status_for_name(called, caller, ConnectionState.PENDING)

    assert {call("a@h", "b@h"), call("b@h", "a@h")} == {Status.OK_SIMULTANEOUS, Status.NOK}


@pytest.mark.parametrize(
    ("status", "reason"), [(Status.NOK, CloseReason.NOK), (Status.NOT_ALLOWED, CloseReason.NOT_ALLOWED)]
)
def test_a_refusal_reaches_the_initiator_with_its_reason(status, reason):
    at_a, at_b = meet(initiator(), acceptor(), status=status)
    assert at_a.reason is at_b.reason is reason


@pytest.mark.parametrize("shown", ["x", "y"])
def test_an_old_connection_goes_only_after_the_new_one_has_shown_the_cookie(shown):
    machine = acceptor("x")
    machine.receive(name_message())
    assert machine.decide(Status.ALIVE) == [Send(b"salive")]
    [challenge] = machine.receive(b"strue")
    number = ChallengeMessage.decode(challenge.message).challenge
    [action] = machine.receive(ChallengeReply(1, Cookie(shown).digest(number)).encode())
    if shown == "y":
        assert action.reason is CloseReason.BAD_COOKIE
        return
    assert action == OldConnectionMustGo("a@localhost")
    ack, connected = machine.old_connection_gone()
    assert ack == Send(ChallengeAck(Cookie("x").digest(1)).encode())
    assert connected.peer.node == "a@localhost"


def test_an_initiator_that_is_connected_after_all_says_so_and_both_close():
    a, b = initiator(), acceptor()
    a.start()
    b.receive(name_message())
    b.decide(Status.ALIVE)
    assert a.receive(b"salive") == [AliveReceived()]
    false, at_a = a.confirm(False)
    assert false == Send(b"sfalse")
    [at_b] = b.receive(false.message)
    assert at_a.reason is at_b.reason is CloseReason.NOT_PENDING


def test_a_node_that_wants_to_be_given_a_name_is_refused_politely():
    flags = claimed_flags() | DFlag.NAME_ME
    message = b"N" + flags.to_bytes(8, "big") + bytes(4) + b"\0\4host"
    send, close = acceptor().receive(message)
    assert send == Send(b"snot_allowed")
    assert close.reason is CloseReason.DYNAMIC_NAME


def test_protocol_version_5_is_refused_politely():
    send, close = acceptor().receive(b"n\0\5\0\0\0\0a@localhost")
    assert send == Send(b"snot_allowed")
    assert close.reason is CloseReason.OLD_VERSION


def test_a_second_node_of_our_name_is_refused_politely():
    send, close = acceptor().receive(name_message(node="b@localhost"))
    assert send == Send(b"snot_allowed")
    assert close.reason is CloseReason.WRONG_NODE


@pytest.mark.parametrize("flag", list(REQUIRED))
def test_a_node_without_a_mandatory_flag_is_refused_by_either_side_and_the_flag_is_named(flag):
    flags = claimed_flags() & ~flag & ~DFlag.MANDATORY_25_DIGEST
    send, close = acceptor().receive(name_message(flags=flags))
    assert send == Send(b"snot_allowed")
    assert (close.reason, flag.name in close.text) == (CloseReason.MISSING_FLAGS, True)
    machine = initiator()
    machine.start()
    machine.receive(b"sok")
    [close] = machine.receive(ChallengeMessage(flags, 1, 6, "b@localhost").encode())
    assert (close.reason, flag.name in close.text) == (CloseReason.MISSING_FLAGS, True)


def test_somebody_else_at_the_port_of_the_node_that_we_called_is_left():
    machine = initiator()
    machine.start()
    machine.receive(b"sok")
    [close] = machine.receive(ChallengeMessage(claimed_flags(), 1, 6, "c@localhost").encode())
    assert close.reason is CloseReason.WRONG_NODE


def test_a_name_that_we_did_not_ask_for_is_not_taken():
    machine = initiator()
    machine.start()
    [close] = machine.receive(b"snamed:\0\3a@h\0\0\0\7")
    assert close.reason is CloseReason.BAD_MESSAGE


def test_what_a_later_release_appends_to_a_name_is_ignored():
    machine = acceptor()
    assert machine.receive(name_message() + b"\1\2\3")[0].node == "a@localhost"
    a = initiator()
    a.start()
    a.receive(b"sok")
    [reply] = a.receive(ChallengeMessage(claimed_flags(), 1, 6, "b@localhost").encode() + b"more")
    assert isinstance(reply, Send)


@pytest.mark.parametrize("name", ["", "a", "@h", "a@", "a@b@c", "a b@h", "a\n@h", "\x1b[2J@h", "x" * 254 + "@h"])
def test_what_is_no_name_of_a_node_is_closed_and_does_not_get_into_the_log(name):
    raw = name.encode("latin-1")
    message = b"N" + claimed_flags().to_bytes(8, "big") + bytes(4) + len(raw).to_bytes(2, "big") + raw
    [close] = acceptor().receive(message)
    assert close.reason is CloseReason.BAD_MESSAGE
    assert name == "" or name not in close.text or name in ("a", "@h")


@pytest.mark.parametrize("name", ["", "a", "a@", "a@b@c", "a b@h", "ж@h", "x" * 300 + "@h"])
def test_a_wrong_name_of_our_own_making_is_an_error_at_once(name):
    with pytest.raises(ValueError, match="the name of a node"):
        Initiator(ThisNode(name, 1), "b@h", Cookie("x"))
    with pytest.raises(ValueError, match="the name of a node"):
        Initiator(A, name, Cookie("x"))
    with pytest.raises(ValueError, match="the name of a node"):
        Acceptor(ThisNode(name, 1), lambda _: Cookie("x"))


def test_a_node_does_not_call_itself():
    with pytest.raises(ValueError, match="itself"):
        Initiator(A, A.node, Cookie("x"))


# ---- nonsense -----------------------------------------------------------------------------------------------------


def initiator_at(step):
    machine = initiator()
    machine.start()
    if step is not Step.RECV_STATUS:
        machine.receive(b"sok")
    if step is Step.RECV_CHALLENGE_ACK:
        machine.receive(ChallengeMessage(claimed_flags(), 1, 6, "b@localhost").encode())
    return machine


def acceptor_at(step):
    machine = acceptor()
    if step is Step.RECV_NAME:
        return machine
    machine.receive(name_message())
    if step is Step.RECV_ALIVE_REPLY:
        machine.decide(Status.ALIVE)
    elif step is Step.RECV_CHALLENGE_REPLY:
        machine.decide(Status.OK)
    return machine


STEPS = [
    *((initiator_at, step) for step in (Step.RECV_STATUS, Step.RECV_CHALLENGE, Step.RECV_CHALLENGE_ACK)),
    *((acceptor_at, step) for step in (Step.RECV_NAME, Step.RECV_ALIVE_REPLY, Step.RECV_CHALLENGE_REPLY)),
    (acceptor_at, Step.SEND_STATUS),  # the peer does not wait for our answer
]

MESSAGES = {
    "name": name_message(),
    "status": b"sok",
    "alive reply": b"strue",
    "challenge": ChallengeMessage(claimed_flags(), 1, 6, "b@localhost").encode(),
    "reply": ChallengeReply(1, bytes(16)).encode(),
    "ack": ChallengeAck(bytes(16)).encode(),
    "tick": b"",
    "complement": b"c" + bytes(8),
}
DUE = {
    Step.RECV_STATUS: "status",
    Step.RECV_CHALLENGE: "challenge",
    Step.RECV_CHALLENGE_ACK: "ack",
    Step.RECV_NAME: "name",
    Step.RECV_ALIVE_REPLY: "alive reply",
    Step.RECV_CHALLENGE_REPLY: "reply",
}


@pytest.mark.parametrize(("make", "step"), STEPS)
@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_out_of_turn_closes(make, step, kind):
    machine = make(step)
    assert machine.step is step
    if DUE.get(step) == kind:
        return  # its turn: the other tests
    actions = machine.receive(MESSAGES[kind])
    assert isinstance(actions[-1], Close)
    assert actions[-1].reason in (CloseReason.BAD_MESSAGE, CloseReason.WRONG_NODE)
    assert machine.step is Step.CLOSED


@pytest.mark.parametrize(("make", "step"), STEPS)
@given(data=st.data())
def test_noise_at_any_step_closes_and_raises_nothing(make, step, data):
    start = data.draw(st.sampled_from([b"", b"N", b"n", b"s", b"r", b"a", *MESSAGES.values()]))
    machine = make(step)
    actions = machine.receive(start[: data.draw(st.integers(0, 60))] + data.draw(st.binary(max_size=60)))
    assert all(not isinstance(action, Connected) for action in actions)


@pytest.mark.parametrize("end", ["connected", "closed"])
def test_a_machine_that_has_ended_takes_nothing_more(end):
    machine = acceptor()
    meet(initiator("x" if end == "connected" else "y"), machine)
    assert machine.step is (Step.CONNECTED if end == "connected" else Step.CLOSED)
    [close] = machine.receive(name_message())
    assert close.reason is CloseReason.BAD_MESSAGE


def test_an_answer_that_nobody_asked_for_is_the_drivers_mistake():
    with pytest.raises(RuntimeError, match="3 send_status"):
        acceptor().decide(Status.OK)
    with pytest.raises(RuntimeError, match="3B"):
        initiator().confirm(True)
    with pytest.raises(RuntimeError, match="old connection"):
        acceptor().old_connection_gone()
    machine = initiator()
    machine.start()
    with pytest.raises(RuntimeError, match="2 send_name"):
        machine.start()
    waiting = acceptor()
    waiting.receive(name_message())
    with pytest.raises(ValueError, match="TRUE"):
        waiting.decide(Status.TRUE)


# ---- the cookie ---------------------------------------------------------------------------------------------------


def test_the_cookie_shows_in_no_text():
    secret = "a-very-secret-cookie"
    cookie = Cookie(secret)
    machine = Initiator(A, B.node, cookie)
    texts = [repr(cookie), str(cookie), f"{cookie}", f"{cookie!r:>40}", repr(machine), repr([cookie])]
    try:
        pickle.dumps(cookie)
    except TypeError as error:
        texts += traceback.format_exception(error)
    for problem in ("", secret * 20, secret + "ж"):
        try:
            Cookie(problem)
        except ValueError as error:
            texts.append(str(error))
    at_a, at_b = meet(Initiator(A, B.node, cookie), acceptor("another"))
    texts += [repr(at_a), repr(at_b)]
    assert len(texts) >= 12
    assert [text for text in texts if secret in text and "Cookie(" not in text.splitlines()[0]] == []
    assert not hasattr(cookie, "__dict__")


def test_a_cookie_does_not_travel_and_does_not_multiply():
    cookie = Cookie("x")
    with pytest.raises(TypeError, match="stays where it is"):
        pickle.dumps(cookie)
    assert copy.copy(cookie) is copy.deepcopy(cookie) is cookie


def test_cookies_compare_by_value_and_are_no_keys():
    assert Cookie("x") == Cookie("x") != Cookie("y")
    with pytest.raises(TypeError, match="unhashable"):
        hash(Cookie("x"))


def test_digests_are_compared_in_constant_time(monkeypatch):
    compared = []
    real = handshake.hmac.compare_digest
    monkeypatch.setattr(handshake.hmac, "compare_digest", lambda *both: compared.append(both) or real(*both))
    meet(initiator(), acceptor())
    assert [len(one) == len(other) == 16 for one, other in compared] == [True, True]


@given(st.integers(0, 0xFFFFFFFF), st.binary(min_size=16, max_size=16))
def test_only_the_right_digest_verifies(challenge, noise):
    cookie = Cookie("x")
    assert cookie.verify(challenge, cookie.digest(challenge))
    assert cookie.verify(challenge, noise) is (noise == cookie.digest(challenge))


@pytest.mark.parametrize("decode", [NameMessage.decode, ChallengeMessage.decode, decode_status])
@given(noise=st.binary(max_size=80))
def test_a_message_that_cannot_be_read_raises_one_kind_of_error(decode, noise):
    problem = None
    try:
        decode(noise)
    except DecodeError as error:
        problem = str(error)
    assert problem is None or 0 < len(problem) < 200
