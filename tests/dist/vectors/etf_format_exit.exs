# How Elixir prints the exit reason that it reads, in hex.
IO.read(:stdio, :line) |> String.trim() |> Base.decode16!(case: :lower) |> :erlang.binary_to_term() |> Exception.format_exit() |> IO.puts()
