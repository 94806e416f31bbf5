"""Peers: other Python processes as linked nodes, that end with whoever started them and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from otplib import Down, Exit, ExitMessage, node, process, receive, rpc, run, self_, send, spawn, spawn_monitor
from otplib.core.errors import NodeError
from otplib.dist import peer as peers
from otplib.dist.peer import start_peer
from otplib.vm.machine import Machine
from tests.dist.beam import COOKIE, LIMIT, until
from tests.dist.node_fixtures import new_name
from tests.dist.nodes import perform

pytestmark = pytest.mark.skipif(os.name != "posix", reason="looks at processes as on POSIX")


def is_gone(os_pid: int) -> bool:
    """Whether an OS process has ended; one that its parent has not asked about counts as ended."""
    try:
        return Path(f"/proc/{os_pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def start(**options):
    """A peer and the number of its OS process."""
    peer = await start_peer(new_name("worker"), **options)
    return peer, await rpc.call(peer.node, "os.getpid")


def test_a_peer_is_another_process_and_a_connected_node_until_it_is_stopped(py):
    async def scenario():
        peer, os_pid = await start()
        assert os_pid != os.getpid()
        assert peer.node in node.list()
        assert await rpc.call(peer.node, "otplib.node.self_") == peer.node
        assert process.alive(peer.pid)
        assert peer.pid in process.info(self_(), "links")
        await peer.stop()
        assert is_gone(os_pid)
        assert not process.alive(peer.pid)
        assert await until_gone(peer.node)
        await peer.stop()  # a second time changes nothing

    perform(scenario)


async def until_gone(name):
    node.monitor(name)
    return await receive(("nodedown", name), timeout=LIMIT)


def test_a_peer_without_a_name_gets_one_that_nobody_has(py):
    async def scenario():
        first, second = await start_peer(), await start_peer()
        assert first.node != second.node
        assert {first.node, second.node} <= set(node.list())
        assert first.node.endswith("@localhost")

    perform(scenario)


def test_a_peer_has_our_python_path_folder_and_gives_functions_of_ours_back(py, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def answer(): return 42\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    async def scenario():
        peer, _ = await start(env={"OF_THE_PEER": "yes"})
        assert await rpc.call(peer.node, "only_here.answer") == 42
        assert await rpc.call(peer.node, "os.getcwd") == str(tmp_path)
        assert await rpc.call(peer.node, "os.getenv", "OF_THE_PEER") == "yes"
        assert await rpc.call(peer.node, lambda: sys.executable) == sys.executable
        base = 6
        return await rpc.call(peer.node, lambda n: base * n, 7)

    assert perform(scenario) == 42


def test_what_a_peer_writes_is_shown_here_also_what_its_processes_print(py, capfd):
    async def scenario():
        peer, _ = await start()
        await rpc.call(peer.node, print, "printed by a process that I spawned there")
        await rpc.call(peer.node, "os.write", 1, b"written by the process itself\n")
        await rpc.call(peer.node, "os.write", 2, "an error: \xe4\n".encode())
        await peer.stop()

    perform(scenario)
    shown = capfd.readouterr().out
    for line in ("printed by a process that I spawned there", "written by the process itself", "an error: \xe4"):
        assert f"{line}\n" in shown


def test_the_cookie_stands_neither_on_the_command_line_nor_in_the_environment(py):
    async def scenario():
        peer, os_pid = await start()
        for name in ("cmdline", "environ"):
            content = Path(f"/proc/{os_pid}/{name}").read_bytes()
            assert content
            assert COOKIE.encode() not in content
        assert COOKIE not in repr(process.info(peer.pid)) + repr(peer)

    perform(scenario)


def test_code_of_a_peer_that_reads_its_input_finds_none(py):
    async def scenario():
        peer, _ = await start()
        assert await rpc.call(peer.node, "os.read", 0, 10) == b""
        assert await rpc.call(peer.node, "os.getsid", 0) != os.getsid(0)  # Ctrl-C is not for it
        return await node.ping(peer.node)

    assert perform(scenario) == "pong"


def test_a_hidden_peer_is_hidden(py):
    async def scenario():
        peer, _ = await start(hidden=True)
        return peer.node in node.list(), peer.node in node.list("hidden")

    assert perform(scenario) == (False, True)


# ---- ends together ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["normal", "boom", "kill"])
def test_a_peer_ends_with_whoever_started_it_however_that_ends(py, reason):
    async def owner(parent):
        _, os_pid = await start()
        send(parent, os_pid)
        how = await receive()
        if how == "kill":
            process.exit(self_(), "kill")
        raise Exit(how)

    async def scenario():
        pid = spawn(owner, self_())
        os_pid = await receive(int, timeout=LIMIT)
        send(pid, reason)
        return os_pid

    os_pid = perform(scenario)
    assert until(lambda: is_gone(os_pid))


def test_a_peer_ends_when_the_process_that_stands_for_it_is_killed(py):
    async def scenario():
        process.flag(trap_exit=True)
        peer, os_pid = await start()
        process.exit(peer.pid, "kill")
        assert await receive(ExitMessage, timeout=LIMIT) == ExitMessage("EXIT", peer.pid, "killed")
        return os_pid

    os_pid = perform(scenario)
    assert until(lambda: is_gone(os_pid))


def test_a_peer_that_dies_takes_its_owner_along_unless_that_traps_exits(py):
    async def owner():
        _, os_pid = await start()
        os.kill(os_pid, signal.SIGKILL)
        await receive("never")

    async def scenario():
        _, ref = spawn_monitor(owner)
        down = await receive(Down, timeout=LIMIT)
        assert down.ref == ref
        assert down.reason == ("shutdown", ("peer_down", -signal.SIGKILL))
        process.flag(trap_exit=True)
        peer, os_pid = await start()
        os.kill(os_pid, signal.SIGKILL)
        message = await receive(ExitMessage, timeout=LIMIT)
        assert (message.pid, message.reason) == (peer.pid, ("shutdown", ("peer_down", -signal.SIGKILL)))
        assert await until_gone(peer.node)

    perform(scenario)


def test_a_peer_that_ends_by_itself_tells_its_status(py):
    async def scenario():
        process.flag(trap_exit=True)
        peer, _ = await start()
        rpc.cast(peer.node, "os._exit", 3)
        return (await receive(ExitMessage, timeout=LIMIT)).reason

    assert perform(scenario) == ("shutdown", ("peer_down", 3))


def test_a_frozen_peer_is_killed_when_its_time_is_over(py, monkeypatch):
    monkeypatch.setattr(peers, "GRACE", 0.2)

    async def scenario():
        peer, os_pid = await start()
        os.kill(os_pid, signal.SIGSTOP)
        await peer.stop()
        return os_pid

    assert is_gone(perform(scenario))


def test_a_peer_whose_exit_hangs_ends_all_the_same(py):
    async def scenario():
        peer, os_pid = await start()
        await rpc.call(peer.node, exec, "import atexit, time; atexit.register(time.sleep, 3600)")
        await peer.stop()
        return os_pid

    assert is_gone(perform(scenario))


STARTER = """
import sys
from otplib import node, rpc, run
from otplib.dist.peer import start_peer

