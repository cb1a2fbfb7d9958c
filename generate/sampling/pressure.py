"""What makes single tokens of a row likelier or less likely, by what its text holds or because somebody asked for it:
frequency and presence penalty, DRY, logit_bias.

It touches few tokens of many, so it is kept as a list of them, and changes the logits at their places; how they were is
remembered, for the statistics, which are of the model alone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from generate.compiled.arithmetic import exactly
from generate.sampling.dry import Stretches, search
from generate.sampling.filters import lowered
from generate.sampling.options import Sampling
from generate.text.vocabulary import Vocabulary

ROOM = 64  # tokens more that a list has place for when it is made


class Pressure:
    """Of one row, which tokens are touched, and by how much, as its text grows.

    The first `used` of `ids` are touched by biases and penalties, and `amounts` are added to their logits; what DRY does
    besides follows from `stretches`. All of these arrays are rows of wider ones where `Pressures` hold them.
    """

    def __init__(self, sampling: Sampling, biases: Mapping[int, float], vocabulary: Vocabulary, ids: Sequence[int]):
        """`ids` are those of the whole text, `biases` what is added to the logits of some tokens."""
        self._frequency, self._presence, self._biases = sampling.frequency_penalty, sampling.presence_penalty, biases
        self.stretches = Stretches(sampling, vocabulary, ids)
        self._counts = Counter(ids) if self._frequency or self._presence else None
        counts = self._counts or {}
        self._places = {token: place for place, token in enumerate(dict.fromkeys((*biases, *counts)))}
        self.used = len(self._places)
        self.ids = np.array(list(self._places), np.int64)
        asked, there = (np.array([known.get(token, 0) for token in self._places]) for known in (biases, counts))
        self.amounts = lowered(asked, there, self._frequency, self._presence).astype(np.float32)

    @classmethod
    def of(cls, sampling: Sampling, *more) -> "Pressure | None":
        """None where nothing of the kind is asked for."""
        asked = (
            sampling.frequency_penalty or sampling.presence_penalty or sampling.dry_multiplier or sampling.logit_bias
        )
        return cls(sampling, *more) if asked else None

    def append(self, token: int) -> None:
        """The text has one more token."""
        self.stretches.append(token)
        if self._counts is None:
            return
        place = self._places.get(token)
        if place is None:
            place = self._new_place(token)
        self._counts[token] = count = self._counts.get(token, 0) + 1
        self.amounts[place] = lowered(self._biases.get(token, 0.0), count, self._frequency, self._presence)

    def _new_place(self, token: int) -> int:
        """Put a token at the end of those that are touched."""
        place = self._places[token] = self.used
        if place == len(self.ids):
            self.ids, self.amounts = (np.append(part, np.zeros(ROOM, part.dtype)) for part in (self.ids, self.amounts))
        self.ids[place] = token
        self.used += 1
        return place


# fmt: off
@exactly
def collect(rows, stride, used, first, end, ids, amounts, text, breaks, allowed, losses, places, changes):
    # fmt: on
    """Fill places and changes with what is added to which of the flat scores, each once; returns how many there are.

    Of P rows, which are the batch's `rows`, the arguments are what `Pressure` and `Stretches` hold of each, [P, ...].
    """
    found, lengths, count = np.empty(text.shape[1], np.int64), np.empty(text.shape[1], np.int64), 0
    for n in range(len(rows)):
        begun, known = count, count + used[n]
        for i in range(used[n]):
            places[count], changes[count] = rows[n] * stride + ids[n, i], amounts[n, i]
            count += 1
        for i in range(search(text[n, first[n]:end[n]], breaks[n, first[n]:end[n]], allowed[n], found, lengths)):
            place = begun
            while place < known and ids[n, place - begun] != found[i]:
                place += 1
            if place == known:
                place, count = count, count + 1
                places[place], changes[place] = rows[n] * stride + found[i], 0
            changes[place] -= losses[n, lengths[i]]
    return count


class Pressures:
    """Those of some rows of a batch, for as long as the rows stay together: their arrays are one, so that a step asks
    all of them at once."""

    def __init__(self, pressures: Mapping[int, Pressure]):
        """`pressures` are by row."""
        self._pressures, self._rows = list(pressures.values()), np.array(list(pressures), np.int64)
        self._stretches = stretches = [pressure.stretches for pressure in self._pressures]
        self._allowed = np.array([one.allowed for one in stretches])
        width = max(len(one.text) for one in stretches)
        self._text, self._breaks = (together(stretches, name, width) for name in ("text", "breaks"))
        self._losses = together(stretches, "losses", stretches[0].losses.size)
        self._make_room()

    def _make_room(self) -> None:
        width = max(pressure.used for pressure in self._pressures) + ROOM
        self._ids, self._amounts = (together(self._pressures, name, width) for name in ("ids", "amounts"))

    def found(self, stride: int) -> tuple[Tensor, Tensor]:
        """Which of the scores are touched, int64 [N], each once, and what is added to them, float32 [N].

        They are indices into the flat memory, in which a row begins every `stride` numbers.
        """
        used = np.array([one.used for one in self._pressures])
        first, end = np.array([one.first for one in self._stretches]), np.array([one.end for one in self._stretches])
        if used.max() > self._ids.shape[1]:
            self._make_room()
        most = int((used + end - first).sum())
        places, changes = np.empty(most, np.int64), np.empty(most, np.float32)
        lists = self._ids, self._amounts, self._text, self._breaks, self._allowed, self._losses
        count = collect(self._rows, stride, used, first, end, *lists, places, changes)
        return torch.from_numpy(places[:count]), torch.from_numpy(changes[:count])


def together(owners: Sequence, name: str, width: int) -> np.ndarray:
    """One array [B, width] of those that the owners have by this name; what each has from now on is its row of it."""
    whole = np.zeros((len(owners), width), getattr(owners[0], name).dtype)
    for owner, row in zip(owners, whole, strict=True):
        part = getattr(owner, name)[:width]
        row[: len(part)] = part
        setattr(owner, name, row)
    return whole


class Pressed:
    """Scores [B, V] while they are under pressure: `scores`, those given where they can be changed. Those at the flat
    indices `places` [N] are changed, and were `before` [N]; `undo` makes them so again."""

    def __init__(self, scores: Tensor, pressures: Pressures):
        if scores.stride(1) != 1 or scores.stride(0) < scores.shape[1]:
            scores = scores.clone()
        self.scores, stride = scores, scores.stride(0)
        self._flat = scores.as_strided(((len(scores) - 1) * stride + scores.shape[1],), (1,))
        self.places, changes = (part.to(scores.device) for part in pressures.found(stride))
        self.before = self._flat.index_select(0, self.places)
        self._flat.index_copy_(0, self.places, self.before + changes)

    def undo(self) -> None:
        """Make the scores what they were, bit for bit."""
        self._flat.index_copy_(0, self.places, self.before)
