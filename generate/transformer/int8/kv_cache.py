"""Keys and values of the int8 model: what `../kv_cache.py` is for the others, over pages instead of tensors."""

from dataclasses import dataclass

import numpy as np

from generate.folders.config import Config
from generate.transformer.int8.attention import PAGE
from generate.transformer.int8.pages import Pages, Pool

EARLY = 32  # positions before its page is full that a row may have the next

Places = tuple[list[np.ndarray], np.ndarray]  # tables of pages, and for each token the number of its table


class PagedPrefix:
    """Keys and values of one text, of which the first `length` positions are known."""

    def __init__(self, pool: Pool, n_positions: int):
        self.pool = pool
        self.pages = Pages(pool, n_positions)

    @property
    def length(self) -> int:
        """Positions that are known."""
        return self.pages.length

    @length.setter
    def length(self, length: int) -> None:
        self.pages.length = length

    @property
    def nbytes(self) -> int:
        """Bytes of its pages; those it shares count too."""
        return self.pages.count * self.pool.page_bytes

    def begin_with(self, other: "PagedPrefix", length: int) -> None:
        """Take over the first positions of another text; full pages are shared."""
        self.pages = other.pages.fork(length)

    def places(self, count: int) -> Places:
        """Where the next `count` tokens go."""
        self.pages.reserve(self.length + count)
        return [self.pages.table], np.zeros(count, np.int64)


@dataclass(eq=False)
class PagedSlot:
    """A row's place."""

    sequence: object
    pages: Pages

    @property
    def position(self) -> int:
        """The position that this row's next token takes in its window."""
        return self.pages.length

    length = position


class PagedKVCache:
    """The running rows of one model, in the order of the batch."""

    def __init__(self, config: Config, most_rows: int, prefix_bytes: int):
        self.config = config
        per_row = -(-config.n_positions // PAGE) + 1
        # a text that is read is held twice for a moment, by the row that joins and by the text that is remembered
        pages = 2 * most_rows * per_row + prefix_bytes // page_bytes(config)
        self.pool = Pool(config, pages)
        self.slots: list[PagedSlot] = []

    def new_prefix(self, _size: int) -> PagedPrefix:
        """An empty text; it grows page by page."""
        return PagedPrefix(self.pool, self.config.n_positions)

    def join(self, sequence: object, prefix: PagedPrefix, shared: bool = True) -> PagedSlot:
        """Seat a row after a text that was read; it shares the text's full pages."""
        slot = PagedSlot(sequence, prefix.pages.fork(prefix.length))
        self.slots.append(slot)
        return slot

    def leave(self, slot: PagedSlot) -> None:
        """Let a row go, and give its pages back."""
        self.slots.remove(slot)
        slot.pages.close()
        if not self.slots:
            self.pool.release()

    def rewind(self, slot: PagedSlot, position: int) -> bool:
        """Let a row's next token take an earlier position; False where others read what would be written over."""
        return slot.pages.rewind(position)

    def prefix_of(self, slot: PagedSlot) -> PagedPrefix:
        """All keys and values of a row, to be kept after it has left."""
        prefix = self.new_prefix(0)
        prefix.pages = slot.pages.fork(slot.pages.length)
        return prefix

    def make_room(self) -> bool:
        """Have a place for each row's next position; the order of the batch stays.

        One row a step has its next page EARLY: rows that began together would all take theirs in one step, a long one
        where the system has to find the memory.
        """
        most, early = self.config.n_positions, None
        for slot in self.slots:
            length = slot.pages.length
            slot.pages.reserve(min(length + 1, most))
            if early is None and slot.pages.count * PAGE < min(length + EARLY, most):
                early = slot
        if early is not None and len(self.pool.free) > len(self.slots):
            early.pages.reserve(min(early.pages.length + EARLY, most))
            self.pool.touch(early.pages.table[early.pages.count - 1])
        return False

    def begin_step(self) -> None:
        """Nothing has to be prepared: the kernel reads how long each row is."""

    def places(self, _count: int) -> Places:
        """Where each row's next token goes."""
        return [slot.pages.table for slot in self.slots], np.arange(len(self.slots))

    def end_step(self) -> None:
        """Count the position that this step wrote in every row."""
        for slot in self.slots:
            slot.pages.length += 1


def page_bytes(config: Config) -> int:
    """Bytes of a page of every layer's keys and values in float16, heads not rounded up to what a vector takes."""
    return config.n_layer * 2 * config.n_embd * PAGE * 2