async def main():
    await node.start("starter@localhost", "x", epmd_port=int(sys.argv[1]))
    peer = await start_peer("orphan")
    if sys.argv[2] == "busy":
        rpc.cast(peer.node, exec, "while True: pass")
    print(await rpc.call(peer.node, "os.getpid"), flush=True)
    if sys.argv[2] == "end":
        return
    if sys.argv[2] == "fork":
        import os, time
        if os.fork() == 0:
            print(os.getpid(), flush=True)
            time.sleep(3600)
    from otplib import receive
    await receive("never")

run(main)
"""


@pytest.mark.parametrize("how", ["kill", "end", "busy", "fork"])
def test_no_peer_outlives_the_os_process_that_started_it(epmd_port, tidy, how):
    """Killed, ended by itself, with a peer in an endless loop, and with a forked child that holds all it held open."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", STARTER, str(epmd_port), how], stdout=subprocess.PIPE, text=True
    ) as starter:
        try:
            os_pid = int(starter.stdout.readline())
            forked = int(starter.stdout.readline()) if how == "fork" else None
            if how != "end":
                assert not is_gone(os_pid)
                starter.kill()
            starter.wait(LIMIT)
            assert until(lambda: is_gone(os_pid))
        finally:
            starter.kill()
            if how == "fork":
                os.kill(forked, signal.SIGKILL)


