"""The `otplib` command, run as a learner runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from otplib import cli

ROOT = Path(__file__).resolve().parent.parent


def notebook(*cells: tuple[str, str]) -> str:
    content = [{"cell_type": kind, "metadata": {}, "source": [source]} for kind, source in cells]
    return json.dumps({"cells": content, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


FIRST = notebook(("markdown", "some words\n\n# Processes talk\n"), ("code", "1 + 1"))
SECOND = notebook(("code", "# not a heading\n2 + 2"))


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A wheel install with two notebooks and a picture, in a working directory of its own."""
    package = tmp_path / "site-packages" / "otplib"
    folder = package / "_notebooks"
    (folder / "pictures").mkdir(parents=True)
    (folder / "02_second.ipynb").write_text(SECOND, encoding="utf-8")
    (folder / "01_first.ipynb").write_text(FIRST, encoding="utf-8")
    (folder / "pictures" / "tree.svg").write_text("<svg/>", encoding="utf-8")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "01_first-checkpoint.ipynb").write_text(SECOND, encoding="utf-8")
    monkeypatch.setattr(cli, "PACKAGE", package)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return folder


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """What `otplib lab` would turn itself into: (command, environment)."""
    calls = []
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setattr(cli, "become", lambda command, environment: calls.append((command, environment)))
    return calls


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# ---- copy ---------------------------------------------------------------------------------------------------------


def test_copy_brings_the_notebooks_and_their_pictures_but_no_leftovers(course):
    assert cli.main(["copy", "mine"]) == 0
    assert files_below(Path("mine")) == {"01_first.ipynb", "02_second.ipynb", "pictures/tree.svg", cli.MANIFEST}
    assert Path("mine/01_first.ipynb").read_text(encoding="utf-8") == FIRST


def test_copying_twice_changes_nothing(course, capsys):
    cli.main(["copy", "mine"])
    capsys.readouterr()
    assert cli.main(["copy", "mine"]) == 0
    assert capsys.readouterr().out.count(": unchanged") == 3


def test_an_edited_notebook_is_kept_and_named(course, capsys):
    cli.main(["copy", "mine"])
    Path("mine/01_first.ipynb").write_text("my work", encoding="utf-8")
    assert cli.main(["copy", "mine"]) == 0
    assert Path("mine/01_first.ipynb").read_text(encoding="utf-8") == "my work"
    assert "01_first.ipynb: kept: you edited it" in capsys.readouterr().out


def test_an_edited_notebook_is_still_kept_after_a_new_version_of_the_course(course):
    cli.main(["copy", "mine"])
    Path("mine/01_first.ipynb").write_text("my work", encoding="utf-8")
    for _ in range(2):  # the refusal must not be recorded as a file of ours
        (course / "01_first.ipynb").write_text(SECOND, encoding="utf-8")
        cli.main(["copy", "mine"])
    assert Path("mine/01_first.ipynb").read_text(encoding="utf-8") == "my work"


def test_a_notebook_nobody_touched_follows_the_installed_version(course, capsys):
    cli.main(["copy", "mine"])
    (course / "01_first.ipynb").write_text(SECOND, encoding="utf-8")
    assert cli.main(["copy", "mine"]) == 0
    assert Path("mine/01_first.ipynb").read_text(encoding="utf-8") == SECOND
    assert "01_first.ipynb: brought up to date" in capsys.readouterr().out


def test_update_replaces_an_edited_notebook_and_never_loses_the_work(course):
    cli.main(["copy", "mine"])
    for work in ("first try", "second try"):
        Path("mine/01_first.ipynb").write_text(work, encoding="utf-8")
        assert cli.main(["copy", "--update", "mine"]) == 0
    assert Path("mine/01_first.ipynb").read_text(encoding="utf-8") == FIRST
    assert Path("mine/01_first.yours.ipynb").read_text(encoding="utf-8") == "first try"
    assert Path("mine/01_first.yours-2.ipynb").read_text(encoding="utf-8") == "second try"


@pytest.mark.parametrize("damage", ["not json", "[]", ""])
def test_a_damaged_list_of_copied_files_makes_every_file_count_as_edited(course, damage):
    cli.main(["copy", "mine"])
    Path("mine", cli.MANIFEST).write_text(damage, encoding="utf-8")
    (course / "01_first.ipynb").write_text(SECOND, encoding="utf-8")
    assert cli.main(["copy", "mine"]) == 0
    assert Path("mine/01_first.ipynb").read_text(encoding="utf-8") == FIRST


def test_a_file_in_the_place_of_the_folder_is_refused_in_one_line(course, capsys):
    Path("mine").write_text("a shopping list", encoding="utf-8")
    assert cli.main(["copy", "mine"]) == 1
    assert capsys.readouterr().err == "otplib: mine is a file; name a folder\n"


def test_the_course_is_not_copied_onto_itself(course, capsys):
    assert cli.main(["copy", str(course)]) == 1
    assert "is the course itself" in capsys.readouterr().err


# ---- list, where, --version ---------------------------------------------------------------------------------------


def test_list_names_each_notebook_with_its_first_heading_or_its_file_name(course, capsys):
    assert cli.main(["list"]) == 0
    assert capsys.readouterr().out == "01_first.ipynb  Processes talk\n02_second.ipynb  02_second\n"


def test_where_names_the_folder_of_a_wheel_install(course, capsys):
    assert cli.main(["where"]) == 0
    assert capsys.readouterr().out == f"{course}\n"


def test_where_names_the_notebooks_of_a_checkout(capsys):
    assert cli.main(["where"]) == 0
    assert capsys.readouterr().out == f"{ROOT / 'notebooks'}\n"


