"""From documents' tokens to the windows that a model is trained on.

The tokens of a part are one stream, with one token of context before it. A packed window holds up to `block_size` of them
and begins with the last of the window before, so that every token of every document is predicted exactly once: none is
dropped, none counts twice. Line by line, each document is a stream of its own, and of those that nothing goes before the
first token is not asked for.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from finetune.part import Part

IGNORED = -100  # torch's cross entropy leaves such labels out
DOCUMENTS = 1  # sets the order of documents apart from that of windows, which is drawn from seed and epoch alone


class Windows(Dataset):
    """What a model is trained on: int64 ids [up to block_size], by number."""

    def set_epoch(self, epoch: int) -> None:
        """Told before each pass; where nothing depends on it, nothing happens."""


class Packed(Windows):
    """Windows over all documents of a part, one after another.

    With a `seed` each epoch has the documents in an order of its own, a function of the two, and so other windows, of which
    there are as many.
    """

    def __init__(self, part: Part, block_size: int, context: int, seed: int | None = None):
        self.given, self.context, self.stride, self.seed = part, context, block_size - 1, seed
        self.size = part.size
        self.put(part)

    def put(self, part: Part) -> None:
        """Take the documents in this order."""
        self.part, self.borders = part, np.cumsum(part.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Put the documents into the epoch's order, if they have one."""
        if self.seed is not None:
            order = np.random.default_rng([self.seed, epoch, DOCUMENTS]).permutation(len(self.given))
            self.put(Part(self.given.tokens, self.given.starts[order], self.given.lengths[order]))

    def __len__(self) -> int:
        return -(-self.size // self.stride)

    def __getitem__(self, n: int) -> np.ndarray:
        begin, end = n * self.stride, min((n + 1) * self.stride, self.size)
        first = [np.array([self.context])] if begin == 0 else []
        return np.concatenate([*first, *self.stretches(max(0, begin - 1), end)]).astype(np.int64)

    def stretches(self, begin: int, end: int) -> Iterator[np.ndarray]:
        """The tokens from `begin` to `end` of the stream, document by document."""
        n = int(np.searchsorted(self.borders, begin, "right"))
        while begin < end:
            before = int(self.borders[n]) - int(self.part.lengths[n])
            stop = min(end, int(self.borders[n]))
            start = int(self.part.starts[n]) - before
            yield self.part.tokens[start + begin : start + stop]
            begin, n = stop, n + 1


class Lines(Windows):
    """Each document by itself, in as many windows as it needs.

    `context` goes before it (None: it brings a token of its own): before every one, or with `alternate` before every other,
    because a prompt that somebody types stands at the first position, and a text from nothing at the second.
    """

    def __init__(self, part: Part, block_size: int, context: int | None, alternate: bool):
        self.part, self.context, self.block = part, context, block_size
        self.led = np.full(len(part), context is not None)
        self.led[1::2] &= not alternate
        needed = -(-np.maximum(part.lengths + self.led - 1, 1) // (block_size - 1))
        self.borders = np.cumsum(needed)

    def __len__(self) -> int:
        return int(self.borders[-1]) if len(self.borders) else 0

    def __getitem__(self, n: int) -> np.ndarray:
        document = int(np.searchsorted(self.borders, n, "right"))
        first = int(self.borders[document - 1]) if document else 0
        ids = self.part.document(document).astype(np.int64)
        if self.led[document]:
            ids = np.concatenate([[self.context], ids])
        begin = (n - first) * (self.block - 1)
        return ids[begin : begin + self.block]


def windows(
    part: Part,
    block_size: int,
    context: int,
    line_by_line: bool,
    begins: bool,
    alternate: bool = False,
    seed: int | None = None,
) -> Windows:
    """The windows of a part. `begins` says that each document brings a beginning token of its own."""
    if line_by_line:
        return Lines(part, block_size, None if begins else context, alternate)
    return Packed(part, block_size, context, seed)


def collate(batch: Sequence[np.ndarray], pad: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `labels`, int64 [windows, longest], padded at the right.

    The first label asks for nothing (`transformers` shifts labels by one), and says so, because the Trainer counts labels.
    Padding is told by its place, not by its id, so that an end token that is also the pad token stays in the loss.
    No attention mask is needed: attention looks only to the left. No windows at all become one that asks for nothing.
    """
    longest = max(map(len, batch), default=2)
    ids = torch.full((max(1, len(batch)), longest), pad)
    labels = torch.full_like(ids, IGNORED)
    for row, window in enumerate(batch):
        found = torch.from_numpy(window)
        ids[row, : len(window)] = found
        labels[row, 1 : len(window)] = found[1:]
    return {"input_ids": ids, "labels": labels}
