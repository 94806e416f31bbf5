"""The handshake, version 6: two machines without sockets, one for each side. Default: close.

    step   initiator (A)                 acceptor (B)
    1      connects                      accepts
    2      send_name             -->     recv_name
    3      recv_status           <--     send_status
    3B     send_status           -->     recv_status              only if the status was "alive"
    4      recv_challenge        <--     send_challenge
    4B     (send_complement: only after the old send_name of version 5, which we neither send nor accept)
    5      send_challenge_reply  -->     recv_challenge_reply
    6      recv_challenge_ack    <--     send_challenge_ack
    7      checks, connected             connected

A machine is given messages without their lengths and answers with actions, to be carried out in their order:

    Send(message)                write it as one handshake frame
    NameReceived(node, ...)      acceptor, step 3: ask who else speaks with that node, then call `decide(status)`
    AliveReceived()              initiator, step 3B: is this attempt still wanted? Call `confirm(pending)`
    OldConnectionMustGo(node)    acceptor, before step 6: close the old connection, then call `old_connection_gone()`
    Connected(peer)              switch the framing to four bytes; whatever follows are packets
    Close(reason, text)          close the socket; `text` may go into a log

After `Close` and after `Connected` a machine is used up. Whoever drives it gives each step `SETUP_TIME` seconds.
Which status a name deserves is decided by `status_for_name`.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Final, NamedTuple, NoReturn, TypeAlias

from otplib.core.errors import DecodeError
from otplib.dist.flags import REQUIRED, DFlag, claimed_flags, missing_flags, negotiated
from otplib.dist.handshake_messages import (
    ChallengeAck,
    ChallengeMessage,
    ChallengeReply,
    NameMessage,
    Status,
    decode_status,
    encode_node_name,
    encode_status,
)

#: Seconds for one step, OTP's `net_setuptime`.
SETUP_TIME: Final = 7.0

#: Behind the name in steps 2 and 4. A BEAM ignores it, as the protocol demands; a Python node knows its like by it.
PYTHON_NODE: Final = b"otplib/1"


class Cookie:
    """The shared secret. It signs and checks; it is never shown: not in a repr, an error, a copy or a pickle.

    Raises:
        ValueError: empty, longer than an atom may be, or not Latin-1.

    Example:
        >>> cookie = Cookie("monster")
        >>> cookie, cookie.digest(1).hex()
        (Cookie(...), '2df889f9cd492dc798d726ce43dc8a7e')
    """

    __slots__ = ("_secret",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"a cookie is a str, got {type(text).__name__}")
        if not 0 < len(text) <= 255 or any(ord(character) > 0xFF for character in text):
            raise ValueError("a cookie has 1 to 255 characters, all of them Latin-1")
        self._secret = text.encode("latin-1")

    def digest(self, challenge: int) -> bytes:
        """The protocol's `gen_digest`: MD5 of the cookie and of the challenge in decimal."""
        return hashlib.md5(self._secret + b"%d" % challenge, usedforsecurity=False).digest()

    def verify(self, challenge: int, digest: bytes) -> bool:
        """Whether the digest fits, in a time that does not depend on where it differs."""
        return hmac.compare_digest(self.digest(challenge), digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cookie) and hmac.compare_digest(self._secret, other._secret)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "Cookie(...)"

    def __copy__(self) -> Cookie:
        return self

    def __deepcopy__(self, memo: object) -> Cookie:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a cookie stays where it is")


class ThisNode(NamedTuple):
    """Our own side: the full name, which of its lives this is, and what we claim to be able to do."""

    node: str
    creation: int
    flags: DFlag = claimed_flags()
    extra: bytes = PYTHON_NODE


class Peer(NamedTuple):
    """The other side, once the handshake is done; `flags` are those that both sides have."""

    node: str
    creation: int
    flags: DFlag
    extra: bytes = b""

    @property
    def hidden(self) -> bool:
        """One of the two is hidden, so each lists the other as hidden."""
        return not self.flags & DFlag.PUBLISHED

    @property
    def is_python(self) -> bool:
        """The peer is one of us, whatever its version: Python objects may travel."""
        return self.extra.startswith(b"otplib/")


