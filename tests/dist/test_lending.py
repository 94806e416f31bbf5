"""The network thread runs what the bytes it has read made runnable. Nobody else may suffer when that lasts."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from otplib import Down, GenServer, Machine, NoReply, Ok, Reply, process, receive, run, self_
from tests.dist import nodes
from tests.dist.node_fixtures import new_name
from tests.dist.nodes import PythonPeer, machine_node, perform

ASKING = """
    async def ask(asker, server, request):
        send(asker, await GenServer.call(server, request, 30.0))
    async def race(node, slow):
        spawn(R.ask, self_(), ("slow", node), slow)
        while not await GenServer.call(("quick", node), "has it begun"):
            await sleep(0.001)
        spawn(R.ask, self_(), ("quick", node), "quick")
        return [await receive(), await receive()]
"""

began = threading.Event()


class Worker(GenServer):
    def init(self, arg):
        return Ok(None)

    def handle_call(self, request, caller, state):
        match request:
            case "has it begun":
                return Reply(began.is_set(), state)
            case ("loop", seconds):
                began.set()
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    pass
            case ("block", seconds):
                began.set()
                time.sleep(seconds)
        return Reply(request, state)

    def handle_cast(self, request, state):
        began.set()
        with contextlib.suppress(ZeroDivisionError):
            while True:
                pass
        return NoReply(state)


@pytest.fixture
def py(tidy, epmd_port):
    began.clear()
    with machine_node(new_name("py"), epmd_port) as machine:
        for name in ("slow", "quick"):
            run(lambda name: Worker.start(None, name=name), name)
        yield machine


@pytest.fixture
def caller(tidy, epmd_port):
    with nodes.python(new_name("foo"), epmd_port) as peer:
        peer.define("R", python=ASKING)
        yield peer


@pytest.mark.parametrize("slow", [("loop", 1.0), ("block", 1.0)])
def test_a_step_that_lasts_on_the_network_thread_keeps_no_other_message_waiting(
    py: Machine, caller: PythonPeer, slow: tuple[str, float]
) -> None:
    """Another thread has taken over the sockets before the slow step is over."""
    assert caller.eval(f"await R.race({py.node!r}, {slow!r})") == repr(["quick", slow])


def test_a_loop_on_the_network_thread_can_be_killed(py: Machine, caller: PythonPeer) -> None:
    caller.eval(f"GenServer.cast(('slow', {py.node!r}), 'for ever')")
    assert began.wait(30)

    async def scenario():
        slow = process.whereis("slow")
        ref = process.monitor(slow)
        process.exit(slow, "kill")
        down = await receive(Down, timeout=30)
        assert down.ref == ref
        return down.reason, await GenServer.call("quick", "here")

    assert perform(scenario) == ("killed", "here")
    assert caller.eval(f"await GenServer.call(('quick', {py.node!r}), 'there')") == repr("there")


def test_the_node_stops_while_a_process_loops_on_its_network_thread(
    tidy: None, epmd_port: int, caller: PythonPeer
) -> None:
    with machine_node(new_name("py"), epmd_port) as py:
        began.clear()
        run(lambda: Worker.start(None, name="slow"))
        caller.eval(f"GenServer.cast(('slow', {py.node!r}), 'for ever')")
        assert began.wait(30)
    assert "nodedown" in caller.eval(f"await node.ping({py.node!r}) == 'pang' and 'nodedown'")


def test_a_timer_that_is_set_during_a_loan_rings_in_time(py: Machine, caller: PythonPeer) -> None:
    """The lender sleeps without an end and the borrower has set the timer: it must wake the lender for it."""

    async def late():
        while True:
            _, name = await receive()
            process.send_after(name, "rung", 0.01)

    with nodes.on(py):
        process.register(process.spawn(late), "late")

        async def wait():
            process.register(self_(), "waiting")
            return await receive("rung", timeout=30)

        outcome = []
        waiter = threading.Thread(target=lambda: outcome.append(_run_on(py, wait)))
        waiter.start()
        caller.eval(f"send(('late', {py.node!r}), ('ring', 'waiting'))")
        waiter.join(40)
    assert outcome == ["rung"]


def _run_on(machine, scenario):
    with nodes.on(machine):
        return perform(scenario)
