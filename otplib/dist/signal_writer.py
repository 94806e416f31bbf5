"""How a signal is written for one peer: a BEAM and a Python node read different things in the same words."""

from __future__ import annotations

from typing import Any, Final

from otplib.core.errors import CopyError
from otplib.core.inspection import inspect_term
from otplib.dist.control import ControlMessage, Exit, Exit2, MonitorPExit
from otplib.dist.control_writer import ControlWriter
from otplib.dist.etf import Encoder, Here
from otplib.dist.handshake import Peer
from otplib.dist.shapes import reason_to_wire

_WITH_REASON: Final = (Exit, Exit2, MonitorPExit)
_LONGEST: Final = 1_000


class SignalWriter:
    """Writes signals for one peer; safe on any thread."""

    def __init__(self, peer: Peer, here: Here, pickle: bool) -> None:
        python = peer.is_python
        self._for_beam = not python
        encoder = Encoder(python_peer=python, allow_pickle=pickle, here=here)
        self._write = ControlWriter(encoder, peer.flags).write

    def __call__(self, message: ControlMessage) -> bytes:
        """Give the packet of a signal.

        Raises:
            CopyError: it holds something that cannot be sent to this peer.
        """
        if not isinstance(message, _WITH_REASON):
            return self._write(message)
        if self._for_beam:
            message = message._replace(reason=reason_to_wire(message.reason))
        try:
            return self._write(message)
        except (CopyError, ValueError):
            # That somebody has died must be heard, whatever of the reason can be told.
            return self._write(message._replace(reason=_tellable(message.reason)))


def _tellable(reason: Any) -> Any:
    """Give what can be said of a reason that cannot be sent."""
    if type(reason) is tuple and reason and isinstance(reason[0], BaseException):
        return (reason[0].__class__.__qualname__, str(reason[0])[:_LONGEST])
    return inspect_term(reason)[:_LONGEST]
