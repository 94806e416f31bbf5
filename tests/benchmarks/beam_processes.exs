Code.require_file("beam_harness.exs", __DIR__)

defmodule Processes do
  @batch 1000

  # The last process of each batch reports, so no more than a batch is alive at once.
  def spawn_exit(n) do
    Bench.rate(n, fn -> batches(div(n, @batch)) end)
  end

  defp batches(0), do: :ok

  defp batches(k) do
    root = self()
    for _ <- 2..@batch, do: spawn(__MODULE__, :nothing, [])
    spawn(__MODULE__, :report, [root])
    receive do: (:done -> batches(k - 1))
  end

  def nothing, do: :ok
  def report(root), do: send(root, :done)
  def idle, do: receive(do: (_ -> :ok))

  # Nobody holds the pids, so the holder weighs nothing.
  def memory(n) do
    :erlang.garbage_collect()
    before = Bench.resident_bytes()
    spawn_many(n)
    wait_until_idle()
    [bytes: (Bench.resident_bytes() - before) / n]
  end

  defp spawn_many(0), do: :ok

  defp spawn_many(n) do
    spawn(__MODULE__, :idle, [])
    spawn_many(n - 1)
  end

  defp wait_until_idle do
    root = self()
    spawn(__MODULE__, :report, [root])
    receive do: (:done -> :ok)
  end

  def million_by_message(n), do: million(n, fn pid -> send(pid, :stop) end)
  def million_by_exit(n), do: million(n, fn pid -> Process.exit(pid, :shutdown) end)

  defp million(n, stop) do
    {took, pids} = timed(fn -> for(_ <- 1..n, do: spawn(__MODULE__, :idle, [])) |> tap(fn _ -> wait_until_idle() end) end)
    first = hd(pids)
    ref = Process.monitor(List.last(pids))

    {ended, _} =
      timed(fn ->
        Enum.each(pids, stop)
        receive do: ({:DOWN, ^ref, _, _, _} -> :ok)
        wait_until_dead(first)
      end)

    [spawn: took, stop: ended]
  end

  defp wait_until_dead(pid), do: if(Process.alive?(pid), do: wait_until_dead(pid))

  defp timed(fun) do
    start = :erlang.monotonic_time(:nanosecond)
    result = fun.()
    {(:erlang.monotonic_time(:nanosecond) - start) / 1.0e9, result}
  end

  # CPU time of the whole node while 1000 processes wait, in per cent of one core.
  def idle_cpu(milliseconds) do
    for _ <- 1..1000, do: spawn(__MODULE__, :idle, [])
    wait_until_idle()
    Process.sleep(200)
    before = Bench.cpu_nanoseconds()
    took = Bench.seconds(fn -> Process.sleep(milliseconds) end)
    [percent: (Bench.cpu_nanoseconds() - before) / 1.0e9 / took * 100]
  end

  def link_chain(n) do
    root = self()
    {_, ref} = spawn_monitor(__MODULE__, :chain, [n, root])
    head = receive do: ({:head, pid} -> pid)
    took = Bench.seconds(fn ->
      Process.exit(head, :boom)
      receive do: ({:DOWN, ^ref, _, _, _} -> :ok)
    end)
    [ms: took * 1000]
  end

  # The first one built is monitored, the last one is hit: the signal walks the whole chain.
  def chain(1, root) do
    send(root, {:head, self()})
    idle()
  end

  def chain(n, root) do
    spawn_link(__MODULE__, :chain, [n - 1, root])
    idle()
  end

  def link_star(n) do
    root = self()
    hub = spawn(__MODULE__, :hub, [n, root])
    leaves = receive do: ({:leaves, pids} -> pids)
    refs = for pid <- leaves, do: Process.monitor(pid)
    took = Bench.seconds(fn ->
      Process.exit(hub, :boom)
      for ref <- refs, do: receive(do: ({:DOWN, ^ref, _, _, _} -> :ok))
    end)
    [ms: took * 1000]
  end

  def hub(n, root) do
    send(root, {:leaves, for(_ <- 1..n, do: spawn_link(__MODULE__, :idle, []))})
    idle()
  end
end

Bench.main(%{
  "spawn_exit" => &Processes.spawn_exit/1,
  "memory_10k" => &Processes.memory/1,
  "memory_100k" => &Processes.memory/1,
  "memory_1m" => &Processes.memory/1,
  "million_by_message" => &Processes.million_by_message/1,
  "million_by_exit" => &Processes.million_by_exit/1,
  "idle_cpu" => &Processes.idle_cpu/1,
  "link_chain" => &Processes.link_chain/1,
  "link_star" => &Processes.link_star/1
})
