"""What the engine raises inside a process; no user is meant to catch it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Killed(BaseException):
    """Raised inside a process that a fatal signal has reached while it ran. User code should let it pass."""


class Hibernated(BaseException):
    """Raised inside a process that drops all it was in the middle of, and goes on with a call when a message comes."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.call = (fn, args, kwargs)
