"""The figures as one table of text, and as plain data for `--json`."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.catalogue import Row
from tests.benchmarks.harness import Result

HEAD = ("", "otplib", "bare", "BEAM", "otplib/bare", "otplib/BEAM", "target", "")


def show_value(value: float | None, unit: str) -> str:
    """Write a figure with three digits or so and its unit.

    Example:
        >>> show_value(212345.0, "/s"), show_value(1249.6, "B"), show_value(0.0123, "ms"), show_value(None, "s")
        ('212 k/s', '1,250 B', '0.012 ms', '-')
    """
    if value is None:
        return "-"
    if unit == "/s":
        return f"{value / 1e6:.2f} M/s" if value >= 999_500 else f"{value / 1e3:.3g} k/s"
    if value >= 1000:
        return f"{value:,.0f} {unit}"
    return f"{value:.3g} {unit}" if value >= 0.1 else f"{value:.2g} {unit}"


def show_ratio(value: float | None, other: float | None) -> str:
    """Write how many times `other` a figure is."""
    if value is None or other is None:
        return "-"
    return f"{value / other:.2g}x" if value < 10 * other else f"{value / other:,.0f}x"


def _show_count(size: int) -> str:
    return "a million" if size == 1_000_000 else f"{size:,}"


def _cells(result: Result, row: Row) -> tuple[str, ...]:
    ours, bare, beam = (result.median(engine, row.figure) for engine in ("otplib", "bare", "BEAM"))
    target = result.target(row)
    sign = ">=" if row.more_is_better else "<="
    return (
        row.title.format(n=_show_count(result.size)),
        "failed" if "otplib" in result.failures else show_value(ours, row.unit),
        "failed" if "bare" in result.failures else show_value(bare, row.unit),
        "failed" if "BEAM" in result.failures else show_value(beam, row.unit),
        show_ratio(ours, bare),
        show_ratio(ours, beam),
        f"{sign} {show_value(target, row.unit)}" if target is not None else "-",
        {True: "ok", False: "short", None: ""}[result.reached(row)],
    )


def draw_table(results: list[Result]) -> str:
    """Give the table; a row whose program failed says so, and why stands below."""
    lines = [HEAD, *(_cells(result, row) for result in results for row in result.measure.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    drawn = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    drawn.insert(1, "-" * max(map(len, drawn)))
    for result in results:
        drawn += [f"{result.measure.name} on {engine} failed: {why}" for engine, why in result.failures.items()]
    return "\n".join(line.rstrip() for line in drawn)


def as_data(results: list[Result]) -> list[dict[str, Any]]:
    """Give every row with its medians and the figures of each run."""
    engines = ("otplib", "bare", "BEAM")
    return [
        {
            "measure": result.measure.name,
            "figure": row.figure,
            "title": row.title.format(n=_show_count(result.size)),
            "size": result.size,
            "unit": row.unit,
            "target": result.target(row),
            "medians": {engine: result.median(engine, row.figure) for engine in engines},
            "runs": {engine: [run[row.figure] for run in result.runs.get(engine, [])] for engine in engines},
            "failures": result.failures,
        }
        for result in results
        for row in result.measure.rows
    ]
