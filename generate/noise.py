"""Gumbel noise from a counter: a pure function of (seed, sample, position, token id), with no generator to keep.

A run therefore resumes after a crash, replays, and does not depend on who shares its batch. Sampling is the argmax of
log p + noise (the Gumbel-max trick), which rounding disturbs far less than inverting a cumulative sum.
"""

import torch
from torch import Tensor

WORD = 0xFFFFFFFF


def mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit words in int64 that spreads every input bit over the output.

    Source: the constants of `lowbias32`, skeeto/hash-prospector, README.md.
    """
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & WORD
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & WORD
    return x ^ (x >> 16)


def gumbel(seed: Tensor, sample: Tensor, position: Tensor, ids: Tensor) -> Tensor:
    """Standard Gumbel noise, float32 [B, K], for token ids [B, K] or [1, K] of rows whose keys are int64 [B].

    All arithmetic on the keys is exact, so every device and every batch gives the same noise.
    """
    first = mix(mix(mix(seed) ^ (sample + 0x9E3779B9 & WORD)) ^ (position + 0x85EBCA6B & WORD))
    second = mix(first ^ 0xC2B2AE35)
    words = mix(mix(ids + second[:, None] & WORD) ^ first[:, None])
    uniform = (words.to(torch.float64) + 0.5) / 2**32  # float64: strictly between 0 and 1
    return -torch.log(-torch.log(uniform)).to(torch.float32)
