"""Code that changes under a living server, and what reports and child specs take from its class."""

import sys
import types

import pytest

from otplib import GenServer, NoReply, Ok, Reply, Supervisor, process, receive, self_, send, sleep, spawn, system
from otplib.testing import deterministic
from tests.behaviours.served import exit_of, flush, kind_of, reports_of


@pytest.fixture(params=[1, 2, 3])
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


class Lab:
    """A module whose cells are run one after the other, as a notebook's are."""

    def __init__(self):
        self.module = types.ModuleType("the_lab")
        sys.modules["the_lab"] = self.module
        self.run("from otplib import *\nfrom otplib.behaviours.returns import *")

    def run(self, cell):
        exec(compile(cell, "<cell>", "exec"), self.module.__dict__)

    @property
    def Greeter(self):
        return self.module.Greeter


@pytest.fixture
def lab():
    yield Lab()
    del sys.modules["the_lab"]


def greeter(word, more=""):
    """The cell that defines `Greeter`, in one of its versions."""
    return f"""
class Greeter(GenServer):
    def init(self, arg):
        return Ok(arg)
    async def handle_call(self, request, caller, state):
        if request == "slowly":
            await sleep(1)
        return Reply(({word!r}, state), state)
    def handle_info(self, message, state):
        send(message, ({word!r}, "info"))
        return NoReply(state)
    def handle_cast(self, request, state):
        return NoReply({word!r} + request, then=Continue("go"))
    def handle_continue(self, arg, state):
        return NoReply(state + {word!r})
{more}
"""


# ---- hot code ------------------------------------------------------------------------------------------------------


def test_running_the_class_again_changes_a_living_server_and_keeps_its_state(machine, lab):
    async def main():
        lab.run(greeter("old"))
        pid = await lab.Greeter.start_link("state")
        assert await GenServer.call(pid, "x") == ("old", "state")
        lab.run(greeter("new"))
        assert await GenServer.call(pid, "x") == ("new", "state")
        send(pid, self_())
        assert await receive() == ("new", "info")
        lab.run(greeter("newer"))
        GenServer.cast(pid, "cast")
        assert await system.get_state(pid) == "newercastnewer"
        assert (await system.get_status(pid))["class"] is lab.Greeter

    machine.run(main)


def test_a_callback_that_runs_ends_with_the_code_it_began_with(machine, lab):
    async def main():
        lab.run(greeter("old"))
        pid = await lab.Greeter.start_link("state")
        asked = GenServer.send_request(pid, "slowly")
        await sleep(0.5)
        lab.run(greeter("new"))
        assert await GenServer.wait_response(asked) == ("old", "state")
        assert await GenServer.call(pid, "x") == ("new", "state")

    machine.run(main)


def test_a_hibernating_server_wakes_with_the_new_code(machine, lab):
    async def main():
        lab.run(greeter("old", "    def init(self, arg): return Ok(arg, hibernate=True)"))
        pid = await lab.Greeter.start_link("state")
        await sleep(1)
        lab.run(greeter("new"))
        assert await GenServer.call(pid, "x") == ("new", "state")

    machine.run(main)


def test_terminate_is_that_of_the_new_code(machine, lab):
    async def main():
        lab.run(greeter("old"))
        pid = await lab.Greeter.start(self_())
        lab.run(greeter("new", "    def terminate(self, reason, state): send(state, ('new', reason))"))
        await GenServer.stop(pid, "shutdown")
        assert await receive() == ("new", "shutdown")

    machine.run(main)


def test_a_restarted_child_starts_with_the_new_code(machine, lab):
    async def main():
        lab.run(greeter("old"))
        sup = await Supervisor.start_link([(lab.Greeter, "state")], strategy="one_for_one")
        [child] = await Supervisor.which_children(sup)
        lab.run(greeter("new", "    def init(self, arg): return Ok('new ' + arg)"))
        process.exit(child.pid, "kill")
        await sleep(1)
        [again] = await Supervisor.which_children(sup)
        assert again.pid != child.pid
        assert await GenServer.call(again.pid, "x") == ("new", "new state")

    machine.run(main)


