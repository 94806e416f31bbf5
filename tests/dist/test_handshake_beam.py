"""Our handshake over real sockets with a real BEAM, in both roles; and ticks on the connection that comes of it."""

from __future__ import annotations

import contextlib
import socket
import subprocess

import pytest

from otplib.dist import epmd
from otplib.dist.flags import CLAIMED, DFlag, claimed_flags
from otplib.dist.framing import TICK
from otplib.dist.handshake import (
    Acceptor,
    AliveReceived,
    Close,
    CloseReason,
    Connected,
    Cookie,
    Initiator,
    NameReceived,
    OldConnectionMustGo,
    ThisNode,
)
from otplib.dist.handshake_messages import Status
from tests.dist.beam import COOKIE, LIMIT, Wire, beam_environment, beam_node, needs_beam, our_epmd

pytestmark = needs_beam


@pytest.fixture(name="port")
def fixture_port():
    with our_epmd() as port:
        yield port


@contextlib.contextmanager
def call(beam, epmd_port):
    """A wire to the BEAM's distribution port."""
    entry = epmd.port_please(beam.name.split("@")[0], epmd_port=epmd_port)
    with socket.create_connection(("127.0.0.1", entry.port)) as connection:
        yield Wire(connection)


@contextlib.contextmanager
def listening(name, epmd_port):
    """A socket that the BEAM finds under our name."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT)
        with epmd.register(name, listener.getsockname()[1], epmd_port=epmd_port):
            yield listener


def initiate(wire, beam, *, name="py", cookie=COOKIE, hidden=False, confirm=True, seen=None):
    """The whole handshake as the initiator; gives its end: Connected, Close, or None when the BEAM hangs up."""
    this = ThisNode(f"{name}@localhost", 7, claimed_flags(hidden=hidden))
    machine = Initiator(this, beam.name, Cookie(cookie))
    action = wire.carry_out(machine.start())
    while not isinstance(action, Connected | Close):
        if isinstance(action, AliveReceived):
            action = wire.carry_out(machine.confirm(confirm))
            continue
        packet = wire.packet()
        if packet is None:
            return None
        if seen is not None:
            seen.append(packet)
        action = wire.carry_out(machine.receive(packet))
    return action


def accept(listener, *, name="py", cookie=COOKIE, hidden=False, status=Status.OK):
    """The whole handshake as the acceptor; gives the wire, the name that came, and the end."""
    connection, _ = listener.accept()
    wire = Wire(connection)
    machine = Acceptor(ThisNode(f"{name}@localhost", 7, claimed_flags(hidden=hidden)), lambda _: Cookie(cookie))
    action, named = None, None
    while not isinstance(action, Connected | Close):
        match action:
            case NameReceived():
                named = action
                action = wire.carry_out(machine.decide(status))
            case OldConnectionMustGo():
                action = wire.carry_out(machine.old_connection_gone())
            case _:
                action = wire.carry_out(machine.receive(wire.packet()))
    return wire, named, action


def asks(expression, label="result"):
    return f'io:format("{label} ~p~n", [{expression}])'


# ---- we call ------------------------------------------------------------------------------------------------------

NODEUP = "net_kernel:monitor_nodes(true, [{node_type, all}]), " + asks(
    "receive {nodeup, N, _} -> {N, nodes(), nodes(hidden)} end"
)


def test_we_call_a_beam_and_it_lists_us(port):
    with beam_node("called", port, program=NODEUP) as beam, call(beam, port) as wire:
        connected = initiate(wire, beam)
        assert connected.peer.node == "called@localhost"
        assert connected.peer.flags == CLAIMED | DFlag.PUBLISHED
        assert connected.peer.creation > 3
        assert not connected.peer.is_python
        assert not connected.peer.hidden
        assert beam.line_with("result") == "result {py@localhost,[py@localhost],[]}"


def test_we_call_as_a_hidden_node_and_are_listed_as_one(port):
    with beam_node("called", port, program=NODEUP) as beam, call(beam, port) as wire:
        assert initiate(wire, beam, hidden=True).peer.hidden
        assert beam.line_with("result") == "result {py@localhost,[],[py@localhost]}"


def test_a_hidden_beam_is_hidden_to_us(port):
    with beam_node("called", port, arguments=("-hidden",)) as beam, call(beam, port) as wire:
        assert initiate(wire, beam).peer.hidden


def test_a_beam_rejects_our_wrong_cookie_after_our_digest(port):
    with beam_node("called", port) as beam, call(beam, port) as wire:
        seen = []
        assert initiate(wire, beam, cookie="wrong", seen=seen) is None
        assert [packet[:1] for packet in seen] == [b"s", b"N"]
        assert "rejected" in beam.line_with("Connection attempt from node py@localhost")


def test_a_second_connection_under_our_name_replaces_the_first_if_we_confirm(port):
    with beam_node("called", port, program=NODEUP) as beam, call(beam, port) as first, call(beam, port) as second:
        assert isinstance(initiate(first, beam), Connected)
        beam.line_with("result")  # until then the first is "pending" over there
        seen = []
        assert isinstance(initiate(second, beam, seen=seen), Connected)
        assert seen[0] == b"salive"
        while first.packet() is not None:  # what it had said before it closed
            pass


def test_a_second_connection_under_our_name_ends_if_we_do_not_confirm(port):
    with beam_node("called", port, program=NODEUP) as beam, call(beam, port) as first, call(beam, port) as second:
        assert isinstance(initiate(first, beam), Connected)
        beam.line_with("result")
        assert initiate(second, beam, confirm=False).reason is CloseReason.NOT_PENDING
        with call(beam, port) as third:  # the first still stands
            seen = []
            initiate(third, beam, seen=seen)
            assert seen[0] == b"salive"


@pytest.mark.parametrize(("name", "status", "end"), [("zz", b"sok_simultaneous", Connected), ("aa", b"snok", Close)])
def test_a_beam_that_is_calling_us_lets_the_greater_name_go_on(port, name, status, end):
    program = f"spawn(fun() -> net_kernel:connect_node({name}@localhost) end)"
    with listening(name, port) as listener, beam_node("mm", port, program=program) as beam:
        connection, _ = listener.accept()  # the BEAM's own call is under way, and we let it wait
        with connection, call(beam, port) as wire:
            assert Wire(connection).packet()[:1] == b"N"
            seen = []
            action = initiate(wire, beam, name=name, seen=seen)
            assert seen[0] == status
            assert isinstance(action, end)


# ---- a BEAM calls us ----------------------------------------------------------------------------------------------


def connects(name="py"):
    return asks(f"{{net_kernel:connect_node({name}@localhost), nodes(), nodes(hidden)}}")


def test_a_beam_calls_us_and_lists_us(port):
    with listening("py", port) as listener, beam_node("caller", port, program=connects()) as beam:
        wire, named, action = accept(listener)
        with wire.connection:
            assert named.node == "caller@localhost"
            assert named.creation == action.peer.creation > 3
            assert action.peer.flags == CLAIMED | DFlag.PUBLISHED
            assert beam.line_with("result") == "result {true,[py@localhost],[]}"


def test_a_beam_calls_us_while_we_are_hidden(port):
    with listening("py", port) as listener, beam_node("caller", port, program=connects()) as beam:
        wire, named, action = accept(listener, hidden=True)
        with wire.connection:
            assert named.hidden
            assert action.peer.hidden
            assert beam.line_with("result") == "result {true,[],[py@localhost]}"


def test_a_beam_with_another_cookie_is_rejected(port):
    program = connects()
    with listening("py", port) as listener, beam_node("caller", port, program=program, cookie="wrong") as beam:
        _, _, action = accept(listener)
        assert action.reason is CloseReason.BAD_COOKIE
        assert beam.line_with("result") == "result {false,[],[]}"


def test_a_beam_that_we_do_not_allow_stays_outside(port):
    with listening("py", port) as listener, beam_node("caller", port, program=connects()) as beam:
        _, _, action = accept(listener, status=Status.NOT_ALLOWED)
        assert action.reason is CloseReason.NOT_ALLOWED
        assert beam.line_with("result") == "result {false,[],[]}"


@pytest.mark.parametrize("status", [Status.ALIVE, Status.OK_SIMULTANEOUS])
def test_a_beam_goes_on_when_we_had_something_with_it_already(port, status):
    with listening("py", port) as listener, beam_node("caller", port, program=connects()) as beam:
        wire, _, action = accept(listener, status=status)
        with wire.connection:
            assert isinstance(action, Connected)
            assert beam.line_with("result") == "result {true,[py@localhost],[]}"


def test_a_beam_without_a_name_that_asks_us_for_one_is_refused(port):
    # `erl -sname undefined` is a dynamic node: it takes its name from the first node that it calls.
    program = asks("net_kernel:connect_node(py@localhost)")
    with listening("py", port) as listener:
        command = ["erl", "-noshell", "-start_epmd", "false", "-sname", "undefined", "-eval", program]
        with subprocess.Popen(
            command, env=beam_environment(port), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as beam:
            try:
                _, _, action = accept(listener)
                assert action.reason is CloseReason.DYNAMIC_NAME
                while not (line := beam.stdout.readline()).startswith("result"):
                    assert line
                assert line == "result false\n"
            finally:
                beam.kill()


# ---- the net tick -------------------------------------------------------------------------------------------------


def test_a_beam_ticks_and_drops_us_only_when_we_stop_ticking(port):
    # A net tick time of 1 s, so a tick each 250 ms: we answer for longer than that, then fall silent.
    program = "net_kernel:monitor_nodes(true), " + asks("receive {nodedown, N} -> N end", "down")
    arguments = ("-kernel", "net_ticktime", "1")
    with beam_node("ticking", port, program=program, arguments=arguments) as beam, call(beam, port) as wire:
        assert isinstance(initiate(wire, beam), Connected)
        ticks = 0
        while ticks < 10:
            packet = wire.packet()
            assert packet is not None, "the BEAM dropped us although we answered every tick"
            if packet == b"":
                ticks += 1
                wire.connection.sendall(TICK)
        silent = 0
        while (packet := wire.packet()) is not None:
            silent += packet == b""
        assert silent <= 5
        assert beam.line_with("down") == "down py@localhost"
