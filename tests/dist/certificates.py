"""Certificates for tests, made by the very commands that the manual of `otplib.dist.tls` tells people to type."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from otplib.dist import tls
from otplib.dist.tls import Tls

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="no openssl on this machine (apt install openssl)"
)


@functools.cache
def beam_has_tls() -> bool:
    """Whether the BEAM of this machine has its `ssl` application; Debian packs it apart."""
    if shutil.which("erl") is None:
        return False
    done = subprocess.run(
        ["erl", "-noshell", "-eval", 'io:format("~p", [code:which(inet_tls_dist)]), halt().'],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return "inet_tls_dist" in done.stdout


def indented(beginning: str) -> str:
    """The indented paragraph of the manual that begins so, as it would be typed."""
    paragraphs = re.findall(r"(?m)(?:^    .*\n)+", tls.__doc__)
    [found] = [text for text in paragraphs if text.strip().startswith(beginning)]
    return re.sub(r"(?m)^    ", "", found)


class Authority:
    """A folder with `ca.pem`; makes certificates that it signs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._type(indented("openssl req -x509"))

    @property
    def cafile(self) -> Path:
        return self.folder / "ca.pem"

    def certify(self, host: str) -> tuple[Path, Path]:
        """A certificate for the nodes of a host, and its key."""
        self._type(indented("printf").replace("vm", host))
        return self.folder / f"{host}.pem", self.folder / f"{host}.key"

    def tls(self, host: str, **options: object) -> Tls:
        certificate, key = self.certify(host)
        return Tls(certificate, key, **{"cafile": self.cafile, **options})

    def beam_options(self, host: str) -> tuple[str, ...]:
        """The arguments of an `erl` on that host."""
        text = indented("[{server,")
        for name in ("vm.pem", "vm.key", "ca.pem"):
            text = text.replace(name, os.fspath(self.folder / name.replace("vm", host)))
        path = self.folder / f"{host}.conf"
        path.write_text(text, encoding="utf-8")
        return ("-proto_dist", "inet_tls", "-ssl_dist_optfile", os.fspath(path))

    def _type(self, commands: str) -> None:
        # A key on a curve: the manual's 3072 bits cost a second each.
        commands = commands.replace("-newkey rsa:3072", "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1")
        done = subprocess.run(
            ["sh", "-ec", commands],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
