"""From logits to the next token of every row at once.

The filters act in this order: repetition_penalty, min_new_tokens (no end token before it), temperature, top_k, top_p.
Each is off at 1, 0, 1, 0 and 1. Tokens stand in one order, whatever the device and the precision: the likelier first,
and of equally likely ones (which 16-bit numbers often make) the one with the lower id. top_k and top_p keep the first
of them, so that top_k 1 and top_p 0 are the greedy choice. The last token kept, by its logit (the threshold) and its
id, tells which are.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from generate.sampling import likeliest
from generate.sampling.draw import draw
from generate.sampling.filters import divisor, is_greedy, penalised
from generate.sampling.noise import gumbel, place_keys, row_key

FEW = 48  # rows whose top_k is less than this are sampled among their FEW likeliest tokens only
AHEAD = 32  # positions whose keys of the noise are computed at once


@dataclass
class RowOptions:
    """The options of B rows as tensors [B] on the device; `seen` is bool [B, V] where any row has a penalty.

    None of the tokens `ends` is chosen before position `ends_from`; both None where no row has such a position.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    penalty: Tensor
    seed: Tensor
    sample: Tensor
    position: Tensor
    seen: Tensor | None
    ends: Tensor | None = None
    ends_from: Tensor | None = None

    def __post_init__(self):
        """Decide, once for as long as the rows stay together, by which way each is drawn.

        The way follows from a row's own options, so that its neighbours change nothing, not even a rounding.
        """
        self.greedy = is_greedy(self.temperature)
        self.divisor = divisor(self.temperature, torch.where)[:, None]
        self._early = 0 if self.ends_from is None else int((self.ends_from - self.position).max())
        self.some_top_p = bool((self.top_p < 1).any())
        self._key, self._ahead, self._keys = row_key(self.seed, self.sample), AHEAD, ()
        filtered = (self.top_k > 0) | (self.top_p < 1)
        # a GPU sorts everything at once, where looking at the few would have to wait for an answer
        few = (self.top_k > 0) & (self.top_k < FEW) & (self.top_k.device.type == "cpu")
        drawn = ~self.greedy
        groups = (
            (self.greedy, take_likeliest),
            (drawn & ~filtered, draw_plain),
            (drawn & filtered & ~few, draw_sorted),
            (drawn & few, draw_few),
        )
        self.ways = [(way, index) for group, way in groups if len(index := group.nonzero()[:, 0])]

    @property
    def keys(self) -> tuple[Tensor, Tensor]:
        """The noise's `place_keys` [B] at the rows' positions, computed for many positions at once."""
        if self._ahead == AHEAD:
            later = torch.arange(AHEAD, device=self.position.device)[:, None]
            self._ahead, self._keys = 0, place_keys(self._key, self.position + later)
        return self._keys[0][self._ahead], self._keys[1][self._ahead]

    @property
    def some_early(self) -> bool:
        """Whether any row must not end yet; counted on the host, so that nothing waits for a device."""
        return self._early > 0

    @property
    def as_they_are(self) -> bool:
        """Whether the logits' own order is the order in which tokens are filtered, for all rows."""
        return self.seen is None and not self.some_early

    def advance(self, ids: Tensor) -> None:
        """Every row has written one more token, `ids` [B]."""
        self.position += 1
        self._early -= 1
        self._ahead += self._ahead < AHEAD
        if self.seen is not None:
            self.seen.scatter_(1, ids[:, None], True)

    def pick(self, index: Tensor) -> "RowOptions":
        """Some of the rows; all of them are given back as they are."""
        if len(index) == len(self.seed):
            return self
        parts = (self.temperature, self.top_k, self.top_p, self.penalty, self.seed, self.sample, self.position)
        seen, ends_from = (None if part is None else part[index] for part in (self.seen, self.ends_from))
        return RowOptions(*(part[index] for part in parts), seen, self.ends, ends_from)


