"""The `otplib` command: it brings the course to the learner, and nodes to a terminal.

    otplib lab [DIR]    open the course in JupyterLab
    otplib copy DIR     copy the course, keeping whatever the learner has edited
    otplib list         the notebooks, one a line, with their titles
    otplib where        the folder they are in
    otplib node NAME    a terminal that is a node; `names`, `ping`, `rpc` and `epmd` go with it (`cli_node`)
    otplib --version

The notebooks live in `notebooks/` of a checkout (an editable install) and in `otplib/_notebooks/` of a wheel.
A checkout is opened where it stands; from a wheel the course is copied first, since nobody should edit site-packages.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from enum import Enum
from importlib import metadata, util
from pathlib import Path
from typing import NoReturn

from otplib import cli_node

PACKAGE = Path(__file__).resolve().parent

DEFAULT_COPY = Path("otplib-notebooks")
"""Where `otplib lab` of a wheel install puts the course."""

MANIFEST = ".otplib-notebooks.json"
"""File name -> digest of what we wrote there: how an edited file is told from an old one."""

NOT_COPIED = frozenset({"__pycache__", ".ipynb_checkpoints", MANIFEST})

QUIET_LAB = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
"""Without it "Would you like to get notified about Jupyter news?" covers the first notebook (no option removes it)."""


class CommandError(Exception):
    """What the user asked for cannot be done; the text says what to do instead."""


class Copied(Enum):
    """What became of one file of the course."""

    NEW = "new"
    SAME = "unchanged"
    REFRESHED = "brought up to date"
    KEPT = "kept: you edited it (--update replaces it, and saves yours beside it)"
    REPLACED = "replaced; yours is saved beside it"


# ---- where the course is ------------------------------------------------------------------------------------------


def checkout_folder() -> Path | None:
    """The `notebooks/` of the checkout this package is run from, or None in a wheel install."""
    folder = PACKAGE.parent / "notebooks"
    return folder if folder.is_dir() and (PACKAGE.parent / "pyproject.toml").is_file() else None


def course_folder() -> Path:
    """The folder that holds the notebooks as they were shipped; `CommandError` if this install has none."""
    folder = checkout_folder() or PACKAGE / "_notebooks"
    if not folder.is_dir():
        raise CommandError(f"this install of otplib has no notebooks: expected them in {folder}; install it again")
    return folder


def course_files(folder: Path) -> list[Path]:
    """Every file of the course as a path relative to `folder`, in the order of the course."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in files if not NOT_COPIED.intersection(path.parts))


def notebooks_in(folder: Path) -> list[Path]:
    """The notebooks alone, first lesson first; `CommandError` if there are none."""
    notebooks = [path for path in course_files(folder) if path.suffix == ".ipynb"]
    if not notebooks:
        raise CommandError(f"no notebook in {folder}")
    return notebooks


def title_of(notebook: Path) -> str:
    """The first heading of a notebook, or its file name when it has none."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    headings = (line.removeprefix("# ").strip() for part in text for line in part.splitlines() if line.startswith("# "))
    return next(headings, notebook.stem)


# ---- copying it ---------------------------------------------------------------------------------------------------


def copy_course(source: Path, target: Path, *, update: bool = False) -> Iterator[tuple[Path, Copied]]:
    """Copy the course into `target`, file by file, telling what became of each.

    A file the learner has edited stays as it is. With `update` it is replaced, after it was saved beside the new one.
    A file that is still as we wrote it follows the installed version silently.
    """
    if target.exists() and not target.is_dir():
        raise CommandError(f"{target} is a file; name a folder")
    target.mkdir(parents=True, exist_ok=True)
    manifest = target / MANIFEST
    written = _read_manifest(manifest)
    for name in course_files(source):
        outcome = _copy_file(source / name, target / name, written.get(name.as_posix()), update=update)
        if outcome is not Copied.KEPT:
            written[name.as_posix()] = _digest(source / name)
        yield name, outcome
    manifest.write_text(json.dumps(written, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _copy_file(shipped: Path, mine: Path, written: str | None, *, update: bool) -> Copied:
    if not mine.exists():
        outcome = Copied.NEW
    elif (now := _digest(mine)) == _digest(shipped):
        return Copied.SAME
    elif now == written:
        outcome = Copied.REFRESHED
    elif not update:
        return Copied.KEPT
    else:
        mine.rename(_free_name(mine))
        outcome = Copied.REPLACED
    mine.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(shipped, mine)
    return outcome


def _free_name(mine: Path) -> Path:
    """`01.yours.ipynb` beside `01.ipynb`, then `01.yours-2.ipynb` and so on: no saved work is ever lost."""
    number = 1
    while True:
        number_text = "" if number == 1 else f"-{number}"
        saved = mine.with_name(f"{mine.stem}.yours{number_text}{mine.suffix}")
        if not saved.exists():
            return saved
        number += 1


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_manifest(path: Path) -> dict[str, str]:
    """What we wrote last time; a missing or damaged list only means that every file counts as edited."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


