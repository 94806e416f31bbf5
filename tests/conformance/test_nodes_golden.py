"""The tutorial's two terminals, `golden/04` to `golden/04g`: a machine of ours as bar beside a real foo, an otplib foo
beside a real `iex --sname bar`, and both ends ours."""

from __future__ import annotations

import logging

import pytest

from otplib import (
    Atom,
    Exit,
    GenServer,
    NameTakenError,
    RpcError,
    erpc,
    node,
    process,
    receive,
    rpc,
    run,
    self_,
    send,
)
from otplib.testing import assert_receive
from otplib.vm.machine import Machine
from tests.conformance.processes import flush
from tests.conformance.shell_session import Session
from tests.dist import nodes
from tests.dist.beam import COOKIE, LIMIT
from tests.dist.node_fixtures import KINDS
from tests.dist.nodes import machine_node, perform, showing, until
from tests.dist.terminal import iex

FOO, GHOST = "foo@localhost", "ghost@localhost"

#: What is typed in terminal foo.
H = {
    "elixir": """
        def say, do: IO.puts("Hello World")
        def wait, do: Process.sleep(:infinity)
        def oops, do: raise("oops")
        def leave(reason), do: exit(reason)
        def where(to), do: send(to, {node(), self(), Process.group_leader(), node(Process.group_leader())})
    """,
    "python": """
        def say(): print("Hello World")
        async def wait(): await receive("never")
        def oops(): raise RuntimeError("oops")
        def leave(reason): raise Exit(reason)
        def where(to):
            leader = process.group_leader()
            send(to, (node.self_(), self_(), leader, leader.node))
    """,
}


@pytest.fixture(params=KINDS)
def foo(request, tidy, epmd_port):
    """Terminal foo, with H."""
    with request.param("foo", epmd_port) as peer:
        peer.define("H", **H)
        yield peer


@pytest.fixture
def bar(foo, epmd_port):
    """Terminal bar: this thread's shell."""
    with machine_node("bar", epmd_port) as machine:
        yield machine


def test_04_bar_runs_a_function_of_foo_and_sees_what_it_prints(foo, bar):
    """04_two_nodes.exs"""

    async def main(screen):
        assert node.list() == []
        pid = await node.spawn_link(FOO, "H.say")
        screen.shows("Hello World\n")
        assert pid.node == FOO
        assert node.list() == [FOO]
        assert await rpc.call(FOO, "H.say") in ("ok", None)  # IO.puts gives :ok, print None
        screen.shows("Hello World\n")
        await node.spawn_link(FOO, "H.where", self_())
        where, itself, leader, led_from = await receive(timeout=LIMIT)
        assert (where, itself.node) == (FOO, FOO)
        assert (leader, led_from) == (process.group_leader(), "bar@localhost")
        assert await erpc.call(FOO, "H.say") in ("ok", None)
        screen.shows("Hello World\n")
        with pytest.raises(RpcError) as caught:
            await rpc.call(FOO, "H.nope")
        assert caught.value.reason == ("EXIT", ("undef", [("Elixir.H", "nope", [], [])]))
        with pytest.raises(RpcError) as caught:
            await rpc.call(FOO, "H.leave", Atom("boom"))
        assert caught.value.reason == ("EXIT", "boom")
        with pytest.raises(RpcError) as caught:
            await rpc.call("nohost@localhost", "H.say")
        assert caught.value.reason == "nodedown"
        with pytest.raises(RpcError) as caught:
            await rpc.call(FOO, "H.wait", timeout=0.1)
        assert caught.value.reason == "timeout"

    with showing() as screen:
        perform(main, screen)
    assert foo.output == []


def test_04_the_shell_itself_does_so_line_by_line(foo, bar):
    """04_two_nodes.txt, as typed in cells"""
    with showing() as screen:
        assert process.drive(node.spawn_link(FOO, "H.say")).node == FOO
        screen.shows("Hello World\n")
        process.drive(rpc.call(FOO, "H.say"))
        screen.shows("Hello World\n")
        process.drive(node.spawn_link(FOO, "H.where", self_()))
        assert process.drive(receive(timeout=LIMIT))[2:] == (process.group_leader(), "bar@localhost")


@nodes.needs_elixir
def test_04_hello_world_appears_in_the_terminal_of_a_real_iex(tidy, epmd_port):
    """04_two_nodes.txt, with foo a Python"""
    with nodes.python("foo", epmd_port) as foo, iex("bar", epmd_port, COOKIE) as bar:
        foo.define("H", **H)
        bar.type("Node.list()")
        assert bar.shows("[]")
        bar.type('Node.spawn_link :"foo@localhost", H, :say, []')
        assert bar.shows("Hello World\n")
        assert bar.shows("#PID<")
        bar.type("Node.list()")
        assert bar.shows("[:foo@localhost]")
        bar.type(':rpc.call(:"foo@localhost", H, :say, [])')
        assert bar.shows("Hello World\n", times=2)
        assert bar.shows("nil\n")
        bar.type('Node.spawn_link(:"foo@localhost", :builtins, :print, ["hi", :there])')
        assert bar.shows("\nhi there\n")
        bar.type(':rpc.call(:"foo@localhost", H, :nope, [])')
        assert bar.shows("{:badrpc, {:EXIT, {:undef, [{H, :nope, [], []}]}}}")
        bar.type(':erpc.call(:"foo@localhost", H, :leave, [:boom])')
        assert bar.shows("** (exit) {:exception, :boom}")
        bar.type(':erpc.call(:"foo@localhost", H, :oops, [])')
        assert bar.shows('%RuntimeError{message: "RuntimeError: oops"}')
        bar.type('Node.spawn_link :"foo@localhost", H, :oops, []')
        assert bar.shows("shell process exited with reason: an exception was raised:")
        assert not any("Hello" in line for line in foo.output)


