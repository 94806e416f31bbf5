"""`python -m tests.benchmarks`: how light and how fast otplib is, in one table.

Every run is a fresh process, so memory and the garbage collector start clean; a row is the median of five runs. With
`--quick` it is that of three, and the engines to compare with run once. The engines take turns, so a busy machine
slows all of them. Beside otplib stand

* **bare**: the limit of plain CPython for the same job, two coroutines handed a value through a deque by `.send`, or
  plain threads where the job is about threads (see `bare.py`);
* **BEAM**: the same job in Elixir, from the `beam_*.exs` beside this file, when `elixir` is on the PATH. One row needs
  a word: the BEAM's timer fires at the second tick of its millisecond clock, so its 1 ms ticker is 1 ms late at rest.

Between nodes a target is a share of what two BEAM nodes reach in the same run, so there is none without `elixir`.

A ratio is otplib's figure divided by the other: for rates (`/s`) more is better, for all others less. `ok` or `short`
says whether the target is reached. The targets are for CPython 3.13 on two cores and the full sizes.

The exit code is 0 when every program ran, 1 when one failed, 2 for wrong arguments; `--strict` also gives 1 when a
target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

from tests.benchmarks.catalogue import MEASURES, find_measures
from tests.benchmarks.harness import Result, has_elixir, measure_all
from tests.benchmarks.table import as_data, draw_table


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes, three runs: under three minutes")
    parser.add_argument("--only", metavar="NAME", action="append", default=[], help="measures whose name starts so")
    parser.add_argument("--list", action="store_true", help="print the names of the measures and end")
    parser.add_argument("--repeat", metavar="N", type=int, help="runs of each program (five, with --quick three)")
    parser.add_argument("--no-beam", action="store_true", help="leave the BEAM out")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures, of each run too")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a target is missed")
    options = parser.parse_args(arguments)
    if options.repeat is not None and options.repeat < 1:
        parser.error(f"--repeat takes a number of runs from 1 on, got {options.repeat}")
    try:
        options.measures = find_measures(options.only)
    except ValueError as error:
        parser.error(str(error))
    return options


def _describe_machine() -> str:
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores, "
        f"{platform.system()} {platform.release()}{load}"
    )


def _tell(text: str) -> None:
    """Show progress: one line that is written over on a terminal, a line each elsewhere."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
    else:
        sys.stderr.write(text.rstrip("\n") + "\n")
    sys.stderr.flush()


def _misses(results: list[Result]) -> bool:
    return any(result.reached(row) is False for result in results for row in result.measure.rows)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks and print the table; give the exit code."""
    options = _parse(arguments)
    if options.list:
        for measure in MEASURES:
            sys.stdout.write(f"{measure.name:20} {'; '.join(row.title for row in measure.rows)}\n")
        return 0
    repeat = options.repeat or (3 if options.quick else 5)
    references = repeat if not options.quick else 1
    beam = not options.no_beam and has_elixir()
    machine = _describe_machine()
    begun = time.monotonic()
    results = measure_all(
        options.measures, quick=options.quick, repeat=repeat, references=references, beam=beam, tell=_tell
    )
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    note = f" (bare and BEAM: {references})" if references != repeat else ""
    note += "" if beam else "; no BEAM" + ("" if options.no_beam else ": elixir is not installed")
    sys.stdout.write(f"{machine}; medians of {repeat}{note}\n\n{draw_table(results)}\n")
    sys.stdout.write(f"\n{time.monotonic() - begun:.0f} s in all\n")
    if options.json is not None:
        report = {
            "machine": machine,
            "repeat": repeat,
            "references": references,
            "quick": options.quick,
            "rows": as_data(results),
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if any(result.failures for result in results) or (options.strict and _misses(results)) else 0


if __name__ == "__main__":
    sys.exit(main())
