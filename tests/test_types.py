"""Types: the examples pass a strict type checker, wrong servers do not, and the examples do what they say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "tests" / "examples").glob("*.py"))
PATIENCE = 120


def check(*paths, cwd):
    """What mypy says of files, as a user's own configuration would have it: strict, and nothing of ours."""
    environment = {**os.environ, "MYPYPATH": str(ROOT), "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache")}
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-version=3.11", *map(str, paths)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_the_examples_type_check_in_strict_mode_without_a_cast_or_an_ignored_error(tmp_path):
    assert len(EXAMPLES) >= 5
    for path in EXAMPLES:
        text = path.read_text(encoding="utf-8")
        assert "type: ignore" not in text
        assert "cast(" not in text.replace("GenServer.cast(", "").replace("handle_cast(", "")
    result = check(*EXAMPLES, cwd=tmp_path)
    assert (result.returncode, result.stdout.splitlines()[-1:]) == (
        0,
        [f"Success: no issues found in {len(EXAMPLES)} source files"],
    ), result.stdout + result.stderr


WRONG = """
from otplib import Caller, GenServer, NoReply, Ok, Reply

class Counter(GenServer[int]):
    def init(self, arg: int) -> Ok[str]:  # WRONG: [override]
        return Ok("text")

    def handle_call(self, request: str, caller: Caller, count: int) -> Reply[str, int]:
        return Reply(request, "text")  # WRONG: [arg-type]

    def handle_cast(self, request: str, count: str) -> NoReply[int]:  # WRONG: [override]
        return NoReply(1)

    def handle_info(self, message: object, count: int) -> Reply[int, int]:  # WRONG: [override]
        return Reply(1, count)

async def main() -> None:
    await GenServer.call(5, "hello")  # WRONG: [arg-type]
    GenServer.cast("counter")  # WRONG: [call-arg]
"""

RIGHT = '''
from typing import Any

from otplib import Caller, GenServer, NoReply, Ok, Pid, Reply, Supervise, Supervisor

class Bare(GenServer):
    """Says nothing of its state, in strict mode."""
    def init(self, arg: int) -> Ok:
        return Ok({"count": arg})

    async def handle_call(self, request: str, caller: Caller, state: dict[str, int]) -> Reply:
        return Reply(state["count"], state)

    def handle_cast(self, request: str, state: dict[str, int]) -> Any:
        return NoReply(state)

class Named(GenServer[int], restart="transient"):
    @classmethod
    async def start_link(cls, name: str, start: int) -> Pid | None:
        return await super().start_link(start, name=name)

class Tree(Supervisor):
    @classmethod
    async def start_link(cls, name: str) -> Pid | None:
        return await super().start_link(None, name=name)

    def init(self, arg: None) -> Supervise:
        return Supervise([(Bare, 5)], strategy="one_for_one")

async def main() -> int:
    pid = await Bare.start_link(5)
    linked: Pid = await Bare.start(5)
    GenServer.cast(linked, "hi")
    answer: int = await GenServer.call(pid, "count")
    tree = await Supervisor.start_link([(Bare, 5)], strategy="one_for_one")
    await Supervisor.stop(tree)
    return answer
'''


def test_a_server_that_is_wrong_about_its_state_is_told_so_on_the_very_line(tmp_path):
    (tmp_path / "wrong.py").write_text(WRONG, encoding="utf-8")
    result = check("wrong.py", cwd=tmp_path)
    found = {
        (int(line), code)
        for line, code in re.findall(r"^wrong\.py:(\d+): error: .*(\[[a-z-]+\])$", result.stdout, flags=re.MULTILINE)
    }
    expected = {
        (number, line.rpartition("# WRONG: ")[2])
        for number, line in enumerate(WRONG.splitlines(), 1)
        if "# WRONG: " in line
    }
    assert found == expected, result.stdout


def test_servers_that_say_nothing_of_their_state_or_start_in_their_own_way_are_right_too(tmp_path):
    (tmp_path / "right.py").write_text(RIGHT, encoding="utf-8")
    result = check("right.py", cwd=tmp_path)
    assert result.stdout == "Success: no issues found in 1 source file\n", result.stdout + result.stderr


def test_the_marker_that_the_package_is_typed_is_in_the_folder_that_the_wheel_is_made_of():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert settings["targets"]["wheel"]["packages"] == ["otplib"]
    assert (ROOT / "otplib" / "py.typed").is_file()
    assert not any(Path("otplib/py.typed").match(pattern) for pattern in settings["exclude"])


# ---- the examples are run -------------------------------------------------------------------------------------------

OUTPUT = {
    "measured": "loaves: 3\n"
    "Baker.handle_call: 1 times, quick\nBaker.handle_cast: 3 times, slow\nBaker.init: 1 times, quick\n",
    "pubsub": "subscribers: 1 0\n",
    "typed_server": "greet Ann\ngreet Bob\n7 -1\n1 account is left\n",
    "web_app": "/count/tea: 200 2\n/take/tea: 200 1\n/take/tea: 200 0\n"
    '/take/tea: 409 "sold out"\n/nothing: 404 "no such page"\n'
    '/count/spoon: 500 "the server has crashed"\n/count/tea: 200 2\n'
    "most were refused at once: True\nthe shop is closed: None\n",
}


def start(name, *arguments):
    script = ROOT / "tests" / "examples" / f"{name}.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(script), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.parametrize("name", OUTPUT)
def test_an_example_prints_what_it_is_meant_to(name):
    example = start(name)
    out, err = example.communicate(timeout=PATIENCE)
    if name == "pubsub":  # who reads first is open
        first, second, third, rest = out.split("\n", 3)
        assert {first, second} == {"Ann reads of sport: goal!", "Zoé reads of sport: but !"}
        assert third == "Zoé reads of sport: encore un !"
        out = rest
    assert (out, example.returncode) == (OUTPUT[name], 0), err


def test_the_service_around_a_blocking_library_survives_its_errors_and_stops_on_sigterm(tmp_path):
    example = start("blocking_library", str(tmp_path / "visits.db"))
    try:
        lines = []
        while not lines or lines[-1] != "ready\n":
            lines.append(example.stdout.readline())
            assert lines[-1], example.stderr.read()
        assert "".join(lines) == (
            "the database is closed\n"
            'the database has crashed: near "nothing": syntax error\n'
            "it is back, and knows: [('first',)]\n"
            "ready\n"
        )
        example.send_signal(signal.SIGTERM)
        out, err = example.communicate(timeout=PATIENCE)
    finally:
        if example.poll() is None:
            example.kill()
            example.communicate()
    assert (out, example.returncode) == ("the database is closed\nall is down\n", 0), err
    assert 'GenServer "database" terminating' in err


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES} == {*OUTPUT, "blocking_library"}
