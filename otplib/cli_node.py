"""The commands of `otplib` about nodes: what `iex --sname`, `epmd` and a short `elixir -e` do for a BEAM.

    otplib node NAME                a terminal that is a node
    otplib names                    the nodes of this machine, and their ports
    otplib ping NODE                is it there, and does it know our cookie?
    otplib rpc NODE FUNCTION ARG..  call a function there and show its result
    otplib epmd                     the port mapper, in the foreground

`ping` and `rpc` are nodes themselves for a moment, hidden ones. A command ends with 0, or with 1 after one line that
says what went wrong.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from otplib import cli_prompt, node, rpc
from otplib.core.errors import NodeError, OtplibError, RpcError
from otplib.core.inspection import inspect_term
from otplib.core.reasons import format_exit
from otplib.core.terms import Atom
from otplib.dist import epmd
from otplib.dist.epmd_server import EpmdServer
from otplib.dist.node_names import full_name, is_long
from otplib.dist.tls import Tls
from otplib.process import run

T = TypeVar("T")

#: What makes a long name of a node that nobody calls.
_HERE = "127.0.0.1"


def add_commands(commands: Any) -> None:
    """Add them to the subparsers of the `otplib` command; each sets `run`."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--cookie", help="the cluster's secret (default: that of ~/.erlang.cookie); ps shows it to others"
    )
    shared.add_argument(
        "--epmd-port", type=_port, metavar="PORT", help="where epmd is (default: 4369, or ERL_EPMD_PORT)"
    )
    files = shared.add_argument_group("TLS, as -proto_dist inet_tls; see the manual of otplib.dist.tls")
    files.add_argument("--certfile", metavar="PEM", help="this node's certificate")
    files.add_argument("--keyfile", metavar="PEM", help="its key, if that is not in the same file")
    files.add_argument("--cafile", metavar="PEM", help="who signs the certificates of the others")
    _add_node(commands, shared)
    _add_names(commands)
    _add_ping(commands, shared)
    _add_rpc(commands, shared)
    _add_epmd(commands)


def _add_node(commands: Any, shared: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "node",
        parents=[shared],
        help="a terminal that is a node, as iex --sname",
        description="A prompt in a node of its own, the counterpart of `iex --sname NAME` and `iex --name NAME@HOST`.",
    )
    parser.add_argument("name", metavar="NAME", help="foo, or foo@host.domain for a long name")
    parser.add_argument("--hidden", action="store_true", help="be listed by nobody, as erl -hidden")
    parser.add_argument(
        "--listen", metavar="ADDRESS", default=epmd.LOOPBACK, help="let others in: 0.0.0.0, or one of ours"
    )
    parser.add_argument("--port", type=_port, default=0, help="listen on this port (default: any free one)")
    parser.add_argument("--no-pickle", dest="pickle", action="store_false", help="exchange plain terms only")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--plain", action="store_true", help="Python's own prompt, not IPython's")
    how.add_argument("--no-prompt", dest="prompt", action="store_false", help="only be there, until told to end")
    parser.set_defaults(run=_reporting(run_node))


def _add_names(commands: Any) -> None:
    parser = commands.add_parser("names", help="the nodes of this machine, as epmd -names")
    parser.add_argument("--epmd-port", type=_port, metavar="PORT")
    parser.set_defaults(run=_reporting(run_names))


def _add_ping(commands: Any, shared: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("ping", parents=[shared], help="is a node there, and does it know our cookie?")
    parser.add_argument("node", metavar="NODE", help="foo, for one of this machine, or foo@host")
    parser.set_defaults(run=_reporting(run_ping))


def _add_rpc(commands: Any, shared: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "rpc",
        parents=[shared],
        help="call a function on a node and show its result",
        description="What the function prints appears here, too.",
    )
    parser.add_argument("node", metavar="NODE", help="foo, for one of this machine, or foo@host")
    parser.add_argument("function", metavar="FUNCTION", help="H.say, math.sqrt, or :lists.reverse of an Erlang module")
    parser.add_argument(
        "arguments", metavar="ARG", nargs="*", type=_literal, help="as in Python: 2.5, [1], '\"text\"'; or :atom"
    )
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="how long to wait (default: 5)")
    parser.set_defaults(run=_reporting(run_rpc))


def _add_epmd(commands: Any) -> None:
    parser = commands.add_parser(
        "epmd",
        help="the port mapper, for machines without Erlang's",
        description="Runs in the foreground. Nodes of otplib start one by themselves if none is there.",
    )
    parser.add_argument("--port", type=_port, help="default: 4369, or ERL_EPMD_PORT")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--names", action="store_true", help="show who is registered, and end")
    what.add_argument("--kill", action="store_true", help="have the running one end; not while a node is registered")
    parser.set_defaults(run=_reporting(run_epmd))


# ---- the commands -------------------------------------------------------------------------------------------------


