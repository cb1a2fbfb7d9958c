"""Texts that are read before their sequences can write: prompts, and windows that restart.

So are texts that are only scored, one window after another.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from generate.interface.log import RunLog
from generate.scheduling.sequence import Sequence
from generate.transformer.kv_cache import Prefix


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
