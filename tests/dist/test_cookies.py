"""Cookies: where they come from, who may read them, and that nothing shows them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from otplib.core.errors import NodeError
from otplib.dist import cookies
from otplib.dist.cookies import FILE_NAME, CookieFileError, CookieJar, cookie_files, find_cookie
from otplib.dist.handshake import Cookie
from tests.dist.beam import LIMIT, needs_beam, our_epmd

posix_only = pytest.mark.skipif(os.name != "posix", reason="rights of files as on POSIX")


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))
    return path


# ---- reading ------------------------------------------------------------------------------------------------------


def test_a_cookie_that_is_given_counts_and_nothing_is_read_or_made(tmp_path):
    assert find_cookie("monster", home=tmp_path) == Cookie("monster")
    given = Cookie("monster")
    assert find_cookie(given, home=tmp_path) is given
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"ABCDEF", "ABCDEF"),
        (b"ABCDEF\n", "ABCDEF"),
        (b"ABCDEF\r\n \n", "ABCDEF"),
        (b" with blanks ", " with blanks "),
        (b"~!@#$%^&*()\n", "~!@#$%^&*()"),
        (b"x" * 255, "x" * 255),
    ],
)
def test_the_content_of_the_file_is_taken_as_a_beam_takes_it(tmp_path, content, expected):
    write(tmp_path / FILE_NAME, content)
    assert find_cookie(home=tmp_path) == Cookie(expected)


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"t\xc3\xa4st", b"\0secret", b"tab\there", b"x" * 256])
def test_a_file_without_a_cookie_is_refused_without_showing_what_it_holds(tmp_path, content):
    path = write(tmp_path / FILE_NAME, content)
    with pytest.raises(CookieFileError, match=r"holds no cookie: expected one line") as caught:
        find_cookie(home=tmp_path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, NodeError)
    for word in ("two", "lines", "secret", "here", "xxx"):
        assert word not in str(caught.value)


@posix_only
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o777])
def test_a_file_that_others_may_use_is_refused_and_the_command_that_helps_is_named(tmp_path, mode):
    path = write(tmp_path / FILE_NAME, b"SECRETSECRET", mode)
    with pytest.raises(CookieFileError) as caught:
        find_cookie(home=tmp_path)
    assert f"chmod 600 {path}" in str(caught.value)
    assert f"{mode:04o}" in str(caught.value)
    assert "SECRETSECRET" not in str(caught.value)
    path.chmod(0o600)
    assert find_cookie(home=tmp_path) == Cookie("SECRETSECRET")


@posix_only
@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_file_for_its_owner_alone_is_taken_and_left_as_it_is(tmp_path, mode):
    path = write(tmp_path / FILE_NAME, b"SECRET\n", mode)
    assert find_cookie(home=tmp_path) == Cookie("SECRET")
    assert path.read_bytes() == b"SECRET\n"
    assert path.stat().st_mode & 0o777 == mode


@posix_only
def test_what_is_no_file_is_refused_at_once_and_nothing_hangs(tmp_path):
    folder = tmp_path / "folder"
    (folder / FILE_NAME).mkdir(parents=True)
    pipe = tmp_path / "pipe"
    pipe.mkdir()
    os.mkfifo(pipe / FILE_NAME, 0o600)
    for home in (folder, pipe):
        with pytest.raises(CookieFileError, match=r"is no file that could hold a cookie"):
            find_cookie(home=home)


@posix_only
def test_a_link_to_the_real_file_is_followed(tmp_path):
    target = write(tmp_path / "elsewhere", b"SECRET")
    (tmp_path / FILE_NAME).symlink_to(target)
    assert find_cookie(home=tmp_path) == Cookie("SECRET")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the folder is another one there")
def test_the_place_in_the_configuration_comes_second_and_a_new_cookie_goes_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    home, config = tmp_path / "home" / FILE_NAME, tmp_path / "config" / "erlang" / FILE_NAME
    assert cookie_files() == [home, config]
    config.parent.mkdir(parents=True)
    write(config, b"OFCONFIG")
    assert find_cookie() == Cookie("OFCONFIG")
    assert not home.exists()
    home.parent.mkdir()
    write(home, b"OFHOME")
    assert find_cookie() == Cookie("OFHOME")
    home.unlink()
    config.unlink()
    made = find_cookie()
    assert home.exists()
    assert not config.exists()
    assert find_cookie() == made
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert cookie_files() == [home, tmp_path / "home" / ".config" / "erlang" / FILE_NAME]


def test_a_user_without_a_home_is_told_what_to_do(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("APPDATA", raising=False)
    with pytest.raises(CookieFileError, match=r"set HOME, or give cookie="):
        find_cookie()


# ---- making -------------------------------------------------------------------------------------------------------


def test_the_first_use_makes_a_cookie_for_its_owner_alone_and_leaves_nothing_else(tmp_path):
    made = find_cookie(home=tmp_path)
    [path] = tmp_path.iterdir()
    assert path.name == FILE_NAME
    text = path.read_text(encoding="ascii")
    assert made == Cookie(text)
    assert len(text) == 20
    assert text.isupper()
    assert text.isalpha()
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
    assert find_cookie(home=tmp_path) == made


def test_two_users_get_different_cookies(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert find_cookie(home=tmp_path / "a") != find_cookie(home=tmp_path / "b")


def test_many_that_start_at_once_agree_on_one_cookie(tmp_path):
    program = (
        "import sys; from pathlib import Path; from otplib.dist.cookies import find_cookie; input(); "
        "print(find_cookie(home=Path(sys.argv[1])).digest(1).hex())"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for one in started:
        one.stdin.write("go\n")
    for one in started:
        one.stdin.flush()
    answers = {one.communicate(timeout=LIMIT)[0].strip() for one in started}
    assert answers == {find_cookie(home=tmp_path).digest(1).hex()}
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_where_files_cannot_be_linked_the_one_who_is_late_still_reads_the_first_ones_cookie(tmp_path, monkeypatch):
    def no_links(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    made = find_cookie(home=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    path = tmp_path / FILE_NAME
    assert made == Cookie(path.read_text(encoding="ascii"))
    cookies._make(path)  # the loser of the race: it had looked before the file was there
    assert find_cookie(home=tmp_path) == made


@posix_only
def test_a_file_that_a_beam_is_just_making_is_waited_for(tmp_path):
    # A BEAM creates it empty and readable for all, writes into it, and only then takes the rights away.
    path = tmp_path / FILE_NAME
    path.touch()
    path.chmod(0o644)

    def finish():
        with path.open("wb") as stream:
            stream.write(b"OFTHEBEAM")
        path.chmod(0o400)

    later = threading.Timer(0.1, finish)
    later.start()
    try:
        assert find_cookie(home=tmp_path) == Cookie("OFTHEBEAM")
    finally:
        later.join()


def test_where_no_file_can_be_read_or_made_the_error_says_to_give_a_cookie(tmp_path, monkeypatch):
    home = write(tmp_path / "a_file", b"")
    with pytest.raises(CookieFileError, match=r"cannot (read|make) .* Give one: cookie=\.\.\."):
        find_cookie(home=home / "below")

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(CookieFileError, match=r"cannot make .*: Permission denied\. Give one: cookie=\.\.\."):
        find_cookie(home=tmp_path)


# ---- the jar ------------------------------------------------------------------------------------------------------


def test_a_node_with_a_cookie_of_its_own_gets_it_and_all_others_the_default():
    jar = CookieJar(Cookie("ours"))
    jar.set("bar@host", Cookie("theirs"))
    assert jar.cookie_for("bar@host") == Cookie("theirs")
    assert jar.cookie_for("foo@host") == Cookie("ours")
    jar.default = Cookie("new")
    assert jar.cookie_for("foo@host") == Cookie("new")
    assert jar.cookie_for("bar@host") == Cookie("theirs")


# ---- a BEAM reads ours, and we read a BEAM's ----------------------------------------------------------------------


def beam_cookie(home: Path, epmd_port: int) -> str:
    """Start a node of a BEAM whose home is `home`; the cookie that it then has."""
    done = subprocess.run(
        [
            *("erl", "-noshell", "-start_epmd", "false", "-sname", "cookie_test@localhost"),
            *("-eval", 'io:format("cookie ~s~n", [erlang:get_cookie()]), halt().'),
        ],
        env={**os.environ, "HOME": str(home), "ERL_EPMD_PORT": str(epmd_port)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    [line] = [line for line in done.stdout.splitlines() if line.startswith("cookie ")]
    return line.removeprefix("cookie ")


@needs_beam
def test_a_beam_takes_the_cookie_that_we_made(tmp_path):
    made = find_cookie(home=tmp_path)
    with our_epmd() as port:
        assert Cookie(beam_cookie(tmp_path, port)) == made


@needs_beam
def test_we_take_the_cookie_that_a_beam_made(tmp_path):
    with our_epmd() as port:
        text = beam_cookie(tmp_path, port)
    assert find_cookie(home=tmp_path) == Cookie(text)
