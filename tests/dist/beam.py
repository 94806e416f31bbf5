"""What the tests of `dist` share: real BEAM nodes and epmds on private ports, and sockets for our machines."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from otplib.dist import epmd
from otplib.dist.epmd_server import EpmdServer
from otplib.dist.framing import Framing, handshake_frame
from otplib.dist.handshake import Action, Close, Connected, Send

COOKIE = "open sesame"
LIMIT = 30.0  # seconds for anything that a BEAM does; it is a hang that we look for

needs_beam = pytest.mark.skipif(shutil.which("erl") is None, reason="no Erlang on this machine (apt install erlang)")
needs_epmd = pytest.mark.skipif(shutil.which("epmd") is None, reason="no epmd on this machine (apt install erlang)")


def beam_environment(epmd_port: int) -> dict[str, str]:
    return {**os.environ, "ERL_EPMD_PORT": str(epmd_port)}


def until(condition: Callable[[], bool]) -> bool:
    """Look again and again: for what another process does in its own time. False after LIMIT."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            return False
    return True


class Beam:
    """One `erl` that has printed "ready". Whatever it says afterwards is read line by line, also what it logs."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self.process = process
        self.name = name

    def line(self) -> str:
        return self.process.stdout.readline().strip()

    def line_with(self, text: str) -> str:
        """The next line that holds the text; the end of the output is a failure."""
        while (line := self.process.stdout.readline()) != "":
            if text in line:
                return line.strip()
        raise AssertionError(f"the BEAM ended without saying {text!r}")


@contextlib.contextmanager
def beam_node(
    name: str, epmd_port: int, *, program: str = "ok", cookie: str = COOKIE, arguments: tuple[str, ...] = ()
) -> Iterator[Beam]:
    """`erl -sname name@localhost` that runs `program` after it has printed "ready", then stays."""
    command = [
        *("erl", "-noshell", "-start_epmd", "false", "-sname", f"{name}@localhost", "-setcookie", cookie),
        *arguments,
        *("-eval", f'io:format("ready~n"), begin {program} end.'),
    ]
    with subprocess.Popen(
        command,
        env=beam_environment(epmd_port),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            beam = Beam(process, f"{name}@localhost")
            beam.line_with("ready")
            yield beam
        finally:
            process.kill()


@contextlib.contextmanager
def real_epmd() -> Iterator[int]:
    """A real epmd in the foreground on a port of its own; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["epmd", "-port", str(port), "-address", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + LIMIT
            while not epmd.answers(epmd_port=port, timeout=1.0):
                assert time.monotonic() < deadline, "the real epmd does not answer"
                assert process.poll() is None, "the real epmd ended"
            yield port
        finally:
            process.kill()


@contextlib.contextmanager
def our_epmd() -> Iterator[int]:
    with EpmdServer(0) as server:
        yield server.port


class Wire:
    """A socket with a framing: what a machine says goes out, what arrives comes in whole."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(LIMIT)
        self.connection = connection
        self.framing = Framing()

    def packet(self) -> bytes | None:
        """The next packet; None when the peer has closed."""
        while True:
            for packet in self.framing.packets():
                return packet
            try:
                data = self.connection.recv(65_536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.framing.feed(data)

    def carry_out(self, actions: list[Action]) -> Action | None:
        """Do what can be done here; gives the action that somebody else must answer, or the last."""
        for action in actions:
            if isinstance(action, Send):
                self.connection.sendall(handshake_frame(action.message))
            else:
                if isinstance(action, Connected):
                    self.framing.connected()
                if isinstance(action, Close):
                    self.connection.close()
                return action
        return None
