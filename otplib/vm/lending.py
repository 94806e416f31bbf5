"""Lending the scheduler's role to a thread that has just made processes runnable: the one that reads from other nodes.

A message from another node would otherwise be read on one thread, and its receiver woken on another: two switches of
threads and of the interpreter for each. So the reader takes the role from its sleeping holder, carries out what came,
runs what that has made runnable, and gives the role back.

Races, told in order.
* *A loan that lasts.* The watchdog finds the borrower with the same step as last time and takes the role back for the
  lender, rings it, and then looks whether the borrower is in a step: if so, that step is a hog's, the borrower is stuck
  in it, and its other duties go to somebody else (`on_stuck`). The borrower names the process it is about to run and
  then looks whether it still has the role; so either the watchdog sees the process or the borrower the loss.
* *The lender wakes by itself,* for a timer: it finds that its role is lent and lies down again. The borrower fires
  timers, and rings the lender at the end if its sleep no longer fits the next one.
* *Somebody makes a process runnable meanwhile.* `idle` is False during a loan, so nobody rings; the borrower looks at
  the queue, with the lock, before it gives the role back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otplib.vm.context import local, lower_switch_interval, restore_switch_interval
from otplib.vm.stepping import run_guarded

if TYPE_CHECKING:
    from otplib.vm.carrier import Carrier
    from otplib.vm.scheduler import Scheduler

#: Steps that a borrower runs before it looks at its own work again.
MOST_STEPS: Final = 32
#: The interpreter's switch interval while hogs run, seconds. Measured with a 1 ms ticker beside 4 hogs: see benchmarks.
BUSY_INTERVAL: Final = 0.0001


def borrow_role(scheduler: Scheduler, carrier: Carrier) -> bool:
    """Take the role for `carrier`, which is this thread's, from a holder that sleeps; False if none does."""
    if not scheduler.idle:
        return False
    with scheduler.machine.lock:
        lender = scheduler.role
        if not scheduler.idle or lender is None or scheduler.stopping:
            return False
        lender.lent = True
        carrier.lender = lender
        scheduler.idle = False
        scheduler.role = carrier
    local.carrier = carrier
    scheduler.watchdog.wake()
    return True


def run_borrowed(scheduler: Scheduler, carrier: Carrier) -> None:
    """Run what is runnable, a few steps of it, then give the role back. On the borrower's thread."""
    queue = scheduler.machine.queue
    for _ in range(MOST_STEPS):
        if scheduler.next_due <= scheduler.machine.now() and scheduler.role is carrier:
            scheduler.fire_timers()
        try:
            record = queue.popleft()
        except IndexError:
            break
        carrier.record = record
        if scheduler.role is not carrier:
            queue.appendleft(record)
            break
        run_guarded(scheduler, carrier, record)
    carrier.record = None
    if carrier.promises:
        carrier.keep_promises()
    local.carrier = None
    _give_back(scheduler, carrier)


def _give_back(scheduler: Scheduler, carrier: Carrier) -> None:
    machine = scheduler.machine
    with machine.lock:
        lender, carrier.lender = carrier.lender, None
        was_stuck, carrier.stuck = carrier.stuck, False
        if was_stuck:
            scheduler.busy -= 1
        if lender is not None and scheduler.role is carrier:
            lender.lent = False
            scheduler.role = lender
            if machine.queue or scheduler.stopping or scheduler.next_due < lender.wakes_at or scheduler.settlers:
                lender.bell.release()  # `idle` stays False: it is awake from now on
            else:
                scheduler.idle = True
    if was_stuck:
        restore_switch_interval()
        scheduler.ring()  # the holder may have somebody to tell that all is quiet now


def end_loan(scheduler: Scheduler, carrier: Carrier) -> None:
    """Take a role that was lent too long back for its lender. For the watchdog."""
    lower_switch_interval(BUSY_INTERVAL)  # first: the lender has to win the interpreter from a hog
    stuck = False
    with scheduler.machine.lock:
        lender = carrier.lender
        if lender is not None and scheduler.role is carrier:
            stuck = _take_back(scheduler, carrier, lender)
    if stuck:
        carrier.on_stuck()
    else:
        restore_switch_interval()
    if carrier.promises:
        carrier.keep_promises()


def _take_back(scheduler: Scheduler, carrier: Carrier, lender: Carrier) -> bool:
    """Give the role to its lender, with the lock held; tells whether the borrower is in the middle of a step."""
    carrier.lender = None
    lender.lent = False
    scheduler.role = lender
    scheduler.hand_offs += 1
    stuck = carrier.record is not None
    if stuck:
        carrier.stuck = True
        scheduler.busy += 1
        carrier.open_gate()
    lender.bell.release()
    return stuck
