"""An asyncio web application, in the manner of FastAPI, whose state lives in supervised servers.

Each request is a task of asyncio's own loop. It calls servers as a process would, `await GenServer.call(...)`: an
asyncio task has a mailbox of its own, and the servers run beside the loop, on otplib's threads. A server that is busy
says so at once (`on_full="refuse"`), and the client gets a 503 instead of a place in an endless queue.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from otplib import (
    Caller,
    CallTimeout,
    Exit,
    GenServer,
    Ok,
    Pid,
    Reply,
    Supervise,
    Supervisor,
    process,
    sleep,
)

# ---- the servers: what FastAPI would keep in `app.state`, but with an owner and a restart --------------------------

Stock = dict[str, int]


class Warehouse(GenServer[Stock]):
    """Keeps the stock. `("take", item)` gives what is left, or None."""

    @classmethod
    async def start_link(cls, stock: Stock) -> Pid | Any:
        return await super().start_link(stock, name="warehouse")

    def init(self, stock: Stock) -> Ok[Stock]:
        process.flag(max_mailbox=2, on_full="refuse")
        return Ok(stock)

    async def handle_call(self, request: tuple[str, str], caller: Caller, stock: Stock) -> Reply[int | None, Stock]:
        match request:
            case ("count", item):
                return Reply(stock[item], stock)  # an unknown item crashes the server, and the client hears of it
            case ("recount", item):
                await sleep(1.0)
                return Reply(stock.get(item, 0), stock)
            case ("take", item):
                left = stock.get(item, 0) - 1
                return Reply(left, {**stock, item: left}) if left >= 0 else Reply(None, stock)
        raise ValueError(request)


class Shop(Supervisor):
    def init(self, stock: Stock) -> Supervise:
        return Supervise([(Warehouse, stock)], strategy="one_for_one")


# ---- a very small web framework: what FastAPI does for you ---------------------------------------------------------

Response = tuple[int, object]
Handler = Callable[[str], Awaitable[Response]]


@dataclass
class App:
    lifespan: Callable[[], Any]
    routes: dict[str, Handler] = field(default_factory=dict)

    def get(self, path: str) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            self.routes[path] = handler
            return handler

        return add

    async def answer(self, path: str) -> Response:
        """Look for the route; turn what may go wrong with a server into what HTTP says of it."""
        prefix, _, argument = path.strip("/").partition("/")
        handler = self.routes.get(prefix)
        if handler is None:
            return 404, "no such page"
        try:
            return await handler(argument)
        except CallTimeout:
            return 504, "the server takes too long"
        except Exit as end:  # a BaseException: asyncio must not see it
            why = end.reason[0]
            return (503, "try again later") if why == "overloaded" else (500, "the server has crashed")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one HTTP request."""
        request = (await reader.readuntil(b"\r\n\r\n")).split()
        status, body = await self.answer(request[1].decode())
        writer.write(f"HTTP/1.0 {status} -\r\n\r\n{json.dumps(body)}".encode())
        await writer.drain()
        writer.close()


# ---- the application -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    """The tree lives as long as the application: started before the first request, stopped after the last one."""
    shop = await Shop.start_link({"tea": 2, "pot": 1})
    yield
    await Supervisor.stop(shop)


app = App(lifespan)


@app.get("count")
async def count(item: str) -> Response:
    return 200, await GenServer.call("warehouse", ("count", item))


@app.get("recount")
async def recount(item: str) -> Response:
    return 200, await GenServer.call("warehouse", ("recount", item))


@app.get("take")
async def take(item: str) -> Response:
    left = await GenServer.call("warehouse", ("take", item), timeout=2.0)
    return (200, left) if left is not None else (409, "sold out")


# ---- a visit -------------------------------------------------------------------------------------------------------


async def fetch(port: int, path: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return f"{path}: {head.split()[1]} {body}"


async def main() -> None:
    async with app.lifespan():
        server = await asyncio.start_server(app.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for path in ("/count/tea", "/take/tea", "/take/tea", "/take/tea", "/nothing"):
            print(await fetch(port, path))
        # One of them crashes the server; its supervisor has it back, with the stock it started with.
        print(await fetch(port, "/count/spoon"))
        while GenServer.whereis("warehouse") is None:
            await asyncio.sleep(0.001)
        print(await fetch(port, "/count/tea"))
        # A dozen at once: one is worked at, two may wait, and the others need not.
        crowd = await asyncio.gather(*(fetch(port, "/recount/pot") for _ in range(12)))
        print("most were refused at once:", sum("503" in line for line in crowd) > len(crowd) / 2)
        server.close()
        await server.wait_closed()
    print("the shop is closed:", GenServer.whereis("warehouse"))


if __name__ == "__main__":
    asyncio.run(main())
