"""One run of one program in this fresh interpreter: `python -m tests.benchmarks.worker otplib ping_pong 1000 60`.

Prints the figures as one line of JSON and leaves without ado: the hogs of some programs never end. The last argument
bounds its life in seconds, also when nobody is left to end it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time


def _end_after(seconds: float) -> None:
    """End this interpreter when its time is over, whatever its threads do."""

    def watch() -> None:
        time.sleep(seconds)
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()


def main(engine: str, name: str, size: str, limit: str) -> None:
    """Run the program `name` on `"otplib"` or `"bare"`."""
    if engine == "bare":
        from tests.benchmarks.bare import PROGRAMS as programs
    elif name.startswith("remote_"):
        from tests.benchmarks.on_otplib_remote import PROGRAMS as programs
    else:
        from tests.benchmarks import on_otplib, on_otplib_servers, on_otplib_toolbox

        programs = {**on_otplib.PROGRAMS, **on_otplib_servers.PROGRAMS, **on_otplib_toolbox.PROGRAMS}
    _end_after(float(limit))
    figures = programs[name](int(size))
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
