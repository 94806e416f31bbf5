"""Real nodes for tests: a BEAM or a Python in an OS process of its own, or a machine of this one, and no leftovers.

```python
with beam("foo", epmd_port) as foo, machine_node("py", epmd_port):
    assert foo.eval("Node.ping(:py@localhost)") == ":pong"
    assert run(node.ping, foo.name) == "pong"
```
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from otplib import node, run
from otplib.vm.context import runtime
from otplib.vm.machine import Machine
from tests.dist.beam import COOKIE, LIMIT, beam_environment

DRIVERS = Path(__file__).parent / "drivers"

needs_elixir = pytest.mark.skipif(shutil.which("elixir") is None, reason="no Elixir here (apt install elixir)")


def until(condition: Callable[[], bool]) -> bool:
    """Look again and again: for what another process does in its own time. False after LIMIT."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


class Peer:
    """A node in another OS process: evaluates what it is told, and can be killed or frozen.

    `output` is all that it has printed so far, line by line, errors and log included.
    """

    language: ClassVar[str]
    #: Told to start anew: no variables, links or messages of the test before.
    reset_source: ClassVar[str]

    def __init__(self, name: str, process: subprocess.Popen[str], connection: socket.socket) -> None:
        self.name = name
        self.process = process
        self.output: list[str] = []
        self._connection = connection
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._reader.start()

    def eval(self, source: str = "", **sources: str) -> str:
        """Evaluate there, wait, and give what its shell would show: a value, or `** (...)` for an error.

        Of several sources it is the one in its language: `foo.eval(elixir="node()", python="node.self_()")`.
        """
        self.ask(source, **sources)
        return self.answer()

    def tell(self, source: str = "", **sources: str) -> None:
        """Evaluate what must not fail, for its effect."""
        shown = self.eval(source, **sources)
        assert not shown.startswith("**"), shown

    def define(self, module: str, **sources: str) -> None:
        """Define a module there, or a class, as a cell would, that stands for one."""
        self.tell(**{self.language: self.module_source(module, sources[self.language])})

    def ask(self, source: str = "", **sources: str) -> None:
        """Have it evaluate; `answer` takes the result, later."""
        data = (sources[self.language] if sources else source).encode()
        self._connection.sendall(len(data).to_bytes(4, "big") + data)

    def answer(self) -> str:
        """What the evaluation gave that was asked for."""
        return receive_text(self._connection)

    def reset(self) -> None:
        """Forget what the last test did in its shell, and what it printed."""
        self.ask(self.reset_source)
        self.answer()
        mark = f"-- reset {time.monotonic_ns()}"
        self.tell(elixir=f'IO.puts("{mark}")', python=f'print("{mark}", flush=True)')
        assert self.prints(mark)
        self.output.clear()

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        self.process.kill()
        self.process.wait(LIMIT)

    def freeze(self) -> None:
        """`kill -STOP`: it is there, it is connected, and it says nothing."""
        os.kill(self.process.pid, signal.SIGSTOP)
        assert until(lambda: self._state() == "T")

    def thaw(self) -> None:
        """`kill -CONT`."""
        os.kill(self.process.pid, signal.SIGCONT)

    @staticmethod
    def module_source(module: str, body: str) -> str:
        raise NotImplementedError

    def prints(self, text: str) -> bool:
        """Wait until it has printed a line with this text; False if it does not."""
        return until(lambda: any(text in line for line in self.output))

    def close(self) -> None:
        """End it, whatever it is doing."""
        self.kill()
        self._reader.join(LIMIT)
        self._connection.close()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line.rstrip("\n"))

    def _state(self) -> str:
        return Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


class BeamPeer(Peer):
    """A BEAM with Elixir; `eval` takes Elixir, and knows `Otplib.flush`, `next` and `outcome`."""

    language = "elixir"
    reset_source = ""

    @staticmethod
    def module_source(module: str, body: str) -> str:
        return f"Code.compiler_options(ignore_module_conflict: true)\ndefmodule {module} do\n{body}\nend"


class PythonPeer(Peer):
    """Another Python; `eval` takes Python, with `from otplib import *` and `await`."""

    language = "python"
    reset_source = "process.exit(self_(), 'normal')"

    @staticmethod
    def module_source(module: str, body: str) -> str:
        return f"class {module}:\n" + textwrap.indent(textwrap.dedent(body), "    ")


def receive_text(connection: socket.socket) -> str:
    """One answer of a driver."""
    data = b""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        part = connection.recv(65_536)
        assert part, "the peer has ended"
        data += part
    return data[4:].decode()


def _first_caller(listener: socket.socket, process: subprocess.Popen[str]) -> socket.socket | None:
    """The driver's connection; None if the program has ended without one."""
    listener.settimeout(0.1)
    deadline = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            return listener.accept()[0]
    return None


