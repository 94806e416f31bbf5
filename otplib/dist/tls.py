r"""TLS between the nodes, as a BEAM speaks it with `-proto_dist inet_tls`. No socket here: bytes in, bytes out.

Everybody in the cluster has it, or nobody. A certificate authority of your own, for ten years:

    openssl req -x509 -newkey rsa:3072 -nodes -days 3650 -subj "/CN=my cluster" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout ca.key -out ca.pem

A certificate for the nodes of the host `vm`, the part of their names behind the @ (an address: `IP:10.0.0.5`):

    printf "subjectAltName=DNS:vm\nextendedKeyUsage=serverAuth,clientAuth\n" > vm.ext
    openssl req -newkey rsa:3072 -nodes -subj "/CN=vm" -keyout vm.key -out vm.csr
    openssl x509 -req -in vm.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 -extfile vm.ext -out vm.pem

A Python node with it:

    await node.start("bar", tls=Tls("vm.pem", "vm.key", cafile="ca.pem"))

A BEAM with it, `iex --sname foo --erl "-proto_dist inet_tls -ssl_dist_optfile /etc/my/tls.conf"`, where tls.conf holds

    [{server, [{certfile, "vm.pem"}, {keyfile, "vm.key"}, {cacertfile, "ca.pem"},
               {verify, verify_peer}, {fail_if_no_peer_cert, true}]},
     {client, [{certfile, "vm.pem"}, {keyfile, "vm.key"}, {cacertfile, "ca.pem"}, {verify, verify_peer}]}].

The cookie is asked for all the same. A certificate that has been renewed counts from the next connection on.
"""

from __future__ import annotations

import os
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from otplib.core.errors import NodeError

_PIECE: Final = 64 * 1024


class TlsError(NodeError, OSError):
    """A certificate that cannot be used, a peer that is refused or refuses us, or bytes that are no TLS."""


