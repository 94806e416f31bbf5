"""The only file that yields: every suspension of a process is one of these.

`types.coroutine` makes a trap a third cheaper than an object with `__await__`.
"""

from __future__ import annotations

import types
from collections.abc import Generator
from enum import Enum
from typing import Any, Final


class Trap(Enum):
    """What a process tells its scheduler when it stops for a while."""

    WAIT = "until a message comes"
    PAUSE = "until it is nudged"
    YIELD = "until its next turn"


WAIT: Final = Trap.WAIT
PAUSE: Final = Trap.PAUSE
YIELD: Final = Trap.YIELD


@types.coroutine
def park() -> Generator[Trap, Any, None]:
    """Stop until a message has come or the process is nudged. It may have been for nothing: look, and park again."""
    yield WAIT


@types.coroutine
def pause() -> Generator[Trap, Any, None]:
    """Stop until the process is nudged; messages stay in the mailbox and wake nobody."""
    yield PAUSE


@types.coroutine
def give_way() -> Generator[Trap, Any, None]:
    """Go to the end of the run queue."""
    yield YIELD
