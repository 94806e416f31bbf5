"""The reports of a supervisor: off unless asked for, and then in the words of SASL."""

import logging

import pytest

from otplib import (
    process,
    self_,
)
from otplib.behaviours.supervisor import Supervise, Supervisor
from otplib.testing import deterministic
from tests.behaviours.supervised import (
    Flaky,
    end_of,
    flush,
    pids_of,
    plain,
    reason_of,
    worker,
)


@pytest.fixture(params=[1, 2, 3])
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


# ---- reports ---------------------------------------------------------------------------------------------------------


def supervisor_reports(caplog):
    return [one.getMessage() for one in caplog.records if one.name == "otplib.supervisor"]


def test_s27_reports_are_silent_unless_asked_for(machine, caplog):
    async def main():
        process.flag(trap_exit=True)
        sup = await Supervisor.start_link([plain("w")], strategy="one_for_one", max_restarts=0)
        process.exit((await pids_of(sup))["w"], "kill")
        await flush()

    with caplog.at_level(logging.WARNING, logger="otplib"):
        machine.run(main)
    assert supervisor_reports(caplog) == []


def test_s27_reports_read_as_those_of_sasl(machine, caplog):
    async def main():
        process.flag(trap_exit=True)
        children = [worker("w", shutdown="brutal_kill"), worker("slow", 9, shutdown=1)]
        sup = await Supervisor.start_link(children, strategy="one_for_one", max_restarts=0, name="boss")
        pids = await pids_of(sup)
        end = end_of(sup)
        process.exit(pids["w"], "kill")
        assert await end == "shutdown"
        return self_(), pids["w"], pids["slow"]

    with caplog.at_level(logging.INFO, logger="otplib.supervisor"):
        test, pid, slow = machine.run(main)
    call = f'Start Call: Worker.start_link(("w", {test!r}))'
    slow_call = f'Start Call: Worker.start_link(("slow", {test!r}, 9))'
    assert supervisor_reports(caplog) == [
        f'Child "w" of Supervisor "boss" terminated\n** (exit) killed\nPid: {pid!r}\n{call}',
        f'Child "w" of Supervisor "boss" caused shutdown\n** (exit) "reached_max_restart_intensity"\n{call}',
        f'Child "slow" of Supervisor "boss" shut down abnormally\n** (exit) killed\nPid: {slow!r}\n{slow_call}',
    ]


def test_at_debug_a_start_is_reported_with_all_of_the_specification(machine, caplog):
    class Quiet(Supervisor):
        def init(self, arg):
            return Supervise([plain("w", restart="transient")], strategy="one_for_one")

    async def main():
        sup = await Quiet.start_link(None)
        return sup, (await pids_of(sup))["w"]

    with caplog.at_level(logging.DEBUG, logger="otplib.supervisor"):
        sup, pid = machine.run(main)
    assert supervisor_reports(caplog)[0].splitlines() == [
        f'Child "w" of Supervisor {sup!r} ({Quiet.__qualname__}) started',
        f"Pid: {pid!r}",
        supervisor_reports(caplog)[0].splitlines()[2],
        'Restart: "transient"',
        "Shutdown: 5.0",
        'Type: "worker"',
    ]
    assert "wait_for_order" in supervisor_reports(caplog)[0].splitlines()[2]


def test_a_failed_start_is_reported(machine, caplog):
    async def main():
        process.flag(trap_exit=True)
        await reason_of(Supervisor.start_link([Flaky(0, reason="cannot").spec("f")], strategy="one_for_one"))

    with caplog.at_level(logging.INFO, logger="otplib.supervisor"):
        machine.run(main)
    [text] = supervisor_reports(caplog)
    assert '"f" of Supervisor' in text
    assert 'failed to start\n** (exit) "cannot"\nStart Call: ' in text
