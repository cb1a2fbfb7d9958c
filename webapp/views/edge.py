"""Where a model's window begins in a sheet's text."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from generate import ModelFolder, Refusal, context_at
from webapp.sheets.pieces import Cell, Piece, text_of
from webapp.sheets.prompt import memory_ids


def edge_of(pieces: Sequence[Piece], folder: ModelFolder | None, memory: str) -> int | None:
    """The place of the first character that the model would see if it went on at the end, beside what it keeps in mind.

    None where it sees all, is not here, or has no tokens for some of it.
    """
    if folder is None or len(text_of(pieces).encode("utf-8", "replace")) < folder.config.n_positions // 2:
        return None
    try:
        keep = len(memory_ids(memory, folder))
        tokens = [tokens_in(piece, folder) for piece in pieces]
    except Refusal:
        return None
    ends = np.cumsum([keep, *map(len, tokens)])
    first = context_at(int(ends[-1]), folder.config.n_positions, keep)[1].start
    if first <= keep:
        return None
    place = 0
    for piece, own, (start, end) in zip(pieces, tokens, pairwise(ends.tolist()), strict=True):
        if end > first:  # a cell is not cut
            return place + (0 if isinstance(piece, Cell) else characters_of(own[: first - start], folder))
        place += len(piece.text)
    return place


def tokens_in(piece: Piece, folder: ModelFolder) -> Sequence:
    """A piece's tokens for a model: ids, or of a cell where they came from."""
    return piece.origins if isinstance(piece, Cell) else folder.tokenizer.encode(piece.text, True)


def characters_of(ids: list[int], folder: ModelFolder) -> int:
    """How many whole characters some tokens are."""
    return len(folder.tokenizer.vocabulary.bytes_of(ids).decode("utf-8", "ignore"))
