Code.require_file("beam_harness.exs", __DIR__)

defmodule Echo do
  use GenServer
  def start_link(opts), do: GenServer.start_link(__MODULE__, 0, opts)
  def init(state), do: {:ok, state}
  def handle_call(request, _from, state), do: {:reply, request, state}
  def handle_cast(_request, state), do: {:noreply, state + 1}
end

defmodule Servers do
  def call_by_pid(n) do
    {:ok, server} = GenServer.start(Echo, 0)
    Bench.rate(n, fn -> calls(server, n) end)
  end

  def call_by_name(n) do
    {:ok, _} = GenServer.start(Echo, 0, name: :echo_by_name)
    Bench.rate(n, fn -> calls(:echo_by_name, n) end)
  end

  defp calls(_, 0), do: :ok

  defp calls(server, n) do
    GenServer.call(server, n)
    calls(server, n - 1)
  end

  # End to end: the call comes back once the server has handled every cast before it.
  def cast(n) do
    {:ok, server} = GenServer.start(Echo, 0)
    Bench.rate(n, fn ->
      casts(server, n)
      GenServer.call(server, :sync, :infinity)
    end)
  end

  defp casts(_, 0), do: :ok

  defp casts(server, n) do
    GenServer.cast(server, n)
    casts(server, n - 1)
  end

  def clients_100(n) do
    {:ok, server} = GenServer.start(Echo, 0)
    root = self()
    each = div(n, 100)
    Bench.rate(each * 100, fn ->
      for _ <- 1..100, do: spawn(fn -> client(server, each, root) end)
      for _ <- 1..100, do: receive(do: (:done -> :ok))
    end)
  end

  defp client(server, n, root) do
    calls(server, n)
    send(root, :done)
  end

  # From the kill until another pid has the name, polled.
  def restart(n) do
    child = %{id: Echo, start: {Echo, :start_link, [[name: :phoenix]]}}
    {:ok, _} = Supervisor.start_link([child], strategy: :one_for_one, max_restarts: 1_000_000, max_seconds: 1)
    times = for _ <- 1..n, do: one_restart()
    [us: Bench.quantile(times, 0.5) * 1.0e6]
  end

  defp one_restart do
    old = Process.whereis(:phoenix)
    Bench.seconds(fn ->
      Process.exit(old, :kill)
      poll(old)
    end)
  end

  defp poll(old) do
    case Process.whereis(:phoenix) do
      pid when pid in [nil, old] ->
        :erlang.yield()
        poll(old)

      _ ->
        :ok
    end
  end
end

Logger.configure(level: :none)

Bench.main(%{
  "call_by_pid" => &Servers.call_by_pid/1,
  "call_by_name" => &Servers.call_by_name/1,
  "cast" => &Servers.cast/1,
  "clients_100" => &Servers.clients_100/1,
  "restart" => &Servers.restart/1
})
