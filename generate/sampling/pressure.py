"""What makes single tokens of a row more or less likely, by what its text holds or because somebody asked for it.

The order is that of the filters (see sampler.py): frequency and presence penalty, DRY, logit_bias.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from generate.sampling import counted
from generate.sampling.dry import Stretches
from generate.sampling.filters import lowered
from generate.sampling.top import as_rows


@dataclass
class Pressure:
    """The penalties and biases of B rows.

    `counts` is int32 [B, V], how often each token stands in a row's text, or None where no row has `frequency` or
    `presence` [B]. `stretches` are the rows that have DRY, and what it knows of their texts: whoever knows the tokens
    tells it, so the last one must be known before the next is chosen. `rows`, `ids` and `biases` [N] are logit_bias.
    """

    frequency: Tensor
    presence: Tensor
    counts: Tensor | None
    stretches: list[tuple[int, Stretches]]
    rows: Tensor
    ids: Tensor
    biases: Tensor

    def press(self, scores: Tensor) -> Tensor:
        """The scores [B, V] with all of it; those given stay as they are."""
        scores = scores.clone() if self.counts is None else self._lowered(scores)
        for row, stretches in self.stretches:
            ids, amounts = stretches.found()
            if len(ids):
                scores[row, torch.from_numpy(ids).to(scores.device)] -= torch.from_numpy(amounts).to(scores.device)
        if len(self.ids):
            scores[self.rows, self.ids] += self.biases
        return scores

    def _lowered(self, scores: Tensor) -> Tensor:
        if scores.device.type != "cpu":
            return lowered(scores, self.counts, self.frequency[:, None], self.presence[:, None])
        (flat, stride), found = as_rows(scores), torch.empty(scores.shape)
        options = (part.numpy() for part in (self.counts, self.frequency, self.presence, found))
        counted.lower(flat, stride, *options)
        return found

    def advance(self, ids: Tensor) -> None:
        """Every row has written one more token, `ids` [B]; DRY is told elsewhere."""
        if self.counts is not None:
            self.counts.scatter_add_(1, ids[:, None], torch.ones_like(ids, dtype=torch.int32)[:, None])
