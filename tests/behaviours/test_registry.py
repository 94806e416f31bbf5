"""Registries: keys and values, reading, names, partitions, and the ends of processes."""

import pytest

from otplib import (
    Exit,
    GenServer,
    Global,
    NameTakenError,
    NoSuchNameError,
    Ok,
    Pid,
    Reply,
    StartError,
    Supervisor,
    Via,
    process,
    receive,
    self_,
    send,
    sleep,
    spawn,
    spawn_link,
    spawn_monitor,
)
from otplib.behaviours.registry import KeyTakenError, Registry, RegistryPartition
from otplib.testing import deterministic
from otplib.vm.machine import Machine
from otplib.vm.running import run

register, lookup, via = Registry.register, Registry.lookup, Registry.via


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


async def registered(test, registry, *pairs):
    """Register under each key, tell, and wait to be ended."""
    for key, value in pairs:
        register(registry, key, value)
    send(test, "ready")
    raise Exit(await receive())


async def started(registry, *pairs):
    pid = spawn(registered, self_(), registry, *pairs)
    await receive("ready")
    return pid


KINDS = [("unique", 1), ("unique", 3), ("duplicate", 1), ("duplicate", 3)]


# ---- entries and ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keys", "partitions"), KINDS)
def test_who_has_heard_of_a_death_finds_no_entry_of_it_with_any_verb(machine, keys, partitions):
    async def main():
        await Registry.start_link(keys=keys, name="R", partitions=partitions)
        pid = await started("R", ("a", 1), ("b", 2))
        ref = process.monitor(pid)
        process.exit(pid, "kill")
        await receive(("DOWN", ref, ..., ..., ...))
        assert (lookup("R", "a"), Registry.match("R", "a", ...), Registry.select("R")) == ([], [], [])
        assert (Registry.count("R"), Registry.keys("R", pid), Registry.values("R", "a", pid)) == (0, [], [])
        Registry.dispatch("R", "a", lambda entries: send(self_(), "called"))
        register("R", "a", "mine")
        await sleep(0.1)  # the partition hears of the death only now, perhaps, and must leave the new entry alone
        assert lookup("R", "a") == [(self_(), "mine")]
        assert process.info(self_(), "message_queue_len") == 0

    machine.run(main)


def test_an_entry_of_a_process_that_is_doomed_is_no_entry(machine):
    async def main():
        await Registry.start_link(keys="unique", name="R")
        pid = await started("R", ("a", 1))
        process.exit(pid, "kill")  # dead for everybody, though its scheduler has not closed it yet
        assert process.whereis(via("R", "a")) is None
        assert isinstance(register("R", "a"), Pid)

    machine.run(main)


@pytest.mark.parametrize(("keys", "partitions"), KINDS)
def test_nothing_stays_behind_in_a_registry_whose_processes_have_gone(machine, keys, partitions):
    async def main():
        await Registry.start_link(keys=keys, name="R", partitions=partitions)
        pids = [await started("R", *(((number, at), 1) for at in range(3))) for number in range(20)]
        register("R", "mine")
        Registry.unregister("R", "mine")
        for pid in pids:
            send(pid, "normal")
        await sleep(0.1)
        table = machine.services["registries"]["R"]
        assert [(shard.entries, shard.buckets, shard.owned) for shard in table.shards] == [({}, {}, {})] * partitions

    machine.run(main)


def test_a_registry_that_ends_takes_with_it_who_relies_on_it(machine):
    async def main():
        async def keeper():
            await Registry.start_link(keys="unique", name="R")
            await receive("never")

        keeping = spawn(keeper)
        await sleep(0.01)
        pid, ref = spawn_monitor(registered, self_(), "R", ("a", 1))
        await receive("ready")
        process.exit(keeping, "enough")
        assert (await receive(("DOWN", ref, ..., pid, ...))).reason in ("enough", "shutdown")
        await sleep(0.01)
        with pytest.raises(NoSuchNameError, match="unknown registry: 'R'"):
            lookup("R", "a")

    machine.run(main)


def test_a_killed_registry_is_unknown_at_once_and_may_be_started_again(machine):
    async def main():
        process.flag(trap_exit=True)
        pid = await Registry.start_link(keys="unique", name="R")
        process.exit(pid, "kill")
        await receive(("EXIT", pid, ...))
        with pytest.raises(NoSuchNameError):
            register("R", "a")
        await sleep(0.1)
        await Registry.start_link(keys="duplicate", name="R")
        register("R", "a")
        assert Registry.count("R") == 1

    machine.run(main)


# ---- keys and values -----------------------------------------------------------------------------------------------


def test_keys_and_values_are_copied_on_their_way_in_and_out(machine):
    async def main():
        await Registry.start_link(keys="unique", name="R")
        value = [1]
        register("R", "k", value)
        value.append(2)
        lookup("R", "k")[0][1].append(3)
        Registry.match("R", "k", list)[0][1].append(3)
        Registry.dispatch("R", "k", lambda entries: entries[0][1].append(3))
        Registry.select("R")[0][2].append(3)
        assert lookup("R", "k") == [(self_(), [1])]
        new, old = Registry.update_value("R", "k", lambda found: [*found, 2])
        new.append(3)
        assert (old, lookup("R", "k")[0][1]) == ([1], [1, 2])

    machine.run(main)


