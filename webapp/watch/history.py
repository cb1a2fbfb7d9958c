"""How the numbers went in the last hour: kept in memory, of one server, and gone with it."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from webapp.watch.numbers import Numbers

EVERY = 10.0  # seconds between two looks
HOUR = 3600.0


@dataclass(frozen=True)
class Moment:
    """What was found at `at` (monotonic seconds); those that only grow are since the server began."""

    at: float
    written: int
    refused: int
    first_count: int
    first_sum: float
    step_count: int
    step_sum: float
    rows: int
    waiting: int
    streams: int
    memory: int | None
    disk_free: int

    @classmethod
    def of(cls, numbers: Numbers, at: float) -> "Moment":
        """The moment of some numbers."""
        whole = numbers.all
        return cls(
            at,
            whole.written,
            sum(numbers.refused.values()),
            whole.first_token.count,
            whole.first_token.sum,
            whole.steps.count,
            whole.steps.sum,
            sum(numbers.rows.values()),
            numbers.waiting,
            numbers.streams,
            numbers.memory,
            numbers.disk_free,
        )


Series = list[tuple[float, float | None]]  # seconds before now, and a value; None: nothing happened that has one


class History:
    """Moments, the newest last."""

    def __init__(self, most: int = int(HOUR / EVERY) + 1):
        self._moments: deque[Moment] = deque(maxlen=most)

    def add(self, moment: Moment) -> None:
        """One more."""
        self._moments.append(moment)

    def values(self, of: Callable[[Moment], float | None], now: float | None = None) -> Series:
        """A number at each moment."""
        now = time.monotonic() if now is None else now
        return [(now - moment.at, of(moment)) for moment in list(self._moments)]

    def rates(self, of: Callable[[Moment], float], now: float | None = None) -> Series:
        """How much a number that only grows has grown a second, between each two moments."""
        return self._between(lambda one, two: (of(two) - of(one)) / max(two.at - one.at, 1e-9), now)

    def means(
        self, total: Callable[[Moment], float], count: Callable[[Moment], int], now: float | None = None
    ) -> Series:
        """The mean of what happened between each two moments; None where nothing did."""

        def mean(one: Moment, two: Moment) -> float | None:
            times = count(two) - count(one)
            return (total(two) - total(one)) / times if times > 0 else None

        return self._between(mean, now)

    def _between(self, of: Callable[[Moment, Moment], float | None], now: float | None) -> Series:
        now = time.monotonic() if now is None else now
        return [(now - two.at, of(one, two)) for one, two in pairwise(list(self._moments))]
