"""What the comparison of stored outputs overlooks, and what it must not overlook."""

from __future__ import annotations

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests import regenerate_notebooks
from tests.regenerate_notebooks import WIDGET_VIEW, essence, keep_equal_outputs, refresh, tidy


def printed(text, name="stdout"):
    return [new_output("stream", name=name, text=text)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("#PID<0.112.0>", "#PID<0.2047.0>"),
        ("(#PID<foo@host.9.0>, 1)", "(#PID<foo@host.10.1>, 1)"),
        ("#Reference<0.1.2.3>", "#Reference<0.4.5.6>"),
        ("13:00:45.332 [error] GenServer", "09:59:01.001 [error] GenServer"),
        ("<object at 0x7f00aa10>", "<object at 0x55d2f1230a80>"),
        ("/tmp/ipykernel_12/345.py:3: in f", "/tmp/ipykernel_99/345678.py:3: in f"),
        ("    /home/me/otplib/vm/machine.py:10: run", "    /work/main/otplib/vm/machine.py:222: run"),
        ("(otplib 0.1.0) otplib/vm/machine.py:7: run", "(otplib 0.1.0) otplib/vm/machine.py:8: run"),
        ("    /home/me/otplib/otplib/process.py:1: f", "    /srv/otplib/process.py:2: f"),
        ("    /usr/lib/python3.11/asyncio/tasks.py:3: f", "    /opt/py/lib/python3.13/asyncio/tasks.py:3: f"),
    ],
)
def test_what_changes_with_the_run_and_the_machine_is_not_compared(one, other):
    assert essence(printed(one)) == essence(printed(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("#PID<0.112.0>", "None"),
        ("(120, 0)", "(120, 1)"),
        ("GenServer 1 terminating", "GenServer 2 terminating"),
        ("took 5 s", "took 6 s"),
        ("/tmp/ipykernel_12/345.py:3: in f", "/tmp/ipykernel_12/345.py:4: in f"),
        ("otplib/vm/machine.py:10: run", "otplib/vm/scheduler.py:10: run"),
        ("/opt/a.py:3: f", "/opt/a.py:4: f"),
        ("1/2 of 3/4", "1/2 of 3/5"),
    ],
)
def test_everything_else_is_compared(one, other):
    assert essence(printed(one)) != essence(printed(other))


def test_the_stream_a_text_went_to_is_compared_and_the_pieces_it_came_in_are_not():
    assert essence(printed("ab")) != essence(printed("ab", name="stderr"))
    assert essence(printed("ab")) == essence([*printed("a"), *printed("b")])


def test_the_exception_of_a_cell_is_compared_and_its_traceback_is_not():
    def raised(value, line):
        return [new_output("error", ename="ValueError", evalue=value, traceback=[line])]

    assert essence(raised("x", "line 1")) == essence(raised("x", "line 2"))
    assert essence(raised("x", "line 1")) != essence(raised("y", "line 1"))


def test_an_output_that_only_looks_different_stays_as_it_was_stored():
    stored = new_notebook(cells=[new_code_cell("self_()", outputs=printed("#PID<0.1.0>")), new_code_cell("1")])
    fresh = new_notebook(cells=[new_code_cell("self_()", outputs=printed("#PID<0.2.0>")), new_code_cell("1")])
    fresh.cells[1].outputs = printed("new")
    assert keep_equal_outputs(stored, fresh) == [1]
    assert fresh.cells[0].outputs == printed("#PID<0.1.0>")
    assert fresh.cells[1].outputs == printed("new")


def test_a_stored_notebook_holds_the_still_of_a_widget_but_no_live_view_and_no_version():
    picture = new_output("display_data", data={WIDGET_VIEW: {"model_id": "1"}, "image/svg+xml": "<svg/>"})
    cell = new_code_cell("tree", outputs=[picture], metadata={"execution": {"iopub.status.busy": "now"}, "tags": ["x"]})
    notebook = new_notebook(cells=[cell], metadata={"widgets": {}, "language_info": {"name": "python", "version": "3"}})
    tidy(notebook)
    assert notebook.cells[0].outputs[0].data == {"image/svg+xml": "<svg/>"}
    assert notebook.cells[0].metadata == {"tags": ["x"]}
    assert notebook.metadata.language_info == {"name": "python"}
    assert "widgets" not in notebook.metadata


def stored_in(path, *cells):
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A title"), *cells]), path)
    return path


def test_refreshing_stores_what_runs_and_checking_then_agrees_and_finds_a_change(tmp_path, capsys):
    path = stored_in(tmp_path / "a.ipynb", new_code_cell("print(1)"), new_code_cell("2 + 2"))
    assert refresh(path, check=False)
    first = path.read_bytes()
    assert refresh(path, check=True)
    assert refresh(path, check=False)
    assert path.read_bytes() == first

    path.write_bytes(first.replace(b'"4"', b'"5"'))
    capsys.readouterr()
    assert not refresh(path, check=True)
    assert "cell 2 shows something else" in capsys.readouterr().out
    assert b'"5"' in path.read_bytes()  # checking writes nothing


@pytest.mark.parametrize("source", ["1 / 0", "%nope"])
def test_a_cell_that_fails_without_being_tagged_is_an_error_and_nothing_is_stored(tmp_path, capsys, source):
    path = stored_in(tmp_path / "a.ipynb", new_code_cell(source))
    before = path.read_bytes()
    assert not refresh(path, check=False)
    assert "a.ipynb: does not run" in capsys.readouterr().out
    assert path.read_bytes() == before


def test_a_cell_that_is_tagged_may_fail(tmp_path):
    path = stored_in(tmp_path / "a.ipynb", new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]}))
    assert refresh(path, check=False)
    assert "ZeroDivisionError" in path.read_text(encoding="utf-8")


def test_no_notebook_at_all_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(regenerate_notebooks, "NOTEBOOKS", tmp_path)
    with pytest.raises(SystemExit):
        regenerate_notebooks.main([])
    assert f"no notebook in {tmp_path}" in capsys.readouterr().err
