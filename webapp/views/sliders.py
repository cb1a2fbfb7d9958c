"""The form's options as people set them: in groups, each number with the stops of its slider.

A stop is a value. Where an option has a great range the stops lie closer at its beginning, or end before it does: the box
beside the slider takes every value there is.
"""

from itertools import chain

from generate import LISTS, OPTIONS, Group, ListOption, Option

TOKENS = (10, 25, 50, 75, 100, 150, 200, 250, 300, 400, 500, 750, 1000, 1500, 2000, 3000, 4096)


def steps(low: float, high: float, step: float) -> tuple[float, ...]:
    """From `low` to `high`, both included."""
    return tuple(round(low + step * n, 4) for n in range(round((high - low) / step) + 1))


STOPS = {
    "max_new_tokens": TOKENS,
    "temperature": steps(0, 2, 0.05),
    "top_p": (*steps(0.05, 0.95, 0.05), 0.97, 0.98, 0.99, 1),
    "top_k": (1, 2, 3, 5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000, 2000, 0),  # off takes the most
    "repetition_penalty": steps(1, 2, 0.05),
    "dry_multiplier": steps(0, 3, 0.1),
    "dry_base": steps(1, 4, 0.25),
    "dry_allowed_length": tuple(range(1, 21)),
    "dry_range": (16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
    "min_p": (0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, *steps(0.1, 0.5, 0.05)),
    "top_n_sigma": steps(0, 4, 0.1),
    "xtc_threshold": steps(0, 0.5, 0.02),
    "min_new_tokens": (0, *TOKENS),
    "end_at_sentence": (),
    "n_keep": (0, 8, 16, 32, 64, 96, 128, 192, 256, 512, 1024),
}


def stops_of(option: Option) -> tuple[float, ...]:
    """The stops of an option's slider, from its left to its right; none for a seed, of which no value is more than another."""
    if option.name == "seed":
        return ()
    if option.name in STOPS:
        return STOPS[option.name]
    whole = option.is_whole and option.high - option.low <= 40
    return steps(option.low, option.high, 1 if whole else (option.high - option.low) / 40)


def grouped() -> dict[Group, list[Option | ListOption]]:
    """All options by what they are for, the groups and what is in them in the order of the tables."""
    return {group: [one for one in chain(OPTIONS, LISTS) if one.group is group] for group in Group}
