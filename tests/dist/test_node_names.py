"""Names of nodes, and the addresses behind them."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time

import pytest

from otplib.core.errors import NodeError
from otplib.dist import addresses, node_names
from otplib.dist.addresses import Places, calling_addresses, is_ours, listening_places, look_up, open_listeners
from otplib.dist.node_names import check_alike, check_name, full_name, is_long, short_host, split_name
from tests.dist.beam import LIMIT, beam_environment, needs_beam, our_epmd

# ---- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("foo", "foo@vm"),
        ("Foo_1-a", "Foo_1-a@vm"),
        ("foo@bar", "foo@bar"),
        ("foo@bar.example.org", "foo@bar.example.org"),
        ("foo@127.0.0.1", "foo@127.0.0.1"),
        ("foo@under_score", "foo@under_score"),
    ],
)
def test_a_name_without_a_host_gets_this_machines_and_one_with_a_host_stays(name, full):
    assert full_name(name, host="vm") == full
    assert split_name(full) == tuple(full.split("@"))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "expected letters, digits"),
        ("@vm", "expected letters, digits"),
        ("foo bar", "expected letters, digits"),
        ("foo.bar", "expected letters, digits"),
        ("foo\n", "expected letters, digits"),
        ("bär", "expected letters, digits"),
        ("foo@", "a host is missing behind the @"),
        ("foo@a@b", "one @ between a name and a host was expected"),
        ("foo@a b", "a character that no node's name may have"),
        ("foo@\u1234", "a character that no node's name may have"),
        ("f" * 253 + "@vm", "longer than 255 characters"),
        ("undefined", "wants to be given a name"),
    ],
)
def test_a_wrong_name_is_refused_with_the_reason(name, why):
    with pytest.raises(NodeError) as caught:
        full_name(name, host="vm")
    assert why in str(caught.value)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", [None, 7, b"foo", ("foo", "bar")])
def test_what_is_no_text_is_no_name(name):
    for function in (full_name, check_name, split_name):
        with pytest.raises(TypeError, match=r"the name of a node is a str"):
            function(name)


def test_names_of_others_may_have_what_ours_may_not():
    assert check_name("bär.1@höst") == "bär.1@höst"  # an older BEAM took this
    with pytest.raises(NodeError, match=r"'foo' cannot be the name of a node"):
        check_name("foo")


def test_short_and_long_names_do_not_meet_and_the_error_says_what_to_write():
    check_alike("a@vm", "b@other")
    check_alike("a@vm.local", "b@10.0.0.1")
    for here, other in (("a@vm", "b@10.0.0.1"), ("a@10.0.0.1", "b@vm")):
        with pytest.raises(NodeError, match=r"they cannot connect\. Start both with a host"):
            check_alike(here, other)
    assert [is_long(name) for name in ("a@vm", "a@vm.x")] == [False, True]


@pytest.mark.parametrize(
    ("machine", "host"),
    [
        ("vm", "vm"),
        ("vm.example.org", "vm"),
        ("jupyter-me-2dproject-2dabc", "jupyter-me-2dproject-2dabc"),
        ("", "localhost"),
        ("my machine", "localhost"),
        ("\u1234", "localhost"),
    ],
)
def test_the_host_of_a_short_name_is_the_machines_own_name_up_to_a_dot(monkeypatch, machine, host):
    monkeypatch.setattr(socket, "gethostname", lambda: machine)
    assert short_host() == host
    assert full_name("foo") == f"foo@{host}"


@needs_beam
def test_a_beam_with_a_short_name_has_the_same_host_as_we(tmp_path):
    with our_epmd() as port:
        done = subprocess.run(
            [
                *("erl", "-noshell", "-start_epmd", "false", "-sname", "foo", "-setcookie", "x"),
                *("-eval", 'io:format("node ~s~n", [node()]), halt().'),
            ],
            env=beam_environment(port),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
    assert f"node {full_name('foo')}" in done.stdout.splitlines()


# ---- where to listen ----------------------------------------------------------------------------------------------


@pytest.fixture
def hosts(monkeypatch):
    """What names lead to; a name that is not in it leads nowhere."""
    known: dict[str, list[str]] = {"localhost": ["127.0.0.1"]}

    def getaddrinfo(host, port, family, kind):
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(family, kind, 6, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", getaddrinfo)
    return known


def test_on_debian_the_name_of_the_machine_has_a_loopback_address_of_its_own(hosts, monkeypatch):
    monkeypatch.setattr(addresses, "is_ours", lambda address: address.startswith("127."))
    hosts["vm"] = ["127.0.1.1"]
    assert listening_places("vm") == Places(("127.0.0.1", "127.0.1.1"), None)


def test_in_a_container_the_nodes_own_address_is_listened_on_but_only_for_this_machine(hosts, monkeypatch):
    monkeypatch.setattr(addresses, "is_ours", lambda address: address in ("127.0.0.1", "172.17.0.2"))
    hosts["3f2a9c"] = ["172.17.0.2"]
    places = listening_places("3f2a9c")
    assert places == Places(("127.0.0.1", "172.17.0.2"), None)
    assert places.admits("172.17.0.2", "172.17.0.2")
    assert places.admits("127.0.0.1", "127.0.0.1")
    assert places.admits("127.0.1.1", "127.0.0.1")
    assert not places.admits("172.17.0.2", "172.17.0.3")
    assert not places.admits("172.17.0.2", "8.8.8.8")


def test_a_name_that_leads_nowhere_or_to_another_machine_leaves_the_loopback_address(hosts):
    assert listening_places("nowhere") == Places(("127.0.0.1",), None)
    hosts["taken"] = ["192.0.2.1"]  # an address for examples in books: nobody has it
    assert listening_places("taken") == Places(("127.0.0.1",), None)


def test_listening_everywhere_is_open_to_everybody(hosts):
    places = listening_places("vm", "0.0.0.0")
    assert places == Places(("0.0.0.0",), "0.0.0.0")
    assert places.admits("10.0.0.1", "8.8.8.8")


def test_one_address_can_be_opened_and_the_others_stay_for_this_machine(hosts, monkeypatch):
    monkeypatch.setattr(addresses, "is_ours", lambda address: address in ("127.0.0.1", "127.0.1.1", "10.0.0.5"))
    hosts["vm"] = ["127.0.1.1"]
    hosts["card"] = ["10.0.0.5"]
    for listen in ("10.0.0.5", "card"):
        places = listening_places("vm", listen)
        assert places == Places(("127.0.0.1", "10.0.0.5", "127.0.1.1"), "10.0.0.5")
        assert places.admits("10.0.0.5", "10.0.0.9")
        assert not places.admits("127.0.1.1", "10.0.0.9")


@pytest.mark.parametrize("listen", ["192.0.2.1", "no.such.name", "::1", "", "300.1.2.3"])
def test_an_address_that_is_not_ours_is_refused(hosts, listen):
    with pytest.raises(NodeError, match=r"expected an IPv4 address of this machine"):
        listening_places("vm", listen)


def test_an_address_is_ours_if_one_can_listen_on_it():
    assert is_ours("127.0.0.1")
    assert not is_ours("192.0.2.1")
    assert not is_ours("0.0.0.0")
    assert not is_ours("nonsense")


def test_one_port_is_opened_on_all_addresses_and_is_one_that_all_of_them_have_free(monkeypatch):
    real, ports = addresses._listen, []

    def listen(address, port):
        if address == "127.0.0.2" and not ports:
            ports.append(port)
            raise OSError(98, "Address already in use")
        return real(address if address == "127.0.0.1" else "127.0.0.1", 0 if address != "127.0.0.1" else port)

    monkeypatch.setattr(addresses, "_listen", listen)
    listeners = open_listeners(["127.0.0.1", "127.0.0.2"])
    with contextlib.ExitStack() as stack:
        for each in listeners:
            stack.enter_context(each)
        assert len(listeners) == 2
        assert len(ports) == 1
        assert not listeners[0].getblocking()


def test_a_port_that_is_taken_is_named_and_nothing_stays_open():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NodeError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: .*in use"):
            open_listeners(["127.0.0.1"], port)
        with pytest.raises(NodeError, match=r"cannot listen on 192\.0\.2\.1 port"):
            open_listeners(["127.0.0.1", "192.0.2.1"])


# ---- where to call ------------------------------------------------------------------------------------------------


def test_nodes_of_this_machine_are_called_on_the_loopback_address_first(hosts, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "vm.example.org")
    hosts["vm"] = ["127.0.1.1"]
    assert calling_addresses("vm", here="vm") == ["127.0.0.1", "127.0.1.1"]
    assert calling_addresses("unknown-container", here="unknown-container") == ["127.0.0.1"]
    assert calling_addresses("vm.example.org", here="10.0.0.1") == ["127.0.0.1"]
    assert calling_addresses("localhost", here="vm") == ["127.0.0.1"]
    assert calling_addresses("127.0.0.1", here="127.0.0.1") == ["127.0.0.1"]


def test_other_machines_are_called_where_their_name_leads(hosts):
    hosts["far"] = ["192.0.2.7", "192.0.2.8"]
    assert calling_addresses("far", here="vm") == ["192.0.2.7", "192.0.2.8"]
    assert calling_addresses("192.0.2.7", here="vm") == ["192.0.2.7"]
    assert calling_addresses("nowhere", here="vm") == []


def test_a_resolver_that_does_not_answer_is_not_waited_for(monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *arguments: answered.wait(LIMIT) and [])
    try:
        began = time.monotonic()
        assert look_up("slow", timeout=0.05) == []
        assert time.monotonic() - began < LIMIT / 2
    finally:
        answered.set()
        for thread in threading.enumerate():
            if thread.name == "otplib look up":
                thread.join(LIMIT)


def test_a_name_that_no_resolver_takes_has_no_address():
    assert look_up("a" * 300) == []
    assert look_up("..") == []


def test_the_module_of_names_asks_the_machine_for_its_name_only_when_none_is_given(monkeypatch):
    def unasked():
        raise AssertionError("asked")

    monkeypatch.setattr(node_names.socket, "gethostname", unasked)
    assert full_name("foo@bar") == "foo@bar"
