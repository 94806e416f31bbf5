"""Peers: other Python processes of this machine, started as nodes and linked to whoever started them. OTP's `peer`.

```python
worker = await node.start_peer("worker")
await rpc.call(worker.node, "os.getpid")
await worker.stop()
```

Two processes stand for a peer. Here `PeerControl`, a GenServer that is linked to the caller; there `live`, which the
child runs. They end together, whoever is first:

    the caller ends, or `stop`         PeerControl closes the child's input, waits, and kills a child that stays
    PeerControl is killed              its guard closes the child's input
    this OS process ends, by SIGKILL   the system closes the child's input
    the child ends                     PeerControl ends with ("shutdown", ("peer_down", status)); status as of `Popen`

The child's input is the whole tie: it reads nothing from it but its settings, the cookie among them, and then the end.
Neither the command line nor the environment, which others can read, holds a secret. A child whose C code keeps the GIL
notices the end when it lets go.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from typing import IO, Any, Final, NamedTuple

from otplib.behaviours.gen_server import GenServer
from otplib.behaviours.returns import NoReply, Ok, Stop
from otplib.core.errors import Exit, LeaderError, NameTakenError, NodeError, OtplibError, StartError
from otplib.core.reasons import ExitMessage
from otplib.core.terms import Pid
from otplib.dist.net_kernel import NetKernel, kernel_of
from otplib.dist.node_names import full_name, split_name
from otplib.dist.tls import Tls
from otplib.process import blocking, flag, link, monitor, receive, register, self_, send, spawn_link
from otplib.vm.running import run
from otplib.vm.shell import current_machine

#: Seconds for a child to come up.
START_TIME: Final = 30.0
#: Seconds for a child to end after its input has; then it is killed.
GRACE: Final = 3.0
#: Lines of a child that does not come up that its error shows.
SHOWN: Final = 30

#: How often a child looks whether its parent is there, seconds: some other child of it may hold the input open.
_CHECK: Final = 2.0

#: What the child runs. Its path first, or it might find another otplib, or none.
_PROGRAM: Final = (
    "import json, sys; settings = json.loads(sys.stdin.readline()); sys.path[:] = settings['path']; "
    "from otplib import node; from otplib.dist import peer; peer.live(node, settings)"
)


class Peer(NamedTuple):
    """A peer that is up: the name of its node, and the process here that stands for it."""

    node: str
    pid: Pid

    async def stop(self, timeout: float | None = None) -> None:
        """End it, and wait until it is gone. One that is gone already is fine. Mirrors `peer:stop/1`."""
        try:
            await GenServer.stop(self.pid, "normal", timeout=timeout)
        except Exit as error:
            if error.reason != "noproc" and not (isinstance(error.reason, tuple) and error.reason[0] == "noproc"):
                raise


async def start_peer(
    name: str | None = None,
    *,
    hidden: bool = False,
    env: Mapping[str, str] | None = None,
    timeout: float = START_TIME,
) -> Peer:
    """Start another Python process as a node, linked to the caller. Mirrors `peer:start_link/1`.

    It has this Python, `sys.path`, working directory and cookie, and connects as this node does. What it writes appears
    where the caller's output does. It ends with the caller; if it ends by itself, the caller gets an exit signal with
    `("shutdown", ("peer_down", status))`.

    Args:
        name: the part before the @; one that nobody has if None.
        hidden: be a hidden node.
        env: variables of its environment, beside ours.
        timeout: seconds for it to come up.

    Raises:
        NodeError: this machine is no node, or the peer does not come up; then the text shows what it said.
    """
    kernel = kernel_of(current_machine())
    if kernel is None:
        raise NodeError('a peer needs a node to be a peer of: write await node.start("foo") first')
    node = full_name(name or f"peer-{os.getpid()}-{secrets.randbelow(1_000_000)}", host=split_name(kernel.node)[1])
    path = [entry for entry in sys.path if isinstance(entry, str)]
    settings = {"path": path, "node": node, "origin": kernel.node, **_take_after(kernel)}
    settings["options"]["hidden"] = hidden
    order = _Order(node, json.dumps(settings), dict(env or {}), self_(), timeout)
    try:
        pid = await PeerControl.start(order)
    except StartError as error:
        match error.reason:
            case ("peer_failed", str(text)):
                raise NodeError(text) from None
        raise
    assert pid is not None
    return Peer(node, pid)


def _take_after(kernel: NetKernel) -> dict[str, Any]:
    """What makes a node that meets whoever we meet."""
    tls = kernel.tls
    return {
        # The one place where a cookie is written: into the pipe to our own child.
        "cookie": kernel.cookies.default._secret.decode("latin-1"),
        "tls": None if tls is None else dataclasses.asdict(tls),
        "options": {
            "listen": kernel.listen,
            "pickle": kernel.pickle,
            "net_tick_time": kernel.net_tick_time,
            "epmd_port": kernel.epmd_port,
        },
    }


# ---- here: the process that stands for it -------------------------------------------------------------------------


class _Order(NamedTuple):
    node: str
    settings: str  # JSON, and secret
    env: dict[str, str]
    owner: Pid
    timeout: float

    def __repr__(self) -> str:
        return f"start_peer({self.node!r})"


class PeerControl(GenServer, restart="temporary"):
    """Stands for one peer. Its name here is `peer <node>`; its state is the child.

    | callback | returns | what happens |
    |---|---|---|
    | `init` | `Ok` | the child is up, and we are linked to the owner |
    | | `Stop(("peer_failed", text))` | it did not come up; nothing of it is left |
    | `handle_info` | `Stop` | the child, or the owner, has ended |
    | `terminate` | | the child is ended, and waited for |
    """

    async def init(self, order: _Order) -> Any:
        """Start the child and wait until it has called."""
        flag(trap_exit=True)
        try:
            register(self_(), _control_name(order.node))
        except NameTakenError:
            return Stop(("peer_failed", f"the peer {order.node} is running, or on its way, already"))
        watch = monitor(order.owner)
        try:
            child = await blocking(_Child, order)
        except OSError as error:
            return Stop(("peer_failed", f"cannot start {sys.executable}: {error.strerror}"))
        spawn_link(child.guard, self_())
        spawn_link(child.forward)
        gone = ("DOWN", watch, ..., ..., ...)
        try:
            match await receive(("peer_up", order.node), ("peer_ended", int), gone, timeout=order.timeout):
                case ("peer_up", _):
                    link(order.owner)  # one that has died meanwhile answers with an exit signal
                    child.show()
                    return Ok(child)
                case ("peer_ended", status):
                    fault = _describe(status)
                case _:
                    fault = "whoever wanted it has ended"
        except TimeoutError:
            fault = f"it has not called within {order.timeout:g} s"
        child.let_go()
        await blocking(child.over.wait)
        said = "".join(child.said).strip()
        text = f"the peer {order.node} did not come up: {fault}"
        return Stop(("peer_failed", f"{text}. It said:\n{said}" if said else text))

    def handle_info(self, message: Any, child: _Child) -> Any:
        """Hear of the ends of others."""
        match message:
            case ("peer_ended", status):
                return Stop(("shutdown", ("peer_down", status)), child)
            case ExitMessage(pid=pid, reason=reason) if pid == child.owner:
                return Stop(reason, child)
        return NoReply(child)

    async def terminate(self, reason: Any, child: _Child) -> None:
        """End the child, and show its last words."""
        child.let_go()
        await blocking(child.over.wait)


class _Child:
    """The OS process. Made on a thread that may block."""

    def __init__(self, order: _Order) -> None:
        self.owner = order.owner
        #: What it has said and nobody has been shown; of a child that is not up, the end of it.
        self.said: deque[str] = deque(maxlen=SHOWN)
        #: It has ended, and what it said has been read.
        self.over = threading.Event()
        self._up = False
        self._let_go = threading.Lock()  # taken once, and for good
        self._read_out = threading.Event()
        self._popen = subprocess.Popen(
            [sys.executable, "-u", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", **order.env},
            # Not ours: Ctrl-C, or the kernel's interrupt button, means the code that runs here.
            start_new_session=True,
        )
        stdin, stdout = self._popen.stdin, self._popen.stdout
        assert stdin is not None
        assert stdout is not None
        self._input: IO[bytes] = stdin
        self._output: IO[bytes] = stdout
        with contextlib.suppress(OSError):  # it has ended already, and the guard will tell
            self._input.write(order.settings.encode() + b"\n")
            self._input.flush()

    def __deepcopy__(self, memo: object) -> _Child:
        return self  # `system.get_state` shows it as it is

    def __repr__(self) -> str:
        return f"<OS process {self._popen.pid}>"

    async def guard(self, control: Pid) -> None:
        """Tell when the child ends; and see to it that it does not outlive us, who are linked to its control."""
        try:
            status = await blocking(self._popen.wait)
        finally:
            self.let_go()  # runs when a signal ends us, too: whatever ends the control reaches the child
        send(control, ("peer_ended", status))

    async def forward(self) -> None:
        """Show what the child says, once it is up, where our group leader does."""
        try:
            while line := await blocking(self._output.readline, 65_536):
                self.said.append(line.decode("utf-8", "replace"))
                if self._up:
                    self.show()
        finally:
            self._read_out.set()

    def show(self) -> None:
        """From now on what it says is shown, what it has said first."""
        self._up = True
        while self.said:
            with contextlib.suppress(LeaderError):  # the cell that it belongs to is gone
                sys.stdout.write(self.said.popleft())

    def let_go(self) -> None:
        """Have the child end, without waiting; one that does not is killed. A second call changes nothing."""
        if self._let_go.acquire(blocking=False):
            with contextlib.suppress(OSError):
                self._input.close()
            threading.Thread(target=self._see_out, name=f"otplib peer {self._popen.pid}", daemon=True).start()

    def _see_out(self) -> None:
        try:
            self._popen.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._read_out.wait(GRACE)  # longer only if a child of its own holds its output open
        self.over.set()
        self._output.close()


def _control_name(node: str) -> str:
    return f"peer {node}"


def _describe(status: int) -> str:
    if status >= 0:
        return f"it has ended with status {status}"
    try:
        return f"it was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"it was killed by signal {-status}"


# ---- there: what the child runs -----------------------------------------------------------------------------------


def live(node: Any, settings: dict[str, Any]) -> None:
    """Be a peer until the input ends. `node` is the module of that name, which stands on a floor above this one."""
    parent = os.getppid() if os.name == "posix" else 0
    # Code of the user's that reads its input finds it empty, and cannot take the end away from us.
    tie = os.dup(0)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123  # a device, not a path
        os.dup2(nothing.fileno(), 0)
    try:
        run(_come_up, node, settings)
    except (OtplibError, ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    settings.clear()
    _wait_for_end(tie, parent)
    # Whatever hangs in the user's code, a thread or an `atexit`, must not keep the process.
    threading.Thread(target=_end_soon, daemon=True).start()
    with contextlib.suppress(OtplibError, OSError, TimeoutError):
        run(node.stop, timeout=GRACE / 3)


async def _come_up(node: Any, settings: dict[str, Any]) -> None:
    tls = settings["tls"]
    await node.start(settings["node"], settings["cookie"], tls=tls and Tls(**tls), **settings["options"])
    origin = settings["origin"]
    if not await node.connect(origin):
        raise NodeError(f"cannot connect to {origin}, whose peer this is")
    send((_control_name(settings["node"]), origin), ("peer_up", settings["node"]))


def _wait_for_end(tie: int, parent: int) -> None:
    if os.name != "posix":  # `select` takes sockets alone there
        os.read(tie, 1)
        return
    while not select.select([tie], [], [], _CHECK)[0]:
        if os.getppid() != parent:
            return


def _end_soon() -> None:
    threading.Event().wait(GRACE * 2 / 3)
    os._exit(0)
