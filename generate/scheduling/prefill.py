"""Texts that are read before their sequences can write: prompts, and windows that restart. A few tokens of them a step.

So are texts that are only scored, one window after another.
"""

import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from generate.interface.log import RunLog
from generate.scheduling.sequence import Sequence
from generate.transformer.kv_cache import Prefix

MOST_TOKENS = 1024  # read in one step when nobody is writing
LEAST_TOKENS = 8  # read in one step however slow the machine
SLOWER = 1.8  # a step that also reads may take this many times the step that only writes


@dataclass(eq=False)
class Prefill:
    """A stretch of tokens to read, `ids` from `start` up to `end`. `sequences` wait for it; `later` are those of
    the run not yet let in.

    When it is read, `logits` [1, V] predict the next token. The tokens from index `first` on are judged (none where it
    is past the last). `records` are what this reading knows of ids[start : end + 1]. They are no more than that: the
    run's prompt may hold what was known of its tokens before, which some other model may have thought.
    """

    run: RunLog
    sequences: list[Sequence]
    prefix: Prefix
    ids: list[int]
    start: int
    end: int
    first: int
    records: np.ndarray
    later: deque[Sequence] = field(default_factory=deque)
    logits: Tensor | None = None

    @property
    def left(self) -> int:
        """Tokens still to be read."""
        return self.end - self.start - self.prefix.length

    @property
    def next(self) -> int:
        """Index in `ids` of the next token to be read."""
        return self.start + self.prefix.length

    @property
    def statistics(self) -> bool:
        """Whether any of its tokens is judged."""
        return self.first < len(self.ids)

    def judged(self, count: int) -> range:
        """Indices of the tokens that are judged by reading `count` more: each tells of the one after it."""
        return range(max(self.next + 1, self.first), min(self.next + 1 + count, len(self.ids)))

    def note(self, place: int, found: np.ndarray) -> None:
        """Take records of the tokens from index `place` on. What the run knew already of its prompt stays as it was."""
        self.records[place - self.start :][: len(found)] = found
        with self.run.changed:
            known = self.run.prompt[place : place + len(found)]
            new = (known["rank"] == 0) & (found["rank"] > 0)
            known[new] = found[new]
            if (
                self.sequences and self.sequences[0].request.only_reads
            ):  # nothing else will tell that there is more to see
                self.run.touch()


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

    def end(self, sequences: int, tokens: int) -> None:
        """A step is over that wrote for so many sequences and read `tokens` tokens."""
        taken = time.perf_counter() - self._begun
        if tokens == 0:
            self.writing = smooth(self.writing, taken)
        elif sequences == 0:
            self.token = smooth(self.token, taken / tokens)
        elif self.writing is not None and tokens >= LEAST_TOKENS:  # of fewer the fixed part is most
            self.token = smooth(self.token, max(0.0, taken - self.writing) / tokens)

    def budget(self, sequences: int) -> int:
        """Tokens that the next step may read while it writes for so many sequences."""
        if sequences == 0:
            return MOST_TOKENS
        if self.writing is None:
            return 0  # one step without reading tells
        if not self.token:
            return LEAST_TOKENS
        spare = (SLOWER - 1) * self.writing / self.token
        return int(min(max(spare, LEAST_TOKENS), MOST_TOKENS))


def smooth(before: float | None, now: float) -> float:
    return now if before is None else 0.8 * before + 0.2 * now
