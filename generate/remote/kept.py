"""What a sampler left, worked out from the ten likeliest tokens where they are enough to know it."""

import math
from collections.abc import Sequence

import numpy as np

from generate.sampling.filters import is_greedy
from generate.sampling.in_use import EVERYWHERE, in_use
from generate.sampling.options import Sampling
from generate.sampling.records import UNKNOWN

READABLE = EVERYWHERE | {"min_p"}  # samplers that act on nothing but these probabilities
Found = tuple[float, float, int]
NOTHING: Found = UNKNOWN, UNKNOWN, 0


class Kept:
    """Works out `sampled_logprob`, `filter_norm` and `cut` of a record, for the options of one run.

    They are known where all that was kept is among the alternatives, or where nothing was cut or changed. With top_p and
    min_p at once they are not: engines differ in which of the two comes first.
    """

    def __init__(self, sampling: Sampling):
        used = in_use(sampling)
        self._temperature, self._top_k = sampling.temperature, sampling.top_k
        self._top_p, self._min_p = sampling.top_p, sampling.min_p
        self._greedy = bool(is_greedy(np.float32(sampling.temperature)))
        self._known = (
            used <= READABLE and not (sampling.top_p < 1 and sampling.min_p > 0) and not sampling.min_new_tokens
        )
        self._plain = used == {"temperature"} and sampling.temperature == 1

    def of(self, logprob: float, place: int | None, others: Sequence[float], whole: bool) -> Found:
        """For a token of this log-probability, alternative `place` (from 0; None: it is none of them) of `others`, which
        are the likeliest, the likeliest first. `whole`: there are no other tokens."""
        if not self._known:
            return NOTHING
        if self._plain:
            return logprob, 0.0, 0
        if place is None:
            return NOTHING
        if self._greedy:
            return 0.0, logprob, ((1 << len(others)) - 1) & ~(1 << place)
        scaled = [one / self._temperature for one in others]
        count = self._count(others, scaled, whole)
        if count is None or place >= count:
            return NOTHING
        norm = scaled[0] + math.log(sum(math.exp(one - scaled[0]) for one in scaled[:count]))
        return scaled[place] - norm, norm, ((1 << len(others)) - 1) & ~((1 << count) - 1)

    def _count(self, others: Sequence[float], scaled: Sequence[float], whole: bool) -> int | None:
        """How many of the likeliest were kept; None where that may be more than are known."""
        count = len(others) if whole else None
        if 0 < self._top_k <= len(others):
            count = self._top_k
        if self._min_p:
            least = scaled[0] + math.log(self._min_p)
            reached = sum(one >= least for one in scaled)
            if reached < len(others):
                count = min(reached, count or reached)
        if self._top_p < 1:
            return self._within(others, scaled, count)
        return count

    def _within(self, others: Sequence[float], scaled: Sequence[float], count: int | None) -> int | None:
        """How many top_p keeps of the first `count`; of all tokens (None), whose sum is known at temperature 1 alone."""
        if count is not None:
            shares = [math.exp(one - scaled[0]) for one in scaled[:count]]
        elif self._temperature == 1 and self._top_k == 0:
            shares = [math.exp(one) for one in others]
        else:
            return None
        wanted, reached = self._top_p * (sum(shares) if count is not None else 1.0), 0.0
        for number, share in enumerate(shares, 1):
            reached += share
            if reached >= wanted:
                return number
        return count
