"""Section 2 of the table, second part: names of processes, and what may be the name of a server."""

import pytest

from otplib import (
    Exit,
    GenServer,
    Global,
    Machine,
    NameTakenError,
    NoSuchNameError,
    Ok,
    Reply,
    StartError,
    Via,
    process,
    receive,
    run,
    self_,
    send,
    shared,
    sleep,
    spawn,
    spawn_monitor,
)
from otplib.testing import deterministic
from tests.conformance.processes import dead, flush, idle


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


class Book:
    """A registry as small as can be: the contract of `Via` and no more."""

    def __init__(self):
        self.entries = {}

    def register_name(self, key, pid):
        return self.entries.setdefault(key, pid) == pid

    def unregister_name(self, key):
        self.entries.pop(key, None)

    def whereis_name(self, key):
        return self.entries.get(key)


class Plain(GenServer):
    """Answers what it is asked."""

    def init(self, arg):
        return Ok(arg)

    def handle_call(self, request, caller, state):
        return Reply(request, state)


def test_n01_register_whereis_and_unregister(machine):
    """n01_register.exs"""

    async def main():
        pid = spawn(idle)
        assert process.register(pid, "w") is True
        assert process.whereis("w") == pid
        assert "w" in process.registered()
        assert process.unregister("w") is True
        assert process.whereis("w") is None
        assert process.registered() == []
        with pytest.raises(NoSuchNameError, match="unregister 'w'"):
            process.unregister("w")

    machine.run(main)


def test_n02_register_refuses_a_taken_name_a_second_name_a_dead_pid_and_what_is_no_name(machine):
    """n02_register_errors.exs"""

    async def main():
        one, two, gone = spawn(idle), spawn(idle), await dead()
        process.register(one, "w")
        for pid, name, why in (
            (two, "w", "the name is taken by"),
            (one, "w", "the name is taken by"),
            (one, "w2", "it already has the name 'w'"),
            (gone, "d", "it is not alive"),
        ):
            with pytest.raises(NameTakenError, match=f"could not register #PID.* as '{name}': {why}"):
                process.register(pid, name)
        for reserved in ("nil", "true", "false", "undefined", ""):
            with pytest.raises(ValueError, match="is reserved"):
                process.register(two, reserved)
        for bad in (None, True, 5, b"s", ["s"], ("w", "node")):
            with pytest.raises(TypeError, match="a name is a str"):
                process.register(two, bad)
        assert process.registered() == ["w"]
        assert process.info(two, "registered_name") is None

    machine.run(main)


def test_n05_global_names_on_one_node(machine):
    """n05_global_local.exs"""

    async def main():
        name = Global("g")
        assert process.register(self_(), name) is True
        for pid in (spawn(idle), self_()):
            with pytest.raises(NameTakenError):
                process.register(pid, name)
        assert process.whereis(name) == self_()
        send(name, "hi")
        assert await flush() == ["hi"]
        with pytest.raises(NoSuchNameError):
            send(Global("nope"), "hi")
        assert process.unregister(name) is True
        assert process.whereis(name) is None
        assert process.unregister(name) is True, "as :global.unregister_name, which never fails"

    machine.run(main)


def test_n06_what_may_be_the_name_of_a_server(machine):
    """n06_genserver_name_forms.exs; a str is what an atom is there"""

    async def main():
        book = Book()
        via = Via(book, "k")
        for name, registered in (("a", "a"), (Global(("any", "term")), None), (via, None), (None, None)):
            pid = await Plain.start_link(0, name=name)
            assert process.info(pid, "registered_name") == registered
            if name is not None:
                assert GenServer.whereis(name) == pid
                assert await GenServer.call(name, "hi") == "hi"
        for bad in (5, ("a", "b"), b"a", True, ["a"]):
            with pytest.raises(TypeError, match="expected name to be None, a str, Global"):
                await Plain.start_link(0, name=bad)
        assert GenServer.whereis(via) == book.entries["k"]
        assert GenServer.whereis("nobody") is None
        assert GenServer.whereis(("x", "other@node")) == ("x", "other@node")

    machine.run(main)


# ---- what the table does not say --------------------------------------------------------------------------------


def test_a_name_is_free_when_its_holder_s_death_is_heard_of(machine):
    async def main():
        for _ in range(20):
            pid, ref = spawn_monitor(idle)
            process.register(pid, "short")
            process.register(pid, Global("long"))
            process.exit(pid, "kill")
            await receive(("DOWN", ref, ..., ..., ...))
            assert process.whereis("short") is None
            assert process.whereis(Global("long")) is None

    machine.run(main)


def test_a_process_may_have_many_global_names_and_loses_all_with_its_end(machine):
    async def main():
        pid, ref = spawn_monitor(idle)
        names = [Global(("item", number)) for number in range(10)]
        for name in names:
            process.register(pid, name)
        process.unregister(names[3])
        assert [process.whereis(name) for name in names] == [pid] * 3 + [None] + [pid] * 6
        process.exit(pid, "kill")
        await receive(("DOWN", ref, ..., ..., ...))
        assert [process.whereis(name) for name in names] == [None] * 10
        for name in names:
            process.register(self_(), name)

    machine.run(main)


