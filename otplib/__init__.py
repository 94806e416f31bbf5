"""otplib: the ideas that made Erlang and Elixir famous, for Python developers, alive in a Jupyter kernel.

The house, floor by floor; a floor knows only those above it in this list:

    core/        values and decisions, pure: terms, patterns, reasons, mailbox, delivery, restarts
    vm/          the engine, the only threads: machine, scheduler, watchdog, traps, shell
    process      the verbs: what a process may say
    behaviours/  OTP, written with the verbs: gen_server, supervisor, dynamic_supervisor, partition_supervisor, task,
                 agent, registry, pg, system, timer, telemetry, group_leader
    service      a tree that a program starts, and stops on SIGTERM
    dist/        other nodes: term format, handshake, signals, epmd; net_kernel, router, receiver
    node         the verbs of distribution; rpc, erpc: calling functions there
    testing      deterministic tests for your own servers
    jupyter/     the kernel's side: output into the right cell, errors as Elixir shows them
    cli          the `otplib` command
"""

from __future__ import annotations

import sys as _sys

from otplib import erpc as erpc
from otplib import errors as errors
from otplib import node as node
from otplib import process as process
from otplib import rpc as rpc
from otplib.behaviours import group_leader as group_leader
from otplib.behaviours import pg as pg
from otplib.behaviours import system as system
from otplib.behaviours import telemetry as telemetry
from otplib.behaviours import timer as timer
from otplib.behaviours.agent import Agent
from otplib.behaviours.dynamic_supervisor import DynamicSupervise, DynamicSupervisor
from otplib.behaviours.gen import Caller
from otplib.behaviours.gen_server import GenServer
from otplib.behaviours.partition_supervisor import PartitionSupervisor
from otplib.behaviours.registry import KeyTakenError, Registry
from otplib.behaviours.returns import Continue, Ignore, NoReply, Ok, Reply, Stop
from otplib.behaviours.supervisor import Child, Supervise, Supervisor
from otplib.behaviours.task import Task
from otplib.core.child_spec import ChildSpec
from otplib.core.copying import shared
from otplib.core.reasons import Down, ExitMessage, Raised
from otplib.core.terms import Atom, Global, Pid, Ref, Via
from otplib.errors import (
    CallTimeout,
    ChildError,
    CopyError,
    DecodeError,
    Exit,
    LeaderError,
    MachineError,
    NameTakenError,
    NodeError,
    NoProcessError,
    NoSuchNameError,
    OtplibError,
    RemoteError,
    RpcError,
    StartError,
    SystemLimitError,
    Thrown,
)
from otplib.process import make_ref, receive, run, self_, send, sleep, spawn, spawn_link, spawn_monitor
from otplib.service import Service, run_forever, start_service
from otplib.vm.machine import Machine

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "Atom",
    "CallTimeout",
    "Caller",
    "Child",
    "ChildError",
    "ChildSpec",
    "Continue",
    "CopyError",
    "DecodeError",
    "Down",
    "DynamicSupervise",
    "DynamicSupervisor",
    "Exit",
    "ExitMessage",
    "GenServer",
    "Global",
    "Ignore",
    "KeyTakenError",
    "LeaderError",
    "Machine",
    "MachineError",
    "NameTakenError",
    "NoProcessError",
    "NoReply",
    "NoSuchNameError",
    "NodeError",
    "Ok",
    "OtplibError",
    "PartitionSupervisor",
    "Pid",
    "Raised",
    "Ref",
    "Registry",
    "RemoteError",
    "Reply",
    "RpcError",
    "Service",
    "StartError",
    "Stop",
    "Supervise",
    "Supervisor",
    "SystemLimitError",
    "Task",
    "Thrown",
    "Via",
    "erpc",
    "errors",
    "make_ref",
    "node",
    "pg",
    "process",
    "receive",
    "rpc",
    "run",
    "run_forever",
    "self_",
    "send",
    "shared",
    "sleep",
    "spawn",
    "spawn_link",
    "spawn_monitor",
    "start_service",
    "system",
    "telemetry",
    "timer",
]


def _activate() -> None:
    """Join the kernel this runs in, if it is one. Plain Python never imports IPython for it."""
    if "IPython" in _sys.modules:
        from IPython import get_ipython

        shell = get_ipython()
        if shell is not None:
            from otplib.jupyter import bridge

            bridge.install(shell)


_activate()
