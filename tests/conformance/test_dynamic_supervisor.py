"""Section 5 of the table: dynamic supervisors and partitioned ones."""

import pytest

from otplib import ChildError, GenServer, Ok, Reply, process
from otplib.behaviours.dynamic_supervisor import DynamicSupervisor
from otplib.behaviours.partition_supervisor import PartitionSupervisor
from otplib.core.child_spec import Child, ChildSpec
from otplib.testing import deterministic
from tests.conformance.servers import flush
from tests.conformance.supervised import Holder, holder, refusal_of


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


class Number(GenServer):
    """`{Agent, fn -> n end}` of the scripts."""

    def init(self, number):
        return Ok(number)

    def handle_call(self, request, caller, number):
        return Reply(number, number)


def test_d01_children_have_no_ids_are_limited_in_number_and_are_terminated_by_pid(machine):
    """d01_dynsup.exs"""

    async def main():
        sup = await DynamicSupervisor.start_link(strategy="one_for_one", max_children=2)
        a = await DynamicSupervisor.start_child(sup, (Number, 1))
        b = await DynamicSupervisor.start_child(sup, (Number, 2))
        assert await refusal_of(DynamicSupervisor.start_child(sup, (Number, 3))) == "max_children"
        row = ("worker", [Number])
        assert await DynamicSupervisor.which_children(sup) == [
            Child("undefined", a, *row),
            Child("undefined", b, *row),
        ]
        counts = {"active": 2, "specs": 2, "supervisors": 0, "workers": 2}
        assert await DynamicSupervisor.count_children(sup) == counts
        assert await DynamicSupervisor.terminate_child(sup, a) is None
        assert await refusal_of(DynamicSupervisor.terminate_child(sup, a), ChildError) == "not_found"
        counts = {"active": 1, "specs": 1, "supervisors": 0, "workers": 1}
        assert await DynamicSupervisor.count_children(sup) == counts

    machine.run(main)


def test_d02_permanent_children_are_restarted_three_times_within_five_seconds(machine):
    """d02_dynsup_restart.exs"""

    async def main():
        process.flag(trap_exit=True)
        sup = await DynamicSupervisor.start_link(strategy="one_for_one")
        await DynamicSupervisor.start_child(sup, holder("w"))
        for _ in range(3):
            process.exit(process.whereis("w"), "kill")
            assert await flush(0.02) == []
            assert process.alive(sup)
        process.exit(process.whereis("w"), "kill")
        assert [(message.pid, message.reason) for message in await flush()] == [(sup, "shutdown")]
        assert not process.alive(sup)
        assert process.whereis("w") is None

    machine.run(main)


def test_d05_a_partition_is_found_by_the_remainder_of_its_key(machine):
    """d05_partition.exs"""

    async def main():
        await PartitionSupervisor.start_link(child_spec=Number.child_spec(0), name="P", partitions=2)
        assert PartitionSupervisor.partitions("P") == 2
        pids = [GenServer.whereis(PartitionSupervisor.via("P", key)) for key in range(4)]
        assert pids[0] == pids[2]
        assert pids[0] != pids[1]

    machine.run(main)


# ---- what Elixir 1.14 did where the table is silent ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"restart": "x"}, ("invalid_restart_type", "x")),
        ({"shutdown": "x"}, ("invalid_shutdown", "x")),
        ({"shutdown": -1}, ("invalid_shutdown", -1)),
        ({"modules": 3}, ("invalid_modules", 3)),
    ],
    ids=repr,
)
def test_a_faulty_specification_is_refused_with_its_fault_and_the_supervisor_lives_on(machine, fields, fault):
    async def main():
        sup = await DynamicSupervisor.start_link()
        child = ChildSpec("w", (Holder.start_link, ("w",)), **fields)
        assert await refusal_of(DynamicSupervisor.start_child(sup, child)) == fault
        assert (await DynamicSupervisor.count_children(sup))["specs"] == 0

    machine.run(main)


def test_significant_means_nothing_to_a_dynamic_supervisor(machine):
    async def main():
        sup = await DynamicSupervisor.start_link()
        child = holder("w", significant=True)
        pid = await DynamicSupervisor.start_child(sup, child)
        assert process.alive(pid)

    machine.run(main)
