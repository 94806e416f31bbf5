"""Nothing is shared between processes, each has its context, memory is given back, and limits hold."""

from __future__ import annotations

import contextvars
import decimal
import gc
import logging
import sys
import weakref

import pytest

from otplib import (
    Exit,
    ExitMessage,
    GenServer,
    Machine,
    Ok,
    Reply,
    Supervisor,
    SystemLimitError,
    process,
    receive,
    run,
    self_,
    send,
    shared,
    sleep,
    spawn,
    spawn_link,
    spawn_monitor,
)
from otplib.testing import deterministic

DEADLINE = 30.0
#: The objects under test as each process sees them; the list itself is reached by closure, not by message.
Seen = list


def run_inline(main, **options):
    with deterministic(**options) as machine:
        return machine.run(main)


class Box:
    """Mutable, and can be watched."""

    def __init__(self) -> None:
        self.items: list[int] = []


# ---- isolation at every crossing -----------------------------------------------------------------------------------


def test_a_message_is_a_copy_by_pid_name_alias_and_timer():
    box = Box()

    async def main():
        me = self_()
        process.register(me, "me")
        for dest in (me, "me", ("me", "nonode@nohost"), process.alias()):
            send(dest, box)
        process.send_after(me, box, 0.1)
        process.start_timer(me, box, 0.2)
        got = [await receive(Box) for _ in range(5)] + [(await receive(tuple))[2]]
        return [one is box or one.items is box.items for one in got]

    assert run_inline(main) == [False] * 6


def test_what_the_sender_changes_after_the_send_is_not_seen():
    async def main():
        message = ["before"]
        send(self_(), message)
        process.send_after(self_(), message, 1)
        message.append("after")
        return await receive(list), await receive(list)

    assert run_inline(main) == (["before"], ["before"])


def test_arguments_of_every_kind_of_spawn_are_copies():
    box = Box()

    async def main():
        me = self_()

        def child(given, *, keyword):
            send(me, (given is box, keyword is box))

        for verb in (spawn, spawn_link, spawn_monitor):
            verb(child, box, keyword=box)
        return [await receive((bool, bool)) for _ in range(3)]

    assert run_inline(main) == [(False, False)] * 3


def test_arguments_and_result_of_run_are_copies():
    box = Box()
    with deterministic():
        assert run(lambda given: given is box, box) is False
        assert run(lambda: box) is not box


def test_start_arguments_requests_and_replies_of_a_server_are_copies():
    kept = Seen()

    class Keeper(GenServer):
        def init(self, arg):
            kept.append(arg)
            return Ok([])

        def handle_call(self, request, caller, state):
            kept.append(request)
            return Reply(state, state)

    async def main():
        box = Box()
        server = await Keeper.start(box)
        first = await GenServer.call(server, box)
        first.append("mine")
        return any(one is box for one in kept), await GenServer.call(server, box)

    assert run_inline(main) == (False, [])


def test_a_child_gets_its_start_arguments_afresh_at_every_start():
    seen = Seen()

    class Child(GenServer):
        def init(self, arg):
            seen.append(list(arg))
            arg.append("spoiled")
            return Ok(arg)

    async def main():
        supervisor = await Supervisor.start_link([(Child, [])], strategy="one_for_one")
        (child,) = await Supervisor.which_children(supervisor)
        ref = process.monitor(child.pid)
        process.exit(child.pid, "kill")
        await receive(("DOWN", ref, ..., ..., ...))
        await Supervisor.which_children(supervisor)

    run_inline(main)
    assert seen == [[], []]


def test_an_exit_reason_is_a_copy_for_each_who_hears_of_it():
    async def main():
        process.flag(trap_exit=True)
        me = self_()
        why = Box()

        async def child():
            await receive("go")
            raise Exit(("why", why))

        pid = spawn_link(child)
        process.monitor(pid)
        send(pid, "go")
        reasons = [(await receive(tuple)).reason[1] for _ in range(2)]
        process.exit(me, why)
        reasons.append((await receive(ExitMessage)).reason)
        return len({id(one) for one in [why, *reasons]})

    assert run_inline(main) == 4


def test_shared_hands_over_the_thing_itself_in_the_open():
    box = Box()

    async def main():
        send(self_(), ("look", shared(box)))
        return (await receive())[1] is box

    assert run_inline(main) is True


def test_immutable_messages_go_by_reference():
    message = ("tag", 1, 2.5, "text", b"bytes", None, frozenset({1}), ("nested", self_))

    async def main():
        send(self_(), message)
        return await receive() is message

    assert run_inline(main) is True