# ---- opening it ---------------------------------------------------------------------------------------------------


def lab_command(notebook: Path, *, browser: bool, port: int | None) -> list[str]:
    """The command line that opens `notebook` in the JupyterLab of this very Python."""
    command = [sys.executable, "-m", "jupyterlab", str(notebook)]
    if not browser:
        command.append("--no-browser")
    if port is not None:
        command.append(f"--port={port}")
    # Jupyter refuses to start for root, the only user in most containers. It still listens on loopback, with a token.
    if getattr(os, "geteuid", lambda: 1)() == 0:
        command.append("--allow-root")
    return command


def lab_environment() -> dict[str, str]:
    """Our environment plus a Jupyter configuration that closes the news popup; the user's own comes after it."""
    from jupyter_core.paths import jupyter_runtime_dir

    configuration = Path(jupyter_runtime_dir()) / "otplib"
    page = configuration / "labconfig" / "page_config.json"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(json.dumps(QUIET_LAB) + "\n", encoding="utf-8")
    theirs = os.environ.get("JUPYTER_CONFIG_PATH")
    return {**os.environ, "JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, [str(configuration), theirs]))}


def become(command: list[str], environment: dict[str, str]) -> NoReturn:
    """Turn this process into JupyterLab, so that Ctrl-C and the terminal are Lab's own."""
    sys.stdout.flush()
    if os.name == "nt":  # exec on Windows gives the prompt back while Lab still runs
        sys.exit(subprocess.call(command, env=environment))
    os.execve(command[0], command, environment)


# ---- the subcommands ----------------------------------------------------------------------------------------------


def run_lab(options: argparse.Namespace) -> int:
    """Open the course: in place from a checkout, else from a copy."""
    if util.find_spec("jupyterlab") is None:
        what = '-e ".[lab]"' if checkout_folder() else '"otplib[lab]"'
        raise CommandError(f"JupyterLab is not installed here. Write: pip install {what}")
    folder: Path | None = options.directory or (None if checkout_folder() else DEFAULT_COPY)
    if folder is None:
        folder = course_folder()
    else:
        _report_copy(folder, update=options.update)
    notebook = folder.resolve() / notebooks_in(folder)[0]
    print(f"opening {notebook}")
    become(lab_command(notebook, browser=options.browser, port=options.port), lab_environment())


def run_copy(options: argparse.Namespace) -> int:
    """Copy the course into a folder."""
    _report_copy(options.directory, update=options.update)
    return 0


def run_list(options: argparse.Namespace) -> int:
    """Name the notebooks."""
    folder = course_folder()
    for name in notebooks_in(folder):
        print(f"{name}  {title_of(folder / name)}")
    return 0


def run_where(options: argparse.Namespace) -> int:
    """Name the folder of the course."""
    print(course_folder())
    return 0


def _report_copy(target: Path, *, update: bool) -> None:
    source = course_folder()
    if target.resolve() == source:
        raise CommandError(f"{target} is the course itself; name another folder")
    notebooks_in(source)
    for name, outcome in copy_course(source, target, update=update):
        print(f"{target / name}: {outcome.value}")


def installed_version() -> str:
    """The version of this install. (`from otplib import __version__` would climb to the roof: no floor does that.)"""
    try:
        return metadata.version("otplib")
    except metadata.PackageNotFoundError:
        return "of a checkout that is not installed (pip install -e .)"


def make_parser() -> argparse.ArgumentParser:
    """The command line, one subparser a subcommand."""
    parser = argparse.ArgumentParser(prog="otplib", description="The course of otplib, and nodes for a terminal.")
    parser.add_argument("--version", action="version", version=f"otplib {installed_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    lab = commands.add_parser("lab", help="open the course in JupyterLab")
    lab.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        type=Path,
        help=f"copy the course there first (default: a checkout's own folder, else ./{DEFAULT_COPY})",
    )
    lab.add_argument("--no-browser", dest="browser", action="store_false", help="only print the address")
    lab.add_argument("--port", type=int, help="the port to listen on")
    lab.set_defaults(run=run_lab)

    copy = commands.add_parser("copy", help="copy the course into a folder")
    copy.add_argument("directory", metavar="DIR", type=Path)
    copy.set_defaults(run=run_copy)

    for command in (lab, copy):
        command.add_argument("--update", action="store_true", help="replace edited notebooks too, saving yours")

    commands.add_parser("list", help="name the notebooks").set_defaults(run=run_list)
    commands.add_parser("where", help="name the folder they are in").set_defaults(run=run_where)
    cli_node.add_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the `otplib` command with `arguments` (default: those of the process) and return its exit status."""
    options = make_parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except (CommandError, OSError) as error:
        print(f"otplib: {error}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
