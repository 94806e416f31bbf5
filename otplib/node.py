"""The machine as a node, and the other nodes. Elixir's `Node`, in Python's manners.

```python
await node.start("bar")                     # as `iex --sname bar`
pid = await node.spawn_link("foo@vm", "H.say")
```

The wire is the Erlang distribution protocol, so `iex --sname foo` is as good a neighbour as another kernel. Pids of
other nodes work in every verb that sends something off (`send`, `link`, `monitor`, `process.exit`, `GenServer.call`),
and connect the nodes when they are first used. Nodes that share a cookie trust each other with everything: whoever is
connected can run any function here.

**What is promised.** Signals from one process to another arrive in their order, whatever their kind, or from some
moment on not at all. When a node is gone, every link and monitor over it fires once, with `"noconnection"`. A send to a
process that is not there, or a node that cannot be reached, is lost silently, as `send/2` always is.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, Literal

from otplib.behaviours.gen_server import GenServer
from otplib.behaviours.supervisor import Supervisor
from otplib.core.child_spec import ChildSpec
from otplib.core.errors import Exit, NodeError
from otplib.core.terms import NO_NODE, Atom, Pid, Ref
from otplib.dist import far_spawn, global_server
from otplib.dist.cookies import CookieJar, find_cookie
from otplib.dist.far_reports import LoggerProxy
from otplib.dist.handshake import Cookie
from otplib.dist.net_kernel import Kind, NetKernel, kernel_of
from otplib.dist.node_names import full_name
from otplib.dist.peer import Peer, start_peer
from otplib.dist.router import ask
from otplib.dist.services import NetKernelServer, Rex
from otplib.dist.ticks import NET_TICK_TIME
from otplib.dist.tls import Tls
from otplib.process import blocking, unlink
from otplib.vm.shell import current_machine, current_record

__all__ = [
    "alive",
    "connect",
    "disconnect",
    "list",
    "monitor",
    "monitor_nodes",
    "ping",
    "self_",
    "Peer",
    "set_cookie",
    "spawn",
    "spawn_link",
    "spawn_monitor",
    "start",
    "start_peer",
    "stop",
]

#: Seconds that `ping` waits for a node that is connected and does not answer.
PING_TIME = 7.0


# ---- this node -----------------------------------------------------------------------------------------------------


async def start(
    name: str,
    cookie: str | None = None,
    *,
    hidden: bool = False,
    listen: str = "127.0.0.1",
    port: int = 0,
    pickle: bool = True,
    tls: Tls | None = None,
    net_tick_time: float = NET_TICK_TIME,
    epmd_port: int | None = None,
) -> str:
    """Turn this machine into a node; gives its full name. Mirrors `Node.start/3`, `iex --sname` and `--name`.

    Pids and references made before stay what they are.

    Args:
        name: `"foo"`, on this host; or `"foo@host.domain"`, a long name.
        cookie: the secret that the nodes of a cluster share; `~/.erlang.cookie` if None, made if there is none.
        hidden: be listed by nobody and meet only whom you connect to, as `erl -hidden`.
        listen: an address of this machine; the default lets nobody in from outside.
        port: where to listen; 0 for any free one.
        pickle: exchange Python objects and functions with other Python nodes; without it only plain terms travel.
        tls: `Tls(...)`, to speak as `-proto_dist inet_tls`.
        net_tick_time: seconds of silence after which a connected node counts as gone.
        epmd_port: of the port mapper, if not 4369 or `ERL_EPMD_PORT`. If none answers there, ours starts.

    Raises:
        NodeError: this machine is a node already, the name cannot be one, or the address cannot be listened on.
        NameTakenError: another living node of this host has the name.
        ValueError: a cookie, port or time that cannot be.
    """
    machine = current_machine()
    if not (isinstance(net_tick_time, int | float) and net_tick_time > 0):
        raise ValueError(f"expected net_tick_time as seconds, more than 0; got {net_tick_time!r}")
    if tls is not None and not isinstance(tls, Tls):
        raise TypeError(f"expected tls=Tls(certfile=..., ...), got {tls!r}")
    with machine.lock:  # of two that start at once the second is refused
        running = machine.services.get("net_kernel")
        if running is not None:
            named = running.node if isinstance(running, NetKernel) else "another name"
            raise NodeError(f"this machine is a node already: {named}. Stop it first, with await node.stop()")
        machine.services["net_kernel"] = _STARTING
    try:
        full = full_name(name)
        jar = CookieJar(await blocking(find_cookie, cookie))
        kernel = NetKernel(
            machine,
            full,
            jar,
            hidden=hidden,
            listen=listen,
            port=port,
            pickle=pickle,
            tls=tls,
            net_tick_time=net_tick_time,
            epmd_port=epmd_port,
        )
        await blocking(kernel.open)
    except BaseException:
        machine.services.pop("net_kernel", None)
        raise
    kernel.join()
    try:
        await _start_services()
    except BaseException:
        await blocking(kernel.close)
        raise
    kernel.let_callers_in()
    return full


_STARTING = object()
_SERVICES = "net_sup"


async def _start_services() -> None:
    children = [
        ChildSpec("net_kernel", (_start_service, (NetKernelServer, "net_kernel"))),
        ChildSpec("rex", (_start_service, (Rex, "rex"))),
        ChildSpec("logger_proxy", (_start_service, (LoggerProxy, "logger_proxy"))),
        ChildSpec("global_name_server", (_start_global_names, ())),
    ]
    supervisor = await Supervisor.start_link(children, strategy="one_for_one", name=_SERVICES)
    assert supervisor is not None
    unlink(supervisor)  # the node outlives the cell, or the process, that has started it


async def _start_service(kind: type[GenServer], name: str) -> Any:
    return await kind.start_link(None, name=name)


async def _start_global_names() -> Pid:
    return await global_server.start(_kernel("start"))


async def stop() -> None:
    """Leave the cluster: close all connections and be no node any more. Mirrors `Node.stop/0`.

    Raises:
        NodeError: this machine is no node.
    """
    kernel = _kernel("stop")
    try:
        await GenServer.stop(_SERVICES, "shutdown")
    except Exit:
        pass  # it is down already
    await blocking(kernel.close)


def self_() -> str:
    """Give the name of this node, `"nonode@nohost"` while it is none. Mirrors `Node.self/0`.

    Example:
        >>> self_()
        'nonode@nohost'
    """
    return current_machine().node


def alive() -> bool:
    """Tell whether this machine is a node. Mirrors `Node.alive?/0`.

    Example:
        >>> alive()
        False
    """
    return current_machine().node != NO_NODE


def set_cookie(node: str, cookie: str) -> bool:
    """Share a cookie with one node, from the next handshake on; with our own name, with all others. Mirrors
    `Node.set_cookie/2`.

    Raises:
        NodeError: this machine is no node.
    """
    kernel = _kernel("set_cookie")
    if node == kernel.node:
        kernel.cookies.default = Cookie(cookie)
    else:
        kernel.set_cookie(node, Cookie(cookie))
    return True


# ---- the others ----------------------------------------------------------------------------------------------------


def list(kind: Kind = "visible") -> builtins.list[str]:
    """Give the names of other nodes, oldest connection first. Mirrors `Node.list/0` and `/1`.

    `kind`: `"visible"` nodes, `"hidden"` ones, `"connected"` for both, `"this"` one, or `"known"`: all of these.

    Raises:
        ValueError: no such kind.

    Example:
        >>> list(), list("this")
        ([], ['nonode@nohost'])
    """
    if kind not in ("visible", "hidden", "connected", "this", "known"):
        raise ValueError(f'expected "visible", "hidden", "connected", "this" or "known"; got {kind!r}')
    machine = current_machine()
    kernel = kernel_of(machine)
    if kernel is None:
        return [machine.node] if kind in ("this", "known") else []
    return kernel.nodes(kind)


async def connect(node: str) -> bool:
    """Connect to a node; tells whether it is connected now. Mirrors `Node.connect/1`.

    Raises:
        NodeError: this machine is no node (Elixir: `:ignored`).
    """
    _check_node(node)
    record = current_record()
    kernel = _kernel("connect")
    if node == kernel.node:
        return True
    return await ask(record, lambda tell: kernel.when_connected(node, tell))


async def disconnect(node: str) -> bool:
    """Close the connection to a node; False if there was none. Mirrors `Node.disconnect/1`.

    Links and monitors over it have fired when this returns.

    Raises:
        NodeError: this machine is no node (Elixir: `:ignored`).
    """
    _check_node(node)
    record = current_record()
    kernel = _kernel("disconnect")
    return await ask(record, lambda tell: kernel.disconnect(node, tell))


async def ping(node: str) -> Literal["pong", "pang"]:
    """Tell whether a node can be reached and answers: `"pong"`, or `"pang"`. Mirrors `Node.ping/1`."""
    _check_node(node)
    machine = current_machine()
    if node == machine.node and kernel_of(machine) is not None:
        return "pong"
    try:
        answer = await GenServer.call(("net_kernel", node), (Atom("is_auth"), Atom(machine.node)), PING_TIME)
    except Exit:
        return "pang"
    return "pong" if answer == "yes" else "pang"


def monitor(node: str, on: bool = True) -> bool:
    """Have this process sent `("nodedown", node)` once when the node is gone, at once if it cannot be reached.

    Counted: two calls give two messages; `on=False` takes one back. Mirrors `Node.monitor/2`.

    Raises:
        NodeError: this machine is no node.
    """
    _check_node(node)
    record = current_record()
    kernel = _kernel("monitor")
    if node != kernel.node:
        kernel.router.monitor_node(record.pid, node, on)
    return True


def monitor_nodes(on: bool = True, kind: Literal["visible", "hidden", "connected"] = "visible") -> None:
    """Have this process sent `("nodeup", node)` and `("nodedown", node)` for every node that comes and goes.

    Counted. Mirrors `:net_kernel.monitor_nodes/2`.

    Raises:
        NodeError: this machine is no node.
    """
    record = current_record()
    _kernel("monitor_nodes").monitor_nodes(record.pid, on, kind)


# ---- processes there -----------------------------------------------------------------------------------------------


async def spawn(node: str, fn: Callable[..., Any] | str, *args: Any) -> Pid:
    """Start a process on another node; gives its pid. Mirrors `Node.spawn/2` and `/4`.

    What it prints appears where this process's output does. If the node cannot be reached, the pid is that of a process
    of this node that has ended with `"noconnection"`.

    Args:
        node: where; this node too.
        fn: a name such as `"H.say"` (looked up there: in the kernel's namespace, an importable module, or `Elixir.H` on
            a BEAM; `":lists.reverse"` names a module of Erlang's), or, for a Python node, the function itself.
        args: what it is called with.

    Raises:
        CopyError: an argument, or the function, cannot be sent to that node.
        TypeError, ValueError: nothing that can be run.
    """
    return (await far_spawn.spawn(node, fn, args))[0]


async def spawn_link(node: str, fn: Callable[..., Any] | str, *args: Any) -> Pid:
    """Start a process on another node, linked to this one. Mirrors `Node.spawn_link/2` and `/4`; see `spawn`."""
    return (await far_spawn.spawn(node, fn, args, link=True))[0]


async def spawn_monitor(node: str, fn: Callable[..., Any] | str, *args: Any) -> tuple[Pid, Ref]:
    """Start a process on another node and monitor it. Mirrors `Node.spawn_monitor/2` and `/4`; see `spawn`."""
    pid, ref = await far_spawn.spawn(node, fn, args, monitor=True)
    assert ref is not None
    return pid, ref


def _kernel(verb: str) -> NetKernel:
    kernel = kernel_of(current_machine())
    if kernel is None:
        raise NodeError(f'node.{verb}: this machine is no node: write await node.start("foo") first')
    return kernel


def _check_node(node: Any) -> None:
    if not isinstance(node, str):
        raise TypeError(f'expected the name of a node, such as "foo@host"; got {node!r}')
