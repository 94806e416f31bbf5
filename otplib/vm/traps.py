"""The only file that yields: every suspension of a process is one of these."""

from __future__ import annotations

from collections.abc import Awaitable
from enum import Enum
from typing import Final, cast


class Trap(Enum):
    """What a process tells its scheduler when it stops for a while."""

    WAIT = "until a message comes"
    PAUSE = "until it is nudged"
    YIELD = "until its next turn"


WAIT: Final = Trap.WAIT
PAUSE: Final = Trap.PAUSE
YIELD: Final = Trap.YIELD


# An `__await__` that is a method of a tuple is made in C and called anew for each await: no Python frame stands
# between a process that stops and its scheduler. A tenth cheaper than a generator, a third than a Python `__await__`.


class _Park:
    __await__ = (WAIT,).__iter__


class _Rest:
    __await__ = (PAUSE,).__iter__


class _Turn:
    __await__ = (YIELD,).__iter__


#: `await PARK`: stop until a message has come or the process is nudged. It may have been for nothing: look, and park
#: again.
PARK: Final = cast("Awaitable[None]", _Park())
#: `await REST`: stop until the process is nudged; messages stay in the mailbox and wake nobody.
REST: Final = cast("Awaitable[None]", _Rest())
#: `await TURN`: go to the end of the run queue.
TURN: Final = cast("Awaitable[None]", _Turn())
