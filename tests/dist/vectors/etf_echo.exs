# Reads terms in hex, one a line, and answers each with what this BEAM writes for it, or with "refused".
for line <- IO.stream(:stdio, :line) do
  try do
    line |> String.trim() |> Base.decode16!(case: :lower) |> :erlang.binary_to_term() |> :erlang.term_to_binary()
  rescue
    ArgumentError -> IO.puts("refused")
  else
    binary -> IO.puts(Base.encode16(binary, case: :lower))
  end
end
