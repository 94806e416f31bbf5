"""One conversation with a bare `erl`, both ways, for every version of OTP at hand: the one on PATH, and those in the
folders that OTPLIB_ERL_PATHS names (`OTPLIB_ERL_PATHS=/opt/otp-28/bin pytest tests/dist/test_beam_versions.py`)."""

from __future__ import annotations

import os

import pytest

from otplib import (
    Atom,
    Exit,
    GenServer,
    Global,
    NoReply,
    Ok,
    Reply,
    Stop,
    node,
    process,
    receive,
    rpc,
    run,
    self_,
    send,
)
from tests.dist.beam import beam_node, needs_beam
from tests.dist.node_fixtures import new_name
from tests.dist.nodes import perform, showing, until

pytestmark = needs_beam

PATHS = ["", *filter(None, os.environ.get("OTPLIB_ERL_PATHS", "").split(":"))]


class Echo(GenServer):
    def init(self, arg):
        return Ok(arg)

    def handle_call(self, request, caller, state):
        match request:
            case "leave":
                return Stop("normal", state, reply="bye")
            case "fail":
                raise ValueError("no such thing")
            case "silence":
                return NoReply(state)
        return Reply(request, state)

    def handle_info(self, message, state):
        match message:
            case ("to", pid, term):
                send(pid, term)
            case ("exit", reason):
                raise Exit(reason)
        return NoReply(state)


#: Each is tried there, in this order; what it gives must match the pattern behind the arrow.
ASKED_THERE = """
net_adm:ping(Py) --> pong
{nodes(), nodes(hidden)} --> {[Py], []}
gen_server:call({echo, Py}, {<<"text">>, atom, 1.5, [1], #{}}) --> {<<"text">>, atom, 1.5, [1], #{}}
begin Big = binary:copy(<<"x">>, 300000), gen_server:call({echo, Py}, Big) =:= Big end --> true
(catch gen_server:call({nobody, Py}, x)) --> {'EXIT', {noproc, _}}
(catch gen_server:call({echo, Py}, silence, 50)) --> {'EXIT', {timeout, _}}
begin {echo, Py} ! {to, self(), [hi]}, receive M1 -> M1 end end --> [hi]
rpc:call(Py, math, sqrt, [2.25]) --> 1.5
rpc:call(Py, math, nope, []) --> {badrpc, {'EXIT', {undef, _}}}
rpc:call(Py, builtins, int, [<<"x">>]) --> {badrpc, {'EXIT', {#{message := _}, _}}}
rpc:block_call(Py, math, sqrt, [2.25]) --> 1.5
erpc:call(Py, math, sqrt, [2.25]) --> 1.5
erpc:multicall([Py, node()], math, sqrt, [2.25]) --> [{ok, 1.5}, {ok, 1.5}]
(catch erpc:call(Py, builtins, int, [<<"x">>])) --> {'EXIT', {{exception, #{message := _}, _}, _}}
is_boolean(process_flag(trap_exit, true)) --> true
begin P1 = spawn_link(Py, builtins, int, [7]), receive {'EXIT', P1, R1} -> R1 end end --> normal
begin {P2, M2} = spawn_monitor(Py, builtins, int, [<<"x">>]), receive {_, M2, _, P2, R2} -> R2 end end --> {#{}, _}
begin P3 = spawn(Py, otplib, sleep, [60]), link(P3), unlink(P3), M3 = monitor(process, P3), exit(P3, bye), ok end --> ok
receive {'DOWN', M3, process, P3, R3} -> R3 end --> bye
begin M4 = monitor(process, {echo, Py}), {echo, Py} ! {exit, {because, 1}}, ok end --> ok
receive {'DOWN', M4, process, {echo, Py}, R4} -> R4 end --> {because, 1}
is_pid(spawn(Py, builtins, print, [<<"printed from Python">>])) --> true
begin Look = fun(L) -> case global:whereis_name(svc) of undefined -> L(L); P -> P end end, node(Look(Look)) end --> Py
global:register_name(theirs, self()) --> yes
"""
CHECKS = [line.split(" --> ") for line in ASKED_THERE.strip().splitlines()]


def program(py):
    """The Erlang that tries each and says how it went."""
    checks = [
        f'case {asked} of {wanted} -> io:format("CHECK ok~n");'
        f' Bad{number} -> io:format("CHECK bad ~p~n", [Bad{number}]) end'
        for number, (asked, wanted) in enumerate(CHECKS)
    ]
    return f"register(main, self()), receive go -> ok end, Py = '{py}', {', '.join(checks)}, receive stop -> ok end"


@pytest.fixture(params=PATHS, ids=lambda path: path or "erl")
def erl(request, monkeypatch, py, epmd_port):
    if request.param:
        monkeypatch.setenv("PATH", request.param + os.pathsep + os.environ["PATH"])
    with beam_node(new_name("erl"), epmd_port, program=program(py.node)) as beam:
        yield beam


def test_every_way_to_ask_each_other_works_with_this_version_of_otp(py, erl):
    async def main():
        server = await Echo.start(None, name="echo")
        process.register(self_(), Global(Atom("svc")))
        release = await rpc.call(erl.name, ":erlang.system_info", Atom("otp_release"))
        send(("main", erl.name), Atom("go"))
        for asked, wanted in CHECKS:
            said = erl.line_with("CHECK")  # and not what it prints or logs between
            assert said == "CHECK ok", f"OTP {bytes(release).decode()}: {asked} should give {wanted}; {said}"
        assert not process.alive(server)
        assert process.whereis(Global(Atom("theirs"))).node == erl.name

        # and from here
        assert await node.ping(erl.name) == "pong"
        assert await rpc.call(erl.name, ":lists.reverse", [1, "two"]) == ["two", 1]
        pid, ref = await node.spawn_monitor(erl.name, ":timer.sleep", Atom("infinity"))
        process.exit(pid, "kill")
        assert await receive() == ("DOWN", ref, "process", pid, "killed")
        await node.spawn(erl.name, ":io.format", [*b"printed from Erlang~n"])
        assert await GenServer.call(("kernel_sup", erl.name), Atom("count_children"))
        with pytest.raises(Exit):
            await GenServer.call(("nobody", erl.name), "x")
        ref = process.monitor(("main", erl.name))
        send(("main", erl.name), Atom("stop"))
        assert (await receive(timeout=10)).ref == ref

    with showing() as screen:
        perform(main)
        screen.shows("printed from Erlang\n")
    assert until(lambda: run(node.list) == [erl.name])
