Code.require_file("beam_harness.exs", __DIR__)

defmodule Messages do
  def ping_pong(n) do
    partner = spawn(__MODULE__, :pong, [])
    Bench.rate(n, fn -> ping(partner, n) end)
  end

  def pong do
    receive do
      {:ping, from} ->
        send(from, {:pong, self()})
        pong()
    end
  end

  defp ping(_, 0), do: :ok

  defp ping(partner, n) do
    send(partner, {:ping, self()})
    receive do: ({:pong, ^partner} -> ping(partner, n - 1))
  end

  # A ring of 1000; each token is a number that counts down by one at each hop.
  def ring(hops, tokens) do
    root = self()
    first = spawn(__MODULE__, :wait_next, [root])
    last = Enum.reduce(2..1000, first, fn _, next -> spawn(__MODULE__, :forward, [next, root]) end)
    send(first, {:next, last})
    each = div(hops, tokens)
    Bench.rate(each * tokens, fn ->
      for _ <- 1..tokens, do: send(first, each)
      for _ <- 1..tokens, do: receive(do: (:done -> :ok))
    end)
  end

  def wait_next(root), do: receive(do: ({:next, next} -> forward(next, root)))

  def forward(next, root) do
    receive do
      0 -> send(root, :done)
      n -> send(next, n - 1)
    end

    forward(next, root)
  end

  def fan_in(n) do
    root = self()
    each = div(n, 1000)
    producers = for _ <- 1..1000, do: spawn(__MODULE__, :produce, [root])
    Bench.rate(each * 1000, fn ->
      for pid <- producers, do: send(pid, {:go, each})
      consume(each * 1000)
    end)
  end

  def produce(root), do: receive(do: ({:go, n} -> pour(root, n)))
  defp pour(_, 0), do: :ok

  defp pour(root, n) do
    send(root, {:item, n})
    pour(root, n - 1)
  end

  defp consume(0), do: :ok
  defp consume(n), do: receive(do: ({:item, _} -> consume(n - 1)))

  def backlog(n) do
    for i <- 1..n, do: send(self(), {:noise, i})
    times = for i <- 1..20, do: one_past_backlog(i)
    [us: Bench.quantile(times, 0.5) * 1.0e6]
  end

  defp one_past_backlog(i) do
    send(self(), {:wanted, i})
    Bench.seconds(fn -> receive do: ({:wanted, ^i} -> :ok) end)
  end
end

Bench.main(%{
  "ping_pong" => &Messages.ping_pong/1,
  "ring_1" => &Messages.ring(&1, 1),
  "ring_100" => &Messages.ring(&1, 100),
  "fan_in" => &Messages.fan_in/1,
  "backlog" => &Messages.backlog/1
})
