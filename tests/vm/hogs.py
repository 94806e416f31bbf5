"""Processes that keep their thread, and how tests ask after them."""

from __future__ import annotations

import time

from otplib import receive, run, sleep

DEADLINE = 30.0  # seconds after which a test has hung; nothing waits for it else


def run_in(machine, fn, *args):
    return run(fn, *args, timeout=DEADLINE)


def busy(flag):
    """A plain function, so that it can be asked for from outside whether it still runs."""
    flag["started"] = True
    while not flag["stop"]:
        pass
    flag["ended"] = True


class Flag(dict):
    """Seen by all: a message or an argument that holds it holds the thing itself."""

    def __deepcopy__(self, memo):
        return self


def new_flag():
    return Flag(started=False, stop=False, ended=False)


async def ticker(count):
    for _ in range(count):
        await sleep(0.001)


def spin():
    while True:
        pass


def spin_with_calls():
    """CPython 3.13 leaves the backward jump of a loop out of the frame's exception table, so what strikes there passes
    by its `except` and `finally`. In a loop with calls it strikes after a call."""
    while True:
        time.sleep(0.001)


async def forever(*_):
    await receive(("never",))
