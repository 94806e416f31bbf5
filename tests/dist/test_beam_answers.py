"""From Python's side: what runs on a real BEAM, asked by ours: its GenServers, its system messages, its output."""

from __future__ import annotations

import pytest

from otplib import Atom, CallTimeout, Exit, GenServer, node, process, receive, rpc, self_, send, spawn, system
from tests.conformance.processes import flush
from tests.dist import nodes
from tests.dist.nodes import perform, showing

pytestmark = nodes.needs_elixir

COUNTER = """
defmodule Counter do
    use GenServer
    def init(count), do: {:ok, count}
    def handle_call(:next, _, count), do: {:reply, count, count + 1}
    def handle_call({:echo, term}, _, count), do: {:reply, term, count}
    def handle_call({:text, term}, _, count), do: {:reply, inspect(term), count}
    def handle_call(:who, {pid, _}, count), do: {:reply, pid, count}
    def handle_call(:fail, _, _), do: raise(ArgumentError, "no such thing")
    def handle_call(:leave, _, count), do: {:stop, :normal, "bye", count}
    def handle_call({:late, ms}, from, count) do
        spawn(fn -> Process.sleep(ms); GenServer.reply(from, :late) end)
        {:noreply, count}
    end
    def handle_cast(to, count), do: (send(to, {:cast, count}); {:noreply, count})
    def handle_info({:hello, to}, count), do: (send(to, {:info, count}); {:noreply, count})
end
{:ok, _} = GenServer.start(Counter, 1, name: :counter)
"""


@pytest.fixture(name="counter")
def fixture_counter(py, beam):
    """The address of a counter on a BEAM."""
    beam.tell("Code.compiler_options(ignore_module_conflict: true)")
    beam.tell("if pid = Process.whereis(:counter), do: GenServer.stop(pid)")
    beam.tell(COUNTER)
    return ("counter", beam.name)


def test_we_call_a_server_of_a_beam_by_its_name_and_by_its_pid(counter):
    async def main():
        assert await GenServer.call(counter, Atom("next")) == 1
        pid = await rpc.call(counter[1], ":erlang.whereis", Atom("counter"))
        assert pid.node == counter[1]
        assert await GenServer.call(pid, Atom("next")) == 2
        assert await GenServer.call(counter, Atom("who")) == self_()
        asked = GenServer.send_request(counter, Atom("next"))
        assert await GenServer.wait_response(asked) == 3
        assert await GenServer.multi_call([counter[1]], "counter", Atom("next")) == ([(counter[1], 4)], [])
        assert await flush() == []

    perform(main)


def test_a_shell_calls_a_server_of_a_beam(counter):
    assert process.drive(GenServer.call(counter, Atom("next"))) == 1
    assert process.drive(rpc.call(counter[1], "Counter.module_info", Atom("module"))) == "Elixir.Counter"


@pytest.mark.parametrize(
    "term",
    [
        None,
        True,
        Atom("žluťoučký kůň"),
        "text",
        "",
        -1,
        2**200,
        1.5,
        [],
        [1, [2, "x"]],
        (),
        (Atom("a"), (1,)),
        {},
        {"a": 1, 2: [3], (4,): {}},
        [{"deep": ({"er": [None]},)}],
        ["x" * 300_000],
    ],
    ids=lambda term: repr(term)[:30],
)
def test_terms_come_back_from_a_beam_as_they_went(counter, term):
    async def main():
        back = await GenServer.call(counter, (Atom("echo"), term))
        assert back == term
        assert type(back) is type(term)

    perform(main)


@pytest.mark.parametrize(
    ("term", "text"),
    [
        ("ok", '"ok"'),
        (Atom("ok"), ":ok"),
        (b"\xff\x00", "<<255, 0>>"),
        ((1, [2.0], None), "{1, [2.0], nil}"),
        ({"a": Atom("b")}, '%{"a" => :b}'),
        (True, "true"),
        ([104, 105], "'hi'"),
    ],
)
def test_a_beam_reads_our_terms_as(counter, term, text):
    assert perform(GenServer.call, counter, (Atom("text"), term)) == text


