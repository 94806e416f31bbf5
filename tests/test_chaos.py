"""Twenty seconds of chaos: whoever is killed in a three-level tree under load, the tree is whole afterwards.

Real threads, a real machine. Seeded: which victim, which end and which request come next is drawn from fixed seeds (not
so the interleaving of the threads, which is the point of the test). `OTPLIB_CHAOS_SECONDS` makes it longer or shorter.
"""

import gc
import logging
import os
import random
import threading
import time
from collections import Counter

from otplib import (
    Exit,
    GenServer,
    NameTakenError,
    NoReply,
    Ok,
    Reply,
    Stop,
    Supervise,
    Supervisor,
    process,
    receive,
    run,
    self_,
    sleep,
    spawn,
    spawn_link,
)
from otplib.core.child_spec import ChildSpec
from otplib.vm.context import runtime
from otplib.vm.machine import Machine
from otplib.vm.process_record import ProcessRecord
from otplib.vm.scheduler import MAX_SPARES

SECONDS = float(os.environ.get("OTPLIB_CHAOS_SECONDS", "20"))

DIGITS = "012"
REGIONS = [f"region{r}" for r in DIGITS]
TEAMS = [f"team{r}{t}" for r in DIGITS for t in DIGITS]
WORKERS = [f"worker{r}{t}{w}" for r in DIGITS for t in DIGITS for w in DIGITS]
CLIENTS = [f"client{n}" for n in range(6)]
#: Who stands below whom, in start order.
BELOW = {
    **{f"region{r}": [f"team{r}{t}" for t in DIGITS] for r in DIGITS},
    **{f"team{r}{t}": [f"worker{r}{t}{w}" for w in DIGITS] for r in DIGITS for t in DIGITS},
    "clients": CLIENTS,
    "top": [*REGIONS, "clients"],
}
VICTIMS = [*REGIONS, *TEAMS, *WORKERS, *CLIENTS, "clients"]
STRATEGIES = {"0": "one_for_one", "1": "rest_for_one", "2": "one_for_all"}
GENEROUS = {"max_restarts": 10**9, "max_seconds": 1}
CLIENT_THREADS = 4
CALL_TIMEOUT = 2.0


class Load:
    """What the test, its threads and its processes share."""

    def __init__(self) -> None:
        self.running = True
        self.counts: Counter[str] = Counter()
        self.wrong: list[object] = []


load = Load()


# ---- the tree --------------------------------------------------------------------------------------------------------


class Worker(GenServer):
    """Does a bit of everything: answers, lets another answer, asks a colleague, ticks, watches, hogs, crashes."""

    @classmethod
    async def start_link(cls, name):
        return await super().start_link(name, name=name)

    def init(self, name):
        process.flag(trap_exit=WORKERS.index(name) % 2 == 0)
        process.send_after(self_(), "tick", 0.02)
        return Ok((name, None))

    async def handle_call(self, request, caller, state):
        match request:
            case ("echo", value):
                return Reply((state[0], value), state)
            case ("later", value):
                spawn_link(GenServer.reply, caller, (state[0], value))
                return NoReply(state)
            case ("ask", value):
                return Reply((state[0], await ask_colleague(state[0], value)), state)
            case ("hog", value):
                end = time.monotonic() + 0.03
                while time.monotonic() < end:
                    pass
                return Reply((state[0], value), state)
            case ("raise", value):
                raise ValueError(value)

    def handle_cast(self, request, state):
        return Stop(request, state)

    def handle_info(self, message, state):
        if message != "tick":
            return NoReply(state)  # the end of a helper, or of whom it watches
        name, watched = state
        process.send_after(self_(), "tick", 0.02)
        if watched is not None:
            process.demonitor(watched, flush=True)
        return NoReply((name, process.monitor(random.choice(WORKERS))))


async def ask_colleague(name, value):
    """Those later in the list only: two that ask each other would wait for ever."""
    later = WORKERS[WORKERS.index(name) + 1 :]
    try:
        return (await GenServer.call(random.choice(later), ("echo", value), timeout=1))[1] if later else value
    except Exit:
        return value


class Node(Supervisor):
    """The top, a region of teams, a team of workers, or the clients: its name says which."""

    @classmethod
    async def start_link(cls, name):
        return await super().start_link(name, name=name)

    def init(self, name):
        return Supervise(map(spec_of, BELOW[name]), strategy=STRATEGIES.get(name[-1], "one_for_one"), **GENEROUS)


def spec_of(name):
    if name in BELOW:
        return Supervisor.child_spec((Node, name), id=name)
    if name in CLIENTS:
        return ChildSpec(name, (spawn_link, (client, name)))
    return Supervisor.child_spec((Worker, name), id=name)


# ---- the load --------------------------------------------------------------------------------------------------------


async def client(name):
    try:
        process.register(self_(), name)
    except NameTakenError:  # the one before it is still on its way out: its supervisor was killed
        raise Exit("too_early") from None
    await call_around(random.Random(name))
    await sleep(float("inf"))


