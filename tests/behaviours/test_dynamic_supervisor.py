"""Dynamic supervisors: starting, restarting, and above all stopping many children at once."""

import logging

import pytest

from otplib import (
    ChildSpec,
    Down,
    Exit,
    GenServer,
    Ignore,
    Ok,
    Raised,
    StartError,
    Supervise,
    Supervisor,
    process,
    receive,
    self_,
    send,
    shared,
    sleep,
    spawn,
    spawn_link,
    system,
)
from otplib.behaviours.dynamic_supervisor import DynamicSupervise, DynamicSupervisor
from otplib.behaviours.dynamic_supervisor_server import State
from otplib.testing import assert_receive, deterministic
from otplib.vm.shell import current_machine

count_children, start_child = DynamicSupervisor.count_children, DynamicSupervisor.start_child


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


async def wait():
    await receive("never")


def idle(**fields):
    return ChildSpec("idle", (spawn_link, (wait,)), **fields)


async def reason_of(awaitable):
    with pytest.raises(StartError) as refused:
        await awaitable
    return refused.value.reason


# ---- starting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"strategy": "one_for_all"}, ("invalid_strategy", "one_for_all")),
        ({"max_restarts": -1}, ("invalid_intensity", -1)),
        ({"max_seconds": 0}, ("invalid_period", 0)),
        ({"max_children": -1}, ("invalid_max_children", -1)),
        ({"max_children": True}, ("invalid_max_children", True)),
        ({"extra_arguments": 5}, ("invalid_extra_arguments", 5)),
    ],
    ids=repr,
)
def test_a_wrong_flag_keeps_it_from_starting(machine, options, fault):
    async def main():
        process.flag(trap_exit=True)
        assert await reason_of(DynamicSupervisor.start_link(**options)) == ("supervisor_data", fault)

    machine.run(main)


def test_a_subclass_says_in_init_how_it_treats_children(machine):
    class Pool(DynamicSupervisor, restart="transient", id="pool"):
        async def init(self, most):
            return DynamicSupervise(max_children=most) if most else Ignore()

    async def main():
        pool = await Pool.start_link(1, name="pool")
        await start_child("pool", idle())
        assert await reason_of(start_child(pool, idle())) == "max_children"
        assert await Pool.start_link(0) is None
        spec = Pool.child_spec(3)
        assert (spec.id, spec.restart, spec.type, spec.shutdown) == ("pool", "transient", "supervisor", "infinity")

    machine.run(main)


def test_what_init_may_not_return_is_named(machine):
    class Odd(DynamicSupervisor):
        def init(self, arg):
            return 5

    async def main():
        process.flag(trap_exit=True)
        assert await reason_of(Odd.start_link()) == ("bad_return", (Odd, "init", 5))

    machine.run(main)


def test_it_is_told_what_to_write_instead(machine):
    class Bare(DynamicSupervisor):
        pass

    class Pool(DynamicSupervisor):
        def init(self, arg):
            return DynamicSupervise()

    async def main():
        with pytest.raises(TypeError, match="begins empty: start them with await"):
            await DynamicSupervisor.start_link([idle()])
        with pytest.raises(TypeError, match="unknown option 'children'"):
            await DynamicSupervisor.start_link(children=[])
        with pytest.raises(TypeError, match="return DynamicSupervise"):
            await Bare.start_link()
        with pytest.raises(TypeError, match=r"write it into the DynamicSupervise\(...\) that .*Pool.init returns"):
            await Pool.start_link(None, max_children=3)
        with pytest.raises(TypeError, match="as a dict, as in"):
            DynamicSupervisor.child_spec("pool")
        sup = await DynamicSupervisor.start_link()
        with pytest.raises(TypeError, match="supervisors expect each child"):
            await start_child(sup, 5)
        with pytest.raises(TypeError, match="expected the pid of a child"):
            await DynamicSupervisor.terminate_child(sup, "w")

    machine.run(main)


