"""Starts the runs, each in a process of its own, and gathers their medians."""

from __future__ import annotations

import json
import math
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.benchmarks.catalogue import Measure, Row
from tests.benchmarks.figures import Figures

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

#: How long one run may last, seconds; a million of processes takes the longest.
RUN_LIMIT = 120


class RunFailed(Exception):
    """A run gave no figures; the text says why."""


@dataclass
class Result:
    """All runs of one measure: for each engine the figures of each repetition, and what went wrong."""

    measure: Measure
    size: int
    runs: dict[str, list[Figures]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def median(self, engine: str, figure: str) -> float | None:
        """Give the median of a figure, None if the engine has no runs."""
        values = [run[figure] for run in self.runs.get(engine, [])]
        return statistics.median(values) if values else None

    def target(self, row: Row) -> float | None:
        """Give what a row has to reach at this size and beside this BEAM, None if nothing."""
        if row.of_beam is not None:
            beam = self.median("BEAM", row.figure)
            return None if beam is None else row.of_beam * beam
        return None if row.in_full and self.size != self.measure.full else row.target

    def reached(self, row: Row) -> bool | None:
        """Tell whether otplib reaches the target of a row; None if there is none, or no figure."""
        value = self.median("otplib", row.figure)
        return None if value is None else replace(row, target=self.target(row)).reached(value)


def run_once(engine: str, measure: Measure, size: int) -> Figures:
    """Run a measure once on `"otplib"`, `"bare"` or `"BEAM"`.

    Raises:
        RunFailed: it crashed, lasted too long, or gave no finite positive figures.
    """
    command = _beam_command(measure, size) if engine == "BEAM" else _python_command(engine, measure, size)
    try:
        # A little later than the worker's own limit, so that a stuck run is named by its own exit code.
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_LIMIT + 5, check=False)
    except subprocess.TimeoutExpired:
        raise RunFailed(f"did not end within {RUN_LIMIT} s") from None
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no text"]
        said = f"did not end within {RUN_LIMIT} s" if done.returncode == 3 else lines[-1]
        raise RunFailed(f"exit code {done.returncode}: {said}")
    figures = _read_beam(done.stdout) if engine == "BEAM" else json.loads(done.stdout.splitlines()[-1])
    expected = {row.figure for row in measure.rows}
    if set(figures) != expected or not all(math.isfinite(value) and value > 0 for value in figures.values()):
        raise RunFailed(f"expected finite positive figures called {sorted(expected)}, got {figures}")
    return dict(figures)


def _python_command(engine: str, measure: Measure, size: int) -> list[str]:
    return [sys.executable, "-m", "tests.benchmarks.worker", engine, measure.name, str(size), str(RUN_LIMIT)]


def _beam_command(measure: Measure, size: int) -> list[str]:
    assert measure.script is not None
    # Erlang's own default is 262,144 processes.
    return ["elixir", "--erl", "+P 4000000", str(HERE / measure.script), f"{measure.name}:{size}"]


def _read_beam(text: str) -> Figures:
    words = [line.split() for line in text.splitlines()]
    return {figure: float(value) for _, figure, value in words}


def has_elixir() -> bool:
    """Tell whether `elixir` is installed."""
    return shutil.which("elixir") is not None


def measure_all(
    measures: list[Measure], *, quick: bool, repeat: int, references: int, beam: bool, tell: Callable[[str], None]
) -> list[Result]:
    """Run every measure `repeat` times, bare and the BEAM `references` times; in turn, so all see the same machine."""
    results = []
    for position, measure in enumerate(measures, 1):
        size = measure.size(quick=quick)
        result = Result(measure, size)
        engines = ["otplib", *(["bare"] if measure.bare else []), *(["BEAM"] if beam and measure.script else [])]
        for turn in range(1, repeat + 1):
            for engine in engines:
                if engine in result.failures or (engine != "otplib" and turn > references):
                    continue
                tell(f"[{position}/{len(measures)}] {measure.name} n={size}, run {turn} of {repeat}, {engine}")
                try:
                    result.runs.setdefault(engine, []).append(run_once(engine, measure, size))
                except RunFailed as failure:
                    result.failures[engine] = str(failure)
                    tell(f"    {measure.name} on {engine}: {failure}\n")
        results.append(result)
    return results
