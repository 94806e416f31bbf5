"""What the rows about supervisors share: children that tell what happens to them."""

from otplib import Exit, GenServer, Ok, Stop, Supervisor, process, receive, self_, send, spawn_link
from otplib.core.child_spec import ChildSpec
from otplib.core.errors import StartError


class Telling(GenServer):
    """`W` of the scripts: tells the test when it starts and stops, traps exits, and has its name registered."""

    @classmethod
    async def start_link(cls, arg):
        return await super().start_link(arg, name=arg[0])

    def init(self, arg):
        name, test = arg
        if name == "bad":
            return Stop("cannot")
        process.flag(trap_exit=True)
        send(test, ("start", name))
        return Ok(arg)

    def terminate(self, reason, state):
        name, test = state
        send(test, ("stop", name, reason))


def telling(name, test=None, **fields):
    return Supervisor.child_spec((Telling, (name, test or self_())), id=name, **fields)


class Holder(GenServer):
    """`{Agent, :start_link, [fn -> 0 end, [name: name]]}` of the scripts."""

    @classmethod
    async def start_link(cls, name):
        return await super().start_link(None, name=name)

    def init(self, arg):
        return Ok(0)


def holder(name, **fields):
    return Supervisor.child_spec((Holder, name), id=name, **fields)


async def receive_and_exit():
    raise Exit(await receive())


def plain(child_id, **fields):
    """`{Task, :start_link, [fn -> receive do r -> exit(r) end end]}` of the scripts."""
    return ChildSpec(child_id, (spawn_link, (receive_and_exit,)), **fields)


async def pids_of(sup):
    return {child.id: child.pid for child in await Supervisor.which_children(sup)}


async def refusal_of(awaitable, kind=StartError):
    """The reason of a refusal: `{:error, reason}`."""
    try:
        value = await awaitable
    except kind as refusal:
        return refusal.reason
    raise AssertionError(f"it was not refused, but gave {value!r}")
