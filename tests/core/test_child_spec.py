"""Child specifications: defaults, forms, overrides, and every fault by its OTP name."""

import math
import threading
from dataclasses import dataclass

import pytest

from otplib.core.child_spec import ChildSpec, find_fault, find_list_fault, id_key, normalise
from otplib.core.copying import copied, shared
from otplib.core.faults import describe_fault


class Worker:
    """A class that can be supervised, without any process."""

    @classmethod
    def start_link(cls, arg):
        return arg

    @classmethod
    def child_spec(cls, arg):
        return ChildSpec(cls, (cls.start_link, (arg,)))


def start(*args):
    return args


def test_defaults_are_those_of_otp():
    spec = ChildSpec("w", (start, ()))
    assert (spec.restart, spec.shutdown, spec.type, spec.significant) == ("permanent", 5.0, "worker", False)


def test_a_supervisor_child_gets_all_the_time_it_needs_unless_told_otherwise():
    assert ChildSpec("s", (start, ()), type="supervisor").shutdown == "infinity"
    assert ChildSpec("s", (start, ()), type="supervisor", shutdown=5.0).shutdown == 5.0


@pytest.mark.parametrize("given", [None, math.inf, "infinity"])
def test_infinity_may_be_written_in_three_ways(given):
    assert ChildSpec("w", (start, ()), shutdown=given).shutdown == "infinity"


def test_modules_default_to_the_class_whose_method_starts_the_child():
    assert ChildSpec("w", (Worker.start_link, (1,))).modules == [Worker]
    assert ChildSpec("w", (Worker().start_link, (1,))).modules == [Worker]
    assert ChildSpec("w", (start, ())).modules == [__name__]
    assert ChildSpec("w", (print, ())).modules == ["builtins"]


def test_a_list_of_arguments_counts_as_a_tuple():
    assert ChildSpec("w", [start, [1, 2]]).start == (start, (1, 2))


def test_s32_a_class_alone_gets_none_and_a_pair_gets_its_argument():
    assert normalise(Worker).start == (Worker.start_link, (None,))
    assert normalise((Worker, 7)).start == (Worker.start_link, (7,))
    assert normalise((Worker, 7)).id is Worker
    spec = ChildSpec("x", (start, ()))
    assert normalise(spec) is spec


def test_s32_overrides_replace_fields():
    spec = normalise((Worker, 1), id="x", restart="temporary", shutdown=1)
    assert (spec.id, spec.restart, spec.shutdown, spec.start) == ("x", "temporary", 1, (Worker.start_link, (1,)))


def test_overriding_the_type_moves_the_default_shutdown_along_but_not_a_chosen_one():
    assert normalise(Worker, type="supervisor").shutdown == "infinity"
    assert normalise(ChildSpec("w", (start, ()), shutdown=2.0), type="supervisor").shutdown == 2.0
    assert normalise(Worker, type="supervisor", shutdown=9).shutdown == 9


def test_overriding_the_start_moves_the_default_modules_along_but_not_chosen_ones():
    assert normalise(Worker, start=(start, ())).modules == [__name__]
    assert normalise(ChildSpec("w", (start, ()), modules="dynamic"), start=(print, ())).modules == "dynamic"


def test_an_unknown_override_is_named_together_with_the_known_ones():
    with pytest.raises(TypeError, match=r"unknown key 'restrat' in child specification override; .*restart"):
        normalise(Worker, restrat="temporary")


@pytest.mark.parametrize("junk", [5, "Worker", None, (Worker,), (Worker, 1, 2), (5, 1), Worker()])
def test_s25_garbage_is_answered_with_the_forms_a_child_may_have(junk):
    with pytest.raises(TypeError, match=r"supervisors expect each child to be one of the following(.|\n)*Got: "):
        normalise(junk)


def test_a_dict_is_answered_with_the_way_to_write_it():
    with pytest.raises(TypeError, match=r"write ChildSpec\(\*\*that_dict\)"):
        normalise({"id": "w", "start": (start, ())})


def test_s25_a_class_without_child_spec_is_answered_with_the_one_to_write():
    class Enum:
        pass

    with pytest.raises(TypeError) as caught:
        normalise(Enum)
    text = str(caught.value)
    assert "was given as a child to a supervisor but it does not have child_spec(arg)" in text
    assert "def child_spec(cls, arg):" in text
    assert "Enum.start_link, (arg1, arg2)" in text


def test_a_child_spec_that_returns_something_else_is_told_what_to_return():
    class Wrong:
        @classmethod
        def child_spec(cls, arg):
            return {"id": cls}

    with pytest.raises(TypeError, match=r"Wrong.child_spec must return a ChildSpec.*got \{"):
        normalise(Wrong)


