"""The house rules: what stands where, how long a file may be, and that the README tells the truth."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
SOURCES = sorted((ROOT / "otplib").rglob("*.py"))

FOLDERS = {"binder", "notebooks", "otplib", "tests"}
FILES = {"LICENSE", "README.md", "pyproject.toml"}

FILE_LIMIT = 600
FUNCTION_LIMIT = 60


def blocks(language: str) -> list[str]:
    """The fenced blocks of the README in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def run_python(*arguments: str, cwd: Path = ROOT, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


def tracked_files() -> list[str]:
    """What git would deliver; outside a clone whatever is here and is not a cache."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listing.returncode == 0:
        return [name for name in listing.stdout.splitlines() if (ROOT / name).exists()]
    return [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()]


def test_pytest_looks_into_every_folder_that_holds_tests_or_code(pytestconfig):
    """Its own list of folders to pass by has "dist" in it: for a while nobody saw that ours was never tested."""
    passed_by = pytestconfig.getini("norecursedirs")
    folders = {parent for name in tracked_files() for parent in Path(name).parents if parent.parts[:1] > ("binder",)}
    assert {str(one) for one in folders if any(one.match(pattern) for pattern in passed_by)} == set()


# ---- the rooms ----------------------------------------------------------------------------------------------------


def test_the_top_level_holds_what_was_agreed_and_dot_files():
    tops = {name.split("/", 1)[0] for name in tracked_files()}
    visible = {name for name in tops if not name.startswith(".")}
    assert visible - FOLDERS - FILES == set()
    assert {name for name in FOLDERS | FILES if not (ROOT / name).exists()} == set()


def test_no_file_made_by_running_things_is_delivered():
    made = re.compile(r"(^|/)(__pycache__|\.ipynb_checkpoints|\.hypothesis|\.[a-z_]+_cache)/|\.pyc$")
    assert [name for name in tracked_files() if made.search(name)] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_and_its_functions_are_short_enough_to_be_read(path):
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    assert lines < FILE_LIMIT
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    long = {node.name: code_lines(node) for node in functions if code_lines(node) >= FUNCTION_LIMIT}
    assert long == {}


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function without its docstring: the manual may be as long as it must."""
    docstring = function.body[0] if ast.get_docstring(function, clean=False) is not None else None
    manual = docstring.end_lineno - docstring.lineno + 1 if docstring else 0
    return function.end_lineno - function.lineno + 1 - manual


def test_every_folder_of_the_package_is_on_its_floor_and_knows_only_lower_ones():
    result = run_python("-c", "from importlinter.cli import lint_imports_command as main; main(['--no-cache'])")
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"Contracts: 3 kept, 0 broken", result.stdout), result.stdout


def test_only_one_file_yields():
    """Every suspension of the engine stands in vm/traps.py, so a process can be stopped only where that file says."""
    yielding = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        if path.parent.name == "vm" and "types.coroutine" in path.read_text(encoding="utf-8")
    }
    assert yielding <= {"otplib/vm/traps.py"}


# ---- the public face ----------------------------------------------------------------------------------------------


def public_names() -> list[str]:
    import otplib

    return list(otplib.__all__)


def module_names() -> set[str]:
    """The last part of every module's name in the package."""
    named = {path.stem for path in SOURCES} | {path.parent.name for path in SOURCES if path.stem == "__init__"}
    return named - {"__init__", "otplib"}


def test_every_public_name_is_there_once():
    import otplib

    names = public_names()
    assert [name for name in names if not hasattr(otplib, name)] == []
    assert sorted(names) == sorted(set(names))


def test_no_public_name_hides_a_module():
    """`from otplib import process` is the module itself: a name that equals a module's must be that very module."""
    import otplib

    hiding = []
    for name in set(public_names()) & module_names():
        value = getattr(otplib, name)
        if not (isinstance(value, types.ModuleType) and value.__name__.rsplit(".", 1)[-1] == name):
            hiding.append(name)
    assert hiding == []


def test_every_public_name_has_a_docstring():
    import otplib

    missing = [
        name
        for name in public_names()
        if (callable(value := getattr(otplib, name)) or isinstance(value, types.ModuleType))
        and not (value.__doc__ or "").strip()
    ]
    assert missing == []


def test_the_version_is_the_same_in_both_places():
    import otplib

    assert otplib.__version__ == PYPROJECT["project"]["version"]


def test_the_package_ships_its_types():
    assert (ROOT / "otplib" / "py.typed").is_file()


def test_importing_starts_no_thread_and_brings_no_notebook_along():
    program = """
import sys, threading
import otplib
foreign = {"IPython", "ipykernel", "ipywidgets", "jupyter_client", "traitlets"} & sys.modules.keys()
print(threading.active_count(), sorted(foreign))
"""
    result = run_python("-W", "error", "-c", program)
    assert (result.stdout, result.stderr) == ("1 []\n", "")