def test_it_stands_in_a_tree_under_its_name(machine):
    async def main():
        options = {"name": "pool", "max_children": 1}
        tree = await Supervisor.start_link([(DynamicSupervisor, options)], strategy="one_for_one")
        first = await start_child("pool", idle())
        assert await reason_of(start_child("pool", idle())) == "max_children"
        process.exit(process.whereis("pool"), "kill")
        await sleep(0.1)
        assert not process.alive(first)
        assert await count_children("pool") == {"specs": 0, "active": 0, "supervisors": 0, "workers": 0}
        [row] = await Supervisor.which_children(tree)
        assert (row.id, row.type, row.modules) == ("pool", "supervisor", [DynamicSupervisor])

    machine.run(main)


# ---- children ------------------------------------------------------------------------------------------------------


def test_a_child_that_does_not_start_leaves_no_row_and_its_own_reason(machine):
    def raises():
        raise RuntimeError("x")

    def exits():
        raise Exit("why")

    def refuses():
        raise StartError("no")

    async def main():
        sup = await DynamicSupervisor.start_link()

        async def refused(function):
            return await reason_of(start_child(sup, ChildSpec("c", (function, ()))))

        reason = await refused(raises)
        assert isinstance(reason, Raised)
        assert str(reason.exception) == "x"
        assert await refused(exits) == "why"
        assert await refused(refuses) == "no"
        assert await refused(lambda: "odd") == "odd"
        assert await start_child(sup, ChildSpec("c", (lambda: None, ()))) is None
        assert (await count_children(sup))["specs"] == 0

    machine.run(main)


def test_extra_arguments_come_first_at_every_start(machine):
    def begin(test, extra, own):
        send(test, (extra, own))
        return spawn_link(wait)

    async def main():
        sup = await DynamicSupervisor.start_link(extra_arguments=[self_(), "extra"])
        pid = await start_child(sup, ChildSpec("c", (begin, ("own",))))
        process.exit(pid, "kill")
        assert [await receive(), await receive()] == [("extra", "own")] * 2

    machine.run(main)


def test_start_arguments_are_copied_at_every_start_but_shared_ones(machine):
    class Growing(GenServer):
        def init(self, arg):
            test, mine, ours = arg
            mine.append(1)
            ours.append(1)
            send(test, (len(mine), len(ours)))
            return Ok(None)

    owned, common = [], []

    async def main():
        sup = await DynamicSupervisor.start_link()
        pid = await start_child(sup, (Growing, (self_(), owned, shared(common))))
        process.exit(pid, "kill")
        assert [await receive(), await receive()] == [(1, 1), (1, 2)]
        assert owned == []
        assert len(common) == 2

    machine.run(main)


@pytest.mark.parametrize(
    ("restart", "reason", "again"),
    [
        ("permanent", "normal", True),
        ("permanent", "crash", True),
        ("transient", "shutdown", False),
        ("transient", ("shutdown", 1), False),
        ("transient", "crash", True),
        ("temporary", "crash", False),
    ],
)
def test_the_restart_type_decides_who_is_started_again(machine, restart, reason, again):
    async def end():
        raise Exit(await receive())

    async def main():
        sup = await DynamicSupervisor.start_link()
        pid = await start_child(sup, ChildSpec("c", (spawn_link, (end,)), restart=restart))
        send(pid, reason)
        await sleep(0.1)
        rows = await DynamicSupervisor.which_children(sup)
        assert [row.pid != pid for row in rows] == ([True] if again else [])

    machine.run(main)


class Fickle:
    """A child whose start does what the process named "mode" says: nobody there means it fails."""

    @staticmethod
    async def start():
        match process.whereis("mode"):
            case None:
                raise StartError("no")
            case pid if process.info(pid, "trap_exit"):
                return None
        return spawn_link(wait)


def test_a_start_that_fails_at_a_restart_is_tried_again_until_it_is_too_often(machine):
    async def main():
        process.flag(trap_exit=True)
        sup = await DynamicSupervisor.start_link(max_restarts=5)
        mode = spawn(wait)
        process.register(mode, "mode")
        child = await start_child(sup, ChildSpec("c", (Fickle.start, ())))
        process.unregister("mode")
        process.exit(child, "kill")
        assert (await assert_receive(("EXIT", sup, ...))).reason == "shutdown"

    machine.run(main)


