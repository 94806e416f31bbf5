"""What an exit signal does to the process it reaches: the truth table of links and `exit/2`.

| signal | receiver | effect |
|---|---|---|
| `exit(pid, "kill")` | any | dies with `"killed"`, trapping or not |
| `exit(pid, reason)` or a link's reason | traps exits | gets `ExitMessage("EXIT", sender, reason)` |
| `"normal"` from itself by `exit/2` | does not trap | dies with `"normal"` |
| `"normal"` from anyone else | does not trap | nothing |
| any other reason, a link's `"kill"` too | does not trap | dies with that reason |

Rows p01 to p16 of the semantics table.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from otplib.core.copying import copied


class Effect(Enum):
    """What becomes of the receiver."""

    NOTHING = "nothing"
    MESSAGE = "message"
    DEATH = "death"


def effect_of(reason: Any, *, trapping: bool, by_link: bool, from_self: bool) -> tuple[Effect, Any]:
    """Decide what an exit signal does; gives the effect and the reason that goes with it.

    Example:
        >>> effect_of("kill", trapping=True, by_link=False, from_self=False)
        (<Effect.DEATH: 'death'>, 'killed')
        >>> effect_of("kill", trapping=True, by_link=True, from_self=False)
        (<Effect.MESSAGE: 'message'>, 'kill')
    """
    word = reason if isinstance(reason, str) else None
    if word == "kill" and not by_link:
        return Effect.DEATH, "killed"
    if trapping:
        return Effect.MESSAGE, reason
    if word == "normal" and not from_self:
        return Effect.NOTHING, reason
    return Effect.DEATH, reason


def copied_reason(reason: Any) -> Any:
    """Give somebody who is told of a death a reason of their own, as the BEAM does.

    One that cannot be copied goes as it is: that somebody has died must be heard.

    Example:
        >>> reason = ("bad_order", [7])
        >>> copied_reason(reason) == reason, copied_reason(reason) is reason
        (True, False)
    """
    try:
        return copied(reason)
    except Exception:
        return reason