# ---- contextvars ---------------------------------------------------------------------------------------------------

setting = contextvars.ContextVar("setting", default="unset")


def test_a_process_has_a_copy_of_its_spawners_context_and_changes_only_its_own():
    async def main():
        me = self_()
        setting.set("parent")

        async def child():
            before = setting.get()
            setting.set("child")
            await sleep(1)
            send(me, (before, setting.get()))

        spawn(child)
        await sleep(0.5)
        during = setting.get()
        setting.set("parent changed")
        return during, await receive(), setting.get()

    assert run_inline(main) == ("parent", ("parent", "child"), "parent changed")
    assert setting.get() == "unset"


def test_contexts_stay_apart_while_many_processes_take_turns():
    async def main():
        me = self_()

        async def child(number):
            setting.set(number)
            for _ in range(5):
                await sleep(0)
                assert setting.get() == number
            send(me, "kept")

        for number in range(50):
            spawn(child, number)
        return [await receive() for _ in range(50)]

    assert run_inline(main, seed=3) == ["kept"] * 50


def test_the_decimal_context_is_each_processs_own():
    async def main():
        me = self_()

        async def child(precision):
            decimal.getcontext().prec = precision
            await sleep(0)
            send(me, (precision, str(decimal.Decimal(1) / 3)))

        for precision in (3, 5, 7):
            spawn(child, precision)
        return sorted([await receive() for _ in range(3)])

    assert run_inline(main) == [(3, "0.333"), (5, "0.33333"), (7, "0.3333333")]


def test_the_code_after_run_keeps_its_own_context():
    token = setting.set("script")
    try:
        with deterministic():
            assert run(setting.get) == "script"
            run(lambda: setting.set("in the process") and None)
            assert setting.get() == "script"
    finally:
        setting.reset(token)


def test_a_lent_thread_has_the_processs_context():
    async def main():
        setting.set("mine")
        return await process.blocking(setting.get)

    assert run_inline(main) == "mine"


# ---- limits --------------------------------------------------------------------------------------------------------


def test_a_process_whose_mailbox_outgrows_its_limit_is_killed_with_a_report(caplog):
    async def main():
        async def small():
            process.flag(max_mailbox=10)
            await receive("never")

        pid, ref = spawn_monitor(small)
        await sleep(1)
        for number in range(10):
            send(pid, number)
        alive_at_limit = process.alive(pid)
        send(pid, "one more")
        return alive_at_limit, (await receive(("DOWN", ref, "process", pid, ...))).reason

    assert run_inline(main) == (True, "killed")
    assert "killed: its mailbox grew past max_mailbox=10 messages" in caplog.text


def test_signals_count_for_the_limit_too(caplog):
    async def main():
        async def trapping():
            process.flag(trap_exit=True, max_mailbox=3)
            await receive("never")

        pid, ref = spawn_monitor(trapping)
        await sleep(1)
        for _ in range(4):
            process.exit(pid, "please")
        return (await receive(("DOWN", ref, "process", pid, ...))).reason

    assert run_inline(main) == "killed"


def test_a_busy_process_is_killed_by_its_limit_too(caplog):
    with Machine():

        async def main():
            me = self_()

            def hog():
                process.flag(max_mailbox=5)
                send(me, "ready")
                while True:
                    pass

            pid, ref = spawn_monitor(hog)
            await receive("ready")
            for number in range(6):
                send(pid, number)
            return (await receive(("DOWN", ref, "process", pid, ...))).reason

        assert run(main, timeout=DEADLINE) == "killed"


def test_spawning_beyond_max_processes_is_refused_and_works_again_when_some_have_ended():
    async def main():
        pids = []

        def fill():
            while True:
                pids.append(spawn(receive))

        with pytest.raises(SystemLimitError, match=r"20 processes are alive.*Machine\(max_processes="):
            fill()
        for pid in pids:
            process.exit(pid, "kill")
        await sleep(1)
        return len(pids), process.alive(spawn(receive))

    count, again = run_inline(main, max_processes=20)
    assert 15 <= count < 20
    assert again is True


