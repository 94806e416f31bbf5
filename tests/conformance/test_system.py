"""Section 3 of the table, third part: looking into a living server, OTP's `:sys`."""

import pytest

from otplib import GenServer, NoReply, Ok, Reply, Stop, process, self_, send, sleep, spawn, system
from otplib.testing import deterministic
from tests.conformance.servers import dead, exit_of, flush, idle


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


class Holder(GenServer):
    """Holds a value; tells a test, if its state is one, what it hears."""

    def handle_call(self, request, caller, state):
        match request:
            case "n":
                return Reply(state, state)
            case "q":
                return Reply("r", state, hibernate=True)
            case "idle":
                return Reply("ok", state, timeout=0.1)

    def handle_cast(self, request, state):
        return NoReply(state)

    def handle_info(self, message, state):
        send(state, ("info", message))
        return NoReply(state)

    def terminate(self, reason, state):
        if isinstance(state, type(self_())):
            send(state, ("terminate", reason))


def test_g28_the_system_verbs(machine):
    """g28_sys.exs"""

    async def main():
        pid = await Holder.start_link(1)
        assert await system.get_state(pid) == 1
        assert await system.replace_state(pid, lambda state: state + 41) == 42
        assert await GenServer.call(pid, "n") == 42
        assert await system.suspend(pid) is None
        assert (await exit_of(GenServer.call(pid, "n", 0.05)))[0] == "timeout"
        assert await system.get_state(pid) == 42
        status = await system.get_status(pid)
        assert (status["module"], status["status"]) == ("gen_server", "suspended")
        assert await system.resume(pid) is None
        assert await GenServer.call(pid, "n") == 42
        gone = await dead()
        assert await exit_of(system.get_state(gone)) == ("noproc", ("system", "get_state", [gone]))
        reason = await exit_of(system.get_state(spawn(idle), 0.05))
        assert reason[0] == "timeout"
        assert await flush() == []

    machine.run(main)


def test_get_status_shows_what_is_known_of_a_server(machine):
    async def main():
        pid = await Holder.start_link({"k": 1}, name="holder")
        assert await system.get_status("holder") == {
            "module": "gen_server",
            "status": "running",
            "parent": self_(),
            "class": Holder,
            "pid": pid,
            "name": "holder",
            "state": {"k": 1},
        }

    machine.run(main)


def test_a_server_without_a_link_is_its_own_parent(machine):
    async def main():
        pid = await Holder.start(0)
        return (await system.get_status(pid))["parent"] == pid

    assert machine.run(main)


def test_what_comes_while_a_server_is_suspended_waits_in_order(machine):
    class Log(GenServer):
        def handle_cast(self, request, state):
            return NoReply([*state, request])

        def handle_info(self, message, state):
            return NoReply([*state, message])

    async def main():
        pid = await Log.start_link([])
        await system.suspend(pid)
        for number in range(4):
            GenServer.cast(pid, number)
            send(pid, f"message {number}")
        assert await system.get_state(pid) == []
        await system.suspend(pid)  # not counted: one resume ends it
        await system.resume(pid)
        assert await system.get_state(pid) == [one for n in range(4) for one in (n, f"message {n}")]

    machine.run(main)


def test_a_suspended_server_can_be_stopped_and_dies_with_its_parent(machine):
    class Trapping(Holder):
        def init(self, arg):
            process.flag(trap_exit=True)
            return Ok(arg)

    async def main():
        me = self_()
        pid = await Trapping.start(me)
        await system.suspend(pid)
        await GenServer.stop(pid, "shutdown")
        assert await flush() == [("terminate", "shutdown")]

        async def parent():
            await system.suspend(await Trapping.start_link(me))

        spawn(parent)
        assert await flush() == [("terminate", "normal")]

    machine.run(main)


def test_a_system_request_does_not_cancel_the_time_out_of_a_server_but_starts_it_anew(machine):
    async def main():
        pid = await Holder.start_link(self_())
        await GenServer.call(pid, "idle")
        await sleep(0.06)
        await system.get_state(pid)
        await sleep(0.06)
        await system.suspend(pid)
        await sleep(1.0)
        await system.resume(pid)
        resumed = machine.now()
        assert await flush(0.09) == []
        assert await flush(0.5) == [("info", "timeout")]
        return machine.now() - resumed

    machine.run(main)


