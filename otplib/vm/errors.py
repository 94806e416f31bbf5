"""What the engine raises inside a process; no user is meant to catch it."""

from __future__ import annotations


class Killed(BaseException):
    """Raised inside a process that a fatal signal has reached while it ran. User code should let it pass."""
