"""Keys and values of all running rows of a model, in buckets by length; what was only read so far is a Prefix."""

import torch
from torch import Tensor

from generate.folders.config import Config
from generate.transformer.bucket import Bucket, Slot, room_for
from generate.transformer.prefix import Prefix, blend

EARLY = 32  # positions before its room is full that a row may move
SHARE_ROWS, SHARE_LENGTH = 4, 64  # from here on it pays that samples read their prompt's keys and values from one place
LONG = 512  # a prompt of so many positions is never copied: that would halt everybody for a moment


def kv_bytes(config: Config, positions: int, dtype: torch.dtype) -> int:
    """Bytes that keys and values of so many positions take."""
    return 2 * config.n_layer * config.n_embd * positions * dtype.itemsize


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
        """Room for a text of `size` positions, none of them known yet."""
        return Prefix(self.config, size, self.device, self.dtype)

    def join(self, sequence: object, prefix: Prefix, shared: bool) -> Slot:
        """Seat a row after a text that was read: copied into its place, or read from `prefix`, together with others."""
        shared = shared or (prefix.length >= LONG and self.device.type == "cpu")
        slot = Slot(sequence, 0, prefix) if shared else Slot(sequence, prefix.length)
        bucket = self._bucket(slot.length + 1)
        bucket.join(slot, None if shared else prefix.kv)
        return slot

    def leave(self, slot: Slot) -> None:
        """Let a row go."""
        next(bucket for bucket in self._used() if slot in bucket.slots).leave(slot)

    def rewind(self, slot: Slot, position: int) -> bool:
        """Let a row's next token take an earlier position; False where others read what would be written over."""
        length = position - (slot.shared.length if slot.shared else 0)
        if length >= 0:
            slot.length = length
        return length >= 0

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
        """Count the position that this step wrote in every row."""
        for slot in self.slots:
            slot.length += 1
