"""A program in a terminal of its own, as a person sees it: `iex` behaves otherwise where it finds no terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import threading
from collections.abc import Iterator

from tests.dist.beam import LIMIT, beam_environment
from tests.dist.nodes import until

#: What moves the cursor, colours the text, or rings.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>()][A-Z0-9]?|[\x07\x08\r]")


class Terminal:
    """Type into it, and look at what it shows."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self._shown = b""
        self._reader = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """All that it has shown, without colours."""
        return _CONTROL.sub("", self._shown.decode(errors="replace"))

    def type(self, line: str) -> None:
        """Type a line and the Enter key."""
        os.write(self._master, line.encode() + b"\r")

    def shows(self, text: str, times: int = 1) -> bool:
        """Wait until it has shown the text that often; False if it does not."""
        return until(lambda: self.text.count(text) >= times)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the program has ended, and its terminal with it
            while data := os.read(self._master, 65_536):
                self._shown += data

    def close(self) -> None:
        """End the program."""
        self.process.kill()
        self.process.wait(LIMIT)
        self._reader.join(LIMIT)
        os.close(self._master)


@contextlib.contextmanager
def iex(name: str, epmd_port: int, cookie: str) -> Iterator[Terminal]:
    """`iex --sname name@localhost` at its first prompt."""
    master, slave = pty.openpty()
    command = ["iex", "--sname", f"{name}@localhost", "--cookie", cookie, "--erl", "-start_epmd false"]
    environment = {**beam_environment(epmd_port), "TERM": "xterm"}
    process = subprocess.Popen(
        command, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        assert terminal.shows(f"iex({name}@localhost)1>"), terminal.text
        yield terminal
    finally:
        terminal.close()
