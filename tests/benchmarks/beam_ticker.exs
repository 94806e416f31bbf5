Code.require_file("beam_harness.exs", __DIR__)

defmodule Ticker do
  # Lateness: from entering `receive after 1` until it returns, minus the millisecond asked for.
  def beside_hogs(n, hogs) do
    pids = if hogs == 0, do: [], else: for(_ <- 1..hogs, do: spawn(__MODULE__, :hog, [0]))
    Process.sleep(300)
    late = for _ <- 1..n, do: one_tick()
    for pid <- pids, do: Process.exit(pid, :kill)
    [p50: Bench.quantile(late, 0.5), p99: Bench.quantile(late, 0.99)]
  end

  def hog(n), do: hog(n + 1)

  defp one_tick do
    Bench.seconds(fn ->
      receive do
      after
        1 -> :ok
      end
    end) * 1000 - 1
  end
end

Bench.main(%{
  "ticker_0" => &Ticker.beside_hogs(&1, 0),
  "ticker_1" => &Ticker.beside_hogs(&1, 1),
  "ticker_4" => &Ticker.beside_hogs(&1, 4),
  "ticker_16" => &Ticker.beside_hogs(&1, 16)
})
