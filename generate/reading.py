"""Texts that are read before their rows can write: prompts, and windows that restart. A few tokens of them a step."""

import time
from collections import deque
from dataclasses import dataclass, field

from torch import Tensor

from generate.cache import Prefix
from generate.log import RunLog
from generate.row import Row

MOST_TOKENS = 1024  # read in one step when nobody is writing
LEAST_TOKENS = 8  # read in one step however slow the machine
SLOWER = 1.8  # a step that also reads may take this many times the step that only writes


@dataclass(eq=False)
class Reading:
    """A stretch of tokens to read, `ids` from `start` on. `rows` wait for it; `later` are the run's rows not yet let in.

    When it is read, `logits` [1, V] predict the next token.
    """

    run: RunLog
    rows: list[Row]
    prefix: Prefix
    ids: list[int]
    start: int
    statistics: bool
    later: deque[Row] = field(default_factory=deque)
    logits: Tensor | None = None

    @property
    def left(self) -> int:
        """Tokens still to be read."""
        return len(self.ids) - self.start - self.prefix.length

    @property
    def next(self) -> int:
        """Index in `ids` of the next token to be read."""
        return self.start + self.prefix.length


class Pace:
    """How many tokens may be read beside the writing, so that nobody's text halts.

    It learns how long a step takes that only writes, and what each token read adds to one; both in seconds.
    """

    def __init__(self):
        self.writing: float | None = None
        self.token: float | None = None
        self._begun = 0.0

    def begin(self) -> None:
        self._begun = time.perf_counter()

    def end(self, rows: int, tokens: int) -> None:
        """A step is over that wrote for `rows` rows and read `tokens` tokens."""
        taken = time.perf_counter() - self._begun
        if tokens == 0:
            self.writing = smooth(self.writing, taken)
        elif rows == 0:
            self.token = smooth(self.token, taken / tokens)
        elif self.writing is not None and tokens >= LEAST_TOKENS:  # of fewer the fixed part is most
            self.token = smooth(self.token, max(0.0, taken - self.writing) / tokens)

    def budget(self, rows: int) -> int:
        """Tokens that the next step may read while it writes for `rows` rows."""
        if rows == 0:
            return MOST_TOKENS
        if self.writing is None:
            return 0  # one step without reading tells
        if not self.token:
            return LEAST_TOKENS
        spare = (SLOWER - 1) * self.writing / self.token
        return int(min(max(spare, LEAST_TOKENS), MOST_TOKENS))


def smooth(before: float | None, now: float) -> float:
    return now if before is None else 0.8 * before + 0.2 * now
