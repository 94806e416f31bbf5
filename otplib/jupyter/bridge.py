"""The only module that touches the running kernel.

What it puts in place, and takes away again:

* a group leader for each execution of a cell that spawns something, made when it first does so; it writes into that
  cell's output for as long as a process of the cell lives;
* `display` of a process goes the same way;
* before a cell: its asyncio task is made part of the shell process, so `self_()` is the same in all cells;
* after a cell: the machine gets up to 200 ms to settle, so the output of short-lived processes is complete and the
  same each time;
* what a cell shows for an `Exit`, an error of otplib, and an interrupted wait.

In a plain IPython terminal there is one place to write to, so only the last three happen.

All state is in one `Bridge`, kept beside the machine outside of every module that can be reloaded.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import traceback
from functools import cache
from pathlib import Path
from typing import Any, Final

from otplib.behaviours.group_leader import start_leader
from otplib.core import errors
from otplib.core.terms import Pid
from otplib.jupyter import output
from otplib.vm.context import runtime
from otplib.vm.machine import Machine, default_machine
from otplib.vm.output import install_output
from otplib.vm.shell import adopt_task

#: How long the end of a cell waits for the machine, seconds; a hog in the background costs each cell this much.
SETTLE_SECONDS: Final = 0.2
#: From this many cells on, leaders that nobody uses any more are let go.
MANY_LEADERS: Final = 128

_REQUIRED: Final = (7, 4)
_STATE: Final = "otplib._runtime_state"


def install(ip: Any, machine: Machine | None = None) -> None:
    """Connect otplib with a running IPython; a second call with the same one changes nothing.

    Args:
        ip: what `get_ipython()` gives.
        machine: whose output is led into cells; the default machine if None.

    Raises:
        ImportError: the kernel is older than ipykernel 7.4.
    """
    bridge = installed()
    if bridge is not None and bridge.ip is ip:
        bridge.claim(machine or default_machine())
        return
    check_kernel(ip)
    if bridge is not None:
        uninstall()
    bridge = Bridge(ip)
    sys.modules[_STATE].__dict__["bridge"] = bridge
    bridge.connect()
    bridge.claim(machine or default_machine())


def uninstall() -> None:
    """Undo `install`: IPython is as it was, and processes write as outside a notebook."""
    bridge = installed()
    if bridge is not None:
        bridge.disconnect()
        del sys.modules[_STATE].__dict__["bridge"]


def installed() -> Bridge | None:
    """Give the bridge in place, if any."""
    bridge: Bridge | None = sys.modules[_STATE].__dict__.get("bridge")
    return bridge


def check_kernel(ip: Any) -> None:
    """See that output of threads can be led to a cell: that came with ipykernel 7.4.

    Raises:
        ImportError: it cannot; the text says what runs here and what to type.
    """
    if getattr(ip, "kernel", None) is None:
        return
    module = sys.modules.get("ipykernel")
    version = str(getattr(module, "__version__", "")) or "of an unknown kind"
    numbers = getattr(module, "version_info", None)
    if hasattr(ip, "set_thread_parent") and (numbers is None or tuple(numbers[:2]) >= _REQUIRED):
        return
    raise ImportError(
        f"otplib needs ipykernel 7.4 or newer, which can put the output of processes into the right cell; this kernel "
        f'is ipykernel {version}. Run `%pip install --upgrade "ipykernel>=7.4"` in a cell, then restart the kernel'
    )


class Bridge:
    """One IPython, connected."""

    def __init__(self, ip: Any) -> None:
        self.ip = ip
        self.in_kernel = getattr(ip, "kernel", None) is not None
        self.machine: Machine | None = None
        self.streams: output.Streams | None = None
        self.router: output.DisplayRouter | None = None
        self.reports = output.ReportHandler()
        #: The leaders of the cells that spawned something, by the id of the request that ran the cell; oldest first.
        self._leaders: dict[str, Pid] = {}
        self._lock = threading.Lock()  # guards `_leaders`: cells of subshells run on threads of their own
        #: The request of the cell that began last.
        self._latest: output.Parent | None = None
        #: The exception that was last shown as an interrupt.
        self._interrupted: BaseException | None = None
        self._handles_errors = False

    # ---- in and out ------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Put everything in place."""
        if self.in_kernel:
            self.streams = output.Streams(self._find_stream("stdout"), self._find_stream("stderr"))
            self.router = output.DisplayRouter(self.ip.display_pub, self.streams)
        self.ip.events.register("pre_run_cell", self.begin_cell)
        self.ip.events.register("post_run_cell", self.end_cell)
        logging.getLogger("otplib").addHandler(self.reports)
        if not self.ip.custom_exceptions:  # there is room for one handler, and the user's comes first
            self.ip.set_custom_exc(_TRIMMED, _show)
            self._handles_errors = True
        self.begin_cell()  # the cell that imports otplib has begun already

    def disconnect(self) -> None:
        """Take everything away again."""
        if self.machine is not None:
            hooks = self.machine.hooks
            hooks.leader_for_shell = hooks.shell_died = None
            hooks.describe_file = str
        if self.router is not None:
            self.router.remove()
        self.ip.events.unregister("pre_run_cell", self.begin_cell)
        self.ip.events.unregister("post_run_cell", self.end_cell)
        logging.getLogger("otplib").removeHandler(self.reports)
        _render_with(None)
        if self._handles_errors:
            self.ip.set_custom_exc((), None)

    def claim(self, machine: Machine) -> None:
        """Lead this machine's output into cells."""
        self.machine = machine
        machine.hooks.describe_file = self.describe_file
        machine.hooks.shell_died = self.shell_died
        if self.in_kernel:
            machine.hooks.leader_for_shell = self.leader_for_shell

    def _find_stream(self, name: str) -> Any:
        """Give the kernel's own stream, below whatever wraps or captures it now."""
        stream = getattr(sys, name)
        while hasattr(stream, "wrapped"):
            stream = stream.wrapped
        return stream if hasattr(stream, "set_thread_parent") else getattr(self.ip.kernel, f"_{name}", stream)

    # ---- around a cell ---------------------------------------------------------------------------------------

    def begin_cell(self, info: Any = None) -> None:
        """Make ready for a cell, on its thread and in its task."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no loop runs here: a plain cell of a terminal
            task = None
        if task is not None:
            adopt_task(task)
        if self.in_kernel:
            self._latest = self.ip.get_parent()
        install_output()  # something else may have put its own streams in place since
        _render_with(self)  # %autoreload takes foreign attributes away from a class it reloads
        if self.machine is not None and self.machine.stopped:
            self.claim(default_machine())
            self._leaders.clear()
        if len(self._leaders) > MANY_LEADERS:
            self._drop_unused_leaders()

    def end_cell(self, result: Any = None) -> None:
        """Let the machine settle, then send what was written on its way."""
        if self._interrupted is not None and result is not None and result.error_in_exec is self._interrupted:
            result.error_in_exec = KeyboardInterrupt()  # the reply then says what the cell shows
        self._interrupted = None
        machine = runtime.default if self.machine is None else self.machine
        try:
            if machine is not None and not machine.stopped:
                machine.settle(SETTLE_SECONDS)
            if self.streams is not None:
                self.streams.flush()
        except KeyboardInterrupt:  # the button came in these 200 ms: the cell is over anyway
            pass

    # ---- what the machine asks -------------------------------------------------------------------------------

    def leader_for_shell(self) -> Pid | None:
        """Give the leader of the cell this code belongs to, a new one when the cell first spawns."""
        parent = self.ip.get_parent()
        request = parent.get("header", {}).get("msg_id") if parent else None
        machine = self.machine
        if request is None or machine is None or self.streams is None:
            return None
        with self._lock:
            leader = self._leaders.get(request)
            if leader is None or leader not in machine.leaders.writers:
                leader = start_leader(machine, output.CellWriter(self.streams, parent))
                self._leaders[request] = leader
            return leader

    def _drop_unused_leaders(self) -> None:
        """End the leaders of old cells that no process has any more. Those of the newest cells stay."""
        machine = self.machine
        assert machine is not None
        used = {record.leader for record in list(machine.table.values())} | machine.leaders.abroad
        with self._lock:
            for request, leader in list(self._leaders.items())[: -MANY_LEADERS // 2]:
                if leader not in used:
                    del self._leaders[request]
                    record = machine.table.get(leader.id)
                    if record is not None:
                        machine.doom(record, "shutdown")

    def describe_file(self, filename: str) -> str:
        """Give a cell's number for the file it was compiled as, `In[5]`; other files as seen from here."""
        found = self.ip.compile.format_code_name(filename)
        if found is not None:
            label: str = found[1]
            return label
        try:
            here = f"{Path.cwd()}{os.sep}"
        except OSError:  # the folder the kernel was started in has been deleted
            return filename
        return filename.removeprefix(here)

    def shell_died(self, pid: Pid, reason: Any) -> None:
        """Say in the cell that runs now that a signal has ended the shell process, as iex does."""
        text = output.shell_death(pid, reason) + "\n"
        if self.streams is not None and self._latest:
            self.streams.write("stderr", text, self._latest)
        else:
            sys.stderr.write(text)

    # ---- what a cell shows -----------------------------------------------------------------------------------

    def render(self, error: BaseException) -> list[str]:
        """Give the traceback of an `Exit` or an `OtplibError`: nothing of IPython's and otplib's insides."""
        if isinstance(error, errors.Exit):
            return output.exit_lines(error, self.describe_file, is_user_file)
        trace = output.user_part(error.__traceback__, is_user_file) or error.__traceback__
        lines: list[str] = self.ip.InteractiveTB.structured_traceback(type(error), error, trace, tb_offset=0)
        return lines

    def prepare(self, error: BaseException, files: list[str]) -> BaseException:
        """Give what to show for an exception that left a cell through frames of `files`, innermost last."""
        if isinstance(error, asyncio.CancelledError):
            if not any(map(_is_own, files)):  # nothing of ours was waited for
                return error
            # The kernel interrupts a waiting cell by cancelling its task: show it as the interrupt it is.
            self._interrupted = error
            error = KeyboardInterrupt().with_traceback(error.__traceback__)
        elif not _is_own(files[-1]):
            return error
        lines = self.render(error)
        error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]  # IPython's protocol
        return error


