"""Links, monitors, exits, names and aliases as a state machine, against a small pure model of what OTP promises.

Every process is an actor that does one verb when it is told and leaves all else in its mailbox, so after each step the
whole of what can be seen of a process is compared: alive, links, monitors, name, and each message.
"""

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from otplib import (
    Down,
    Exit,
    ExitMessage,
    NameTakenError,
    NoProcessError,
    NoSuchNameError,
    Raised,
    process,
    receive,
    send,
    spawn,
    spawn_link,
    spawn_monitor,
)
from otplib.testing import deterministic

NAMES = ["alice", "bob"]
REASONS = ["normal", "boom", "shutdown", "kill", "killed"]
MOST = 6


# ---- the model: no line of it comes from otplib ----------------------------------------------------------------------


@dataclass
class Actor:
    alive: bool = True
    trapping: bool = False
    links: set[int] = field(default_factory=set)
    #: The monitors it holds: number -> (whom it watches, what the message will call it).
    monitors: dict[int, tuple[int, Any]] = field(default_factory=dict)
    aliases: set[int] = field(default_factory=set)
    mailbox: list[Any] = field(default_factory=list)
    name: str | None = None


class Model:
    """What a BEAM would do, one thing after the other."""

    def __init__(self) -> None:
        self.actors: list[Actor] = []

    def holder(self, name: str) -> int | None:
        return next((number for number, actor in enumerate(self.actors) if actor.name == name), None)

    def watchers(self, number: int) -> list[tuple[int, int, Any]]:
        """Who watches an actor: (watcher, monitor, what it is called)."""
        return [
            (watcher, monitor, called)
            for watcher, actor in enumerate(self.actors)
            for monitor, (whom, called) in actor.monitors.items()
            if whom == number
        ]

    def die(self, number: int, reason: Any) -> None:
        actor = self.actors[number]
        if not actor.alive:
            return
        watchers, peers = self.watchers(number), actor.links
        self.actors[number] = Actor(alive=False)
        for watcher, monitor, called in watchers:
            if watcher != number:
                del self.actors[watcher].monitors[monitor]
                self.actors[watcher].mailbox.append(("DOWN", monitor, called, reason))
        for peer in peers:
            self.actors[peer].links.discard(number)
        for peer in peers:
            if self.actors[peer].trapping:
                self.actors[peer].mailbox.append(("EXIT", number, reason))
            elif reason != "normal":
                self.die(peer, reason)

    def exit(self, sender: int | None, number: int, reason: Any) -> None:
        actor = self.actors[number]
        if not actor.alive:
            return
        if reason == "kill":
            self.die(number, "killed")
        elif actor.trapping:
            actor.mailbox.append(("EXIT", sender, reason))
        elif reason != "normal" or sender == number:
            self.die(number, reason)

    def link(self, one: int, other: int) -> str:
        if one == other:
            return "ok"
        if self.actors[other].alive:
            self.actors[one].links.add(other)
            self.actors[other].links.add(one)
            return "ok"
        if not self.actors[one].trapping:
            return "no process"
        self.actors[one].mailbox.append(("EXIT", other, "noproc"))
        return "ok"

    def monitor(self, one: int, whom: int | None, called: Any, number: int) -> None:
        if whom == one:
            return
        if whom is not None and self.actors[whom].alive:
            self.actors[one].monitors[number] = (whom, called)
        else:
            self.actors[one].mailbox.append(("DOWN", number, called, "noproc"))

    def demonitor(self, one: int, number: int, flush: bool) -> bool:
        actor = self.actors[one]
        there = actor.monitors.pop(number, None) is not None
        if flush:
            actor.mailbox = [message for message in actor.mailbox if message[:2] != ("DOWN", number)]
        return there

    def register(self, number: int, name: str) -> str:
        actor = self.actors[number]
        if not actor.alive or actor.name is not None or self.holder(name) is not None:
            return "taken"
        actor.name = name
        return "ok"


