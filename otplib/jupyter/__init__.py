"""The faces of otplib in a notebook.

`bridge` is the only module that touches the running kernel: it tells the machine where a cell's output goes, which code
is a cell's, and what a cell shows when an exit reaches it. `output` holds what it puts in place: the writer of one
cell, the router of `display`, the handler of crash reports, the texts of exits.

Importing this package imports no IPython; `attach()` does its work only where IPython runs already.
"""

from __future__ import annotations

import sys

__all__ = ["attach"]


def attach() -> bool:
    """Connect otplib with the IPython that runs this code; tells whether there is one. `import otplib` calls it.

    Outside IPython nothing is imported and nothing happens.

    Raises:
        ImportError: the kernel is older than ipykernel 7.4; the text says what to do.

    Example:
        >>> attach()  # a script or a plain interpreter
        False
    """
    ipython = sys.modules.get("IPython")
    get_ipython = getattr(ipython, "get_ipython", None)
    shell = get_ipython() if get_ipython is not None else None
    if shell is None:
        return False
    from otplib.jupyter import bridge  # after the look: a terminal without IPython pays nothing for it

    bridge.install(shell)
    return True
