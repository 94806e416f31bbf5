"""The tutorial's programs in Python dress: golden/01c to 03c."""

from otplib import GenServer, Ok, Pid, Reply, Supervise, Supervisor, process, receive, self_, send, sleep


async def ping_pong(time_interval=1.0, says_so=False):
    try:
        message = await receive(("ping", Pid, int), ("pong", Pid, int), timeout=time_interval)
    except TimeoutError:
        if says_so:
            print("No messages received")
        await ping_pong(time_interval, says_so)
        return
    match message:
        case ("ping", sender, ping_id):
            print(f"Ping received {ping_id}")
            send(sender, ("pong", self_(), ping_id + 1))
        case ("pong", sender, pong_id):
            print(f"Pong received {pong_id}")
            send(sender, ("ping", self_(), pong_id + 1))


def factorial(n):
    return 1 if n == 0 else n * factorial(n - 1)


def endless_factorial(n):
    """What `factorial(-1)` does on the BEAM: there recursion has no limit, and this never ends."""
    product = 1
    while n != 0:
        product, n = product * n % 1_000_003, n - 1
    return product


class CoolerFactorialServer(GenServer):
    @classmethod
    async def start_link(cls, worker_name):
        return await super().start_link([], name=str(worker_name))

    def init(self, arg):
        return Ok({"count": 0})

    def handle_call(self, request, caller, state):
        match request:
            case ("factorial", number):
                answer = (factorial(number), state["count"])
                return Reply(answer, {**state, "count": state["count"] + 1})
            case ("endless_factorial", number):
                return Reply(endless_factorial(number), state)

    @staticmethod
    async def get_factorial(server, number):
        return await GenServer.call(server, ("factorial", number))


class FactorialSupervisor(Supervisor):
    def init(self, arg):
        children = [Supervisor.child_spec((CoolerFactorialServer, n), id=str(n)) for n in (1, 2, 3)]
        return Supervise(children, strategy="one_for_one")


async def crash():
    """`crash` of golden/03b: kill child 1, and see who has its name a moment later (50 ms there; here CI is slower)."""
    process.exit(process.whereis("1"), "kill")
    await sleep(0.3)
    return process.whereis("1")
