"""The mapping between Python and the wire: to a BEAM, and between Python nodes."""

from __future__ import annotations

import collections
import copy
import enum
import pickle
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from otplib.core.copying import copied, shared
from otplib.core.errors import CopyError, DecodeError
from otplib.core.reasons import Down, ExitMessage, Raised, StackEntry
from otplib.core.terms import NO_NODE, Atom, Global, Pid, Ref
from otplib.dist import etf_objects
from otplib.dist.etf import Here, decode, encode
from otplib.dist.etf_terms import BitString, Export, FrozenList, FrozenMap, Fun, ImproperList, Port, Sealed
from otplib.vm.aliases import Alias, CallTag
from tests.dist.etf_samples import needs_elixir, run_elixir


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Order:
    item: str
    owner: Pid


class Colour(enum.IntEnum):
    RED = 1


class Mood(enum.Enum):
    GOOD = "good"


def to_beam(term: Any) -> Any:
    """What a BEAM that sends a message straight back makes of it."""
    return decode(encode(term))


def to_python(term: Any, **options: Any) -> Any:
    """What another Python node receives."""
    return decode(encode(term, python_peer=True), python_peer=True, **{"allow_pickle": True, **options})


# ---- text and bytes -----------------------------------------------------------------------------------------------


def test_text_and_bytes_come_back_as_themselves_between_python_nodes():
    message = ["text", b"text", b"", "", b"\xff", {"a": b"a"}, (b"x" * 70000,)]
    assert to_python(message, allow_pickle=False) == message


def test_bytes_from_a_beam_are_text_if_they_are_utf8():
    assert [to_beam(data) for data in (b"text", "żółw".encode(), b"\xff", b"")] == ["text", "żółw", b"\xff", ""]


def test_half_a_surrogate_pair_travels_between_python_nodes_and_is_refused_by_a_beam():
    assert to_python({"a": "x\ud800"}) == {"a": "x\ud800"}
    with pytest.raises(CopyError, match=r'message\["a"\].*surrogate'):
        encode({"a": "x\ud800"})
    with pytest.raises(CopyError, match="surrogate"):
        encode(Atom("x\ud800"), python_peer=True)


def test_text_of_another_python_node_that_is_broken_is_refused():
    with pytest.raises(DecodeError):
        decode(bytes([131, 77, 0, 0, 0, 1, 0x81, 0xFF]), python_peer=True)
    with pytest.raises(DecodeError, match="129 bits"):
        decode(bytes([131, 77, 0, 0, 0, 1, 0x81, 65]))


def test_a_view_of_bytes_goes_as_bytes():
    assert to_python(memoryview(b"abcd")[1:3]) == b"bc"
    assert to_beam(memoryview(b"\xffbcd")[::2]) == b"\xffc"
    assert to_beam([bytearray(b"\xff")]) == [b"\xff"]


# ---- atoms and numbers --------------------------------------------------------------------------------------------


def test_atoms_are_interned_and_equal_the_plain_tag():
    back = to_beam((Atom("ok"), "ok"))
    assert back[0] is Atom("ok")
    assert back[0] == "ok" == back[1]
    assert [type(item) for item in back] == [Atom, str]


def test_the_atoms_nil_true_and_false_are_none_true_and_false():
    assert to_python([Atom("nil"), Atom("true"), Atom("false"), Atom("undefined")]) == [None, True, False, "undefined"]
    assert encode(None) == encode(Atom("nil"))


def test_an_atom_of_256_characters_is_refused_both_ways():
    assert to_beam(Atom("é" * 255)) == "é" * 255
    with pytest.raises(CopyError, match="an atom of 256 characters"):
        encode(Atom("é" * 256))
    with pytest.raises(DecodeError, match="an atom of 256 characters"):
        decode(b"\x83\x76\x02\x00" + ("é" * 256).encode())


def test_true_is_no_integer_also_in_a_list_of_numbers():
    numbers = [1, 2, 3, 4, 5, 6, 7, True, 9, 10]
    assert list(map(type, to_beam(numbers))) == list(map(type, numbers))
    assert list(map(type, to_beam([1.0] * 9 + [1]))) == [float] * 9 + [int]