@dataclass
class Top:
    """The likeliest tokens of each row, in order: `values` and `ids` [B, FEW], or [B, V] of a smaller V."""

    values: Tensor
    ids: Tensor

    def pick(self, index: Tensor) -> "Top":
        """The same of some rows."""
        return Top(self.values[index], self.ids[index])


@dataclass
class Choice:
    """What was chosen for each row: `ids` and `sampled_logprob`; the last token kept: `threshold`, its logit with the
    penalty, and `last`, its id; and `norm`, the log-sum-exp of the scaled logits of those kept. All [B]."""

    ids: Tensor
    sampled_logprob: Tensor
    threshold: Tensor
    last: Tensor
    norm: Tensor

    def cuts(self, scores: Tensor, ids: Tensor) -> Tensor:
        """Whether the filters cut tokens `ids` [B, K] whose logits with the penalty are `scores` [B, K]."""
        threshold, last = self.threshold[:, None], self.last[:, None]
        return (scores < threshold) | (scores == threshold) & (ids > last) | scores.isneginf()


def as_rows(logits: Tensor) -> tuple[np.ndarray, int]:
    """Logits [B, V] on a CPU as the compiled functions take them: flat, and how far apart rows begin."""
    rows, size = logits.shape
    if logits.stride(1) != 1 or logits.stride(0) < size:
        logits = logits.contiguous()
    stride = logits.stride(0)
    return logits.as_strided(((rows - 1) * stride + size,), (1,)).numpy(), stride


def empty_top(logits: Tensor) -> Top:
    """Room for the likeliest of logits [B, V]: float32 values and int64 ids, [B, min(FEW, V)]."""
    rows, few = len(logits), min(FEW, logits.shape[1])
    return Top(torch.empty(rows, few), torch.empty(rows, few, dtype=torch.int64))


def top_few(scores: Tensor) -> Top:
    """The first FEW tokens of each row of scores [B, V], in order."""
    if scores.device.type != "cpu":
        return top_few_by_torch(scores)
    top, (flat, stride) = empty_top(scores), as_rows(scores)
    likeliest.find(flat, stride, scores.shape[1], top.values.numpy(), top.ids.numpy())
    return top


def top_few_by_torch(scores: Tensor) -> Top:
    """The same on any device. torch.topk takes any of several equal numbers, so it is given numbers that are all
    different: a float's bits, in the order of floats, and below them the id, backwards."""
    size = scores.shape[1]
    bits = (scores + 0.0).view(torch.int32).long()  # + 0.0: of -0.0 and 0.0, which are equal, one
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    ids = (ordered * 2**32 - torch.arange(size, device=scores.device)).topk(min(FEW, size), 1).values.neg() & 0xFFFFFFFF
    return Top(scores.gather(1, ids), ids)


def penalise(logits: Tensor, penalty: Tensor, seen: Tensor | None) -> Tensor:
    """Make seen tokens less likely; logits and `seen` are [B, N], `penalty` [B]."""
    if seen is None:
        return logits
    return torch.where(seen, penalised(logits, penalty[:, None], torch.where), logits)


def scores_at(logits: Tensor, ids: Tensor, rows: RowOptions) -> Tensor:
    """The logits of some tokens `ids` [B, K] with the penalty, -inf for those that would end a row too early."""
    seen = None if rows.seen is None else rows.seen.gather(1, ids)
    scores = penalise(logits.gather(1, ids), rows.penalty, seen)
    if not rows.some_early:
        return scores
    early = (rows.position < rows.ends_from)[:, None]
    return scores.masked_fill(early & torch.isin(ids, rows.ends), -torch.inf)


def all_scores(logits: Tensor, rows: RowOptions) -> Tensor:
    """The same of all tokens, [B, V]."""
    scores = penalise(logits, rows.penalty, rows.seen)
    if not rows.some_early:
        return scores
    early = (rows.position < rows.ends_from)[:, None]
    ends = rows.ends[None].expand(len(scores), -1)
    return scores.scatter(1, ends, scores.gather(1, ends).masked_fill(early, -torch.inf))


