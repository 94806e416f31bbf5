"""From Elixir's side: a Python node among BEAM nodes, asked by a real one. Everything here is typed in Elixir."""

from __future__ import annotations

import pytest

from tests.dist import nodes
from tests.dist.node_fixtures import new_name
from tests.dist.nodes import until

pytestmark = nodes.needs_elixir

SERVERS = '''
class Counter(GenServer):
    """Counts; as a learner would write it."""
    def init(self, count): return Ok(count)
    def handle_call(self, request, caller, count):
        match request:
            case "next": return Reply(count, count + 1)
            case ("echo", term): return Reply(term, count)
            case "fail": raise ValueError("no such thing")
            case "leave": return Stop("normal", count, reply="bye")
            case "silence": return NoReply(count)
    def handle_cast(self, to, count):
        send(to, (Atom("cast"), count))
        return NoReply(count)

def exit_with(reason): raise Exit(reason)
async def wait(): await receive("never")
'''


NAMED = """
class Named(Counter):
    @classmethod
    async def start(cls, count):
        return await super().start(count, name="named")
"""


@pytest.fixture(scope="module", name="python")
def fixture_python(epmd_port):
    with nodes.python(new_name("py"), epmd_port) as peer:
        peer.tell(SERVERS)
        yield peer


@pytest.fixture(name="py")
def fixture_py(tidy, python, beam):
    """The Python node as an atom's text; the BEAM's shell knows it as `py`, and the server `counter` runs there."""
    python.reset()
    python.tell(python="await Counter.start(1, name='counter')")
    beam.tell(f'py = :"{python.name}"')
    yield python
    python.eval("process.whereis('counter') and await GenServer.stop('counter')")
    beam.tell("Node.disconnect(py)")


# ---- nodes --------------------------------------------------------------------------------------------------------


def test_a_beam_connects_pings_and_lists_us(py, beam):
    assert beam.eval("Node.connect(py)") == "true"
    assert beam.eval("Node.ping(py)") == ":pong"
    assert beam.eval("{Node.list() == [py], Node.list(:hidden)}") == "{true, []}"
    assert until(lambda: py.eval("node.list()") == repr([beam.name]))


def test_a_beam_lists_a_hidden_python_among_the_hidden(tidy, beam, epmd_port):
    with nodes.python(new_name("shy"), epmd_port, hidden=True) as shy:
        assert beam.eval(f"Node.connect(:{shy.name})") == "true"
        assert beam.eval(f"{{Node.list(), Node.list(:hidden) == [:{shy.name}]}}") == "{[], true}"
        beam.tell(f"Node.disconnect(:{shy.name})")


def test_a_beam_is_told_when_we_come_and_go(tidy, beam, epmd_port):
    beam.tell(":net_kernel.monitor_nodes(true)")
    with nodes.python(new_name("brief"), epmd_port) as brief:
        brief.tell(f"await node.connect({beam.name!r})")
        assert beam.eval("Otplib.next()") == f"{{:nodeup, :{brief.name}}}"
        brief.tell("await node.stop()")
        assert beam.eval("Otplib.next()") == f"{{:nodedown, :{brief.name}}}"
    beam.tell(":net_kernel.monitor_nodes(false)")


# ---- GenServers ---------------------------------------------------------------------------------------------------


def test_a_beam_calls_a_server_of_ours_by_its_name_and_by_its_pid(py, beam):
    assert beam.eval("GenServer.call({:counter, py}, :next)") == "1"
    beam.tell('pid = :rpc.call(py, :"otplib.process", :whereis, ["counter"])')
    assert beam.eval("{node(pid) == py, GenServer.call(pid, :next)}") == "{true, 2}"
    assert beam.eval(":gen_server.call({:counter, py}, :next)") == "3"
    assert beam.eval("GenServer.multi_call([py], :counter, :next) == {[{py, 4}], []}") == "true"


def test_a_name_that_is_a_binary_is_refused_by_the_beam_itself(py, beam):
    # Erlang's names are atoms: such a call never leaves the caller.
    assert beam.eval('Otplib.outcome(fn -> GenServer.call({"counter", py}, :next) end)') == "{:error, :function_clause}"
    assert beam.eval('Otplib.outcome(fn -> send({"counter", py}, :next) end)') == "{:error, :badarg}"


