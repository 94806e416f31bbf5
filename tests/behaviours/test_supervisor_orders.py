"""What one may ask and order a supervisor, and how it refuses."""

import threading

import pytest

from otplib import (
    Exit,
    GenServer,
    Ignore,
    Ok,
    process,
    self_,
    send,
    shared,
    sleep,
    spawn_link,
)
from otplib.behaviours.supervisor import Supervise, Supervisor
from otplib.core.child_spec import ChildSpec
from otplib.core.errors import ChildError, StartError
from otplib.core.reasons import Raised
from otplib.testing import deterministic
from tests.behaviours.supervised import (
    Flaky,
    Ignoring,
    Worker,
    flush,
    pids_of,
    plain,
    reason_of,
    wait_for_order,
    worker,
)


@pytest.fixture(params=[1, 2, 3])
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


def junk():
    return "junk"


# ---- orders ----------------------------------------------------------------------------------------------------------


def test_s12_start_child_starts_a_new_child_at_the_end(machine):
    async def main():
        sup = await Supervisor.start_link([plain("first")], strategy="one_for_one")
        pid = await Supervisor.start_child(sup, plain("w"))
        assert next(iter((await pids_of(sup)).items())) == ("w", pid)
        assert await reason_of(Supervisor.start_child(sup, plain("w"))) == ("already_started", pid)
        await Supervisor.terminate_child(sup, "w")
        assert await reason_of(Supervisor.start_child(sup, plain("w"))) == "already_present"

    machine.run(main)


def test_start_child_passes_the_childs_own_reason_on_and_keeps_no_row(machine):
    async def main():
        sup = await Supervisor.start_link([], strategy="one_for_one")
        assert await reason_of(Supervisor.start_child(sup, Flaky(0, reason="cannot").spec("f"))) == "cannot"
        assert await pids_of(sup) == {}

    machine.run(main)


def test_s14_terminating_a_temporary_child_also_deletes_it(machine):
    async def main():
        sup = await Supervisor.start_link([plain("w", restart="temporary")], strategy="one_for_one")
        await Supervisor.terminate_child(sup, "w")
        assert await Supervisor.which_children(sup) == []

    machine.run(main)


def test_a_terminated_child_stays_down_until_it_is_restarted_by_hand(machine):
    async def main():
        sup = await Supervisor.start_link([plain("w")], strategy="one_for_one", max_restarts=0)
        old = (await pids_of(sup))["w"]
        await Supervisor.terminate_child(sup, "w")
        await Supervisor.terminate_child(sup, "w")
        assert (await pids_of(sup), process.alive(old)) == ({"w": None}, False)
        new = await Supervisor.restart_child(sup, "w")
        assert await pids_of(sup) == {"w": new}
        assert process.alive(new)

    machine.run(main)


def test_a_restart_by_hand_that_fails_leaves_the_row_as_it_was(machine):
    async def main():
        sup = await Supervisor.start_link([Flaky(1).spec("f")], strategy="one_for_one")
        await Supervisor.terminate_child(sup, "f")
        assert await reason_of(Supervisor.restart_child(sup, "f")) == "flaky"
        assert await pids_of(sup) == {"f": None}
        assert await Supervisor.restart_child(sup, "f") is not None

    machine.run(main)


def test_orders_that_make_no_sense_are_refused_with_what_to_do(machine):
    async def main():
        sup = await Supervisor.start_link([plain("w")], strategy="one_for_one")
        for order in (Supervisor.terminate_child, Supervisor.restart_child, Supervisor.delete_child):
            with pytest.raises(ChildError, match=r'"x" is no child of this supervisor') as caught:
                await order(sup, "x")
            assert caught.value.reason == "not_found"
        assert await reason_of(Supervisor.get_childspec(sup, "x"), ChildError) == "not_found"
        assert await reason_of(Supervisor.terminate_child(sup, []), ChildError) == "not_found"
        with pytest.raises(ChildError, match=r"stop it with Supervisor.terminate_child first") as caught:
            await Supervisor.delete_child(sup, "w")
        assert caught.value.reason == "running"
        assert await reason_of(Supervisor.restart_child(sup, "w"), ChildError) == "running"
        await Supervisor.terminate_child(sup, "w")
        await Supervisor.delete_child(sup, "w")
        assert await pids_of(sup) == {}

    machine.run(main)


def test_s15_count_children_tells_specs_active_supervisors_and_workers(machine):
    async def main():
        nested = ChildSpec("s", (_start_empty, ()), type="supervisor")
        sup = await Supervisor.start_link([plain("a"), plain("b"), nested], strategy="one_for_one")
        assert await Supervisor.count_children(sup) == {"specs": 3, "active": 3, "supervisors": 1, "workers": 2}
        await Supervisor.terminate_child(sup, "a")
        assert await Supervisor.count_children(sup) == {"specs": 3, "active": 2, "supervisors": 1, "workers": 2}

    machine.run(main)


async def _start_empty():
    return await Supervisor.start_link([], strategy="one_for_one")