# ---- memory --------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_collector():
    """What is freed here is freed by counting references alone: no circle is left behind."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("how", ["raise", "chained", "group", "exit", "kill", "kill at rest", "return", "system exit"])
def test_a_dead_process_keeps_no_local_variable_alive(how, no_collector, caplog):
    caplog.set_level(logging.CRITICAL, logger="otplib")
    watched = []
    reasons = []

    async def body():
        local = Box()
        watched.append(weakref.ref(local))
        match how:
            case "raise":
                raise ValueError("bad")
            case "chained":
                try:
                    raise KeyError("inner")
                except KeyError as error:
                    raise ValueError("outer") from error
            case "group":
                raise ExceptionGroup("several", [ValueError("a"), TypeError("b")])
            case "exit":
                raise Exit("why")
            case "kill":
                process.exit(self_(), "kill")
            case "kill at rest":
                await receive()
            case "system exit":
                sys.exit(2)
        assert local is not None

    async def main():
        pid, ref = spawn_monitor(body)
        await sleep(1)
        process.exit(pid, "kill")
        reasons.append((await receive(("DOWN", ref, "process", pid, ...))).reason)

    with deterministic() as machine:
        machine.run(main)
        assert watched[0]() is None
        assert reasons


def test_a_finally_block_that_raises_or_waits_while_it_is_closed_leaves_nothing(no_collector, caplog):
    caplog.set_level(logging.CRITICAL, logger="otplib")
    watched = []

    async def body(how):
        local = Box()
        watched.append(weakref.ref(local))
        try:
            await receive()
        finally:
            if how == "raise":
                raise ValueError("in the finally block")
            if how == "exit":
                raise Exit("in the finally block")
            await sleep(1)
        assert local is not None

    async def main():
        for how in ("raise", "exit", "wait"):
            pid, ref = spawn_monitor(body, how)
            await sleep(1)
            process.exit(pid, "kill")
            await receive(("DOWN", ref, "process", pid, "killed"))

    with deterministic() as machine:
        machine.run(main)
        assert [one() for one in watched] == [None] * 3


def test_the_locals_of_a_killed_hog_are_freed(no_collector):
    watched = []

    def hog():
        local = Box()
        watched.append(weakref.ref(local))
        while local is not None:
            pass

    async def main():
        pid, ref = spawn_monitor(hog)
        await sleep(0.02)
        process.exit(pid, "kill")
        await receive(("DOWN", ref, "process", pid, "killed"))

    with Machine() as machine:
        run(main, timeout=DEADLINE)
        assert machine.settle(DEADLINE)
        assert watched[0]() is None


def test_no_path_leaves_a_coroutine_that_nobody_awaited(recwarn, caplog):
    """Processes killed before their first step, by a link, at stop; and refused spawns."""
    caplog.set_level(logging.CRITICAL, logger="otplib")

    async def body():
        await receive()

    async def parent():
        for _ in range(5):
            spawn_link(body)
        raise ValueError("takes them all along")

    with Machine():
        for _ in range(50):
            process.exit(spawn(body), "kill")
            spawn(parent)
            spawn(body)
        with pytest.raises(TypeError):
            spawn(body())
        run(lambda: None, timeout=DEADLINE)
        spawn(body)
    gc.collect()
    assert [str(warning.message) for warning in recwarn.list] == []


def test_ten_thousand_spawns_and_ends_leave_nothing_behind():
    async def child(parent):
        send(parent, "done")

    async def round_of(count):
        for _ in range(count):
            pid, ref = spawn_monitor(child, self_())
            await receive("done")
            await receive(("DOWN", ref, "process", pid, "normal"))

    with deterministic() as machine:
        machine.run(round_of, 500)
        gc.collect()
        objects, table = len(gc.get_objects()), len(machine.table)
        machine.run(round_of, 10_000)
        gc.collect()
        assert len(machine.table) == table
        assert len(machine.aliases) == len(machine.timers) == len(machine.names) == 0
        assert len(gc.get_objects()) - objects < 200


def test_ten_thousand_waits_with_a_timeout_leave_no_timers():
    async def main():
        for _ in range(10_000):
            send(self_(), "x")
            await receive("x", timeout=3600)
        return "done"

    with deterministic() as machine:
        assert machine.run(main) == "done"
        assert len(machine.timers) <= 2


def test_an_idle_process_is_small():
    import tracemalloc

    async def idle():
        await receive()

    with Machine() as machine:
        spawn(idle)
        run(lambda: None, timeout=DEADLINE)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(2_000):
                spawn(idle)
            assert machine.settle(DEADLINE)
            each = (tracemalloc.get_traced_memory()[0] - before) / 2_000
        finally:
            tracemalloc.stop()
    assert each <= 1_400  # 1.3 kB by design; the allocator's own share is not counted here
