"""Section 7: spawning, links, monitors and messages between two nodes. Each with a real BEAM, and with a Python."""

from __future__ import annotations

import pytest

from otplib import Atom, Down, ExitMessage, node, process, receive, self_, send, spawn
from otplib.testing import assert_receive
from tests.conformance.processes import end_of, flush, idle
from tests.dist.beam import LIMIT
from tests.dist.nodes import perform

GHOST = "ghost@localhost"

#: What the scripts define on the other node, in each language.
R = {
    "elixir": """
        def die(reason), do: exit(reason)
        def wait, do: Process.sleep(:infinity)
        def me(to), do: send(to, {:i_am, self(), node(), inspect(self())})
        def leave_when_told do
            Process.register(self(), :w)
            receive do reason -> exit(reason) end
        end
        def count(to) do
            for i <- 1..5000, do: send(to, i)
            exit(:end)
        end
    """,
    "python": """
        def die(reason): raise Exit(reason)
        async def wait(): await receive("never")
        def me(to): send(to, ("i_am", self_(), node.self_(), repr(self_())))
        async def leave_when_told():
            process.register(self_(), "w")
            raise Exit(await receive())
        def count(to):
            for i in range(1, 5001): send(to, i)
            raise Exit("end")
    """,
}


def test_y01_a_process_spawned_on_a_node_is_that_node_s(py, foo):
    """y01_remote_pid.exs; a pid shows its node's name where Elixir shows a number that stands for it"""
    foo.define("R", **R)

    async def main():
        pid = await node.spawn(foo.name, "R.me", self_())
        _, itself, where, shown_there = await receive(("i_am", ..., ..., ...))
        assert itself == pid
        assert pid.node == where == foo.name
        assert shown_there.startswith("#PID<0.")
        assert repr(pid) == shown_there.replace("<0.", f"<{foo.name}.")

    perform(main)


def test_y02_a_link_across_nodes_carries_the_reason_exactly(py, foo):
    """y02_link_remote.exs"""
    foo.define("R", **R)

    async def linked(reason):
        await node.spawn_link(foo.name, "R.die", reason)
        await idle()

    async def main():
        assert await end_of(linked, (Atom("my"), "reason")) == ("my", "reason")
        assert await end_of(linked, Atom("normal"), timeout=0.3) == "still_alive"
        process.flag(trap_exit=True)
        pid = await node.spawn_link(foo.name, "R.die", Atom("normal"))
        assert await receive(ExitMessage) == ExitMessage("EXIT", pid, "normal")

    perform(main)


def test_y03_when_a_node_dies_links_and_monitors_say_noconnection_and_the_node_is_reported_down(py, start):
    """y03_nodedown_link_monitor.exs"""
    foo, bar = start(), start()
    foo.define("R", **R)
    bar.define("R", **R)

    async def linked(to):
        await node.spawn_link(bar.name, "R.wait")
        send(to, "linked")
        await idle()

    async def main():
        process.flag(trap_exit=True)
        a = await node.spawn_link(foo.name, "R.wait")
        b = await node.spawn(foo.name, "R.wait")
        ref = process.monitor(b)
        node.monitor(foo.name)
        foo.kill()
        got = [await receive(timeout=LIMIT) for _ in range(3)]
        assert ExitMessage("EXIT", a, "noconnection") in got
        assert Down("DOWN", ref, "process", b, "noconnection") in got
        assert ("nodedown", foo.name) in got
        assert foo.name not in node.list()

        async def kill_when_linked():
            await receive("linked")
            bar.kill()

        assert await end_of(linked, spawn(kill_when_linked), timeout=LIMIT) == "noconnection"
        assert await flush() == []

    perform(main)


def test_y04_monitoring_a_node_is_counted_and_one_that_is_not_there_is_down_at_once(py, start):
    """y04_node_monitor_many.exs"""
    foo = start()

    async def main():
        assert await node.connect(foo.name)
        assert node.monitor(foo.name) is True
        assert node.monitor(foo.name) is True
        foo.kill()
        assert await receive(timeout=LIMIT) == ("nodedown", foo.name)
        assert await flush() == [("nodedown", foo.name)]
        assert node.monitor(GHOST) is True
        await assert_receive(("nodedown", GHOST))
        assert await flush() == []

    perform(main)


def test_y06_spawning_on_a_node_that_is_not_there_gives_a_pid_and_the_error_comes_as_a_signal(py):
    """y06_spawn_unreachable.exs"""

    async def linked():
        await node.spawn_link(GHOST, "R.wait")
        await idle()

    async def main():
        pid = await node.spawn(GHOST, "R.wait")
        assert pid.node == node.self_()
        assert await flush() == []
        assert await end_of(linked) == "noconnection"
        process.flag(trap_exit=True)
        pid = await node.spawn_link(GHOST, "R.wait")
        assert await flush() == [ExitMessage("EXIT", pid, "noconnection")]
        pid, ref = await node.spawn_monitor(GHOST, "R.wait")
        assert await flush() == [Down("DOWN", ref, "process", pid, "noconnection")]

    perform(main)


