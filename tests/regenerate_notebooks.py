"""Run the notebooks and store what they show.

    python -m tests.regenerate_notebooks                    run every notebook, write the outputs that changed
    python -m tests.regenerate_notebooks --check            write nothing; exit 1 where the stored outputs are old
    python -m tests.regenerate_notebooks notebooks/03*      only these

Outputs come from here, never from saving in JupyterLab, which adds the size of the window and the time of day.
Three things are taken out before a notebook is stored:

* views of live widgets: GitHub and a page without a kernel show them as "model not found", and hide the still beside;
* the Python version, execution times and folders of the machine that ran it;
* a change that the comparison does not see (`nbval_sanitize.cfg`): the old text stays, so that a diff shows news only.

Unlike pytest's nbval this also fails for a cell that raises without being tagged `raises-exception`.
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbval.plugin import coalesce_streams, get_sanitize_patterns

from otplib.dist.epmd_server import EpmdServer

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
SANITIZE = ROOT / "tests" / "nbval_sanitize.cfg"
CELL_TIMEOUT = 60

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
NOT_COMPARED = frozenset(
    {"output_type", "metadata", "traceback", "execution_count", "name", WIDGET_VIEW, "image/png", "image/jpeg"}
)
VOLATILE_CELL_METADATA = frozenset({"execution", "ExecuteTime", "collapsed", "scrolled", "trusted", "vscode"})
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}

Notebook = nbformat.NotebookNode


def execute(notebook: Notebook, folder: Path, **environment: str) -> Notebook:
    """A copy of `notebook` with the outputs of a run in a fresh kernel whose working directory is `folder`.

    Nodes that it starts meet each other and nobody else, unless `environment` gives another `ERL_EPMD_PORT`.
    """
    fresh = copy.deepcopy(notebook)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        fresh, timeout=CELL_TIMEOUT, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with EpmdServer(0) as directory:
        names = {"ERL_EPMD_PORT": str(directory.port)}
        # PYTHONPATH: this checkout, also when another otplib is installed.
        client.execute(env={**os.environ, "PYTHONPATH": path, **names, **environment})
    return fresh


def tidy(notebook: Notebook) -> Notebook:
    """Take out whatever belongs to the machine and the moment of the run (in place)."""
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for cell in notebook.cells:
        for key in VOLATILE_CELL_METADATA & cell.metadata.keys():
            del cell.metadata[key]
        if cell.cell_type == "code":
            cell.outputs = [tidy_output(output) for output in coalesce_streams(cell.outputs)]
    return notebook


def tidy_output(output: Notebook) -> Notebook:
    """One output without its widget view and without the folders of this machine."""
    if "data" in output:
        output.data.pop(WIDGET_VIEW, None)
    if output.output_type == "error":
        output.traceback = [line.replace(f"{ROOT}/", "").replace(sys.prefix, "...") for line in output.traceback]
    return output


def essence(outputs: Sequence[Notebook]) -> dict[str, list[Any]]:
    """What nbval compares: for each kind of output its sanitized texts in order."""
    patterns = get_sanitize_patterns(SANITIZE.read_text(encoding="utf-8"))
    found: dict[str, list[Any]] = defaultdict(list)
    for output in coalesce_streams(copy.deepcopy(list(outputs))):
        fields = dict(output.pop("data", {})) | dict(output)
        if output.output_type == "stream":
            fields = {output.name: output.text}
        for kind, value in fields.items():
            if kind in NOT_COMPARED:
                continue
            if isinstance(value, str):
                for regex, replacement in patterns:
                    value = re.sub(regex, replacement, value)
            found[kind].append(value)
    return dict(found)


def keep_equal_outputs(stored: Notebook, fresh: Notebook) -> list[int]:
    """Put stored outputs back into `fresh` where nothing that counts has changed; the numbers of the other cells."""
    changed = []
    for number, (old, new) in enumerate(zip(stored.cells, fresh.cells, strict=True)):
        if new.cell_type != "code":
            continue
        if essence(old.outputs) == essence(new.outputs):
            new.outputs = old.outputs
        else:
            changed.append(number)
    return changed


def refresh(path: Path, *, check: bool) -> bool:
    """Run one notebook and store it, or with `check` only compare; True if the stored outputs were right."""
    stored = nbformat.read(path, as_version=4)
    try:
        fresh = execute(stored, path.parent)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        print(f"{path.name}: does not run\n{error}")
        return False
    changed = keep_equal_outputs(stored, fresh)
    before, after = (nbformat.writes(tidy(notebook)) for notebook in (copy.deepcopy(stored), fresh))
    if check:
        for number in changed:
            print(f"{path.name}: cell {number} shows something else than what is stored")
            print(f"  stored: {essence(stored.cells[number].outputs)}")
            print(f"  now:    {essence(fresh.cells[number].outputs)}")
        if not changed and before != path.read_text(encoding="utf-8").rstrip("\n"):
            print(f"{path.name}: not stored by this script (widget views, versions or times are left in it)")
            return False
    else:
        path.write_text(after + "\n", encoding="utf-8")
    print(f"{path.name}: {len(changed)} of {len(fresh.cells)} cells {'differ' if check else 'changed'}")
    return not (check and changed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the notebooks named in `arguments`, or all; 0 when they ran and, with --check, showed what is stored."""
    parser = argparse.ArgumentParser(prog="python -m tests.regenerate_notebooks")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on a difference")
    parser.add_argument("notebooks", nargs="*", type=Path)
    options = parser.parse_args(arguments)
    paths = options.notebooks or sorted(NOTEBOOKS.glob("*.ipynb"))
    if not paths:
        parser.error(f"no notebook in {NOTEBOOKS}")
    right = [refresh(path.resolve(), check=options.check) for path in paths]
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
