"""Where a sample's text ends, and how much of it may be shown while it is still being written."""

from collections import deque
from collections.abc import Sequence
from copy import copy

from generate.text.characters import CharacterGate


class Ending:
    """Follows the bytes of one sample: finds stop strings across token borders, and holds back what may still change.

    Held back are half characters (the text so far must not change when the rest arrives) and a tail that may turn out
    to be the beginning of a stop string. `released` counts the tokens that may be shown; `stop_at` is the byte at which
    the first stop string begins, or None. `before` is the half character that the prompt ended in, if any. Stop strings that
    are complete before the token `least` (from 1) are as any other text.
    """

    def __init__(self, stops: Sequence[bytes] = (), before: bytes = b"", least: int = 0):
        self._stops, self._least = [stop for stop in stops if stop], least
        self._longest = max(map(len, self._stops), default=0)
        self._beginnings = {stop[:length] for stop in self._stops for length in range(1, len(stop))}
        self._firsts = frozenset(stop[0] for stop in self._stops)
        self._tail = bytearray()  # the last bytes, enough to hold any stop string and the newest token
        self._gate = CharacterGate()
        self._gate.feed(before)
        self._boundaries: deque[tuple[int, int]] = deque()  # (tokens, bytes) after which a character is whole
        self.tokens = 0
        self.size = 0
        self.released = 0
        self.stop_at: int | None = None

    def __copy__(self) -> "Ending":
        other = object.__new__(Ending)
        other.__dict__.update(self.__dict__, _gate=copy(self._gate), _boundaries=self._boundaries.copy())
        return other

    def feed(self, token: bytes) -> None:
        """Take the bytes of the next token."""
        self.tokens += 1
        self.size += len(token)
        if self._gate.feed(token) == 0:
            self._boundaries.append((self.tokens, self.size))
        if self._longest:
            self._tail = self._tail[max(0, len(self._tail) - self._longest + 1) :] + token
            if self.tokens >= self._least:
                self._find_stop(len(token))
        shown = self.size - self._held_for_stop() if self.stop_at is None else self.stop_at
        while self._boundaries and self._boundaries[0][1] <= shown:
            self.released = self._boundaries.popleft()[0]

    def _find_stop(self, new: int) -> None:
        """Look for a stop string that the last `new` bytes have completed."""
        old = len(self._tail) - new
        found = [place for stop in self._stops if (place := self._tail.find(stop, max(0, old - len(stop) + 1))) >= 0]
        if found:
            self.stop_at = self.size - len(self._tail) + min(found)

    def _held_for_stop(self) -> int:
        """Length of the longest tail that is a beginning of some stop string."""
        if self._firsts.isdisjoint(self._tail[-self._longest :]):  # as nearly always
            return 0
        for length in range(min(self._longest - 1, len(self._tail)), 0, -1):
            if bytes(self._tail[-length:]) in self._beginnings:
                return length
        return 0
