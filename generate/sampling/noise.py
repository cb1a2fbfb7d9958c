"""Gumbel noise from a counter: a pure function of (seed, sample, position, token id), with no generator to keep.

A run therefore resumes after a crash, replays, and does not depend on who shares its batch. Sampling is the argmax of
log p + noise (the Gumbel-max trick), which rounding disturbs far less than inverting a cumulative sum.
"""

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
COIN = WORD  # an id that no token has


def mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit words in int64 that spreads every input bit over the output.

    Source: the constants of `lowbias32`, skeeto/hash-prospector, README.md.
    """
    x = (x >> 16).bitwise_xor_(x).mul_(0x7FEB352D).bitwise_and_(WORD)
    x = (x >> 15).bitwise_xor_(x).mul_(0x846CA68B).bitwise_and_(WORD)
    return (x >> 16).bitwise_xor_(x)


def row_key(seed: Tensor, sample: Tensor) -> Tensor:
    """What of the noise stays the same for a row: a 32-bit word each, int64 [B]."""
    return mix(mix(seed) ^ (sample + 0x9E3779B9 & WORD))


def place_keys(key: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    """Two 32-bit words for each place of a text, int64 of the shape that `key` and `position` broadcast to."""
    first = mix(key ^ (position + 0x85EBCA6B & WORD))
    return first, mix(first ^ 0xC2B2AE35)


def gumbel(keys: tuple[Tensor, Tensor], ids: Tensor) -> Tensor:
    """Standard Gumbel noise, float32 [B, K], for token ids [B, K] or [1, K] of rows with `place_keys` [B].

    All arithmetic on the keys is exact, so every device and every batch gives the same noise.
    """
    return uniform(keys, ids).log_().neg_().log_().neg_().to(torch.float32)


def uniform(keys: tuple[Tensor, Tensor], ids: Tensor) -> Tensor:
    """Numbers strictly between 0 and 1, float64 [B, K], as `gumbel` takes them."""
    first, second = keys
    words = mix(mix((ids + second[:, None]).bitwise_and_(WORD)).bitwise_xor_(first[:, None]))
    return words.to(torch.float64).add_(0.5).mul_(2.0**-32)


def coin(keys: tuple[Tensor, Tensor]) -> Tensor:
    """What XTC draws at each place, as if it were one more token: strictly between 0 and 1, float64 [B]."""
    return uniform(keys, torch.full((1, 1), COIN, device=keys[0].device))[:, 0]
