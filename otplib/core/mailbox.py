"""A mailbox: many senders append, one owner takes, in any order it likes.

Two parts make it work without a lock. The mailbox itself is a list to which senders append, one step of the
interpreter. The owner alone removes: it takes from the front, and what does not fit the pattern it waits for moves to
`saved`, in order. So `saved` and then the list is the order of arrival, always. The owner takes exactly as many from
the front as it has seen, and a message appended meanwhile stays behind them.

An empty `deque` weighs 760 bytes, two thirds of a process; `saved` is made when the first message is passed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final


class _Empty:
    def __repr__(self) -> str:
        return "EMPTY"


#: What `take` gives when nothing fits: no message can be this object.
EMPTY: Final = _Empty()

#: From this length on the list moves to `saved` as a whole: `list.pop(0)` shifts all that follows.
SHORT: Final = 16


class Mailbox(list[Any]):
    """The messages of one process; as a list, those its owner has not looked at yet.

    A subclass may look at what is appended (see `GuardedMailbox` in the engine).

    Example:
        >>> box = Mailbox()
        >>> for message in ("a", "b", "c"): box.append(message)
        >>> box.take(lambda m: m == "b"), box.take_first(), box.messages()
        ('b', 'a', ['c'])
    """

    __slots__ = ("owner", "saved")

    #: Whose mailbox it is; set for guarded ones only.
    owner: Any

    def __init__(self) -> None:
        #: What the owner has looked at and passed over.
        self.saved: deque[Any] | None = None

    def count(self) -> int:  # type: ignore[override]  # of all messages; nobody counts equal ones
        """Give how many messages wait."""
        saved = self.saved
        return len(self) + (len(saved) if saved else 0)

    def messages(self) -> list[Any]:
        """Give all messages in order. Called by another thread while the owner works, it may miss the last move."""
        saved = self.saved
        return [*(list(saved) if saved else ()), *self]

    def take_first(self) -> Any:
        """Take the oldest message, or give `EMPTY`. For the owner alone."""
        saved = self.saved
        if saved:
            return saved.popleft()
        if not self:
            return EMPTY
        if len(self) < SHORT:
            return self.pop(0)
        return self._move().popleft()

    def take(self, fits: Callable[[Any], bool], start: int = 0) -> Any:
        """Take the oldest message that fits, or give `EMPTY`. For the owner alone.

        `start` says how many of the saved messages were looked at before by this same wait; `mark()` gives it.
        If `fits` raises, every message stays.
        """
        saved = self.saved
        if saved is not None and len(saved) > start:
            found = self._take_saved(saved, fits, start)
            if found is not EMPTY:
                return found
        if not self:
            return EMPTY
        start = len(saved) if saved else 0
        if not saved and len(self) < SHORT:
            if fits(self[0]):
                return self.pop(0)
            start = 1  # no message is looked at twice
        return self._take_saved(self._move(), fits, start)

    def mark(self) -> int:
        """Put all that came so far behind a mark; `take(fits, start=mark)` looks only at what comes later.

        This is how a call finds its answer in a mailbox of 100,000 others without reading them (the BEAM does the
        same for a fresh reference).
        """
        if self:
            return len(self._move())
        return len(self.saved) if self.saved else 0

    def _take_saved(self, saved: deque[Any], fits: Callable[[Any], bool], start: int) -> Any:
        for index, message in enumerate(islice(saved, start, None) if start else saved, start):
            if fits(message):
                del saved[index]
                return message
        return EMPTY

    def _move(self) -> deque[Any]:
        saved = self.saved
        if saved is None:
            saved = self.saved = deque()
        count = len(self)
        saved.extend(self[:count])
        del self[:count]
        return saved
