"""No row of the table is forgotten, and none is both tested and excused."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conformance.differences import DIFFERENCES
from tests.conformance.rows import ROWS

HERE = Path(__file__).parent
ALL = {row for section in ROWS.values() for row in section}


def rows_with_tests() -> set[str]:
    names = [
        name
        for path in HERE.glob("test_*.py")
        for name in re.findall(r"^(?:async )?def test_([a-z]\d+)_", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    return set(names)


def test_every_row_is_a_test_or_a_listed_difference():
    missing = ALL - rows_with_tests() - DIFFERENCES.keys()
    assert not missing, f"rows without a test: {sorted(missing)}"


def test_no_row_is_both_tested_and_excused():
    assert not rows_with_tests() & DIFFERENCES.keys()


def test_differences_and_tests_name_rows_that_exist():
    assert DIFFERENCES.keys() <= ALL
    assert rows_with_tests() <= ALL


def test_the_list_of_differences_is_short():
    assert len(DIFFERENCES) < 25
