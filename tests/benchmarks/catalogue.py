"""What is measured: one `Measure` is one program, run in a process of its own; it gives one or more rows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        figure: the key of the number in what the program gives.
        title: what people read.
        unit: `/s` and `MB/s` (more is better), or `B`, `s`, `ms`, `us`, `%` (less is better).
        target: the number of the specification to reach, None where it names none.
        in_full: the target speaks of the full size alone, and says nothing about a smaller one.
        of_beam: the target is this share of the BEAM's figure in the same run.
    """

    figure: str
    title: str
    unit: str
    target: float | None = None
    in_full: bool = False
    of_beam: float | None = None

    @property
    def more_is_better(self) -> bool:
        """Tell whether a larger number is the better one."""
        return self.unit.endswith("/s")

    def reached(self, value: float) -> bool | None:
        """Tell whether `value` reaches the target; None if there is none."""
        if self.target is None:
            return None
        return value >= self.target if self.more_is_better else value <= self.target


@dataclass(frozen=True)
class Measure:
    """One program and its sizes: `full` for the table, `quick` for a first look, `tiny` for the tests."""

    name: str
    rows: tuple[Row, ...]
    full: int
    quick: int
    tiny: int
    #: The script beside this file that does the same on the BEAM.
    script: str | None = None
    #: Whether a bare loop makes sense.
    bare: bool = True

    def size(self, *, quick: bool) -> int:
        """Give how much one run does."""
        return self.quick if quick else self.full


def _ticker(name: str, beside: str, script: str | None, target: float | None) -> Measure:
    rows = (
        Row("p50", f"1 ms ticker beside {beside}, late p50", "ms"),
        Row("p99", f"1 ms ticker beside {beside}, late p99", "ms", target),
    )
    return Measure(name, rows, 1000, 500, 5, script)


def _million(name: str, how: str) -> Measure:
    rows = (
        Row("spawn", f"spawn {{n}} (stopped by {how} below)", "s", 12.0, in_full=True),
        Row("stop", f"stop {{n}} by {how}", "s", 10.0, in_full=True),
    )
    return Measure(name, rows, 1_000_000, 50_000, 500, "beam_processes.exs")


def _memory(name: str, full: int, quick: int) -> Measure:
    return Measure(
        name, (Row("bytes", "idle process, {n} of them", "B", 1300),), full, quick, 500, "beam_processes.exs"
    )


def _rate(name: str, title: str, script: str, full: int, quick: int, tiny: int, target: float | None = None) -> Measure:
    return Measure(name, (Row("rate", title, "/s", target),), full, quick, tiny, script)


def _remote(name: str, title: str, share: float | None, full: int, quick: int, unit: str = "/s") -> Measure:
    row = Row("rate", f"two nodes: {title}", unit, of_beam=share)
    return Measure(f"remote_{name}", (row,), full, quick, 10, _REMOTE, False)


def _toolbox(name: str, title: str, target: float, full: int, quick: int) -> Measure:
    return Measure(name, (Row("rate", title, "/s", target),), full, quick, 50, bare=False)


_PROCESSES, _MESSAGES, _SERVERS, _TICKER, _REMOTE = (
    "beam_processes.exs",
    "beam_messages.exs",
    "beam_servers.exs",
    "beam_ticker.exs",
    "beam_remote.exs",
)

