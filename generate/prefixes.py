"""Texts that were read before: their keys and values, kept as long as a bounded memory has room for them."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from generate.cache import Prefix

MOST_TEXTS = 256  # each is compared with every new text, which must stay a matter of microseconds
LEAST_LENGTH = 8  # shorter beginnings are read again as fast as they are found


@dataclass
class Kept:
    """One text; `records` are what the model thought of each token, where that was asked for."""

    prefix: Prefix
    records: np.ndarray | None

    @property
    def nbytes(self) -> int:
        return self.prefix.nbytes


class Prefixes:
    """The least recently used text goes first when more than `limit` bytes would be kept."""

    def __init__(self, limit: int, position_bytes: int):
        self.limit, self.position_bytes = limit, position_bytes
        self.nbytes = 0
        self._texts: OrderedDict[bytes, Kept] = OrderedDict()

    def has_room_for(self, length: int) -> bool:
        """Whether a text of so many tokens is worth keeping: it may take a quarter of the memory at the most."""
        return length >= LEAST_LENGTH and 4 * length * self.position_bytes <= self.limit

    def __len__(self) -> int:
        return len(self._texts)

    def keep(self, ids: list[int], prefix: Prefix, records: np.ndarray | None) -> None:
        """Keep a text that was read whole; it takes the place of those that it begins with."""
        key = pack(ids)
        if key in self._texts or not self.has_room_for(len(ids)):
            return
        for other in [k for k, kept in self._texts.items() if key.startswith(k) and worse(kept, records)]:
            self._forget(other)
        self._texts[key] = Kept(prefix, records)
        self.nbytes += prefix.nbytes
        while self.nbytes > self.limit or len(self._texts) > MOST_TEXTS:
            self._forget(next(iter(self._texts)))

    def _forget(self, key: bytes) -> None:
        self.nbytes -= self._texts.pop(key).nbytes

    def fill(self, prefix: Prefix, ids: list[int], with_records: bool) -> np.ndarray | None:
        """Copy the longest known beginning of `ids` into `prefix`; returns its records if they were asked for.

        Reading a token tells what the model thinks of the next one. So the last token is always left to be read, and
        with records the last one that is known, too, unless what came of it is known as well.
        """
        known = np.array(ids, np.int32)
        best, length = None, LEAST_LENGTH - 1
        for other, kept in self._texts.items():
            if with_records and kept.records is None:
                continue
            common = common_length(np.frombuffer(other, np.int32), known)
            if common > length:
                best, length = other, common
        if best is None:
            return None
        self._texts.move_to_end(best)
        kept, size = self._texts[best], min(length - with_records, len(ids) - 1)
        prefix.begin_with(kept.prefix, size)
        return kept.records[:length] if with_records else None

    def drop(self) -> bool:
        """Forget everything; True when there was something."""
        found = bool(self._texts)
        self._texts.clear()
        self.nbytes = 0
        return found


def pack(ids: list[int]) -> bytes:
    return np.array(ids, np.int32).tobytes()


def worse(kept: Kept, records: np.ndarray | None) -> bool:
    """Whether a kept text is no longer needed beside a longer one with these records."""
    return kept.records is None or records is not None


def common_length(a: np.ndarray, b: np.ndarray) -> int:
    size = min(len(a), len(b))
    differs = (a[:size] != b[:size]).nonzero()[0]
    return int(differs[0]) if len(differs) else size
