"""How likely a model finds a text, as one number."""

import math
from dataclasses import dataclass

import numpy as np

from generate.languages import gettext
from generate.sampling.records import known
from generate.text.vocabulary import Vocabulary

READABLE = 1e9  # perplexities beyond are told by their power of ten


@dataclass(frozen=True)
class Score:
    """How well a text was predicted: `tokens` of its tokens were, and the others do not count.

    `nats` is the mean of -logprob over them, `perplexity` its exponential. `bits_per_byte` is what they cost together,
    over the bytes they stand for: models with other tokens can be compared by it. None: there was nothing to measure.
    """

    tokens: int
    nats: float | None
    perplexity: float | None
    bits_per_byte: float | None

    @classmethod
    def of(cls, total: float, tokens: int, size: int) -> "Score":
        """From the sum of -logprob over `tokens` tokens, in nats, and the `size` in bytes of what they stand for."""
        if not tokens:
            return cls(0, None, None, None)
        nats = total / tokens
        return cls(
            tokens=tokens,
            nats=nats,
            perplexity=math.exp(nats) if nats < 700 else math.inf,  # past that a float overflows
            bits_per_byte=total / math.log(2) / size if size else None,
        )

    def __str__(self) -> str:
        if self.nats is None:
            return gettext("nothing of it is predicted")
        bits = self.bits_per_byte
        size = gettext("no bytes") if bits is None else gettext("{bits:,.3f} bits per byte", bits=bits)
        told = f"{self.perplexity:,.2f}" if self.perplexity < READABLE else f"{self.perplexity:.3g}"
        return gettext("perplexity {perplexity}, {size}", perplexity=told, size=size)


def perplexity(records: np.ndarray, vocabulary: Vocabulary) -> Score:
    """Judge a text by its records [N]; tokens of which no prediction is known (NaN) are left out."""
    predicted = records[known(records, "logprob")]
    total = -float(predicted["logprob"].sum(dtype=np.float64))
    return Score.of(total, len(predicted), len(vocabulary.bytes_of(predicted["id"].tolist())))
