"""What a process writes lands in the cell that spawned it, and is there when the cell ends."""

from __future__ import annotations

import pytest

from tests.jupyter.kernel import Kernel

LATE_PRINTER = """
async def wait_and_print(word):
    await receive("go")
    print("late", word)
"""


def test_prints_of_a_short_process_are_complete_when_the_cell_ends(kernel: Kernel) -> None:
    code = """
    async def count(who):
        for n in range(5):
            print(who, n)
            await sleep(0)
    for who in "abc":
        spawn(count, who)
    """
    first = kernel.run(code).check()
    assert sorted(first.stdout_in_time.split("\n")) == ["", *(f"{who} {n}" for who in "abc" for n in range(5))]
    for _ in range(5):
        assert kernel.run(code).check().stdout_in_time == first.stdout_in_time


def test_a_chain_of_messages_is_over_when_the_cell_ends(kernel: Kernel) -> None:
    cell = kernel.run("""
    async def relay(next_pid):
        n = await receive(int)
        if next_pid is None:
            print("arrived", n)
        else:
            send(next_pid, n + 1)
    pid = None
    for _ in range(500):
        pid = spawn(relay, pid)
    send(pid, 1);
    """)
    assert cell.check().stdout_in_time == "arrived 500\n"


def test_a_late_print_lands_in_the_cell_that_spawned(kernel: Kernel) -> None:
    kernel.run(LATE_PRINTER).check()
    spawner = kernel.run("printer = spawn(wait_and_print, 'one')").check()
    assert spawner.stdout == ""
    other = kernel.run("send(printer, 'go'); print('mine')").check()
    kernel.until(lambda: spawner.stdout == "late one\n", "the late print in the first cell")
    assert other.stdout == "mine\n"


def test_a_late_print_of_a_grandchild_lands_in_the_cell_of_its_grandparent(kernel: Kernel) -> None:
    kernel.run(LATE_PRINTER).check()
    spawner = kernel.run("""
    async def child(shell):
        send(shell, spawn(wait_and_print, "grandchild"))
    async def parent(shell):
        spawn(child, shell)
    spawn(parent, self_());
    """).check()
    other = kernel.run("send(await receive(timeout=5), 'go');").check()
    kernel.until(lambda: spawner.stdout == "late grandchild\n", "the print in the grandparent's cell")
    assert other.stdout == ""


def test_a_process_spawned_late_by_an_old_one_prints_into_the_old_ones_cell(kernel: Kernel) -> None:
    kernel.run("def say(word): print(word)").check()
    spawner = kernel.run("""
    async def spawner():
        while True:
            spawn(say, await receive())
    maker = spawn(spawner)
    """).check()
    other = kernel.run("send(maker, 'child of the first cell');").check()
    kernel.until(lambda: spawner.stdout == "child of the first cell\n", "the print in the first cell")
    assert other.stdout == ""


def test_each_run_of_the_same_cell_gets_its_own_prints(kernel: Kernel) -> None:
    kernel.run(LATE_PRINTER).check()
    first = kernel.run("mine = spawn(wait_and_print, 'again')").check()
    kernel.run("old = mine").check()
    second = kernel.run("mine = spawn(wait_and_print, 'again')").check()
    kernel.run("send(mine, 'go')").check()
    kernel.until(lambda: second.stdout == "late again\n", "the print in the second run")
    assert first.stdout == ""
    kernel.run("send(old, 'go')").check()
    kernel.until(lambda: first.stdout == "late again\n", "the print in the first run")


def test_display_of_a_process_lands_in_the_cell_that_spawned_it_also_later(kernel: Kernel) -> None:
    spawner = kernel.run("""
    async def shower():
        display("at once")
        await receive("go")
        display("later")
    shower_pid = spawn(shower)
    """).check()
    assert spawner.displayed == ["'at once'"]
    other = kernel.run("send(shower_pid, 'go'); display('mine')").check()
    kernel.until(lambda: spawner.displayed == ["'at once'", "'later'"], "the late display in the first cell")
    assert other.displayed == ["'mine'"]


def test_an_updated_display_and_a_cleared_output_belong_to_the_spawning_cell(kernel: Kernel) -> None:
    spawner = kernel.run("""
    from IPython.display import clear_output
    async def shower():
        handle = display("old", display_id=True)
        await receive("go")
        handle.update("new")
        clear_output()
    shower_pid = spawn(shower)
    """).check()
    other = kernel.run("send(shower_pid, 'go');").check()

    def kinds() -> list[str]:
        return [m["msg_type"] for m in spawner.messages if m["msg_type"] in ("update_display_data", "clear_output")]

    kernel.until(lambda: kinds() == ["update_display_data", "clear_output"], "the update and the clearing")
    assert not other.displayed


def test_what_a_process_displays_stands_after_what_it_printed_before(kernel: Kernel) -> None:
    cell = kernel.run("""
    def both():
        print("first", end="")
        display("second")
        print("third")
    spawn(both);
    """).check()
    shown = [m["msg_type"] for m in cell.messages if m["msg_type"] != "execute_input"]
    assert shown == ["stream", "display_data", "stream"]
    assert cell.stdout == "firstthird\n"


