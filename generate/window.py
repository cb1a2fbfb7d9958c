"""Where the model's window begins once a text is longer than it."""


def window_start(count: int, n_positions: int) -> int:
    """Index of the first token the model sees when `count` tokens are known and the next is to be predicted.

    The window holds up to `n_positions` tokens; when it is full it restarts from its last `n_positions // 2`. The cut
    points depend on the count since the root alone, so a run, its resumption and its continuation see the same text.
    """
    half = max(1, n_positions // 2)
    return max(0, -(-(count - n_positions) // half)) * half
