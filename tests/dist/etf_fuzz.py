"""Looks for bytes that the decoder does not survive: `python -m tests.dist.etf_fuzz SECONDS`.

Starts from the vectors and the corpus, mutates, and keeps in the corpus whatever took a way through the decoder that
nothing before it took (line after line, by `sys.settrace`). Whatever ends neither in a term nor in a `DecodeError`, or
takes long, is printed and ends the run with status 1. `test_etf_fuzz.py` runs the corpus.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from otplib.core.errors import CopyError, DecodeError
from otplib.dist.etf import decode_prefix, encode
from otplib.dist.etf_terms import exact_key
from tests.dist.etf_samples import FOLDER, VECTORS

CORPUS = FOLDER / "etf_corpus.txt"
MAX_CORPUS = 190_000  # bytes of the file
MAX_SECONDS = 2.0

#: From line to line of a file, and how often: once, twice, up to 4, 8, ... times in one run.
Arc = tuple[str, int, int, int]

#: Pieces that mean something: tags, and lengths at their edges.
PIECES = [
    *(bytes([tag]) for tag in (70, 77, 80, *range(88, 91), *range(97, 121), 131)),
    b"\0\0\0\0",
    b"\0\0\0\1",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\1",
    b"w\1a",
    b"a\1",
    b"j",
    b"m\0\0\0\1x",
    b"l\0\0\0\1",
    b"t\0\0\0\1",
    b"h\2",
    b"Xw\3a@b" + bytes(12),
    b"Z\0\3w\3a@b" + bytes(16),
]


def read_corpus() -> list[bytes]:
    return [bytes.fromhex(line) for line in CORPUS.read_text().split()] if CORPUS.exists() else []


def mutate(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Change a few things, never the version byte."""
    body = bytearray(data[1:])
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        at = chance.randrange(len(body) + 1)
        match chance.randrange(8):
            case 0 if body:
                body[at % len(body)] = chance.randrange(256)
            case 1 if body:
                body[at % len(body)] ^= 1 << chance.randrange(8)
            case 2:
                body[at:at] = chance.choice(PIECES)
            case 3:
                piece = chance.choice(PIECES)
                body[at : at + len(piece)] = piece
            case 4:
                del body[at : at + chance.choice((1, 1, 2, 4, 9))]
            case 5:
                del body[at:]
            case 6:
                start = chance.randrange(len(other))
                body[at:at] = other[start : start + chance.randrange(1, 40)]
            case _:
                start = chance.randrange(len(body) + 1)
                body[at:at] = body[start : start + chance.randrange(1, 20)]
    return bytes([131, *body[:3000]])


def check(data: bytes) -> None:
    """Decode as from a BEAM and as from a Python node; what comes out is written and read again.

    Raises:
        AssertionError: anything else than a term or a `DecodeError` came of it, or it took long.
    """
    for python_peer in (False, True):
        start = time.thread_time()
        try:
            term, end = decode_prefix(data, python_peer=python_peer)
        except DecodeError:
            pass
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__}: {error}") from error
        else:
            assert 1 < end <= len(data)
            check_again(term, python_peer)
        took = time.thread_time() - start
        assert took < MAX_SECONDS, f"{took} s"


def check_again(term: Any, python_peer: bool) -> None:
    try:
        wire = encode(term, python_peer=python_peer)
    except CopyError as error:
        # A fun and a chain of improper tails may hold what is too deep for us once it is put together.
        if "deeper" not in str(error):
            raise AssertionError(str(error)) from error
        return
    again, end = decode_prefix(wire, python_peer=python_peer)
    assert end == len(wire)
    try:
        whole = exact_key(again) == exact_key(term)
    except RecursionError:
        return  # deeper than Python compares
    assert whole or has_bytes(term), f"{term!r} became {again!r}"


def has_bytes(term: Any) -> bool:
    """Bytes that are UTF-8 came as a bit string of whole bytes; a BEAM sends them back as a binary, so as text."""
    return "b'" in repr(term) or 'b"' in repr(term)


class Coverage:
    """The steps from line to line that the decoder has taken so far."""

    def __init__(self) -> None:
        self.seen: set[Arc] = set()
        self._counts: Counter[tuple[str, int, int]] = Counter()

    def is_new(self, data: bytes) -> bool:
        """Run it and tell whether it took a step that none before it took."""
        self._counts.clear()
        sys.settrace(self._enter)
        try:
            decode_prefix(data, python_peer=True)
        except DecodeError:
            pass
        finally:
            sys.settrace(None)
        fresh = {(*arc, count.bit_length()) for arc, count in self._counts.items()} - self.seen
        self.seen |= fresh
        return bool(fresh)

    def _enter(self, frame: FrameType, event: str, arg: object) -> Any:
        name = Path(frame.f_code.co_filename).name
        if not name.startswith("etf_"):
            return None
        last = frame.f_lineno

        def step(inner: FrameType, event: str, arg: object) -> Any:
            nonlocal last
            self._counts[name, last, inner.f_lineno] += 1
            last = inner.f_lineno
            return step

        return step


def run(seconds: float, seed: int) -> int:
    chance = random.Random(seed)
    seeds = [vector.wire for vector in VECTORS.values() if len(vector.wire) < 2000]
    coverage, corpus = Coverage(), []
    for data in seeds:
        coverage.is_new(data)
    corpus = [data for data in read_corpus() if coverage.is_new(data)]
    size, done, deadline = sum(2 * len(data) + 1 for data in corpus), 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        pool = corpus if corpus and chance.random() < 0.6 else seeds
        data = mutate(chance.choice(pool), chance.choice(seeds), chance)
        done += 1
        try:
            check(data)
        except AssertionError as failure:
            print(data.hex(), failure)
            return 1
        # Tracing is slow: the others are run for their outcome alone.
        if done % 4 == 0 and size + 2 * len(data) < MAX_CORPUS and coverage.is_new(data):
            corpus.append(data)
            size += 2 * len(data) + 1
    CORPUS.write_text("".join(f"{data.hex()}\n" for data in corpus))
    print(f"{done} cases, {len(corpus)} kept, {len(coverage.seen)} steps, seed {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(run(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)))