def test_replace_state_tells_the_asker_what_its_function_raised(machine):
    async def main():
        pid = await Holder.start_link(1)
        with pytest.raises(ZeroDivisionError):
            await system.replace_state(pid, lambda state: state / 0)
        assert await system.get_state(pid) == 1

        def leave(state):
            raise SystemExit(3)

        with pytest.raises(SystemExit):
            await system.replace_state(pid, leave)
        assert await system.get_state(pid) == 1

    machine.run(main)


def test_the_state_that_get_state_gives_is_a_copy(machine):
    async def main():
        pid = await Holder.start_link([1])
        (await system.get_state(pid)).append(2)
        replaced = await system.replace_state(pid, lambda state: [*state, 3])
        replaced.append(4)
        assert await GenServer.call(pid, "n") == [1, 3]

    machine.run(main)


# ---- tracing -------------------------------------------------------------------------------------------------------


class Traced(GenServer):
    def handle_call(self, request, caller, state):
        return Reply(state, state + 1)

    def handle_cast(self, request, state):
        return NoReply(state)

    def handle_info(self, message, state):
        return NoReply(state) if message != "stop" else Stop("normal", state)


def test_g29_trace_prints_and_statistics_count(machine, capsys):
    """g29_sys_trace.exs"""

    async def main():
        pid = await Traced.start_link(1, name="traced")
        assert await system.trace(pid, True) is None
        assert await system.statistics(pid, True) is None
        await GenServer.call(pid, "n")
        GenServer.cast(pid, "c")
        send(pid, "i")
        counted = await system.statistics(pid, "get")
        assert (counted["messages_in"], counted["messages_out"]) == (3, 1)
        assert counted["reductions"] > 0
        assert counted["start_time"] <= counted["current_time"]
        await system.trace(pid, False)
        await GenServer.call(pid, "unseen")
        assert (await system.statistics(pid))["messages_in"] == 4
        await system.statistics(pid, False)
        assert await system.statistics(pid) == "no_statistics"
        return self_()

    me = machine.run(main)
    assert capsys.readouterr().out.splitlines() == [
        f'*DBG* traced got call "n" from {me!r}',
        f"*DBG* traced sent 1 to {me!r}, new state 2",
        '*DBG* traced got cast "c"',
        "*DBG* traced new state 2",
        '*DBG* traced got "i"',
        "*DBG* traced new state 2",
    ]


def test_wrong_orders_to_the_tracer_are_refused(machine):
    async def main():
        pid = await Traced.start_link(1)
        with pytest.raises(ValueError, match="statistics takes"):
            await system.statistics(pid, "all")
        with pytest.raises(TypeError, match="a server"):
            await system.get_state(5)

    machine.run(main)


# ---- what is known of a server from outside --------------------------------------------------------------------------


def test_g33_a_server_knows_its_ancestors_and_its_initial_call(machine):
    """g33_dict.exs"""

    async def main():
        process.register(self_(), "boss")
        pid = await Traced.start_link(0)
        assert process.info(pid, "dictionary") == {"$initial_call": (Traced, "init", 1), "$ancestors": ["boss"]}
        assert process.info(pid, "initial_call") == (Traced.__module__, "Traced.init")
        module, function = process.info(pid, "current_function")
        assert (module, function) == ("otplib.behaviours.server_loop", "ServerLoop._serve")

    machine.run(main)


def test_the_ancestors_of_a_server_started_by_a_server_go_back_to_the_first(machine):
    class Outer(GenServer):
        async def init(self, test):
            return Ok(await Traced.start_link(0))

    async def main():
        pid = await Outer.start_link(self_(), name="outer")
        inner = await system.get_state(pid)
        assert process.info(inner, "dictionary")["$ancestors"] == ["outer", self_()]

    machine.run(main)


def test_g40_a_hibernating_server_sleeps_until_the_next_message(machine):
    """g40_hibernate_return.exs"""

    async def main():
        pid = await Holder.start_link(0)
        assert await GenServer.call(pid, "q") == "r"
        await sleep(0.02)
        assert process.info(pid, "current_function") == ("otplib.process", "hibernate")
        assert await GenServer.call(pid, "q") == "r"
        await GenServer.call(pid, "n")
        assert process.info(pid, "current_function") == ("otplib.behaviours.server_loop", "ServerLoop._serve")

    machine.run(main)