@pytest.mark.parametrize("size", [7, 8, 9, 255, 256, 65_535, 65_536, 70_000])
def test_lists_of_numbers_of_every_length_are_whole(size: int):
    for kind in (lambda n: n % 256, lambda n: n, lambda n: -n, float, lambda n: n << 40, str):
        items = [kind(n) for n in range(size)]
        assert to_beam([items, "end"]) == [items, "end"]


def test_floats_that_no_beam_has_travel_between_python_nodes_alone():
    for value in (float("inf"), float("-inf"), float("nan")):
        for message in (value, [value] * 20):
            with pytest.raises(CopyError, match="no BEAM has"):
                encode(message)
            assert repr(to_python(message)) == repr(message)
            with pytest.raises(DecodeError, match="no BEAM has"):
                decode(encode(message, python_peer=True))


def test_a_list_of_floats_whose_sum_is_too_large_is_still_one():
    items = [1.7e308] * 20
    assert to_beam(items) == items


# ---- identities ---------------------------------------------------------------------------------------------------

HERE = Here("foo@host", 77, 4242)


def test_own_pids_and_references_leave_under_the_name_of_the_node_and_come_back_as_the_machines_own():
    mine, tag = Pid(NO_NODE, 112, 0, 4242), Ref(NO_NODE, 5, 4242)
    wire = encode((mine, tag), here=HERE)
    assert decode(wire) == (Pid("foo@host", 112, 0, 77), Ref("foo@host", 5, 77))
    assert decode(wire, here=HERE) == (mine, tag)


def test_identities_of_others_are_left_alone():
    others = [
        Pid(NO_NODE, 1, 0, 1),  # another machine's, before it had a name
        Pid("foo@host", 112, 0, 76),  # a node of our name that is gone
        Pid("bar@host", 112, 0, 77),
        Ref("bar@host", 2**96 - 1, 77),
        Ref("foo@host", 7, 76),
    ]
    assert decode(encode(others, here=HERE), here=HERE) == others


def test_an_alias_travels_as_a_reference():
    for kind in (Alias, CallTag, Ref):
        back = to_beam((kind("foo@host", 9, 7), 1))
        assert back == (Ref("foo@host", 9, 7), 1)


def test_pids_inside_python_objects_get_the_name_of_the_node_too():
    order = Order("tea", Pid(NO_NODE, 112, 0, 4242))
    wire = encode([order], python_peer=True, here=HERE)
    there = decode(wire, python_peer=True, allow_pickle=True)
    assert there == [Order("tea", Pid("foo@host", 112, 0, 77))]
    back = encode(there, python_peer=True, here=Here("bar@host", 1, 2))
    assert decode(back, python_peer=True, allow_pickle=True, here=HERE) == [order]


def test_numbers_that_the_wire_has_no_room_for_are_refused():
    for term in (
        Pid("a@b", 2**32, 0, 0),
        Ref("a@b", 1 << 200, 0),
        Ref("a@b", 1, 2**32),
        Port("a@b", 2**64, 0),
        Export("m", "f", 256),
    ):
        with pytest.raises(CopyError, match=r"cannot send message\[1\] to another node"):
            encode([0, term])


# ---- what Python has no type for ----------------------------------------------------------------------------------

OPAQUE = [
    ImproperList([1, [2]][:1], Atom("t")),
    BitString(b"\xa0", 3),
    Port("a@b", 6, 1),
    Export("m", "f", 2),
    Fun("m", 1, 2, 3, b"whatever"),
    FrozenList([1, "two"]),
    FrozenMap([(1, "a"), (1.0, "b")]),
    Sealed(b"data", "why"),
]


@pytest.mark.parametrize("value", OPAQUE, ids=lambda value: type(value).__name__)
def test_opaque_values_are_keys_copy_to_themselves_and_pickle(value: Any):
    assert {value: 1}[pickle.loads(pickle.dumps(value))] == 1
    assert copy.deepcopy(value) is value
    assert copied([value])[0] is value
    assert [value == other for other in OPAQUE].count(True) == 1
    assert repr(value)


def test_improper_lists_are_only_what_is_improper():
    with pytest.raises(TypeError, match="ordinary"):
        ImproperList([1], [2])
    with pytest.raises(ValueError, match="at least one"):
        ImproperList([], 1)
    with pytest.raises(ValueError, match="1 to 7 bits"):
        BitString(b"x", 8)


