"""Fixtures of the tests that need real nodes; `conftest.py` here and in `tests/conformance` name them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

import pytest

from otplib.vm.machine import Machine
from tests.dist import nodes
from tests.dist.beam import our_epmd
from tests.dist.nodes import BeamPeer, Peer

#: Each kind of node, to be tried as the other end of whatever must work with both.
KINDS = [pytest.param(nodes.beam, id="beam", marks=nodes.needs_elixir), pytest.param(nodes.python, id="python")]

_numbers = itertools.count(1)


def new_name(stem: str) -> str:
    """A name that no node of this run has had, so that what one test leaves at a peer cannot meet the next."""
    return f"{stem}{next(_numbers)}"


@pytest.fixture(scope="module")
def epmd_port() -> Iterator[int]:
    """An epmd for the nodes of this file."""
    with our_epmd() as port:
        yield port


@pytest.fixture
def tidy() -> Iterator[None]:
    """The test must leave no thread, process or socket."""
    with nodes.no_leftovers():
        yield


@pytest.fixture
def py(tidy: None, epmd_port: int) -> Iterator[Machine]:
    """A machine of this OS process that is a node; the machine of the test's code."""
    with nodes.machine_node(new_name("py"), epmd_port) as machine:
        yield machine


@pytest.fixture(scope="module", params=KINDS)
def kept_peer(request: pytest.FixtureRequest, epmd_port: int) -> Iterator[Peer]:
    with request.param(new_name("foo"), epmd_port) as peer:
        yield peer


@pytest.fixture
def foo(kept_peer: Peer) -> Peer:
    """A node to speak to, a BEAM and then a Python. It lives on: not for tests that kill it."""
    kept_peer.reset()
    return kept_peer


@pytest.fixture(scope="module")
def kept_beam(epmd_port: int) -> Iterator[BeamPeer]:
    with nodes.beam(new_name("beam"), epmd_port) as peer:
        yield peer


@pytest.fixture
def beam(kept_beam: BeamPeer) -> BeamPeer:
    """A BEAM to speak to. It lives on: not for tests that kill it."""
    kept_beam.reset()
    return kept_beam


@pytest.fixture(params=KINDS)
def start(request: pytest.FixtureRequest, tidy: None, epmd_port: int) -> Iterator[Callable[..., Peer]]:
    """Starts nodes of one kind, all BEAMs and then all Pythons, that may be killed: `foo = start("foo")`."""
    with contextlib.ExitStack() as stack:

        def start_one(stem: str = "mortal", **options: object) -> Peer:
            peer: Peer = stack.enter_context(request.param(new_name(stem), epmd_port, **options))
            return peer

        yield start_one