def test_a_beam_casts_to_a_server_of_ours_and_hears_from_it(py, beam):
    assert beam.eval("GenServer.cast({:counter, py}, self())") == ":ok"
    assert beam.eval("Otplib.next()") == "{:cast, 1}"
    assert beam.eval("GenServer.abcast([py], :counter, self())") == ":abcast"
    assert beam.eval("Otplib.next()") == "{:cast, 1}"


def test_terms_come_back_from_a_server_of_ours_as_they_went(py, beam):
    terms = """[
        :atom, :"žluťoučký kůň", nil, true, 0, -1, 255, 1_000_000, 123_456_789_012_345_678_901_234_567_890, 1.5, -0.25,
        "text", "žluťoučký", <<255, 0, 1>>, <<5::3>>, 'charlist', [], [1, [2]], [1 | 2], {}, {:a, {:b}},
        %{}, %{"b" => [2], a: 1}, %{1 => :x}, self(), make_ref(), hd(Port.list()), &String.upcase/1, fn x -> x end,
        {:ok, %{list: [nil, {self(), "x"}]}}, String.duplicate("long", 50_000)
    ]"""
    beam.tell(f"terms = {terms}")
    beam.tell("back = for term <- terms, do: GenServer.call({:counter, py}, {:echo, term})")
    assert beam.eval("for {a, b} <- Enum.zip(terms, back), a !== b, do: {a, b}") == "[]"


def test_a_call_to_nobody_here_is_noproc_and_one_to_a_server_that_ends_carries_its_reason(py, beam):
    call = "fn request, name -> Otplib.outcome(fn -> GenServer.call({name, py}, request) end) end"
    beam.tell(f"call = {call}")
    assert beam.eval("{:exit, {reason, {GenServer, :call, _}}} = call.(:next, :nobody); reason") == ":noproc"
    assert beam.eval("call.(:leave, :counter)") == '{:returned, "bye"}'
    py.tell("await Counter.start(1, name='counter')")
    beam.tell("{:exit, {{error, stack}, {GenServer, :call, _}}} = call.(:fail, :counter)")
    assert beam.eval("error") == '%RuntimeError{message: "ValueError: no such thing"}'
    assert beam.eval("[{Python, function, 0, [file: _, line: _]} | _] = stack; function") == ':"Counter.handle_call"'
    assert "** (RuntimeError) ValueError: no such thing" in beam.eval("Exception.format_exit({error, stack})")


def test_a_call_that_is_answered_too_late_leaves_nothing_behind(py, beam):
    late = "Otplib.outcome(fn -> GenServer.call({:counter, py}, :silence, 50) end)"
    assert beam.eval(f"{{:exit, {{reason, _}}}} = {late}; reason") == ":timeout"
    assert beam.eval("Otplib.flush()") == "[]"
    assert beam.eval("GenServer.call({:counter, py}, :next)") == "1"


def test_a_beam_looks_into_a_server_of_ours_and_stops_it(py, beam):
    assert beam.eval(":sys.get_state({:counter, py})") == "1"
    assert beam.eval(":sys.suspend({:counter, py})") == ":ok"
    assert beam.eval(":sys.resume({:counter, py})") == ":ok"
    assert beam.eval("is_map(:sys.get_status({:counter, py}))") == "true"  # OTP gives a tuple with a list inside
    assert beam.eval("GenServer.stop({:counter, py})") == ":ok"
    assert py.eval("process.whereis('counter')") == "None"


