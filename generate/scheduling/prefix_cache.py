"""Texts that were read before: their keys and values, kept as long as a bounded memory has room for them."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from generate.interface.states import FinishReason
from generate.sampling.statistics import as_prompt
from generate.scheduling.memory import out_of_memory
from generate.scheduling.sequence import Sequence
from generate.transformer.int8.kv_cache import PagedKVCache
from generate.transformer.kv_cache import KVCache
from generate.transformer.prefix import Prefix

MOST_TEXTS = 256  # each is compared with every new text, which must stay a matter of microseconds
LEAST_LENGTH = 8  # shorter beginnings are read again as fast as they are found


@dataclass
class CachedPrefix:
    """One text; `records` are what the model thought of its tokens, known from index `first` on (None: of none)."""

    prefix: Prefix
    records: np.ndarray | None
    first: int

    @property
    def nbytes(self) -> int:
        """Bytes of its keys and values."""
        return self.prefix.nbytes


class PrefixCache:
    """The least recently used text goes first when more than `limit` bytes would be kept."""

    def __init__(self, limit: int, position_bytes: int):
        self.limit, self.position_bytes = limit, position_bytes
        self.nbytes = 0
        self._texts: OrderedDict[bytes, CachedPrefix] = OrderedDict()

    def has_room_for(self, length: int) -> bool:
        """Whether a text of so many tokens is worth keeping: it may take a quarter of the memory at the most."""
        return length >= LEAST_LENGTH and 4 * length * self.position_bytes <= self.limit

    def __len__(self) -> int:
        return len(self._texts)

    def keep(self, ids: list[int], prefix: Prefix, records: np.ndarray | None, first: int = 1) -> None:
        """Keep a text that was read whole, with its records from index `first` on.

        It takes the place of those that it begins with, and of itself where less was known of it.
        """
        key = pack(ids)
        first = len(ids) if records is None else min(first, len(ids))
        same = self._texts.get(key)
        if not self.has_room_for(len(ids)) or (same is not None and same.first <= first):
            return
        for other in [k for k, kept in self._texts.items() if key.startswith(k) and worse(kept, first)]:
            self._forget(other)
        self._texts[key] = CachedPrefix(prefix, records, first)
        self.nbytes += prefix.nbytes
        while self.nbytes > self.limit or len(self._texts) > MOST_TEXTS:
            self._forget(next(iter(self._texts)))

    def _forget(self, key: bytes) -> None:
        self.nbytes -= self._texts.pop(key).nbytes

    def fill(self, prefix: Prefix, ids: list[int], first: int) -> np.ndarray | None:
        """Copy the longest known beginning of `ids` into `prefix`; returns the records that came with it.

        Records are wanted of the tokens from index `first` on; 0: of none. Those before `first` need not be right.
        """
        first = first or len(ids)
        known = np.array(ids, np.int32)
        best, size, told = None, 0, 0
        for other, kept in self._texts.items():
            common = common_length(np.frombuffer(other, np.int32), known)
            if common >= LEAST_LENGTH and (found := usable(kept, common, first, len(ids))) > size:
                best, size, told = other, found, common
        if best is None:
            return None
        self._texts.move_to_end(best)
        kept = self._texts[best]
        prefix.begin_with(kept.prefix, size)
        return kept.records[:told] if kept.first <= first < told else None

    def keep_written(self, sequence: Sequence, cache: KVCache | PagedKVCache) -> None:
        """Keep what a sequence has written, for whoever goes on from there; where memory runs out, forget all."""
        failed = sequence.log.finish_reason == FinishReason.ERROR or sequence.went_back
        if failed or not self.has_room_for(sequence.slot.position):
            return
        ids = sequence.shown[sequence.window : sequence.window + sequence.slot.position]
        records = None
        if sequence.window == 0 and sequence.request.statistics:
            written = sequence.log.read(len(sequence.read) - len(sequence.run.prompt))
            records = np.concatenate((sequence.read, as_prompt(written)))[: len(ids)]
        try:
            self.keep(ids, cache.prefix_of(sequence.slot), records, sequence.judged)
        except Exception as error:
            if not out_of_memory(error):
                raise
            self.drop()

    def drop(self) -> bool:
        """Forget everything; True when there was something."""
        found = bool(self._texts)
        self._texts.clear()
        self.nbytes = 0
        return found


def pack(ids: list[int]) -> bytes:
    """Token ids as int32 bytes: the key of a text, which begins with the keys of its beginnings."""
    return np.array(ids, np.int32).tobytes()


def worse(kept: CachedPrefix, first: int) -> bool:
    """Whether a kept text is no longer needed beside a longer one whose records are known from `first` on."""
    return kept.first >= min(first, kept.prefix.length)


def usable(kept: CachedPrefix, common: int, first: int, length: int) -> int:
    """How many positions a text of `length` tokens may take over from one that begins with the same `common` ones.

    Reading a token tells what the model thinks of the next one. So the last token is always left to be read, and where
    records are wanted (from index `first` on) the last common one, too; or all from before the first one wanted, where
    the kept text's records begin later.
    """
    if first > common:
        return min(common, length - 1)
    return min(common - 1 if kept.first <= first else first - 1, length - 1)


def common_length(a: np.ndarray, b: np.ndarray) -> int:
    """How many numbers a [M] and b [N] begin with in common."""
    size = min(len(a), len(b))
    differs = (a[:size] != b[:size]).nonzero()[0]
    return int(differs[0]) if len(differs) else size
