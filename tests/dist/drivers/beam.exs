# What a BEAM under test runs: `elixir ... beam.exs PORT`. Whatever comes over the socket is evaluated in one process that
# keeps its variables, as in iex; what goes back is what iex would show. The output stays free for the program.

defmodule Otplib do
  @doc "All messages, until none has come for `quiet` milliseconds."
  def flush(quiet \\ 60) do
    receive do
      message -> [message | flush(quiet)]
    after
      quiet -> []
    end
  end

  @doc "The next message."
  def next(timeout \\ 10_000) do
    receive do
      message -> message
    after
      timeout -> :no_message
    end
  end

  @doc "What became of it: a value, or what was raised, thrown or exited with."
  def outcome(function) do
    {:returned, function.()}
  catch
    kind, value -> {kind, value}
  end

  def serve(port) do
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, packet: 4, active: false])
    :ok = :gen_tcp.send(socket, "ready")
    loop(socket, start())
  end

  defp loop(socket, evaluator) do
    case :gen_tcp.recv(socket, 0) do
      {:ok, source} ->
        {pid, monitor} = evaluator = if source == "", do: restart(evaluator), else: evaluator
        send(pid, {__MODULE__, self(), source})

        receive do
          {^pid, text} ->
            :ok = :gen_tcp.send(socket, text)
            loop(socket, evaluator)

          {:DOWN, ^monitor, _, _, reason} ->
            :ok = :gen_tcp.send(socket, "** (EXIT) " <> show(reason))
            loop(socket, start())
        end

      {:error, _} ->
        System.halt(0)
    end
  end

  defp start, do: spawn_monitor(fn -> evaluate([]) end)

  defp restart({pid, monitor}) do
    Process.exit(pid, :kill)
    receive do: ({:DOWN, ^monitor, _, _, _} -> start())
  end

  defp evaluate(bindings) do
    receive do
      {__MODULE__, from, source} ->
        {text, bindings} = run(source, bindings)
        send(from, {self(), text})
        evaluate(bindings)
    end
  end

  defp run(source, bindings) do
    {value, bindings} = Code.eval_string(source, bindings)
    {show(value), bindings}
  catch
    kind, reason -> {Exception.format_banner(kind, reason, __STACKTRACE__), bindings}
  end

  defp show(term), do: inspect(term, limit: :infinity, printable_limit: :infinity, width: :infinity)
end

[port] = System.argv()
Otplib.serve(String.to_integer(port))