def test_a_key_that_is_a_list_is_no_tuple():
    table = {FrozenList([1]): "list", (1,): "tuple"}
    assert to_beam(table) == table
    assert table[FrozenList([1])] == "list"


def test_maps_whose_keys_only_a_beam_tells_apart_come_back_whole():
    mixed = FrozenMap([(Atom("a"), 1), ("a", 2), (0, 3), (False, 4), (0.0, 5)])
    back = to_beam([mixed])[0]
    assert back == mixed
    assert [back.get(key) for key in (Atom("a"), "a", 0, False, 0.0, 9)] == [1, 2, 3, 4, 5, None]


def test_a_map_with_the_same_key_twice_is_refused_as_on_a_beam():
    with pytest.raises(DecodeError, match="same key twice"):
        decode(bytes([131, 116, 0, 0, 0, 2, 97, 1, 97, 1, 97, 1, 97, 2]))


# ---- Python objects -----------------------------------------------------------------------------------------------


def test_python_objects_travel_between_python_nodes():
    error = ValueError("bad", 7)
    there = to_python({"order": Order("tea", Pid("a@b", 1, 0, 1)), "set": {1, 2}, "mood": Mood.GOOD, "error": error})
    assert there["order"] == Order("tea", Pid("a@b", 1, 0, 1))
    assert (there["set"], there["mood"]) == ({1, 2}, Mood.GOOD)
    assert (type(there["error"]), there["error"].args) == (ValueError, ("bad", 7))


def test_subclasses_of_terms_keep_their_class_between_python_nodes():
    reason = Raised(ValueError("x"), (StackEntry("f.py", 3, "f"),))
    message = [
        Point(1, 2),
        Colour.RED,
        collections.Counter("aab"),
        Down("DOWN", Ref("a@b", 1, 1), "process", None, "x"),
    ]
    assert [(type(item), item) for item in to_python(message)] == [(type(item), item) for item in message]
    assert to_python(reason).stacktrace == reason.stacktrace


def test_functions_travel_builtins_by_name_and_closures_by_value():
    n = 40
    assert to_python(print) is print
    assert to_python(lambda x: x + n)(2) == 42


def test_what_is_shared_travels_as_what_it_holds():
    assert to_beam(["x", shared([1])]) == ["x", [1]]
    assert to_python(shared({1})) == {1}


def make_lost_function() -> Any:
    names: dict[str, Any] = {"__name__": "__main__", "there": "brought along"}
    exec("def f(x):\n    return [there, elsewhere(x), (lambda: elsewhere(x + 1))(), len('four')]", names)
    return names["f"]


def test_a_name_that_a_function_did_not_bring_is_looked_up_where_it_lands():
    landing = {"elsewhere": lambda x: x * 10}
    there = to_python(make_lost_function(), names=landing)
    assert there(4) == ["brought along", 40, 50, 4]
    landing["elsewhere"] = str  # a cell that is run again is seen
    assert there(4) == ["brought along", "4", "5", 4]
    with pytest.raises((NameError, KeyError), match="elsewhere"):
        to_python(make_lost_function(), names={})(4)


