"""`Global` names, as long as the machine is no node of a cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from otplib.vm.process_record import ProcessRecord, Status


class GlobalNames:
    """Which process has which name; one process may have many. Guarded by the machine's lock."""

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self._holders: dict[Any, ProcessRecord] = {}
        #: The names of a process; no entry without a name.
        self.terms: dict[ProcessRecord, list[Any]] = {}

    def find(self, term: Any) -> ProcessRecord | None:
        """Give who has a name.

        Raises:
            TypeError: the term cannot be a name, as it can change.
        """
        return self._holders.get(_check_term(term))

    def register(self, term: Any, record: ProcessRecord | None) -> bool:
        """Give a process a name; False if somebody has it, itself too, or the process is dead."""
        _check_term(term)
        with self._lock:
            if record is None or record.state is Status.DEAD or record.doom is not None or term in self._holders:
                return False
            self._holders[term] = record
            self.terms.setdefault(record, []).append(term)
            return True

    def unregister(self, term: Any) -> None:
        """Take a name back, if anybody has it."""
        _check_term(term)
        with self._lock:
            record = self._holders.pop(term, None)
            if record is not None:
                terms = self.terms[record]
                terms.remove(term)
                if not terms:
                    del self.terms[record]

    def forget(self, record: ProcessRecord) -> None:
        """Free the names of a process that has ended. With the lock held."""
        for term in self.terms.pop(record, ()):
            del self._holders[term]


def _check_term(term: Any) -> Any:
    try:
        hash(term)
    except TypeError:
        raise TypeError(
            f"expected Global(term) with a term that cannot change, such as a str or a tuple of them; got {term!r}"
        ) from None
    return term
