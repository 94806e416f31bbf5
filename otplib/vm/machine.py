"""A machine: the table of its processes, their names, and the routing of every signal between them.

Order. A signal takes effect in the sender's thread, at once, so signals from one process to another arrive in the
order they were sent, whatever their kind.

Races, told in order.
* *Message against park.* The sender appends, then reads the state; the runner writes WAITING, then reads the mailbox.
  Whoever comes second sees the other's write, so a message is never left behind with its receiver asleep. Both may
  see it: `wake` deletes `parked`, one step of the interpreter, and the loser finds it gone.
* *Exit against unlink, Down against demonitor.* A dying process takes itself out of its peer's links, or the watcher's
  monitors, and delivers in one hold of the lock, so after `unlink` or `demonitor` has returned nothing of it can come.
* *Fatal signal against the last step.* `doom` is set under the lock and `finish` runs once, under the lock; the
  loser finds the process DEAD.
"""

from __future__ import annotations

import itertools
import logging
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Self, cast

from otplib.core.delivery import Effect, copied_reason, effect_of
from otplib.core.errors import MachineError, NameTakenError, NoProcessError, SystemLimitError
from otplib.core.mailbox import Mailbox
from otplib.core.reasons import Down, ExitMessage, format_exit
from otplib.core.terms import NO_NODE, Pid, Ref
from otplib.core.timers import Timer, TimerHeap
from otplib.vm.aliases import Aliases
from otplib.vm.collector import FEW, MANY, crowd, disperse
from otplib.vm.context import own_decimal, runtime
from otplib.vm.global_names import GlobalNames
from otplib.vm.guard import OUTPUT_BIT, GuardedMailbox, OutputTag
from otplib.vm.hooks import Hooks
from otplib.vm.leaders import Leaders
from otplib.vm.process_record import ProcessRecord, Status
from otplib.vm.scheduler import Scheduler
from otplib.vm.suspensions import Suspensions
from otplib.vm.transport import NoTransport, Transport, is_far, is_far_process
from otplib.vm.user_timers import UserTimers

if TYPE_CHECKING:
    from otplib.vm.shell import Shell

log = logging.getLogger("otplib")

WAITING, PAUSED, RUNNABLE, DEAD = Status.WAITING, Status.PAUSED, Status.RUNNABLE, Status.DEAD