@dataclass(frozen=True)
class Tls:
    """How this node proves itself to others, and what it wants of them. The files are read at once, to see if they fit.

    Args:
        certfile: PEM; this node's certificate, and those between it and the authority's.
        keyfile: PEM; its key, if that is not in `certfile`.
        cafile: PEM; the authorities whose word counts.
        verify: want a certificate of the others, signed by one of them. Without it nobody can listen in, but anybody
            may stand in the middle.
        check_host: want the one who is called to have a certificate for the host in its name. False where all nodes
            share a certificate, as with `{server_name_indication, disable}`.
        password: of the key, if it has one.

    Raises:
        TlsError: a file that is not there, or holds something else; the text names it.
        ValueError: `verify` without `cafile`.
    """

    certfile: str | Path
    keyfile: str | Path | None = None
    cafile: str | Path | None = None
    verify: bool = True
    check_host: bool = True
    password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.verify and self.cafile is None:
            raise ValueError(
                "verify=True needs cafile=..., the authority that signs the nodes' certificates; verify=False takes any"
            )
        for name in ("certfile", "keyfile", "cafile"):
            path = getattr(self, name)
            if path is None:
                continue
            # Absolute: the files are read again for every connection, and a notebook may go elsewhere.
            path = Path(os.path.abspath(path))  # noqa: PTH100  # Path.resolve would follow links, which a renewal moves
            object.__setattr__(self, name, str(path))
            if not path.is_file():
                raise TlsError(f"{name}: there is no file {path}")
        self.context(server_side=False)
        self.context(server_side=True)

    def context(self, *, server_side: bool) -> ssl.SSLContext:
        """What one connection is made from.

        Raises:
            TlsError: the files no longer fit.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False if server_side else self.verify and self.check_host
        context.verify_mode = ssl.CERT_REQUIRED if self.verify else ssl.CERT_NONE
        if server_side:
            context.num_tickets = 0  # connections of nodes are not resumed
        try:
            # Without a password of ours OpenSSL would ask at the terminal, and the kernel would stand still.
            context.load_cert_chain(self.certfile, self.keyfile, self.password or "")
        except (OSError, ValueError) as error:
            key = f" and keyfile {self.keyfile}" if self.keyfile else ""
            raise TlsError(
                f"certfile {self.certfile}{key}: {_describe(error)}; expected a certificate and its key, both PEM"
            ) from None
        if self.cafile is not None:
            try:
                context.load_verify_locations(self.cafile)
            except (OSError, ValueError) as error:
                raise TlsError(f"cafile {self.cafile}: {_describe(error)}; expected certificates, PEM") from None
        return context


class TlsLayer:
    """One connection's TLS: stands between the socket and the packets.

    It begins by itself: what is written before the peer is known waits until it is. `feed` and `write` may be called
    on different threads. The records that go out are numbered, so they leave through `write` alone, in one order, also
    those that `feed` has an answer in: `write(b"")` gives them.

    Args:
        tls: whose certificate, and what is wanted of the peer.
        server_side: the peer has called us.
        server_hostname: the host of the node that we call.

    Raises:
        TlsError: the files no longer fit, or the host cannot be in a certificate.

    Example: see `tests/dist/test_tls.py`, where two of them stand back to back.
    """

    def __init__(self, tls: Tls, *, server_side: bool, server_hostname: str | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        context = tls.context(server_side=server_side)
        try:
            if context.check_hostname and not server_hostname:
                raise ValueError("its host is not known")
            self._object = context.wrap_bio(
                self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
            )
        except ValueError as error:  # no host, or one that no certificate can hold
            raise TlsError(f"cannot check the certificate of a node on {server_hostname!r}: {error}") from None
        self._lock = threading.Lock()  # guards all that follows, and the object
        self._waiting: list[bytes] = []  # written before the peer is known
        self._failed: TlsError | None = None
        #: The peer is known; what it says counts.
        self.established = False
        #: The peer has said that nothing more comes.
        self.closed = False

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Take what the socket gave: what the peer says, and whether there is an answer to be fetched with `write`.

        Raises:
            TlsError: the peer is not who it should be, refuses us, or does not speak TLS. There is nothing to go on
                with, and every later call raises it again.
        """
        with self._lock:
            self._check()
            self._incoming.write(data)
            try:
                self._shake_hands()
                plain = self._read() if self.established else b""
            except ssl.SSLError as error:
                raise self._fail(error) from None
            return plain, self._outgoing.pending > 0

    def write(self, data: bytes) -> bytes:
        """Give what the socket is to be given: for this, and for all that has waited. To be written before anything of
        a later call.

        Raises:
            TlsError: as `feed`.
        """
        with self._lock:
            self._check()
            try:
                if self.established:
                    self._encrypt(data)
                else:
                    self._waiting.append(data)
                    self._shake_hands()
            except ssl.SSLError as error:
                raise self._fail(error) from None
            return self._outgoing.read()

    def close(self) -> bytes:
        """Give what tells the peer that nothing more comes. A second call gives nothing."""
        with self._lock:
            try:
                if self._failed is None:
                    self._object.unwrap()
            except (ssl.SSLError, ValueError):
                pass  # it waits for the peer's word, and we do not; or there was never a connection
            return self._outgoing.read()

    def _shake_hands(self) -> None:
        if self.established:
            return
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        self.established = True
        for data in self._waiting:
            self._encrypt(data)
        self._waiting.clear()

    def _encrypt(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._object.write(view) :]  # one record at most

    def _read(self) -> bytes:
        pieces = []
        try:
            while piece := self._object.read(_PIECE):
                pieces.append(piece)
            self.closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.closed = True
        return b"".join(pieces)

    def _check(self) -> None:
        if self._failed is not None:
            raise TlsError(str(self._failed))

    def _fail(self, error: ssl.SSLError) -> TlsError:
        self._failed = TlsError(_describe(error))
        return self._failed


def _describe(error: Exception) -> str:
    """A fault in words; OpenSSL's own sentence names files and lines of its source."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the peer's certificate is refused: {error.verify_message}"
    if not isinstance(error, ssl.SSLError):
        return str(getattr(error, "strerror", None) or error)
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "alert" in reason:
        return f"the peer refuses us: {reason.rpartition('alert ')[2]}"
    return reason
