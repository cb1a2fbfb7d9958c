"""Keys and values: of one prompt while it is read (Prefix), and of all running rows while they are written (Slots)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from generate.folder import Config

BUCKET = 64  # attention spans and the cache's room are multiples of this many positions


def kv_bytes(config: Config, positions: int, dtype: torch.dtype) -> int:
    """Bytes that keys and values of so many positions take."""
    return 2 * config.n_layer * config.n_embd * positions * dtype.itemsize


class Prefix:
    """Keys and values [n_layer, n_head, T, head_dim] of one sequence, read chunk by chunk from its start."""

    def __init__(self, config: Config, length: int, device: torch.device, dtype: torch.dtype):
        shape = (config.n_layer, config.n_head, length, config.n_embd // config.n_head)
        self.k = torch.zeros(shape, device=device, dtype=dtype)
        self.v = torch.zeros(shape, device=device, dtype=dtype)
        self.start = 0

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Causal attention of a chunk [1, H, T, D] that begins at `start` over all that was read."""
        end = self.start + q.shape[2]
        self.k[layer, :, self.start : end] = k[0]
        self.v[layer, :, self.start : end] = v[0]
        mask = None
        if self.start:
            mask = torch.ones(q.shape[2], end, dtype=torch.bool, device=q.device).tril(self.start)
        keys, values = self.k[layer, :, :end], self.v[layer, :, :end]
        return F.scaled_dot_product_attention(
            q, keys[None], values[None], attn_mask=mask, is_causal=mask is None, scale=1.0
        )


class Slots:
    """Keys and values [n_layer, slots, n_head, room, head_dim] of the running rows, which fill slots 0 to B - 1.

    `lengths[slot]` positions of a slot are used. Slots double and room grows by BUCKET when more is needed; `drop` gives all of it back.
    """

    def __init__(self, config: Config, device: torch.device, dtype: torch.dtype):
        self.config, self.device, self.dtype = config, device, dtype
        self.drop()

    def drop(self) -> None:
        self.lengths: list[int] = []
        self.k = self.v = self._empty(0, 0)

    def _empty(self, slots: int, room: int) -> Tensor:
        c = self.config
        # zeros, not empty: a masked position still enters the sum with weight 0, and 0 * NaN would be NaN
        return torch.zeros(c.n_layer, slots, c.n_head, room, c.n_embd // c.n_head, device=self.device, dtype=self.dtype)

    def _reserve(self, slots: int, room: int) -> None:
        """Grow to at least `slots` slots of `room` positions, keeping what is there."""
        old_slots, old_room = self.k.shape[1], self.k.shape[3]
        if slots <= old_slots and room <= old_room:
            return
        slots = old_slots if slots <= old_slots else max(slots, 2 * old_slots)
        room = max(old_room, min(-(-room // BUCKET) * BUCKET, self.config.n_positions))
        used = len(self.lengths)
        k, v = self._empty(slots, room), self._empty(slots, room)  # both, before either takes its place
        k[:, :used, :, :old_room] = self.k[:, :used]
        v[:, :used, :, :old_room] = self.v[:, :used]
        self.k, self.v = k, v

    def join(self, prefix: Prefix) -> int:
        """Copy a prompt's keys and values into the next free slot; return the slot."""
        slot, length = len(self.lengths), prefix.k.shape[2]
        self._reserve(slot + 1, length)
        self.k[:, slot, :, :length] = prefix.k
        self.v[:, slot, :, :length] = prefix.v
        self.lengths.append(length)
        return slot

    def leave(self, slot: int) -> None:
        """Free a slot; the last row moves into it, so that rows stay together."""
        last = len(self.lengths) - 1
        for part in (self.k, self.v):
            if slot != last:
                part[:, slot] = part[:, last]
            part[:, last] = 0  # a row that went to NaN must leave nothing behind
        self.lengths[slot] = self.lengths[last]
        self.lengths.pop()

    def begin_step(self) -> None:
        """Make room for one more position in every row, and fix what this step attends to."""
        longest = max(self.lengths) + 1
        self._reserve(len(self.lengths), longest)
        self.span = min(-(-longest // BUCKET) * BUCKET, self.k.shape[3])
        self.at = torch.tensor(self.lengths, device=self.device)
        self.index = torch.arange(len(self.lengths), device=self.device)
        hidden = torch.arange(self.span, device=self.device) > self.at[:, None]
        self.mask = torch.zeros_like(hidden, dtype=self.dtype).masked_fill(hidden, -torch.inf)[:, None, None]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of one new position per row, [B, H, 1, D], over that row's own positions.

        Plain matrix products: torch's fused kernel is slow on a CPU for a single query.
        """
        rows = len(self.lengths)
        keys, values = self.k[layer], self.v[layer]
        keys[self.index, :, self.at] = k[:, :, 0]
        values[self.index, :, self.at] = v[:, :, 0]
        scores = q @ keys[:rows, :, : self.span].transpose(2, 3) + self.mask
        return scores.softmax(-1) @ values[:rows, :, : self.span]

    def end_step(self) -> None:
        self.lengths = [length + 1 for length in self.lengths]
