"""Services: a supervised tree that an operating system starts and stops.

| verb | what happens |
|---|---|
| `run_forever(spec)` | starts the tree, blocks the main thread until SIGTERM, SIGINT or the tree's own end; stops it |
| `start_service(spec)` | starts the tree and returns: for a program with a main loop of its own, at import if need be |
| `Service.stop()` | stops the tree, last child first, each within its `shutdown`, and returns when it is down |

`spec` is a supervisor (`Shop`, `(Shop, arg)`, its `ChildSpec`), which is started as it is, or one or several other
children, which get a supervisor of their own.

How `run_forever` ends:

| what happened | what it does | exit status of a script that ends with it |
|---|---|---|
| the first SIGTERM or SIGINT | the tree is stopped, then it returns | 0 |
| a second one while the tree stops | the operating system ends the process at once, as for any program | 143 or 130 |
| somebody in the tree stopped it: `Supervisor.stop(top)`, reason `"normal"` | returns | 0 |
| the tree ended by itself: too many restarts or `auto_shutdown`, both `"shutdown"` | raises `SystemExit(1)` | 1 |
| the tree had to be killed, since `shutdown=` seconds had passed | raises `SystemExit(1)` | 1 |
| the tree did not start | raises `StartError` | 1 |

On the BEAM this is a release: `init:stop()` on SIGTERM, and the end of the node, with status 1, with that of a
permanent application.

Between the tree and the ordinary code stands one process, the keeper: it is the tree's parent, traps exits, and takes
the order to stop. Race, in order: the tree may end while the order is on its way; the keeper sees the exit first, says
how it ended, and the order is lost with the keeper, whose end is all that `stop` waits for.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
from _thread import allocate_lock
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

from otplib.behaviours.children import start_process, stop_process
from otplib.behaviours.supervisor import Supervisor
from otplib.core.child_spec import ChildSpec, normalise
from otplib.core.copying import copied
from otplib.core.errors import MachineError, StartError
from otplib.core.reasons import Raised, format_exit, is_quiet
from otplib.core.restarts import Strategy
from otplib.core.terms import Pid
from otplib.process import flag, receive
from otplib.vm.context import local
from otplib.vm.machine import Machine
from otplib.vm.shell import current_record

__all__ = ["Service", "run_forever", "start_service"]

log = logging.getLogger("otplib")

#: What ends a service in good order.
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_STOP: Final = "$service_stop"


class Service:
    """A tree under way. `start_service` gives one; as a context manager it stops the tree at the end of the block."""

    def __init__(self, spec: ChildSpec) -> None:
        record = current_record()
        #: The supervisor at the top of the tree.
        self.pid: Pid | None = None
        self._machine: Machine = record.machine
        #: Rung by the keeper: when the tree is up, and when it is down.
        self._started, self._ended = allocate_lock(), allocate_lock()
        #: Rung for whoever waits in `run_forever`: by the end, and by signals.
        self._bell = allocate_lock()
        for lock in (self._started, self._ended, self._bell):
            lock.acquire()
        #: How the keeper ended, once it has.
        self.reason: Any = None
        self._is_down = False
        self._refusal: BaseException | None = None
        self._stopping = False
        self._keeper, _ = self._machine.spawn(_keep, (self, copied(spec)), {}, record, on_exit=self._on_exit)

    def __deepcopy__(self, memo: Any) -> Service:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Tell whether the tree is still up."""
        return not self._is_down

    def stop(self, timeout: float | None = None) -> None:
        """Stop the tree and return when it is down: last child first, each within its own `shutdown`. Once down,
        nothing more happens.

        Args:
            timeout: seconds that all of it may take; then the tree is killed.

        Raises:
            TimeoutError: it took longer, and was killed.
            MachineError: called inside a process, whose thread must not block: send the supervisor a stop there.
        """
        _refuse_process("Service.stop()")
        self._order_stop()
        if self._wait(self._ended, timeout):
            return
        pid = self.pid
        if pid is not None and not self._is_down:
            self._machine.doom(self._keeper, "killed")
            top = self._machine.find(pid)
            if top is not None:
                self._machine.doom(top, "killed")
        raise TimeoutError(f"the tree was not down within {timeout} s and has been killed")

    def _order_stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._machine.deliver(self._keeper, _STOP)

    def _wait(self, lock: Any, timeout: float | None) -> bool:
        """Block until `lock` is released, and leave it so for whoever comes next; False when time is up."""
        if not self._machine.scheduler.wait_for(lock, timeout):
            return False
        _ring(lock)
        return True

    def _wait_started(self) -> None:
        try:
            self._wait(self._started, None)
        except BaseException:  # Ctrl-C while the tree comes up
            self._machine.doom(self._keeper, "killed")
            raise
        if self._refusal is not None:
            raise self._refusal

    # ---- called in the keeper, or on the thread on which it ends ----------------------------------------------

    def _is_up(self, pid: Pid) -> None:
        self.pid = pid
        _ring(self._started)

    def _on_exit(self, reason: Any, result: Any) -> None:
        self.reason = result if reason == "normal" else reason
        if self.pid is None:
            self._refusal = _as_error(reason, result)
        self._is_down = True
        for lock in (self._started, self._ended, self._bell):
            _ring(lock)


