"""A server that a type checker knows by heart: its state, its requests, its answers. `mypy --strict`, and no cast."""

from __future__ import annotations

from dataclasses import dataclass, replace

from otplib import (
    Caller,
    Continue,
    GenServer,
    Ignore,
    NoReply,
    Ok,
    Pid,
    Reply,
    Stop,
    Supervisor,
    run,
)


@dataclass(frozen=True)
class Deposit:
    amount: int


@dataclass(frozen=True)
class Withdraw:
    amount: int


@dataclass(frozen=True)
class Balance:
    """The state."""

    owner: str
    amount: int = 0


class Account(GenServer[Balance], restart="transient"):
    """The verbs are typed class methods; what goes through the mailbox is between them and the callbacks."""

    # ---- verbs -----------------------------------------------------------------------------------------------

    @classmethod
    async def start_link(cls, owner: str) -> Pid | None:
        return await super().start_link(owner, name=f"account of {owner}")

    @staticmethod
    def deposit(owner: str, amount: int) -> None:
        GenServer.cast(f"account of {owner}", Deposit(amount))

    @staticmethod
    async def withdraw(owner: str, amount: int) -> int:
        left: int = await GenServer.call(f"account of {owner}", Withdraw(amount))
        return left

    # ---- callbacks -------------------------------------------------------------------------------------------

    def init(self, owner: str) -> Ok[Balance] | Ignore:
        return Ok(Balance(owner), then=Continue("greet")) if owner else Ignore()

    def handle_continue(self, arg: str, state: Balance) -> NoReply[Balance]:
        print(arg, state.owner)
        return NoReply(state)

    def handle_cast(self, request: Deposit, state: Balance) -> NoReply[Balance]:
        return NoReply(replace(state, amount=state.amount + request.amount))

    async def handle_call(
        self, request: Withdraw, caller: Caller, state: Balance
    ) -> Reply[int, Balance] | Stop[Balance]:
        left = state.amount - request.amount
        if left < 0:
            return Stop("normal", state, reply=-1)
        return Reply(left, replace(state, amount=left))


async def main() -> None:
    children = [Supervisor.child_spec((Account, owner), id=owner) for owner in ("Ann", "Bob")]
    supervisor = await Supervisor.start_link(children, strategy="one_for_one")
    Account.deposit("Ann", 10)
    print(await Account.withdraw("Ann", 3), await Account.withdraw("Bob", 1))
    print((await Supervisor.count_children(supervisor))["active"], "account is left")


if __name__ == "__main__":
    run(main)