def test_04b_when_foo_is_killed_bar_hears_of_it_by_every_way_it_asked_for(foo, bar):
    """04b_connect_monitor.exs"""

    async def main():
        assert await node.connect(FOO) is True
        assert node.list() == [FOO]
        assert await node.connect("nohost@localhost") is False
        assert await node.ping(FOO) == "pong"
        assert await node.ping("nohost@localhost") == "pang"
        assert node.monitor(FOO) is True
        remote = await node.spawn(FOO, "H.wait")
        ref = process.monitor(remote)
        process.flag(trap_exit=True)
        linked = await node.spawn_link(FOO, "H.wait")
        foo.kill()
        for wanted in (
            ("EXIT", linked, "noconnection"),
            ("nodedown", FOO),
            ("DOWN", ref, "process", remote, "noconnection"),
        ):
            await assert_receive(wanted, timeout=LIMIT)
        assert await flush() == []
        assert node.list() == []
        assert send(remote, "hello") == "hello"
        assert send(("shell", FOO), "hello") == "hello"
        again = process.monitor(remote)
        await assert_receive(("DOWN", again, "process", remote, "noconnection"))
        local = await node.spawn_link(FOO, "H.wait")
        assert local.node == "bar@localhost"
        await assert_receive(("EXIT", local, "noconnection"))
        assert await flush() == []

    perform(main)


def test_04c_a_shell_that_is_linked_to_foo_dies_with_it_and_a_new_one_goes_on(foo, bar):
    """04c_linked_shell_dies.exs"""
    session = Session(bar, {"node": node, "FOO": FOO})
    linked = session.show(">>> await node.spawn_link(FOO, 'H.wait')")
    assert "#PID<foo@localhost." in linked
    shell = self_()
    foo.kill()
    assert until(lambda: self_() != shell)
    assert "shell process exited with reason: no connection" in session._death
    assert session.show(">>> node.list()").endswith("[]\n")


def test_04d_with_a_wrong_cookie_nothing_reaches_foo_until_the_right_one_is_set(tidy, epmd_port, caplog):
    """04d_wrong_cookie.exs"""
    caplog.set_level(logging.INFO, logger="otplib")
    with nodes.python("foo", epmd_port, cookie="right") as foo, machine_node("bar", epmd_port, cookie="wrong"):

        async def main():
            assert await node.connect(FOO) is False
            pid = await node.spawn(FOO, "H.say")
            assert pid.node == "bar@localhost"
            assert any("Can not start" in record.message and FOO in record.message for record in caplog.records)
            assert node.set_cookie(FOO, "right") is True
            assert await node.connect(FOO) is True

        perform(main)
        assert foo.prints("** Connection attempt from node bar@localhost rejected: invalid challenge reply **")
        assert foo.eval("node.list()") == "['bar@localhost']"


def test_04f_the_name_of_a_living_node_cannot_be_taken(foo, epmd_port):
    """04f_same_name.exs"""
    with Machine(), pytest.raises(NameTakenError, match="'foo': another node"):
        run(node.start, FOO, COOKIE, epmd_port=epmd_port)
    assert foo.eval(elixir='"#{node()}"', python="node.self_()").strip("'\"") == FOO


@nodes.needs_elixir
def test_04f_a_beam_cannot_take_the_name_of_a_python_node(tidy, epmd_port):
    """04f_same_name.txt"""
    with (
        nodes.python("foo", epmd_port),
        pytest.raises(AssertionError, match="in use by another"),
        nodes.beam("foo", epmd_port),
    ):
        pass


def test_04g_what_crashes_on_foo_is_logged_there_and_at_bar_which_had_it_spawned(foo, bar, caplog):
    """04g_remote_crash_logs.exs"""

    def logged(*words):
        return any(all(word in record.getMessage() for word in words) for record in caplog.records)

    async def main():
        process.flag(trap_exit=True)
        pid = await node.spawn_link(FOO, "H.oops")
        _, _, (error, _) = await receive(("EXIT", pid, ...), timeout=LIMIT)
        assert "oops" in str(error)
        assert foo.prints("raised an exception")
        assert foo.prints("(RuntimeError) oops")
        assert until(lambda: logged(repr(pid), "raised an exception", "oops"))
        pid = await node.spawn_link(FOO, "H.leave", Atom("normal"))
        assert await receive() == ("EXIT", pid, "normal")
        pid, ref = await node.spawn_monitor(FOO, "OnlyBar.hi")
        assert (await receive(("DOWN", ref, ..., ..., ...))).reason == ("undef", [("Elixir.OnlyBar", "hi", [], [])])

    perform(main)


def test_04g_calls_to_servers_that_are_not_there_say_why(foo, bar):
    """04g_remote_crash_logs.txt"""

    async def main():
        with pytest.raises(Exit) as caught:
            await GenServer.call(("nobody", FOO), "hello")
        assert caught.value.reason[0] == "noproc"
        assert "no process: the process is not alive" in str(caught.value)
        with pytest.raises(Exit) as caught:
            await GenServer.call(("nobody", GHOST), "hello")
        assert caught.value.reason[0] == ("nodedown", GHOST)
        assert f"no connection to {GHOST}" in str(caught.value)
        GenServer.cast(("nobody", GHOST), "hello")

    perform(main)
