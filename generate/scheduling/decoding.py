"""The running sequences, and the tensors that describe them from one step to the next."""

import torch
from torch import Tensor

from generate.sampling.sampler import RowOptions
from generate.scheduling.sequence import Sequence
from generate.scheduling.stacking import stack_options
from generate.transformer.bucket import room_for
from generate.transformer.int8.kv_cache import PagedKVCache
from generate.transformer.kv_cache import KVCache


class Decoding:
    """Sequences that are being written, in the cache's order; `options`, `ids` and `positions` stay on the device.

    `ids` [B] are their last tokens. The tensors are made anew only after the order has changed.
    """

    def __init__(self, cache: KVCache | PagedKVCache, vocab_size: int, device: torch.device):
        self.cache, self._vocab_size, self._device = cache, vocab_size, device
        self.sequences: list[Sequence] = []
        self.options: RowOptions | None = None  # None: the tensors are not those of `sequences` any more
        self.ids: Tensor | None = None
        self.positions: Tensor | None = None

    def prepare(self) -> None:
        """Bring the tensors up to date; the last tokens of all sequences must be known to them."""
        if self.options is None:
            self.options = stack_options(self.sequences, self._vocab_size, self._device)
            self.ids = torch.tensor([sequence.ids[-1] for sequence in self.sequences], device=self._device)
            positions = [sequence.slot.position for sequence in self.sequences]
            self.positions = torch.tensor(positions, device=self._device)

    def may_go_ahead(self) -> bool:
        """Whether a step may begin before the last one's tokens are known: nobody's room or count runs out, and nobody's
        sampler asks for them."""
        most = self.cache.config.n_positions
        return all(
            sequence.left > 1
            and sequence.slot.length < room_for(sequence.slot.length, most)
            and sequence.slot.position < most
            and sequence.past.pressure is None
            and sequence.held_back is None
            for sequence in self.sequences
        )

    def written(self, ids: Tensor) -> None:
        """Each sequence has one token more, `ids` [B], which the next step reads."""
        self.cache.end_step()
        self.ids, self.positions = ids, self.positions + 1
        self.options.advance(ids)
        if self.options.blocked:  # at this place only
            self.options = None

    def reorder(self) -> None:
        """Sequences have come, gone or moved in the cache."""
        self.sequences = [slot.sequence for slot in self.cache.slots]
        self.options = None
