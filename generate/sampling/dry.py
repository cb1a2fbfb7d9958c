"""DRY: a token becomes less likely when the text would go on with it as it did before.

The last n tokens of a text may have stood there before, followed by some token. Where n is at least the allowed length,
that token loses multiplier * base^(n - allowed length) of its logit. A stretch of n tokens holds no sequence breaker,
and a token that ends one is not made less likely.

Source: oobabooga/text-generation-webui, PR 5677. As there, stretches of more than 50 tokens count as of 50.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from generate.compiled.arithmetic import exactly
from generate.sampling.options import Sampling
from generate.text.vocabulary import Vocabulary

LONGEST = 50


@exactly
def search(text, breaks, allowed, ids, lengths):
    """Fill ids and lengths with the tokens that would go on a stretch of the text, each with that of the longest.

    `text` are token ids, and `breaks` says which of them end a breaker. Returns how many were found.
    """
    end, found = len(text) - 1, 0
    if end < 0 or breaks[end]:
        return 0
    for i in range(end):
        if text[i] != text[end] or breaks[i + 1]:
            continue
        length = 1
        while length < LONGEST and length <= i and text[i - length] == text[end - length] and not breaks[end - length]:
            length += 1
        if length < allowed:
            continue
        place = 0
        while place < found and ids[place] != text[i + 1]:
            place += 1
        if place == found:
            ids[place], lengths[place] = text[i + 1], length
            found += 1
        lengths[place] = max(lengths[place], length)
    return found


class Stretches:
    """The end of one text, in which DRY looks for stretches: the last `dry_range` tokens.

    They are text[first:end], and `breaks` says which of them end a breaker; `losses` holds what a stretch of so many
    tokens takes from a logit. Without DRY there are none.
    """

    def __init__(self, sampling: Sampling, vocabulary: Vocabulary, ids: Sequence[int]):
        """`ids` are those of the whole text."""
        self._tokens, self.allowed = vocabulary.tokens, sampling.dry_allowed_length
        self._range = sampling.dry_range if sampling.dry_multiplier else 0
        self._breakers = [breaker.encode() for breaker in sampling.dry_sequence_breakers]
        self._any = re.compile(b"|".join(map(re.escape, self._breakers)))
        self._tail, self._longest = b"", max(map(len, self._breakers), default=0)
        over = np.arange(LONGEST + 1) - self.allowed
        self.losses = (sampling.dry_multiplier * sampling.dry_base ** over.clip(0)).astype(np.float32)
        self.text, self.breaks = np.zeros(2 * self._range, np.int64), np.zeros(2 * self._range, np.bool_)
        self.first, self.end = 0, min(len(ids), self._range)
        before, last = (ids[: len(ids) - self.end], ids[len(ids) - self.end :]) if self._range else ([], [])
        for token in reversed(before):
            if len(self._tail) >= self._longest:
                break
            self._tail = self._tokens[token] + self._tail
        self.text[: self.end], self.breaks[: self.end] = last, self._breaks(last)

    def append(self, token: int) -> None:
        """The text has one more token."""
        if not self._range:
            return
        if self.end == 2 * self._range:
            for part in (self.text, self.breaks):
                part[: self._range] = part[self._range : self.end]
            self.end = self._range
        self.text[self.end], self.breaks[self.end] = token, self._breaks([token])[0]
        self.end += 1
        self.first = max(0, self.end - self._range)

    def _breaks(self, tokens: Sequence[int]) -> list[bool]:
        """For each of the next tokens of the text, whether a breaker ends in it."""
        pieces, old, found = [self._tokens[token] for token in tokens], len(self._tail), [False] * len(tokens)
        data = self._tail + b"".join(pieces)
        self._tail = data[max(0, len(data) - self._longest + 1) :]
        if not self._any.search(data):
            return found
        ends = list(accumulate(map(len, pieces), initial=old))[1:]
        for breaker in self._breakers:
            at = data.find(breaker, max(0, old - len(breaker) + 1))
            while at >= 0:
                place = bisect_left(ends, at + len(breaker))
                found[place] = True
                at = data.find(breaker, max(at, ends[place] - len(breaker)) + 1)
        return found

    def found(self) -> tuple[np.ndarray, np.ndarray]:
        """The tokens that would go on a stretch, and of how many tokens it is; int64 [N]."""
        ids, lengths = np.empty((2, self.end - self.first), np.int64)
        text, breaks = (part[self.first : self.end] for part in (self.text, self.breaks))
        count = search(text, breaks, self.allowed, ids, lengths)
        return ids[:count], lengths[:count]
