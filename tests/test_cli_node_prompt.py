"""`otplib node NAME` in a real terminal: with IPython's prompt, and with Python's own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from otplib import node, rpc, self_, send
from otplib.dist import epmd
from tests.dist.beam import COOKIE, beam_node, needs_beam, our_epmd, until
from tests.dist.nodes import machine_node, perform
from tests.terminal import terminal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX's")


@pytest.fixture(name="port")
def fixture_port():
    with our_epmd() as port:
        yield port


@pytest.fixture(name="bar", params=[("--plain",), ()], ids=["plain", "ipython"])
def fixture_bar(request, port, tmp_path):
    """A terminal that is the node bar@localhost, at its first prompt."""
    if "--plain" not in request.param:
        pytest.importorskip("IPython")
    arguments = ("node", "bar@localhost", "--cookie", COOKIE, "--epmd-port", str(port), *request.param)
    with terminal(*arguments, IPYTHONDIR=str(tmp_path)) as opened:
        opened.expect("node bar@localhost")
        opened.expect("otplib(bar@localhost) 1> ")
        yield opened


def enter(bar, line, shown):
    """Type a line and wait for what it shows, which must not be in the line itself."""
    assert shown not in line
    bar.type(line + "\n")
    bar.expect(shown)


def test_lines_are_run_shown_and_numbered_and_the_end_of_the_input_ends_the_node(bar, port):
    enter(bar, "6 * 7", "42")
    bar.expect("otplib(bar@localhost) 2> ")
    enter(bar, "node.self_().upper()", "'BAR@LOCALHOST'")
    assert "bar" in epmd.names(epmd_port=port)
    bar.expect("otplib(bar@localhost) 3> ")
    bar.press_control("D")
    assert bar.expect_end() == 0
    assert until(lambda: epmd.names(epmd_port=port) == {})


def test_await_works_at_the_top_and_every_line_is_the_same_process(bar):
    enter(bar, "me = self_(); 'is ' + 'set'", "'is set'")
    enter(bar, "await process.blocking(lambda: 'on a' + ' thread')", "'on a thread'")
    enter(bar, "send(me, ['sent', 1 + 1]) and None", "3> ")
    enter(bar, "await receive(timeout=5)", "['sent', 2]")
    enter(bar, "import asyncio; [await asyncio.sleep(0.01, me == self_())]", "[True]")


def test_an_error_is_shown_as_the_users_own_lines_and_the_prompt_goes_on(bar):
    bar.type("await receive(timeout=0)\n")
    shown = bar.expect("otplib(bar@localhost) 2> ")
    assert "TimeoutError: receive() got no message within 0 s" in shown
    assert "waiting.py" not in shown
    bar.type("raise Exit('bo' + 'om')\n")
    assert '** (exit) "boom"' in bar.expect("otplib(bar@localhost) 3> ")


def test_the_shell_dies_with_what_it_is_linked_to_and_there_is_a_new_one(bar):
    enter(bar, "before = self_(); str(1) + 'st'", "'1st'")
    enter(
        bar, 'pid = spawn_link(lambda: exec(\'raise Exit("bo" + "om")\'))', 'shell process exited with reason: "boom"'
    )
    enter(bar, "self_() == before", "False")


def test_an_interrupt_ends_the_wait_and_not_the_node(bar):
    bar.type("print('wait' + 'ing'); await receive('never')\n")
    bar.expect("waiting")
    bar.press_control("C")
    bar.expect("otplib(bar@localhost) 2> ")
    enter(bar, "'still ' + 'here'", "'still here'")


def test_what_is_defined_here_is_called_by_others_and_prints_there(bar, port):
    bar.type("H = type('H', (), {'say': staticmethod(lambda: print('Hello' + ' World'))})\n")
    bar.expect("2> ")
    with machine_node("foo", port):

        async def scenario():
            return await rpc.call("bar@localhost", "H.say")

        assert perform(scenario) is None
    enter(bar, "'nothing' + ' here'", "'nothing here'")
    assert "Hello World" not in bar.screen


def test_what_a_process_spawned_on_another_node_prints_appears_in_this_terminal(bar, port):
    with machine_node("foo", port):
        enter(bar, "await node.connect('foo@localhost')", "True")
        enter(bar, "me = self_(); str(2) + 'nd'", "'2nd'")
        bar.type("await node.spawn_link('foo@localhost', lambda: print('Hello' + ' World')) and None\n")
        bar.expect("Hello World")

        async def greet():
            await node.connect("bar@localhost")
            send(("shell", "bar@localhost"), ("hi", self_()))

        enter(bar, "process.register(me, 'shell')", "True")
        perform(greet)
        enter(bar, "(await receive(('hi', ...), timeout=5))[0] * 2", "'hihi'")
        enter(bar, "node.list()", "['foo@localhost']")


@needs_beam
def test_a_real_beam_is_a_neighbour_of_the_terminal(bar, port):
    program = 'register(probe, self()), receive {Text, From} -> io:format("got ~s~n", [Text]), From ! {answer, 42} end'
    with beam_node("beam", port, program=program) as beam:
        enter(bar, "await node.ping('beam@localhost')", "'pong'")
        enter(bar, "send(('probe', 'beam@localhost'), ('a text', self_())) and None", "3> ")
        assert beam.line_with("got ") == "got a text"
        enter(bar, "(await receive((Atom('answer'), int), timeout=5))[1] + 1", "43")
        enter(bar, "await rpc.call('beam@localhost', ':erlang.node')", ":beam@localhost")


def test_the_prompt_names_the_node_only_while_it_is_one(bar, port):
    bar.type("await node.stop()\n")
    bar.expect("\notplib 2> ")
    bar.type(f"await node.start('baz@localhost', 'x', epmd_port={port})\n")
    bar.expect("otplib(baz@localhost) 3> ")


def test_exit_ends_the_terminal(bar):
    bar.type("exit()\n")
    assert bar.expect_end() == 0


def test_lines_from_a_pipe_are_run_too(port):
    done = subprocess.run(
        [sys.executable, "-m", "otplib.cli", "node", "bar@localhost", "--cookie", "x", "--epmd-port", str(port)],
        input="print(node.self_())\nawait receive(timeout=0)\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "bar@localhost" in done.stdout
    assert "TimeoutError" in done.stderr
