"""Whether this process trains with others."""

from torch import distributed


def together() -> bool:
    """True in each of several processes that `torchrun` or `accelerate` started and that have found each other."""
    return distributed.is_available() and distributed.is_initialized()
