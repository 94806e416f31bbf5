"""TLS without a socket: two layers back to back, wrong certificates, and bytes that are no TLS."""

from __future__ import annotations

import copy
import os
import random
import ssl
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otplib import run
from otplib.core.errors import NodeError
from otplib.dist.tls import Tls, TlsError, TlsLayer
from tests.dist.certificates import Authority, needs_openssl

pytestmark = needs_openssl


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls(authority):
    return authority.tls("vm")


class Line:
    """Two layers and what is on its way between them; `go` delivers until nothing is."""

    def __init__(self, caller: TlsLayer, called: TlsLayer, piece: int = 1 << 30) -> None:
        self.ends = {"caller": caller, "called": called}
        self.piece = piece
        self.under_way = {"caller": b"", "called": b""}  # by who will get it
        self.heard = {"caller": b"", "called": b""}

    def say(self, who: str, data: bytes) -> None:
        self.under_way[_other(who)] += self.ends[who].write(data)

    def go(self) -> None:
        while any(self.under_way.values()):
            for who, data in self.under_way.items():
                if data:
                    self.under_way[who] = data[self.piece :]
                    plain, answer = self.ends[who].feed(data[: self.piece])
                    self.heard[who] += plain
                    if answer:
                        self.say(who, b"")


def _other(who: str) -> str:
    return "called" if who == "caller" else "caller"


def connect(mine: Tls, yours: Tls, host: str | None = "vm", piece: int = 1 << 30) -> Line:
    line = Line(TlsLayer(mine, server_side=False, server_hostname=host), TlsLayer(yours, server_side=True), piece)
    line.say("caller", b"hello")
    line.go()
    return line


# ---- what goes well -----------------------------------------------------------------------------------------------


def test_what_is_written_before_the_peer_is_known_arrives_once_it_is(tls):
    line = Line(TlsLayer(tls, server_side=False, server_hostname="vm"), TlsLayer(tls, server_side=True))
    line.say("caller", b"one, ")
    line.say("caller", b"two")
    assert not line.ends["caller"].established
    line.go()
    assert all(end.established for end in line.ends.values())
    assert line.heard == {"caller": b"", "called": b"one, two"}
    line.say("called", b"three")
    line.go()
    assert line.heard["caller"] == b"three"


def test_the_called_side_may_speak_first(tls):
    line = Line(TlsLayer(tls, server_side=False, server_hostname="vm"), TlsLayer(tls, server_side=True))
    line.say("called", b"welcome")
    assert line.under_way["caller"] == b""  # it has not been called yet
    line.say("caller", b"")
    line.go()
    assert line.heard["caller"] == b"welcome"


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_bytes_may_arrive_in_pieces_of_any_size(tls, piece):
    line = connect(tls, tls, piece=piece)
    assert line.heard["called"] == b"hello"
    data = random.Random(1).randbytes(50_000 if piece > 1 else 1_000)
    line.say("called", data)
    line.go()
    assert line.heard["caller"] == data


def test_large_data_arrives_whole_and_nothing_of_it_can_be_read_on_the_way(tls):
    line = connect(tls, tls)
    data = b"otplib" * 500_000
    line.say("caller", data)
    assert b"otplib" not in line.under_way["called"]
    line.go()
    assert line.heard["called"] == b"hello" + data


@given(chunks=st.lists(st.tuples(st.sampled_from(["caller", "called"]), st.binary(max_size=40_000)), max_size=8))
def test_whatever_is_said_arrives_in_its_order_on_both_sides(tls, chunks):
    line = connect(tls, tls)
    for who, data in chunks:
        line.say(who, data)
    line.go()
    assert line.heard["called"] == b"hello" + b"".join(data for who, data in chunks if who == "caller")
    assert line.heard["caller"] == b"".join(data for who, data in chunks if who == "called")


def test_closing_is_told_to_the_other_side_once(tls):
    line = connect(tls, tls)
    farewell = line.ends["caller"].close()
    assert farewell
    assert line.ends["caller"].close() == b""
    assert line.ends["called"].feed(farewell)[0] == b""
    assert line.ends["called"].closed
    assert TlsLayer(tls, server_side=True).close() == b""


