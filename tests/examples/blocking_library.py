"""A service with a worker around a blocking library, here sqlite3. SIGTERM stops it: `python blocking_library.py FILE`.

The library blocks its thread, so the worker calls it by `process.blocking`, which lends a thread; all other processes
run meanwhile. The connection is opened in `init` and closed in `terminate`; if the library fails, the worker crashes,
and its supervisor starts another one with a new connection. Nobody writes code for that.
"""

from __future__ import annotations

import sqlite3
import sys
from typing import Any

from otplib import (
    Caller,
    Exit,
    GenServer,
    NoReply,
    Ok,
    Pid,
    Raised,
    Reply,
    Supervise,
    Supervisor,
    process,
    run_forever,
    sleep,
)

Rows = list[tuple[object, ...]]


class Database(GenServer[sqlite3.Connection], shutdown=10.0):
    """Owns a connection. A call is a statement and its parameters; the answer is the rows."""

    @classmethod
    async def start_link(cls, path: str) -> Pid | Any:
        return await super().start_link(path, name="database")

    async def init(self, path: str) -> Ok[sqlite3.Connection]:
        process.flag(trap_exit=True)  # so that `terminate` runs when the tree is stopped
        connection = await process.blocking(sqlite3.connect, path, check_same_thread=False)
        return Ok(connection)

    async def handle_call(
        self, request: tuple[str, tuple[object, ...]], caller: Caller, connection: sqlite3.Connection
    ) -> Reply[Rows, sqlite3.Connection]:
        statement, parameters = request
        rows: Rows = await process.blocking(self.ask, connection, statement, parameters)
        return Reply(rows, connection)

    @staticmethod
    def ask(connection: sqlite3.Connection, statement: str, parameters: tuple[object, ...]) -> Rows:
        with connection:
            return connection.execute(statement, parameters).fetchall()

    async def terminate(self, reason: object, connection: sqlite3.Connection) -> None:
        await process.blocking(connection.close)
        print("the database is closed")

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        return {**status, "state": "a connection"}


async def query(statement: str, *parameters: object) -> Rows:
    rows: Rows = await GenServer.call("database", (statement, parameters))
    return rows


class Visitor(GenServer[None], restart="transient"):
    """Uses the database, and has to live with its crashes."""

    def init(self, arg: object) -> Ok[None]:
        return Ok(None, timeout=0)

    async def handle_info(self, message: object, state: None) -> NoReply[None]:
        await query("create table if not exists visits (name text)")
        await query("insert into visits values (?)", "first")
        try:
            await query("insert into nothing values (1)")
        except Exit as end:
            why = end.reason[0]
            print("the database has crashed:", why.exception if isinstance(why, Raised) else why)
        await wait_for_database()
        print("it is back, and knows:", await query("select name from visits"))
        print("ready", flush=True)
        return NoReply(None)


async def wait_for_database() -> None:
    while GenServer.whereis("database") is None:
        await sleep(0.01)


class Service(Supervisor):
    def init(self, path: str) -> Supervise:
        return Supervise([(Database, path), Visitor], strategy="one_for_one")


if __name__ == "__main__":
    run_forever((Service, sys.argv[1]))
    print("all is down")
