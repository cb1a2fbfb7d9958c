"""What an engine has done since it began, counted by model, for whoever watches over it.

Nothing here has a lock of its own: each number is changed by one thread, or by whoever holds the engine's lock, and readers
take what they find. So counting costs a step a few additions, and a token nothing.
"""

import threading
import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

MOST = 6  # models that are counted by their names
OTHERS = "(others)"  # what all further ones are counted under
FIRST_TOKEN = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)  # bounds in seconds
STEP = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Histogram:
    """How often a number of seconds was at most each of `bounds`, and beyond the last; and the `sum` of all."""

    def __init__(self, bounds: tuple[float, ...]):
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    @property
    def count(self) -> int:
        """How many were counted."""
        return sum(self.counts)

    def add(self, other: "Histogram") -> None:
        """Count all that another has counted, which has the same bounds."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


@dataclass(eq=False)
class Tally:
    """One model's: numbers that only grow.

    `runs` were taken in line, those not counted that yield, and `refused` were not, as the line was full. `written` and
    `read` are tokens, `ended` samples by their `FinishReason`. `first_token` is how long runs waited for theirs, from the
    moment they came, and `steps` how long passes took; where others compute there are no steps, and nothing is told of
    what they read.
    """

    runs: int = 0
    refused: int = 0
    written: int = 0
    read: int = 0
    ended: Counter = field(default_factory=Counter)
    first_token: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN))
    steps: Histogram = field(default_factory=lambda: Histogram(STEP))

    def step(self, seconds: float, written: int, read: int) -> None:
        """One pass was made, which wrote and read so many tokens."""
        self.steps.observe(seconds)
        self.written += written
        self.read += read

    def first(self, since: float) -> None:
        """A run that came at `since` (monotonic) has its first token."""
        self.first_token.observe(time.monotonic() - since)

    def add(self, other: "Tally") -> None:
        """Count all that another has counted."""
        self.runs += other.runs
        self.refused += other.refused
        self.written += other.written
        self.read += other.read
        self.ended.update(other.ended.copy())
        self.first_token.add(other.first_token)
        self.steps.add(other.steps)


class Tallies:
    """Those of one engine: of the first `MOST` models that were asked for, and one for all others."""

    def __init__(self):
        self._by_name: dict[str, Tally] = {}
        self._lock = threading.Lock()

    def of(self, name: str) -> Tally:
        """The tally of a model."""
        with self._lock:
            if name not in self._by_name and len(self._by_name) >= MOST:
                name = OTHERS
            return self._by_name.setdefault(name, Tally())

    def all(self) -> dict[str, Tally]:
        """All of them, by the models' names."""
        with self._lock:
            return dict(self._by_name)
