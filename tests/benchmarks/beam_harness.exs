# What every script beside this one shares: `elixir script.exs ping_pong:10000 ring:5000` prints one line
# `measure figure value` for each figure. Code of a script is interpreted, code of a module is compiled, so whatever is
# timed stands in a module.
defmodule Bench do
  def main(measures) do
    for arg <- System.argv() do
      [name, size] = String.split(arg, ":")
      measure = Map.fetch!(measures, name)
      for {figure, value} <- measure.(String.to_integer(size)), do: IO.puts("#{name} #{figure} #{value / 1}")
    end
  end

  def seconds(fun) do
    start = :erlang.monotonic_time(:nanosecond)
    fun.()
    (:erlang.monotonic_time(:nanosecond) - start) / 1.0e9
  end

  def rate(count, fun), do: [rate: count / seconds(fun)]

  def resident_bytes do
    [_, pages | _] = File.read!("/proc/self/statm") |> String.split()
    String.to_integer(pages) * 4096
  end

  # CPU time of all threads, in nanoseconds: `:erlang.statistics(:runtime)` counts whole milliseconds only.
  def cpu_nanoseconds do
    "/proc/self/task/*/schedstat"
    |> Path.wildcard()
    |> Enum.map(fn path -> path |> File.read!() |> String.split() |> hd() |> String.to_integer() end)
    |> Enum.sum()
  end

  def quantile(values, q) do
    sorted = Enum.sort(values)
    Enum.at(sorted, min(trunc(length(sorted) * q), length(sorted) - 1))
  end
end