def test_pids_and_references_are_the_same_there_and_back(counter):
    async def main():
        terms = [self_(), process.alias(), spawn(flush), await rpc.call(counter[1], ":erlang.self")]
        terms += [await rpc.call(counter[1], ":erlang.make_ref")]
        assert await GenServer.call(counter, (Atom("echo"), terms)) == terms
        far = await GenServer.call(counter, (Atom("echo"), tuple(terms)))
        assert dict.fromkeys(far, True).keys() == dict.fromkeys(terms, True).keys()

    perform(main)


def test_the_end_of_a_server_on_a_beam_reads_as_elixir_says_it(counter):
    async def main():
        with pytest.raises(Exit) as caught:
            await GenServer.call(counter, Atom("fail"))
        (error, stack), where = caught.value.reason
        assert error["message"] == "no such thing"
        assert error["__struct__"] == "Elixir.ArgumentError"
        assert stack
        assert where == ("GenServer", "call", [counter, "fail", 5.0])
        assert "no such thing" in str(caught.value)
        with pytest.raises(Exit) as caught:
            await GenServer.call(counter, Atom("next"))
        assert caught.value.reason[0] == "noproc"

    perform(main)


def test_a_server_on_a_beam_that_stops_answers_first(counter):
    async def main():
        ref = process.monitor(counter)
        assert await GenServer.call(counter, Atom("leave")) == "bye"
        assert await receive() == ("DOWN", ref, "process", counter, "normal")

    perform(main)


def test_a_late_answer_of_a_beam_is_dropped(counter):
    async def main():
        with pytest.raises(CallTimeout):
            await GenServer.call(counter, (Atom("late"), 100), timeout=0.02)
        assert await GenServer.call(counter, (Atom("late"), 150)) == "late"  # the other has come before
        assert await flush() == []

    perform(main)


def test_casts_and_messages_reach_a_server_on_a_beam(counter):
    async def main():
        assert GenServer.cast(counter, self_()) is None
        assert await receive() == ("cast", 1)
        assert GenServer.abcast([counter[1]], "counter", self_()) == "abcast"
        assert await receive() == ("cast", 1)
        send(counter, (Atom("hello"), self_()))
        assert await receive() == ("info", 1)

    perform(main)


def test_a_server_on_a_beam_obeys_our_system_messages_and_is_stopped(counter):
    async def main():
        assert await system.get_state(counter) == 1
        await system.suspend(counter)
        with pytest.raises(CallTimeout):
            await GenServer.call(counter, Atom("next"), timeout=0.05)
        await system.resume(counter)
        assert await GenServer.call(counter, Atom("next")) in (1, 2)  # the first was still asked
        assert await system.get_status(counter)
        ref = process.monitor(counter)
        await GenServer.stop(counter)
        assert (await receive()) == ("DOWN", ref, "process", counter, "normal")
        with pytest.raises(Exit) as caught:
            await GenServer.stop(counter)
        assert caught.value.reason[0] == "noproc"

    perform(main)


def test_a_beam_prints_what_we_have_it_print_here(py, beam):
    async def main():
        pid, ref = await node.spawn_monitor(beam.name, "IO.puts", "written by a BEAM")
        await receive(("DOWN", ref, "process", pid, "normal"))
        await rpc.call(beam.name, ":io.format", [*map(ord, "~p and ~s~n")], [Atom("atoms"), "binaries"])
        return await rpc.call(beam.name, "IO.inspect", [1, 2], [(Atom("label"), "list")])

    with showing() as screen:
        assert perform(main) == [1, 2]
        screen.shows("written by a BEAM\natoms and binaries\nlist: [1, 2]\n")
    assert beam.output == []


def test_a_process_of_ours_leads_what_it_has_a_beam_start(py, beam):
    async def leader(to):
        process.group_leader(self_(), self_())
        await node.spawn(beam.name, "IO.puts", "to a leader of ours")
        _, asker, reply_as, (kind, encoding, *rest) = await receive(("io_request", ..., ..., ...))
        send(asker, (Atom("io_reply"), reply_as, Atom("ok")))
        send(to, (asker.node, kind, encoding, rest))

    async def main():
        spawn(leader, self_())
        where, kind, encoding, rest = await receive()
        assert (where, kind, encoding) == (beam.name, "put_chars", "unicode")
        assert "to a leader of ours" in repr(rest)

    perform(main)
