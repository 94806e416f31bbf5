"""Every exception that otplib raises; the tree is drawn in `otplib.core.errors`, where they live."""

from otplib.core.errors import (
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
    RpcError,
    StartError,
    SystemLimitError,
)

__all__ = [
    "CallTimeout",
    "ChildError",
    "CopyError",
    "DecodeError",
    "Exit",
    "LeaderError",
    "MachineError",
    "NameTakenError",
    "NoProcessError",
    "NoSuchNameError",
    "NodeError",
    "OtplibError",
    "RpcError",
    "StartError",
    "SystemLimitError",
]