def test_a_restarting_child_is_shown_as_such_and_can_be_terminated_by_its_old_pid(machine):
    async def main():
        sup = await DynamicSupervisor.start_link(max_restarts=1_000_000)
        mode = spawn(wait)
        process.register(mode, "mode")
        child = await start_child(sup, ChildSpec("c", (Fickle.start, ()), type="supervisor"))
        process.unregister("mode")
        process.exit(child, "kill")
        while (await DynamicSupervisor.which_children(sup))[0].pid == child:
            await sleep(0)
        [row] = await DynamicSupervisor.which_children(sup)
        assert (row.id, row.pid, row.type) == ("undefined", "restarting", "supervisor")
        assert await count_children(sup) == {"specs": 1, "active": 0, "supervisors": 1, "workers": 0}
        await DynamicSupervisor.terminate_child(sup, child)
        assert await DynamicSupervisor.which_children(sup) == []

    machine.run(main)


def test_a_child_that_chooses_not_to_run_at_a_restart_leaves_no_row(machine):
    async def main():
        sup = await DynamicSupervisor.start_link()

        async def sleeper():
            process.flag(trap_exit=bool(await receive()))
            await receive("never")

        mode = spawn(sleeper)
        process.register(mode, "mode")
        child = await start_child(sup, ChildSpec("c", (Fickle.start, ())))
        send(mode, True)
        await sleep(0.01)
        process.exit(child, "kill")
        await sleep(0.01)
        assert await DynamicSupervisor.which_children(sup) == []
        assert process.alive(sup)

    machine.run(main)


def test_what_no_supervisor_knows_ends_or_is_logged(machine, caplog):
    async def main():
        process.flag(trap_exit=True)
        sup = await DynamicSupervisor.start_link()
        send(sup, "hello")
        assert (await count_children(sup))["specs"] == 0
        with pytest.raises(Exit):
            await GenServer.call(sup, "odd")
        assert not process.alive(sup)

    with caplog.at_level(logging.ERROR):
        machine.run(main)
    assert 'DynamicSupervisor received unexpected message: "hello"' in caplog.text


# ---- stopping ------------------------------------------------------------------------------------------------------


def stubborn(test, seconds):
    """A child that takes its time to stop."""

    async def live():
        process.flag(trap_exit=True)
        send(test, "up")
        await receive(("EXIT", ..., "shutdown"))
        send(test, "told")
        await sleep(seconds)
        send(test, "done")

    return spawn_link(live)


def test_children_are_told_to_stop_all_at_once(machine):
    async def main():
        sup = await DynamicSupervisor.start_link()
        for _ in range(3):
            await start_child(sup, ChildSpec("c", (stubborn, (self_(), 1.0))))
            await receive("up")
        begun = current_machine().now()
        await DynamicSupervisor.stop(sup)
        assert current_machine().now() - begun == pytest.approx(1.0)
        assert [await receive() for _ in range(6)] == ["told"] * 3 + ["done"] * 3

    machine.run(main)


def test_each_child_has_the_time_its_own_shutdown_gives(machine):
    async def main():
        sup = await DynamicSupervisor.start_link()
        refs = {}
        for shutdown, seconds in ((0.5, 9), (2, 9), (3, 1), ("brutal_kill", 9), ("infinity", 4)):
            pid = await start_child(sup, ChildSpec("c", (stubborn, (self_(), seconds)), shutdown=shutdown))
            await receive("up")
            refs[process.monitor(pid)] = shutdown
        begun = current_machine().now()
        spawn(DynamicSupervisor.stop, sup)
        ends = {}
        for _ in refs:
            down = await receive(Down)
            ends[refs[down.ref]] = (round(current_machine().now() - begun, 3), down.reason)
        assert ends == {
            "brutal_kill": (0.0, "killed"),
            0.5: (0.5, "killed"),
            3: (1.0, "normal"),
            2: (2.0, "killed"),
            "infinity": (4.0, "normal"),
        }

    machine.run(main)


