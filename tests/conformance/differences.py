"""What Python does otherwise than the BEAM, on purpose, with the reason. Everything else in the table is a test.

Part of the documentation: the course shows this list.
"""

from __future__ import annotations

from typing import Final

#: Row id -> why no test can show the BEAM's behaviour here.
DIFFERENCES: Final[dict[str, str]] = {
    "g27": "Python has no throw: a callback gives its value by return alone.",
    "p45": "Processes share one heap, so none can be limited; max_mailbox limits what a process is sent.",
    "x16": "There are no ETS tables: a dict in a server does the work.",
}
