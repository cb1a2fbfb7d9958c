"""What the samplers ask of a text's past, kept as it grows."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from generate.interface.request import Request
from generate.sampling.dry import Stretches


@dataclass
class Past:
    """Of one text, where its options need to know: which tokens it holds (bool [V]), how often (int32 [V]), and its
    end for DRY. Each None where nobody asks."""

    seen: Tensor | None = None
    counts: Tensor | None = None
    stretches: Stretches | None = None

    @classmethod
    def of(cls, request: Request, ids: Iterable[int], device: torch.device) -> "Past":
        """What is asked of a text that holds these tokens."""
        sampling, past = request.sampling, cls()
        size, there = request.folder.config.vocab_size, torch.tensor(ids, dtype=torch.int64, device=device)
        if sampling.repetition_penalty != 1:
            past.seen = torch.zeros(size, dtype=torch.bool, device=device)
            past.seen[there] = True
        if sampling.frequency_penalty or sampling.presence_penalty:
            past.counts = torch.bincount(there, minlength=size).int()
        if sampling.dry_multiplier:
            past.stretches = Stretches(sampling, request.folder.tokenizer.vocabulary, ids)
        return past

    def append(self, token: int) -> None:
        """The text has one more token."""
        if self.seen is not None:
            self.seen[token] = True
        if self.counts is not None:
            self.counts[token] += 1
        if self.stretches is not None:
            self.stretches.append(token)