class Machine:
    """Processes and what carries them. `with machine:` makes it the machine of this thread's code.

    Args:
        max_processes: `spawn` raises `SystemLimitError` beyond it.
        max_carriers: the most threads that may be stuck in processes at once, the scheduler's own included. When
            all are stuck the others wait until one comes free.
        scheduler: what runs the steps; the default one has background threads.
        clock: gives seconds that never go back.
    """

    def __init__(
        self,
        *,
        max_processes: int = 4_000_000,
        max_carriers: int = 256,
        scheduler: Callable[[Machine], Scheduler] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        #: What this machine is called as a node.
        self.node = NO_NODE
        #: Tells this machine's pids and references from those of any other; random, as OTP's.
        self.creation = random.SystemRandom().randrange(4, 2**32)
        self.max_processes = max_processes
        self.now = clock
        #: Guards links, monitors, watchers, names, aliases, timers, and every move of a state but the runner's own.
        #: One that its holder may take again: the collector may run anywhere, and a user's `__del__` may send.
        self.lock = threading.RLock()
        self.table: dict[int, ProcessRecord] = {}
        self.names: dict[str, ProcessRecord] = {}
        self.aliases = Aliases(self)
        self.timers = TimerHeap()
        self.queue: deque[ProcessRecord] = deque()
        self.hooks = Hooks()
        self.leaders = Leaders(self)
        self.global_names = GlobalNames(self.lock)
        #: What reaches other nodes.
        self.transport: Transport = NoTransport(self)
        self.user_timers = UserTimers(self)
        self.suspensions = Suspensions(self)
        self.stopped = False
        #: See `collector`.
        self.crowded = False
        #: Called when the machine stops, latest first.
        self.at_stop: list[Callable[[], None]] = []
        #: What of a later floor keeps its own state on a machine (registries, nodes), by name.
        self.services: dict[str, Any] = {}
        self._numbers = itertools.count(100)
        #: Numbers references; one step of the interpreter.
        self.next_ref = itertools.count(1).__next__
        self.scheduler = scheduler(self) if scheduler is not None else Scheduler(self, max_carriers)
        self.enqueue = self.scheduler.enqueue
        runtime.machines.add(self)

    def __enter__(self) -> Self:
        runtime.local.machines = (*runtime.local.machines, self)
        return self

    def __exit__(self, *_: object) -> None:
        runtime.local.machines = runtime.local.machines[:-1]
        self.stop()

    # ---- birth -----------------------------------------------------------------------------------------------

    def spawn(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        parent: ProcessRecord,
        *,
        link: bool = False,
        monitor: bool = False,
        on_exit: Callable[[Any, Any], None] | None = None,
        limit: int | None = None,
        bind: Callable[[ProcessRecord], None] | None = None,
    ) -> tuple[ProcessRecord, Ref | None]:
        """Make a process that runs `fn(*args, **kwargs)`; gives its record and the monitor, if one was asked for.

        `bind` is called with the record before the process can run.
        """
        population = len(self.table)
        if population >= MANY and not self.crowded:
            crowd(self)
        if population >= self.max_processes:
            raise SystemLimitError(
                f"the machine is full: {self.max_processes} processes are alive. End some, or make it with "
                "Machine(max_processes=...)"
            )
        if self.stopped:
            raise MachineError("this machine has been stopped: spawn on another one")
        record = ProcessRecord(self, Pid(NO_NODE, next(self._numbers), 0, self.creation), parent, parent.leader)
        if record.leader is None:
            record.leader = self.leaders.of(parent)
        record.start = (fn, args, kwargs)
        record.initial = fn
        record.on_exit = on_exit
        context = record.context = copy_context()
        if "decimal" in sys.modules and len(context):
            own_decimal(context)
        if self.hooks.prepare_context is not None:
            self.hooks.prepare_context(record, context)
        if limit is not None or not self.leaders.is_built_in(record.leader):
            self.guard(record, limit)
        ref = None
        self.table[record.pid.id] = record
        if link:
            self.link(parent, record)
        if monitor:
            ref = self.monitor(parent, record, None)
        if bind is not None:
            bind(record)
        self.enqueue(record)
        return record, ref

    def guard(self, record: ProcessRecord, limit: int | None) -> None:
        """Watch what enters this mailbox: for a limit, or for answers to output that nobody waits for."""
        record.limit = limit if limit is not None else record.limit
        mailbox = self.mailbox_of(record)
        mailbox.owner = record
        mailbox.__class__ = GuardedMailbox

    def new_pid(self) -> Pid:
        """Give a pid nobody has had."""
        return Pid(NO_NODE, next(self._numbers), 0, self.creation)

    def new_ref(self) -> Ref:
        """Give a reference nobody has had."""
        return Ref(NO_NODE, self.next_ref(), self.creation)

    def new_output_tag(self) -> OutputTag:
        """Give the `reply_as` of an output request that nobody waits for."""
        return OutputTag(NO_NODE, OUTPUT_BIT | self.next_ref(), self.creation)

    # ---- looking up ------------------------------------------------------------------------------------------

    def find(self, pid: Pid) -> ProcessRecord | None:
        """Give the record of a living local process; None for the dead and the far.

        Raises:
            MachineError: the pid is of a machine that has stopped, or of another one in this interpreter.
        """
        record = self.table.get(pid.id)
        if record is not None and (record.pid is pid or record.pid == pid):
            return record
        if pid.creation != self.creation and pid.home == NO_NODE:
            raise MachineError(
                f"{pid!r} belongs to a machine that has stopped or to another one, and means nobody here: "
                "use the pid of a process that was spawned on this machine"
            )
        return None

    def alive(self, record: ProcessRecord | None) -> bool:
        """Tell whether a process lives and no fatal signal has reached it."""
        return record is not None and record.doom is None and record.state is not DEAD

    def records(self) -> Iterator[ProcessRecord]:
        """Give all processes in order of birth."""
        yield from [record for _, record in sorted(self.table.copy().items())]

    # ---- messages --------------------------------------------------------------------------------------------

    def mailbox_of(self, record: ProcessRecord) -> Mailbox:
        """Give a process's mailbox, made when the first message comes."""
        mailbox = record.mailbox
        if mailbox is None:
            with self.lock:  # two senders may come first
                mailbox = record.mailbox
                if mailbox is None:
                    mailbox = record.mailbox = Mailbox()
        return mailbox

    def deliver(self, record: ProcessRecord, message: Any) -> None:
        """Put a message into a mailbox and wake the owner if it waits. Safe on any thread."""
        mailbox = record.mailbox
        if mailbox is None:
            if record.state is DEAD:
                return
            mailbox = self.mailbox_of(record)
        mailbox.append(message)
        if record.state is WAITING:
            self.wake(record)

    def _append_locked(self, record: ProcessRecord, message: Any) -> None:
        """Put a signal's message into a living process's mailbox, the lock held; `_arrived` follows without it.

        Not by the mailbox's own `append`: a guarded one would log, or take the lock to end its owner.
        """
        if record.mailbox is None:
            record.mailbox = Mailbox()
        list.append(record.mailbox, message)

    def _arrived(self, record: ProcessRecord) -> None:
        """Do what is left to do once a message lies in the mailbox."""
        mailbox = record.mailbox
        if type(mailbox) is GuardedMailbox:
            mailbox.check_limit()
        if record.state is WAITING:
            self.wake(record)

    def wake(self, record: ProcessRecord) -> None:
        """Make a process runnable if it waits. Safe on any thread, without the lock."""
        if record.is_shell:
            with self.lock:
                alert = record.alert if record.state is WAITING or record.state is PAUSED else None
                if alert is not None:
                    record.state = RUNNABLE
            if alert is not None:
                alert()
            return
        try:
            del record.parked  # one step of the interpreter: of several wakers one alone succeeds, and needs no lock
        except AttributeError:
            return
        record.state = RUNNABLE
        self.enqueue(record)

    def nudge(self, record: ProcessRecord) -> None:
        """Make a process look again, whatever it waits for."""
        record.pending = True
        if record.state is WAITING or record.state is PAUSED:
            self.wake(record)

    # ---- exit signals ----------------------------------------------------------------------------------------

    def signal_exit(self, sender: Pid, record: ProcessRecord, reason: Any, *, by_link: bool) -> None:
        """Let an exit signal take effect on a local process."""
        effect, why = effect_of(
            reason, trapping=record.trapping, by_link=by_link, from_self=not by_link and sender == record.pid
        )
        if effect is Effect.MESSAGE:
            self.deliver(record, ExitMessage("EXIT", sender, why))
        elif effect is Effect.DEATH:
            self.doom(record, why)

    def doom(self, record: ProcessRecord, reason: Any) -> None:
        """End a process by a signal: from now on it counts as dead; its scheduler closes it at its next turn."""
        with self.lock:
            if record.state is DEAD or record.doom is not None:
                return
            record.doom = (reason,)
        self._carry_out_doom(record, reason)

    def _carry_out_doom(self, record: ProcessRecord, reason: Any) -> None:
        if record.is_shell:
            self._end_shell(cast("Shell", record), reason)
        else:
            self.scheduler.close_soon(record)

    def _end_shell(self, shell: Shell, reason: Any) -> None:
        """A shell has no step in which it could be closed: it is dead at once, and its code hears of it.

        Race, in order: the doom is written, then `waiting` is read here; code that waits writes `waiting` and then
        looks for a doom. So code that is found waiting here raises `Exit`, also if it has been woken meanwhile.
        """
        told, alert = shell.waiting, shell.alert
        self.finish(shell, reason)
        if alert is not None:
            alert()
        if told:
            return
        if self.stopped:
            pass  # nobody is surprised
        elif self.hooks.shell_died is not None:
            self.hooks.shell_died(shell.pid, reason)
        else:
            log.error("** (EXIT from %r) shell process exited with reason: %s", shell.pid, format_exit(reason))

    def finish(self, record: ProcessRecord, reason: Any, result: Any = None) -> None:
        """Bury a process: free its name, then tell its links and monitors. Safe on any thread; done once.

        The name goes first, so whoever hears of the death finds it free (row p32).
        """
        with self.lock:
            if record.state is DEAD:
                return
            record.state = DEAD
            self.table.pop(record.pid.id, None)
            if record.name is not None:
                del self.names[record.name]
            links, watchers, monitors, aliases = record.links, record.watchers, record.monitors, record.aliases
            record.links = record.watchers = record.monitors = record.aliases = None
            # What the process held goes when this function ends: somebody's `__del__` must not run with the lock held.
            remains = record.coro, record.start, record.mailbox, record.dictionary, record.context
            record.coro = record.start = record.mailbox = record.dictionary = record.context = None
            self.aliases.forget(aliases)
            if self.global_names.terms:
                self.global_names.forget(record)
            if self.user_timers.owned:
                self.user_timers.forget(record)
        if self.suspensions.held:
            self.suspensions.release(record)
        if self.leaders.writers:
            self.leaders.writers.pop(record.pid, None)
        for ref, target in monitors.items() if monitors else ():
            self._forget_watcher(record.pid, ref, target)
        for peer in links or ():
            if is_far(peer):
                self.transport.break_link(record.pid, peer, reason)
            else:
                self.break_link(record.pid, peer, reason)
        for ref, watcher in list(watchers.items()) if watchers else ():
            if type(watcher) is tuple:
                what = record.pid if watcher[1] is None else watcher[1]
                far_or_here = watcher[0]
                if isinstance(far_or_here, Pid):
                    self.transport.report_down(ref, far_or_here, what, reason)
                else:
                    self.report_down(ref, far_or_here, what, reason)
            else:
                self.aliases.report_broken(ref, record.pid, reason)
        if self.crowded and len(self.table) < FEW:
            disperse(self)
        if record.on_exit is not None:
            record.on_exit(reason, result)
        del remains

    def _forget_watcher(self, watcher: Pid, ref: Ref, target: Any) -> None:
        if not isinstance(target, ProcessRecord):
            self.transport.demonitor(watcher, ref, target)
            return
        with self.lock:
            if target.watchers is not None:
                target.watchers.pop(ref, None)

    def break_link(self, dead: Pid, peer: Pid, reason: Any) -> None:
        """Let a process of ours hear of the end of one it is linked to, if it still is."""
        record = self.table.get(peer.id)
        if record is None:
            return
        trapping = record.trapping
        told = copied_reason(reason) if trapping else reason
        effect, why = effect_of(told, trapping=trapping, by_link=True, from_self=False)
        with self.lock:
            if record.links is None or record.links.pop(dead, self) is self:
                return
            # Message or doom within the lock, so that neither can come after an unlink has returned; the rest may.
            if effect is Effect.MESSAGE:
                self._append_locked(record, ExitMessage("EXIT", dead, why))
            elif effect is Effect.DEATH:
                if record.doom is not None:
                    return
                record.doom = (why,)
        if effect is Effect.MESSAGE:
            self._arrived(record)
        elif effect is Effect.DEATH:
            self._carry_out_doom(record, why)

    def report_down(self, ref: Ref, watcher: ProcessRecord, what: Any, reason: Any) -> None:
        """Let a process of ours hear of the end of one it monitors, if it still does."""
        message = Down("DOWN", ref, "process", what, copied_reason(reason))
        with self.lock:
            if watcher.monitors is None or watcher.monitors.pop(ref, None) is None:
                return
            self._append_locked(watcher, message)
        self._arrived(watcher)

    # ---- links and monitors ----------------------------------------------------------------------------------

    def link(self, record: ProcessRecord, other: ProcessRecord | None, pid: Pid | None = None) -> None:
        """Link two processes. To the dead: an exit message for one that traps, else `NoProcessError`."""
        if other is record:
            return
        if other is None and pid is not None and is_far(pid):
            self.transport.link(record, pid)
            return
        with self.lock:
            if other is not None and self.alive(other):
                if record.links is None:
                    record.links = {}
                if other.links is None:
                    other.links = {}
                record.links[other.pid] = None
                other.links[record.pid] = None
                return
        dead = other.pid if other is not None else pid
        assert dead is not None
        if not record.trapping:
            raise NoProcessError(
                f"cannot link to {dead!r}: it is not alive. Monitor it to be told, or trap exits before you link"
            )
        self.deliver(record, ExitMessage("EXIT", dead, "noproc"))

    def unlink(self, record: ProcessRecord, pid: Pid) -> None:
        """Take a link away on both sides; unknown and dead pids are fine."""
        if is_far(pid):
            self.transport.unlink(record, pid)
            return
        other = self.table.get(pid.id)
        with self.lock:
            if record.links is not None:
                record.links.pop(pid, None)
            if other is not None and other.links is not None:
                other.links.pop(record.pid, None)

    def monitor(
        self,
        record: ProcessRecord,
        target: ProcessRecord | None,
        named: Any,
        *,
        ref: Ref | None = None,
        pid: Any = None,
    ) -> Ref:
        """Watch a process; the dead give a Down with `"noproc"` at once. `named`: what Down shows, if not the pid."""
        if ref is None:
            ref = self.new_ref()
        if target is record:
            return ref
        if target is None and is_far_process(self.node, far := pid if pid is not None else named):
            self.transport.monitor(record, ref, far)
            return ref
        with self.lock:
            # Doomed but not yet buried counts: whoever hears of a death finds the name free (row p32).
            if target is not None and target.state is not DEAD:
                if target.watchers is None:
                    target.watchers = {}
                if record.monitors is None:
                    record.monitors = {}
                target.watchers[ref] = (record, named)
                record.monitors[ref] = target
                return ref
        what = named if named is not None else (target.pid if target is not None else pid)
        self.deliver(record, Down("DOWN", ref, "process", what, "noproc"))
        return ref

    def demonitor(self, record: ProcessRecord, ref: Ref) -> bool:
        """Stop watching; tells whether the monitor was still there."""
        with self.lock:
            target = record.monitors.pop(ref, None) if record.monitors is not None else None
        if target is None:
            return False
        self._forget_watcher(record.pid, ref, target)
        return True

    # ---- names -----------------------------------------------------------------------------------------------

    def register(self, record: ProcessRecord | None, name: str, pid: Pid) -> None:
        """Give a process a name; refused as on the BEAM (row n02)."""
        with self.lock:
            if record is not None and self.alive(record) and name not in self.names and record.name is None:
                self.names[name] = record
                record.name = name
                return
            holder = self.names.get(name)
        if holder is not None:
            why = f"the name is taken by {holder.pid!r}"
        elif record is None or not self.alive(record):
            why = "it is not alive"
        else:
            why = f"it already has the name {record.name!r}"
        raise NameTakenError(f"could not register {pid!r} as {name!r}: {why}")

    def unregister(self, name: str) -> bool:
        """Take a name back; False if nobody had it."""
        with self.lock:
            record = self.names.pop(name, None)
            if record is not None:
                record.name = None
            return record is not None

    # ---- time ------------------------------------------------------------------------------------------------

    def add_timer(self, when: float, action: Callable[[], Any]) -> Timer:
        """Do something on the scheduler's thread at a moment of the clock."""
        with self.lock:
            timer = self.timers.add(when, action)
        self.scheduler.timer_added(when)
        return timer

    def cancel_timer(self, timer: Timer) -> bool:
        """Cancel a timer; False if it has fired."""
        with self.lock:
            return self.timers.cancel(timer)

    def arm(self, record: ProcessRecord, deadline: float) -> None:
        """See to it that a process is nudged at `deadline`, by the entry it has in the heap or by a new one."""
        record.deadline = deadline
        if record.armed is None or record.armed > deadline:
            record.armed = deadline
            self.add_timer(deadline, lambda: self._check_deadline(record, deadline))

    def _check_deadline(self, record: ProcessRecord, armed: float) -> None:
        if record.armed != armed or record.state is DEAD:
            return  # an earlier entry was set since, and looks after it
        record.armed = None
        deadline = record.deadline
        if deadline is None:
            return
        if deadline > self.now():
            self.arm(record, deadline)
        else:
            self.nudge(record)

    # ---- the end ---------------------------------------------------------------------------------------------

    def settle(self, timeout: float) -> bool:
        """Block ordinary code until no process is runnable or running, at most `timeout` seconds; tell if it is so."""
        return self.scheduler.settle(timeout)

    def stop(self, timeout: float = 1.0) -> None:
        """End every process and give the threads back, within about `timeout` seconds. Idempotent.

        A thread that is stuck in a process stays behind as a daemon; what it does no longer reaches anybody.
        """
        if self.stopped:
            return
        self.stopped = True
        for undo in reversed(self.at_stop):
            undo()
        self.scheduler.stop(timeout)
        self.table.clear()
        with runtime.lock:
            if runtime.default is self:
                runtime.default = None

    def abandon(self) -> None:
        """Count as stopped in a forked child, where none of its threads is: nothing is told, nothing is waited for."""
        self.stopped = True
        self.lock = threading.RLock()
        self.transport.abandon()
        self.scheduler.abandon()


def default_machine() -> Machine:
    """Give the one machine that is process-wide; it is made when it is first asked for and starts no thread yet."""
    machine = runtime.default
    if machine is None:
        with runtime.lock:
            machine = runtime.default
            if machine is None:
                machine = runtime.default = Machine()
    return machine
