"""Section 5 of the table: registries."""

import pytest

from otplib import (
    GenServer,
    NoSuchNameError,
    Ok,
    Pid,
    Reply,
    StartError,
    process,
    receive,
    run,
    self_,
    send,
    spawn_link,
)
from otplib.behaviours.registry import KeyTakenError, Registry
from otplib.core.terms import Via
from otplib.testing import deterministic
from tests.conformance.servers import exit_of, flush


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


class Number(GenServer):
    """`Agent.start_link(fn -> n end)` of the scripts."""

    def init(self, number):
        return Ok(number)

    def handle_call(self, request, caller, number):
        return Reply(number, number)


def holder_of(key, value):
    with pytest.raises(KeyTakenError) as refused:
        Registry.register("R", key, value)
    return refused.value.pid


def test_r01_a_unique_key_is_one_process_s_until_it_gives_it_back(machine):
    """r01_registry_unique.exs"""

    async def main():
        await Registry.start_link(keys="unique", name="R")
        me = self_()
        assert process.info(Registry.register("R", "k", "val"), "registered_name") == "R.PIDPartition0"
        assert holder_of("k", "val2") == me

        async def other():
            send(me, ("holder", holder_of("k", 1)))

        spawn_link(other)
        assert await receive(("holder", ...)) == ("holder", me)
        assert Registry.lookup("R", "k") == [(me, "val")]
        assert Registry.lookup("R", "none") == []
        assert Registry.keys("R", me) == ["k"]
        assert Registry.count("R") == 1
        assert Registry.update_value("R", "k", lambda value: (value, "new")) == (("val", "new"), "val")
        assert Registry.unregister("R", "k") is None
        assert Registry.unregister("R", "k") is None
        assert Registry.lookup("R", "k") == []

    machine.run(main)


def test_r02_dispatch_reaches_all_under_a_duplicate_key_and_they_vanish_with_their_processes(machine):
    """r02_registry_duplicate.exs"""

    async def main():
        await Registry.start_link(keys="duplicate", name="R")
        me = self_()

        async def subscriber(number):
            Registry.register("R", "topic", number)
            send(me, "ready")
            _, event = await receive(("ev", ...))
            send(me, (number, event))

        for number in (1, 2, 3):
            spawn_link(subscriber, number)
        for _ in range(3):
            await receive("ready")
        assert sorted(value for _, value in Registry.lookup("R", "topic")) == [1, 2, 3]
        Registry.dispatch("R", "topic", lambda entries: [send(pid, ("ev", "x")) for pid, _ in entries])
        assert sorted(await flush()) == [(1, "x"), (2, "x"), (3, "x")]
        assert Registry.lookup("R", "topic") == []

    machine.run(main)


def test_r04_a_via_name_starts_calls_and_casts_as_any_other(machine):
    """r04_registry_via.exs"""

    async def main():
        await Registry.start_link(keys="unique", name="R")
        name = Via(Registry, ("R", "k"))
        pid = await Number.start_link(1, name=name)
        with pytest.raises(StartError) as refused:
            await Number.start_link(2, name=name)
        assert refused.value.reason == ("already_started", pid)
        assert await GenServer.call(name, "get") == 1
        missing = Via(Registry, ("R", "none"))
        assert (await exit_of(GenServer.call(missing, "get")))[0] == "noproc"
        assert GenServer.cast(missing, "x") is None
        with pytest.raises(NoSuchNameError):
            Registry.send(("R", "none"), "x")
        with pytest.raises(NoSuchNameError):
            send(missing, "x")

    machine.run(main)


# ---- what Elixir 1.14 did where the table is silent ------------------------------------------------------------------


def test_listeners_hear_of_registering_and_unregistering_but_not_of_an_end(machine):
    async def main():
        process.register(self_(), "listener")
        await Registry.start_link(keys="unique", name="R", listeners=["listener"])
        me = self_()
        Registry.register("R", "k", 1)
        Registry.unregister("R", "k")
        assert await flush() == [("register", "R", "k", me, 1), ("unregister", "R", "k", me)]

        async def brief():
            Registry.register("R", "z", 1)

        pid = spawn_link(brief)
        assert await flush() == [("register", "R", "z", pid, 1)]

    machine.run(main)


def test_who_registers_is_linked_to_its_partition_until_it_has_no_key_left(machine):
    async def main():
        await Registry.start_link(keys="unique", name="R")
        owner = Registry.register("R", "a")
        Registry.register("R", "b")
        Registry.unregister("R", "a")
        assert owner in process.info(self_(), "links")
        Registry.unregister("R", "b")
        assert owner not in process.info(self_(), "links")

    machine.run(main)


def test_a_partition_that_dies_takes_the_entries_and_their_processes_along_and_leaves_the_metadata(machine):
    async def main():
        sup = await Registry.start_link(keys="unique", name="R", meta={"a": 1})
        Registry.put_meta("R", "c", 3)
        me = self_()

        async def registered():
            send(me, Registry.register("R", "k"))
            await receive("never")

        pid, ref = process.spawn_monitor(registered)
        process.exit(await receive(), "kill")
        assert (await receive(("DOWN", ref, ..., pid, ...))).reason == "killed"
        await flush()
        assert Registry.lookup("R", "k") == []
        assert (Registry.meta("R", "a"), Registry.meta("R", "c")) == (1, 3)
        assert process.whereis("R") == sup
        assert isinstance(Registry.register("R", "k"), Pid)

    machine.run(main)


def test_the_keys_1_and_1_0_and_true_are_three(machine):
    async def main():
        await Registry.start_link(keys="unique", name="R")
        for key in (1, 1.0, True, ("a", 1), ("a", 1.0)):
            Registry.register("R", key, repr(key))
        assert [Registry.lookup("R", key)[0][1] for key in (1, 1.0, True, ("a", 1), ("a", 1.0))] == [
            "1",
            "1.0",
            "True",
            "('a', 1)",
            "('a', 1.0)",
        ]

    machine.run(main)


def test_a_registry_of_another_machine_is_another_registry():
    async def main():
        await Registry.start_link(keys="unique", name="R")
        Registry.register("R", "k")
        return Registry.count("R")

    with deterministic():
        assert run(main) == 1
    with deterministic():
        assert run(main) == 1
