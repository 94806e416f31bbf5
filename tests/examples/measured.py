"""Telemetry: how long the callbacks of a program take, without a line changed in its servers."""

from __future__ import annotations

from otplib import Caller, GenServer, NoReply, Ok, Reply, run, sleep, telemetry
from otplib.behaviours.telemetry import Event

Totals = dict[str, tuple[int, float]]


class Statistics(GenServer[Totals]):
    """Adds up what the handler sends it."""

    def init(self, arg: object) -> Ok[Totals]:
        return Ok({})

    def handle_cast(self, request: tuple[str, float], totals: Totals) -> NoReply[Totals]:
        name, seconds = request
        count, total = totals.get(name, (0, 0.0))
        return NoReply({**totals, name: (count + 1, total + seconds)})

    def handle_call(self, request: object, caller: Caller, totals: Totals) -> Reply[Totals, Totals]:
        return Reply(totals, totals)


class Baker(GenServer[int]):
    """Bakes slowly and counts quickly."""

    def init(self, loaves: int) -> Ok[int]:
        return Ok(loaves)

    async def handle_cast(self, request: object, loaves: int) -> NoReply[int]:
        await sleep(0.2)
        return NoReply(loaves + 1)

    def handle_call(self, request: object, caller: Caller, loaves: int) -> Reply[int, int]:
        return Reply(loaves, loaves)


async def main() -> None:
    statistics = await Statistics.start_link()

    def note(event: Event) -> None:
        # It runs in the measured server, so it only sends on what it hears.
        if event.duration is not None:
            GenServer.cast(statistics, (f"{event.server.__name__}.{event.callback}", event.duration))

    telemetry.attach("statistics", note, server=Baker)
    baker = await Baker.start_link(0)
    for _ in range(3):
        GenServer.cast(baker, "bake")
    print("loaves:", await GenServer.call(baker, "count"))
    telemetry.detach("statistics")

    totals: Totals = await GenServer.call(statistics, "totals")
    for name, (count, seconds) in sorted(totals.items()):
        print(f"{name}: {count} times, {'slow' if seconds / count > 0.1 else 'quick'}")


if __name__ == "__main__":
    run(main)
