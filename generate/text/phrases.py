"""Phrases to be found in a text that grows token by token, wherever they begin and end.

Source: Aho and Corasick 1975, "Efficient string matching"; the states of their automaton are made as they are met.
"""

from collections.abc import Iterable


def spellings(phrase: str) -> set[bytes]:
    """The bytes of a phrase, and of it in capitals, as a name and in small letters; ASCII letters are always small here."""
    forms = (phrase, phrase.lower(), phrase.upper(), phrase.capitalize(), phrase.title())
    return {form.encode().lower() for form in forms}


class Phrases:
    """Phrases that are looked for whatever the case of their letters.

    All that matters of a text so far is its *state*: the longest end of it with which a phrase begins, b"" where none
    does.
    """

    def __init__(self, phrases: Iterable[str]):
        self._whole = frozenset().union(*map(spellings, phrases))
        self._beginnings = {phrase[:length] for phrase in self._whole for length in range(len(phrase))}
        self._first = frozenset(b"".join(phrase[:1] + phrase[:1].upper() for phrase in self._whole))
        self.longest = max(map(len, self._whole), default=0)  # bytes
        self._steps: dict[tuple[bytes, int], tuple[bytes, int]] = {}

    def follow(self, state: bytes, data: bytes) -> tuple[bytes, tuple[int, int] | None]:
        """The state after `data`, and where in `data` the first phrase that is completed there begins and ends.

        One that began before `data` has a negative beginning.
        """
        if not state and self._first.isdisjoint(data):  # as nearly always
            return state, None
        found = None
        for end, byte in enumerate(data.lower(), 1):
            step = self._steps.get((state, byte)) or self._step(state, byte)
            state, length = step
            if length and found is None:
                found = end - length, end
        return state, found

    def _step(self, state: bytes, byte: int) -> tuple[bytes, int]:
        """The state after one more byte, and the length of the shortest phrase that ends there, 0 where none does."""
        text = state + bytes([byte])
        ends = [text[start:] for start in range(len(text) - 1, -1, -1)]
        length = next((len(end) for end in ends if end in self._whole), 0)
        after = next((end for end in reversed(ends) if end in self._beginnings), b"")
        self._steps[state, byte] = after, length
        return after, length
