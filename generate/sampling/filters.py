"""What penalty and temperature make of a logit: stated once, for the engine's tensors and for records that are kept.

`where` is the one of torch or of numpy, whichever the numbers are of. No torch in here.
"""

from collections.abc import Callable

GREEDY_BELOW = 1e-4  # a lower temperature is greedy in all but name, and would overflow float32


def is_greedy(temperature):
    """Whether a temperature (a float32, or a tensor of them) means the likeliest token and no other."""
    return temperature < GREEDY_BELOW


def divisor(temperature, where: Callable):
    """What logits are divided by: the temperature, or 1 where the choice is greedy."""
    return where(is_greedy(temperature), 1.0, temperature)


def penalised(logits, penalty, where: Callable):
    """Make tokens that occurred less likely: positive logits are divided by the penalty, negative ones multiplied.

    Source: Keskar et al. 2019 (CTRL), section 4.1, as `transformers` has it.
    """
    return where(logits > 0, logits / penalty, logits * penalty)


def lowered(logits, count, frequency, presence):
    """Make tokens that occurred less likely, once for each time (`frequency`) and once for all (`presence`).

    Source: OpenAI's API reference, on both penalties.
    """
    return logits - frequency * count - presence * (count > 0)