def run_node(options: argparse.Namespace) -> int:
    """Be a node until the prompt ends, or a signal comes."""
    run(
        node.start,
        options.name,
        options.cookie,
        hidden=options.hidden,
        listen=options.listen,
        port=options.port,
        pickle=options.pickle,
        tls=_tls(options),
        epmd_port=options.epmd_port,
    )
    try:
        if options.prompt:
            cli_prompt.open_prompt(plain=options.plain)
        else:
            print(f"node {node.self_()} is up", flush=True)
            _wait_for_signal(threading.Event().wait)
    finally:
        if node.alive():
            run(node.stop)
    return 0


def run_names(options: argparse.Namespace) -> int:
    """List the nodes of this machine."""
    port = options.epmd_port
    try:
        found = epmd.names(epmd_port=port)
    except ConnectionRefusedError:
        where = epmd.default_port() if port is None else port
        raise NodeError(f"no node runs on this machine: no epmd answers on port {where}") from None
    for name, at in sorted(found.items()):
        print(f"{name} at port {at}")
    return 0


def run_ping(options: argparse.Namespace) -> int:
    """Say `pong`, or `pang` and 1."""
    answer = _from_a_node(options, lambda target: node.ping(target))
    print(answer)
    return 0 if answer == "pong" else 1


def run_rpc(options: argparse.Namespace) -> int:
    """Show the result of a call."""

    async def call(target: str) -> Any:
        return await rpc.call(target, options.function, *options.arguments, timeout=options.timeout)

    try:
        print(repr(_from_a_node(options, call)))
    except RpcError as error:
        raise NodeError(_describe(error, options)) from None
    return 0


def run_epmd(options: argparse.Namespace) -> int:
    """Map ports until a signal comes, or somebody asks for the end."""
    port = epmd.default_port() if options.port is None else options.port
    if options.names:
        return run_names(argparse.Namespace(epmd_port=port))
    if options.kill:
        try:
            killed = epmd.kill(epmd_port=port)
        except ConnectionRefusedError:
            raise NodeError(f"no epmd answers on port {port}") from None
        if not killed:
            raise NodeError(f"the epmd on port {port} stays: nodes are registered with it (otplib names lists them)")
        print("killed")
        return 0
    try:
        server = EpmdServer(port)
    except OSError as error:
        other = "an epmd is there already" if epmd.answers(epmd_port=port) else error.strerror
        raise NodeError(f"cannot listen on port {port}: {other}") from None
    with server:
        print(f"epmd listens on port {server.port}", flush=True)
        _wait_for_signal(server.join)
    return 0


# ---- what they share ----------------------------------------------------------------------------------------------


def _reporting(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The command, with errors that concern its user as one line."""

    def reported(options: argparse.Namespace) -> int:
        try:
            return command(options)
        except (OtplibError, OSError, ValueError) as error:
            print(f"otplib: {' '.join(str(error).split())}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 128 + signal.SIGINT

    return reported


def _from_a_node(options: argparse.Namespace, ask: Callable[[str], Awaitable[T]]) -> T:
    """Be a hidden node for as long as it takes to ask another one."""
    target = full_name(options.node)
    ours = f"otplib-{os.getpid()}" + (f"@{_HERE}" if is_long(target) else "")
    tls = _tls(options)

    async def talk() -> T:
        await node.start(ours, options.cookie, hidden=True, tls=tls, epmd_port=options.epmd_port)
        try:
            return await ask(target)
        finally:
            await node.stop()

    answer: T = run(talk)
    return answer


def _tls(options: argparse.Namespace) -> Tls | None:
    if options.certfile is None:
        if options.keyfile is not None or options.cafile is not None:
            raise NodeError("--keyfile and --cafile need --certfile")
        return None
    if options.cafile is None:
        raise NodeError("--certfile needs --cafile: who signs the certificates of the other nodes")
    return Tls(options.certfile, options.keyfile, options.cafile)


def _describe(error: RpcError, options: argparse.Namespace) -> str:
    function, target = options.function, full_name(options.node)
    match error.reason:
        case "nodedown":
            return f"no node {target} answers, or it has another cookie"
        case "timeout":
            return f"{function} did not return within {options.timeout:g} s"
        case ("EXIT", ("undef", _)):
            return f"there is no function {function} on {target}"
        case ("EXIT", _) if error.__cause__ is not None:
            return f"{function} raised on {target}: {type(error.__cause__).__name__}: {error.__cause__}"
        case ("EXIT", reason):
            return f"{function} failed on {target}: {format_exit(reason)}"
        case reason:
            return f"{function}: {inspect_term(reason)}"


def _wait_for_signal(until: Callable[[float], bool]) -> None:
    """Wait for Ctrl-C, SIGTERM, or `until`, which is given seconds to wait."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while not until(3600.0):
            pass
    except KeyboardInterrupt:
        pass


def _port(text: str) -> int:
    number = int(text)
    if not 0 < number < 65_536:
        raise ValueError(text)
    return number


def _literal(text: str) -> Any:
    if re.fullmatch(r":[A-Za-z_][A-Za-z0-9_@]*[?!]?", text):
        return Atom(text[1:])
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no literal of Python's; a text has its own quotes, as in '\"{text}\"', an atom a colon"
        ) from None


_port.__name__ = "port"  # what argparse calls it: "invalid port value"
