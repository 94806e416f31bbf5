"""A fault of the engine itself costs one process, not the machine."""

from __future__ import annotations

import logging

import pytest

from otplib import Down, Machine, process, receive, run, spawn_monitor
from otplib.vm import stepping


def test_a_fault_in_a_step_kills_its_process_and_the_machine_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    step = stepping.run_step
    faulty = []

    def run_step(on, carrier, record):
        if record.pid in faulty:
            raise RuntimeError("a fault of the engine")
        step(on, carrier, record)

    async def main():
        pid, _ = spawn_monitor(receive)
        faulty.append(pid)
        process.send(pid, "go on")
        return (await receive(Down)).reason, await process.blocking(len, "abc")

    with Machine(), caplog.at_level(logging.CRITICAL, logger="otplib"):
        monkeypatch.setattr(stepping, "run_step", run_step)
        assert run(main, timeout=30) == ("killed", 3)
    assert "a fault of the engine" in caplog.text
