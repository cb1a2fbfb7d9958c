"""From logits to the next token of every row at once, and to what the page shows of the choice.

The filters act in this order: repetition penalty, temperature, top_k, top_p. Each is off at 1, 1, 0 and 1. They come
down to one number a row, the threshold: a token is kept when its scaled logit is at least that (so ties are kept).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from generate.noise import gumbel
from generate.record import ALTERNATIVES, record_dtype

FEW = 128  # rows whose top_k is at most this are sampled among their FEW likeliest tokens only


@dataclass
class Rows:
    """The options of B rows as tensors [B] on the device; `seen` is bool [B, V] where any row has a penalty."""

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    penalty: Tensor
    seed: Tensor
    sample: Tensor
    position: Tensor
    seen: Tensor | None

    def pick(self, index: Tensor) -> "Rows":
        parts = (self.temperature, self.top_k, self.top_p, self.penalty, self.seed, self.sample, self.position)
        return Rows(*(part[index] for part in parts), None if self.seen is None else self.seen[index])


@dataclass
class Choice:
    """What was chosen for each row: `ids`, `sampled_logprob`, `norm`, `threshold`, all [B]; `scaled` [B, V]."""

    ids: Tensor
    sampled_logprob: Tensor
    norm: Tensor
    threshold: Tensor
    scaled: Tensor


def penalise(logits: Tensor, penalty: Tensor, seen: Tensor | None) -> Tensor:
    """Make seen tokens less likely: positive logits are divided by the penalty, negative ones multiplied.

    Source: Keskar et al. 2019 (CTRL), section 4.1, as `transformers` has it.
    """
    if seen is None:
        return logits
    factor = penalty[:, None]
    return torch.where(seen, torch.where(logits > 0, logits / factor, logits * factor), logits)


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


def choose(logits: Tensor, rows: Rows) -> Choice:
    """Choose the next token of every row from logits [B, V] float32. A row's choice depends on that row alone."""
    scores = penalise(logits, rows.penalty, rows.seen)
    greedy = rows.temperature == 0
    scaled = scores / torch.where(greedy, 1.0, rows.temperature)[:, None]
    ids = scores.argmax(1)
    threshold = scaled.gather(1, ids[:, None])[:, 0]
    norm = threshold.clone()
    # which way a row is drawn follows from its own options, so that its neighbours change nothing, not even a rounding
    filtered = (rows.top_k > 0) | (rows.top_p < 1)
    few = (rows.top_k > 0) & (rows.top_k <= FEW)
    for group, way in ((~filtered, draw_plain), (few, draw_few), (filtered & ~few, draw_sorted)):
        index = (group & ~greedy).nonzero()[:, 0]
        if len(index):
            picked = scaled if len(index) == len(scaled) else scaled[index]
            ids[index], threshold[index], norm[index] = way(picked, rows.pick(index))
    sampled_logprob = scaled.gather(1, ids[:, None])[:, 0] - norm
    return Choice(ids, sampled_logprob, norm, threshold, scaled)


def draw_plain(scaled: Tensor, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Draw with no filter; returns ids, threshold, norm, each [B], as all three ways do."""
    noise = gumbel(rows.seed, rows.sample, rows.position, torch.arange(scaled.shape[1], device=scaled.device)[None])
    return (scaled + noise).argmax(1), scaled.amin(1), scaled.logsumexp(1)


def draw_few(scaled: Tensor, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Filter and draw among the FEW likeliest; rows whose ties go on beyond them are sorted whole."""
    values, candidates = scaled.topk(min(FEW, scaled.shape[1]), 1)
    ids, threshold, norm = draw_filtered(values, candidates, rows)
    beyond = (values[:, -1] >= threshold).nonzero()[:, 0]
    if len(beyond) and values.shape[1] < scaled.shape[1]:
        ids[beyond], threshold[beyond], norm[beyond] = draw_sorted(scaled[beyond], rows.pick(beyond))
    return ids, threshold, norm


def draw_sorted(scaled: Tensor, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Filter and draw among all tokens."""
    return draw_filtered(*scaled.sort(dim=1, descending=True), rows)


def draw_filtered(values: Tensor, candidates: Tensor, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Filter and draw among `candidates` [B, K] whose scaled logits `values` are sorted, largest first."""
    threshold = threshold_top_p(values, rows.top_p, threshold_top_k(values, rows.top_k))
    kept = values.masked_fill(values < threshold[:, None], -torch.inf)
    noisy = kept + gumbel(rows.seed, rows.sample, rows.position, candidates)
    best = noisy.argmax(1, keepdim=True)
    return candidates.gather(1, best)[:, 0], threshold, kept.logsumexp(1)


def statistics(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """What the model thought of the tokens `ids` [B], given logits [B, V] float32, before any filter.

    Returns floats [B, 3 + A] (logprob, entropy, log_z, alternatives' logprobs) and int64 [B, 1 + A] (rank,
    alternatives' ids), where A is 10 or the whole of a smaller vocabulary.
    """
    log_z = logits.logsumexp(1, keepdim=True)
    logprobs = logits - log_z
    chosen = logprobs.gather(1, ids[:, None])
    entropy = -(logprobs.exp() * logprobs).sum(1, keepdim=True)
    rank = 1 + (logprobs > chosen).sum(1, keepdim=True)
    alternatives, alternative_ids = logprobs.topk(min(ALTERNATIVES, logits.shape[1]), 1)
    return torch.cat((chosen, entropy, log_z, alternatives), 1), torch.cat((rank, alternative_ids), 1)


def to_records(logits: Tensor, ids: Tensor, choice: Choice | None, temperature: Tensor | None) -> np.ndarray:
    """Records [B] of tokens `ids`: with `choice` for sampled tokens, without for tokens of a prompt."""
    floats, whole = statistics(logits, ids)
    width = floats.shape[1] - 3
    if choice is not None:
        scale = torch.where(temperature == 0, 1.0, temperature)
        filter_norm = choice.norm - floats[:, 2] / scale
        cut = choice.scaled.gather(1, whole[:, 1:]) < choice.threshold[:, None]
        bits = (cut << torch.arange(width, device=cut.device)).sum(1, keepdim=True)
        floats = torch.cat((floats, choice.sampled_logprob[:, None], filter_norm[:, None]), 1)
        whole = torch.cat((whole, bits), 1)
    floats, whole, ids = floats.cpu().numpy(), whole.cpu().numpy(), ids.cpu().numpy()
    records = np.zeros(len(ids), record_dtype(logits.shape[1]))
    records["id"] = ids
    records["logprob"], records["entropy"], records["log_z"] = floats[:, 0], floats[:, 1], floats[:, 2]
    records["rank"] = whole[:, 0]
    records["alt_logprobs"] = np.nan
    records["alt_logprobs"][:, :width] = floats[:, 3 : 3 + width]
    records["alt_ids"][:, :width] = whole[:, 1 : 1 + width]
    records["sampled_logprob"], records["filter_norm"] = np.nan, np.nan
    if choice is not None:
        records["sampled_logprob"], records["filter_norm"] = floats[:, 3 + width], floats[:, 4 + width]
        records["cut"] = whole[:, 1 + width]
    return records