def test_every_module_can_be_the_first_that_is_imported():
    """No import circle that works only in one order. The notebook floor is left out: it wants a kernel's packages."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in SOURCES
        if "jupyter" not in path.parts
    ]
    program = "import sys, importlib\nfor name in sys.argv[1:]: importlib.import_module(name)"
    for name in modules:
        assert importlib.import_module(name)
    result = run_python("-W", "error", "-c", program, *reversed(modules))
    assert result.returncode == 0, result.stderr


# ---- the README ---------------------------------------------------------------------------------------------------


def test_the_readme_has_exactly_two_commands_one_for_the_course_and_one_for_the_tests():
    assert blocks("bash") == [
        'pip install -e ".[lab]" && otplib lab\n',
        'pip install -e ".[lab,test]" && pytest\n',
    ]


def test_the_extras_and_the_command_that_the_readme_names_exist():
    assert PYPROJECT["project"]["scripts"] == {"otplib": "otplib.cli:main"}
    assert PYPROJECT["project"]["optional-dependencies"].keys() == {"lab", "test"}
    assert PYPROJECT["project"]["dependencies"] == ["cloudpickle>=3.0"]


def test_the_readme_example_prints_what_the_readme_says(tmp_path):
    [program], [expected] = blocks("python"), blocks("text")
    script = tmp_path / "example.py"
    script.write_text(program, encoding="utf-8")
    result = run_python("-W", "error", str(script), cwd=tmp_path)
    assert result.stdout == expected
    assert 'GenServer "1" terminating' in result.stderr
    assert result.returncode == 0


def test_every_link_of_the_readme_leads_somewhere():
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert len(targets) >= 5
    assert [name for name in targets if not name.startswith("https://") and not (ROOT / name).exists()] == []


def test_what_the_readme_calls_on_the_way_is_not_here_yet():
    """When one of these arrives, the README must stop saying that it is missing."""
    missing = README.partition("## On the way")[2].partition("## License")[0]
    assert [name for name in public_names() if re.search(rf"`{re.escape(name)}`", missing)] == []


# ---- the tools ----------------------------------------------------------------------------------------------------


def test_every_lint_rule_that_is_turned_off_has_its_reason_beside_it():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ignored = text.partition("\nignore = [\n")[2].partition("\n]")[0].splitlines()
    assert len(ignored) == len(PYPROJECT["tool"]["ruff"]["lint"]["ignore"])
    assert [line for line in ignored if not re.fullmatch(r' +"[A-Z]+\d+", +# \S.{4,}', line)] == []


def test_plain_pytest_runs_the_tests_the_doctests_and_the_notebooks_with_warnings_as_errors():
    options = PYPROJECT["tool"]["pytest"]["ini_options"]
    assert options["testpaths"] == ["tests", "otplib", "notebooks"]
    assert {"--doctest-modules", "--nbval"} <= set(options["addopts"])
    assert "--nbval-lax" not in options["addopts"]
    assert options["filterwarnings"] == ["error"]


def test_the_interpreters_of_ci_are_the_oldest_we_promise_and_a_newer_one():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0
    text = script.read_text(encoding="utf-8")
    oldest = PYPROJECT["project"]["requires-python"].removeprefix(">=")
    assert f"OLDEST={oldest}\n" in text
    assert "README.md" in text  # the command is read from there, not written twice
    assert "pip install -e" not in text


def test_binder_installs_the_extra_that_opens_the_course_on_a_python_we_test():
    lines = (ROOT / "binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == ["-e .[lab]"]
    runtime = (ROOT / "binder" / "runtime.txt").read_text(encoding="utf-8").strip()
    assert f"Programming Language :: Python :: {runtime.removeprefix('python-')}" in PYPROJECT["project"]["classifiers"]
    assert {path.name for path in (ROOT / "binder").iterdir()} == {"requirements.txt", "runtime.txt"}


def test_the_course_needs_a_kernel_that_can_route_output_to_its_cell():
    lab = PYPROJECT["project"]["optional-dependencies"]["lab"]
    assert "ipykernel>=7.4,<8" in lab


# ---- the notebooks ------------------------------------------------------------------------------------------------

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_with_outputs_and_without_traces_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    assert str(ROOT) not in text
    assert "widget-view+json" not in text
    assert set(content["metadata"]) == {"kernelspec", "language_info"}
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    assert [cell["source"] for cell in code if cell["execution_count"] is None] == []
    assert any(cell["outputs"] for cell in code)


def test_there_is_a_course():
    assert NOTEBOOKS