def _ring(lock: Any) -> None:
    try:
        lock.release()
    except RuntimeError:  # rung already
        pass


def _as_error(reason: Any, result: Any) -> BaseException:
    """Give what `start_service` raises for a tree that did not come up."""
    if isinstance(result, BaseException):
        return result
    return reason.exception if isinstance(reason, Raised) else StartError(reason)


async def _keep(service: Service, spec: ChildSpec) -> Any:
    """Be the parent of the tree; give the reason with which it ended."""
    flag(trap_exit=True)
    try:
        top = await start_process(spec)
    except StartError as refusal:
        return refusal
    if top is None:
        return StartError("ignore")
    service._is_up(top)
    while True:
        match await receive(_STOP, ("EXIT", top, ...), ("EXIT", ..., ...)):
            case ("EXIT", pid, reason):
                if pid == top:
                    return reason
            case _:
                return await stop_process(spec, top)


# ---- the verbs -----------------------------------------------------------------------------------------------------


def start_service(
    spec: Any,
    *,
    strategy: Strategy = "one_for_one",
    max_restarts: int = 3,
    max_seconds: float = 5.0,
    shutdown: float | None = None,
) -> Service:
    """Start a supervised tree from ordinary code and return when all of it is up.

    The tree is stopped by `stop`, at the end of a `with` block, or else when the interpreter ends (by `atexit`, so not
    when a signal ends the process that nobody handles: for that there is `run_forever`).

    Args:
        spec: a supervisor, another child, or a list of children.
        strategy, max_restarts, max_seconds: of the supervisor that is made for children.
        shutdown: seconds that the whole tree may take to stop, then it is killed; None for no limit but those of its
            children.

    Raises:
        StartError: it did not start, the `.reason` tells why.
        TypeError: something that is no child.
        MachineError: called inside a process: start a supervisor there.

    Example:
        >>> from otplib import GenServer, Ok, Reply, run
        >>> class Clerk(GenServer):
        ...     @classmethod
        ...     async def start_link(cls, arg): return await super().start_link(arg, name="clerk")
        ...     def handle_call(self, request, caller, state): return Reply(f"{request} {state}", state)
        >>> with start_service((Clerk, "at once")) as service:
        ...     run(GenServer.call, "clerk", "tea")
        'tea at once'
        >>> service.running
        False
    """
    _refuse_process("start_service(...)")
    options = {"strategy": strategy, "max_restarts": max_restarts, "max_seconds": max_seconds}
    service = Service(_tree_of(spec, options, shutdown))
    service._wait_started()
    _stop_at_exit(service)
    return service


