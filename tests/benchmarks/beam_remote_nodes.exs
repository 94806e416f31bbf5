# What runs on the two nodes of `beam_remote.exs`; their code is loaded into both.

# What runs on the second node.
defmodule There do
  use GenServer
  def init(state), do: {:ok, state}
  def handle_call(request, _from, state), do: {:reply, request, state}
  def nothing, do: :ok

  # Answers each message; `:halt` ends the whole node at once.
  def pong do
    receive do
      {:ping, from} -> send(from, :pong)
      :halt -> :erlang.halt(0, flush: false)
    end

    pong()
  end

  # Takes in what comes, and answers when asked.
  def sink do
    receive do
      {:sync, from} -> send(from, :synced)
      _ -> :ok
    end

    sink()
  end
end

# What runs on the first node.
defmodule Here do
  def ping_pong(n, other) do
    partner = Node.spawn(other, There, :pong, [])
    ping(partner, 1)
    Bench.rate(n, fn -> ping(partner, n) end)
  end

  defp ping(_, 0), do: :ok

  defp ping(partner, n) do
    send(partner, {:ping, self()})
    receive do: (:pong -> ping(partner, n - 1))
  end

  def sends(n, other) do
    sink = Node.spawn(other, There, :sink, [])
    Bench.rate(n, fn ->
      for i <- 1..n, do: send(sink, {:item, i})
      sync(sink)
    end)
  end

  # Megabytes a second, in binaries of one megabyte.
  def binaries(n, other) do
    sink = Node.spawn(other, There, :sink, [])
    binary = :binary.copy(<<255>>, 1_000_000)
    Bench.rate(n, fn ->
      for i <- 1..n do
        send(sink, binary)
        if rem(i, 100) == 0, do: sync(sink)
      end

      sync(sink)
    end)
  end

  defp sync(sink) do
    send(sink, {:sync, self()})
    receive do: (:synced -> :ok)
  end

  def rpc(n, other), do: again(n, fn -> 2.0 = :rpc.call(other, :math, :sqrt, [4.0]) end)
  def erpc(n, other), do: again(n, fn -> 2.0 = :erpc.call(other, :math, :sqrt, [4.0]) end)

  def calls(n, other) do
    {:ok, server} = :erpc.call(other, GenServer, :start, [There, nil])
    again(n, fn -> GenServer.call(server, :request) end)
  end

  def spawns(n, other), do: again(n, fn -> Node.spawn(other, There, :nothing, []) end)

  defp again(n, fun) do
    fun.()
    Bench.rate(n, fn -> repeat(n, fun) end)
  end

  defp repeat(0, _), do: :ok

  defp repeat(n, fun) do
    fun.()
    repeat(n - 1, fun)
  end

  # From the message that ends the other node until this one says so.
  def node_down(other) do
    Node.monitor(other, true)
    partner = Node.spawn(other, There, :pong, [])
    ping(partner, 1)
    Bench.seconds(fn ->
      send(partner, :halt)
      receive do: ({:nodedown, ^other} -> :ok)
    end)
  end
end