def test_a_supervisor_on_a_beam_has_a_child_here_and_starts_it_anew(py, beam):
    # `start` gives the pid alone, so that it is the supervisor that is linked to it, and not the process of the rpc.
    beam.define(
        "PythonChild",
        elixir="""
            def start_link(node, module, args) do
                case :rpc.call(node, module, :start, args) do
                    pid when is_pid(pid) -> Process.link(pid); {:ok, pid}
                    error -> {:error, error}
                end
            end
        """,
    )
    py.tell("await GenServer.stop('counter')")
    py.tell(NAMED)
    beam.tell(
        "{:ok, sup} = Supervisor.start_link([%{id: :named, start: {PythonChild, :start_link, [py, Named, [10]]}}], "
        "strategy: :one_for_one)"
    )
    assert beam.eval("GenServer.call({:named, py}, :next)") == "10"
    assert beam.eval("GenServer.call({:named, py}, :next)") == "11"
    beam.tell("[{:named, first, :worker, _}] = Supervisor.which_children(sup)")
    beam.tell("ref = Process.monitor(first); Process.exit(first, :kill); {:DOWN, ^ref, _, _, :killed} = Otplib.next()")
    started_anew = "match?([{:named, p, _, _}] when is_pid(p) and p != first, Supervisor.which_children(sup))"
    assert until(lambda: beam.eval(started_anew) == "true")
    assert beam.eval("GenServer.call({:named, py}, :next)") == "10"
    assert beam.eval("Supervisor.stop(sup)") == ":ok"
    assert py.eval("process.whereis('named')") == "None"


# ---- processes ----------------------------------------------------------------------------------------------------


def test_a_beam_monitors_links_and_ends_processes_of_ours(py, beam):
    beam.tell("Process.flag(:trap_exit, true)")
    beam.tell("pid = Node.spawn(py, :__main__, :wait, [])")
    beam.tell("ref = Process.monitor(pid); Process.link(pid); Process.exit(pid, {:my, [reason: 1]})")
    assert beam.eval("Enum.sort(for m <- Otplib.flush(), do: {elem(m, 0), elem(m, tuple_size(m) - 1)})") == (
        "[DOWN: {:my, [reason: 1]}, EXIT: {:my, [reason: 1]}]"
    )
    beam.tell('{pid, ref} = Node.spawn_monitor(py, :__main__, :exit_with, [{:shutdown, "text"}])')
    assert beam.eval("{:DOWN, ^ref, :process, ^pid, reason} = Otplib.next(); reason") == '{:shutdown, "text"}'
    beam.tell("pid = Node.spawn_link(py, :__main__, :wait, []); Process.unlink(pid); Process.exit(pid, :kill)")
    assert beam.eval("Otplib.flush()") == "[]"


def test_a_beam_monitors_a_name_of_ours(py, beam):
    beam.tell("ref = Process.monitor({:counter, py})")
    beam.tell("GenServer.stop({:counter, py}, :shutdown)")
    assert beam.eval("Otplib.next() == {:DOWN, ref, :process, {:counter, py}, :shutdown}") == "true"
    beam.tell("ref = Process.monitor({:counter, py})")
    assert beam.eval("Otplib.next() == {:DOWN, ref, :process, {:counter, py}, :noproc}") == "true"


def test_what_a_beam_has_us_print_appears_there(py, beam):
    beam.tell("Process.flag(:trap_exit, true)")
    beam.tell('pid = Node.spawn_link(py, :builtins, :print, ["hi from", :python])')
    assert beam.eval("{:EXIT, ^pid, reason} = Otplib.next(); reason") == ":normal"
    assert beam.prints("hi from python")
    assert not any("hi from" in line for line in py.output)


def test_an_exception_here_reaches_a_beam_as_an_exception_of_its_own(py, beam):
    beam.tell("Process.flag(:trap_exit, true)")
    beam.tell('Node.spawn_link(py, :builtins, :int, ["one"])')
    beam.tell("{:EXIT, _, {error, stack}} = Otplib.next()")
    assert beam.eval("Exception.message(error)") == "\"ValueError: invalid literal for int() with base 10: 'one'\""
    assert beam.eval("is_exception(error) and is_list(stack)") == "true"
    assert beam.eval('Exception.format(:error, error, stack) =~ "invalid literal"') == "true"


# ---- rpc ----------------------------------------------------------------------------------------------------------