class CloseReason(enum.Enum):
    """Why a handshake ended without a connection."""

    BAD_MESSAGE = "bad_message"  # not what this step expects, or no message of the protocol at all
    BAD_COOKIE = "bad_cookie"
    NOT_ALLOWED = "not_allowed"
    NOK = "nok"  # simultaneous connect, and the other attempt goes on
    NOT_PENDING = "not_pending"  # "alive", and this attempt is no longer wanted
    MISSING_FLAGS = "missing_flags"
    WRONG_NODE = "wrong_node"  # somebody else answered, or somebody with our own name called
    DYNAMIC_NAME = "dynamic_name"
    OLD_VERSION = "old_version"


class Send(NamedTuple):
    """Write the message as one handshake frame."""

    message: bytes


class NameReceived(NamedTuple):
    """Step 3: the driver looks up what it has with that node and calls `decide`."""

    node: str
    creation: int
    hidden: bool


class AliveReceived(NamedTuple):
    """Step 3B: the peer believes that we are connected. The driver calls `confirm`."""


class OldConnectionMustGo(NamedTuple):
    """Before step 6: the peer has proved itself, so what we still had with that node is dead."""

    node: str


class Connected(NamedTuple):
    """The connection is up."""

    peer: Peer


class Close(NamedTuple):
    """The handshake failed."""

    reason: CloseReason
    text: str


Action: TypeAlias = Send | NameReceived | AliveReceived | OldConnectionMustGo | Connected | Close


class ConnectionState(enum.Enum):
    """What we have with a node when its name arrives."""

    NONE = "none"
    PENDING = "pending"  # a handshake is under way, ours or an earlier one of theirs
    UP = "up"
    UP_PENDING = "up_pending"  # up, and another one waits already to take its place


def status_for_name(this_node: str, other_node: str, state: ConnectionState) -> Status:
    """The answer to a name, as `net_kernel` gives it. Of two that call each other at once the greater name wins.

    Where OTP drops the third of three calls without a word (UP_PENDING), we say NOK: the caller has one under way.

    Example:
        >>> status_for_name("a@h", "b@h", ConnectionState.PENDING).value
        'ok_simultaneous'
        >>> status_for_name("b@h", "a@h", ConnectionState.PENDING).value
        'nok'
    """
    if this_node == other_node:
        return Status.NOT_ALLOWED
    match state:
        case ConnectionState.NONE:
            return Status.OK
        case ConnectionState.PENDING:
            return Status.NOK if this_node > other_node else Status.OK_SIMULTANEOUS
        case ConnectionState.UP:
            return Status.ALIVE
        case _:
            return Status.NOK


class Step(enum.Enum):
    """Where a machine stands: the step of the protocol that it waits for."""

    SEND_NAME = "2 send_name"
    RECV_NAME = "2 recv_name"
    SEND_STATUS = "3 send_status"
    RECV_STATUS = "3 recv_status"
    SEND_ALIVE_REPLY = "3B send_status"
    RECV_ALIVE_REPLY = "3B recv_status"
    RECV_CHALLENGE = "4 recv_challenge"
    RECV_CHALLENGE_REPLY = "5 recv_challenge_reply"
    WAIT_PENDING = "6 wait for the old connection"
    RECV_CHALLENGE_ACK = "6 recv_challenge_ack"
    CONNECTED = "7 connected"
    CLOSED = "closed"


class _Handshake:
    """What both sides share: the step, the default, the end."""

    def __init__(self, this_node: ThisNode, challenge: int | None) -> None:
        encode_node_name(this_node.node)  # a wrong name is the caller's mistake, told at once
        self._this = this_node
        self._challenge = secrets.randbits(32) if challenge is None else challenge
        self._steps: dict[Step, Callable[[bytes], list[Action]]] = {}
        self.step = Step.CLOSED

    def receive(self, message: bytes) -> list[Action]:
        """One message from the peer, without its length."""
        handle = self._steps.get(self.step)
        if handle is None:
            return self._close(CloseReason.BAD_MESSAGE, f"a message, and none is due at step {self.step.value}")
        try:
            return handle(message)
        except DecodeError as error:
            return self._close(CloseReason.BAD_MESSAGE, f"at step {self.step.value}: {error}")

    def _expect(self, step: Step) -> None:
        if self.step is not step:
            raise RuntimeError(f"this belongs to step {step.value}; the handshake is at step {self.step.value}")

    def _close(self, reason: CloseReason, text: str) -> list[Action]:
        self.step = Step.CLOSED
        return [Close(reason, text)]

    def _connect(self, peer: Peer) -> list[Action]:
        self.step = Step.CONNECTED
        return [Connected(peer)]

    def _make_peer(self, message: NameMessage | ChallengeMessage) -> Peer:
        return Peer(message.node, message.creation, negotiated(self._this.flags, message.flags), message.extra)