def test_stopping_the_machine_ends_its_peers(epmd_port, tidy):
    with Machine():
        name = new_name("py")
        run(node.start, f"{name}@localhost", COOKIE, epmd_port=epmd_port)

        async def owner(parent):
            send(parent, await start())
            await receive("never")

        async def scenario():
            spawn(owner, self_())
            return await receive(timeout=LIMIT)

        _, os_pid = run(scenario, timeout=LIMIT)
    assert until(lambda: is_gone(os_pid))


# ---- does not come up ---------------------------------------------------------------------------------------------


def test_a_machine_that_is_no_node_has_no_peers():
    with Machine(), pytest.raises(NodeError, match=r'write await node\.start\("foo"\) first'):
        run(start_peer, "worker")


def test_a_peer_that_cannot_start_is_an_error_that_shows_what_it_said(py):
    async def scenario():
        with pytest.raises(NodeError) as caught:
            await start_peer(new_name("worker"), env={"PYTHONHOME": "/nowhere"})
        return str(caught.value)

    text = perform(scenario)
    assert "did not come up: it has ended with status" in text
    assert "Fatal Python error" in text


def test_a_name_that_another_node_has_is_an_error_that_says_so(py, epmd_port):
    async def scenario():
        peer, _ = await start()
        name = peer.node.partition("@")[0]
        with pytest.raises(NodeError, match=r"is running, or on its way, already"):
            await start_peer(name)
        with pytest.raises(NodeError, match=r"NameTakenError: epmd refuses the name"):
            await start_peer(node.self_().partition("@")[0])

    perform(scenario)


@pytest.mark.parametrize("name", ["two words", "a@", ""])
def test_a_wrong_name_is_refused_before_anything_is_started(py, name):
    async def scenario():
        with pytest.raises(NodeError):
            await start_peer(name or "@")

    perform(scenario)


def test_a_peer_that_is_too_slow_is_given_up_and_nothing_of_it_stays(py):
    async def scenario():
        with pytest.raises(NodeError, match=r"did not come up: it has not called within 0\.001 s"):
            await start_peer(new_name("worker"), timeout=0.001)

    perform(scenario)


def test_a_starter_that_is_killed_while_its_peer_comes_up_leaves_none(py, tmp_path):
    mark = tmp_path / "started"
    (tmp_path / "sitecustomize.py").write_text(
        f"import os\nopen({os.fspath(mark)!r}, 'w').write(str(os.getpid()))\n", encoding="utf-8"
    )

    async def owner():
        await start_peer(new_name("worker"), env={"PYTHONPATH": str(tmp_path)})
        await receive("never")

    async def scenario():
        pid = spawn(owner)
        assert await process.blocking(until, lambda: mark.exists() and mark.read_text(encoding="utf-8") != "")
        process.exit(pid, "kill")

    perform(scenario)
    assert until(lambda: is_gone(int(mark.read_text(encoding="utf-8"))))


def test_a_peer_may_start_a_peer_and_both_end_with_the_first_owner(py):
    async def scenario():
        peer, os_pid = await start()
        await node.spawn(peer.node, grandparent, self_())
        grandchild = await receive(int, timeout=LIMIT)
        assert not is_gone(grandchild)
        await peer.stop()
        return os_pid, grandchild

    os_pid, grandchild = perform(scenario)
    assert until(lambda: is_gone(os_pid) and is_gone(grandchild))


async def grandparent(asker):
    child = await start_peer()
    send(asker, await rpc.call(child.node, "os.getpid"))
    await receive("never")