def test_a_beam_calls_functions_of_ours(py, beam):
    assert beam.eval(":rpc.call(py, :math, :sqrt, [2.0])") == "1.4142135623730951"
    assert beam.eval(":rpc.call(py, Math, :sqrt, [2.0])").startswith("{:badrpc, {:EXIT, {:undef, ")
    assert beam.eval(":rpc.block_call(py, :math, :sqrt, [2.25])") == "1.5"
    assert beam.eval(":rpc.multicall([py, node()], :math, :sqrt, [2.25])") == "{[1.5, 1.5], []}"
    assert beam.eval(":rpc.yield(:rpc.async_call(py, :math, :sqrt, [2.25]))") == "1.5"
    assert beam.eval(':rpc.cast(py, :builtins, :print, ["cast"])') == "true"
    assert beam.prints("cast")
    assert beam.eval(":rpc.call(py, :__main__, :wait, [], 50)") == "{:badrpc, :timeout}"
    assert beam.eval(":rpc.call(py, :__main__, :exit_with, [:boom])") == "{:badrpc, {:EXIT, :boom}}"
    assert beam.eval(":rpc.call(py, :math, :nope, [1])") == "{:badrpc, {:EXIT, {:undef, [{:math, :nope, [1], []}]}}}"
    beam.tell('{:badrpc, {:EXIT, {error, _}}} = :rpc.call(py, :builtins, :int, ["x"])')
    assert beam.eval("error.message") == "\"ValueError: invalid literal for int() with base 10: 'x'\""
    assert py.output == []


def test_a_beam_calls_functions_of_ours_by_erpc(py, beam):
    beam.tell("call = fn m, f, a -> Otplib.outcome(fn -> :erpc.call(py, m, f, a) end) end")
    assert beam.eval("call.(:math, :sqrt, [2.25])") == "{:returned, 1.5}"
    assert beam.eval("call.(:__main__, :exit_with, [:boom])") == "{:exit, {:exception, :boom}}"
    assert beam.eval("call.(:math, :nope, [1])") == "{:error, {:exception, :undef, [{:math, :nope, [1], []}]}}"
    beam.tell('{:error, {:exception, error, stack}} = call.(:builtins, :int, ["x"])')
    assert beam.eval("{error.__struct__, is_list(stack)}") == "{RuntimeError, true}"
    shown = beam.eval("Otplib.outcome(fn -> :erpc.call(py, :__main__, :wait, [], 50) end)")
    assert shown == "{:error, {:erpc, :timeout}}"
    assert beam.eval(":erpc.multicall([py, node()], :math, :sqrt, [2.25])") == "[ok: 1.5, ok: 1.5]"
    assert beam.eval(":erpc.receive_response(:erpc.send_request(py, :math, :sqrt, [2.25]))") == "1.5"
    assert beam.eval(':erpc.cast(py, :builtins, :print, ["erpc cast"])') == ":ok"
    assert beam.prints("erpc cast")
    assert py.output == []


def test_a_capture_of_a_beam_names_a_function_of_ours(py, beam):
    assert beam.eval(":erpc.call(py, &:os.getpid/0) |> is_integer()") == "true"
    assert beam.eval(":rpc.call(py, :erlang, :apply, [&:math.sqrt/1, [2.25]])") == "1.5"


def test_a_process_killed_in_the_middle_of_a_call_ends_the_call(py, beam):
    py.tell("def die(): process.exit(self_(), 'kill')")
    assert beam.eval("Otplib.outcome(fn -> :erpc.call(py, :__main__, :die, []) end)") == "{:exit, {:signal, :killed}}"
    assert beam.eval(":rpc.call(py, :__main__, :die, [])") == "{:badrpc, {:EXIT, :killed}}"


def test_a_python_node_that_is_killed_in_the_middle_of_a_call_is_down(tidy, beam, epmd_port):
    with nodes.python(new_name("mortal"), epmd_port) as mortal:
        mortal.tell("async def wait(): await receive('never')")
        beam.tell(f"py = :{mortal.name}; Process.monitor(Node.spawn(py, :__main__, :wait, [])); Node.monitor(py, true)")
        beam.ask(":rpc.call(py, :__main__, :wait, [])")
        mortal.kill()
        assert beam.answer() == "{:badrpc, :nodedown}"
        assert beam.eval("Otplib.flush() |> Enum.map(&elem(&1, 0)) |> Enum.sort()") == "[:DOWN, :nodedown]"