def test_an_install_without_notebooks_says_where_they_should_be(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "PACKAGE", tmp_path / "otplib")
    assert cli.main(["list"]) == 1
    assert str(tmp_path / "otplib" / "_notebooks") in capsys.readouterr().err


@pytest.mark.parametrize("installed", [True, False])
def test_version_is_that_of_the_install_or_says_that_there_is_none(monkeypatch, capsys, installed):
    def version(name):
        if not installed:
            raise cli.metadata.PackageNotFoundError(name)
        return "4.5.6"

    monkeypatch.setattr(cli.metadata, "version", version)
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    told = "4.5.6" if installed else "of a checkout that is not installed (pip install -e .)"
    assert capsys.readouterr().out == f"otplib {told}\n"


@pytest.mark.parametrize("arguments", [[], ["dance"], ["copy"], ["lab", "--port", "many"]])
def test_a_wrong_command_line_is_answered_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "usage: otplib" in capsys.readouterr().err


# ---- lab ----------------------------------------------------------------------------------------------------------


def test_lab_of_a_wheel_install_copies_the_course_and_opens_its_first_notebook(course, launched):
    cli.main(["lab"])
    [(command, _)] = launched
    assert command[:4] == [sys.executable, "-m", "jupyterlab", str(Path("otplib-notebooks/01_first.ipynb").resolve())]
    assert Path("otplib-notebooks/02_second.ipynb").is_file()


def test_lab_of_a_checkout_opens_the_notebooks_where_they_are(launched, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(["lab"])
    [(command, _)] = launched
    assert Path(command[3]).parent == ROOT / "notebooks"
    assert files_below(tmp_path) <= {"runtime/otplib/labconfig/page_config.json"}


def test_lab_with_a_folder_copies_into_it_and_keeps_edited_work(course, launched):
    cli.main(["lab", "mine"])
    Path("mine/02_second.ipynb").write_text("my work", encoding="utf-8")
    cli.main(["lab", "mine"])
    assert Path("mine/02_second.ipynb").read_text(encoding="utf-8") == "my work"


def test_lab_passes_its_options_on(course, launched):
    cli.main(["lab", "--no-browser", "--port", "8899"])
    [(command, _)] = launched
    assert "--no-browser" in command
    assert "--port=8899" in command


@pytest.mark.parametrize(("user", "expected"), [(0, True), (1000, False)])
def test_lab_allows_root_only_to_root(course, launched, monkeypatch, user, expected):
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    cli.main(["lab"])
    [(command, _)] = launched
    assert ("--allow-root" in command) is expected


def test_lab_keeps_the_users_own_jupyter_configuration_behind_ours(course, launched, monkeypatch, tmp_path):
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/home/me/jupyter")
    cli.main(["lab"])
    [(_, environment)] = launched
    ours = str(tmp_path / "runtime" / "otplib")
    assert environment["JUPYTER_CONFIG_PATH"].split(os.pathsep) == [ours, "/home/me/jupyter"]


def test_without_jupyterlab_the_command_says_how_to_get_it(course, launched, monkeypatch, capsys):
    monkeypatch.setattr(cli.util, "find_spec", lambda name: None)
    assert cli.main(["lab"]) == 1
    assert 'pip install "otplib[lab]"' in capsys.readouterr().err
    assert launched == []
    assert not Path("otplib-notebooks").exists()


def wait_for_server(runtime: Path, lab: subprocess.Popen) -> dict:
    """The address and token JupyterLab writes down once it listens (it tells nobody else, so we look)."""
    end = time.monotonic() + 60
    while time.monotonic() < end and lab.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            try:
                info = json.loads(path.read_text(encoding="utf-8"))
                urllib.request.urlopen(f"{info['url']}api/status?token={info['token']}", timeout=10).close()
            except (OSError, ValueError):
                continue  # the file is half written, or the port is not open yet
            return info
        time.sleep(0.05)
    pytest.fail(f"JupyterLab did not start (exit status {lab.poll()})")


def test_the_readme_command_opens_a_real_jupyterlab_on_the_first_notebook(tmp_path):
    runtime = tmp_path / "runtime"
    environment = {**os.environ, "JUPYTER_RUNTIME_DIR": str(runtime)}
    command = [sys.executable, "-m", "otplib.cli", "lab", str(tmp_path / "mine"), "--no-browser"]
    output = tmp_path / "output.txt"
    with output.open("wb") as stream:
        streams = {"stdin": subprocess.DEVNULL, "stdout": stream, "stderr": stream}
        lab = subprocess.Popen(command, env=environment, cwd=tmp_path, **streams)
    try:
        info = wait_for_server(runtime, lab)
        assert info["pid"] == lab.pid  # it became JupyterLab, and did not start one beside itself
        first = cli.notebooks_in(cli.course_folder())[0].name
        page = urllib.request.urlopen(f"{info['url']}lab/tree/{first}?token={info['token']}", timeout=30)
        with page:
            text = page.read().decode()
        assert page.status == 200
        data = re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', text, flags=re.DOTALL)[1]
        assert "@jupyterlab/apputils-extension:announcements" in str(json.loads(data)["disabledExtensions"])
        content = urllib.request.urlopen(f"{info['url']}api/contents/{first}?token={info['token']}", timeout=30)
        with content:
            assert json.load(content)["type"] == "notebook"
    finally:
        lab.send_signal(signal.SIGTERM)
        lab.wait(timeout=30)
    assert f"opening {tmp_path / 'mine' / first}" in output.read_text(encoding="utf-8")
