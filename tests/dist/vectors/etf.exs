# Writes etf.tsv: `elixir tests/dist/vectors/etf.exs > tests/dist/vectors/etf.tsv`.
#
# One vector a line: name, the bytes to read, and the bytes which this BEAM writes for the term that it read from them.
# What a BEAM no longer writes itself (old pids, old floats, the four spellings of atoms, ...) is put together here byte by
# byte and counts because the BEAM read it. Nothing depends on the run: identities are those of a node of long ago.

defmodule Vectors do
  @node "far@host"

  def small_atom(text), do: <<119, byte_size(text), text::binary>>
  def pid(id, serial, creation), do: <<131, 88>> <> small_atom(@node) <> <<id::32, serial::32, creation::32>>
  def old_pid(id, serial, creation), do: <<131, 103, 100, 8::16, @node::binary, id::32, serial::32, creation>>

  def ref(words, creation) do
    <<131, 90, length(words)::16>> <> small_atom(@node) <> <<creation::32>> <> for(w <- words, into: <<>>, do: <<w::32>>)
  end

  def old_ref(words, creation) do
    <<131, 114, length(words)::16, 100, 8::16, @node::binary, creation>> <> for(w <- words, into: <<>>, do: <<w::32>>)
  end

  # An anonymous function of module "h" with these free variables, as its node would have written it.
  def fun(free, arity \\ 1) do
    inner = for term <- free, into: <<>>, do: binary_part(:erlang.term_to_binary(term), 1, byte_size(:erlang.term_to_binary(term)) - 1)
    <<131, owner::binary>> = pid(9, 0, 7)
    rest =
      <<arity, 0xABCDEF::128, 3::32, length(free)::32>> <> small_atom("h") <> <<97, 3, 98, 112_659_149::32>> <> owner <> inner

    <<131, 112, byte_size(rest) + 4::32>> <> rest
  end

  def hand_made do
    [
      {"atom latin-1 long", <<131, 100, 0, 2, "ok">>},
      {"atom latin-1 long, not ASCII", <<131, 100, 0, 4, "caf", 233>>},
      {"atom latin-1 small", <<131, 115, 2, "ok">>},
      {"atom latin-1 small, not ASCII", <<131, 115, 4, "caf", 233>>},
      {"atom utf-8 long", <<131, 118, 0, 2, "ok">>},
      {"atom utf-8 long, not ASCII", <<131, 118, 0, 5, "café">>},
      {"atom utf-8 small", <<131, 119, 2, "ok">>},
      {"atom utf-8 small, not latin-1", <<131, 119, 7, "日本!">>},
      {"atom utf-8 of 255 characters", <<131, 118, 765::16, String.duplicate("語", 255)::binary>>},
      {"atom empty", <<131, 119, 0>>},
      {"nil in latin-1", <<131, 100, 0, 3, "nil">>},
      {"true small latin-1", <<131, 115, 4, "true">>},
      {"false long utf-8", <<131, 118, 0, 5, "false">>},
      {"float as text", <<131, 99, "1.50000000000000000000e+00", 0, 0, 0, 0, 0>>},
      {"float as text, negative", <<131, 99, "-2.50000000000000000000e-10", 0, 0, 0, 0>>},
      {"big integer that is small", <<131, 110, 1, 0, 5>>},
      {"big integer of no bytes", <<131, 110, 0, 0>>},
      {"big integer with zeros in front", <<131, 110, 4, 1, 1, 0, 0, 0>>},
      {"integer that is small", <<131, 98, 0, 0, 0, 5>>},
      {"large tuple that is small", <<131, 105, 0, 0, 0, 1, 97, 1>>},
      {"list of nothing", <<131, 108, 0, 0, 0, 0, 106>>},
      {"list of nothing with a tail", <<131, 108, 0, 0, 0, 0, 97, 1>>},
      {"string of nothing", <<131, 107, 0, 0>>},
      {"list whose tail is a list", <<131, 108, 0, 0, 0, 1, 97, 1, 108, 0, 0, 0, 1, 119, 1, "b", 106>>},
      {"list whose tail is a string", <<131, 108, 0, 0, 0, 1, 97, 1, 107, 0, 2, "hi">>},
      {"list whose tail is improper", <<131, 108, 0, 0, 0, 1, 97, 1, 108, 0, 0, 0, 1, 97, 2, 97, 3>>},
      {"bit string of whole bytes", <<131, 77, 0, 0, 0, 2, 8, "hi">>},
      {"bit string of nothing", <<131, 77, 0, 0, 0, 0, 0>>},
      {"bit string with dirt behind its end", <<131, 77, 0, 0, 0, 1, 3, 255>>},
      {"pid", pid(112, 3, 0x66554433)},
      {"pid with 32 bits everywhere", pid(0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)},
      {"pid old", old_pid(112, 3, 2)},
      {"port old", <<131, 102, 100, 8::16, @node::binary, 6::32, 3>>},
      {"port new", <<131, 89>> <> small_atom(@node) <> <<6::32, 0x66554433::32>>},
      {"port of version 4", <<131, 120>> <> small_atom(@node) <> <<0x123456789A::64, 0x66554433::32>>},
      {"reference of 3 words", ref([12_345, 0x8000_0001, 0x7FFF_FFFF], 0x66554433)},
      {"reference of 1 word", ref([7], 5)},
      {"reference of 2 words", ref([7, 9], 5)},
      {"reference of 4 words", ref([1, 2, 3, 4], 5)},
      {"reference of 5 words", ref([1, 2, 3, 4, 5], 5)},
      {"reference of 5 words, the first 0", ref([0, 0, 0, 0, 5], 5)},
      {"reference new with one byte of creation", old_ref([12_345, 2, 3], 3)},
      {"reference old", <<131, 101, 100, 8::16, @node::binary, 7::32, 1>>},
      {"export", <<131, 113, 119, 5, "lists", 119, 7, "reverse", 97, 1>>},
      {"export of Elixir", <<131, 113, 119, 13, "Elixir.String", 119, 6, "upcase", 97, 1>>},
      {"fun without free variables", fun([])},
      {"fun with free variables", fun([1, "two", [:three], %{4 => {5.0}}], 2)},
      {"map with keys out of order", <<131, 116, 0, 0, 0, 2, 119, 1, "b", 97, 1, 119, 1, "a", 97, 2>>}
    ]
  end

  def written do
    big = for {name, n} <- [{"2^31 - 1", 2 ** 31 - 1}, {"2^31", 2 ** 31}, {"2^63", 2 ** 63}, {"2^64", 2 ** 64}, {"2^2040 - 1", 2 ** 2040 - 1}, {"2^2040", 2 ** 2040}, {"3^3000", 3 ** 3000}],
              {sign, s} <- [{"", 1}, {"-", -1}], do: {"integer #{sign}#{name}", s * n}

    [
      {"0", 0},
      {"255", 255},
      {"256", 256},
      {"-1", -1},
      {"float 1.5", 1.5},
      {"float -0.0", -0.0},
      {"float largest", 1.7976931348623157e308},
      {"float smallest", 5.0e-324},
      {"nil", nil},
      {"true", true},
      {"false", false},
      {"undefined", :undefined},
      {"text", "hello"},
      {"text beyond ASCII", "żółw 日本 🐢"},
      {"text empty", ""},
      {"bytes that are no text", <<255, 0, 128>>},
      {"bit string of 11 bits", <<255, 5::3>>},
      {"bit string of 1 bit", <<1::1>>},
      {"charlist", ~c"hello"},
      {"charlist of 300", List.duplicate(?x, 300)},
      {"charlist beyond bytes", ~c"日本"},
      {"list empty", []},
      {"list mixed", [1, :two, "three", 4.0, [], [[]], {}]},
      {"list improper", [1, 2 | :tail]},
      {"list improper, as in a call's tag", [:alias | :erlang.binary_to_term(ref([1, 2, 3], 5))]},
      {"tuple empty", {}},
      {"tuple of 255", List.to_tuple(Enum.to_list(1..255))},
      {"tuple of 256", List.to_tuple(Enum.to_list(1..256))},
      {"map empty", %{}},
      {"map of atoms", %{name: "Ada", age: 36, ok: true, no: nil}},
      {"map of text", %{"a" => 1, "b" => %{"c" => [2, 3]}}},
      {"map of 40", Map.new(1..40, &{&1, &1 * &1})},
      {"map with structured keys", %{[1, 2] => :list, {1, 2} => :tuple, %{a: 1} => :map, 2.5 => :float}},
      {"map whose keys a dict takes for equal", %{1 => :integer, 1.0 => :float, true => :atom}},
      {"map with an atom and its text", %{:a => 1, "a" => 2}},
      {"map with a deep key", %{{[%{[1] => 2}]} => %{}}},
      {"struct", %{__struct__: URI, host: "example.org", port: 443}},
      {"nested 100 deep", Enum.reduce(1..100, :core, fn n, inner -> {n, [inner]} end)},
      {"table of maps", for(n <- 1..12, do: %{"id" => n, :name => "row #{n}", "score" => n / 2, "ok" => rem(n, 2) == 0})},
      {"table of tuples", for(n <- 1..12, do: {:row, n * 100, "row #{n}", <<255, n>>})},
      {"table that changes", for(n <- 1..12, do: if(n < 9, do: %{n: n}, else: %{m: {n}})) ++ [{}, 1]},
      {"gen call", {:"$gen_call", {:erlang.binary_to_term(pid(1, 2, 3)), [:alias | :erlang.binary_to_term(ref([1, 2, 3], 3))]}, {:get, "some-key", 42}}}
    ] ++ big
  end
end

hex = &Base.encode16(&1, case: :lower)
line = fn name, wire, term -> IO.puts(Enum.join([name, hex.(wire), hex.(:erlang.term_to_binary(term))], "\t")) end

IO.puts("# OTP #{System.otp_release()}")
for {name, wire} <- Vectors.hand_made(), do: line.(name, wire, :erlang.binary_to_term(wire))
for {name, term} <- Vectors.written(), do: line.(name, :erlang.term_to_binary(term), term)

for {name, term} <- [{"text, much of it", String.duplicate("na ", 500)}, {"list", Enum.to_list(1..500)}] do
  line.("compressed #{name}", :erlang.term_to_binary(term, compressed: 9), term)
end

for {name, term} <- Vectors.written(), name in ["map of atoms", "float 1.5", "gen call"] do
  line.("of minor version 0: #{name}", :erlang.term_to_binary(term, minor_version: 0), term)
  line.("of minor version 2: #{name}", :erlang.term_to_binary(term, minor_version: 2), term)
end
