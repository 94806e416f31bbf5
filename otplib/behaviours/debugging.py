"""What `system.trace` and `system.statistics` keep of a server that is watched; nothing of one that is not."""

from __future__ import annotations

import time
from typing import Any

from otplib.core.inspection import inspect_term
from otplib.core.terms import Atom
from otplib.vm.process_record import ProcessRecord

_OK = Atom("ok")


class Debugging:
    """Counts and prints the events of one server."""

    def __init__(self, record: ProcessRecord, name: Any) -> None:
        self._record = record
        self._name = name if isinstance(name, str) else inspect_term(name)
        self._tracing = False
        self._counting = False
        self._since = ""
        self._reductions = 0
        self._messages_in = 0
        self._messages_out = 0

    @property
    def is_off(self) -> bool:
        """Nothing is watched any more."""
        return not self._tracing and not self._counting

    def ask(self, request: Any) -> Any:
        """Carry out `("trace", bool)` or `("statistics", bool | "get")`; gives the answer, as OTP's `sys` does.

        Raises:
            ValueError: any other request.
        """
        word, value = request if isinstance(request, tuple) and len(request) == 2 else (request, None)
        if word == "trace":
            self._tracing = bool(value)
            return _OK
        if word == "statistics":
            return self._statistics(value)
        raise ValueError(f"no system request {request!r}")

    def _statistics(self, value: Any) -> Any:
        if value == "get":
            if not self._counting:
                return (_OK, Atom("no_statistics"))
            counts = {
                "start_time": self._since,
                "current_time": time.strftime("%Y-%m-%d %H:%M:%S"),
                "reductions": self._record.reductions - self._reductions,
                "messages_in": self._messages_in,
                "messages_out": self._messages_out,
            }
            return (_OK, counts)
        self._counting = bool(value)
        self._since = time.strftime("%Y-%m-%d %H:%M:%S")
        self._reductions = self._record.reductions
        self._messages_in = self._messages_out = 0
        return _OK

    def got(self, kind: str, message: Any, caller: Any) -> None:
        """Note a message that came in."""
        self._messages_in += 1
        if self._tracing:
            what = " ".join(word for word in ("got", kind, inspect_term(message)) if word)
            origin = f" from {caller[0]!r}" if caller is not None else ""
            print(f"*DBG* {self._name} {what}{origin}")

    def sent(self, value: Any, caller: Any, state: Any) -> None:
        """Note an answer."""
        self._messages_out += 1
        if self._tracing:
            print(f"*DBG* {self._name} sent {inspect_term(value)} to {caller[0]!r}, new state {inspect_term(state)}")

    def changed(self, state: Any) -> None:
        """Note a new state without an answer."""
        if self._tracing:
            print(f"*DBG* {self._name} new state {inspect_term(state)}")
