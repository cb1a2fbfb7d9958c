"""Where the model's window begins once a text is longer than it."""

from collections.abc import Iterator


def half_window(n_positions: int) -> int:
    """Tokens that a full window begins anew with, and by which one window of a scored text follows another."""
    return max(1, n_positions // 2)


def window_start(count: int, n_positions: int) -> int:
    """Index of the first token the model sees when `count` tokens are known and the next is to be predicted.

    The window holds up to `n_positions` tokens; when it is full it restarts from its last `n_positions // 2`. The cut
    points depend on the count since the root alone, so a run, its resumption and its continuation see the same text.
    """
    half = half_window(n_positions)
    return max(0, -(-(count - n_positions) // half)) * half


def windows(count: int, n_positions: int, start: int = 0) -> Iterator[tuple[int, int, int]]:
    """The windows in which the tokens of a whole text of `count` are predicted, from the one at `start` on.

    Yields (start, first, end): the window begins at `start` and predicts the tokens from `first` up to `end`, each from
    `window_start(token, n_positions)` on as in writing, so that a text gets the numbers that it was written with. Each
    window starts half a window after the one before; past the first, a token has more than half a window before it.
    """
    half = half_window(n_positions)
    first = start - half + n_positions + 1 if start else 1
    while first < count:
        end = min(start + n_positions + 1, count)
        yield start, first, end
        start, first = start + half, end
