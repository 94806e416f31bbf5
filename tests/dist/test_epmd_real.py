"""Our epmd for real clients, and a real epmd for our client: both on ports of their own."""

from __future__ import annotations

import re
import subprocess

import pytest

from otplib.core.errors import NameTakenError
from otplib.dist import epmd
from otplib.dist.epmd_server import EpmdServer
from tests.dist.beam import LIMIT, beam_environment, beam_node, needs_beam, needs_epmd, our_epmd, real_epmd, until

pytestmark = [needs_beam, needs_epmd]


def run_epmd(port, *arguments):
    """The real `epmd` command against the port: its exit code and what it printed."""
    done = subprocess.run(
        ["epmd", *arguments],
        env=beam_environment(port),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    return done.returncode, done.stdout + done.stderr


# ---- ours, asked by Erlang ----------------------------------------------------------------------------------------


def test_the_real_command_lists_our_names():
    with our_epmd() as port, epmd.register("foo", 4711, epmd_port=port), epmd.register("bär", 4712, epmd_port=port):
        code, text = run_epmd(port, "-names")
    assert code == 0
    assert text == (f"epmd: up and running on port {port} with data:\nname foo at port 4711\nname bär at port 4712\n")


def test_the_real_command_cannot_kill_ours_while_a_name_is_registered_and_can_afterwards():
    with EpmdServer(0) as server:
        with epmd.register("foo", 1, epmd_port=server.port):
            code, text = run_epmd(server.port, "-kill")
            assert (code, text) == (1, "Killing not allowed - living nodes in database.\n")
            run_epmd(server.port, "-stop", "foo")
            assert epmd.names(epmd_port=server.port) == {"foo": 1}
        assert until(lambda: epmd.names(epmd_port=server.port) == {})
        assert run_epmd(server.port, "-kill") == (0, "Killed\n")
        assert server.join(LIMIT)


def test_a_real_daemon_that_is_started_beside_ours_goes_away_by_itself():
    with our_epmd() as port, epmd.register("foo", 4711, epmd_port=port):
        run_epmd(port)  # in the foreground, where it would stay if the port were free
        assert epmd.names(epmd_port=port) == {"foo": 4711}


def test_a_beam_registers_with_ours_and_sees_our_names():
    program = (
        '{ok, Names} = net_adm:names(), {port, Port, 6} = erl_epmd:port_please("foo", {127, 0, 0, 1}), '
        'io:format("names ~w ~p ~p~n", [lists:sort(Names), Port, erlang:system_info(creation)])'
    )
    with (
        our_epmd() as port,
        epmd.register("foo", 4711, epmd_port=port),
        beam_node("beam", port, program=program) as beam,
    ):
        line = beam.line_with("names ")
        entry = epmd.port_please("beam", epmd_port=port)
        assert epmd.names(epmd_port=port) == {"foo": 4711, "beam": entry.port}
        assert entry.node_type == epmd.VISIBLE
        found = re.fullmatch(r"names \[(.*)\] 4711 (\d+)", line)
        assert found is not None
        assert str(entry.port) in found[1]
        assert int(found[2]) > 3


def test_two_beams_find_each_other_through_ours():
    with (
        our_epmd() as port,
        beam_node("one", port),
        beam_node("two", port, program='io:format("ping ~p~n", [net_adm:ping(one@localhost)])') as two,
    ):
        assert two.line_with("ping ") == "ping pong"


def test_a_beam_that_dies_loses_its_name_at_once():
    with our_epmd() as port, beam_node("beam", port) as beam:
        assert "beam" in epmd.names(epmd_port=port)
        beam.process.kill()
        beam.process.wait(LIMIT)
        assert until(lambda: epmd.names(epmd_port=port) == {})


def test_a_beam_cannot_have_the_name_of_a_node_of_ours():
    program = 'io:format("start ~p~n", [net_kernel:start([foo, shortnames])])'
    with our_epmd() as port, epmd.register("foo", 4711, epmd_port=port):
        done = subprocess.run(
            ["erl", "-noshell", "-start_epmd", "false", "-eval", f"{program}, halt()."],
            env=beam_environment(port),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert "start {error" in done.stdout
        assert epmd.names(epmd_port=port) == {"foo": 4711}


# ---- Erlang's, asked by us ----------------------------------------------------------------------------------------


@pytest.fixture(name="real", scope="module")
def fixture_real():
    with real_epmd() as port:
        yield port


def test_a_real_epmd_takes_our_name_and_gives_it_back(real):
    with epmd.register("mine", 4711, epmd_port=real) as registration:
        assert registration.creation > 3
        assert epmd.names(epmd_port=real) == {"mine": 4711}
        assert "mine" in epmd.dump(epmd_port=real)
        assert "name mine at port 4711" in run_epmd(real, "-names")[1]
        with pytest.raises(NameTakenError):
            epmd.register("mine", 4712, epmd_port=real)
        entry = epmd.port_please("mine", epmd_port=real)
        assert entry == epmd.AliveRequest("mine", 4711)
        assert not registration.lost()
        assert not epmd.kill(epmd_port=real)
    assert until(lambda: epmd.names(epmd_port=real) == {})


def test_a_real_epmd_keeps_what_kind_of_node_we_are(real):
    with epmd.register("shy", 4711, hidden=True, epmd_port=real):
        assert epmd.port_please("shy", epmd_port=real).node_type == epmd.HIDDEN
    assert until(lambda: epmd.port_please("shy", epmd_port=real) is None)


def test_we_list_the_beams_of_a_real_epmd(real):
    with beam_node("beam", real):
        entry = epmd.port_please("beam", epmd_port=real)
        assert epmd.names(epmd_port=real) == {"beam": entry.port}
        assert entry.highest == epmd.VERSION


def test_where_a_real_epmd_answers_ours_does_not_start(real):
    assert epmd.answers(epmd_port=real)
    with pytest.raises(OSError, match=r"(?i)in use"):
        EpmdServer(real)


def test_a_real_epmd_that_ends_is_noticed_and_can_be_told_to_end():
    with real_epmd() as port:
        assert epmd.kill(epmd_port=port)
    with EpmdServer(port):  # and the port is free for ours
        assert until(lambda: epmd.names(epmd_port=port) == {})
