"""Partition supervisors: the same child several times over, and the one for a key."""

import pytest

from otplib import Exit, GenServer, NoReply, Ok, Reply, StartError, Supervisor, Via, process, send, sleep
from otplib.behaviours.partition_supervisor import PartitionSupervisor
from otplib.testing import deterministic
from otplib.vm.shell import current_machine

via = PartitionSupervisor.via


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


class Number(GenServer):
    def init(self, number):
        return Ok(number)

    def handle_call(self, request, caller, number):
        return Reply(number, number)

    def handle_info(self, message, number):
        return NoReply(message)


def test_each_partition_may_be_given_arguments_of_its_own(machine):
    async def main():
        await PartitionSupervisor.start_link(
            child_spec=(Number, "any"), name="P", partitions=3, with_arguments=lambda args, index: [(args[0], index)]
        )
        found = [await GenServer.call(via("P", key), "get") for key in (0, 1, 2, 3, -1)]
        assert found == [("any", index) for index in (0, 1, 2, 0, 1)]

    machine.run(main)


def test_the_same_key_always_leads_to_the_same_partition_and_many_keys_to_all(machine):
    async def main():
        await PartitionSupervisor.start_link(child_spec=(Number, 0), name="P", partitions=3)
        keys = [f"user {number}" for number in range(100)] + [("room", number) for number in range(100)]
        first = {key: process.whereis(via("P", key)) for key in keys}
        assert first == {key: process.whereis(Via(PartitionSupervisor, ("P", key))) for key in keys}
        assert len(set(first.values())) == 3

    machine.run(main)


def test_messages_casts_and_calls_take_the_name(machine):
    async def main():
        await PartitionSupervisor.start_link(child_spec=(Number, 0), name="P", partitions=2)
        send(via("P", 1), 7)
        assert [await GenServer.call(via("P", key), "get") for key in (0, 1)] == [0, 7]

    machine.run(main)


def test_a_partition_that_crashes_is_replaced(machine):
    async def main():
        await PartitionSupervisor.start_link(child_spec=(Number, 0), name="P", partitions=2)
        before = process.whereis(via("P", 1))
        process.exit(before, "kill")
        await sleep(0.01)
        assert process.alive(process.whereis(via("P", 1)))
        assert process.whereis(via("P", 1)) != before
        assert [row.id for row in await PartitionSupervisor.which_children("P")] == [1, 0]
        assert (await PartitionSupervisor.count_children("P"))["active"] == 2

    machine.run(main)


def test_one_that_is_not_there_fails_as_in_elixir_and_leaves_nothing_behind(machine):
    async def main():
        sup = await PartitionSupervisor.start_link(child_spec=(Number, 0), name="P", partitions=2)
        assert PartitionSupervisor.partitions(sup) == 2
        await PartitionSupervisor.stop("P")
        for ask in (lambda: PartitionSupervisor.partitions("P"), lambda: process.whereis(via("P", 1))):
            with pytest.raises(Exit) as ended:
                ask()
            assert ended.value.reason == ("noproc", ("PartitionSupervisor", "partitions", ["P"]))
        assert current_machine().services["partition_supervisors"] == {}

    machine.run(main)


def test_nobody_takes_the_name_of_a_partition(machine):
    async def main():
        await PartitionSupervisor.start_link(child_spec=(Number, 0), name="P", partitions=2)
        with pytest.raises(StartError) as refused:
            await Number.start_link(0, name=via("P", 1))
        assert refused.value.reason == ("already_started", process.whereis(via("P", 1)))
        with pytest.raises(ValueError, match="cannot be given on registration"):
            process.register(process.self_(), via("P", 1))
        with pytest.raises(ValueError, match="cannot be given on unregistration"):
            process.unregister(via("P", 1))

    machine.run(main)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"name": "P"}, TypeError, "the child_spec= option must be given"),
        ({"child_spec": Number}, TypeError, "the name= option must be given"),
        ({"name": "P", "child_spec": Number, "partitions": 0}, ValueError, "must be a positive int, got: 0"),
        ({"name": "P", "child_spec": Number, "with_arguments": 3}, TypeError, "takes the arguments and the partition"),
        ({"name": "P", "child_spec": Number, "parts": 3}, TypeError, "unknown option 'parts'"),
        (5, TypeError, "as a dict, as in"),
    ],
    ids=repr,
)
def test_wrong_options_are_named(options, error, text):
    with pytest.raises(error, match=text):
        PartitionSupervisor.child_spec(options)


def test_it_stands_in_a_tree_with_as_many_partitions_as_processors(machine, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)

    async def main():
        await Supervisor.start_link(
            [(PartitionSupervisor, {"child_spec": (Number, 0), "name": "P"})], strategy="one_for_one"
        )
        assert PartitionSupervisor.partitions("P") == 4

    machine.run(main)