@contextlib.contextmanager
def _started(command: list[str], kind: Callable[..., Any], name: str, environment: dict[str, str]) -> Iterator[Any]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.Popen(
            [*command, str(listener.getsockname()[1])],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        connection = _first_caller(listener, process)
        if connection is None:
            process.kill()
            raise AssertionError(f"{name} did not start: {process.communicate()[0]}")
    connection.settimeout(LIMIT)
    peer = kind(name, process, connection)
    try:
        assert peer.answer() == "ready"
        yield peer
    finally:
        peer.close()


@contextlib.contextmanager
def beam(
    name: str,
    epmd_port: int,
    *,
    cookie: str = COOKIE,
    hidden: bool = False,
    net_tick_time: int = 60,
    arguments: str = "",
) -> Iterator[BeamPeer]:
    """An `elixir --sname name@localhost` that a test can talk to."""
    erl = f"-start_epmd false -kernel net_ticktime {net_tick_time} {arguments}" + (" -hidden" if hidden else "")
    command = ["elixir", "--sname", f"{name}@localhost", "--cookie", cookie, "--erl", erl, str(DRIVERS / "beam.exs")]
    with _started(command, BeamPeer, f"{name}@localhost", beam_environment(epmd_port)) as peer:
        yield peer


@contextlib.contextmanager
def python(name: str, epmd_port: int, *, cookie: str = COOKIE, **options: Any) -> Iterator[PythonPeer]:
    """A Python in an OS process of its own that is a node; `name` may be "" for one that is not a node yet."""
    command = [sys.executable, "-X", "faulthandler", str(DRIVERS / "python.py")]
    with _started(command, PythonPeer, f"{name}@localhost", dict(os.environ)) as peer:
        peer.eval("from otplib import *; from otplib import node, process, rpc, erpc")
        if name:
            options = {"epmd_port": epmd_port, **options}
            shown = peer.eval(f"await node.start({peer.name!r}, {cookie!r}, **{options!r})")
            assert shown == repr(peer.name), shown
        yield peer


@contextlib.contextmanager
def machine_node(name: str, epmd_port: int, *, cookie: str = COOKIE, **options: Any) -> Iterator[Machine]:
    """A machine of this OS process that is a node, and the machine of the block."""
    with Machine() as machine:
        run(node.start, f"{name}@localhost", cookie, epmd_port=epmd_port, **options)
        yield machine


def perform(scenario: Callable[..., Any], *args: Any) -> Any:
    """Run a scenario as a process of the machine of this block; one that hangs is killed, and it is told where."""
    coroutines: list[Any] = []
    waits_at: list[str] = []

    async def performed() -> Any:
        coroutines.append(scenario(*args))
        return await coroutines[0]

    def look() -> None:
        waiting = coroutines[0] if coroutines else None
        while waiting is not None and (frame := getattr(waiting, "cr_frame", None)) is not None:
            waits_at.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}")
            waiting = waiting.cr_await

    clock = threading.Timer(LIMIT - 1, look)
    clock.start()
    try:
        return run(performed, timeout=LIMIT)
    except TimeoutError:
        raise AssertionError("it hung here:\n" + "\n".join(waits_at)) from None
    finally:
        clock.cancel()
        clock.join()


@contextlib.contextmanager
def on(machine: Machine) -> Iterator[None]:
    """Let code of the block speak to this machine, where a test has several."""
    before = runtime.local.machines
    runtime.local.machines = (*before, machine)
    try:
        yield
    finally:
        runtime.local.machines = before


class Screen(io.StringIO):
    """What has been printed here. (pytest's own loses what comes while it is read.)"""

    def __init__(self) -> None:
        super().__init__()
        self._wiped = 0

    def shows(self, text: str) -> None:
        """Fail unless it comes to show this and nothing else; then wipe it."""
        assert until(lambda: self.getvalue()[self._wiped :] == text), self.getvalue()[self._wiped :]
        self._wiped += len(text)


@contextlib.contextmanager
def showing() -> Iterator[Screen]:
    """Let the screen stand in place of `sys.stdout`."""
    with contextlib.redirect_stdout(Screen()) as screen:
        yield screen


# ---- no leftovers -------------------------------------------------------------------------------------------------


def belongings() -> dict[str, str]:
    """What this OS process holds: its threads, its children, its sockets and pipes; each with a word on what it is.

    Idle threads for blocking calls do not count: a machine keeps them for ten seconds.
    """
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    held = {}
    for task in Path("/proc/self/task").iterdir():
        name = names.get(int(task.name), "a thread that Python did not start")
        if name != "otplib-blocking":
            held[f"thread {task.name}"] = name
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text(encoding="utf-8").split():
                held[f"process {child}"] = "a child"
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(descriptor.readlink())
            if target.startswith(("socket:", "pipe:", "anon_inode:")):
                held[f"descriptor {descriptor.name} {target}"] = "open"
    return held


@contextlib.contextmanager
def no_leftovers(limit: float = 20.0) -> Iterator[None]:
    """Fail if the block leaves a thread, a child, a socket or a pipe behind. What is ending is given a moment."""
    before = belongings()
    yield
    deadline = time.monotonic() + limit
    while left := {key: value for key, value in belongings().items() if key not in before}:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.005)