def test_a_key_that_can_change_is_refused(machine):
    async def main():
        await Registry.start_link(keys="unique", name="R")
        for verb in (register, lookup, Registry.unregister):
            with pytest.raises(TypeError, match="expected a key that cannot change"):
                verb("R", ["a"])

    machine.run(main)


def test_a_process_may_register_under_a_duplicate_key_many_times(machine):
    async def main():
        await Registry.start_link(keys="duplicate", name="D", partitions=2)
        for value in (3, 1, 2):
            register("D", "t", value)
        assert [value for _, value in lookup("D", "t")] == [3, 1, 2]
        assert Registry.keys("D", self_()) == ["t", "t", "t"]
        assert Registry.values("D", "t", self_()) == [3, 1, 2]
        Registry.unregister_match("D", "t", 1)
        assert [value for _, value in lookup("D", "t")] == [3, 2]
        Registry.unregister("D", "t")
        assert Registry.count("D") == 0

    machine.run(main)


def test_patterns_are_those_of_receive(machine):
    async def main():
        await Registry.start_link(keys="duplicate", name="D")
        for value in (("cpu", 2), ("cpu", 9), "idle"):
            register("D", "t", value)
        register("D", "u", 1)
        assert [value for _, value in Registry.match("D", "t", ("cpu", int))] == [("cpu", 2), ("cpu", 9)]
        assert Registry.count_match("D", "t", ("cpu", lambda load: load > 5)) == 1
        assert Registry.select("D", ("u", ..., int)) == [("u", self_(), 1)]
        assert (Registry.count_select("D", ("t", Pid, tuple)), Registry.count_select("D")) == (2, 4)
        with pytest.raises(TypeError, match="expected a pattern"):
            Registry.match("D", "t", list[int])

    machine.run(main)


def test_dispatch_calls_once_for_each_partition_that_has_the_key(machine):
    async def main():
        await Registry.start_link(keys="duplicate", name="D", partitions=4)
        pids = [await started("D", ("t", number)) for number in range(20)]
        batches = []
        Registry.dispatch("D", "t", batches.append)
        assert 1 < len(batches) <= 4
        assert sorted(pid for entries in batches for pid, _ in entries) == sorted(pids)
        Registry.dispatch("D", "none", batches.append)
        assert [] not in batches

    machine.run(main)


def test_only_the_holder_changes_its_value(machine):
    async def main():
        await Registry.start_link(keys="unique", name="R")
        await Registry.start_link(keys="duplicate", name="D")
        await started("R", ("theirs", 1))
        for key in ("theirs", "nobody's"):
            with pytest.raises(NoSuchNameError, match="has not registered"):
                Registry.update_value("R", key, lambda value: 2)
        Registry.unregister("R", "theirs")
        assert lookup("R", "theirs")[0][1] == 1
        with pytest.raises(ValueError, match="needs unique keys"):
            Registry.update_value("D", "k", lambda value: 2)

    machine.run(main)


def test_metadata_is_the_registry_s_own(machine):
    async def main():
        await Registry.start_link(keys="unique", name="R", meta={"limit": [1]})
        Registry.meta("R", "limit").append(2)
        assert Registry.meta("R", "limit") == [1]
        Registry.put_meta("R", ("a", 1), "b")
        assert Registry.meta("R", ("a", 1)) == "b"
        Registry.delete_meta("R", ("a", 1))
        Registry.delete_meta("R", ("a", 1))
        with pytest.raises(KeyError):
            Registry.meta("R", ("a", 1))
        assert Registry.meta("R", ("a", 1), None) is None

    machine.run(main)


# ---- names ---------------------------------------------------------------------------------------------------------


class Echo(GenServer):
    def init(self, arg):
        return Ok(arg)

    def handle_call(self, request, caller, state):
        return Reply((request, state), state)


def test_a_via_name_is_taken_wherever_a_name_is(machine):
    async def main():
        await Registry.start_link(keys="unique", name="R", partitions=2)
        name = via("R", "echo", "value")
        pid = await Echo.start_link("state", name=name)
        assert lookup("R", "echo") == [(pid, "value")]
        name = via("R", "echo")
        assert process.whereis(name) == GenServer.whereis(name) == pid
        assert await GenServer.call(name, 1) == (1, "state")
        assert send(name, "ignored") == "ignored"
        process.register(self_(), via("R", "me"))
        send(via("R", "me"), "hello")
        assert await receive() == "hello"
        with pytest.raises(NameTakenError):
            process.register(self_(), via("R", "me"))
        process.unregister(via("R", "me"))
        assert process.whereis(via("R", "me")) is None
        await GenServer.stop(name)
        assert process.whereis(name) is None
        sup = await Supervisor.start_link([], strategy="one_for_one", name=via("R", "sup"))
        assert process.whereis(via("R", "sup")) == sup

    machine.run(main)