def nucleus(kept: Tensor, top_p: Tensor) -> Tensor:
    """How many of the largest values, which come first in `kept` [B, V], together hold a share `top_p`; [B, 1].

    Source: Holtzman et al. 2019, section 3.1: the token that crosses the share is kept.
    """
    before = kept.softmax(1).cumsum(1).roll(1, 1)
    before[:, 0] = -torch.inf
    return ((before < top_p[:, None]) | (top_p[:, None] >= 1)).sum(1, keepdim=True)


def choose(logits: Tensor, rows: RowOptions, top: Top | None = None) -> Choice:
    """Choose the next token of every row from logits [B, V] float32, whose `top_few` may be known already.

    A row's choice depends on that row alone.
    """
    scores = all_scores(logits, rows)
    if top is None or not rows.as_they_are:
        top = top_few(scores)
    if len(rows.ways) == 1:
        ids, threshold, last, norm = rows.ways[0][0](scores, top, rows)
    else:
        ids, last = torch.empty_like(top.ids[:, 0]), torch.empty_like(top.ids[:, 0])
        threshold, norm = torch.empty_like(top.values[:, 0]), torch.empty_like(top.values[:, 0])
        for way, index in rows.ways:
            found = way(scores[index], top.pick(index), rows.pick(index))
            ids[index], threshold[index], last[index], norm[index] = found
    sampled_logprob = scores.gather(1, ids[:, None])[:, 0] / rows.divisor[:, 0] - norm
    return Choice(ids, sampled_logprob, threshold, last, norm)


Drawn = tuple[Tensor, Tensor, Tensor, Tensor]  # ids, threshold, last, norm, each [B], as in Choice


def take_likeliest(scores: Tensor, top: Top, rows: RowOptions) -> Drawn:
    """The greedy choice: of equally likely tokens the first, as argmax has it."""
    ids, values = top.ids[:, 0], top.values[:, 0]
    return ids, values, ids, values


def draw_plain(scores: Tensor, top: Top, rows: RowOptions) -> Drawn:
    """Draw with no filter."""
    scaled = scores / rows.divisor
    places = torch.arange(scaled.shape[1], device=scaled.device)
    ids = gumbel(rows.keys, places[None]).add_(scaled).argmax(1)
    return ids, torch.full_like(scaled[:, 0], -torch.inf), torch.full_like(ids, scaled.shape[1]), scaled.logsumexp(1)


def draw_few(scores: Tensor, top: Top, rows: RowOptions) -> Drawn:
    """Filter and draw among the FEW likeliest, of which no more than top_k are kept."""
    ids, last = torch.empty(len(scores), dtype=torch.int64), torch.empty(len(scores), dtype=torch.int64)
    threshold, norm = torch.empty(len(scores)), torch.empty(len(scores))
    given = (top.values, top.ids, rows.divisor[:, 0], rows.top_k, rows.top_p, *rows.keys)
    draw(*(part.numpy() for part in (*given, ids, threshold, last, norm)))
    return ids, threshold, last, norm


def draw_sorted(scores: Tensor, top: Top, rows: RowOptions) -> Drawn:
    """Filter and draw among all tokens."""
    values, ids = scores.sort(dim=1, descending=True, stable=True)
    scaled, size = values / rows.divisor, scores.shape[1]
    places = torch.arange(size, device=scores.device)
    count = torch.where(rows.top_k > 0, rows.top_k, size).clamp(max=size)[:, None]
    if rows.some_top_p:
        count = torch.minimum(count, nucleus(scaled.masked_fill(places >= count, -torch.inf), rows.top_p))
    kept = scaled.masked_fill(places >= count, -torch.inf)
    best = (kept + gumbel(rows.keys, ids)).argmax(1, keepdim=True)
    threshold, last = values.gather(1, count - 1)[:, 0], ids.gather(1, count - 1)[:, 0]
    return ids.gather(1, best)[:, 0], threshold, last, kept.logsumexp(1)