def test_a_function_of_one_kernel_finds_the_names_of_the_other():
    wire = encode(make_lost_function(), python_peer=True)
    script = (
        "import sys; from otplib.dist.etf import decode\n"
        "def elsewhere(x): return f'here: {x}'\n"
        f"print(decode(bytes.fromhex({wire.hex()!r}), python_peer=True, allow_pickle=True)(4))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['brought along', 'here: 4', 'here: 5', 4]"


def test_nothing_is_unpickled_unless_the_caller_says_so():
    wire = encode(["job", Order("tea", Pid("a@b", 1, 0, 1)), b"x"], python_peer=True)
    closed = decode(wire, python_peer=True)
    assert closed[0::2] == ["job", b"x"]
    assert isinstance(closed[1], Sealed)
    assert "switched off" in repr(closed[1])
    # It goes on to the next Python node intact, and is opened there.
    assert to_python(closed)[1] == Order("tea", Pid("a@b", 1, 0, 1))
    with pytest.raises(CopyError, match=r"message\[1\].*only a Python node"):
        encode(closed)
    with pytest.raises(DecodeError, match="128 bits"):
        decode(wire, allow_pickle=True)  # from a BEAM no pickle is taken, whatever is allowed


def test_an_object_that_cannot_be_rebuilt_here_costs_only_itself():
    wire = encode(["before", Order("tea", Pid("a@b", 1, 0, 1)), "after"], python_peer=True)
    spoiled = wire.replace(b"Order", b"Ordre")
    before, sealed, after = decode(spoiled, python_peer=True, allow_pickle=True)
    assert (before, after) == ("before", "after")
    assert "AttributeError" in sealed.why


def test_a_function_of_another_python_version_is_not_run():
    payload = etf_objects.dump(lambda: 1, repr)
    foreign = bytes([3, 99]) + payload[2:]
    assert "made by Python 3.99 cannot run" in etf_objects.load(foreign, True, repr).why
    plain = etf_objects.dump({1, 2}, repr)
    assert etf_objects.load(bytes([3, 99]) + plain[2:], True, repr) == {1, 2}


def test_what_cannot_be_pickled_is_refused_with_its_place():
    with pytest.raises(CopyError, match=r'message\[1\]\["file"\] to another node: lock \(TypeError'):
        encode(("job", {"file": threading.Lock()}), python_peer=True)


def test_without_cloudpickle_the_refusal_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    monkeypatch.setattr(etf_objects, "_pickler_class", etf_objects._pickler_class.__wrapped__)
    assert to_python(["plain", b"terms", 1]) == ["plain", b"terms", 1]
    with pytest.raises(CopyError, match="pip install cloudpickle"):
        encode([{1, 2}], python_peer=True)


def test_cloudpickle_is_imported_only_when_an_object_is_sent():
    script = (
        "import sys, otplib.dist.etf as etf; etf.encode([1], python_peer=True); print('cloudpickle' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


# ---- Python values on a BEAM --------------------------------------------------------------------------------------


def test_values_that_extend_a_term_go_to_a_beam_as_that_term():
    message = [Point(1, 2), Colour.RED, collections.OrderedDict(a=1), type("Text", (str,), {})("x")]
    assert to_beam(message) == [(1, 2), 1, {"a": 1}, "x"]
    assert list(map(type, to_beam(message))) == [tuple, int, dict, str]
    assert decode(encode(message, python_peer=True, allow_pickle=False), python_peer=True) == to_beam(message)


def test_messages_of_the_engine_go_to_a_beam_with_atoms_as_tags():
    pid, ref = Pid("a@b", 1, 0, 1), Ref("a@b", 1, 1)
    down = to_beam(Down("DOWN", ref, "process", pid, Atom("normal")))
    assert down == ("DOWN", ref, "process", pid, "normal")
    assert [type(item) for item in down] == [Atom, Ref, Atom, Pid, Atom]
    assert type(to_beam(ExitMessage("EXIT", pid, 1))[0]) is Atom
    assert to_beam(Global("svc")) == ("global", "svc")


def test_objects_without_a_counterpart_are_refused_by_a_beam_with_their_place():
    for item, name in (({1}, "set"), (Mood.GOOD, "Mood"), (object(), "object"), (print, "builtin_function_or_method")):
        with pytest.raises(CopyError, match=rf"cannot send message\[1\]\[2\] to another node: an? {name};"):
            encode(("job", [0, 1, item]))
    with pytest.raises(CopyError, match=r"message \(the key "):
        encode({frozenset(): 1})


@needs_elixir
def test_a_python_exception_reads_well_in_elixir():
    trace = (StackEntry("cell.py", 3, "H.say"), StackEntry("<stdin>", 1, "<module>"))
    wire = encode(Raised(ZeroDivisionError("division by zero"), trace))
    text = run_elixir("etf_format_exit.exs", wire.hex())
    assert "** (RuntimeError) ZeroDivisionError: division by zero" in text
    assert 'cell.py:3: Python."H.say"/0' in text


def test_an_exception_whose_text_fails_is_still_told():
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert to_beam(Mute())["message"].endswith("Mute")
    assert to_beam(ValueError("\ud800"))["message"] == "ValueError: ?"