@pytest.mark.parametrize("cell", ["Greeter = 5", "del Greeter", "class Greeter: pass", "def Greeter(): pass"])
def test_what_is_no_such_server_any_more_does_not_replace_the_code(machine, lab, cell):
    async def main():
        lab.run(greeter("old"))
        pid = await lab.Greeter.start_link("state")
        lab.run(cell)
        assert await GenServer.call(pid, "x") == ("old", "state")
        lab.run(greeter("new"))
        assert await GenServer.call(pid, "x") == ("new", "state")

    machine.run(main)


def test_classes_made_in_functions_have_no_place_to_be_found_again(machine):
    def make(word):
        class Local(GenServer):
            def handle_call(self, request, caller, state):
                return Reply(word, state)

        return Local

    async def main():
        first = await make("one").start_link(0)
        second = await make("two").start_link(0)
        return await GenServer.call(first, "x"), await GenServer.call(second, "x")

    assert machine.run(main) == ("one", "two")


# ---- code_change ---------------------------------------------------------------------------------------------------

CONVERTS = """
    def code_change(self, old_version, state, extra):
        if extra == "fail":
            raise LookupError("no way from " + old_version)
        if extra == "forget":
            return {"count": state}
        return Ok({"count": state, "since": old_version, "extra": extra})
"""


def test_code_change_converts_the_state_of_a_suspended_server(machine, lab):
    async def main():
        lab.run(greeter("old"))
        pid = await lab.Greeter.start_link(7)
        await system.suspend(pid)
        asked = GenServer.send_request(pid, "x")
        lab.run(greeter("new", CONVERTS))
        assert await system.get_state(pid) == 7
        assert await system.change_code(pid, "v1", ["extra"]) is None
        with pytest.raises(TimeoutError):
            await GenServer.wait_response(asked, 0)
        await system.resume(pid)
        expected = {"count": 7, "since": "v1", "extra": ["extra"]}
        assert await GenServer.wait_response(asked) == ("new", expected)

    machine.run(main)


def test_a_code_change_that_fails_leaves_the_server_as_it_was(machine, lab):
    async def main():
        lab.run(greeter("old", CONVERTS))
        pid = await lab.Greeter.start_link(7)
        with pytest.raises(RuntimeError, match="suspend"):
            await system.change_code(pid, "v1")
        await system.suspend(pid)
        with pytest.raises(LookupError, match="no way from v1"):
            await system.change_code(pid, "v1", "fail")
        with pytest.raises(TypeError, match=r"code_change must return Ok\(state\)"):
            await system.change_code(pid, "v1", "forget")
        assert (await system.get_status(pid))["status"] == "suspended"
        await system.resume(pid)
        assert await GenServer.call(pid, "x") == ("old", 7)

    machine.run(main)


def test_without_a_code_change_of_its_own_a_server_keeps_its_state(machine, lab):
    async def main():
        lab.run(greeter("old"))
        pid = await lab.Greeter.start_link(7)
        await system.suspend(pid)
        await system.change_code(pid)
        await system.resume(pid)
        assert await system.get_state(pid) == 7

    machine.run(main)


# ---- format_status -------------------------------------------------------------------------------------------------


class Discreet(GenServer):
    """Hides its password from whoever looks."""

    def handle_cast(self, request, state):
        raise ValueError("cast")

    def handle_call(self, request, caller, state):
        raise ValueError("call")

    def format_status(self, status):
        shown = {**status, "state": {**status["state"], "password": "***"}}
        if "message" in shown:
            shown["message"] = "hidden"
        return shown


def test_format_status_hides_from_reports_and_from_get_status(machine, caplog):
    async def main():
        pid = await Discreet.start({"user": "me", "password": "secret"})
        assert (await system.get_status(pid))["state"] == {"user": "me", "password": "***"}
        assert (await system.get_state(pid))["password"] == "secret", "get_state is for debugging, as in OTP"
        GenServer.cast(pid, "secret")
        await flush()

    machine.run(main)
    [report] = reports_of(caplog)
    assert report.splitlines()[-2:] == ['Last message: "hidden"', 'State: {"user": "me", "password": "***"}']
    assert "secret" not in report


