"""Nodes over TLS: with a real BEAM of `-proto_dist inet_tls`, and between two Pythons."""

from __future__ import annotations

import shutil

import pytest

from otplib import Atom, node, receive, rpc, self_
from tests.dist import nodes
from tests.dist.certificates import Authority, beam_has_tls, needs_openssl
from tests.dist.nodes import perform

pytestmark = needs_openssl

needs_tls_beam = pytest.mark.skipif(
    shutil.which("elixir") is None or not beam_has_tls(), reason="no BEAM with ssl (apt install elixir erlang-ssl)"
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_beam(authority, epmd_port):
    """A BEAM that speaks TLS alone."""
    arguments = " ".join(authority.beam_options("localhost"))
    with nodes.beam("tlsbeam", epmd_port, arguments=arguments) as peer:
        yield peer


@pytest.fixture(scope="module")
def tls_python(authority, epmd_port):
    with nodes.python("tlspython", epmd_port) as peer:
        tls = authority.tls("localhost")
        peer.eval("await node.stop()")
        peer.eval("from otplib.dist.tls import Tls")
        peer.eval(f"await node.start({peer.name!r}, {nodes.COOKIE!r}, epmd_port={epmd_port}, tls={tls!r})")
        yield peer


@pytest.fixture
def tls_py(tidy, authority, epmd_port):
    """A machine of this OS process that is a node with TLS; the machine of the test's code."""
    with nodes.machine_node("tlspy", epmd_port, tls=authority.tls("localhost")) as machine:
        yield machine


@needs_tls_beam
def test_we_call_a_beam_over_tls_and_large_terms_travel_both_ways(tls_py, tls_beam):
    async def scenario():
        assert await node.ping(tls_beam.name) == "pong"
        assert node.list() == [tls_beam.name]
        assert await rpc.call(tls_beam.name, ":lists.reverse", [1, 2, 3]) == [3, 2, 1]
        data = bytes(range(256)) * 8_000  # 2 MB: more than a hundred records
        return await rpc.call(tls_beam.name, ":erlang.iolist_to_binary", [data, b"end"]) == data + b"end"

    assert perform(scenario)


@needs_tls_beam
def test_a_beam_calls_us_over_tls(tls_py, tls_beam):
    assert tls_beam.eval("Node.ping(:tlspy@localhost)") == ":pong"
    assert tls_beam.eval(":rpc.call(:tlspy@localhost, :math, :sqrt, [2.25])") == "1.5"
    assert tls_beam.eval("Node.disconnect(:tlspy@localhost)") == "true"


@needs_tls_beam
def test_a_thousand_messages_over_tls_keep_their_order_while_others_come_the_other_way(tls_py, tls_beam):
    tls_beam.eval("""
        spawn(fn ->
          Process.register(self(), :echo)
          Enum.each(1..1000, fn _ -> receive do {from, n} -> send(from, n) end end)
        end)
    """)

    async def scenario():
        from otplib import send

        for number in range(1000):
            send((Atom("echo"), tls_beam.name), (self_(), number))
        return [await receive(int, timeout=20) for _ in range(1000)]

    assert perform(scenario) == list(range(1000))


@needs_tls_beam
def test_who_speaks_no_tls_is_not_let_in_and_does_not_get_in(epmd_port, tidy, authority, tls_beam):
    with nodes.machine_node("plain", epmd_port):
        assert perform(node.ping, tls_beam.name) == "pang"
    with nodes.machine_node("plain2", epmd_port):
        assert tls_beam.eval("Node.ping(:plain2@localhost)") == ":pang"


@needs_tls_beam
def test_a_certificate_of_another_authority_opens_no_door(epmd_port, tidy, tls_beam, tmp_path):
    strange = Authority(tmp_path / "stranger").tls("localhost")
    with nodes.machine_node("stranger", epmd_port, tls=strange):
        assert perform(node.ping, tls_beam.name) == "pang"
        assert tls_beam.eval("Node.ping(:stranger@localhost)") == ":pang"


def test_two_pythons_speak_over_tls_and_functions_travel(tls_py, tls_python):
    async def scenario():
        secret = 6
        assert await node.ping(tls_python.name) == "pong"
        assert await rpc.call(tls_python.name, lambda: secret * 7) == 42
        data = b"x" * 3_000_000
        assert await rpc.call(tls_python.name, len, data) == len(data)
        return await node.disconnect(tls_python.name)

    assert perform(scenario)


def test_many_processes_that_write_and_read_at_once_do_not_mix_up_the_records(tls_py, tls_python):
    async def one(number):
        from otplib import rpc

        for _ in range(20):
            data = bytes([number]) * 50_000
            assert await rpc.call(tls_python.name, bytes, data) == data
        return number

    async def scenario():
        calls = [rpc.async_call(node.self_(), one, number) for number in range(16)]
        return [await rpc.yield_(call) for call in calls]

    assert perform(scenario) == list(range(16))


def test_a_peer_speaks_tls_if_its_owner_does(tls_py):
    async def scenario():
        peer = await node.start_peer("tlspeer")
        return await rpc.call(peer.node, "otplib.node.list"), await rpc.call(peer.node, lambda: 6 * 7)

    assert perform(scenario) == (["tlspy@localhost"], 42)


def test_a_certificate_for_another_host_is_refused_by_who_calls(epmd_port, tidy, authority):
    wrong = authority.tls("elsewhere")
    with (
        nodes.machine_node("wrong", epmd_port, tls=wrong) as wrong_machine,
        nodes.machine_node("right", epmd_port, tls=authority.tls("localhost")),
    ):
        assert perform(node.ping, wrong_machine.node) == "pang"


def test_what_is_no_tls_is_refused_with_what_to_write(authority, epmd_port, tidy):
    with pytest.raises(TypeError, match=r"expected tls=Tls\(certfile="), nodes.machine_node("x", epmd_port, tls=True):
        pass
