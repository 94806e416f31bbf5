"""The harness itself: it sees what is left behind, and says why a peer did not start or a scenario hung."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from otplib import receive
from otplib.vm.machine import Machine
from tests.dist import nodes


def test_a_thread_that_is_left_behind_is_named():
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="forgotten")
    with pytest.raises(AssertionError, match="forgotten"), nodes.no_leftovers(limit=0.05):
        thread.start()
    done.set()
    thread.join()


def test_a_socket_and_a_pipe_that_are_left_behind_are_seen():
    with pytest.raises(AssertionError, match="socket:"), nodes.no_leftovers(limit=0.05):
        one, two = socket.socketpair()
    with pytest.raises(AssertionError, match="pipe:"), nodes.no_leftovers(limit=0.05):
        ends = os.pipe()
    one.close()
    two.close()
    for end in ends:
        os.close(end)


def test_a_child_that_is_left_behind_is_seen():
    with pytest.raises(AssertionError, match="a child"), nodes.no_leftovers(limit=0.05):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    child.communicate()


def test_what_is_tidied_up_is_no_leftover():
    with nodes.no_leftovers():
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        subprocess.run([sys.executable, "-c", ""], check=True)


def test_a_peer_that_does_not_start_says_why(epmd_port):
    with pytest.raises(AssertionError, match=r"name@with@too@many"), nodes.python("name@with@too@many", epmd_port):
        pass


def test_a_scenario_that_hangs_says_where(monkeypatch):
    async def waits_for_ever():
        await receive("never")

    monkeypatch.setattr(nodes, "LIMIT", 1.2)
    with Machine(), pytest.raises(AssertionError, match="waits_for_ever"):
        nodes.perform(waits_for_ever)


def test_a_frozen_peer_says_nothing_and_goes_on_when_it_thaws(epmd_port):
    with nodes.no_leftovers(), nodes.python("", epmd_port) as peer:
        peer.freeze()
        peer.ask("1 + 1")
        peer.thaw()
        assert peer.answer() == "2"
        assert peer.eval("1 / 0") == "** ZeroDivisionError: division by zero"
        assert peer.eval("later = 1") == "None"
        peer.reset()
        assert peer.output == []
