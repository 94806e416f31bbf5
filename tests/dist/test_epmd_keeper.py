"""Who keeps a node's name: with a real epmd, with one of ours, and while they come and go."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from otplib.core.errors import DecodeError, NameTakenError, NodeError
from otplib.dist import addresses, epmd, epmd_server
from otplib.dist.epmd_keeper import EpmdKeeper
from otplib.dist.epmd_server import EpmdServer
from tests.dist.beam import LIMIT, beam_environment, beam_node, needs_beam, needs_epmd, real_epmd, until


@pytest.fixture(name="port")
def fixture_port():
    """A port on which no epmd answers yet."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture(name="keep")
def fixture_keep(port):
    """Make keepers that are closed in the end; none of their threads may be left then."""
    before = set(threading.enumerate())
    with contextlib.ExitStack() as stack:

        def keep(name, node_port=4711, **options):
            keeper = EpmdKeeper(name, node_port, **{"epmd_port": port, **options})
            stack.callback(keeper.close)
            return keeper

        yield keep
    assert until(lambda: set(threading.enumerate()) <= before)


def names(port):
    try:
        return epmd.names(epmd_port=port)
    except OSError:
        return None


# ---- where nobody answers -----------------------------------------------------------------------------------------


def test_where_no_epmd_answers_ours_starts_and_ends_with_the_last_name(keep, port):
    first = keep("foo")
    creation = first.register()
    assert creation > 3
    assert first.hosting
    assert first.registered
    assert names(port) == {"foo": 4711}
    second = keep("bar", 4712, hidden=True)
    second.register()
    assert not second.hosting
    assert names(port) == {"foo": 4711, "bar": 4712}
    assert epmd.port_please("bar", epmd_port=port).node_type == epmd.HIDDEN
    first.close()  # its epmd stays for the other one
    assert not first.registered
    assert names(port) == {"bar": 4712}
    assert not second._registration.lost()
    second.close()
    assert until(lambda: not first.hosting)
    assert names(port) is None


def test_closing_the_only_node_frees_the_port_at_once(keep, port):
    keeper = keep("foo")
    keeper.register()
    keeper.close()
    assert not keeper.hosting
    with socket.create_server(("127.0.0.1", port)):
        pass
    keeper.close()  # a second time changes nothing
    fresh = keep("foo")
    assert fresh.register() > 3


def test_a_keeper_that_never_registered_can_be_closed(keep):
    keep("foo").close()


def test_a_name_can_be_taken_anew_right_after_it_was_given_back(keep, port):
    with EpmdServer(port):
        for _ in range(20):
            keeper = keep("foo")
            keeper.register()
            keeper.close()


def test_a_name_that_another_node_has_is_refused_and_nothing_is_left_behind(keep, port):
    keep("foo").register()
    with pytest.raises(NameTakenError, match=r"'foo'"):
        keep("foo", 4712).register()
    assert names(port) == {"foo": 4711}


def test_a_keeper_registers_once(keep):
    keeper = keep("foo")
    keeper.register()
    with pytest.raises(NodeError, match=r"registered already"):
        keeper.register()


