"""The commands about nodes, run as a person runs them; the prompt has a file of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from otplib import cli, node, run
from otplib.dist import epmd
from otplib.dist.epmd_server import EpmdServer
from tests.dist import nodes
from tests.dist.beam import COOKIE, LIMIT, beam_node, needs_beam, our_epmd, until
from tests.dist.certificates import Authority, needs_openssl
from tests.dist.nodes import machine_node, no_leftovers


@pytest.fixture(name="port")
def fixture_port():
    with our_epmd() as port:
        yield port


@pytest.fixture(name="free_port")
def fixture_free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def otplib(*arguments, **options):
    """Run the command to its end: status, output, errors."""
    done = subprocess.run(
        [sys.executable, "-m", "otplib.cli", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT * 2,
        **options,
    )
    return done.returncode, done.stdout, done.stderr


@contextlib.contextmanager
def started(*arguments):
    """Run the command until the block is done; its first line has come."""
    with subprocess.Popen(
        [sys.executable, "-m", "otplib.cli", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            process.first_line = process.stdout.readline()
            yield process
        finally:
            process.kill()


# ---- names --------------------------------------------------------------------------------------------------------


def test_names_lists_who_is_registered(port):
    with epmd.register("foo", 4711, epmd_port=port), epmd.register("bar", 4712, epmd_port=port):
        assert otplib("names", "--epmd-port", port) == (0, "bar at port 4712\nfoo at port 4711\n", "")


def test_names_without_an_epmd_says_that_no_node_runs(free_port):
    status, out, err = otplib("names", "--epmd-port", free_port)
    assert (status, out) == (1, "")
    assert err == f"otplib: no node runs on this machine: no epmd answers on port {free_port}\n"


# ---- ping and rpc -------------------------------------------------------------------------------------------------


@pytest.fixture(name="foo")
def fixture_foo(port):
    """A node of this OS process: its name, and how the command reaches it."""
    with no_leftovers(), machine_node("foo", port):
        yield "foo@localhost", "--epmd-port", port, "--cookie", COOKIE


def test_ping_of_a_node_that_answers_is_a_pong(foo):
    assert otplib("ping", *foo) == (0, "pong\n", "")
    assert node.list("connected") == [] or until(lambda: node.list("connected") == [])


def test_ping_of_nobody_and_with_another_cookie_is_a_pang_and_status_1(foo, port):
    assert otplib("ping", "nobody@localhost", *foo[1:]) == (1, "pang\n", "")
    assert otplib("ping", "foo@localhost", "--epmd-port", port, "--cookie", "wrong") == (1, "pang\n", "")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["math.sqrt", "2.25"], "1.5\n"),
        (["builtins.abs", "-3"], "3\n"),
        (["builtins.str.upper", "'hi'"], "'HI'\n"),
        (["otplib.node.self_"], "'foo@localhost'\n"),
    ],
)
def test_rpc_shows_the_result(foo, arguments, shown):
    assert otplib("rpc", foo[0], *arguments, *foo[1:]) == (0, shown, "")


def test_what_the_function_prints_appears_here(port):
    with nodes.python("foo", port) as peer:
        options = ("--epmd-port", port, "--cookie", COOKIE)
        shown = otplib("rpc", peer.name, "builtins.print", "'said there'", "1", *options)
        assert shown == (0, "said there 1\nNone\n", "")
        assert peer.output == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["math.sqrt", "'x'"], "otplib: math.sqrt raised on foo@localhost: TypeError: must be real number, not str\n"),
        (["math.nothing"], "otplib: there is no function math.nothing on foo@localhost\n"),
        (["time.sleep", "1", "--timeout", "0.1"], "otplib: time.sleep did not return within 0.1 s\n"),
        (["two words"], "otplib: there is no function two words on foo@localhost\n"),
    ],
)
def test_an_rpc_that_fails_says_why_in_one_line(foo, arguments, why):
    status, out, err = otplib("rpc", foo[0], *arguments, *foo[1:])
    assert (status, out, err) == (1, "", why)


def test_an_rpc_to_nobody_says_that_nobody_answers(foo):
    assert otplib("rpc", "nobody@localhost", "math.sqrt", "4", *foo[1:]) == (
        1,
        "",
        "otplib: no node nobody@localhost answers, or it has another cookie\n",
    )


def test_an_argument_that_is_no_literal_is_refused_with_the_way_to_write_it():
    status, out, err = otplib("rpc", "foo", "builtins.print", "hello")
    assert (status, out) == (2, "")
    assert "'hello' is no literal of Python's; a text has its own quotes, as in '\"hello\"', an atom a colon" in err


@pytest.mark.parametrize("command", [["ping", "two words"], ["ping", "foo@"], ["node", "a b", "--no-prompt"]])
def test_a_wrong_name_is_one_line(command):
    status, out, err = otplib(*command)
    assert (status, out) == (1, "")
    assert re.fullmatch(r"otplib: '.*' cannot be the name of a node: .*\n", err)


@needs_beam
def test_ping_and_rpc_reach_a_real_beam(port):
    options = ("--epmd-port", port, "--cookie", COOKIE)
    with beam_node("beam", port):
        assert otplib("ping", "beam@localhost", *options) == (0, "pong\n", "")
        assert otplib("rpc", "beam@localhost", ":lists.reverse", "[1, 2, 3]", *options) == (0, "[3, 2, 1]\n", "")
        release = otplib("rpc", "beam@localhost", ":erlang.system_info", ":otp_release", *options)[1]
        assert re.search(r"\d\d", release)
        status, _, err = otplib("rpc", "beam@localhost", ":lists.nothing", *options)
        assert (status, err) == (1, "otplib: there is no function :lists.nothing on beam@localhost\n")


def test_a_long_name_is_asked_by_a_long_name(port):
    with machine_node("x", port):
        run(node.stop)
        run(node.start, "foo@127.0.0.1", COOKIE, epmd_port=port)
        assert otplib("ping", "foo@127.0.0.1", "--epmd-port", port, "--cookie", COOKIE) == (0, "pong\n", "")


# ---- node without a prompt ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_without_a_prompt_is_there_until_it_is_told_to_end(port, number):
    options = ("--epmd-port", port, "--cookie", "x")
    with started("node", "foo@localhost", "--no-prompt", "--hidden", *options) as process:
        assert process.first_line == "node foo@localhost is up\n"
        assert epmd.port_please("foo", epmd_port=port).node_type == epmd.HIDDEN
        assert otplib("ping", "foo@localhost", *options)[:2] == (0, "pong\n")
        process.send_signal(number)
        assert process.wait(LIMIT) == 0
    assert until(lambda: epmd.names(epmd_port=port) == {})


def test_two_terminals_find_each_other_with_no_setup(free_port, tmp_path):
    """No epmd, no cookie file, no option but the port: as on a learner's machine that never had an Erlang."""
    home = {**os.environ, "HOME": str(tmp_path), "ERL_EPMD_PORT": str(free_port)}
    with subprocess.Popen(
        [sys.executable, "-m", "otplib.cli", "node", "foo", "--no-prompt"], env=home, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline().startswith("node foo@")
            assert otplib("ping", "foo", env=home) == (0, "pong\n", "")
            assert otplib("names", env=home)[1].startswith("foo at port ")
        finally:
            process.kill()
    assert (tmp_path / ".erlang.cookie").stat().st_mode & 0o777 == 0o600


def test_a_cookie_file_that_others_may_read_is_refused_in_one_line(tmp_path, port):
    path = tmp_path / ".erlang.cookie"
    path.write_text("SECRET", encoding="ascii")
    path.chmod(0o644)
    os.utime(path, (0, 0))
    status, _, err = otplib("ping", "foo", "--epmd-port", port, env={**os.environ, "HOME": str(tmp_path)})
    assert status == 1
    assert err.count("\n") == 1
    assert f"chmod 600 {path}" in err
    assert "SECRET" not in err


def test_a_name_that_is_taken_is_one_line(foo, port):
    status, out, err = otplib("node", "foo@localhost", "--no-prompt", *foo[1:])
    assert (status, out) == (1, "")
    assert err == "otplib: epmd refuses the name 'foo': another node has it\n"


@needs_openssl
def test_the_certificates_of_tls_are_given_as_files(port, tmp_path):
    authority = Authority(tmp_path)
    certificate, key = authority.certify("localhost")
    files = ("--certfile", certificate, "--keyfile", key, "--cafile", authority.cafile)
    options = ("--epmd-port", port, "--cookie", "x")
    with started("node", "foo@localhost", "--no-prompt", *files, *options):
        assert otplib("ping", "foo@localhost", *files, *options)[:2] == (0, "pong\n")
        assert otplib("ping", "foo@localhost", *options)[:2] == (1, "pang\n")
    status, _, err = otplib("ping", "foo", "--certfile", certificate)
    assert (status, err) == (1, "otplib: --certfile needs --cafile: who signs the certificates of the other nodes\n")
    status, _, err = otplib("ping", "foo", "--cafile", certificate)
    assert (status, err) == (1, "otplib: --keyfile and --cafile need --certfile\n")


# ---- epmd ---------------------------------------------------------------------------------------------------------


def test_epmd_runs_in_the_foreground_until_it_is_told_to_end(free_port):
    with started("epmd", "--port", free_port) as process:
        assert process.first_line == f"epmd listens on port {free_port}\n"
        with epmd.register("foo", 4711, epmd_port=free_port):
            assert otplib("epmd", "--port", free_port, "--names") == (0, "foo at port 4711\n", "")
            status, _, err = otplib("epmd", "--port", free_port, "--kill")
            assert status == 1
            assert "stays: nodes are registered" in err
        assert until(lambda: epmd.names(epmd_port=free_port) == {})
        assert otplib("epmd", "--port", free_port, "--kill") == (0, "killed\n", "")
        assert process.wait(LIMIT) == 0
    assert otplib("epmd", "--port", free_port, "--kill") == (1, "", f"otplib: no epmd answers on port {free_port}\n")


def test_a_second_epmd_says_that_there_is_one(port):
    assert otplib("epmd", "--port", port) == (
        1,
        "",
        f"otplib: cannot listen on port {port}: an epmd is there already\n",
    )


@pytest.mark.skipif(shutil.which("epmd") is None, reason="no epmd on this machine (apt install erlang)")
def test_the_real_epmd_command_and_ours_show_the_same_names(free_port):
    with EpmdServer(free_port), epmd.register("foo", 4711, epmd_port=free_port):
        theirs = subprocess.run(
            ["epmd", "-port", str(free_port), "-names"], capture_output=True, text=True, timeout=LIMIT
        ).stdout
        assert "name foo at port 4711" in theirs
        assert otplib("names", "--epmd-port", free_port)[1] == "foo at port 4711\n"


# ---- the command line ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["node", "names", "ping", "rpc", "epmd"])
def test_every_command_has_a_help_and_the_main_one_names_it(command, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    assert f"usage: otplib {command}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert re.search(rf"^    {command} ", capsys.readouterr().out, flags=re.MULTILINE)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "many"])
def test_a_port_that_is_none_is_refused(port, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["names", "--epmd-port", port])
    assert end.value.code == 2
    assert f"invalid port value: '{port}'" in capsys.readouterr().err or port == "-1"
