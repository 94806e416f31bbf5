"""What the tests of servers share."""

from otplib import Continue, Exit, GenServer, NoReply, Ok, Raised, Reply, receive, self_, send, sleep


async def flush(quiet=0.05):
    """All messages until none has come for a while of the machine's clock."""
    messages = []
    while True:
        try:
            messages.append(await receive(timeout=quiet))
        except TimeoutError:
            return messages


async def exit_of(awaitable):
    """The reason of the exit it ended with."""
    try:
        value = await awaitable
    except Exit as end:
        return end.reason
    raise AssertionError(f"it gave {value!r}")


def kind_of(reason):
    """The class of the exception in a reason."""
    assert isinstance(reason, Raised), reason
    return type(reason.exception)


def reports_of(caplog):
    """The texts in the log of otplib."""
    return [record.getMessage() for record in caplog.records if record.name == "otplib"]


class Scripted(GenServer):
    """Does what each message, a function of the state, says; its state is the test's pid."""

    def init(self, arg):
        test, first = arg
        return first(test) if first is not None else Ok(test)

    def handle_call(self, request, caller, state):
        return request(state)

    def handle_cast(self, request, state):
        return request(state)

    def handle_info(self, message, state):
        send(state, ("info", message))
        return NoReply(state)

    def handle_continue(self, arg, state):
        send(state, ("continue", arg))
        return NoReply(state) if not isinstance(arg, Continue) else NoReply(state, then=arg)

    def terminate(self, reason, state):
        send(state, ("terminate", reason))


async def start(first=None):
    return await Scripted.start((self_(), first))


async def wait():
    await sleep(float("inf"))


async def obey():
    """Ends with the reason it is sent."""
    raise Exit(await receive())


class Worker(GenServer):
    """Crashes when it is cast to, and runs what it is called with."""

    async def handle_call(self, request, caller, state):
        outcome = request()
        return Reply(await outcome if hasattr(outcome, "__await__") else outcome, state)

    def handle_cast(self, request, state):
        raise ValueError(request)

    def handle_info(self, message, state):
        return NoReply([*state, message])
