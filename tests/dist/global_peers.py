"""What the tests of `Global` names in clusters of real nodes share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from textwrap import dedent

import pytest

from otplib import Atom, Global, node
from otplib.dist import global_server
from otplib.process import receive, self_, send, sleep
from otplib.vm.machine import Machine
from tests.dist import nodes
from tests.dist.beam import until
from tests.dist.node_fixtures import new_name
from tests.dist.nodes import Peer

#: Seconds for anything that nodes agree on; well within LIMIT, so that it is seen what has not come about.
MOMENT = 10.0


def holding(name: str) -> dict[str, str]:
    """What a node evaluates to have a process, its variable `holder`, registered as `Global(name)`."""
    return {
        "elixir": f"""
            f = fn f -> receive do {{:get, from}} -> send(from, :got); f.(f); {{:die, r}} -> exit(r) end end
            holder = spawn(fn -> f.(f) end)
            :yes = :global.register_name("{name}", holder)
        """,
        "python": dedent(f"""
            async def hold():
                while True:
                    match await receive():
                        case ("get", sender): send(sender, Atom("got"))
                        case ("die", reason): raise Exit(reason)
            holder = spawn(hold)
            process.register(holder, Global("{name}"))
        """),
    }


@pytest.fixture
def theirs() -> str:
    """A name that nobody has had, as nodes are kept from test to test."""
    return new_name("theirs")


@pytest.fixture
def cluster(tidy, epmd_port) -> Iterator[list[Machine]]:
    """Three machines of this OS process that are nodes, and not connected."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(nodes.machine_node(new_name("m"), epmd_port)) for _ in range(3)]


async def idle() -> None:
    await receive(("end", ...))


async def ask(name: Global) -> str:
    """Send to a holder that was registered as REGISTER does; gives its answer."""
    send(name, (Atom("get"), self_()))
    return await receive(str, timeout=MOMENT)


async def meet(*names: str) -> None:
    """Connect, and wait until all that are connected have the same names."""
    for name in names:
        assert await node.connect(name)
    await global_server.sync(timeout=MOMENT)


async def eventually(what, wanted) -> None:
    """Look again and again until `what()` gives what is wanted."""
    deadline = MOMENT
    while (found := what()) != wanted:
        assert deadline > 0, f"{found!r}, and not {wanted!r}"
        deadline -= 0.01
        await sleep(0.01)


def whereis(peer: Peer, term: str = '"svc"') -> str:
    """What the peer answers to `:global.whereis_name`; "nobody" for none."""
    if peer.language == "elixir":
        found = peer.eval(f":global.whereis_name({term})")
        return "nobody" if found == ":undefined" else found
    found = peer.eval(f"process.whereis(Global({term}))")
    return "nobody" if found == "None" else found


def shows(peer: Peer, term: str, wanted: bool) -> bool:
    """Wait until the peer knows somebody by this name, or nobody."""
    return until(lambda: (whereis(peer, term) != "nobody") is wanted)


def peers_of(peer: Peer) -> set[str]:
    listed = peer.eval(elixir='Enum.join(Node.list(), " ")', python='" ".join(node.list())')
    return set(filter(None, listed.strip("\"'").split(" ")))


async def all_meet(foo: Peer, bar: Peer) -> None:
    """Make a cluster of them and us in which nobody has anything left to agree on."""
    await meet(foo.name, bar.name)
    assert until(lambda: peers_of(foo) == {bar.name, node.self_()})
    assert until(lambda: peers_of(bar) == {foo.name, node.self_()})
    for peer in (foo, bar):
        peer.tell(elixir=":ok = :global.sync()", python="await GenServer.call('global_name_server', ('sync', None))")
    await global_server.sync(timeout=MOMENT)


def do_not_overlap(foo: Peer, bar: Peer) -> bool:
    """Wait until foo and bar, who have lost each other, are in partitions of which each knows all its nodes."""

    def hold_together() -> bool:
        here = node.self_()
        views = {here: {here, *node.list()}}
        views |= {peer.name: {peer.name, *peers_of(peer)} for peer in (foo, bar)}
        return (
            all(views[other] == view for view in views.values() for other in view) and bar.name not in views[foo.name]
        )

    return until(hold_together)