def test_s31_get_childspec_shows_defaults_filled_in(machine):
    async def main():
        nested = ChildSpec("s", (_start_empty, ()), type="supervisor")
        sup = await Supervisor.start_link([(Worker, ("w", self_())), nested], strategy="one_for_one")
        spec = await Supervisor.get_childspec(sup, Worker)
        assert (spec.restart, spec.shutdown, spec.type, spec.modules) == ("permanent", 5.0, "worker", [Worker])
        assert (await Supervisor.get_childspec(sup, "s")).shutdown == "infinity"

    machine.run(main)


def test_asking_nobody_is_an_exit_that_names_the_call(machine):
    async def main():
        for ask, request in (
            (Supervisor.which_children("nobody"), "which_children"),
            (Supervisor.terminate_child("nobody", "w"), ("terminate_child", "w")),
        ):
            assert await reason_of(ask, Exit) == ("noproc", ("GenServer", "call", ["nobody", request, None]))
        assert (await reason_of(Supervisor.stop("nobody"), Exit))[0] == "noproc"

    machine.run(main)


def test_s28_a_taken_name_starts_no_child(machine):
    async def main():
        sup = await Supervisor.start_link([], strategy="one_for_one", name="boss")
        again = Supervisor.start_link([worker("must not start")], strategy="one_for_one", name="boss")
        assert await reason_of(again) == ("already_started", sup)
        assert await flush() == []
        assert await Supervisor.which_children("boss") == []

    machine.run(main)


# ---- significant children --------------------------------------------------------------------------------------------


def test_s19_any_significant_child_that_ends_for_good_ends_the_supervisor(machine):
    async def main():
        process.flag(trap_exit=True)
        children = [plain("a", significant=True, restart="temporary"), worker("b")]
        sup = await Supervisor.start_link(children, strategy="one_for_one", auto_shutdown="any_significant")
        send((await pids_of(sup))["a"], "normal")
        assert await flush() == [("start", "b"), ("stop", "b", "shutdown"), ("EXIT", sup, "shutdown")]

    machine.run(main)


def test_s19_all_significant_waits_for_the_last(machine):
    async def main():
        process.flag(trap_exit=True)
        children = [plain(name, significant=True, restart="transient") for name in "ab"]
        sup = await Supervisor.start_link(children, strategy="one_for_one", auto_shutdown="all_significant")
        rows = await pids_of(sup)
        send(rows["a"], "normal")
        assert await flush() == []
        assert process.alive(sup)
        send(rows["b"], "normal")
        assert await flush() == [("EXIT", sup, "shutdown")]

    machine.run(main)


def test_s19_a_significant_child_that_is_terminated_by_order_ends_nothing(machine):
    async def main():
        child = plain("a", significant=True, restart="transient")
        sup = await Supervisor.start_link([child], strategy="one_for_one", auto_shutdown="any_significant")
        send((await pids_of(sup))["a"], "crash")
        await sleep(0.01)
        assert (await pids_of(sup))["a"] is not None
        await Supervisor.terminate_child(sup, "a")
        assert await pids_of(sup) == {"a": None}

    machine.run(main)


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("children", "options", "reason"),
    [
        ([], {"strategy": "foo"}, ("supervisor_data", ("invalid_strategy", "foo"))),
        ([], {"max_restarts": -1}, ("supervisor_data", ("invalid_intensity", -1))),
        ([], {"max_seconds": 0}, ("supervisor_data", ("invalid_period", 0))),
        ([], {"auto_shutdown": "x"}, ("supervisor_data", ("invalid_auto_shutdown", "x"))),
        (
            [ChildSpec("x", (junk, ()), restart="sometimes")],
            {},
            ("start_spec", ("invalid_restart_type", "sometimes")),
        ),
        ([ChildSpec("x", 5)], {}, ("start_spec", ("invalid_mfa", 5))),
        ([Ignoring, Ignoring], {}, ("start_spec", ("duplicate_child_name", Ignoring))),
        ([ChildSpec("x", (junk, ()))], {}, ("shutdown", ("failed_to_start_child", "x", "junk"))),
        (
            [ChildSpec("x", (junk, ()), restart="temporary", significant=True)],
            {},
            ("start_spec", ("bad_combination", [("auto_shutdown", "never"), ("significant", True)])),
        ),
    ],
)
def test_s25_wrong_values_are_refused_by_the_supervisor(machine, children, options, reason):
    async def main():
        process.flag(trap_exit=True)
        options.setdefault("strategy", "one_for_one")
        assert await reason_of(Supervisor.start_link(children, **options)) == reason
        [exit_message] = await flush()
        assert exit_message.reason == reason

    machine.run(main)


@pytest.mark.parametrize(
    ("children", "options", "text"),
    [
        ([], {}, "expected strategy= to be given"),
        ([5], {"strategy": "one_for_one"}, "supervisors expect each child to be one of the following"),
        (5, {"strategy": "one_for_one"}, "expected a list of children"),
        (Ignoring, {"strategy": "one_for_one"}, "expected a list of children"),
        (type("Sub", (Supervisor,), {}), {"strategy": "one_for_one"}, r"write Sub.start_link\(arg\)"),
    ],
)
def test_s25_what_is_no_supervisor_at_all_is_refused_where_it_is_written(machine, children, options, text):
    async def main():
        with pytest.raises(TypeError, match=text):
            await Supervisor.start_link(children, **options)

    machine.run(main)