def run_forever(
    spec: Any,
    *,
    strategy: Strategy = "one_for_one",
    max_restarts: int = 3,
    max_seconds: float = 5.0,
    shutdown: float | None = None,
) -> None:
    """Run a supervised tree until SIGTERM or SIGINT, or its own end; then stop it, in reverse order. The last line of a
    service's script. See `start_service` for the arguments, and the table above for the exit status.

    From the first signal on the two signals have their default effect, so the second one ends the process at once,
    whatever the tree is doing. When this returns they have the handlers they had before.

    Raises:
        StartError: the tree did not start.
        SystemExit: 1, if it ended unasked with a reason other than normal, or had to be killed.
        MachineError: not called in the main thread, the only one that may handle signals.

    Example:
        >>> import os, signal
        >>> from otplib import ChildSpec, spawn_link
        >>> async def start_worker(): return spawn_link(work)
        >>> def work(): print("working"); os.kill(os.getpid(), signal.SIGTERM)
        >>> run_forever(ChildSpec("worker", (start_worker, ()), restart="temporary"))
        working
    """
    _refuse_process("run_forever(...)")
    if threading.current_thread() is not threading.main_thread():
        raise MachineError(
            "run_forever(...) handles signals, which only the main thread may; on any other write "
            "start_service(...), and Service.stop() when it is time"
        )
    got: list[int] = []
    bells: list[Any] = []

    def on_signal(number: int, frame: object) -> None:
        got.append(number)
        for again in SIGNALS:
            signal.signal(again, _default_of_signals())
        for bell in bells:  # nothing else: this runs between two steps of whatever the main thread does
            _ring(bell)

    with _handling(on_signal):
        options = {"strategy": strategy, "max_restarts": max_restarts, "max_seconds": max_seconds}
        service = Service(_tree_of(spec, options, shutdown))
        bells.append(service._bell)
        service._wait_started()
        if not got:
            service._machine.scheduler.wait_for(service._bell, None)
        if got:
            log.info("%s: stopping %r", signal.Signals(got[0]).name, service.pid)
            service._order_stop()
        service._wait(service._ended, None)
    _judge(service.reason, asked=bool(got))


def _judge(reason: Any, *, asked: bool) -> None:
    if reason == "normal" or (asked and is_quiet(reason)):
        return
    log.error("the service has ended: ** (exit) %s", format_exit(reason))
    raise SystemExit(1)


def _default_of_signals() -> Any:
    """Give what a signal does to a program that knows nothing of it: it ends it, at once."""
    if os.getpid() != 1:
        return signal.SIG_DFL
    # In a container that it is alone in: to the first process of all the kernel gives no signal it does not handle.
    return lambda number, frame: os._exit(128 + number)


@contextmanager
def _handling(handler: Callable[[int, object], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            # None: set by C code, and cannot be put back from here.
            signal.signal(number, old if old is not None else signal.SIG_DFL)


#: The services to stop when the interpreter ends, oldest first.
_running: list[Service] = []


def _stop_at_exit(service: Service) -> None:
    if not _running:
        atexit.unregister(_stop_all)
        atexit.register(_stop_all)
    _running[:] = [one for one in _running if one.running]
    _running.append(service)


def _stop_all() -> None:
    for service in reversed(_running):
        if service.running and not service._machine.stopped:
            service.stop()
    _running.clear()


def _tree_of(spec: Any, options: dict[str, Any], shutdown: float | None) -> ChildSpec:
    """Give the specification of the supervisor at the top."""
    overrides = {} if shutdown is None else {"shutdown": shutdown}
    if not isinstance(spec, Sequence) or isinstance(spec, (str, tuple)):
        child = normalise(spec)
        if child.type == "supervisor":
            return normalise(child, **overrides)
        spec = [child]
    start = (_start_supervisor, ([normalise(child) for child in spec], options))
    return normalise(ChildSpec("service", start, type="supervisor"), **overrides)


async def _start_supervisor(children: list[ChildSpec], options: dict[str, Any]) -> Pid | None:
    return await Supervisor.start_link(children, **options)


def _refuse_process(what: str) -> None:
    carrier = local.carrier
    if carrier is not None and not carrier.may_block:
        raise MachineError(
            f"{what} blocks its thread, and this is a process: start a supervisor by `await Supervisor.start_link(...)`"
        )