FAULTS = [
    ({"restart": "sometimes"}, ("invalid_restart_type", "sometimes")),
    ({"restart": None}, ("invalid_restart_type", None)),
    ({"type": "boss"}, ("invalid_child_type", "boss")),
    ({"start": 5}, ("invalid_mfa", 5)),
    ({"start": ("x", ())}, ("invalid_mfa", ("x", ()))),
    ({"start": (start, 5)}, ("invalid_mfa", (start, 5))),
    ({"shutdown": "later"}, ("invalid_shutdown", "later")),
    ({"shutdown": -1}, ("invalid_shutdown", -1)),
    ({"shutdown": True}, ("invalid_shutdown", True)),
    ({"modules": 5}, ("invalid_modules", 5)),
    ({"modules": [5]}, ("invalid_module", 5)),
    ({"significant": 5}, ("invalid_significant", 5)),
    ({"id": []}, ("invalid_id", [])),
]


@pytest.mark.parametrize(("wrong", "fault"), FAULTS)
def test_s25_a_wrong_value_has_the_fault_otp_gives_it(wrong, fault):
    fields = {"id": "w", "start": (start, ()), **wrong}
    assert find_fault(ChildSpec(**fields), "any_significant") == fault


@pytest.mark.parametrize("shutdown", [0, 0.5, 5, "infinity", "brutal_kill", None, math.inf])
def test_every_shutdown_kind_is_accepted(shutdown):
    assert find_fault(ChildSpec("w", (start, ()), shutdown=shutdown)) is None


def test_nan_is_no_time_to_wait():
    assert find_fault(ChildSpec("w", (start, ()), shutdown=math.nan))[0] == "invalid_shutdown"


@pytest.mark.parametrize(
    ("auto_shutdown", "restart", "fault"),
    [
        ("never", "temporary", [("auto_shutdown", "never"), ("significant", True)]),
        ("never", "permanent", [("auto_shutdown", "never"), ("significant", True)]),
        ("any_significant", "permanent", [("restart", "permanent"), ("significant", True)]),
        ("all_significant", "permanent", [("restart", "permanent"), ("significant", True)]),
        ("any_significant", "transient", None),
        ("all_significant", "temporary", None),
    ],
)
def test_s19_which_combinations_with_significant_are_bad(auto_shutdown, restart, fault):
    spec = ChildSpec("w", (start, ()), restart=restart, significant=True)
    assert find_fault(spec, auto_shutdown) == (fault and ("bad_combination", fault))


def test_s11_an_id_that_comes_twice_is_a_fault_of_the_list():
    assert find_list_fault([normalise((Worker, 1)), normalise((Worker, 2))]) == ("duplicate_child_name", Worker)
    assert find_list_fault([normalise((Worker, 1)), normalise((Worker, 2), id="second")]) is None


def test_the_first_fault_of_a_list_wins():
    specs = [ChildSpec("a", 5), ChildSpec("b", (start, ())), ChildSpec("b", (start, ()))]
    assert find_list_fault(specs) == ("invalid_mfa", 5)


def test_a_class_whose_cell_has_run_twice_keeps_its_id():
    first = type("Server", (), {"__module__": "__main__", "__qualname__": "Server"})
    second = type("Server", (), {"__module__": "__main__", "__qualname__": "Server"})
    assert id_key(first) == id_key(second)


def test_classes_made_inside_functions_are_different_ids():
    def make():
        class Local:
            pass

        return Local

    assert id_key(make()) != id_key(make())


@pytest.mark.parametrize(("wrong", "fault"), FAULTS)
def test_each_fault_has_a_text_that_says_what_came(wrong, fault):
    text = describe_fault(fault)
    assert text.startswith("invalid ")
    assert "Must be" in text


def test_the_text_of_a_duplicate_id_shows_what_to_write():
    assert "Supervisor.child_spec((MyWorker, arg), id=" in describe_fault(("duplicate_child_name", Worker))


def test_arguments_that_cannot_be_compared_do_no_harm():
    @dataclass
    class Array:
        def __eq__(self, other):
            raise ValueError("the truth value of an array is ambiguous")

        __hash__ = None

    spec = normalise(ChildSpec("w", (start, (Array(),))), id="v", type="supervisor")
    assert find_list_fault([spec]) is None


def test_a_spec_on_its_way_shares_nothing_and_keeps_what_is_shared_wrapped():
    lock, rows = threading.Lock(), [1]
    sent = ChildSpec("w", (start, ({"lock": shared(lock), "rows": rows},)))
    stored = copied(copied(("start_child", sent)))[1]
    rows.append(2)
    stored.modules.append("other")
    assert stored.start[1][0]["rows"] == [1]
    assert copied(stored.start[1])[0]["lock"] is lock
    assert sent.modules == [__name__]
    assert (stored.id, stored.shutdown, stored.start[0]) == ("w", 5.0, start)
