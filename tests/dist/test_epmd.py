"""Our epmd: the protocol as values, the state without sockets, the server under strangers, and the client's errors."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otplib.core.errors import DecodeError, NameTakenError
from otplib.dist import epmd, epmd_server
from otplib.dist.epmd import (
    AliveReply,
    AliveRequest,
    DumpRequest,
    KillRequest,
    NamesRequest,
    PortPleaseRequest,
    StopRequest,
)
from otplib.dist.epmd_server import EpmdServer, EpmdState
from tests.dist.beam import LIMIT, until

node_names = st.text(min_size=1, max_size=40).filter(lambda name: name.isprintable() and "@" not in name)
ports = st.integers(0, 65_535)
bytes_ = st.integers(0, 255)
alive_requests = st.builds(AliveRequest, node_names, ports, bytes_, bytes_, ports, ports, st.binary(max_size=255))
requests = st.one_of(
    alive_requests,
    st.builds(PortPleaseRequest, node_names),
    st.builds(StopRequest, node_names),
    st.sampled_from([NamesRequest(), DumpRequest(), KillRequest()]),
)


def body(request):
    message = epmd.encode_request(request)
    assert int.from_bytes(message[:2], "big") == len(message) - 2
    return message[2:]


# ---- the protocol -------------------------------------------------------------------------------------------------


@given(requests)
def test_what_is_asked_is_read_back(request):
    assert epmd.decode_request(body(request)) == request


@given(st.one_of(st.none(), alive_requests))
def test_an_answer_about_a_node_is_read_back(entry):
    assert epmd.decode_port_reply(epmd.encode_port_reply(entry)) == entry


@given(bytes_, st.integers(0, 2**32 - 1), st.sampled_from([5, 6, 7]))
def test_an_answer_to_a_registration_is_read_back_and_is_awaited_to_its_last_byte(result, creation, highest):
    data = epmd.encode_alive_reply(AliveReply(result, creation), highest=highest)
    expected = creation if highest >= 6 else creation & 0xFFFF
    assert epmd.decode_alive_reply(data) == AliveReply(result, expected)
    assert [epmd.decode_alive_reply(data[:end]) for end in range(len(data))] == [None] * len(data)


@given(st.dictionaries(node_names, ports, max_size=5), ports)
def test_a_list_of_names_is_read_back(entries, port):
    assert epmd.decode_names(epmd.encode_names(port, list(entries.items()))) == entries


@pytest.mark.parametrize(
    "decode", [epmd.decode_request, epmd.decode_port_reply, epmd.decode_alive_reply, epmd.decode_names]
)
@given(noise=st.one_of(st.binary(max_size=40), st.binary(max_size=30).flatmap(lambda n: st.just(b"x" + n))))
def test_noise_is_read_or_refused_with_one_kind_of_error(decode, noise):
    with contextlib.suppress(DecodeError):
        assert decode(noise) is not noise


def test_the_bytes_are_those_of_the_specification():
    assert epmd.encode_request(AliveRequest("py", 4711)) == bytes.fromhex("000f 78 1267 4d 00 0006 0006 0002 7079 0000")
    assert epmd.encode_request(AliveRequest("py", 4711, epmd.HIDDEN))[5] == 72
    assert body(NamesRequest()) + body(DumpRequest()) + body(KillRequest()) == b"ndk"
    assert body(StopRequest("py")) == b"spy"


@pytest.mark.parametrize("name", ["", "a@b", "a\nname b at port 1", "a\0", "x" * 256])
def test_a_name_that_would_break_the_list_is_refused_on_either_side(name):
    with pytest.raises(ValueError, match="before the @"):
        epmd.encode_request(PortPleaseRequest(name))
    raw = name.encode()
    entry = b"x" + bytes(9)[:0] + bytes.fromhex("1267 4d 00 0006 0006") + len(raw).to_bytes(2, "big") + raw + b"\0\0"
    with pytest.raises(DecodeError):
        epmd.decode_request(entry)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(ValueError, match="does not fit"):
        epmd.encode_request(AliveRequest("py", port))


@pytest.mark.parametrize(("text", "port"), [("5000", 5000), ("", 4369), ("x", 4369), ("0", 4369), ("70000", 4369)])
def test_the_port_is_the_environments_as_for_a_beam(monkeypatch, text, port):
    monkeypatch.setenv("ERL_EPMD_PORT", text)
    assert epmd.default_port() == port
    monkeypatch.delenv("ERL_EPMD_PORT")
    assert epmd.default_port() == 4369


# ---- the state ----------------------------------------------------------------------------------------------------


@pytest.fixture(name="state")
def fixture_state():
    return EpmdState(4369)


def test_a_name_belongs_to_the_first_until_its_connection_closes(state):
    first = state.handle(1, body(AliveRequest("foo", 1)))
    assert first.keep
    assert epmd.decode_alive_reply(first.data).result == 0
    second = state.handle(2, body(AliveRequest("foo", 2)))
    assert not second.keep
    assert epmd.decode_alive_reply(second.data).result == 1
    assert epmd.decode_port_reply(state.handle(3, body(PortPleaseRequest("foo"))).data).port == 1
    state.forget(2)  # the loser's connection: it never had the name
    assert state.names == ["foo"]
    state.forget(1)
    assert state.handle(4, body(AliveRequest("foo", 2))).keep


def test_the_next_life_of_a_name_has_another_creation(state):
    creations = set()
    for connection in range(50):
        creation = epmd.decode_alive_reply(state.handle(connection, body(AliveRequest("foo", 1))).data).creation
        assert creation > 3
        creations.add(creation)
        state.forget(connection)
    assert len(creations) == 50


def test_an_old_node_gets_the_short_answer(state):
    answer = state.handle(1, body(AliveRequest("old", 1, highest=5, lowest=5)))
    assert answer.data[:1] == b"y"
    assert len(answer.data) == 4


def test_a_question_about_nobody_is_answered_with_nothing(state):
    assert state.handle(1, body(PortPleaseRequest("ghost"))).data == b"w\1"


def test_what_a_node_registered_is_told_as_it_came(state):
    entry = AliveRequest("foo", 1, epmd.HIDDEN, 0, 6, 5, b"extra")
    state.handle(1, body(entry))
    assert epmd.decode_port_reply(state.handle(2, body(PortPleaseRequest("foo"))).data) == entry


def test_the_lists_name_everybody(state):
    for connection, name in enumerate(["foo", "bar"]):
        state.handle(connection, body(AliveRequest(name, 10 + connection)))
    assert epmd.decode_names(state.handle(9, body(NamesRequest())).data) == {"foo": 10, "bar": 11}
    dumped = state.handle(9, body(DumpRequest())).data
    assert dumped[:4] == (4369).to_bytes(4, "big")
    assert dumped[4:] == b"active name     <foo> at port 10, fd = 0\nactive name     <bar> at port 11, fd = 1\n"


def test_it_is_not_killed_while_a_node_is_registered(state):
    state.handle(1, body(AliveRequest("foo", 1)))
    assert state.handle(2, body(KillRequest())) == epmd_server.Answer(b"NO")
    state.forget(1)
    assert state.handle(2, body(KillRequest())) == epmd_server.Answer(b"OK", end=True)


def test_nobody_stops_the_name_of_another(state):
    state.handle(1, body(AliveRequest("foo", 1)))
    assert state.handle(2, body(StopRequest("foo"))) == epmd_server.Answer(b"")
    assert state.names == ["foo"]


@given(st.binary(max_size=60))
def test_noise_is_answered_by_closing_or_by_an_answer(noise):
    answer = EpmdState(1).handle(1, noise)
    assert answer.data or not answer.keep


def test_a_registered_node_that_goes_on_talking_is_closed(state):
    state.handle(1, body(AliveRequest("foo", 1)))
    assert state.handle(1, body(NamesRequest())) == epmd_server.Answer(b"")


# ---- server and client --------------------------------------------------------------------------------------------


@pytest.fixture(name="server")
def fixture_server():
    with EpmdServer(0) as server:
        yield server
    assert server.ended


def test_a_name_is_listed_while_its_registration_is_open(server):
    with epmd.register("foo", 4711, epmd_port=server.port) as registration:
        assert epmd.names(epmd_port=server.port) == {"foo": 4711}
        assert not registration.lost()
        with pytest.raises(NameTakenError, match="'foo'"):
            epmd.register("foo", 4712, epmd_port=server.port)
        entry = epmd.port_please("foo", epmd_port=server.port)
        assert (entry.port, entry.node_type, entry.highest, entry.lowest) == (4711, epmd.VISIBLE, 6, 6)
        assert epmd.port_please("bar", epmd_port=server.port) is None
        assert "<foo> at port 4711" in epmd.dump(epmd_port=server.port)
    assert until(lambda: epmd.names(epmd_port=server.port) == {})
    assert registration.lost()


def test_a_registration_notices_that_epmd_is_gone():
    with EpmdServer(0) as server:
        registration = epmd.register("foo", 4711, epmd_port=server.port)
    with registration:
        assert until(registration.lost)
    assert registration.fileno() == -1


def test_a_released_server_ends_with_the_last_name():
    server = EpmdServer(0)
    port = server.port
    with epmd.register("foo", 1, epmd_port=port), epmd.register("bar", 2, epmd_port=port) as bar:
        server.release()
        assert not server.join(0.05)
        bar.close()
        assert until(lambda: epmd.names(epmd_port=port) == {"foo": 1})
    assert server.join(LIMIT)
    assert not epmd.answers(epmd_port=port)


def test_a_released_server_without_names_ends_at_once():
    server = EpmdServer(0)
    server.release()
    assert server.join(LIMIT)


def test_a_killed_server_ends_and_its_port_is_free_again(server):
    assert epmd.kill(epmd_port=server.port)
    assert server.join(LIMIT)
    with EpmdServer(server.port) as successor:
        assert epmd.answers(epmd_port=successor.port)


def test_a_server_gives_way_to_whoever_has_the_port(server):
    with pytest.raises(OSError, match=r"(?i)in use"):
        EpmdServer(server.port)
    assert epmd.answers(epmd_port=server.port)


def test_of_many_that_start_at_once_exactly_one_serves():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    barrier = threading.Barrier(8)
    started, refused = [], []

    def start():
        barrier.wait()
        try:
            started.append(EpmdServer(port))
        except OSError as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert (len(started), len(refused)) == (1, 7)
    assert epmd.answers(epmd_port=port)
    started[0].close()


def test_closing_leaves_no_thread_and_no_socket():
    before = threading.enumerate()
    server = EpmdServer(0)
    with epmd.register("foo", 1, epmd_port=server.port):
        server.close()
        server.close()
    server._thread.join(LIMIT)
    assert threading.enumerate() == before
    assert not epmd.answers(epmd_port=server.port)


def test_strangers_with_noise_do_not_disturb_the_names(server):
    with epmd.register("foo", 4711, epmd_port=server.port), contextlib.ExitStack() as stack:
        for noise in (b"", b"\0", b"\0\0", b"\0\1q", b"\xff\xff" + b"x" * 5_000, b"\0\7x12", b"GET / HTTP/1.1\r\n\r\n"):
            stranger = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            stranger.sendall(noise)
        assert epmd.names(epmd_port=server.port) == {"foo": 4711}


def test_a_request_in_single_bytes_is_answered_as_any_other(server):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in epmd.encode_request(PortPleaseRequest("ghost")):
            connection.sendall(bytes([byte]))
        assert connection.recv(10) == b"w\1"
        assert connection.recv(10) == b""


def test_who_does_not_finish_a_request_in_time_is_dropped(monkeypatch):
    monkeypatch.setattr(epmd_server, "REQUEST_TIME", 0.05)
    with EpmdServer(0) as server, epmd.register("foo", 1, epmd_port=server.port) as registration:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.settimeout(LIMIT)
            connection.sendall(b"\0")
            assert connection.recv(10) == b""
        assert not registration.lost()  # a node may be silent for as long as it lives


def test_there_is_a_limit_to_the_connections(monkeypatch):
    monkeypatch.setattr(epmd_server, "MAX_CONNECTIONS", 3)
    with EpmdServer(0) as server, contextlib.ExitStack() as stack:
        kept = [stack.enter_context(epmd.register(name, 1, epmd_port=server.port)) for name in ("one", "two", "three")]
        assert not epmd.answers(epmd_port=server.port)
        kept.pop().close()
        assert until(lambda: epmd.answers(epmd_port=server.port))
        assert epmd.names(epmd_port=server.port) == {"one": 1, "two": 1}


def test_nobody_there_is_an_os_error():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for ask in (epmd.names, epmd.dump, epmd.kill):
        with pytest.raises(OSError, match=r"(?i)refused|nobody"):
            ask(epmd_port=port)
    with pytest.raises(OSError, match=r"(?i)refused|nobody"):
        epmd.register("foo", 1, epmd_port=port)
    assert not epmd.answers(epmd_port=port)


def test_an_epmd_that_never_answers_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(TimeoutError):
            epmd.names(epmd_port=port, timeout=0.1)
        with pytest.raises(TimeoutError):
            epmd.register("foo", 1, epmd_port=port, timeout=0.1)
        assert not epmd.answers(epmd_port=port, timeout=0.1)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_somebody_else_on_the_port_is_not_taken_for_an_epmd(answer):
    def serve():
        for _ in range(2):
            connection, _ = impostor.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as impostor:
        thread = threading.Thread(target=serve)
        thread.start()
        port = impostor.getsockname()[1]
        with pytest.raises((DecodeError, ConnectionError)):
            epmd.register("foo", 1, epmd_port=port)
        with pytest.raises(DecodeError):
            epmd.port_please("foo", epmd_port=port)
        thread.join(LIMIT)
