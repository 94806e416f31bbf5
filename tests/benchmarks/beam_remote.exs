# Everything between two nodes. This third one only holds them by their standard input: they end with it.
modules =
  for file <- ["beam_harness.exs", "beam_remote_nodes.exs"], {module, code} <- Code.require_file(file, __DIR__) do
    {module, code}
  end

defmodule Remote do
  def start(modules) do
    # Neither needs an epmd: the first does not listen, and knows the port of the second.
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :gen_tcp.close(socket)
    common = ~w(-start_epmd false -erl_epmd_port #{port} -setcookie #{:rand.uniform(1_000_000_000)})
    {_, there} = start_node(:bench_there, common ++ ~w(-kernel inet_dist_use_interface {127,0,0,1}), modules)
    {first, _} = start_node(:bench_here, common ++ ~w(-dist_listen false), modules)
    true = :peer.call(first, Node, :connect, [there])
    {first, there}
  end

  defp start_node(name, args, modules) do
    args = args ++ ["-pa", "#{:code.lib_dir(:elixir)}/ebin"]
    options = %{name: name, host: 'localhost', connection: :standard_io, args: Enum.map(args, &to_charlist/1)}
    {:ok, peer, node} = :peer.start(options)
    for {module, code} <- modules, do: {:module, _} = :peer.call(peer, :code, :load_binary, [module, 'bench', code])
    {peer, node}
  end

  def measure(modules, function, arguments) do
    {first, there} = start(modules)
    figures = :peer.call(first, Here, function, arguments ++ [there], :infinity)
    :peer.stop(first)
    figures
  end

  # Each time the second node has ended; otherwise it ends with this one.
  def node_down(modules, n) do
    times = for _ <- 1..n, do: measure(modules, :node_down, [])
    [ms: Bench.quantile(times, 0.5) * 1.0e3]
  end
end

measures =
  for name <- ~w(ping_pong sends binaries rpc erpc calls spawns)a, into: %{} do
    {"remote_#{name}", &Remote.measure(modules, name, [&1])}
  end

Bench.main(Map.put(measures, "remote_node_down", &Remote.node_down(modules, &1)))