# ---- the real thing --------------------------------------------------------------------------------------------------


def act_with(told):
    """An actor: it does what it is told, and leaves every other message where it is.

    `told` is where it puts the results. It is closed over, as a function is not copied and a list would be.
    """

    async def actor():
        while True:
            _, verb, args = await receive(("do", ..., ...))
            told.append(verb(*args))

    return actor


def do_link(pid):
    try:
        process.link(pid)
    except NoProcessError:
        return "no process"
    return "ok"


def do_register(pid, name):
    try:
        process.register(pid, name)
    except NameTakenError:
        return "taken"
    return "ok"


def do_unregister(name):
    try:
        process.unregister(name)
    except NoSuchNameError:
        return "nobody"
    return "ok"


def do_send(dest, message):
    try:
        send(dest, message)
    except NoSuchNameError:
        return "nobody"
    return "ok"


def do_exit(reason):
    raise Exit(reason)


def do_raise(text):
    raise ValueError(text)


def do_demonitor(ref, flush):
    return process.demonitor(ref, flush=flush)


def do_flag(trapping):
    return process.flag(trap_exit=trapping)


NUMBERS = st.integers(0, MOST - 1)


class Bonds(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 1000))
    def begin(self, seed):
        self.log = logging.getLogger("otplib")
        self.log.disabled = True  # crashes are asked for here
        self.context = deterministic(seed)
        self.machine = self.context.__enter__()
        self.model = Model()
        self.pids: list[Any] = []
        self.refs: list[Any] = []  # the monitors, by number; who holds which the model knows
        self.owners: list[int] = []
        self.aliases: list[tuple[int, Any]] = []
        self.told: list[Any] = []
        for _ in range(3):
            self.pids.append(spawn(act_with(self.told)))
            self.model.actors.append(Actor())
        self.machine.wait_until_idle()

    def teardown(self):
        if hasattr(self, "context"):
            self.log.disabled = False
            self.context.__exit__(None, None, None)

    def living(self, number):
        """The actor that does something: any that lives; None if nobody does."""
        alive = [one for one, actor in enumerate(self.model.actors) if actor.alive]
        return alive[number % len(alive)] if alive else None

    def anybody(self, number):
        return number % len(self.pids)

    def do(self, number, verb, *args):
        """Let an actor do something, let all that follows from it happen, and give the result: None if it died."""
        before = len(self.told)
        send(self.pids[number], ("do", verb, args))
        self.machine.wait_until_idle()
        assert len(self.told) <= before + 1
        return self.told[-1] if len(self.told) > before else None

    def someone_lives(self):
        return hasattr(self, "model") and any(actor.alive for actor in self.model.actors)

    # ---- birth and death

    @precondition(lambda self: self.someone_lives() and len(self.pids) < MOST)
    @rule(one=NUMBERS, how=st.sampled_from([spawn, spawn_link, spawn_monitor]))
    def give_birth(self, one, how):
        one = self.living(one)
        told = self.told
        result = self.do(one, lambda: how(act_with(told)))
        child = len(self.pids)
        self.model.actors.append(Actor())
        if how is spawn_monitor:
            pid, ref = result
            self.model.monitor(one, child, child, self.note_ref(one, ref))
        else:
            pid = result
        if how is spawn_link:
            self.model.link(one, child)
        self.pids.append(pid)

    @rule()
    def be_born_to_the_shell(self):
        """Also when all have died, so that a run does not end there."""
        if len(self.pids) < MOST:
            self.pids.append(spawn(act_with(self.told)))
            self.model.actors.append(Actor())
        self.machine.wait_until_idle()

    @precondition(someone_lives)
    @rule(one=NUMBERS, reason=st.sampled_from(REASONS))
    def end_with_a_reason(self, one, reason):
        one = self.living(one)
        assert self.do(one, do_exit, reason) is None
        self.model.die(one, reason)

    @precondition(someone_lives)
    @rule(one=NUMBERS)
    def crash(self, one):
        one = self.living(one)
        assert self.do(one, do_raise, "oops") is None
        self.model.die(one, ("raised", "oops"))

    @precondition(someone_lives)
    @rule(one=NUMBERS, other=NUMBERS, reason=st.sampled_from(REASONS))
    def send_an_exit(self, one, other, reason):
        one, other = self.living(one), self.anybody(other)
        result = self.do(one, process.exit, self.pids[other], reason)
        self.model.exit(one, other, reason)
        # A fatal signal to oneself takes effect before `exit` returns; that of another's death by a link only after.
        gone = other == one and not self.model.actors[one].alive
        assert result is (None if gone else True)

    @precondition(someone_lives)
    @rule(victims=st.sets(NUMBERS, max_size=4))
    def kill_several_at_once(self, victims):
        """Before any of them gets a turn."""
        chosen = {self.anybody(one) for one in victims}
        for one in chosen:
            process.exit(self.pids[one], "kill")
        self.machine.wait_until_idle()
        for one in chosen:
            self.model.exit(None, one, "kill")

    # ---- bonds

    @precondition(someone_lives)
    @rule(one=NUMBERS, other=NUMBERS)
    def link(self, one, other):
        one, other = self.living(one), self.anybody(other)
        assert self.do(one, do_link, self.pids[other]) == self.model.link(one, other)

    @precondition(someone_lives)
    @rule(one=NUMBERS, other=NUMBERS, of_a_link=st.booleans())
    def unlink(self, one, other, of_a_link):
        one, other = self.living(one), self.anybody(other)
        links = sorted(self.model.actors[one].links)
        if of_a_link and links:
            other = links[other % len(links)]
        assert self.do(one, process.unlink, self.pids[other]) is True
        self.model.actors[one].links.discard(other)
        self.model.actors[other].links.discard(one)

    @precondition(someone_lives)
    @rule(one=NUMBERS, trapping=st.booleans())
    def trap(self, one, trapping):
        one = self.living(one)
        assert self.do(one, do_flag, trapping) is self.model.actors[one].trapping
        self.model.actors[one].trapping = trapping

    @precondition(someone_lives)
    @rule(one=NUMBERS, other=NUMBERS)
    def monitor_a_pid(self, one, other):
        one, other = self.living(one), self.anybody(other)
        ref = self.do(one, process.monitor, self.pids[other])
        self.model.monitor(one, other, other, self.note_ref(one, ref))

    @precondition(someone_lives)
    @rule(one=NUMBERS, name=st.sampled_from(NAMES))
    def monitor_a_name(self, one, name):
        one = self.living(one)
        ref = self.do(one, process.monitor, name)
        self.model.monitor(one, self.model.holder(name), (name, "nonode@nohost"), self.note_ref(one, ref))

    @precondition(lambda self: self.someone_lives() and self.refs)
    @rule(which=st.integers(0, 30), flush=st.booleans())
    def demonitor(self, which, flush):
        which %= len(self.refs)
        one = self.owners[which]
        if self.model.actors[one].alive:
            assert self.do(one, do_demonitor, self.refs[which], flush) is self.model.demonitor(one, which, flush)

    def note_ref(self, one, ref):
        self.refs.append(ref)
        self.owners.append(one)
        return len(self.refs) - 1

    # ---- names and aliases

    @precondition(someone_lives)
    @rule(one=NUMBERS, other=NUMBERS, name=st.sampled_from(NAMES))
    def register(self, one, other, name):
        one, other = self.living(one), self.anybody(other)
        assert self.do(one, do_register, self.pids[other], name) == self.model.register(other, name)

    @precondition(someone_lives)
    @rule(one=NUMBERS, name=st.sampled_from(NAMES))
    def unregister(self, one, name):
        holder = self.model.holder(name)
        assert self.do(self.living(one), do_unregister, name) == ("nobody" if holder is None else "ok")
        if holder is not None:
            self.model.actors[holder].name = None

    @precondition(someone_lives)
    @rule(one=NUMBERS, name=st.sampled_from(NAMES))
    def send_to_a_name(self, one, name):
        holder = self.model.holder(name)
        assert self.do(self.living(one), do_send, name, ("hello", name)) == ("nobody" if holder is None else "ok")
        if holder is not None:
            self.model.actors[holder].mailbox.append(("hello", name))

    @precondition(someone_lives)
    @rule(one=NUMBERS)
    def make_an_alias(self, one):
        one = self.living(one)
        self.model.actors[one].aliases.add(len(self.aliases))
        self.aliases.append((one, self.do(one, process.alias)))

    @precondition(lambda self: self.someone_lives() and self.aliases)
    @rule(which=st.integers(0, 30))
    def take_an_alias_back(self, which):
        which %= len(self.aliases)
        one, ref = self.aliases[which]
        if self.model.actors[one].alive:
            assert self.do(one, process.unalias, ref) is (which in self.model.actors[one].aliases)
            self.model.actors[one].aliases.discard(which)

    @precondition(lambda self: self.someone_lives() and self.aliases)
    @rule(one=NUMBERS, which=st.integers(0, 30))
    def send_to_an_alias(self, one, which):
        which %= len(self.aliases)
        owner, ref = self.aliases[which]
        assert self.do(self.living(one), do_send, ref, ("by alias", which)) == "ok"
        if which in self.model.actors[owner].aliases:
            self.model.actors[owner].mailbox.append(("by alias", which))

    # ---- the comparison

    @invariant()
    def all_that_can_be_seen_agrees(self):
        if not hasattr(self, "model"):
            return
        for number, (pid, actor) in enumerate(zip(self.pids, self.model.actors, strict=True)):
            assert process.alive(pid) is actor.alive
            if not actor.alive:
                assert process.info(pid) is None
                continue
            seen = process.info(pid, "links", "trap_exit", "registered_name", "monitors", "monitored_by", "messages")
            assert seen["trap_exit"] is actor.trapping
            assert seen["registered_name"] == actor.name
            assert sorted(map(self.index, seen["links"])) == sorted(actor.links)
            assert Counter(map(self.read_target, seen["monitors"])) == Counter(
                called for _, called in actor.monitors.values()
            )
            watchers = Counter(watcher for watcher, _, _ in self.model.watchers(number))
            assert Counter(map(self.index, seen["monitored_by"])) == watchers
            self.compare_mailboxes(actor, [self.read(message) for message in seen["messages"]])
        for name in NAMES:
            holder = self.model.holder(name)
            assert process.whereis(name) == (None if holder is None else self.pids[holder])
        assert len(self.machine.aliases) == sum(len(actor.aliases) for actor in self.model.actors)

    def compare_mailboxes(self, actor, seen):
        """What lay there before lies there in the same order; of what one step made come, the order is open."""
        old = getattr(actor, "seen", [])
        kept = [message for message in old if message in seen]
        assert seen[: len(kept)] == kept
        assert Counter(seen) == Counter(actor.mailbox)
        actor.seen = seen

    def index(self, pid):
        return self.pids.index(pid) if pid in self.pids else None

    def read_target(self, target):
        return target if isinstance(target, tuple) else self.index(target)

    def read(self, message):
        """A message with numbers in place of pids and references, as the model writes it."""
        if isinstance(message, ExitMessage):
            return ("EXIT", self.index(message.pid), read_reason(message.reason))
        if isinstance(message, Down):
            return ("DOWN", self.refs.index(message.ref), self.read_target(message.pid), read_reason(message.reason))
        return message


def read_reason(reason):
    return ("raised", str(reason.exception)) if isinstance(reason, Raised) else reason


TestBonds = Bonds.TestCase
TestBonds.settings = settings(max_examples=200, stateful_step_count=40)
