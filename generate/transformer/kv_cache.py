"""Keys and values: of one text while it is read (Prefix), and of all running rows while they are written (KVCache).

Rows lie in buckets by length. All rows of a bucket have room for the same number of positions, and a step reads that
room whole: memory is read twice as fast without gaps, so a row that is full moves to the next bucket instead of using a
part of a larger room. Rows join, leave and move one at a time; nobody else is copied.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from generate.folders.config import Config

EARLY = 32  # positions before its room is full that a row may move
SHARE_ROWS, SHARE_LENGTH = 4, 64  # from here on it pays that samples read their prompt's keys and values from one place
LONG = 512  # a prompt of so many positions is never copied: that would halt everybody for a moment


def kv_bytes(config: Config, positions: int, dtype: torch.dtype) -> int:
    """Bytes that keys and values of so many positions take."""
    return 2 * config.n_layer * config.n_embd * positions * dtype.itemsize


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


class Prefix:
    """Keys and values [2, n_layer, n_head, T, head_dim] of one text, of which the first `length` positions are known."""

    def __init__(self, config: Config, size: int, device: torch.device, dtype: torch.dtype):
        self._shape = (2, config.n_layer, config.n_head, size, config.n_embd // config.n_head)
        self._device, self._dtype = device, dtype
        self.length = 0

    @cached_property
    def kv(self) -> Tensor:
        return torch.empty(self._shape, device=self._device, dtype=self._dtype)

    @property
    def nbytes(self) -> int:
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


class KVCache:
    """The running rows of one model. Their order, bucket by bucket, is that of the batch."""

    def __init__(self, config: Config, device: torch.device, dtype: torch.dtype, most_rows: int):
        self.config, self.device, self.dtype, self.most_rows = config, device, dtype, most_rows
        self.buckets: dict[int, Bucket] = {}
        # the buckets of this step, each with the first of its rows in the batch and the one after its last
        self.parts: list[tuple[Bucket, int, int]] = []

    @property
    def slots(self) -> list[Slot]:
        """All slots in the batch's order."""
        return [slot for bucket in self._used() for slot in bucket.slots]

    def _used(self) -> list[Bucket]:
        return [self.buckets[room] for room in sorted(self.buckets) if self.buckets[room].slots]

    def _bucket(self, length: int) -> Bucket:
        room = room_for(length, self.config.n_positions)
        if room not in self.buckets:
            self.buckets[room] = Bucket(self.config, room, self.most_rows, self.device, self.dtype)
        return self.buckets[room]

    def new_prefix(self, size: int) -> Prefix:
        return Prefix(self.config, size, self.device, self.dtype)

    def join(self, sequence: object, prefix: Prefix, shared: bool) -> Slot:
        """Seat a row after a text that was read: copied into its place, or read from `prefix`, together with others."""
        shared = shared or (prefix.length >= LONG and self.device.type == "cpu")
        slot = Slot(sequence, 0, prefix) if shared else Slot(sequence, prefix.length)
        bucket = self._bucket(slot.length + 1)
        bucket.join(slot, None if shared else prefix.kv)
        return slot

    def leave(self, slot: Slot) -> None:
        next(bucket for bucket in self._used() if slot in bucket.slots).leave(slot)

    def prefix_of(self, slot: Slot) -> Prefix:
        """A copy of all keys and values of a row."""
        own = next(bucket for bucket in self._used() if slot in bucket.slots).content(slot)
        prefix = Prefix(self.config, slot.position, self.device, self.dtype)
        prefix.length = slot.position
        if slot.shared:
            prefix.kv[:, :, :, : slot.shared.length] = slot.shared.kv
        prefix.kv[:, :, :, prefix.length - slot.length :] = own
        return prefix

    def make_room(self) -> bool:
        """Move rows whose room is full to the next bucket; True when the batch's order has changed.

        One row a step moves EARLY, the longest: rows that began together would all be moved in one step, a long one.
        """
        going = [(bucket, slot) for bucket in self._used() for slot in bucket.slots if slot.length == bucket.room]
        most = self.config.n_positions
        soon = [
            (bucket, slot)
            for bucket in self._used()
            for slot in bucket.slots
            if bucket.room - EARLY <= slot.length < bucket.room < most and len(bucket.slots) > 1
        ]
        if soon and not going:
            going = [max(soon, key=lambda pair: pair[1].length)]
        for bucket, slot in going:
            self._bucket(bucket.room + 1).join(slot, bucket.content(slot))
            bucket.leave(slot)
        return bool(going)

    def begin_step(self, fill_up: bool = False) -> None:
        """Fix what this step attends to; call `make_room` first. Nothing counts as written before `end_step`.

        With `fill_up` each bucket's rows are filled up with blank ones to 1, 2, 4, 8 ..., so that few sizes occur.
        """
        self.parts = []
        for bucket in self._used():
            rows = len(bucket.slots)
            rows = min(1 << (rows - 1).bit_length(), self.most_rows) if fill_up else rows
            bucket.begin_step(rows)
            start = self.parts[-1][2] if self.parts else 0
            self.parts.append((bucket, start, start + rows))
        groups: dict[Prefix, list[int]] = {}
        for place, slot in enumerate(self.slots):
            if slot.shared:
                groups.setdefault(slot.shared, []).append(place)
        self._groups = [(prefix, torch.tensor(rows, device=self.device)) for prefix, rows in groups.items()]

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Attention of one new position per row, [B, 3, H, D] -> [B, H * D], over that row's own positions."""
        rows, _, heads, width = qkv.shape
        parts = [bucket.attend(layer, qkv[start:end]) for bucket, start, end in self.parts]
        y = parts[0][1] if len(parts) == 1 else torch.cat([part[1] for part in parts])
        if self._groups:
            y = y.view(rows, heads, width)
            weight = torch.cat([part[0].logsumexp(-1) for part in parts]).view(rows, heads, 1)
            for prefix, members in self._groups:
                y[members] = blend(y[members], weight[members], qkv[members, 0], prefix.kv[:, layer])
        return y.view(rows, heads * width)

    def end_step(self) -> None:
        for slot in self.slots:
            slot.length += 1


def blend(own: Tensor, weight: Tensor, q: Tensor, kv: Tensor) -> Tensor:
    """Join attention over a row's own positions with that over a prompt it shares; all S rows at once.

    `own` [S, H, D] with the log-sum-exp of its scores, `weight` [S, H, 1]; queries [S, H, D]; keys and values of the
    prompt [2, H, P, D]. Source: the rescaling of Milakov & Gimelshein 2018, as FlashAttention joins blocks.
    """
    scores = q.transpose(0, 1) @ kv[0].transpose(1, 2)
    other = (scores.softmax(-1) @ kv[1]).transpose(0, 1)
    share = (scores.logsumexp(-1, keepdim=True).transpose(0, 1) - weight).sigmoid()
    return own.lerp(other, share)
