"""A node's name with the machine's epmd, kept for as long as the node lives.

Whoever answers is taken; if nobody does, we host an epmd of our own in this process. Nobody decides who hosts: the
port does. Of several that find nobody there, one gets the port, and the others register with it.

    epmd ends, or the process that hosted it     every node registers anew, and one of ours hosts
    a real one is started beside ours            it finds the port taken, ends, and its node registers with ours
    ours is no longer needed here                it stays for the names of others, and ends with the last
    the name has been taken meanwhile            said once in the log, then tried again and again

A BEAM whose epmd has gone does not start another; it registers anew with ours, after two seconds.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import selectors
import socket
import threading
import time
from collections.abc import Iterable
from typing import Final

from otplib.core.errors import DecodeError, NameTakenError, NodeError
from otplib.dist import epmd
from otplib.dist.epmd_server import EpmdServer

log = logging.getLogger("otplib")

#: Seconds until a name is registered, or we give up.
REGISTER_TIME: Final = 5.0
#: How long a taken name may become free before we say that it is taken, seconds.
_NAME_PATIENCE: Final = 0.3
#: Between two tries while others start at the same moment, seconds.
_SHORT_PAUSE: Final = 0.02
#: Between two tries to get a lost name back, seconds; the first comes at once.
_PAUSES: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
#: How long `close` waits for an epmd of ours, seconds: enough for it to end if ours was the last name.
_CLOSE_TIME: Final = 0.1


class EpmdKeeper:
    """Keeps one name registered, from `register()` to `close()`. Both block: helper threads call them.

    Args:
        name: the part of the node's name before the @.
        port: where the node listens.
        hidden: registered as a hidden node.
        epmd_port: where epmd is; `ERL_EPMD_PORT`, else 4369, if None.
        addresses: where an epmd of ours listens; only this machine is answered there,
        public: but for this one of them, where other machines may look for nodes.

    Example:
        >>> keeper = EpmdKeeper("foo", 4711, epmd_port=_free_port())
        >>> creation = keeper.register()
        >>> keeper.hosting, epmd.names(epmd_port=keeper.epmd_port)
        (True, {'foo': 4711})
        >>> keeper.close()
        >>> epmd.answers(epmd_port=keeper.epmd_port)
        False
    """

    def __init__(
        self,
        name: str,
        port: int,
        *,
        hidden: bool = False,
        epmd_port: int | None = None,
        addresses: Iterable[str] = (epmd.LOOPBACK,),
        public: str | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self.hidden = hidden
        self.epmd_port = epmd.default_port() if epmd_port is None else epmd_port
        self._addresses, self._public = tuple(addresses), public
        # The watching thread alone touches these two once it runs; `close` waits for its end before it does.
        self._registration: epmd.Registration | None = None
        self._server: EpmdServer | None = None
        self._closing = threading.Event()
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread: threading.Thread | None = None

    @property
    def hosting(self) -> bool:
        """Whether the machine's epmd is the one in this process that we have started."""
        server = self._server
        return server is not None and not server.ended

    @property
    def registered(self) -> bool:
        """Whether the name is ours at this moment."""
        registration = self._registration
        return registration is not None and registration.fileno() >= 0

    def register(self) -> int:
        """Get the name, and watch over it from here on; gives the creation, which stays the node's for its life.

        Raises:
            NameTakenError: another living node of this machine has the name.
            NodeError: the port of epmd belongs to something else, or cannot be had.
        """
        if self._thread is not None:
            raise NodeError(f"the name {self.name!r} is registered already")
        try:
            registration = self._registration = self._acquire_patiently()
        except BaseException:
            self.close()
            raise
        self._thread = threading.Thread(target=self._watch, name=f"otplib epmd keeper {self.name}", daemon=True)
        self._thread.start()
        return registration.creation

    def close(self) -> None:
        """Give the name back. An epmd of ours ends, unless others have names there. A second call changes nothing."""
        self._closing.set()
        with contextlib.suppress(OSError):  # closed already
            self._wake_write.send(b"x")
        if self._thread is not None:
            self._thread.join(REGISTER_TIME + 1)
        if self._registration is not None:
            self._registration.close()
        if self._server is not None:
            self._server.release()
            self._server.join(_CLOSE_TIME)
        self._wake_read.close()
        self._wake_write.close()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's sockets, without a word to anybody."""
        self._closing.set()
        if self._registration is not None:
            self._registration.close()  # the parent holds it too, so epmd notices nothing
        if self._server is not None:
            self._server.abandon()
        self._wake_read.close()
        self._wake_write.close()

    # ---- getting the name ------------------------------------------------------------------------------------------

    def _acquire_patiently(self) -> epmd.Registration:
        """As `_acquire`; a node of the same name that has just been stopped may still be on its way out."""
        end_of_patience = time.monotonic() + _NAME_PATIENCE
        while True:
            try:
                return self._acquire(time.monotonic() + REGISTER_TIME)
            except NameTakenError:
                if time.monotonic() > end_of_patience:
                    raise
            self._closing.wait(_SHORT_PAUSE)

    def _acquire(self, deadline: float) -> epmd.Registration:
        """Register, hosting an epmd if nobody answers."""
        while True:
            left = max(deadline - time.monotonic(), 0.1)
            fault: Exception | None
            try:
                return epmd.register(self.name, self.port, hidden=self.hidden, epmd_port=self.epmd_port, timeout=left)
            except ConnectionRefusedError:
                if (fault := self._host()) is None:
                    continue
            except OSError as error:
                fault = error  # an epmd that ended under our question, or somebody who says nothing
            except DecodeError as error:
                raise self._refuse(error) from None
            if time.monotonic() > deadline or self._closing.is_set():
                raise self._refuse(fault) from None
            self._closing.wait(_SHORT_PAUSE)

    def _refuse(self, fault: Exception) -> NodeError:
        return NodeError(
            f"cannot register {self.name!r} with an epmd on port {self.epmd_port} ({fault}). If that port belongs to "
            f"something else, set ERL_EPMD_PORT to another one, the same for all nodes"
        )

    def _host(self) -> OSError | None:
        """Start an epmd of ours; an error if that failed.

        Two that start at once both find nobody there, and one of them gets the port. The other fails here, and finds
        the winner when it asks again.
        """
        try:
            self._server = EpmdServer(self.epmd_port, addresses=self._addresses, public=self._public)
        except OSError as error:
            return error
        log.debug("no epmd on port %d: %s hosts one", self.epmd_port, self.name)
        return None

    # ---- keeping it: from here on the watching thread ----------------------------------------------------------------

    def _watch(self) -> None:
        while self._wait_for_loss():
            if self._registration is not None:
                self._registration.close()
            self._regain()

    def _wait_for_loss(self) -> bool:
        """Sleep until the name is lost (True) or the node wants no name any more (False)."""
        assert self._registration is not None
        if self._closing.is_set():
            return False
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            selector.register(self._registration, selectors.EVENT_READ)
            selector.select()
        return not self._closing.is_set()

    def _regain(self) -> None:
        """Register anew until it works. The creation it then gets is not used: the node is the one it was."""
        told = False
        for turn in itertools.count():
            try:
                self._registration = self._acquire(time.monotonic() + 1.0)
                return
            except (NameTakenError, NodeError) as error:
                if self._closing.wait(_PAUSES[min(turn, len(_PAUSES) - 1)]):
                    return
                if not told:
                    log.warning("node %s is not listed by epmd any more: %s. Trying again", self.name, error)
                    told = True


def _free_port() -> int:
    with socket.create_server((epmd.LOOPBACK, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
