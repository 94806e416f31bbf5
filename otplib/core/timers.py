"""Timers in order of expiry: a heap whose cancelled entries are left where they are until they are many."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any


class Timer:
    """Something to do at a moment of the machine's clock. `action` is None once it is cancelled or has fired."""

    __slots__ = ("action", "when")

    def __init__(self, when: float, action: Callable[[], Any]) -> None:
        self.when = when
        self.action: Callable[[], Any] | None = action


class TimerHeap:
    """The timers of one machine. Not thread-safe: the machine's lock guards it.

    Timers of the same moment fire in the order they were set.

    Example:
        >>> heap = TimerHeap()
        >>> late, soon = heap.add(2.0, print), heap.add(1.0, print)
        >>> heap.cancel(soon), heap.next_time()
        (True, 2.0)
    """

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._entries) - self._cancelled

    def add(self, when: float, action: Callable[[], Any]) -> Timer:
        """Set a timer for the moment `when`."""
        timer = Timer(when, action)
        heappush(self._entries, (when, next(self._order), timer))
        return timer

    def cancel(self, timer: Timer) -> bool:
        """Cancel a timer; False if it has fired or was cancelled before."""
        if timer.action is None:
            return False
        timer.action = None
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._entries):
            self._entries = [entry for entry in self._entries if entry[2].action is not None]
            heapify(self._entries)
            self._cancelled = 0
        return True

    def next_time(self) -> float | None:
        """Give the moment of the next timer, None if there is none."""
        entries = self._entries
        while entries and entries[0][2].action is None:
            heappop(entries)
            self._cancelled -= 1
        return entries[0][0] if entries else None

    def pop_due(self, now: float) -> Callable[[], Any] | None:
        """Take the action of the oldest timer that is due, None if none is."""
        when = self.next_time()
        if when is None or when > now:
            return None
        timer = heappop(self._entries)[2]
        action, timer.action = timer.action, None
        return action