def test_reading_and_writing_at_once_on_two_threads_keeps_the_records_whole(tls):
    line = connect(tls, tls)
    caller, called = line.ends["caller"], line.ends["called"]
    towards_caller = [called.write(b"x" * 3_000) for _ in range(300)]
    heard, sent = [], []

    def read():
        heard.extend(caller.feed(each)[0] for each in towards_caller)

    def write():
        sent.extend(caller.write(b"%05d" % number * 600) for number in range(300))

    threads = [threading.Thread(target=each) for each in (read, write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert b"".join(heard) == b"x" * 900_000
    assert called.feed(b"".join(sent))[0] == b"".join(b"%05d" % number * 600 for number in range(300))


def test_only_versions_that_are_not_broken_are_spoken(tls):
    context = tls.context(server_side=True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert connect(tls, tls).ends["caller"]._object.version() == "TLSv1.3"


def test_an_older_peer_is_spoken_to_in_version_1_2(tls, monkeypatch):
    real = Tls.context

    def older(self, *, server_side):
        context = real(self, server_side=server_side)
        if server_side:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    monkeypatch.setattr(Tls, "context", older)
    line = connect(tls, tls)
    assert line.ends["caller"]._object.version() == "TLSv1.2"
    assert line.heard["called"] == b"hello"


def test_the_settings_are_a_value_that_may_be_handed_to_a_process(tls, monkeypatch):
    assert tls == copy.deepcopy(tls)
    assert run(lambda given: given == tls, tls)
    assert "password" not in repr(Tls(tls.certfile, tls.keyfile, tls.cafile, password="hunter2"))


# ---- who is refused -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """A certificate for the same host by an authority that nobody knows."""
    return Authority(tmp_path_factory.mktemp("stranger")).tls("vm")


def test_a_called_node_with_a_certificate_of_another_authority_is_refused(tls, stranger):
    with pytest.raises(TlsError, match=r"the peer's certificate is refused: "):
        connect(tls, stranger)


def test_a_caller_with_a_certificate_of_another_authority_is_refused(authority, tls, stranger):
    mixed = Tls(stranger.certfile, stranger.keyfile, cafile=authority.cafile)
    with pytest.raises(TlsError, match=r"the peer's certificate is refused"):
        connect(mixed, tls)


def test_a_caller_without_a_certificate_is_refused(authority, tls):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.cafile)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    naked = context.wrap_bio(incoming, outgoing, server_hostname="vm")
    called = TlsLayer(tls, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        naked.do_handshake()
    called.feed(outgoing.read())
    incoming.write(called.write(b""))
    naked.do_handshake()  # in version 1.3 it believes that all is well
    with pytest.raises(TlsError, match=r"did not return a certificate"):
        called.feed(outgoing.read())
    assert not called.established


def test_a_node_of_another_host_than_the_one_called_is_refused_unless_hosts_do_not_matter(authority, tls):
    with pytest.raises(TlsError, match=r"the peer's certificate is refused: .*(?i:hostname mismatch)"):
        connect(tls, tls, host="elsewhere")
    careless = Tls(tls.certfile, tls.keyfile, authority.cafile, check_host=False)
    assert connect(careless, tls, host="elsewhere").heard["called"] == b"hello"
    assert connect(careless, tls, host=None).heard["called"] == b"hello"


def test_without_verification_anybody_is_taken_and_still_nothing_can_be_read(tls, stranger):
    open_to_all = Tls(stranger.certfile, stranger.keyfile, verify=False)
    line = connect(open_to_all, open_to_all, host="anything")
    assert line.heard["called"] == b"hello"
    with pytest.raises(TlsError):  # but who verifies does not take them
        connect(tls, open_to_all)


def test_a_refusal_by_the_peer_is_told_in_words(tls, stranger):
    called = TlsLayer(tls, server_side=True)
    caller = TlsLayer(Tls(stranger.certfile, stranger.keyfile, verify=False), server_side=False)
    called.feed(caller.write(b"hello"))
    caller.feed(called.write(b""))
    with pytest.raises(TlsError, match=r"the peer's certificate is refused"):
        called.feed(caller.write(b""))
    alert = called._outgoing.read()
    with pytest.raises(TlsError, match=r"the peer refuses us: unknown ca"):
        caller.feed(alert)


def test_a_host_that_no_certificate_can_hold_is_refused_at_once(tls):
    for host in (None, "", "a" * 64):
        with pytest.raises(TlsError, match=r"cannot check the certificate of a node on"):
            TlsLayer(tls, server_side=False, server_hostname=host)


# ---- what is no TLS -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [True, False], ids=["called", "caller"])
@pytest.mark.parametrize("data", [b"\x00\x15n\x00\x05", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, bytes(100)])
def test_a_peer_that_speaks_no_tls_is_one_kind_of_error_for_ever(tls, side, data):
    layer = TlsLayer(tls, server_side=side, server_hostname=None if side else "vm")
    layer.write(b"secret")
    with pytest.raises(TlsError):
        layer.feed(data)
    for later in (lambda: layer.feed(b""), lambda: layer.write(b"x")):
        with pytest.raises(TlsError):
            later()
    layer.close()


@given(garbage=st.binary(min_size=1, max_size=300), seed=st.integers(0, 1 << 30))
def test_garbage_at_any_moment_is_one_kind_of_error_or_waits_for_more(tls, garbage, seed):
    layer = TlsLayer(tls, server_side=bool(seed & 1), server_hostname=None if seed & 1 else "vm")
    try:
        layer.feed(garbage)
    except TlsError:
        pass
    line = connect(tls, tls)
    try:
        plain, _ = line.ends["called"].feed(garbage)
        assert plain == b""
    except TlsError:
        pass


def test_one_changed_bit_after_the_handshake_ends_the_connection(tls):
    line = connect(tls, tls)
    data = bytearray(line.ends["caller"].write(b"pay 10 to foo"))
    data[-5] ^= 1
    with pytest.raises(TlsError, match=r"bad"):
        line.ends["called"].feed(bytes(data))


def test_the_error_is_a_node_error_and_one_of_the_system(tls):
    assert issubclass(TlsError, NodeError)
    assert issubclass(TlsError, OSError)


# ---- the files ----------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_named(authority, tls, tmp_path):
    absent = tmp_path / "absent.pem"
    with pytest.raises(TlsError, match=r"certfile: there is no file .*absent\.pem"):
        Tls(absent, tls.keyfile, authority.cafile)
    with pytest.raises(TlsError, match=r"keyfile: there is no file .*absent\.pem"):
        Tls(tls.certfile, absent, authority.cafile)
    with pytest.raises(TlsError, match=r"cafile: there is no file .*absent\.pem"):
        Tls(tls.certfile, tls.keyfile, absent)


def test_files_that_do_not_fit_are_named(authority, tls, stranger, tmp_path):
    words = tmp_path / "words.pem"
    words.write_text("just words", encoding="utf-8")
    with pytest.raises(TlsError, match=r"certfile .*words\.pem.*expected a certificate and its key"):
        Tls(words, tls.keyfile, authority.cafile)
    with pytest.raises(TlsError, match=r"certfile .* and keyfile .*: key values mismatch"):
        Tls(tls.certfile, stranger.keyfile, authority.cafile)
    with pytest.raises(TlsError, match=r"cafile .*words\.pem: .*; expected certificates"):
        Tls(tls.certfile, tls.keyfile, words)


def test_a_key_with_a_password_is_opened_by_it_and_without_it_nobody_is_asked(authority, tls, tmp_path):
    locked = tmp_path / "locked.key"
    code = os.spawnlp(
        os.P_WAIT, "openssl", "openssl", "ec", "-in", tls.keyfile, "-out", str(locked), "-aes128",
        "-passout", "pass:hunter2",
    )  # fmt: skip
    assert code == 0
    opened = Tls(tls.certfile, locked, authority.cafile, password="hunter2")
    assert connect(opened, tls).heard["called"] == b"hello"
    for password in (None, "wrong"):
        with pytest.raises(TlsError, match=r"keyfile .*locked\.key"):
            Tls(tls.certfile, locked, authority.cafile, password=password)


def test_verifying_without_an_authority_is_a_mistake_of_the_caller(tls):
    with pytest.raises(ValueError, match=r"verify=True needs cafile"):
        Tls(tls.certfile, tls.keyfile)


def test_a_renewed_certificate_counts_from_the_next_connection_on(authority, tmp_path):
    mine = authority.tls("vm")
    copy_of_mine = tmp_path / "mine.pem"
    copy_of_mine.write_bytes(Path(mine.certfile).read_bytes() + Path(mine.keyfile).read_bytes())
    moving = Tls(copy_of_mine, cafile=authority.cafile)
    assert connect(mine, moving).heard["called"] == b"hello"
    certificate, key = authority.certify("elsewhere")
    copy_of_mine.write_bytes(certificate.read_bytes() + key.read_bytes())
    with pytest.raises(TlsError, match=r"(?i)hostname mismatch"):
        connect(mine, moving)
    copy_of_mine.write_bytes(b"")
    with pytest.raises(TlsError, match=r"mine\.pem"):
        TlsLayer(moving, server_side=True)


def test_relative_paths_count_from_where_the_settings_were_made(authority, tls, tmp_path, monkeypatch):
    monkeypatch.chdir(authority.folder)
    relative = Tls("vm.pem", "vm.key", "ca.pem")
    monkeypatch.chdir(tmp_path)
    assert connect(relative, tls).heard["called"] == b"hello"
