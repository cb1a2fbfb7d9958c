"""Tokens of a sample that are written and not yet shown, as they may turn out to be the beginning of a banned phrase.

A phrase that is completed takes its tokens back: the text goes on from the place of its first token, at which that token
is blocked. So nothing that was shown is ever taken back. What happens depends on the text before those tokens alone: a
run that is taken up anew after a crash, without them, writes what it would have written. A text that ends by itself
shows them; one that is stopped ends before them, as a longer run may say something else there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from generate.text.ending import Ending
from generate.text.phrases import Phrases

MOST_BLOCKED = 32  # tokens at one place; then the place before it is tried anew
MOST_TRIES = 500  # since the last token that is sure

Written = tuple[np.void, Sequence[int]]  # a token's record, and the ids that were blocked at its place


@dataclass(frozen=True)
class Held:
    """A token that may be taken back: its record, and what was before it. `end` is the sample's bytes up to its end, and
    `tries` how often tokens had been taken back when it was written."""

    record: np.void
    end: int
    state: bytes
    ending: Ending
    tries: int


class HeldBack:
    """Of one sample, the tokens that are held back, and which tokens are blocked at which places from there on.

    A place is the number of tokens of the sample before it. `sure` tokens are in the log already.
    """

    def __init__(self, phrases: Phrases, before: bytes, sure: int, vocab_size: int):
        """`before` is the text so far: of it nothing can be taken back."""
        self._phrases, self._sure = phrases, sure
        self._most_blocked = min(MOST_BLOCKED, vocab_size - 1)
        self._state = phrases.follow(b"", before[-phrases.longest :])[0]
        self._held: list[Held] = []
        self._blocked: dict[int, list[int]] = {}
        self._tries = self._tries_before = 0

    @property
    def blocked(self) -> list[int]:
        """The tokens that are blocked at the next place."""
        return self._blocked.get(self._sure + len(self._held), [])

    @property
    def ending(self) -> Ending | None:
        """The sample's ending as it was before the tokens that are held back; None where there are none."""
        return self._held[0].ending if self._held else None

    def passes(self, data: bytes) -> bool:
        """Whether nothing is held back, and the next token, of these bytes, would not be either."""
        return not self._held and self._phrases.follow(self._state, data) == (b"", None)

    def let_pass(self) -> Sequence[int]:
        """The next token is one that passes; returns what was blocked at its place."""
        self._state, self._tries_before = b"", self._tries
        self._sure += 1
        return self._blocked.pop(self._sure - 1, ())

    def add(self, record: np.void, data: bytes, before: Ending, after: Ending) -> int | None:
        """One more token, of these bytes, is written that does not pass; returns how many to take back if it completes a
        phrase.

        `before` and `after` are the sample's endings; a phrase that is not shown, as the text ends before, counts not.
        """
        state, found = self._phrases.follow(self._state, data)
        self._held.append(Held(record, after.size, self._state, before, self._tries))
        self._state = state
        if found is None or (after.stop_at is not None and before.size + found[1] > after.stop_at):
            return None
        begins = before.size + found[0]
        return sum(held.end > begins for held in self._held)

    def take_back(self, count: int) -> tuple[Ending, bool]:
        """Take the last `count` tokens back, and block the first of them; where too many are blocked at its place, take
        back one more. Returns the sample's ending as it was before them, and whether a way on is left."""
        self._tries += 1
        first = len(self._held) - count
        while True:
            held, place = self._held[first], self._sure + first
            blocked = self._blocked.setdefault(place, [])
            blocked.append(int(held.record["id"]))
            del self._held[first:]
            self._state = held.state
            self._blocked = {at: ids for at, ids in self._blocked.items() if at <= place}
            if len(blocked) <= self._most_blocked:
                return held.ending, self._tries - self._tries_before <= MOST_TRIES
            if first == 0:
                return held.ending, False
            first -= 1

    def sure(self) -> list[Written]:
        """Let go of the tokens that cannot be taken back any more: their records, and what was blocked at their places."""
        begins = self._held[-1].end - len(self._state) if self._held else 0
        return self._let_go(sum(held.end <= begins for held in self._held))

    def rest(self) -> list[Written]:
        """Let go of all tokens, as the sample ends."""
        return self._let_go(len(self._held))

    def _let_go(self, count: int) -> list[Written]:
        going = self._held[:count]
        del self._held[:count]
        if going:
            self._tries_before = going[-1].tries
        found = [(held.record, self._blocked.pop(self._sure + place, ())) for place, held in enumerate(going)]
        self._sure += count
        return found