def test_a_subclass_takes_no_options_and_must_have_an_init(machine):
    class Bare(Supervisor):
        pass

    class Full(Supervisor):
        def init(self, arg):
            return Supervise([], strategy="one_for_one")

    async def main():
        with pytest.raises(TypeError, match=r"Full.start_link takes no strategy: write it into the Supervise"):
            await Full.start_link(1, strategy="one_for_all")
        with pytest.raises(TypeError, match=r"Bare has no init; write"):
            await Bare.start_link(1)

    machine.run(main)


def test_what_init_may_return(machine):
    class Sub(Supervisor):
        async def init(self, arg):
            await sleep(0.01)
            if arg == "raise":
                raise ValueError("no")
            return {"ignore": Ignore(), "ok": Supervise([], strategy="one_for_one")}.get(arg, arg)

    async def main():
        process.flag(trap_exit=True)
        assert await Sub.start_link("ignore") is None
        assert await Supervisor.which_children(await Sub.start_link("ok")) == []
        assert await reason_of(Sub.start_link(None)) == ("bad_return", (Sub, "init", None))
        reason = await reason_of(Sub.start_link("raise"))
        assert isinstance(reason, Raised)
        assert isinstance(reason.exception, ValueError)

    machine.run(main)


def test_something_that_is_no_child_does_not_reach_the_supervisor(machine):
    async def main():
        sup = await Supervisor.start_link([], strategy="one_for_one")
        with pytest.raises(TypeError, match="supervisors expect each child"):
            await Supervisor.start_child(sup, 5)
        with pytest.raises(StartError) as refused:
            await Supervisor.start_child(sup, plain("x", restart="?"))
        assert refused.value.reason == ("invalid_restart_type", "?")
        [note] = refused.value.__notes__
        assert 'Must be "permanent", "transient" or "temporary"' in note
        assert process.alive(sup)

    machine.run(main)


def test_a_server_that_is_no_supervisor_is_found_out(machine):
    async def main():
        pid = await Worker.start_link(("w", self_()))
        with pytest.raises(TypeError, match="expected a supervisor"):
            await Supervisor.terminate_child(pid, "x")

    machine.run(main)


def test_an_unexpected_message_is_logged_and_harms_nothing(machine, caplog):
    async def main():
        sup = await Supervisor.start_link([], strategy="one_for_one")
        send(sup, ("foo", 1))
        await sleep(0.01)
        assert process.alive(sup)

    machine.run(main)
    assert [(one.levelname, one.getMessage()) for one in caplog.records if one.name.startswith("otplib")] == [
        ("ERROR", 'Supervisor received unexpected message: ("foo", 1)')
    ]


# ---- specifications of classes ---------------------------------------------------------------------------------------


def test_g36_class_keywords_change_the_specification_of_a_supervisor():
    class Plain(Supervisor):
        pass

    class Shop(Supervisor, restart="transient", shutdown=10, id="shop"):
        pass

    class Branch(Shop, shutdown=20):
        pass

    spec = Plain.child_spec("arg")
    assert (spec.id, spec.start, spec.type) == (Plain, (Plain.start_link, ("arg",)), "supervisor")
    assert (spec.restart, spec.shutdown, spec.modules) == ("permanent", "infinity", [Plain])
    spec = Shop.child_spec("arg")
    assert (spec.id, spec.restart, spec.shutdown) == ("shop", "transient", 10)
    spec = Branch.child_spec("arg")
    assert (spec.id, spec.restart, spec.shutdown) == (Branch, "transient", 20)


def test_an_unknown_class_keyword_is_refused():
    with pytest.raises(TypeError):

        class Wrong(Supervisor, restrat="transient"):
            pass


# ---- isolation of arguments ------------------------------------------------------------------------------------------


def test_arguments_are_copied_afresh_at_every_start(machine):
    async def main():
        def start(options):
            options["started"] = options.get("started", 0) + 1
            send(options["test"], ("started", options["started"]))
            return spawn_link(wait_for_order)

        options = {"test": self_()}
        sup = await Supervisor.start_link([ChildSpec("w", (start, (options,)))], strategy="one_for_one")
        process.exit((await pids_of(sup))["w"], "kill")
        assert await flush() == [("started", 1), ("started", 1)]
        assert options == {"test": self_()}

    machine.run(main)


def test_shared_arguments_reach_every_life_of_a_child(machine):
    class Holder(GenServer):
        def init(self, arg):
            arg["seen"].append(arg["lock"])
            return Ok(None)

    async def main():
        lock, seen = threading.Lock(), []
        child = (Holder, {"lock": shared(lock), "seen": shared(seen)})
        sup = await Supervisor.start_link([child], strategy="one_for_one")
        process.exit((await pids_of(sup))[Holder], "kill")
        await sleep(0.01)
        assert seen == [lock, lock]
        await Supervisor.start_child(sup, Supervisor.child_spec(child, id="second"))
        assert seen == [lock] * 3

    machine.run(main)
