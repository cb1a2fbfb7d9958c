"""One pass of the model over all that a step has to do."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from generate.scheduling.decoding import Decoding
from generate.scheduling.prefill import Part
from generate.transformer.graphs import Graphs
from generate.transformer.int8.model import Int8GPT2
from generate.transformer.model import GPT2

FEW_LOGITS = 64  # tokens whose logits are made by one product, and held at once


@dataclass(frozen=True)
class Work:
    """What a step has to do: write a token of every running sequence (if `decode`), read `parts` of texts, and judge
    `judged` tokens that were read before.

    Which sequences those are is asked when it is done: making room changes their order.
    """

    decode: bool
    parts: list[Part]
    judged: int = 0

    @property
    def tokens(self) -> int:
        """How many tokens are read."""
        return sum(count for _, count in self.parts)


@dataclass(frozen=True)
class Passed:
    """What came out of a pass over the last tokens of `rows` running sequences and then over parts of texts.

    `hidden` [M, n_embd] are of all tokens, those of part n from `starts[n]` on. `logits` [rows, V] are of the running
    sequences; `last` of the end of each part that ends its text, [1, V] each, and `ended` the numbers of those parts.
    """

    rows: int
    hidden: Tensor
    starts: np.ndarray
    logits: Tensor
    ended: list[int]
    last: list[Tensor]


def forward(model: GPT2 | Int8GPT2, graphs: Graphs | None, decoding: Decoding, work: Work) -> Passed:
    """Read and decode in one pass; what counts tokens as read or written comes after it."""
    rows = len(decoding.sequences) if work.decode else 0
    hidden = pass_over(model, graphs, decoding, rows, work.parts)
    starts = np.cumsum([rows, *(count for _, count in work.parts)])
    ended = [place for place, (prefill, count) in enumerate(work.parts) if count == prefill.left]
    wanted = [*range(rows), *(int(starts[place + 1]) - 1 for place in ended)]
    telling = hidden if len(wanted) == len(hidden) else hidden[wanted]
    logits = model.logits(telling) if wanted else hidden[:0]
    last = [logits[place : place + 1].clone() for place in range(rows, rows + len(ended))]
    return Passed(rows, hidden, starts, logits[:rows], ended, last)


def pass_over(
    model: GPT2 | Int8GPT2, graphs: Graphs | None, decoding: Decoding, rows: int, parts: list[Part]
) -> Tensor:
    """Hidden states [M, n_embd] of the running sequences' last tokens (if `rows`) and then of the parts."""
    pieces = []
    if rows:
        decoding.prepare()
        if not parts and graphs is not None:
            return graphs.hidden(decoding.ids, decoding.positions)
        decoding.cache.begin_step()
        pieces.append((decoding.cache, decoding.ids, decoding.positions))
    for prefill, count in parts:
        ids = torch.tensor(prefill.shown[prefill.next : prefill.next + count], device=model.device)
        first = prefill.prefix.length
        pieces.append((prefill.prefix, ids, torch.arange(first, first + count, device=model.device)))
    return model.hidden(pieces)
