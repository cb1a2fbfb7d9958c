"""From logits to the next token of every row at once.

The filters act in this order: repetition penalty, temperature, top_k, top_p. Each is off at 1, 1, 0 and 1. They come
down to one number a row, the threshold: a token is kept when its scaled logit is at least that (so ties are kept).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from generate.sampling.draw import draw
from generate.sampling.filters import divisor, is_greedy, penalised
from generate.sampling.noise import gumbel, place_keys, row_key

FEW = 48  # rows whose top_k is less than this are sampled among their FEW likeliest tokens only
GROUP = 64  # the likeliest tokens are looked for in the groups of this size with the largest maxima
AHEAD = 32  # positions whose keys of the noise are computed at once


@dataclass
class RowOptions:
    """The options of B rows as tensors [B] on the device; `seen` is bool [B, V] where any row has a penalty."""

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    penalty: Tensor
    seed: Tensor
    sample: Tensor
    position: Tensor
    seen: Tensor | None

    def __post_init__(self):
        """Decide, once for as long as the rows stay together, by which way each is drawn.

        The way follows from a row's own options, so that its neighbours change nothing, not even a rounding.
        """
        self.greedy = is_greedy(self.temperature)
        self.divisor = divisor(self.temperature, torch.where)[:, None]
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

    def advance(self, ids: Tensor) -> None:
        """Every row has written one more token, `ids` [B]."""
        self.position += 1
        self._ahead += self._ahead < AHEAD
        if self.seen is not None:
            self.seen.scatter_(1, ids[:, None], True)

    def pick(self, index: Tensor) -> "RowOptions":
        """Some of the rows; all of them are given back as they are."""
        if len(index) == len(self.seed):
            return self
        parts = (self.temperature, self.top_k, self.top_p, self.penalty, self.seed, self.sample, self.position)
        return RowOptions(*(part[index] for part in parts), None if self.seen is None else self.seen[index])


@dataclass
class Top:
    """The likeliest tokens of each row, the likeliest first: `values` and `ids` [B, FEW], or [B, V] of a smaller V."""

    values: Tensor
    ids: Tensor

    def pick(self, index: Tensor) -> "Top":
        """The same of some rows."""
        return Top(self.values[index], self.ids[index])


@dataclass
class Choice:
    """What was chosen for each row: `ids`, `sampled_logprob`, `norm` and `threshold`, all [B]."""

    ids: Tensor
    sampled_logprob: Tensor
    norm: Tensor
    threshold: Tensor


def top_few(scores: Tensor) -> Top:
    """The FEW largest of each row of scores [B, V], in two stages: 6 times faster than topk over 50,257 on a CPU.

    Exact: when a group does not come in, FEW others hold a value at least as large as any of its own.
    """
    size = scores.shape[1]
    groups = size // GROUP
    if scores.device.type != "cpu" or groups < 4 * FEW:
        return Top(*scores.topk(min(FEW, size), 1))
    best = scores[:, : groups * GROUP].unflatten(1, (GROUP, groups)).amax(1).topk(FEW, 1, sorted=False).indices
    ids = (best[:, None] + torch.arange(0, groups * GROUP, groups)[:, None]).flatten(1)
    if size % GROUP:
        ids = torch.cat((ids, torch.arange(groups * GROUP, size).expand(len(ids), -1)), 1)
    values, places = scores.gather(1, ids).topk(FEW, 1)
    return Top(values, ids.gather(1, places))


def penalise(logits: Tensor, penalty: Tensor, seen: Tensor | None) -> Tensor:
    """Make seen tokens less likely; logits and `seen` are [B, N], `penalty` [B]."""
    if seen is None:
        return logits
    return torch.where(seen, penalised(logits, penalty[:, None], torch.where), logits)


def scaled_at(logits: Tensor, ids: Tensor, rows: RowOptions) -> Tensor:
    """What the sampler makes of the logits of some tokens `ids` [B, K], before top_k and top_p cut any."""
    seen = None if rows.seen is None else rows.seen.gather(1, ids)
    return penalise(logits.gather(1, ids), rows.penalty, seen) / rows.divisor


def threshold_top_k(values: Tensor, top_k: Tensor) -> Tensor:
    """The k-th largest of each row of `values` (sorted, largest first), or -inf where top_k is 0; [B]."""
    place = top_k.clamp(1, values.shape[1]) - 1
    return torch.where(top_k > 0, values.gather(1, place[:, None])[:, 0], -torch.inf)


def threshold_top_p(values: Tensor, top_p: Tensor, top_k_threshold: Tensor) -> Tensor:
    """The least of the largest values that together hold a share `top_p` of those top_k kept; [B].

    Source: Holtzman et al. 2019, section 3.1: the token that crosses the share is kept.
    """
    kept = values.masked_fill(values < top_k_threshold[:, None], -torch.inf)
    before = kept.softmax(1).cumsum(1).roll(1, 1)
    before[:, 0] = 0
    nucleus = (before < top_p[:, None]) | (torch.arange(values.shape[1], device=values.device) == 0)
    least = values.gather(1, nucleus.sum(1, keepdim=True) - 1)[:, 0]
    return torch.where(top_p < 1, torch.maximum(least, top_k_threshold), top_k_threshold)


def choose(logits: Tensor, rows: RowOptions, top: Top | None = None) -> Choice:
    """Choose the next token of every row from logits [B, V] float32, whose `top_few` may be known already.

    A row's choice depends on that row alone.
    """
    scores = penalise(logits, rows.penalty, rows.seen)
    if top is None or rows.seen is not None:
        top = top_few(scores)
    if len(rows.ways) == 1:
        ids, threshold, norm = rows.ways[0][0](scores, top, rows)
    else:
        ids = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
        threshold, norm = torch.empty_like(top.values[:, 0]), torch.empty_like(top.values[:, 0])
        for way, index in rows.ways:
            ids[index], threshold[index], norm[index] = way(scores[index], top.pick(index), rows.pick(index))
    sampled_logprob = scores.gather(1, ids[:, None])[:, 0] / rows.divisor[:, 0] - norm
    return Choice(ids, sampled_logprob, norm, threshold)


def take_likeliest(scores: Tensor, top: Top, rows: RowOptions) -> tuple[Tensor, Tensor, Tensor]:
    """The greedy choice, of equally likely tokens the first, as argmax has it; returns ids, threshold, norm, each [B]."""
    ids = top.ids.masked_fill(top.values < top.values[:, :1], scores.shape[1]).amin(1)
    return ids, top.values[:, 0], top.values[:, 0]


def draw_plain(scores: Tensor, top: Top, rows: RowOptions) -> tuple[Tensor, Tensor, Tensor]:
    """Draw with no filter; returns ids, threshold, norm, each [B], as all ways do."""
    scaled = scores / rows.divisor
    noise = gumbel(rows.keys, torch.arange(scaled.shape[1], device=scaled.device)[None])
    return noise.add_(scaled).argmax(1), scaled.amin(1), scaled.logsumexp(1)


def draw_few(scores: Tensor, top: Top, rows: RowOptions) -> tuple[Tensor, Tensor, Tensor]:
    """Filter and draw among the FEW likeliest; where ties may go on beyond them, rows are sorted whole."""
    ids = torch.empty(len(scores), dtype=torch.int64)
    threshold, norm = torch.empty(len(scores)), torch.empty(len(scores))
    given = (top.values, top.ids, rows.divisor[:, 0], rows.top_k, rows.top_p, *rows.keys, ids, threshold, norm)
    if draw(*(part.numpy() for part in given)) and top.values.shape[1] < scores.shape[1]:
        index = (top.values[:, -1] / rows.divisor[:, 0] >= threshold).nonzero()[:, 0]
        ids[index], threshold[index], norm[index] = draw_sorted(scores[index], top, rows.pick(index))
    return ids, threshold, norm


def draw_sorted(scores: Tensor, top: Top, rows: RowOptions) -> tuple[Tensor, Tensor, Tensor]:
    """Filter and draw among all tokens."""
    values, ids = scores.sort(dim=1, descending=True)
    return draw_filtered(values / rows.divisor, ids, rows)


def draw_filtered(values: Tensor, candidates: Tensor, rows: RowOptions) -> tuple[Tensor, Tensor, Tensor]:
    """Filter and draw among `candidates` [B, K] whose scaled logits `values` are sorted, largest first."""
    threshold = threshold_top_k(values, rows.top_k)
    if rows.some_top_p:
        threshold = threshold_top_p(values, rows.top_p, threshold)
    kept = values.masked_fill(values < threshold[:, None], -torch.inf)
    noisy = kept + gumbel(rows.keys, candidates)
    best = noisy.argmax(1, keepdim=True)
    return candidates.gather(1, best)[:, 0], threshold, kept.logsumexp(1)