class Initiator(_Handshake):
    """Side A: we call `other_node`. Begin with `start()`.

    Example:
        >>> machine = Initiator(ThisNode("a@h", 7), "b@h", Cookie("x"))
        >>> [send] = machine.start()
        >>> send.message[:1], machine.step
        (b'N', <Step.RECV_STATUS: '3 recv_status'>)
        >>> machine.receive(b"snok")[0].reason
        <CloseReason.NOK: 'nok'>
    """

    def __init__(self, this_node: ThisNode, other_node: str, cookie: Cookie, *, challenge: int | None = None) -> None:
        super().__init__(this_node, challenge)
        encode_node_name(other_node)
        if other_node == this_node.node:
            raise ValueError(f"a node does not connect to itself: {other_node!r}")
        self._other = other_node
        self._cookie = cookie
        self._peer: Peer | None = None
        self.step = Step.SEND_NAME
        self._steps = {
            Step.RECV_STATUS: self._recv_status,
            Step.RECV_CHALLENGE: self._recv_challenge,
            Step.RECV_CHALLENGE_ACK: self._recv_challenge_ack,
        }

    def start(self) -> list[Action]:
        """Step 2."""
        self._expect(Step.SEND_NAME)
        self.step = Step.RECV_STATUS
        this = self._this
        return [Send(NameMessage(this.flags, this.creation, this.node, this.extra).encode())]

    def _recv_status(self, message: bytes) -> list[Action]:  # step 3
        match decode_status(message):
            case Status.OK | Status.OK_SIMULTANEOUS:
                # "Simultaneous" tells us that the peer has dropped its own call to us: this one is the connection.
                self.step = Step.RECV_CHALLENGE
                return []
            case Status.ALIVE:
                self.step = Step.SEND_ALIVE_REPLY
                return [AliveReceived()]
            case Status.NOK:
                return self._close(CloseReason.NOK, f"{self._other} is calling us itself, and its call goes on")
            case Status.NOT_ALLOWED:
                return self._close(CloseReason.NOT_ALLOWED, f"{self._other} does not let us in")
            case _:
                raise DecodeError("a status that only an initiator sends")

    def confirm(self, pending: bool) -> list[Action]:
        """Step 3B: the old connection is broken and this attempt is to go on (True), or it was a mistake (False)."""
        self._expect(Step.SEND_ALIVE_REPLY)
        reply = Send(encode_status(Status.TRUE if pending else Status.FALSE))
        if not pending:
            return [reply, *self._close(CloseReason.NOT_PENDING, f"connected to {self._other} already")]
        self.step = Step.RECV_CHALLENGE
        return [reply]

    def _recv_challenge(self, message: bytes) -> list[Action]:  # steps 4 and 5
        challenge = ChallengeMessage.decode(message)
        if challenge.node != self._other:
            return self._close(CloseReason.WRONG_NODE, f"{challenge.node} answered in place of {self._other}")
        if lacking := missing_flags(challenge.flags, REQUIRED):
            return self._close(
                CloseReason.MISSING_FLAGS,
                f"connection attempt to node {self._other} aborted: it cannot handle {', '.join(lacking)}",
            )
        self._peer = self._make_peer(challenge)
        self.step = Step.RECV_CHALLENGE_ACK
        return [Send(ChallengeReply(self._challenge, self._cookie.digest(challenge.challenge)).encode())]

    def _recv_challenge_ack(self, message: bytes) -> list[Action]:  # steps 6 and 7
        assert self._peer is not None
        if not self._cookie.verify(self._challenge, ChallengeAck.decode(message).digest):
            return self._close(
                CloseReason.BAD_COOKIE,
                f"connection attempt to node {self._other} cancelled: invalid challenge ack",
            )
        return self._connect(self._peer)


