"""The cookies of a node: where the shared secret comes from, and which node gets which.

Two nodes connect if they have the same cookie. A BEAM and we read the same file, so on one machine it needs no setup:
whoever is first makes it.

    given             node.start("foo", cookie="monster"), as `--cookie` and `-setcookie`
    file              ~/.erlang.cookie, else ~/.config/erlang/.erlang.cookie ($XDG_CONFIG_HOME)
    made on first use 20 random letters in ~/.erlang.cookie, for its owner alone

A file that others may read is refused, as a BEAM refuses it: whoever has the cookie may run any code in this kernel.
No function here shows a cookie; an error names the file and what to type.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import string
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from otplib.core.errors import NodeError
from otplib.dist.handshake import Cookie

FILE_NAME: Final = ".erlang.cookie"

#: Letters of a cookie that we make: 94 random bits.
LENGTH: Final = 20

#: Seconds after which a file that somebody else is just making must be whole.
PATIENCE: Final = 2.0

#: What a BEAM takes: printable ASCII, then nothing but ends of lines. Blanks before the end are part of the cookie.
_CONTENT = re.compile(rb"(?P<cookie>[ -~]+)[\n\r ]*")
_MOST: Final = 1_024  # bytes: more than any cookie has
_WAY_OUT: Final = "Give one: cookie=..., the same on all nodes"


class CookieFileError(NodeError):
    """The cookie's file cannot be used as it is; the text says what to type."""


class _UnfinishedError(CookieFileError):
    """A fault that a file has while a BEAM makes it: created readable, then written, then closed to others."""


def find_cookie(given: str | Cookie | None = None, *, home: Path | None = None) -> Cookie:
    """The cookie of this user, or the one given; made if there is none yet. Mirrors what a BEAM does as it starts.

    Args:
        given: the cookie itself; nothing is read then.
        home: the folder that holds the file; the user's own if None.

    Raises:
        CookieFileError: a file that others may read, that holds no cookie, or that cannot be made.
        ValueError: the one given is empty, too long or not Latin-1.

    Example:
        >>> find_cookie("monster") == Cookie("monster")
        True
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     find_cookie(home=Path(folder)) == find_cookie(home=Path(folder))
        True
    """
    if isinstance(given, Cookie):
        return given
    if given is not None:
        return Cookie(given)
    paths = cookie_files(home)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            for path in paths:
                if (cookie := _read(path)) is not None:
                    return cookie
            # Two that start at once both come here. The first to link its file wins; the other reads it.
            _make(paths[0])
        except _UnfinishedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)  # a BEAM makes its file in two steps, and tells nobody of the second


def cookie_files(home: Path | None = None) -> list[Path]:
    """Where a cookie may be, in the order in which it is looked for; the first place is where one is made."""
    if home is not None:
        return [home / FILE_NAME]
    places = []
    try:
        places.append(Path.home() / FILE_NAME)
    except RuntimeError:  # a container's user without an entry and without HOME
        pass
    if (folder := _config_folder()) is not None:
        places.append(folder / "erlang" / FILE_NAME)
    if not places:
        raise CookieFileError(f"this user has no home folder to keep {FILE_NAME} in: set HOME, or give cookie=...")
    return places


def _config_folder() -> Path | None:
    """What `filename:basedir(user_config, ...)` gives on this system, without the application's name."""
    if sys.platform == "win32":
        return Path(os.environ["APPDATA"]) if "APPDATA" in os.environ else None
    if folder := os.environ.get("XDG_CONFIG_HOME"):
        return Path(folder)
    try:
        return Path.home() / ("Library/Application Support" if sys.platform == "darwin" else ".config")
    except RuntimeError:
        return None


def _read(path: Path) -> Cookie | None:
    """The cookie in a file; None if there is no such file."""
    try:
        # Not to hang in a named pipe that somebody has put there.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CookieFileError(f"cannot read the cookie in {path}: {error.strerror}. {_WAY_OUT}") from None
    try:
        found = os.fstat(descriptor)  # of the file that is read, whatever stands under its name by now
        if not stat.S_ISREG(found.st_mode):
            raise CookieFileError(f"{path} is no file that could hold a cookie; move it away, and one is made")
        if os.name == "posix" and found.st_mode & 0o077:
            raise _fault(
                found,
                f"the cookie in {path} may be read by others (mode {found.st_mode & 0o777:04o}), and whoever has it "
                f"may run code here. Type: chmod 600 {path}",
            )
        content = os.read(descriptor, _MOST)
    finally:
        os.close(descriptor)
    match = _CONTENT.fullmatch(content)
    if match is None or len(match["cookie"]) > 255:
        raise _fault(found, f"{path} holds no cookie: expected one line of 1 to 255 printable ASCII characters")
    return Cookie(match["cookie"].decode("ascii"))


def _fault(found: os.stat_result, text: str) -> CookieFileError:
    """The error for a file's fault; one that may pass, if the file has just been touched."""
    return (_UnfinishedError if time.time() - found.st_mtime < PATIENCE else CookieFileError)(text)


def _make(path: Path) -> None:
    """Make a file with a new cookie, unless somebody is faster.

    It is written under another name first, so nobody ever reads half of it: two of ours always agree. A BEAM that
    starts in the same moment opens the name itself and writes over our file; then we have lost, holding a cookie that
    no file has, and our node must be started again.
    """
    letters = "".join(secrets.choice(string.ascii_uppercase) for _ in range(LENGTH))
    draft = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(prefix=f"{FILE_NAME}.", dir=path.parent)  # mode 0600
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(letters.encode("ascii"))
        _publish(draft, path)
    except OSError as error:
        raise CookieFileError(f"cannot make a cookie in {path}: {error.strerror}. {_WAY_OUT}") from None
    finally:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)


def _publish(draft: str, path: Path) -> None:
    """Give the draft its name, unless the name is taken: then that file counts."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError:
        # A file system without links. The name is claimed instead, and is empty for a moment: readers wait for that.
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(Path(draft).read_bytes())


class CookieJar:
    """Which cookie is shared with which node: one for all, but for the nodes that were given their own.

    `jar.cookie_for` is what an `Acceptor` wants. Mirrors `Node.set_cookie/2` and `Node.get_cookie/0`.

    Example:
        >>> jar = CookieJar(Cookie("ours"))
        >>> jar.set("bar@host", Cookie("theirs"))
        >>> jar.cookie_for("bar@host") == Cookie("theirs"), jar.cookie_for("foo@host") == Cookie("ours")
        (True, True)
    """

    __slots__ = ("_own", "default")

    def __init__(self, default: Cookie) -> None:
        self.default = default
        self._own: dict[str, Cookie] = {}  # node: its cookie; read by the thread that carries the connections

    def set(self, node: str, cookie: Cookie) -> None:
        """Share this cookie with that node, from the next handshake on."""
        self._own[node] = cookie

    def cookie_for(self, node: str) -> Cookie:
        """The cookie that we share with a node."""
        return self._own.get(node, self.default)
