"""The ways to draw the next token of rows whose tokens stand in order. A row is drawn by one of them (`RowOptions.ways`)."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from generate.sampling.draw import draw, draw_filtered
from generate.sampling.noise import coin, gumbel
from generate.sampling.spread import LOWEST
from generate.sampling.top import Top, as_rows

if TYPE_CHECKING:
    from generate.sampling.sampler import RowOptions

# ids, threshold, last, norm and, of rows with filters beyond top_k and top_p, ceiling and head: each [B], as in Choice
Drawn = tuple[Tensor, ...]


def take_likeliest(scores: Tensor, top: Top, rows: "RowOptions") -> Drawn:
    """The greedy choice: of equally likely tokens the first, as argmax has it."""
    ids, values = top.ids[:, 0], top.values[:, 0]
    return ids, values, ids, values


def draw_plain(scores: Tensor, top: Top, rows: "RowOptions") -> Drawn:
    """Draw with no filter."""
    scaled = scores / rows.divisor
    places = torch.arange(scaled.shape[1], device=scaled.device)
    ids = gumbel(rows.keys, places[None]).add_(scaled).argmax(1)
    return ids, torch.full_like(scaled[:, 0], -torch.inf), torch.full_like(ids, scaled.shape[1]), scaled.logsumexp(1)


def draw_few(scores: Tensor, top: Top, rows: "RowOptions") -> Drawn:
    """Filter and draw among the FEW likeliest, of which no more than top_k are kept."""
    ids, last = torch.empty(len(scores), dtype=torch.int64), torch.empty(len(scores), dtype=torch.int64)
    threshold, norm = torch.empty(len(scores)), torch.empty(len(scores))
    arrays = (part.numpy() for part in (*rows.keys, ids, threshold, last, norm))
    draw(top.values.numpy(), top.ids.numpy(), *rows.given, *arrays)
    return ids, threshold, last, norm


def draw_few_filtered(scores: Tensor, top: Top, rows: "RowOptions") -> Drawn:
    """The same with the filters beyond top_k and top_p; rows of which more than the FEW likeliest may be kept are sorted."""
    count, (flat, stride) = len(scores), as_rows(scores)
    done = np.empty(count, np.bool_)
    whole, real = torch.empty(3, count, dtype=torch.int64), torch.empty(3, count)
    given = (top.values.numpy(), top.ids.numpy(), *rows.arrays, *(key.numpy() for key in rows.keys))
    draw_filtered(flat, stride, scores.shape[1], *given, done, whole.numpy(), real.numpy())
    found = whole[0], real[0], whole[1], real[1], real[2], whole[2]
    if not done.all():
        left = torch.from_numpy((~done).nonzero()[0])
        for part, more in zip(found, draw_sorted(scores[left], top.pick(left), rows.pick(left)), strict=True):
            part[left] = more
    return found


def floors(scores: Tensor, top: Top, sigmas: Tensor) -> Tensor:
    """The lowest score that top_n_sigma keeps in each row, [B], as `spread.floor_of` has it."""
    x = scores.double()
    there = ~x.isneginf()
    count = there.sum(1, keepdim=True)
    mean = x.masked_fill(~there, 0).sum(1, keepdim=True) / count
    deviation = ((x - mean).square().masked_fill(~there, 0).sum(1) / count[:, 0]).sqrt()
    return torch.where(sigmas > 0, top.values[:, 0] - sigmas * deviation, LOWEST.item()).float()


def nucleus(kept: Tensor, top_p: Tensor) -> Tensor:
    """How many of the largest values, which come first in `kept` [B, V], together hold a share `top_p`; [B, 1].

    Source: Holtzman et al. 2019, section 3.1: the token that crosses the share is kept.
    """
    before = kept.softmax(1).cumsum(1).roll(1, 1)
    before[:, 0] = -torch.inf
    return ((before < top_p[:, None]) | (top_p[:, None] >= 1)).sum(1, keepdim=True)


def draw_sorted(scores: Tensor, top: Top, rows: "RowOptions") -> Drawn:
    """Filter and draw among all tokens."""
    values, ids = scores.sort(dim=1, descending=True, stable=True)
    scaled, size = values / rows.divisor, scores.shape[1]
    places = torch.arange(size, device=scores.device)
    count = torch.where(rows.top_k > 0, rows.top_k, size).clamp(max=size)[:, None]
    if rows.filters is not None:
        floor = floors(scores, top, rows.filters.top_n_sigma)[:, None]
        count = torch.minimum(count, (values >= floor).sum(1, keepdim=True)).clamp(min=1)
    if rows.some_top_p:
        count = torch.minimum(count, nucleus(scaled.masked_fill(places >= count, -torch.inf), rows.top_p))
    if rows.filters is not None:
        likely = (scaled - scaled[:, :1] >= rows.filters.least[:, None]).sum(1, keepdim=True)
        count = torch.minimum(count, likely).clamp(min=1)
    kept = scaled.masked_fill(places >= count, -torch.inf)
    if rows.filters is not None:
        start = obvious(kept, places < count, rows)
        kept = kept.masked_fill(places < start, -torch.inf)
    best = (kept + gumbel(rows.keys, ids)).argmax(1, keepdim=True)
    threshold, last = values.gather(1, count - 1)[:, 0], ids.gather(1, count - 1)[:, 0]
    drawn = ids.gather(1, best)[:, 0], threshold, last, kept.logsumexp(1)
    if rows.filters is None:
        return drawn
    return *drawn, values.gather(1, start)[:, 0], ids.gather(1, start)[:, 0]


def obvious(kept: Tensor, there: Tensor, rows: "RowOptions") -> Tensor:
    """How many of the first tokens XTC leaves out of `kept` [B, V], sorted logits of which those `there` count; [B, 1]."""
    common = there & (kept.softmax(1) >= rows.filters.xtc_threshold[:, None])
    heads = coin(rows.keys) < rows.filters.xtc_probability
    return torch.where(heads[:, None], (common.sum(1, keepdim=True) - 1).clamp(min=0), 0)