def test_reports_name_those_that_were_killed_and_nobody_else(machine, caplog):
    async def main():
        sup = await DynamicSupervisor.start_link(name="pool")
        await start_child(sup, idle())
        late = await start_child(sup, ChildSpec("c", (stubborn, (self_(), 9)), shutdown=0.1))
        await receive("up")
        await DynamicSupervisor.stop(sup)
        return late

    with caplog.at_level(logging.INFO, "otplib.supervisor"):
        late = machine.run(main)
    [report] = [record for record in caplog.records if record.name == "otplib.supervisor"]
    assert report.getMessage().startswith(
        'Child "undefined" of Supervisor "pool" shut down abnormally\n** (exit) killed'
    )
    assert report.pid == late


def test_a_child_that_has_unlinked_itself_is_stopped_too(machine):
    async def main():
        sup = await DynamicSupervisor.start_link()

        async def leave(test):
            process.unlink(sup)
            send(test, "left")
            await receive("never")

        pid = await start_child(sup, ChildSpec("c", (spawn_link, (leave, self_()))))
        await receive("left")
        await DynamicSupervisor.stop(sup)
        assert not process.alive(pid)

    machine.run(main)


def test_children_that_have_died_before_the_supervisor_looks_are_stopped_without_waiting(machine):
    async def main():
        sup = await DynamicSupervisor.start_link()
        pids = [await start_child(sup, idle(shutdown="infinity", restart="temporary")) for _ in range(50)]
        for pid in pids:
            process.exit(pid, "kill")
        await DynamicSupervisor.stop(sup)
        assert not any(map(process.alive, pids))

    machine.run(main)


def test_the_end_of_its_parent_is_the_end_of_all_its_children(machine):
    async def main():
        async def parent(test):
            sup = await DynamicSupervisor.start_link()
            send(test, [await start_child(sup, idle()) for _ in range(3)])
            raise Exit("done")

        pid, ref = process.spawn_monitor(parent, self_())
        children = await receive(list)
        await receive(("DOWN", ref, ..., pid, ...))
        await sleep(0.1)
        assert not any(map(process.alive, children))

    machine.run(main)


def test_new_code_changes_the_flags_and_leaves_the_children_alone(machine):
    class Pool(DynamicSupervisor):
        def init(self, arg):
            return DynamicSupervise(max_children=Pool.most)

    Pool.most = 1

    async def main():
        sup = await Pool.start_link()
        pid = await start_child(sup, idle())
        Pool.most = 2
        await system.suspend(sup)
        await system.change_code(sup, Pool, None, None)
        await system.resume(sup)
        await start_child(sup, idle())
        assert process.alive(pid)
        assert await reason_of(start_child(sup, idle())) == "max_children"

    machine.run(main)


def test_a_crowd_starts_and_stops_and_nothing_of_it_is_left():
    class Session(GenServer, restart="temporary"):
        def init(self, arg):
            return Ok(arg)

    async def main():
        before = process.list()
        sup = await DynamicSupervisor.start_link()
        for number in range(2_000):
            await start_child(sup, (Session, number))
        assert (await count_children(sup))["active"] == 2_000
        await DynamicSupervisor.stop(sup)
        return process.list() == before

    with deterministic() as machine:
        assert machine.run(main)


def test_a_supervisor_of_supervisors_counts_them(machine):
    class Nest(Supervisor):
        def init(self, arg):
            return Supervise([idle()], strategy="one_for_one")

    async def main():
        sup = await DynamicSupervisor.start_link()
        await start_child(sup, (Nest, None))
        await start_child(sup, idle())
        assert await count_children(sup) == {"specs": 2, "active": 2, "supervisors": 1, "workers": 1}
        assert isinstance(await system.get_state(sup), State)

    machine.run(main)
