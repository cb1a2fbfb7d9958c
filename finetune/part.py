"""Some documents as stretches of one array of tokens: what is trained on, what is held out. No torch in here."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Part:
    """Some documents: stretches of one memory-mapped token array. `starts` and `lengths` are int64, in tokens."""

    tokens: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @property
    def size(self) -> int:
        """Tokens of all documents."""
        return int(self.lengths.sum())

    def __len__(self) -> int:
        return len(self.lengths)

    def document(self, n: int) -> np.ndarray:
        """Token ids of a document."""
        return self.tokens[self.starts[n] : self.starts[n] + self.lengths[n]]
