"""What the model's window holds once a text is longer than it."""

from collections.abc import Iterator, Sequence


def half_window(n_positions: int) -> int:
    """Tokens that a full window begins anew with, and by which one window of a scored text follows another."""
    return max(1, n_positions // 2)


def window_start(count: int, n_positions: int) -> int:
    """How many tokens the window has left out when `count` are known and the next is to be predicted: without n_keep the
    index of the first one that the model sees.

    The window holds up to `n_positions` tokens; when it is full it restarts with half as many. The cut points depend on
    the count since the root alone, so a run, its resumption and its continuation see the same text.
    """
    half = half_window(n_positions)
    return max(0, -(-(count - n_positions) // half)) * half


def context_at(count: int, n_positions: int, n_keep: int = 0) -> tuple[range, range]:
    """The places of the tokens the model sees when `count` are known and the next is to be predicted: those that are
    kept in mind, none before the first cut, and the newest ones.

    A token's position in the window is its number among them. `n_keep` is a quarter of `n_positions` at the most. At each
    cut as many of the newest go as are kept, so a window is full at the same counts whatever is kept.
    """
    start = window_start(count, n_positions)
    kept = n_keep if start else 0
    return range(kept), range(start + kept, count)


def as_seen(ids: Sequence[int], start: int, n_keep: int) -> Sequence[int]:
    """A text as the window sees it that left `start` of its tokens out: from index `start` on it holds the kept ones, in
    the place of as many that were left out, and then the newest."""
    return [*ids[:start], *ids[:n_keep], *ids[start + n_keep :]] if start and n_keep else ids


def windows(count: int, n_positions: int, start: int = 0) -> Iterator[tuple[int, int, int]]:
    """The windows in which the tokens of a whole text of `count` are predicted, from the one at `start` on.

    Yields (start, first, end): the window begins at `start` and predicts the tokens from `first` up to `end`, each from
    `window_start(token, n_positions)` on as in writing, so that a text gets the numbers that it was written with. Each
    window starts half a window after the one before; past the first, a token has more than half a window before it,
    of which n_keep is a part.
    """
    half = half_window(n_positions)
    first = start - half + n_positions + 1 if start else 1
    while first < count:
        end = min(start + n_positions + 1, count)
        yield start, first, end
        start, first = start + half, end