MEASURES: tuple[Measure, ...] = (
    _rate("spawn_exit", "spawn + exit", _PROCESSES, 200_000, 50_000, 2_000, 120_000),
    _memory("memory_10k", 10_000, 10_000),
    _memory("memory_100k", 100_000, 50_000),
    _memory("memory_1m", 1_000_000, 100_000),
    _million("million_by_message", "message"),
    _million("million_by_exit", "exit signal"),
    _rate("ping_pong", "ping-pong, round trips", _MESSAGES, 300_000, 60_000, 50, 200_000),
    _rate("ring_1", "ring of 1,000, 1 token, hops", _MESSAGES, 400_000, 80_000, 2_000),
    _rate("ring_100", "ring of 1,000, 100 tokens, hops", _MESSAGES, 400_000, 80_000, 2_000),
    _rate("call_by_pid", "GenServer.call by pid", _SERVERS, 200_000, 40_000, 50, 120_000),
    _rate("call_by_name", "GenServer.call by name", _SERVERS, 200_000, 40_000, 50, 120_000),
    _rate("cast", "GenServer.cast, until handled", _SERVERS, 400_000, 80_000, 50, 400_000),
    _rate("clients_100", "100 clients calling one server", _SERVERS, 200_000, 40_000, 200),
    _rate("fan_in", "fan-in, 1,000 to 1, messages", _MESSAGES, 500_000, 100_000, 2_000),
    Measure("backlog", (Row("us", "receive past a backlog of {n}", "us"),), 100_000, 100_000, 100, _MESSAGES),
    Measure("link_chain", (Row("ms", "link chain of {n} gone", "ms", 150),), 10_000, 10_000, 50, _PROCESSES),
    Measure("link_star", (Row("ms", "star of {n} links gone", "ms"),), 10_000, 10_000, 50, _PROCESSES),
    Measure("restart", (Row("us", "kill until new pid registered, p50", "us", 300),), 1000, 300, 5, _SERVERS),
    _ticker("ticker_0", "0 hogs", _TICKER, None),
    _ticker("ticker_1", "1 hog", _TICKER, None),
    _ticker("ticker_4", "4 hogs", _TICKER, 20.0),
    _ticker("ticker_16", "16 hogs", _TICKER, None),
    _ticker("ticker_sleepers", "4 x time.sleep(1)", None, 5.0),
    Measure("cell_await_idle", (Row("us", "cell: await call, scheduler idle, p50", "us"),), 5000, 1000, 10),
    Measure("cell_await_busy", (Row("us", "cell: await call, beside 1 hog, p50", "us"),), 1500, 300, 10),
    Measure("cell_run_idle", (Row("us", "cell: run(call), scheduler idle, p50", "us"),), 5000, 1000, 10),
    Measure("cell_run_busy", (Row("us", "cell: run(call), beside 1 hog, p50", "us"),), 1500, 300, 10),
    _toolbox("task", "Task.async_ + await_", 60_000, 100_000, 20_000),
    _toolbox("agent_get", "Agent.get", 100_000, 200_000, 40_000),
    _toolbox("registry_lookup", "Registry.lookup", 500_000, 500_000, 100_000),
    Measure(
        "dynamic_children",
        (
            Row("rate", "DynamicSupervisor.start_child", "/s", 30_000),
            Row("stop", "stop a DynamicSupervisor of {n}", "s", 5.0, in_full=True),
        ),
        100_000,
        20_000,
        50,
        bare=False,
    ),
    _remote("ping_pong", "ping-pong, round trips", 0.35, 20_000, 4_000),
    _remote("sends", "messages one way", 0.25, 200_000, 50_000),
    _remote("rpc", "rpc.call", 0.35, 20_000, 4_000),
    _remote("erpc", "erpc.call", None, 20_000, 4_000),
    _remote("calls", "GenServer.call", 0.35, 20_000, 4_000),
    _remote("spawns", "spawn, until the pid is here", 0.25, 20_000, 4_000),
    _remote("binaries", "binaries of 1 MB one way", 0.3, 1_000, 200, "MB/s"),
    Measure("remote_node_down", (Row("ms", "two nodes: death noticed, p50", "ms", 20.0),), 5, 3, 1, _REMOTE, False),
    Measure("idle_cpu", (Row("percent", "idle CPU, 1,000 processes", "%", 0.3),), 3000, 3000, 100, _PROCESSES, False),
)


def find_measures(words: list[str]) -> list[Measure]:
    """Give the measures whose name is one of `words` or starts with it; all of them if there are no words.

    Raises:
        ValueError: a word fits none; the text lists the names.
    """
    if not words:
        return list(MEASURES)
    for word in words:
        if not any(measure.name.startswith(word) for measure in MEASURES):
            names = ", ".join(measure.name for measure in MEASURES)
            raise ValueError(f"no benchmark is called {word!r}; there are: {names}")
    return [measure for measure in MEASURES if any(measure.name.startswith(word) for word in words)]