async def call_around(rng):
    """Call while the load lasts; every answer must be the one to its question, and no other message may come."""
    while load.running:
        server = rng.choice(WORKERS)
        [kind] = rng.choices(["echo", "later", "ask", "hog", "raise"], [70, 12, 12, 1, 5])
        request = (kind, rng.random())
        try:
            answer = await GenServer.call(server, request, timeout=CALL_TIMEOUT)
        except Exit as end:
            load.counts["refused"] += 1
            if end.reason[1] != ("GenServer", "call", [server, request, CALL_TIMEOUT]):
                load.wrong.append(end.reason)
        else:
            load.counts["answered"] += 1
            if answer != (server, request[1]):
                load.wrong.append((server, request, answer))
    try:
        load.wrong.append(("stray message", await receive(timeout=0)))
    except TimeoutError:
        pass


def call_from_a_thread(machine, number):
    runtime.local.machines = (machine,)
    try:
        process.drive(call_around(random.Random(number)))
    except BaseException as error:
        load.wrong.append(error)


def strike(rng):
    """End one process of the tree, in one of many ways."""
    name = rng.choice(VICTIMS)
    pid = process.whereis(name)
    if pid is None:
        return
    load.counts["struck"] += 1
    if name in WORKERS and rng.random() < 0.3:
        GenServer.cast(pid, rng.choice(["normal", "boom", "shutdown"]))
    else:
        process.exit(pid, rng.choice(["kill", "kill", "boom", "shutdown", ("shutdown", "x"), "normal"]))


async def killer():
    rng = random.Random("killer")
    while load.running:
        strike(rng)
        await sleep(rng.expovariate(150))


# ---- the audit -------------------------------------------------------------------------------------------------------


def missing():
    """What the tree lacks: every supervisor must have all its children, alive and under their names."""
    found = []
    for above, names in BELOW.items():
        if process.whereis(above) is None:
            found.append(above)
            continue
        rows = process.drive(Supervisor.which_children(above))
        right = [(name, process.whereis(name)) for name in reversed(names)]
        if [(row.id, row.pid) for row in rows] != right or None in [pid for _, pid in right]:
            found.append((above, rows))
    return found


def imbalances(machine):
    """Entries of the machine's tables without their counterpart."""
    found = []
    with machine.lock:
        living = set(machine.table.values())
        for record in living:
            for pid in record.links or ():
                peer = machine.table.get(pid.id)
                if peer is None or record.pid not in (peer.links or ()):
                    found.append(("link", record, pid))
            for ref, target in (record.monitors or {}).items():
                if target not in living or ref not in (target.watchers or {}):
                    found.append(("monitor", record, target))
            for ref, watcher in (record.watchers or {}).items():
                if type(watcher) is not tuple or watcher[0] not in living or ref not in (watcher[0].monitors or {}):
                    found.append(("watcher", record, watcher))
            if record.aliases:
                found.append(("alias", record, record.aliases))
        if len(machine.aliases):
            found.append(("aliases", len(machine.aliases)))
        found += [("name", name, record) for name, record in machine.names.items() if record not in living]
        if len(machine.timers) > len(WORKERS) or len(machine.user_timers) > len(WORKERS):
            found.append(("timers", len(machine.timers), len(machine.user_timers)))
    return found


def left_overs(machine, processes):
    """The records of processes that have ended which memory still holds."""
    gc.collect()
    records = [one for one in gc.get_objects() if issubclass(type(one), ProcessRecord) and one.machine is machine]
    return [one for one in records if one.pid not in processes]


def eventually_empty(look, seconds=20):
    """Look until there is nothing to see, and fail with what is left. Late timers of calls need a moment to go."""
    end = time.monotonic() + seconds
    while (found := look()) and time.monotonic() < end:
        time.sleep(0.02)
    assert not found


def rage(machine):
    """Let clients call from processes and threads, and strike from a process and from here, for the whole time."""
    threads = [threading.Thread(target=call_from_a_thread, args=(machine, n)) for n in range(CLIENT_THREADS)]
    for thread in threads:
        thread.start()
    spawn(killer)
    rng = random.Random("test")
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        strike(rng)
        time.sleep(rng.expovariate(150))
    load.running = False
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_a_tree_under_fire_and_load_is_whole_afterwards_and_the_books_are_balanced(caplog):
    caplog.set_level(logging.CRITICAL + 1, logger="otplib")  # thousands of crashes, each with a report
    load.__init__()
    with Machine() as machine:
        run(lambda: None)
        shell = self_()
        processes, threads = process.list(), threading.active_count()
        top = process.drive(Node.start_link("top"))
        rage(machine)

        eventually_empty(missing)
        eventually_empty(lambda: imbalances(machine))
        assert process.whereis("top") == top
        assert self_() == shell
        assert sorted(process.registered()) == sorted([*VICTIMS, "top"])
        assert len(process.list()) == len(processes) + len(VICTIMS) + 1
        assert load.wrong == []
        assert load.counts["struck"] > 50 * SECONDS
        assert load.counts["answered"] > 100 * SECONDS

        process.drive(Supervisor.stop(top))
        eventually_empty(lambda: imbalances(machine) or len(machine.timers))
        assert process.list() == processes
        assert not process.registered()
        assert not len(machine.aliases)
        assert not len(machine.user_timers)
        carriers = len(machine.scheduler.carriers)
        assert carriers <= 1 + MAX_SPARES
        # Each of these threads may still hold the last it ran, and its frame the one it ran then.
        assert len(left_overs(machine, processes)) <= 2 * carriers
        assert threading.active_count() <= threads + MAX_SPARES