def test_standard_error_of_a_process_lands_in_its_cell(kernel: Kernel) -> None:
    spawner = kernel.run("""
    import sys
    async def complain():
        await receive("go")
        print("oh", file=sys.stderr)
    complainer = spawn(complain)
    """).check()
    other = kernel.run("send(complainer, 'go')").check()
    kernel.until(lambda: spawner.stderr == "oh\n", "the complaint in the first cell")
    assert other.stderr == ""


def test_a_crash_report_lands_in_the_cell_that_spawned_the_process(kernel: Kernel) -> None:
    spawner = kernel.run("""
    async def divide():
        1 / await receive(int)
    divider = spawn(divide)
    """).check()
    other = kernel.run("send(divider, 0)").check()
    kernel.until(lambda: "ZeroDivisionError" in spawner.stderr, "the report in the first cell")
    assert other.stderr == ""
    number = next(m for m in spawner.messages if m["msg_type"] == "execute_input")["content"]["execution_count"]
    lines = spawner.stderr.split("\n")
    assert lines[0].startswith("[error] Process #PID<0.")
    assert lines[0].endswith("> raised an exception")
    assert lines[1:] == ["** (ZeroDivisionError) division by zero", f"    In[{number}]:2: divide", "", ""]


def test_a_crash_report_stands_between_the_prints_before_and_after_it(kernel: Kernel) -> None:
    cell = kernel.run("""
    async def fail():
        print("before")
        raise ValueError("bad")
    async def watch():
        process.monitor(spawn(fail))
        await receive()
        print("after")
    spawn(watch);
    """).check()
    texts = [(m["content"]["name"], m["content"]["text"]) for m in cell.messages if m["msg_type"] == "stream"]
    assert [name for name, _ in texts] == ["stdout", "stderr", "stdout"]
    assert texts[0][1] == "before\n"
    assert texts[2][1] == "after\n"


def test_whoever_sets_up_logging_gets_the_reports_and_they_come_once(kernel: Kernel) -> None:
    cell = kernel.run("""
    import logging
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("MINE %(levelname)s"))
    logging.getLogger().addHandler(handler)
    def fail(): raise ValueError("bad")
    spawn(fail);
    """).check()
    kernel.run("logging.getLogger().removeHandler(handler)").check()
    assert cell.stdout == "MINE ERROR\n"
    assert cell.stderr == ""


def test_text_of_many_processes_mixes_by_whole_lines(kernel: Kernel) -> None:
    cell = kernel.run("""
    async def chatter(letter):
        for _ in range(20):
            print(letter, letter, letter)
            await sleep(0)
    for letter in "abcdefgh":
        spawn(chatter, letter)
    """).check()
    lines = cell.stdout_in_time.splitlines()
    assert len(lines) == 160
    assert set(lines) == {f"{letter} {letter} {letter}" for letter in "abcdefgh"}


def test_prints_of_processes_and_of_the_cell_stay_apart_from_those_of_ordinary_threads(kernel: Kernel) -> None:
    cell = kernel.run("""
    thread = threading.Thread(target=print, args=("a thread",))
    thread.start()
    thread.join()
    spawn(print, "a process")
    print("the cell")
    """).check()
    assert sorted(cell.stdout_in_time.splitlines()) == ["a process", "a thread", "the cell"]


def test_print_in_a_blocking_call_of_a_process_lands_in_its_cell(kernel: Kernel) -> None:
    spawner = kernel.run("""
    async def caller():
        await receive("go")
        await process.blocking(print, "from a lent thread")
    caller_pid = spawn(caller)
    """).check()
    other = kernel.run("send(caller_pid, 'go')").check()
    kernel.until(lambda: spawner.stdout == "from a lent thread\n", "the print in the first cell")
    assert other.stdout == ""


def test_a_group_leader_of_the_users_own_takes_the_output(kernel: Kernel) -> None:
    cell = kernel.run("""
    async def leader():
        while True:
            match await receive(("io_request", ..., ..., ...)):
                case (_, sender, tag, ("put_chars", _, text)):
                    print("via leader:", text, end="")
                    send(sender, ("io_reply", tag, "ok"))
    async def speaker(leader_pid):
        process.group_leader(self_(), leader_pid)
        print("hello")
    spawn(speaker, spawn(leader));
    """).check()
    assert cell.stdout == "via leader: hello\n"


def test_output_is_led_right_when_the_machine_first_ran_inside_captured_output() -> None:
    with Kernel() as kernel:
        kernel.run("import otplib\nfrom otplib import spawn, send, receive").check()
        kernel.run("%%capture\nasync def wait():\n    await receive()\n    print('late')\npid = spawn(wait)").check()
        second = kernel.run("other = spawn(wait)").check()
        third = kernel.run("send(other, 1)").check()
        kernel.until(lambda: second.stdout == "late\n", "the print in the second cell")
        assert third.stdout == ""


@pytest.mark.parametrize("code", ["spawn(print, 'x')", "run(print, 'x')", "await Printer.start(None)"])
def test_output_comes_whichever_way_the_process_was_started(kernel: Kernel, code: str) -> None:
    kernel.run("""
    class Printer(GenServer):
        def init(self, arg):
            print("x")
            return Ok(arg)
    """).check()
    assert kernel.run(code).check().stdout_in_time == "x\n"
