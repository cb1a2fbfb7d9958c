"""The running rows of about one length, with room for the same number of positions each.

A step reads that room whole: memory is read twice as fast without gaps, so a row that is full moves to the next bucket
instead of using a part of a larger room. Rows join, leave and move one at a time; nobody else is copied.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from generate.folders.config import Config
from generate.transformer.prefix import Prefix


def room_for(length: int, n_positions: int) -> int:
    """Room of the bucket for rows of this length: 64, 128, 192, 256, 384, 512, 768, 1024 ..."""
    room = 64
    while room < length:
        step = 1 << (room.bit_length() - 1)
        room += step // 2 if room >= 128 else 64
    return min(room, n_positions)


def rooms(n_positions: int) -> list[int]:
    """The rooms of all buckets there may be."""
    found = [room_for(1, n_positions)]
    while found[-1] < n_positions:
        found.append(room_for(found[-1] + 1, n_positions))
    return found


@dataclass(eq=False)
class Slot:
    """A row's place: `length` positions in its bucket, after those of `shared` where several rows share a prompt."""

    sequence: object
    length: int
    shared: Prefix | None = None

    @property
    def position(self) -> int:
        """The position that this row's next token takes in its window."""
        return self.length + (self.shared.length if self.shared else 0)


@dataclass(eq=False)
class Bucket:
    """Rows with `room` positions each: keys and values [n_layer, 2, most_rows, n_head, room, head_dim].

    The first len(slots) rows are in use. On a CPU the memory is taken page by page as rows first write to it.
    """

    config: Config
    room: int
    most_rows: int
    device: torch.device
    dtype: torch.dtype
    slots: list[Slot] = field(default_factory=list)
    _viewed: int = 0  # rows that the prepared views show

    @cached_property
    def kv(self) -> Tensor:
        """The memory, taken when it is first asked for."""
        c = self.config
        shape = (c.n_layer, 2, self.most_rows, c.n_head, self.room, c.n_embd // c.n_head)
        # zeros, not empty: a masked position still enters the sum with weight 0, and 0 * NaN would be NaN
        if self.device.type != "cpu":
            return torch.zeros(shape, device=self.device, dtype=self.dtype)
        blank = np.zeros(shape, {4: np.float32, 2: np.uint16}[self.dtype.itemsize])  # costs nothing until it is used
        return torch.from_numpy(blank).view(self.dtype)

    def join(self, slot: Slot, kv: Tensor | None) -> None:
        """Take a row in; `kv` [2, n_layer, n_head, length, head_dim] are the positions it has."""
        if kv is not None:
            self.kv[:, :, len(self.slots), :, : slot.length] = kv.transpose(0, 1)
        self.slots.append(slot)

    def content(self, slot: Slot) -> Tensor:
        """A view of a row's positions, [2, n_layer, n_head, length, head_dim]."""
        return self.kv[:, :, self.slots.index(slot), :, : slot.length].transpose(0, 1)

    def leave(self, slot: Slot) -> None:
        """Let a row go; the last one takes its place, so that rows stay together."""
        place, last = self.slots.index(slot), self.slots[-1]
        if slot is not last:
            self.kv[:, :, place, :, : last.length] = self.kv[:, :, len(self.slots) - 1, :, : last.length]
            self.slots[place] = last
            self.kv[:, :, place, :, last.length : slot.length + 1] = 0
        # a row that went to NaN must leave nothing behind, not even in the position after its last
        self.kv[:, :, len(self.slots) - 1, :, : last.length + 1] = 0
        self.slots.pop()
        if not self.slots and self.device.type == "cpu":  # all memory is given back; a GPU's graphs need it where it is
            del self.kv
            self._vectors, self._kv, self._viewed = [], [], 0

    def begin_step(self, rows: int) -> None:
        """Fix where this step writes and what it may see; `rows` beyond those seated are blank ones that fill it up."""
        heads, room = self.config.n_head, self.room
        lengths = [slot.length for slot in self.slots] + [0] * (rows - len(self.slots))
        at = torch.tensor(lengths, device=self.device)
        hidden = torch.arange(room, device=self.device) > at[:, None]
        mask = torch.zeros(rows, room, dtype=self.dtype, device=self.device).masked_fill_(hidden, -torch.inf)
        self.mask = mask[:, None].expand(-1, heads, -1).reshape(rows * heads, 1, room)
        if self._viewed != rows:
            self._view(rows)
        self.places = (self._starts + at[:, None, None]).view(-1)

    def _view(self, rows: int) -> None:
        """Prepare each layer's views of so many rows: where to write, keys and values [B * H, room, head_dim]."""
        heads, room, self._viewed = self.config.n_head, self.room, rows
        self._vectors = [kv.view(-1, kv.shape[-1]) for kv in self.kv]
        self._kv = [kv[:, :rows].view(2, rows * heads, room, -1).unbind() for kv in self.kv]
        head = torch.arange(heads, device=self.device)
        row = torch.arange(rows, device=self.device)[:, None, None]
        side = torch.arange(2, device=self.device)[:, None] * self.most_rows
        self._starts = ((side + row) * heads + head) * room  # of a row's vectors, one for each side and head

    def attend(self, layer: int, qkv: Tensor) -> tuple[Tensor, Tensor]:
        """Attention of one new position per row, [B, 3, H, D], over that row's positions here.

        Returns the scores [B * H, 1, room] and the sums [B * H, 1, D]. Plain matrix products: torch's fused kernel is
        slow on a CPU for a single query.
        """
        width = qkv.shape[-1]
        self._vectors[layer].index_copy_(0, self.places, qkv[:, 1:].reshape(-1, width))
        k, v = self._kv[layer]
        scores = torch.baddbmm(self.mask, qkv[:, 0].reshape(-1, 1, width), k.transpose(1, 2))
        return scores, torch.bmm(scores.softmax(-1), v)
