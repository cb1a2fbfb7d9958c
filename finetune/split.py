"""Which documents are for training, which are held out."""

import re

import numpy as np

from finetune.part import Part
from generate import Refusal

FEWEST_DOCUMENTS = 10  # below this, each document is cut instead
FEWEST_TOKENS = 32  # that can be trained on
NAMES = ("train", "validation", "test")


def shares(text: str) -> list[float]:
    """'70/20/10' as shares of the whole; raises Refusal."""
    if not re.fullmatch(r"\d{1,3}(\.\d+)?(/\d{1,3}(\.\d+)?){1,2}", text):
        raise Refusal("--split must be two or three numbers such as 90/10 or 70/20/10, not {given!r:.60}.", given=text)
    numbers = [float(number) for number in text.split("/")]
    if numbers[0] == 0 or abs(sum(numbers) - 100) > 1e-6:
        raise Refusal("--split must add up to 100 and leave something to train on, not {given!r}.", given=text)
    return [number / 100 for number in numbers]


def whole(tokens: np.ndarray, ends: np.ndarray) -> Part:
    """All documents as one part; `ends` are the places in `tokens` after each."""
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    return Part(tokens, starts, np.asarray(ends, np.int64) - starts)


def split(part: Part, text: str, seed: int) -> tuple[dict[str, Part], bool]:
    """The parts by name, and whether documents had to be cut.

    Documents are dealt out whole, in an order that the seed fixes; where there are only a few, each is cut, so that what is
    held out is the end of each.
    """
    parts = shares(text)
    names = [name for name, share in zip(NAMES, parts, strict=False) if share]
    wanted = [share for share in parts if share]
    if len(wanted) == 1:
        return {"train": part}, False
    if len(part) < FEWEST_DOCUMENTS:
        return {name: found for name, found in zip(names, cut(part, wanted), strict=True) if len(found)}, True
    order = np.random.default_rng(seed).permutation(len(part))
    borders = np.round(np.cumsum(wanted[:-1]) * len(part)).astype(int)
    borders = np.clip(borders, 1, len(part) - 1)
    dealt = (np.sort(documents) for documents in np.split(order, borders))
    chosen = [Part(part.tokens, part.starts[documents], part.lengths[documents]) for documents in dealt]
    return {name: found for name, found in zip(names, chosen, strict=True) if len(found)}, False


def cut(part: Part, wanted: list[float]) -> list[Part]:
    """Every document cut at the same shares of its tokens."""
    borders = np.round(np.cumsum([0, *wanted])[None] * part.lengths[:, None]).astype(np.int64)
    borders[:, -1] = part.lengths
    lengths = np.diff(borders, axis=1)
    return [
        Part(part.tokens, (part.starts + borders[:, n])[some], lengths[some, n])
        for n, some in enumerate(lengths.T > 0)  # a short document may have nothing for a part
    ]
