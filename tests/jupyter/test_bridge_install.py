"""Connecting with IPython and letting go of it, on fakes: no kernel is started."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytest
from IPython.core.interactiveshell import InteractiveShell

from otplib import errors
from otplib.jupyter import bridge, output
from otplib.testing import deterministic
from tests.jupyter.kernel import ROOT

if TYPE_CHECKING:
    from otplib.vm.machine import Machine


class OldKernelShell:
    """IPython in a kernel that cannot lead the output of a thread."""

    kernel = object()


def as_version(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Let this interpreter look as if it ran another ipykernel."""
    module = ModuleType("ipykernel")
    numbers = tuple(int(part) for part in version.split("."))
    module.__dict__.update(__version__=version, version_info=numbers)
    monkeypatch.setitem(sys.modules, "ipykernel", module)


@pytest.mark.parametrize("version", ["6.29.5", "7.0.1", "7.3.0"])
def test_an_old_ipykernel_gets_told_what_runs_and_what_to_type(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    as_version(monkeypatch, version)
    with pytest.raises(ImportError) as caught:
        bridge.install(OldKernelShell())
    text = str(caught.value)
    assert "needs ipykernel 7.4 or newer" in text
    assert f"this kernel is ipykernel {version}" in text
    assert '%pip install --upgrade "ipykernel>=7.4"' in text
    assert "restart the kernel" in text
    assert bridge.installed() is None


def test_a_kernel_of_another_make_gets_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    with pytest.raises(ImportError, match="ipykernel of an unknown kind"):
        bridge.check_kernel(OldKernelShell())


@pytest.mark.parametrize("version", ["7.4.0", "7.10.1", "8.0.0"])
def test_a_new_enough_ipykernel_is_taken(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    as_version(monkeypatch, version)
    shell = SimpleNamespace(kernel=object(), set_thread_parent=lambda parent: None)
    bridge.check_kernel(shell)


def test_outside_ipython_nothing_is_connected_and_nothing_of_it_imported() -> None:
    code = "import otplib, sys; print([m for m in sys.modules if m.startswith(('IPython', 'otplib.jupyter'))])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.fixture
def shell() -> Any:
    """Give a plain IPython, as in a terminal."""
    shell = InteractiveShell()
    yield shell
    bridge.uninstall()


def handlers() -> int:
    """Count our handlers of reports."""
    found = logging.getLogger("otplib").handlers
    return sum(type(handler).__name__ == output.ReportHandler.__name__ for handler in found)


def test_uninstall_leaves_ipython_as_it_was(shell: Any) -> None:
    before = {event: list(callbacks) for event, callbacks in shell.events.callbacks.items()}
    bridge.install(shell)
    assert shell.events.callbacks != before
    assert handlers() == 1
    bridge.uninstall()
    assert {event: list(callbacks) for event, callbacks in shell.events.callbacks.items()} == before
    assert handlers() == 0
    assert shell.custom_exceptions == ()
    assert not hasattr(errors.Exit, "_render_traceback_")
    assert bridge.installed() is None


def test_installing_twice_changes_nothing_the_second_time(shell: Any) -> None:
    bridge.install(shell)
    first = bridge.installed()
    bridge.install(shell)
    assert bridge.installed() is first
    assert handlers() == 1


def test_a_handler_of_the_users_own_for_exceptions_is_left_in_place(shell: Any) -> None:
    shell.set_custom_exc((ValueError,), lambda *_: [])
    bridge.install(shell)
    assert shell.custom_exceptions == (ValueError,)
    bridge.uninstall()
    assert shell.custom_exceptions == (ValueError,)


def test_an_interrupt_while_the_machine_settles_ends_the_cell_and_shows_nothing(shell: Any) -> None:
    def settle(timeout: float) -> bool:
        raise KeyboardInterrupt

    bridge.install(shell)
    connected = bridge.installed()
    assert connected is not None
    machine = SimpleNamespace(settle=settle, stopped=False, hooks=SimpleNamespace())
    connected.claim(cast("Machine", machine))
    connected.end_cell()


class ClosedStream:
    """The kernel's stream, after its end."""

    closed = True

    def set_thread_parent(self, parent: Any) -> None: ...

    def reset_thread_parent(self, token: Any) -> None: ...

    def write(self, text: str) -> None:
        raise ValueError("I/O operation on closed file")


def test_text_that_comes_after_the_end_of_the_kernel_is_dropped() -> None:
    output.Streams(ClosedStream(), ClosedStream()).write("stdout", "too late", {})


def test_a_stream_that_refuses_text_while_it_is_open_is_heard() -> None:
    stream = ClosedStream()
    stream.closed = False
    with pytest.raises(ValueError, match="closed file"):
        output.Streams(stream, stream).write("stdout", "text", {})


class Orphan(io.StringIO):
    """A wrapped stream whose leader is dead."""

    def __init__(self) -> None:
        super().__init__()
        self.wrapped = io.StringIO()

    def write(self, text: str) -> int:
        raise errors.LeaderError("the group leader is dead")


def test_a_report_whose_leader_is_dead_is_shown_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Orphan()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(logging.getLogger("alone"), "propagate", False)  # pytest has a handler at the root
    handler = output.ReportHandler()
    handler.emit(logging.LogRecord("alone", logging.ERROR, "", 0, "it %s", ("crashed",), None))
    assert stream.wrapped.getvalue() == "[error] it crashed\n\n"


def test_a_leader_of_the_users_own_stands_for_the_cell_of_its_own_leader() -> None:
    class Writer:
        parent: ClassVar = {"header": {"msg_id": "cell"}}

        def write(self, stream: str, text: str) -> None: ...

    with deterministic() as machine:
        cell_leader, own_leader, orphan = machine.new_pid(), machine.new_pid(), machine.new_pid()
        machine.leaders.writers[cell_leader] = Writer()
        machine.table[own_leader.id] = SimpleNamespace(leader=cell_leader)
        assert output.parent_of(machine, cell_leader) is Writer.parent
        assert output.parent_of(machine, own_leader) is Writer.parent
        assert output.parent_of(machine, orphan) is None
        machine.table[own_leader.id] = SimpleNamespace(leader=own_leader)
        assert output.parent_of(machine, own_leader) is None
        machine.table.clear()
