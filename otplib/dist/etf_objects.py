"""Python objects that are no terms, between Python nodes: a pickle in a tagged binary.

The only place that pickles, and `load` opens nothing unless the caller says that the peer has shown that it knows the
cookie. Classes and functions of a notebook travel by value (cloudpickle); what can be imported travels by name.
A payload is two bytes, the Python version that wrote it, and the pickle.
"""

from __future__ import annotations

import builtins
import io
import pickle
import sys
import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from otplib.core.terms import Pid, Ref
from otplib.dist.etf_terms import Sealed

_OWN_VERSION: Final = bytes(sys.version_info[:2])
_MAKERS: Final = ("cloudpickle.cloudpickle", "cloudpickle")


class MissingPackage(ImportError):
    """cloudpickle is not installed."""


def dump(value: Any, write_identity: Callable[[Any], bytes]) -> bytes:
    """Give the payload of a Python object; its pids and references are written by `write_identity`.

    Raises:
        MissingPackage: cloudpickle is not installed.
        Exception: whatever the object raises when it is pickled.
    """
    file = io.BytesIO()
    pickler = _pickler_class()(file, protocol=5)
    pickler.write_identity = write_identity
    pickler.dump(value)
    return _OWN_VERSION + file.getvalue()


@cache
def _pickler_class() -> Any:
    """Make the class when the first object is sent: not before is cloudpickle imported."""
    try:
        import cloudpickle  # type: ignore[import-untyped, unused-ignore]  # here: plain terms never need it
    except ImportError:
        raise MissingPackage(
            "Python objects travel by cloudpickle, which is not installed: pip install cloudpickle"
        ) from None

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc, name-defined, unused-ignore]  # no types there
        write_identity: Callable[[Any], bytes]

        def persistent_id(self, item: Any) -> bytes | None:
            # A pid inside an object must get this node's name as it does outside.
            return self.write_identity(item) if isinstance(item, Pid | Ref) else None

    return Pickler


def load(
    payload: bytes,
    allowed: bool,
    read_identity: Callable[[bytes], Any],
    names: Mapping[str, Any] | None = None,
) -> Any:
    r"""Open a payload, or give it as `Sealed`: not allowed, or it cannot be rebuilt here.

    One object that cannot be rebuilt (its module is not installed here) must not cost the connection.

    Example:
        >>> load(b"\x03\x0d...", False, repr)
        #Sealed<5 bytes: unpickling is switched off>
    """
    if not allowed:
        return Sealed(payload, "unpickling is switched off")
    try:
        return _Unpickler(payload, read_identity, names).load()
    except Exception as error:
        return Sealed(payload, f"{type(error).__name__}: {error}"[:200])


class _Unpickler(pickle.Unpickler):
    """Opens a payload; functions made here look up the names they did not bring where they landed."""

    def __init__(self, payload: bytes, read_identity: Callable[[bytes], Any], names: Mapping[str, Any] | None) -> None:
        super().__init__(io.BytesIO(payload[2:]))
        self._version = payload[:2]
        self._read_identity = read_identity
        self._names = names

    def persistent_load(self, raw: Any) -> Any:
        return self._read_identity(raw)

    def find_class(self, module: str, name: str) -> Any:
        if module in _MAKERS:
            if name == "_make_function":
                if self._version != _OWN_VERSION:
                    # Byte code of another version is not refused by the interpreter: it crashes it.
                    theirs = ".".join(map(str, self._version))
                    ours = ".".join(map(str, _OWN_VERSION))
                    raise pickle.UnpicklingError(f"a function made by Python {theirs} cannot run on {ours}")
                return self._make_function
            if name == "_function_setstate":
                return self._set_function_state
        return super().find_class(module, name)

    def _make_function(self, code: Any, names: dict[str, Any], *rest: Any) -> Any:
        names["__builtins__"] = _Landing(self._names)
        return types.FunctionType(code, names, *rest)

    def _set_function_state(self, function: Any, state: Any) -> None:
        set_state = super().find_class(_MAKERS[0], "_function_setstate")
        landing = function.__globals__["__builtins__"]
        set_state(function, state)
        # It put the plain builtins back; functions that this one makes take theirs from here.
        function.__globals__["__builtins__"] = landing


class _Landing(dict[str, Any]):
    """The builtins of a function that came from another node: where Python looks last, it looks around here.

    Not a copy of the names: a cell that defines `H` after the function arrived is seen too.
    """

    def __init__(self, names: Mapping[str, Any] | None) -> None:
        super().__init__(vars(builtins))
        self._names = names

    def __missing__(self, name: str) -> Any:
        names = vars(sys.modules["__main__"]) if self._names is None else self._names
        return names[name]