class Acceptor(_Handshake):
    r"""Side B: somebody calls us. `cookie_for` gives the cookie that we share with a node.

    Example:
        >>> machine = Acceptor(ThisNode("b@h", 7), lambda node: Cookie("x"))
        >>> machine.receive(NameMessage(claimed_flags(), 3, "a@h").encode())
        [NameReceived(node='a@h', creation=3, hidden=False)]
        >>> [action.message[:3] for action in machine.decide(Status.OK)]
        [b'sok', b'N\x00\x00']
    """

    def __init__(
        self, this_node: ThisNode, cookie_for: Callable[[str], Cookie], *, challenge: int | None = None
    ) -> None:
        super().__init__(this_node, challenge)
        self._cookie_for = cookie_for
        self._peer: Peer | None = None
        self._replaces = False
        self._ack: Send | None = None
        self.step = Step.RECV_NAME
        self._steps = {
            Step.RECV_NAME: self._recv_name,
            Step.RECV_ALIVE_REPLY: self._recv_alive_reply,
            Step.RECV_CHALLENGE_REPLY: self._recv_challenge_reply,
        }

    def _recv_name(self, message: bytes) -> list[Action]:  # step 2
        if message[:1] == b"n":
            # An OTP 23 or 24 node without epmd, or something much older. It knows "not_allowed" as well.
            return self._refuse(CloseReason.OLD_VERSION, "a node that speaks protocol version 5")
        name = NameMessage.decode(message)
        if name.flags & DFlag.NAME_ME:
            return self._refuse(CloseReason.DYNAMIC_NAME, "a node that wants to be given a name")
        if lacking := missing_flags(name.flags, REQUIRED):
            return self._refuse(
                CloseReason.MISSING_FLAGS,
                f"connection attempt from node {name.node} rejected: it cannot handle {', '.join(lacking)}",
            )
        if name.node == self._this.node:
            return self._refuse(CloseReason.WRONG_NODE, f"another node calls itself {name.node}")
        self._peer = self._make_peer(name)
        self.step = Step.SEND_STATUS
        return [NameReceived(name.node, name.creation, self._peer.hidden)]

    def decide(self, status: Status) -> list[Action]:
        """Step 3, and step 4 unless the answer was ALIVE, NOK or NOT_ALLOWED."""
        self._expect(Step.SEND_STATUS)
        assert self._peer is not None
        reply = Send(encode_status(status))
        match status:
            case Status.OK | Status.OK_SIMULTANEOUS:
                return [reply, *self._send_challenge()]
            case Status.ALIVE:
                self.step = Step.RECV_ALIVE_REPLY
                return [reply]
            case Status.NOK:
                return [reply, *self._close(CloseReason.NOK, f"we are calling {self._peer.node} ourselves")]
            case Status.NOT_ALLOWED:
                return self._refuse(CloseReason.NOT_ALLOWED, f"node {self._peer.node} is not allowed to connect")
            case _:
                raise ValueError(f"an acceptor does not answer a name with {status}")

    def _recv_alive_reply(self, message: bytes) -> list[Action]:  # step 3B
        match decode_status(message):
            case Status.TRUE:
                self._replaces = True
                return self._send_challenge()
            case Status.FALSE:
                return self._close(CloseReason.NOT_PENDING, "the peer called by mistake: it is connected")
            case _:
                raise DecodeError('expected "true" or "false"')

    def _send_challenge(self) -> list[Action]:  # step 4
        self.step = Step.RECV_CHALLENGE_REPLY
        this = self._this
        return [Send(ChallengeMessage(this.flags, self._challenge, this.creation, this.node, this.extra).encode())]

    def _recv_challenge_reply(self, message: bytes) -> list[Action]:  # steps 5 and 6
        assert self._peer is not None
        reply = ChallengeReply.decode(message)
        cookie = self._cookie_for(self._peer.node)
        if not cookie.verify(self._challenge, reply.digest):
            return self._close(
                CloseReason.BAD_COOKIE,
                f"connection attempt from node {self._peer.node} rejected: invalid challenge reply",
            )
        self._ack = Send(ChallengeAck(cookie.digest(reply.challenge)).encode())
        if self._replaces:
            # Only now: before, anybody who knows a name could have cut that node's connection.
            self.step = Step.WAIT_PENDING
            return [OldConnectionMustGo(self._peer.node)]
        return [self._ack, *self._connect(self._peer)]

    def old_connection_gone(self) -> list[Action]:
        """Step 6 after OldConnectionMustGo: nothing of the old connection is left."""
        self._expect(Step.WAIT_PENDING)
        assert self._peer is not None
        assert self._ack is not None
        return [self._ack, *self._connect(self._peer)]

    def _refuse(self, reason: CloseReason, text: str) -> list[Action]:
        return [Send(encode_status(Status.NOT_ALLOWED)), *self._close(reason, text)]
