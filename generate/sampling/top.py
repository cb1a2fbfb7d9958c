"""The likeliest tokens of every row, in the order in which they are filtered (see sampler.py)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from generate.sampling import likeliest

FEW = 48  # rows of which less than this are kept are sampled among their FEW likeliest tokens only


@dataclass
class Top:
    """The likeliest tokens of each row, in order: `values` and `ids` [B, FEW], or [B, V] of a smaller V.

    `maxima` [B, G] are those of groups of scores, where they are known; with them, what changes a little is found again.
    """

    values: Tensor
    ids: Tensor
    maxima: Tensor | None = None

    def pick(self, index: Tensor) -> "Top":
        """The same of some rows."""
        return Top(self.values[index], self.ids[index])


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


def top_few_again(scores: Tensor, touched: Tensor, before: Tensor, top: Top, needed: np.ndarray | None = None) -> Top:
    """The same where `top` is what it was before the scores at the flat indices `touched` [N] changed from `before` [N].

    Where only the first so many of a row are `needed`, int64 [B], those behind may be others.
    """
    if top.maxima is None:
        return top_few(scores)
    (flat, stride), again = as_rows(scores), Top(top.values.clone(), top.ids.clone(), top.maxima.clone())
    needed = np.full(len(scores), FEW) if needed is None else needed
    arrays = (part.numpy() for part in (touched, before, again.maxima, again.values, again.ids))
    likeliest.find_again(flat, stride, scores.shape[1], needed, *arrays)
    return again


def top_few_by_torch(scores: Tensor) -> Top:
    """The same on any device. torch.topk takes any of several equal numbers, so it is given numbers that are all
    different: a float's bits, in the order of floats, and below them the id, backwards."""
    size = scores.shape[1]
    bits = (scores + 0.0).view(torch.int32).long()  # + 0.0: of -0.0 and 0.0, which are equal, one
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    ids = (ordered * 2**32 - torch.arange(size, device=scores.device)).topk(min(FEW, size), 1).values.neg() & 0xFFFFFFFF
    return Top(scores.gather(1, ids), ids)
