"""Processes run while cells run, block or wait, and between cells; the shell process is one."""

from __future__ import annotations

import time

from tests.jupyter.kernel import Kernel


def test_a_process_runs_while_a_cell_blocks_its_thread(kernel: Kernel) -> None:
    cell = kernel.run("""
    event = threading.Event()
    async def ticker():
        for _ in range(20):
            await sleep(0.001)
        event.set()
    spawn(ticker)
    event.wait(20)
    """)
    assert cell.check().result == "True"


def test_a_process_runs_while_a_cell_computes(kernel: Kernel) -> None:
    kernel.run("""
    flag = []
    async def ticker():
        for _ in range(20):
            await sleep(0.001)
        flag.append(1)
    spawn(ticker)
    while not flag:
        pass
    """).check()


def test_a_process_runs_while_a_cell_sleeps_in_c(kernel: Kernel) -> None:
    cell = kernel.run("""
    ticks = []
    async def ticker():
        while len(ticks) < 1000:
            await sleep(0.001)
            ticks.append(time.monotonic())
    spawn(ticker)
    began = time.monotonic()
    time.sleep(0.3)
    ended = time.monotonic()
    sum(began < tick < ended for tick in ticks) > 30
    """)
    assert cell.check().result == "True"


def test_a_process_runs_while_a_cell_awaits_asyncio(kernel: Kernel) -> None:
    cell = kernel.run("""
    import asyncio
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    async def fulfil():
        await sleep(0.01)
        loop.call_soon_threadsafe(future.set_result, "from a process")
    spawn(fulfil)
    await asyncio.wait_for(future, 20)
    """)
    assert cell.check().result == "'from a process'"


def test_a_process_runs_between_cells_and_the_output_comes(kernel: Kernel) -> None:
    cell = kernel.run("""
    async def slow():
        for n in range(3):
            await sleep(0.2)
        print("ticked between cells")
    spawn(slow);
    """).check()
    assert cell.stdout_in_time == ""
    kernel.until(lambda: cell.stdout == "ticked between cells\n", "a print while no cell runs")


def test_the_shell_process_is_the_same_in_plain_and_awaiting_cells(kernel: Kernel) -> None:
    first = kernel.value("self_()")
    assert first.startswith("#PID<0.")
    assert kernel.run("import asyncio\nawait asyncio.sleep(0)\nself_()").check().result == first
    assert kernel.value("self_()") == first


def test_a_message_sent_to_the_shell_in_one_cell_is_received_in_another(kernel: Kernel) -> None:
    kernel.run("spawn(send, self_(), 'greeting');").check()
    assert kernel.value("await receive('greeting', timeout=20)") == "'greeting'"


def test_a_task_of_the_users_is_a_process_of_its_own(kernel: Kernel) -> None:
    cell = kernel.run("""
    async def whoami():
        return self_()
    task = asyncio.create_task(whoami())
    await task != self_()
    """)
    assert cell.check().result == "True"


def test_a_cell_of_a_subshell_spawns_and_receives_while_the_main_one_blocks(kernel: Kernel) -> None:
    kernel.run("release = threading.Event()").check()
    created = kernel.client.session.msg("create_subshell_request")
    kernel.client.control_channel.send(created)
    answer = kernel.client.get_control_msg(timeout=30)
    subshell = answer["content"]["subshell_id"]
    busy = kernel.start("release.wait(20)")
    message = kernel.client.session.msg(
        "execute_request",
        {"code": "spawn(print, 'from the subshell'); release.set()", "silent": False, "allow_stdin": False},
    )
    message["header"]["subshell_id"] = subshell
    cell = kernel.cells.setdefault(message["header"]["msg_id"], type(busy)(message["header"]["msg_id"]))
    kernel.client.shell_channel.send(message)
    kernel.until(lambda: busy.done and cell.done, "both cells")
    assert busy.check().result == "True"
    assert cell.check().stdout == "from the subshell\n"
    assert busy.stdout == ""


def test_the_end_of_a_cell_waits_only_while_something_runs(kernel: Kernel) -> None:
    """A sleeping process and a busy neighbour of old must not cost every later cell the whole bound."""
    kernel.run("sleeper = spawn(sleep, 600)").check()
    kernel.run("hog_pid = spawn(lambda: [None for _ in range(3_000_000)])\nprocess.monitor(hog_pid)").check()
    kernel.run("await receive(otplib.Down, timeout=30);").check()
    taken = []
    for _ in range(20):
        began = time.monotonic()
        kernel.run("spawn(int);").check()
        taken.append(time.monotonic() - began)
    assert sorted(taken)[15] < 0.15, taken


def test_a_hog_delays_the_end_of_a_cell_by_the_bound_only(kernel: Kernel) -> None:
    cell = kernel.run("""
    def hog():
        while True:
            pass
    hog_pid = spawn(hog)
    began = time.monotonic()
    """).check()
    assert float(kernel.value("time.monotonic() - began")) < 5
    kernel.run("process.exit(hog_pid, 'kill')").check()
    assert cell.stderr == ""