@pytest.mark.parametrize("answer", ["raise", "exit", None, 5])
def test_a_format_status_that_is_broken_does_not_stand_in_the_way_of_a_report(machine, caplog, answer):
    class Broken(GenServer):
        def handle_call(self, request, caller, state):
            raise ValueError("call")

        def format_status(self, status):
            if answer == "raise":
                raise KeyError("in format_status")
            if answer == "exit":
                raise SystemExit
            return answer

    async def main():
        pid = await Broken.start("the state")
        reason, _ = await exit_of(GenServer.call(pid, "x"))
        assert kind_of(reason) is ValueError

    machine.run(main)
    assert 'State: "the state"' in reports_of(caplog)[0]


def test_a_state_with_a_broken_repr_does_not_stand_in_the_way_of_a_report(machine, caplog):
    class Unspeakable:
        def __repr__(self):
            raise RuntimeError("no words")

    class Silent(GenServer):
        def handle_cast(self, request, state):
            raise ValueError("cast")

    async def main():
        pid = await Silent.start(Unspeakable())
        GenServer.cast(pid, "x")
        await flush()

    machine.run(main)
    assert "Unspeakable whose repr raised RuntimeError" in reports_of(caplog)[0]


def test_a_crash_report_is_written_by_the_server_so_it_lands_with_its_output(machine):
    import logging

    class Careless(GenServer):
        def handle_cast(self, request, state):
            raise ValueError("cast")

    written = []

    class Handler(logging.Handler):
        def emit(self, record):
            written.append((self_(), process.group_leader()))

    handler = Handler()
    logging.getLogger("otplib").addHandler(handler)

    async def main():
        async def leader():
            while True:
                await receive()

        lead = spawn(leader)
        process.group_leader(self_(), lead)
        pid = await Careless.start(None)
        GenServer.cast(pid, "x")
        await flush()
        assert written == [(pid, lead)]

    try:
        machine.run(main)
    finally:
        logging.getLogger("otplib").removeHandler(handler)


# ---- child specs ---------------------------------------------------------------------------------------------------


def test_the_keywords_of_a_class_are_the_defaults_of_its_child_spec():
    class Worker(GenServer, restart="temporary", shutdown="brutal_kill", id=("worker", 1)):
        pass

    spec = Worker.child_spec(5)
    assert (spec.id, spec.restart, spec.shutdown, spec.type) == (("worker", 1), "temporary", "brutal_kill", "worker")
    assert spec.start == (Worker.start_link, (5,))
    assert spec.modules == [Worker]
    changed = Supervisor.child_spec((Worker, 5), id="other", shutdown=1)
    assert (changed.id, changed.restart, changed.shutdown) == ("other", "temporary", 1)


def test_the_keywords_of_one_class_do_not_touch_another():
    class Worker(GenServer, restart="temporary"):
        pass

    class Other(GenServer):
        pass

    class Sub(Worker, shutdown=1):
        pass

    assert Other.child_spec(0).restart == "permanent"
    assert (Sub.child_spec(0).restart, Sub.child_spec(0).shutdown) == ("temporary", 1)
    assert Worker.child_spec(0).shutdown == 5.0


def test_an_unknown_keyword_of_a_class_is_refused():
    with pytest.raises(TypeError, match="keyword"):

        class Worker(GenServer, restrat="temporary"):
            pass


def test_a_start_link_of_the_users_own_may_choose_name_and_argument(machine):
    class Named(GenServer):
        @classmethod
        async def start_link(cls, number):
            return await super().start_link({"number": number}, name=f"named {number}")

        def handle_call(self, request, caller, state):
            return Reply(state["number"], state)

        def handle_info(self, message, state):
            return NoReply(state)

        def init(self, arg):
            return Ok(arg)

    async def main():
        children = [Supervisor.child_spec((Named, n), id=n) for n in (1, 2)]
        await Supervisor.start_link(children, strategy="one_for_one")
        return [await GenServer.call(f"named {n}", "x") for n in (1, 2)]

    assert machine.run(main) == [1, 2]