def test_a_supervised_server_has_its_via_name_again_after_a_restart(machine):
    async def main():
        await Registry.start_link(keys="unique", name="R")

        class Named(Echo):
            @classmethod
            async def start_link(cls, arg):
                return await super().start_link(arg, name=via("R", "echo"))

        await Supervisor.start_link([(Named, 1)], strategy="one_for_one")
        for _ in range(3):
            before = process.whereis(via("R", "echo"))
            process.exit(before, "kill")
            await sleep(0.01)
            assert process.whereis(via("R", "echo")) not in (None, before)

    machine.run(main)


def test_a_server_that_does_not_start_leaves_its_name_free(machine):
    class Failing(Echo):
        def init(self, arg):
            raise RuntimeError("no")

    async def main():
        process.flag(trap_exit=True)
        await Registry.start_link(keys="unique", name="R")
        with pytest.raises(StartError):
            await Failing.start_link(1, name=via("R", "echo"))
        assert Registry.count("R") == 0
        assert await Echo.start_link(1, name=via("R", "echo")) is not None

    machine.run(main)


def test_names_need_unique_keys_and_oneself(machine):
    async def main():
        await Registry.start_link(keys="unique", name="R")
        await Registry.start_link(keys="duplicate", name="D")
        with pytest.raises(ValueError, match="a name is one process's"):
            process.whereis(via("D", "k"))
        with pytest.raises(ValueError, match="registers itself"):
            process.register(spawn(receive), via("R", "k"))
        with pytest.raises(TypeError, match=r"expected Via\(Registry, \(registry, key\)\)"):
            process.whereis(Via(Registry, "k"))
        with pytest.raises(NoSuchNameError, match="unknown registry: 'none'"):
            process.whereis(via("none", "k"))

    machine.run(main)


def test_a_taken_key_is_refused_with_its_holder(machine):
    async def main():
        await Registry.start_link(keys="unique", name="R")
        pid = await started("R", ("k", 1))
        with pytest.raises(KeyTakenError, match="the key is taken by") as refused:
            register("R", "k")
        assert refused.value.pid == pid

    machine.run(main)


# ---- starting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"name": "R"}, ValueError, 'be "unique" or "duplicate", got: None'),
        ({"name": "R", "keys": "x"}, ValueError, 'be "unique" or "duplicate", got: "x"'),
        ({"keys": "unique"}, TypeError, "expected name= to be given"),
        ({"keys": "unique", "name": Global("R")}, TypeError, "expected name= to be given"),
        ({"keys": "unique", "name": "R", "partitions": 0}, ValueError, "a positive int, got: 0"),
        ({"keys": "unique", "name": "R", "listeners": "x"}, TypeError, "a list of names of processes"),
        ({"keys": "unique", "name": "R", "listeners": [3]}, TypeError, "a list of names of processes"),
        ({"keys": "unique", "name": "R", "meta": 3}, TypeError, "expected meta= to be a dict, got: 3"),
        ({"keys": "unique", "name": "R", "size": 3}, TypeError, "unknown option 'size' of a Registry"),
        ("R", TypeError, "the options of a registry as a dict"),
    ],
    ids=repr,
)
def test_wrong_options_are_named(options, error, text):
    with pytest.raises(error, match=text):
        Registry.child_spec(options)


def test_it_stands_in_a_tree_and_its_partitions_have_names(machine):
    async def main():
        spec = (Registry, {"keys": "unique", "name": "R", "partitions": 2})
        tree = await Supervisor.start_link([spec], strategy="one_for_one")
        [row] = await Supervisor.which_children(tree)
        assert (row.id, row.type, row.modules) == ("R", "supervisor", [Registry])
        assert [(row.id, row.modules) for row in await Supervisor.which_children("R")] == [
            ("R.PIDPartition1", [RegistryPartition]),
            ("R.PIDPartition0", [RegistryPartition]),
        ]
        assert process.whereis("R.PIDPartition1") is not None
        with pytest.raises(StartError) as refused:
            await Registry.start_link(keys="unique", name="R")
        assert refused.value.reason == ("already_started", row.pid)

    machine.run(main)


# ---- many at once, on real threads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("partitions", [1, 3])
def test_of_many_that_want_one_key_exactly_one_has_it_at_any_time(partitions):
    async def contend(test):
        won = 0
        for _ in range(50):
            try:
                register("R", "k", won)
            except KeyTakenError:
                await sleep(0)
                continue
            assert lookup("R", "k")[0][0] == self_()
            won += 1
            await sleep(0)
            assert lookup("R", "k")[0][0] == self_()
            Registry.unregister("R", "k")
        send(test, ("won", won))

    async def main():
        await Registry.start_link(keys="unique", name="R", partitions=partitions)
        for _ in range(20):
            spawn_link(contend, self_())
        return sum([(await receive(("won", int)))[1] for _ in range(20)])

    with Machine():
        assert run(main, timeout=20) > 0