def test_y07_a_message_to_whatever_is_not_there_is_lost_without_a_word(py, start):
    """y07_send_remote.exs"""
    foo = start()
    foo.define("R", **R)

    async def main():
        dead, ref = await node.spawn_monitor(foo.name, "R.die", Atom("normal"))
        await receive(("DOWN", ref, ..., ..., ...))
        assert send(dead, "x") == "x"
        assert send(("nobody", foo.name), "x") == "x"
        assert send(("nobody", GHOST), "x") == "x"
        node.monitor(foo.name)
        foo.kill()
        await receive(("nodedown", foo.name))
        assert send(dead, "x") == "x"
        assert await flush() == []

    perform(main)


def test_y17_a_process_of_another_node_can_be_signalled_but_not_inspected(py, foo):
    """y17_remote_bifs.exs; asked there, the node says None of what is not its own"""
    foo.define("R", **R)

    async def main():
        pid = await node.spawn(foo.name, "R.wait")
        with pytest.raises(ValueError, match="a pid of this node"):
            process.alive(pid)
        with pytest.raises(ValueError, match="a pid of this node"):
            process.info(pid)
        with pytest.raises(ValueError, match="a pid of this node"):
            process.register(pid, "x")
        ref = process.monitor(pid)
        assert process.link(pid) is True
        assert process.unlink(pid) is True
        assert process.exit(pid, "kill") is True
        assert await receive() == Down("DOWN", ref, "process", pid, "killed")
        assert await flush() == []

    perform(main)


def test_y19_a_monitor_of_a_name_and_node_says_so(py, foo):
    """y19_monitor_name_remote.exs"""
    foo.define("R", **R)

    async def main():
        await node.spawn(foo.name, "R.leave_when_told")
        target = ("w", foo.name)
        while True:  # until it has registered
            first = process.monitor(target)
            try:
                await receive(("DOWN", first, ..., ..., "noproc"), timeout=0.1)
            except TimeoutError:
                break
        send(target, Atom("bye"))
        assert await receive() == Down("DOWN", first, "process", target, "bye")
        again = process.monitor(target)
        assert await receive() == Down("DOWN", again, "process", target, "noproc")
        ghost = process.monitor(("w", GHOST))
        assert await receive() == Down("DOWN", ghost, "process", ("w", GHOST), "noconnection")

    perform(main)


def test_y23_a_function_travels_between_pythons_and_to_a_beam_by_its_name_alone(py, foo):
    """y23_fun_missing_module.exs; a closure of a cell works on a Python node, and a BEAM could not run it"""
    foo.define("R", **R)

    async def main():
        process.flag(trap_exit=True)
        here = self_()
        if foo.language == "python":
            pid = await node.spawn_link(foo.name, lambda: send(here, ("ran on", self_().node)))
            assert await receive(("ran on", ...)) == ("ran on", foo.name)
            assert await receive() == ExitMessage("EXIT", pid, "normal")
        else:
            with pytest.raises(TypeError, match="Python nodes alone"):
                await node.spawn_link(foo.name, lambda: None)
            assert await flush() == []
        pid = await node.spawn_link(foo.name, "R.die", Atom("normal"))
        assert await receive() == ExitMessage("EXIT", pid, "normal")

    perform(main)


def test_y23_a_closure_of_a_beam_fails_here_as_on_any_node_without_its_module_and_a_capture_works(py, beam):
    """y23_fun_missing_module.exs, from the other side"""
    beam.eval("Process.flag(:trap_exit, true)")
    beam.eval(f"Node.spawn_link(:{py.node}, fn -> :ok end)")
    assert "undef" in beam.eval("{:EXIT, _, reason} = Otplib.next()")
    beam.eval(f"Node.spawn_link(:{py.node}, &:os.getpid/0)")
    assert beam.eval("{:EXIT, _, reason} = Otplib.next(); reason") == ":normal"


def test_y27_messages_keep_their_order_and_the_exit_signal_comes_after_them(py, foo):
    """y27_order_remote.exs"""
    foo.define("R", **R)

    async def main():
        _, ref = await node.spawn_monitor(foo.name, "R.count", self_())
        got = [await receive(timeout=LIMIT) for _ in range(5001)]
        assert got[:-1] == list(range(1, 5001))
        assert got[-1][:2] == ("DOWN", ref)
        assert got[-1].reason == "end"

    perform(main)