def test_a_global_name_is_refused_to_the_dead(machine):
    async def main():
        with pytest.raises(NameTakenError, match="or the process dead"):
            process.register(await dead(), Global("g"))
        assert process.whereis(Global("g")) is None

    machine.run(main)


def test_a_global_name_must_not_change(machine):
    async def main():
        for use in (
            lambda: process.register(self_(), Global([1])),
            lambda: process.whereis(Global([1])),
            lambda: process.unregister(Global([1])),
            lambda: send(Global([1]), "m"),
        ):
            with pytest.raises(TypeError, match=r"expected Global\(term\) with a term that cannot change"):
                use()

    machine.run(main)


def test_a_registry_that_is_none_is_refused_with_what_it_should_offer(machine):
    async def main():
        for use in (
            lambda: process.register(self_(), Via({}, "k")),
            lambda: process.whereis(Via({}, "k")),
            lambda: process.unregister(Via({}, "k")),
            lambda: send(Via({}, "k"), "m"),
        ):
            with pytest.raises(TypeError, match="register_name, unregister_name and whereis_name"):
                use()
        with pytest.raises(TypeError, match="register_name, unregister_name and whereis_name"):
            await Plain.start_link(0, name=Via({}, "k"))

    machine.run(main)


def test_via_names_a_process_by_a_registry_of_one_s_own(machine):
    async def main():
        book = Book()
        process.register(self_(), Via(book, "me"))
        send(Via(book, "me"), "hello")
        assert await receive() == "hello"
        with pytest.raises(NameTakenError):
            process.register(spawn(idle), Via(book, "me"))
        process.unregister(Via(book, "me"))
        with pytest.raises(NoSuchNameError):
            send(Via(book, "me"), "hello")

    machine.run(main)


def test_a_registry_that_still_names_the_dead_counts_as_nobody(machine):
    async def main():
        book = Book()
        book.entries["gone"] = await dead()
        assert process.whereis(Via(book, "gone")) is None
        with pytest.raises(NoSuchNameError):
            send(Via(book, "gone"), "hello")
        with pytest.raises(Exit) as caught:
            await GenServer.call(Via(book, "gone"), "hello")
        assert caught.value.reason[0] == "noproc"

    machine.run(main)


def test_two_servers_of_one_name_and_the_second_tells_who_has_it(machine):
    async def main():
        for name in ("one", Global("one"), Via(Book(), "one")):
            first = await Plain.start(0, name=name)
            with pytest.raises(StartError) as caught:
                await Plain.start_link(0, name=name)
            assert caught.value.reason == ("already_started", first)
            await GenServer.stop(name)
            if not isinstance(name, Via):
                assert process.whereis(name) is None

    machine.run(main)


def test_many_who_want_one_name_at_once_and_one_gets_it():
    async def want(name, to):
        try:
            process.register(self_(), name)
        except NameTakenError:
            send(to, "refused")
        else:
            send(to, ("got it", self_()))
            await idle()

    async def main(name):
        for _ in range(200):
            spawn(want, name, self_())
        answers = [await receive(timeout=10) for _ in range(200)]
        winners = [answer for answer in answers if answer != "refused"]
        assert [process.whereis(name)] == [pid for _, pid in winners]

    with Machine():
        for name in ("prize", Global("prize")):
            run(main, name)


def test_a_name_taken_back_can_be_given_to_another(machine):
    async def main():
        one, two = spawn(idle), spawn(idle)
        process.register(one, "w")
        process.unregister("w")
        process.register(two, "w")
        process.register(one, "other")
        assert (process.whereis("w"), process.whereis("other")) == (two, one)
        assert process.registered() == ["w", "other"]

    machine.run(main)


def test_monitoring_a_name_reports_name_and_node(machine):
    async def main():
        pid = spawn(idle)
        process.register(pid, "w")
        ref = process.monitor("w")
        process.exit(pid, "gone")
        assert await receive() == ("DOWN", ref, "process", ("w", pid.node), "gone")
        late = process.monitor("w")
        assert await receive() == ("DOWN", late, "process", ("w", pid.node), "noproc")

    machine.run(main)


def test_a_name_is_looked_up_at_every_send(machine):
    async def main():
        me = self_()

        async def tell(what):
            await receive("go")
            send(me, what)

        for what in ("first", "second"):
            process.register(spawn(tell, what), "current")
            send("current", "go")
            assert await receive() == what
            await sleep(0.01)
            assert process.whereis("current") is None

    machine.run(main)


def test_a_shared_registry_is_the_same_one_for_every_process(machine):
    async def enter(via, to):
        process.register(self_(), via)
        send(to, "entered")
        await idle()

    async def main():
        book = Book()
        pid = spawn(enter, Via(shared(book), "child"), self_())
        assert await receive() == "entered"
        assert book.entries == {"child": pid}

    machine.run(main)