def test_of_many_that_start_at_once_one_hosts_and_all_are_listed(keep, port):
    keepers = [keep(f"node{number}", 5000 + number) for number in range(8)]
    gate = threading.Barrier(len(keepers))

    def start(keeper):
        gate.wait(LIMIT)
        keeper.register()

    threads = [threading.Thread(target=start, args=(keeper,)) for keeper in keepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert names(port) == {f"node{number}": 5000 + number for number in range(8)}
    assert [keeper.hosting for keeper in keepers].count(True) == 1


def test_all_addresses_of_the_node_are_answered_on(keep, port):
    keeper = keep("foo", addresses=("127.0.0.1", "127.0.0.2"))
    keeper.register()
    assert epmd.names(host="127.0.0.2", epmd_port=port) == {"foo": 4711}


def test_other_machines_may_look_for_nodes_where_the_node_is_open_to_them_and_do_nothing_else(keep, port, monkeypatch):
    # Everybody counts as a stranger here: this machine has no second one to ask from.
    monkeypatch.setattr(epmd_server, "is_local", lambda own, peer: peer == "127.0.0.1" and own == "127.0.0.1")
    monkeypatch.setattr(addresses, "is_local", lambda own, peer: peer == "127.0.0.1" and own == "127.0.0.1")
    closed = keep("shut", 4711, addresses=("127.0.0.1", "127.0.0.2"))
    closed.register()
    with pytest.raises((OSError, DecodeError), match=r"closed|reset|not an answer"):
        epmd.port_please("shut", host="127.0.0.2", epmd_port=port)
    closed.close()
    keep("open", 4712, addresses=("127.0.0.1", "127.0.0.2"), public="127.0.0.2").register()
    assert epmd.port_please("open", host="127.0.0.2", epmd_port=port).port == 4712
    assert epmd.names(host="127.0.0.2", epmd_port=port) == {"open": 4712}
    with pytest.raises((OSError, DecodeError), match=r"closed|reset|not an answer"):
        epmd.register("stranger", 1, host="127.0.0.2", epmd_port=port)
    assert not epmd.kill(host="127.0.0.2", epmd_port=port)
    assert epmd.names(epmd_port=port) == {"open": 4712}


def test_the_port_of_epmd_may_be_set_by_the_variable_of_a_beam(keep, port, monkeypatch):
    monkeypatch.setenv("ERL_EPMD_PORT", str(port))
    keep("foo", epmd_port=None).register()
    assert names(port) == {"foo": 4711}


def test_something_else_on_the_port_is_an_error_that_names_the_way_out(keep, port):
    with socket.create_server(("127.0.0.1", port)) as stranger:

        def answer():
            connection, _ = stranger.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(NodeError, match=r"set ERL_EPMD_PORT to another"):
            keep("foo").register()
        thread.join(LIMIT)


# ---- while they come and go ---------------------------------------------------------------------------------------


def test_when_the_hosts_epmd_goes_another_node_takes_over_and_everybody_is_listed_again(keep, port):
    server = EpmdServer(port)
    keepers = [keep(f"node{number}", 5000 + number) for number in range(4)]
    for keeper in keepers:
        keeper.register()
    assert not any(keeper.hosting for keeper in keepers)
    everybody = names(port)
    assert len(everybody) == 4
    server.close()
    assert until(lambda: names(port) == everybody)
    assert [keeper.hosting for keeper in keepers].count(True) == 1


HOST = """
import sys
from otplib.dist.epmd_keeper import EpmdKeeper
keeper = EpmdKeeper("host", 4000, epmd_port=int(sys.argv[1]))
keeper.register()
print("hosting", keeper.hosting, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["kill", "end"])
def test_when_the_python_process_that_hosted_ends_another_takes_over(keep, port, how):
    with subprocess.Popen(
        [sys.executable, "-c", HOST, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as host:
        try:
            assert host.stdout.readline() == "hosting True\n"
            keeper = keep("foo")
            keeper.register()
            assert names(port) == {"host": 4000, "foo": 4711}
            if how == "kill":
                host.send_signal(signal.SIGKILL)
            else:
                host.stdin.close()
            host.wait(LIMIT)
            assert until(lambda: names(port) == {"foo": 4711})
            assert keeper.hosting
        finally:
            host.kill()


def test_a_name_that_is_taken_while_epmd_was_away_is_won_back_and_that_is_said_once(keep, port, caplog):
    first = EpmdServer(port)
    keeper = keep("foo")
    keeper.register()
    ready, thief = threading.Event(), []

    def steal():
        # Whoever registers first after the change: here a thief that holds the name on the new server already.
        with EpmdServer(0) as other:
            thief.append(epmd.register("foo", 1, epmd_port=other.port))
            keeper.epmd_port = other.port
            ready.set()
            gone.wait(LIMIT)
            thief[0].close()
            back.wait(LIMIT)

    gone, back = threading.Event(), threading.Event()
    thread = threading.Thread(target=steal)
    thread.start()
    assert ready.wait(LIMIT)
    with caplog.at_level(logging.WARNING, "otplib"):
        first.close()
        assert until(lambda: any("is not listed by epmd any more" in text for text in caplog.messages))
        gone.set()
        assert until(lambda: names(keeper.epmd_port) == {"foo": 4711})
    assert len([text for text in caplog.messages if "is not listed" in text]) == 1
    keeper.close()
    back.set()
    thread.join(LIMIT)


def test_closing_while_the_name_is_lost_ends_the_search(keep, port):
    server = EpmdServer(port)
    keeper = keep("foo")
    keeper.register()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        keeper.epmd_port = silent.getsockname()[1]
        server.close()
        assert until(lambda: not keeper.registered)
        keeper.close()
    assert not keeper._thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_lets_go_of_the_port_and_the_parent_notices_nothing(keep, port):
    keeper = keep("foo")
    keeper.register()
    read, write = os.pipe()
    done_read, done_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        keeper.abandon()
        os.write(done_write, b"x")
        os.read(read, 1)  # lives until the parent says so
        os._exit(0)
    try:
        os.read(done_read, 1)
        assert names(port) == {"foo": 4711}
        assert keeper.registered
        keeper.close()
        with socket.create_server(("127.0.0.1", port)):  # the child does not hold it
            pass
    finally:
        for each in (read, write, done_read, done_write):
            os.close(each)
        os.waitpid(child, 0)


# ---- beside a real epmd -------------------------------------------------------------------------------------------


@needs_epmd
def test_a_real_epmd_that_answers_is_used(keep):
    with real_epmd() as port:
        keeper = keep("foo", epmd_port=port)
        keeper.register()
        assert not keeper.hosting
        done = subprocess.run(
            ["epmd", "-names"], env=beam_environment(port), capture_output=True, text=True, timeout=LIMIT
        )
        assert "name foo at port 4711" in done.stdout
        keeper.close()
        assert until(lambda: names(port) == {})


@needs_epmd
def test_when_a_real_epmd_is_killed_ours_takes_over_and_a_real_one_then_finds_the_port_taken(keep):
    with real_epmd() as port:
        keepers = [keep(name, epmd_port=port) for name in ("foo", "bar")]
        for keeper in keepers:
            keeper.register()
    assert until(lambda: names(port) == {"foo": 4711, "bar": 4711})
    assert [keeper.hosting for keeper in keepers].count(True) == 1
    subprocess.run(["epmd"], env=beam_environment(port), capture_output=True, timeout=LIMIT)  # ends by itself
    assert names(port) == {"foo": 4711, "bar": 4711}
    for keeper in keepers:
        keeper.close()
    assert until(lambda: names(port) is None)
    with real_epmd_on(port):  # and afterwards the machine's own finds it free
        assert names(port) == {}


@contextlib.contextmanager
def real_epmd_on(port):
    with subprocess.Popen(["epmd", "-port", str(port), "-address", "127.0.0.1"], stderr=subprocess.DEVNULL) as process:
        try:
            assert until(lambda: names(port) is not None)
            assert process.poll() is None
            yield
        finally:
            process.kill()


@needs_beam
@needs_epmd
def test_a_beam_registered_with_an_epmd_of_ours_comes_back_when_another_takes_over(keep, port):
    with EpmdServer(port) as server, beam_node("beam", port) as beam:
        keeper = keep("foo")
        keeper.register()
        assert set(names(port)) == {"foo", "beam"}
        server.close()
        assert until(lambda: set(names(port) or ()) == {"foo", "beam"})
        assert keeper.hosting
        beam.process.kill()
        beam.process.wait(LIMIT)
        assert until(lambda: set(names(port)) == {"foo"})
