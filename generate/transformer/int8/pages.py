"""Keys and values of all rows in pages of 64 positions, which rows that begin with the same text share.

A row is a list of pages. It joins with the full pages of its prompt, which are counted once more, and a copy of the last
one if that is not full; it takes a page every 64 positions and gives its pages back when it leaves. Nobody else moves.
Source of the idea: Kwon et al. 2023, "PagedAttention".
"""

import mmap

import numpy as np

from generate.compiled.tiles import LANES
from generate.folders.config import Config
from generate.transformer.int8.attention import PAGE
from generate.transformer.int8.packing import round_up

KEPT_BYTES = 128 << 20  # of free pages that stay with the process, because taking memory is slow


class Pool:
    """The memory of all pages: float16 [pages, n_layer, 2, n_head, 64 positions * width] as uint16.

    The system gives memory page by page as it is first written, and takes it back in `release`.
    """

    def __init__(self, config: Config, pages: int):
        width = round_up(config.n_embd // config.n_head, LANES)
        shape = (pages, config.n_layer, 2, config.n_head, PAGE * width)
        # anonymous memory is zero: the numbers between a head's own and `width` are read as well
        self._memory = mmap.mmap(-1, int(np.prod(shape)) * 2, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.kv = np.frombuffer(self._memory, np.uint16).reshape(shape)
        self.page_bytes = self.kv[0].nbytes
        self.users = np.zeros(pages, np.int64)
        self.free = list(range(pages - 1, -1, -1))
        self._touched: set[int] = set()

    def take(self) -> int:
        """A page for one user; raises MemoryError when none is free."""
        if not self.free:
            raise MemoryError("no page for keys and values is free")
        page = self.free.pop()
        self.users[page] = 1
        self._touched.add(page)
        return page

    def touch(self, page: int) -> None:
        """Let the system find the memory of a page now instead of in the middle of a step."""
        self.kv[page] = 0

    def give(self, page: int) -> None:
        """Count one user of a page less; without any it is free."""
        self.users[page] -= 1
        if not self.users[page]:
            self.free.append(page)

    def release(self) -> None:
        """Give the memory of free pages back to the system, if it is much; they read as zeros then."""
        if not hasattr(mmap, "MADV_DONTNEED") or self.page_bytes % mmap.PAGESIZE:
            return
        if len(self._touched) * self.page_bytes <= KEPT_BYTES:
            return
        for page in [page for page in self._touched if not self.users[page]]:
            self._memory.madvise(mmap.MADV_DONTNEED, page * self.page_bytes, self.page_bytes)
            self._touched.remove(page)


class Pages:
    """The pages of one row, or of a text: of their positions `length` are known."""

    def __init__(self, pool: Pool, n_positions: int):
        self.pool, self.length, self.count = pool, 0, 0
        self.table = np.zeros(-(-n_positions // PAGE), np.int64)

    def reserve(self, length: int) -> None:
        """Have pages for so many positions; raises MemoryError when there are none."""
        while self.count * PAGE < length:
            self.table[self.count] = self.pool.take()
            self.count += 1

    def fork(self, length: int) -> "Pages":
        """A text that goes on from here by itself. Pages that are full are never written again, so both read them."""
        other = Pages(self.pool, len(self.table) * PAGE)
        full = length // PAGE
        other.table[:full], other.count = self.table[:full], full
        self.pool.users[self.table[:full]] += 1
        if length % PAGE:
            other.reserve(length)
            width = self.pool.kv.shape[4] // PAGE
            some = np.s_[..., : length % PAGE * width]
            self.pool.kv[other.table[full]][some] = self.pool.kv[self.table[full]][some]
        other.length = length
        return other

    def rewind(self, length: int) -> bool:
        """Know no more than the first positions; False where the next one's page is another text's as well."""
        alone = self.pool.users[self.table[length // PAGE]] == 1
        if alone:
            self.length = length
        return bool(alone)

    def close(self) -> None:
        """Give all pages back."""
        for page in self.table[: self.count]:
            self.pool.give(int(page))
        self.count = self.length = 0

    __del__ = close  # whoever forgets a text gives its pages back
