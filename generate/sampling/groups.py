"""What the options are for, by which a form sorts them."""

from enum import StrEnum


class Group(StrEnum):
    """A heading; what most people use stands first, and the others behind it."""

    COMMON = "Most used"
    CHOOSING = "How it chooses"
    REPEATING = "Against repeating"
    WORDS = "Words"
    LENGTH = "Length and memory"
