"""What the tests of supervisors share: children that tell what happens to them, and ways to look."""

from otplib import (
    Exit,
    GenServer,
    Ignore,
    NoReply,
    Ok,
    Reply,
    Stop,
    process,
    receive,
    self_,
    send,
    shared,
    sleep,
    spawn_link,
)
from otplib.behaviours.supervisor import Supervisor
from otplib.core.child_spec import ChildSpec
from otplib.core.errors import StartError


class Worker(GenServer):
    """Tells the test when it starts and stops; registers its name."""

    @classmethod
    async def start_link(cls, arg):
        return await super().start_link(arg, name=arg[0])

    def init(self, arg):
        process.flag(trap_exit=True)
        name, test, *more = arg
        send(test, ("start", name))
        return Ok((name, test, *more))

    def handle_call(self, request, caller, state):
        return Reply(self_(), state)

    def handle_cast(self, request, state):
        return Stop(request, state)

    def handle_info(self, message, state):
        return Stop(message[2], state) if message[0] == "EXIT" else NoReply(state)

    async def terminate(self, reason, state):
        name, test, *slow = state
        if slow:
            send(test, ("stopping", name))
            await sleep(slow[0])
        send(test, ("stop", name, reason))


def worker(name, *more, **overrides):
    return Supervisor.child_spec((Worker, (name, self_(), *more)), id=name, **overrides)


async def wait_for_order():
    """A child without ceremony: ends with the reason it is sent."""
    reason = await receive()
    raise Exit(reason)


def plain(child_id, **fields):
    return ChildSpec(child_id, (spawn_link, (wait_for_order,)), **fields)


async def flush(quiet=0.05):
    """All messages until none has come for a while of the machine's clock."""
    messages = []
    while True:
        try:
            messages.append(await receive(timeout=quiet))
        except TimeoutError:
            return messages


async def pids_of(sup):
    return {child.id: child.pid for child in await Supervisor.which_children(sup)}


async def reason_of(awaitable, kind=StartError):
    try:
        await awaitable
    except kind as refusal:
        return refusal.reason
    raise AssertionError("it was not refused")


def end_of(pid):
    """Wait for the end of a process and give its reason."""
    ref = process.monitor(pid)

    async def wait():
        return (await receive(("DOWN", ref, "process", ..., ...))).reason

    return wait()


class Ignoring(GenServer):
    """Chooses not to run."""

    def init(self, arg):
        return Ignore()


class Flaky:
    """A start function that fails on chosen attempts; the attempts are counted in the open, in a shared list."""

    def __init__(self, *failing, reason="flaky"):
        self.failing, self.reason, self.tries = failing, reason, []

    def spec(self, child_id, **fields):
        return ChildSpec(child_id, (_start_flaky, (shared(self),)), **fields)


async def _start_flaky(wrapped):
    flaky = wrapped.value
    flaky.tries.append(len(flaky.tries))
    if flaky.tries[-1] in flaky.failing:
        raise StartError(flaky.reason)
    return spawn_link(wait_for_order)
