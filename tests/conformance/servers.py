"""What the rows about servers share: the helpers of `sem/h.exs` in Python dress."""

from otplib import (
    Exit,
    ExitMessage,
    GenServer,
    NoReply,
    Ok,
    Raised,
    Reply,
    Stop,
    process,
    receive,
    send,
    sleep,
    spawn_monitor,
)


async def flush(quiet=0.06):
    """All messages until none has come for `quiet` seconds of the machine's clock: `H.flush`."""
    messages = []
    while True:
        try:
            messages.append(await receive(timeout=quiet))
        except TimeoutError:
            return messages


async def outcome_of(awaitable):
    """How it ended, `("returned", value)` or `("exit", reason)`: `H.t`."""
    try:
        return ("returned", await awaitable)
    except Exit as end:
        return ("exit", end.reason)


async def exit_of(awaitable):
    """The reason of the exit it ended with."""
    how, reason = await outcome_of(awaitable)
    assert how == "exit", f"it gave {reason!r}"
    return reason


async def down(fn, *args, timeout=2.0):
    """Run `fn` in a process of its own and give its exit reason: `H.down`."""
    pid, ref = spawn_monitor(fn, *args)
    try:
        return (await receive(("DOWN", ref, "process", pid, ...), timeout=timeout)).reason
    except TimeoutError:
        return "still_alive"


async def dead():
    """A pid nobody has any more: `H.dead`."""
    pid, ref = spawn_monitor(lambda: None)
    await receive(("DOWN", ref, "process", pid, ...))
    return pid


async def idle():
    await sleep(float("inf"))


def call_of(server, request, timeout=5.0):
    """The second half of the reason with which a call fails."""
    return ("GenServer", "call", [server, request, timeout])


def reports_of(caplog):
    """The texts in the log of otplib."""
    return [record.getMessage() for record in caplog.records if record.name == "otplib"]


def plain(term):
    """A reason without its trace: an exception stands as its kind and its text."""
    if isinstance(term, Raised):
        return (type(term.exception), str(term.exception))
    if type(term) is ExitMessage:
        return (term.tag, plain(term.reason))
    return tuple(plain(one) for one in term) if type(term) is tuple else term


class Ending(GenServer):
    """Ends as it is told, and tells the test in `terminate`."""

    def init(self, arg):
        test, trap = arg
        process.flag(trap_exit=trap)
        return Ok(test)

    def handle_call(self, request, caller, state):
        raise Exit(request)

    def handle_cast(self, request, state):
        match request:
            case "stop":
                return Stop("normal", state)
            case "raise":
                raise RuntimeError("x")
            case "exit":
                raise Exit("via_exit")

    def handle_info(self, message, state):
        send(state, ("info", message))
        return NoReply(state)

    def terminate(self, reason, state):
        send(state, ("terminate", plain(reason)))


class Careless(GenServer):
    def handle_call(self, request, caller, state):
        return "oops" if request == "q" else Reply(request - 1, state)
