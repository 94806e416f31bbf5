"""Section 3 of the table: how servers start, and fail to; their names, and their child specs."""

import pytest

from otplib import (
    Exit,
    GenServer,
    Ignore,
    Ok,
    Pid,
    StartError,
    Stop,
    Supervisor,
    process,
    self_,
    send,
    sleep,
    spawn,
    system,
)
from otplib.core.child_spec import ChildSpec
from otplib.testing import deterministic
from tests.conformance.servers import (
    Ending,
    down,
    flush,
    idle,
    plain,
    reports_of,
)


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


# ---- starting ------------------------------------------------------------------------------------------------------


class Choosing(GenServer):
    """Starts as its argument, a function, says."""

    async def init(self, choose):
        outcome = choose()
        return await outcome if hasattr(outcome, "__await__") else outcome


def raise_x():
    raise RuntimeError("x")


def exit_why():
    raise Exit("why")


def test_g14_init_may_choose_not_to_start(machine):
    """g14_init_ignore.exs"""

    async def main():
        process.flag(trap_exit=True)
        assert await Choosing.start_link(Ignore, name="nm") is None
        assert process.whereis("nm") is None
        [message] = await flush()
        assert (message.tag, message.reason) == ("EXIT", "normal")

    machine.run(main)


async def try_start(reason):
    try:
        await Choosing.start_link(lambda: Stop(reason))
    except StartError:
        pass
    await idle()


def test_g15_a_refusing_init_kills_a_linked_caller_that_does_not_trap(machine):
    """g15_init_stop.exs"""

    async def main():
        assert await down(try_start, "boom", timeout=0.2) == "boom"
        assert await down(try_start, "normal", timeout=0.2) == "still_alive"
        with pytest.raises(StartError) as refused:
            await Choosing.start(lambda: Stop("boom"))
        assert refused.value.reason == "boom"
        assert await flush() == []
        process.flag(trap_exit=True)
        with pytest.raises(StartError) as refused:
            await Choosing.start_link(lambda: Stop("boom"))
        assert refused.value.reason == "boom"
        [message] = await flush()
        assert (message.tag, message.reason) == ("EXIT", "boom")

    machine.run(main)


@pytest.mark.parametrize(
    ("choose", "reason"),
    [
        (raise_x, (RuntimeError, "x")),
        (exit_why, "why"),
        (lambda: "bad", ("bad_return_value", "bad")),
    ],
)
def test_g16_an_init_that_fails(machine, caplog, choose, reason):
    """g16_init_raise.exs"""

    async def main():
        process.flag(trap_exit=True)
        with pytest.raises(StartError) as refused:
            await Choosing.start_link(choose, name="nm")
        assert plain(refused.value.reason) == reason
        assert process.whereis("nm") is None
        [message] = await flush()
        assert plain(message) == ("EXIT", reason)

    machine.run(main)
    assert reports_of(caplog) == [], "whoever starts it is told; nobody else is"


async def ready_after(seconds):
    await sleep(seconds)
    return Ok(seconds)


def test_g17_start_link_waits_for_init_but_not_longer_than_told(machine):
    """g17_start_blocks.exs"""

    async def main():
        process.flag(trap_exit=True)
        started = machine.now()
        await Choosing.start_link(lambda: ready_after(0.1))
        assert machine.now() - started >= 0.1
        before = process.list()
        with pytest.raises(StartError) as late:
            await Choosing.start_link(lambda: ready_after(0.5), timeout=0.05)
        assert late.value.reason == "timeout"
        assert await flush() == []
        assert process.list() == before

    machine.run(main)


def test_g18_a_name_that_is_taken(machine):
    """g18_already_started.exs"""

    async def main():
        me = self_()

        def tell(number):
            send(me, ("init", number))
            return Ok(number)

        pid = await Choosing.start_link(lambda: tell(1), name="nm")
        assert await flush() == [("init", 1)]
        with pytest.raises(StartError) as refused:
            await Choosing.start_link(lambda: tell(2), name="nm")
        assert refused.value.reason == ("already_started", pid)
        assert str(refused.value) == f"already started: {pid!r}"
        assert await flush() == []

    machine.run(main)


def test_of_many_that_start_under_one_name_one_does(machine):
    async def main():
        me = self_()

        async def starter():
            try:
                send(me, ("started", await Ending.start((me, False), name="nm")))
            except StartError as error:
                send(me, error.reason)

        for _ in range(10):
            spawn(starter)
        answers = await flush()
        pid = process.whereis("nm")
        assert sorted(tag for tag, _ in answers) == ["already_started"] * 9 + ["started"]
        assert {found for _, found in answers} == {pid}

    machine.run(main)


# ---- without a process ---------------------------------------------------------------------------------------------


class Empty(GenServer):
    """Nothing but what every server has."""


class Bee(GenServer, restart="transient", shutdown=10, id="bee"):
    pass


class Sup(Supervisor):
    pass


def test_g36_child_specs_and_their_overrides():
    """g36_child_spec.exs"""
    assert Empty.child_spec("arg") == ChildSpec(id=Empty, start=(Empty.start_link, ("arg",)))
    assert Bee.child_spec("arg") == ChildSpec(
        id="bee", start=(Bee.start_link, ("arg",)), restart="transient", shutdown=10
    )
    assert Sup.child_spec("arg") == ChildSpec(id=Sup, start=(Sup.start_link, ("arg",)), type="supervisor")


def test_a_subclass_inherits_how_it_is_supervised_but_not_the_id():
    class Worker(Bee):
        pass

    spec = Worker.child_spec("arg")
    assert (spec.id, spec.restart, spec.shutdown) == (Worker, "transient", 10)


def test_g37_without_init_the_argument_is_the_state(machine):
    """g37_missing_init.exs"""

    async def main():
        pid = await Empty.start_link("arg")
        assert isinstance(pid, Pid)
        return await system.get_state(pid)

    assert machine.run(main) == "arg"
