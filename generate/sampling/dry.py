"""DRY: a token becomes less likely when the text would go on with it as it did before.

The last n tokens of a text may have stood there before, followed by some token. Where n is at least the allowed length,
that token loses multiplier * base^(n - allowed length) of its logit. A stretch of n tokens holds no sequence breaker,
and a token that ends one is not made less likely.

Source: oobabooga/text-generation-webui, PR 5677. As there, stretches of more than 50 tokens count as of 50.
"""

from collections.abc import Iterable

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
    """The end of one text, in which DRY looks for stretches: the last `dry_range` tokens."""

    def __init__(self, sampling: Sampling, vocabulary: Vocabulary, ids: Iterable[int]):
        """`ids` are those of the whole text."""
        self._tokens, self._range, self._allowed = vocabulary.tokens, sampling.dry_range, sampling.dry_allowed_length
        self._breakers = [breaker.encode() for breaker in sampling.dry_sequence_breakers]
        self._longest = max(map(len, self._breakers), default=0)
        over = np.arange(LONGEST + 1) - self._allowed
        self._amounts = (sampling.dry_multiplier * sampling.dry_base ** over.clip(0)).astype(np.float32)
        self._text, self._breaks = np.zeros(2 * self._range, np.int64), np.zeros(2 * self._range, np.bool_)
        self._ids, self._lengths = np.zeros(self._range, np.int64), np.zeros(self._range, np.int64)
        self._tail, self._end = b"", 0
        ids = list(ids)
        for token in reversed(ids[: -self._range]):
            if len(self._tail) >= self._longest:
                break
            self._tail = self._tokens[token] + self._tail
        for token in ids[-self._range :]:
            self.append(token)

    def append(self, token: int) -> None:
        """The text has one more token."""
        if self._end == len(self._text):
            for part in (self._text, self._breaks):
                part[: self._range] = part[self._range :]
            self._end = self._range
        self._text[self._end] = token
        self._breaks[self._end] = self._ends_breaker(self._tokens[token])
        self._end += 1

    def _ends_breaker(self, new: bytes) -> bool:
        """Whether a breaker ends in the next token of the text."""
        if self._longest > 1:
            data = self._tail[max(0, len(self._tail) - self._longest + 1) :] + new
            self._tail, old = data, len(data) - len(new)
            return any(data.find(breaker, max(0, old - len(breaker) + 1)) >= 0 for breaker in self._breakers)
        return any(breaker in new for breaker in self._breakers)

    def lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """The tokens that would go on a stretch, and of how many tokens it is; int64 [N]."""
        first = max(0, self._end - self._range)
        text, breaks = self._text[first : self._end], self._breaks[first : self._end]
        count = search(text, breaks, self._allowed, self._ids, self._lengths)
        return self._ids[:count], self._lengths[:count]

    def found(self) -> tuple[np.ndarray, np.ndarray]:
        """The tokens that would go on a stretch, int64 [N], and what their logits lose, float32 [N]."""
        ids, lengths = self.lengths()
        return ids, self._amounts[lengths]
