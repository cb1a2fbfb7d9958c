"""What makes single tokens of a row likelier or less likely, by what its text holds or because somebody asked for it:
frequency and presence penalty, DRY, logit_bias.

It touches few tokens of many, so it is kept as a list of them, and changes the logits at their places; how they were is
remembered, for the statistics, which are of the model alone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from generate.sampling.dry import Stretches
from generate.sampling.filters import lowered
from generate.sampling.options import Sampling
from generate.text.vocabulary import Vocabulary


class Pressure:
    """Of one row, which tokens are touched, and by how much, as its text grows."""

    def __init__(self, sampling: Sampling, biases: Mapping[int, float], vocabulary: Vocabulary, ids: Iterable[int]):
        """`ids` are those of the whole text, `biases` what is added to the logits of some tokens."""
        self._frequency, self._presence, self._biases = sampling.frequency_penalty, sampling.presence_penalty, biases
        self._stretches = Stretches(sampling, vocabulary, ids) if sampling.dry_multiplier else None
        self._counts = Counter(ids) if self._frequency or self._presence else None
        tokens = list(dict.fromkeys((*biases, *(self._counts or ()))))
        self._places = {token: place for place, token in enumerate(tokens)}
        self._ids, self._amounts = np.array(tokens, np.int64), np.zeros(len(tokens), np.float32)
        for token in tokens:
            self._weigh(token)

    @classmethod
    def of(cls, sampling: Sampling, *more) -> "Pressure | None":
        """None where nothing of the kind is asked for."""
        asked = (
            sampling.frequency_penalty or sampling.presence_penalty or sampling.dry_multiplier or sampling.logit_bias
        )
        return cls(sampling, *more) if asked else None

    def append(self, token: int) -> None:
        """The text has one more token."""
        if self._stretches is not None:
            self._stretches.append(token)
        if self._counts is None:
            return
        self._counts[token] += 1
        if token not in self._places:
            place = self._places[token] = len(self._places)
            if place == len(self._ids):
                more = max(64, place)
                self._ids = np.concatenate((self._ids, np.zeros(more, np.int64)))
                self._amounts = np.concatenate((self._amounts, np.zeros(more, np.float32)))
            self._ids[place] = token
        self._weigh(token)

    def _weigh(self, token: int) -> None:
        count = self._counts[token] if self._counts is not None else 0
        amount = lowered(self._biases.get(token, 0.0), count, self._frequency, self._presence)
        self._amounts[self._places[token]] = amount

    def parts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """What is added to the logits, one after the other: ids int64 [N], each once, and numbers float32 [N]."""
        found = [(self._ids[: len(self._places)], self._amounts[: len(self._places)])]
        if self._stretches is not None:
            ids, amounts = self._stretches.found()
            found.append((ids, -amounts))
        return found


class Pressed:
    """Scores [B, V] while they are under pressure: `scores`, those given where they can be changed. `undo` makes them what
    they were."""

    def __init__(self, scores: Tensor, pressures: list[tuple[int, Pressure]]):
        if scores.stride(1) != 1 or scores.stride(0) < scores.shape[1]:
            scores = scores.clone()
        self.scores, stride = scores, scores.stride(0)
        self._flat = scores.as_strided(((len(scores) - 1) * stride + scores.shape[1],), (1,))
        found: list[list] = [[], []]
        for row, pressure in pressures:
            for step, (ids, amounts) in enumerate(pressure.parts()):
                found[step].append((ids + row * stride, amounts))
        self._undo = []
        for step in found:  # each token once in a step, so that sums have one order
            if sum(len(places) for places, _ in step):
                places, amounts = (torch.from_numpy(np.concatenate(part)) for part in zip(*step, strict=True))
                self._press(places.to(scores.device), amounts.to(scores.device))

    @property
    def touched(self) -> tuple[Tensor, ...]:
        """Which scores are touched, as indices into the flat memory, and what they were before; [N]."""
        return tuple(torch.cat(part) for part in zip(*self._undo, strict=True))

    def _press(self, places: Tensor, amounts: Tensor) -> None:
        before = self._flat[places]
        self._undo.append((places, before))
        self._flat[places] = before + amounts

    def undo(self) -> None:
        """Make the scores what they were, bit for bit."""
        for places, before in reversed(self._undo):
            self._flat[places] = before
