"""One kernel for the tests of a module: a start costs most of a second."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.jupyter.kernel import PRELUDE, Kernel


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """Give a kernel in which otplib is imported."""
    with Kernel() as started:
        started.run(PRELUDE).check()
        yield started
