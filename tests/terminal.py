"""A command in a terminal of its own, driven as a person does: type, and wait for what must appear."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
import time
from collections.abc import Iterator

_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|[=>]|\][^\x07]*\x07)")

#: Seconds for anything to appear.
LIMIT = 30.0


class Terminal:
    """A pseudo-terminal with a process in it."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self.screen = ""  # all that has appeared, without colours and other escapes
        self._descriptor = descriptor
        self._raw = ""
        self._seen = 0

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def press_control(self, letter: str) -> None:
        os.write(self._descriptor, bytes([ord(letter.upper()) - 64]))

    def expect(self, text: str) -> str:
        """Wait until the text appears behind what was expected before; gives all that came up to its end."""
        deadline = time.monotonic() + LIMIT
        while (at := self.screen.find(text, self._seen)) < 0:
            if not self._read(deadline):
                raise AssertionError(f"{text!r} did not appear; since then: {self.screen[self._seen :]!r}")
        begin, self._seen = self._seen, at + len(text)
        return self.screen[begin : self._seen]

    def expect_end(self) -> int:
        """Wait until the process ends; gives its exit status."""
        deadline = time.monotonic() + LIMIT
        while self._read(deadline):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
            return False
        try:
            data = os.read(self._descriptor, 65_536)
        except OSError:  # Linux says so when the other end is closed
            return False
        self._raw += data.decode(errors="replace")
        self.screen = _ESCAPES.sub("", self._raw).replace("\r", "")
        return data != b""


@contextlib.contextmanager
def terminal(*arguments: str, **environment: str) -> Iterator[Terminal]:
    """Run `python -m otplib.cli ARGUMENTS` in a terminal; killed in the end, if it has not ended."""
    import pty

    command = [sys.executable, "-m", "otplib.cli", *arguments]
    # Cursor positions are asked of real terminals; nobody answers here, and prompt_toolkit would wait for it.
    variables = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "COLUMNS": "200", **environment}
    pid, descriptor = pty.fork()
    if pid == 0:
        os.execve(command[0], command, variables)
    opened = Terminal(pid, descriptor)
    try:
        yield opened
    finally:
        os.close(descriptor)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
