"""What the samplers ask of a text's past, kept as it grows."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from generate.interface.request import Request
from generate.sampling.pressure import Pressure


@dataclass
class Past:
    """Of one text, where its options need to know: which tokens it holds (bool [V], for the repetition penalty), and
    which of them what it holds makes likelier or less likely."""

    seen: Tensor | None
    pressure: Pressure | None

    @classmethod
    def of(cls, request: Request, ids: Sequence[int], device: torch.device) -> "Past":
        """What is asked of a text that holds these tokens."""
        seen, vocabulary = None, request.folder.tokenizer.vocabulary
        if request.sampling.repetition_penalty != 1:
            seen = torch.zeros(request.folder.config.vocab_size, dtype=torch.bool, device=device)
            seen[torch.tensor(ids, device=device)] = True
        return cls(seen, Pressure.of(request.sampling, request.biases, vocabulary, ids))

    def append(self, token: int) -> None:
        """The text has one more token."""
        if self.seen is not None:
            self.seen[token] = True
        if self.pressure is not None:
            self.pressure.append(token)
