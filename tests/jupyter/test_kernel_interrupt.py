"""The Interrupt button ends a waiting cell within half a second, and nothing else."""

from __future__ import annotations

import time

import pytest

from tests.jupyter.kernel import Cell, Kernel

SILENT = """
class Silent(GenServer):
    def init(self, arg):
        return Ok(arg)
    def handle_call(self, request, caller, state):
        return NoReply(state)
silent = await Silent.start(None)
"""

WAITS = {
    "receive": "await receive('what nobody sends')",
    "receive with a limit": "await receive('what nobody sends', timeout=60)",
    "call": "await GenServer.call(silent, 'hello', timeout=60)",
    "sleep": "await sleep(60)",
    "run": "run(sleep, 60)",
    "blocking thread": "time.sleep(60)",
}

#: Seconds after which the button is pressed again.
PATIENCE = 5.0


def interrupt(kernel: Kernel, code: str) -> tuple[Cell, float]:
    """Interrupt a cell once it runs; gives it and the seconds it took to end.

    A signal that finds ipykernel in a callback of its own, as it sends what the cell has printed, is lost there; then
    the button is pressed again, as people do, and the seconds tell of it.
    """
    cell = kernel.start(f"print('waiting', flush=True)\n{code}")
    kernel.until(lambda: cell.stdout, "the cell to run")
    pressed = again = time.monotonic()
    kernel.interrupt()

    def has_ended() -> bool:
        nonlocal again
        if not cell.done and time.monotonic() - again > PATIENCE:
            again = time.monotonic()
            kernel.interrupt()
        return cell.done

    kernel.until(has_ended, "the end of the interrupted cell")
    return cell, cell.replied_at - pressed


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_a_waiting_cell_ends_within_half_a_second_of_the_interrupt(kernel: Kernel, wait: str) -> None:
    kernel.run(SILENT).check()
    shell = kernel.value("self_()")
    taken, shown = [], []
    for _ in range(3):
        cell, seconds = interrupt(kernel, wait)
        taken.append(seconds)
        assert cell.reply is not None
        assert cell.reply["content"]["status"] == "error"
        assert cell.reply["content"]["ename"] == "KeyboardInterrupt"
        shown += cell.errors  # none, where the button was quicker than the cell: then ipykernel itself was interrupted
    for error in shown:
        assert error["ename"] == "KeyboardInterrupt"
        assert wait in error["traceback"]
    assert shown
    assert min(taken) < 0.5, taken
    assert kernel.value("self_()") == shell


def test_an_interrupted_wait_shows_the_users_line_and_none_of_otplibs(kernel: Kernel) -> None:
    cell, _ = interrupt(kernel, "async def deep():\n    await receive('nothing')\nawait deep()")
    [error] = cell.errors
    assert "await deep()" in error["traceback"]
    assert "await receive('nothing')" in error["traceback"]
    assert "otplib/" not in error["traceback"]
    assert error["traceback"].rstrip().endswith("KeyboardInterrupt:")


def test_after_an_interrupt_the_next_cell_receives_as_if_nothing_had_been(kernel: Kernel) -> None:
    interrupt(kernel, "await receive('fresh')")
    kernel.run("spawn(send, self_(), 'fresh');").check()
    assert kernel.value("await receive('fresh', timeout=20)") == "'fresh'"


def test_an_interrupt_does_not_touch_the_processes(kernel: Kernel) -> None:
    kernel.run("""
    async def server():
        while True:
            send(await receive(otplib.Pid), "here")
    server_pid = spawn(server)
    """).check()
    interrupt(kernel, "await receive('nothing')")
    assert kernel.value("send(server_pid, self_()); await receive('here', timeout=20)") == "'here'"


def test_a_timeout_of_asyncio_around_a_wait_is_no_interrupt(kernel: Kernel) -> None:
    cell = kernel.run("""
    import asyncio
    try:
        async with asyncio.timeout(0.05):
            await receive("nothing")
    except TimeoutError:
        print("timed out")
    """)
    assert cell.check().stdout == "timed out\n"


def test_a_cancelled_cell_that_waited_for_asyncio_alone_is_shown_as_ever(kernel: Kernel) -> None:
    cell = kernel.run("future = asyncio.get_running_loop().create_future()\nfuture.cancel()\nawait future")
    [error] = cell.errors
    assert error["ename"] == "CancelledError"
