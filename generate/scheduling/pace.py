"""How long steps take, and so how much may be read beside the writing."""

import time

MOST_TOKENS = 1024  # read in one step when nobody is writing
LEAST_TOKENS = 8  # read in one step however slow the machine
SLOWER = 1.8  # a step that also reads may take this many times the step that only writes


class Pace:
    """How many tokens may be read beside the writing, so that nobody's text halts.

    It learns how long a step takes that only writes, and what each token that is read, or judged, adds to one; all in
    seconds.
    """

    def __init__(self):
        self.writing: float | None = None
        self.token: float | None = None
        self.judged: float | None = None
        self._begun = 0.0

    def begin(self) -> None:
        """Start the clock of a step."""
        self._begun = time.perf_counter()

    def end(self, sequences: int, tokens: int, judged: int) -> float:
        """A step is over that wrote for so many sequences, and read and judged so many tokens; returns the seconds it took."""
        taken = time.perf_counter() - self._begun
        if not tokens and not judged:
            self.writing = smooth(self.writing, taken)
        elif not judged:
            self.token = self._each(self.token, taken, sequences, tokens)
        elif not tokens:
            self.judged = self._each(self.judged, taken, sequences, judged)
        return taken

    def _each(self, before: float | None, taken: float, sequences: int, tokens: int) -> float | None:
        if sequences == 0:
            return smooth(before, taken / tokens)
        if self.writing is not None and tokens >= LEAST_TOKENS:  # of fewer the fixed part is most
            return smooth(before, max(0.0, taken - self.writing) / tokens)
        return before

    def budget(self, sequences: int) -> int:
        """Tokens that the next step may read while it writes for so many sequences."""
        return self._fits(sequences, self.token)

    def may_judge(self, sequences: int) -> int:
        """Tokens that the next step may judge while it writes for so many sequences."""
        return self._fits(sequences, self.judged)

    def _fits(self, sequences: int, each: float | None) -> int:
        if sequences == 0:
            return MOST_TOKENS
        if self.writing is None:
            return 0  # one step that only writes tells
        if not each:
            return LEAST_TOKENS
        spare = (SLOWER - 1) * self.writing / each
        return int(min(max(spare, LEAST_TOKENS), MOST_TOKENS))


def smooth(before: float | None, now: float) -> float:
    """A moving average: 0.8 of `before` and 0.2 of `now`; `now` alone where there was none."""
    return now if before is None else 0.8 * before + 0.2 * now
