"""A real kernel for tests: runs cells, and knows for each message of output to which cell it belongs."""

from __future__ import annotations

import os
import queue
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

ROOT = Path(__file__).resolve().parents[2]
#: Far more than anything here needs, so that a slow machine does not fail a test.
PATIENCE = 30.0

#: What the first cell of most tests says.
PRELUDE = """
import threading, time
import otplib
from otplib import (GenServer, Ok, NoReply, Reply, Supervise, Supervisor, process, receive, run, self_, send, sleep,
                    spawn, spawn_link)
from IPython.display import display
"""

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def plain(text: str) -> str:
    """Give a text without its colours."""
    return _ANSI.sub("", text)


@dataclass
class Cell:
    """One execution of a cell, and all that has come back for it."""

    request: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    reply: dict[str, Any] | None = None
    #: How many of `messages` had come when the kernel said the cell was over.
    at_idle: int | None = None
    replied_at: float = 0.0

    @property
    def done(self) -> bool:
        """Both signs that a cell is over have come."""
        return self.reply is not None and self.at_idle is not None

    def stream(self, name: str, messages: list[dict[str, Any]] | None = None) -> str:
        """All text of one stream."""
        chosen = self.messages if messages is None else messages
        return "".join(
            m["content"]["text"] for m in chosen if m["msg_type"] == "stream" and m["content"]["name"] == name
        )

    @property
    def stdout(self) -> str:
        """What was printed, also after the cell was over."""
        return self.stream("stdout")

    @property
    def stderr(self) -> str:
        """Crash reports and the like."""
        return self.stream("stderr")

    @property
    def stdout_in_time(self) -> str:
        """What was printed before the cell was over: what nbconvert stores and nbval compares."""
        return self.stream("stdout", self.messages[: self.at_idle])

    @property
    def displayed(self) -> list[str]:
        """The plain texts of all that was displayed."""
        return [m["content"]["data"]["text/plain"] for m in self.messages if m["msg_type"] == "display_data"]

    @property
    def result(self) -> str:
        """The text after `Out[n]:`."""
        found = [m for m in self.messages if m["msg_type"] == "execute_result"]
        return str(found[-1]["content"]["data"]["text/plain"]) if found else ""

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The errors shown, without colours."""
        shown = [m["content"] for m in self.messages if m["msg_type"] == "error"]
        return [{**one, "traceback": plain("\n".join(one["traceback"]))} for one in shown]

    def check(self) -> Self:
        """Fail unless the cell ended well."""
        assert self.reply is not None, "the cell has not ended"
        assert self.reply["content"]["status"] == "ok", self.errors or self.reply["content"]
        return self


class Kernel:
    """A kernel in a process of its own. `with Kernel() as kernel:` shuts it down in the end."""

    def __init__(self, *, path: Path = ROOT, cwd: Path | None = None) -> None:
        self._path = path
        self._cwd = cwd
        self.manager = KernelManager(kernel_name="python3")
        self.client: BlockingKernelClient
        self.cells: dict[str, Cell] = {}

    def __enter__(self) -> Self:
        environment = {**os.environ, "PYTHONPATH": str(self._path), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        # A kernel must not think it runs under pytest: it would leave its own streams alone.
        environment.pop("PYTEST_CURRENT_TEST", None)
        options = {"cwd": str(self._cwd)} if self._cwd is not None else {}
        self.manager.start_kernel(env=environment, **options)
        self._connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)
        self.manager.context.destroy()

    def _connect(self) -> None:
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def restart(self) -> None:
        """Restart as the browser's button does."""
        self.client.stop_channels()
        self.manager.restart_kernel()
        self.cells.clear()  # a new client counts its requests from one again
        self._connect()

    def start(self, code: str) -> Cell:
        """Ask for a cell to be run; its end is not waited for."""
        request = self.client.execute(code)
        return self.cells.setdefault(request, Cell(request))

    def run(self, code: str, *, timeout: float = PATIENCE) -> Cell:
        """Run a cell to its end."""
        cell = self.start(code)
        self.until(lambda: cell.done, f"the end of the cell {code!r}", timeout=timeout)
        return cell

    def value(self, expression: str) -> str:
        """Give the repr of an expression."""
        return self.run(expression).check().result

    def until(self, condition: Callable[[], Any], what: str, *, timeout: float = PATIENCE) -> None:
        """Take in messages until `condition` holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"waited {timeout} s in vain for {what}; " + self._tell()
            self._take_one(min(left, 0.01))

    def interrupt(self) -> None:
        """Press the interrupt button."""
        self.manager.interrupt_kernel()

    def _take_one(self, patience: float) -> None:
        try:
            self._file_reply(self.client.get_shell_msg(timeout=0))
        except queue.Empty:
            pass
        try:
            self._file_output(self.client.get_iopub_msg(timeout=patience))
        except queue.Empty:
            pass

    def _file_reply(self, message: dict[str, Any]) -> None:
        request = message["parent_header"].get("msg_id")
        if message["msg_type"] == "execute_reply" and request in self.cells:
            self.cells[request].reply = message
            self.cells[request].replied_at = time.monotonic()

    def _file_output(self, message: dict[str, Any]) -> None:
        cell = self.cells.get(message["parent_header"].get("msg_id"))
        if cell is None:
            return
        if message["msg_type"] == "status":
            if message["content"]["execution_state"] == "idle":
                cell.at_idle = len(cell.messages)
        else:
            cell.messages.append(message)

    def _tell(self) -> str:
        return "; ".join(f"cell {n}: {c.stdout!r} {c.stderr!r} {c.errors}" for n, c in enumerate(self.cells.values()))
