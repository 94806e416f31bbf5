"""What every test shares: the checkout that is under test, and how Hypothesis works on a busy two-core machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# A deadline in milliseconds would measure the neighbours of this machine, not the code.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
# CI looks at the same examples every time: a red run is about the change, not about luck. `--hypothesis-profile=soak`
# goes looking for new ones.
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
settings.register_profile("soak", settings.get_profile("dev"), max_examples=5_000)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_configure(config):
    """Make the kernels and scripts that tests start run this checkout too: `pythonpath` only reaches this process."""
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    # Nodes of notebooks meet each other, and not those of whoever sits at this machine or of another run beside this.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        os.environ["ERL_EPMD_PORT"] = str(probe.getsockname()[1])


def pytest_report_header(config):
    return f"otplib: {ROOT / 'otplib'}"
