"""Every program of `python -m tests.benchmarks` runs, at a tiny size, and gives figures. No figure is judged here."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import main
from tests.benchmarks.catalogue import MEASURES, Measure, Row, find_measures
from tests.benchmarks.harness import HERE, Result, has_elixir, run_once
from tests.benchmarks.table import as_data, draw_table, show_ratio, show_value

SCRIPTS = sorted({measure.script for measure in MEASURES if measure.script is not None})


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_a_program_on_otplib_gives_finite_positive_figures(measure: Measure) -> None:
    assert set(run_once("otplib", measure, measure.tiny)) == {row.figure for row in measure.rows}


def test_every_bare_program_gives_finite_positive_figures() -> None:
    for measure in MEASURES:
        if measure.bare:
            assert run_once("bare", measure, max(measure.tiny, 20))


@pytest.mark.skipif(not has_elixir(), reason="elixir is not installed")
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_for_the_beam_gives_every_figure_of_its_measures(script: str) -> None:
    measures = [measure for measure in MEASURES if measure.script == script]
    command = ["elixir", str(HERE / script), *(f"{measure.name}:{measure.tiny}" for measure in measures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    given = {tuple(line.split()[:2]): float(line.split()[2]) for line in done.stdout.splitlines()}
    assert set(given) == {(measure.name, row.figure) for measure in measures for row in measure.rows}


def test_a_program_that_fails_is_shown_and_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Measure("no_such_program", (Row("rate", "broken", "/s"),), 1, 1, 1, bare=False)
    monkeypatch.setattr("tests.benchmarks.__main__.find_measures", lambda words: [broken])
    assert main(["--repeat", "1", "--no-beam"]) == 1
    table = capsys.readouterr().out
    assert re.search(r"^broken +failed", table, re.MULTILINE)
    assert "no_such_program on otplib failed: exit code 1: KeyError: 'no_such_program'" in table


def test_the_table_holds_a_line_for_each_row_and_the_file_all_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    assert main(["--quick", "--repeat", "1", "--no-beam", "--only", "link_", "--json", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith(("link chain", "star of"))] == [
        "link chain of 10,000 gone",
        "star of 10,000 links gone",
    ]
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert [len(row["runs"]["otplib"]) for row in rows] == [1, 1]


def test_a_target_is_reached_from_above_by_rates_and_from_below_by_all_others() -> None:
    rate, late = Row("rate", "calls", "/s", 120_000), Row("p99", "late", "ms", 20)
    assert [rate.reached(120_000), rate.reached(119_999), late.reached(20), late.reached(20.1)] == [
        True,
        False,
        True,
        False,
    ]
    assert Row("us", "no target", "us").reached(1) is None


def test_the_target_for_a_million_is_not_reached_by_a_few() -> None:
    measure = Measure("m", (Row("spawn", "spawn {n}", "s", 12.0, in_full=True),), 1_000_000, 50_000, 1)
    few, many = (Result(measure, size, {"otplib": [{"spawn": 3.0}]}) for size in (50_000, 1_000_000))
    assert [few.reached(measure.rows[0]), many.reached(measure.rows[0])] == [None, True]
    assert "12 s" not in draw_table([few])
    assert draw_table([many]).splitlines()[-1].split()[-4:] == ["<=", "12", "s", "ok"]


def test_a_share_of_the_beams_figure_is_the_target_in_the_same_run_and_none_without_a_beam() -> None:
    measure = Measure("m", (Row("rate", "two nodes: calls", "MB/s", of_beam=0.25),), 1, 1, 1, "m.exs", False)
    ours = {"otplib": [{"rate": 30.0}]}
    enough, short, alone = (
        Result(measure, 1, {**ours, **beam}) for beam in ({"BEAM": [{"rate": 120.0}]}, {"BEAM": [{"rate": 121.0}]}, {})
    )
    assert [result.reached(measure.rows[0]) for result in (enough, short, alone)] == [True, False, None]
    assert draw_table([enough]).splitlines()[-1].split()[-4:] == [">=", "30", "MB/s", "ok"]


def test_the_median_and_both_ratios_stand_beside_a_figure() -> None:
    measure = Measure("x", (Row("rate", "calls", "/s", 150_000),), 1, 1, 1, "x.exs")
    runs = {"otplib": [{"rate": r} for r in (1e5, 2e5, 9e5)], "bare": [{"rate": 8e5}], "BEAM": [{"rate": 1e5}]}
    result = Result(measure, 1, runs)
    assert draw_table([result]).splitlines()[-1].split() == [
        *("calls", "200", "k/s", "800", "k/s", "100", "k/s", "0.25x", "2x", ">=", "150", "k/s", "ok")
    ]
    assert as_data([result])[0]["medians"] == {"otplib": 2e5, "bare": 8e5, "BEAM": 1e5}


def test_figures_are_written_with_about_three_digits() -> None:
    shown = [show_value(v, u) for v, u in ((212345.0, "/s"), (1.5e6, "/s"), (1249.6, "B"), (0.0123, "ms"), (None, "s"))]
    assert shown == ["212 k/s", "1.50 M/s", "1,250 B", "0.012 ms", "-"]
    assert [show_ratio(1, 3), show_ratio(1000, 2), show_ratio(1, None)] == ["0.33x", "500x", "-"]


def test_an_unknown_name_is_refused_with_the_names_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no benchmark is called 'pong'; there are: spawn_exit, "):
        find_measures(["pong"])
    with pytest.raises(SystemExit):
        main(["--only", "pong"])
    assert "no benchmark is called 'pong'" in capsys.readouterr().err


def test_the_list_names_every_measure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [one.name for one in MEASURES]
