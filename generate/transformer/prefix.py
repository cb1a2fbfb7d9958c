"""Keys and values of one text, written while it is read; several rows may read them from here."""

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from generate.folders.config import Config


class Prefix:
    """Keys and values [2, n_layer, n_head, T, head_dim] of one text, of which the first `length` positions are known."""

    def __init__(self, config: Config, size: int, device: torch.device, dtype: torch.dtype):
        self._shape = (2, config.n_layer, config.n_head, size, config.n_embd // config.n_head)
        self._device, self._dtype = device, dtype
        self.length = 0

    @cached_property
    def kv(self) -> Tensor:
        """The memory, taken when it is first asked for."""
        return torch.empty(self._shape, device=self._device, dtype=self._dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return self.kv.nbytes

    def begin_with(self, other: "Prefix", length: int) -> None:
        """Take over the first positions of another text."""
        self.kv[:, :, :, :length] = other.kv[:, :, :, :length]
        self.length = length

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Causal attention of the next positions, [T, 3, H, D] -> [T, H * D], over all positions up to each."""
        count, end = len(qkv), self.length + len(qkv)
        kv = self.kv[:, layer, :, :end]
        kv[:, :, self.length :] = qkv[:, 1:].permute(1, 2, 0, 3)
        mask = None
        if self.length:
            mask = torch.ones(count, end, dtype=torch.bool, device=qkv.device).tril(self.length)
        q, k, v = qkv[:, 0].transpose(0, 1)[None], kv[0][None], kv[1][None]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=1.0)
        return y[0].transpose(0, 1).reshape(count, -1)


def blend(own: Tensor, weight: Tensor, q: Tensor, kv: Tensor) -> Tensor:
    """Join attention over a row's own positions with that over a prompt it shares; all S rows at once.

    `own` [S, H, D] with the log-sum-exp of its scores, `weight` [S, H, 1]; queries [S, H, D]; keys and values of the
    prompt [2, H, P, D]. Source: the rescaling of Milakov & Gimelshein 2018, as FlashAttention joins blocks.
    """
    scores = q.transpose(0, 1) @ kv[0].transpose(1, 2)
    other = (scores.softmax(-1) @ kv[1]).transpose(0, 1)
    share = (scores.logsumexp(-1, keepdim=True).transpose(0, 1) - weight).sigmoid()
    return own.lerp(other, share)
