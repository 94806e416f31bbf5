"""How a program of this folder takes its figures, whichever engine it runs on."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

Figures = dict[str, float]
Program = Callable[[int], Figures]


def resident_bytes() -> int:
    """Give the memory this interpreter holds now (its peak where the system has no `/proc`)."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def quantile(values: Sequence[float], q: float) -> float:
    """Give the value below which a share `q` of them lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * q), len(ordered) - 1)]


def rate(count: int, start: float) -> Figures:
    """Say how many a second `count` are, begun at `start` on the performance counter."""
    return {"rate": count / (time.perf_counter() - start)}


def lateness(seconds: Sequence[float]) -> Figures:
    """Give the two quantiles of a ticker in milliseconds.

    A timer that is early by the clock's own grain counts as on time: a tenth of a microsecond, as no figure is 0.
    """
    return {name: max(quantile(seconds, q) * 1e3, 1e-4) for name, q in (("p50", 0.5), ("p99", 0.99))}