#: What `set_custom_exc` hands to `_show`: interrupted waits, and the built-in errors that otplib itself raises.
_TRIMMED: Final = (asyncio.CancelledError, TimeoutError, TypeError, ValueError)


def _show(ip: Any, kind: Any, error: BaseException, trace: Any, tb_offset: int | None = None) -> list[str]:
    """Show an exception of a cell, without otplib's insides if it arose there. IPython calls it, bound to itself."""
    bridge = installed()
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(trace)]
    shown = bridge.prepare(error, files) if bridge is not None and files else error
    ip.showtraceback((type(shown), shown, trace), running_compiled_code=True)
    return []


def _is_own(filename: str) -> bool:
    return filename.startswith(_OWN_FOLDER)


def _render_with(bridge: Bridge | None) -> None:
    """Give our errors the method that IPython asks for a traceback, or take it away."""
    for kind in (errors.Exit, errors.OtplibError):
        if bridge is not None:
            setattr(kind, "_render_traceback_", lambda error: bridge.render(error))  # noqa: B010  # IPython's protocol
        elif "_render_traceback_" in vars(kind):
            delattr(kind, "_render_traceback_")


_OWN_FOLDER: Final = str(Path(__file__).parent.parent) + os.sep


@cache
def _find_machinery() -> tuple[str, ...]:
    folders = [_OWN_FOLDER, str(Path(asyncio.__file__).parent) + os.sep]
    for name in ("IPython", "ipykernel", "tornado"):
        module = sys.modules.get(name)
        if module is not None and module.__file__ is not None:
            folders.append(str(Path(module.__file__).parent) + os.sep)
    return tuple(folders)


def is_user_file(filename: str) -> bool:
    """Tell whether a frame of this file says something about the user's program."""
    return not filename.startswith(("<frozen ", *_find_machinery()))
