"""The options of several sequences as tensors, for the sampler."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from generate.sampling.pressure import Pressures
from generate.sampling.sampler import Filters, RowOptions
from generate.scheduling.sequence import Sequence


def stack_options(sequences: list[Sequence], vocab_size: int, device: torch.device) -> RowOptions:
    """The options of all sequences as tensors."""
    options = [sequence.request.sampling for sequence in sequences]

    def floats(name):
        return torch.tensor([getattr(option, name) for option in options], dtype=torch.float32, device=device)

    def whole(values):
        return torch.tensor(list(values), dtype=torch.int64, device=device)

    filters = None
    if any(option.top_n_sigma or option.min_p or option.xtc_probability for option in options):
        filters = Filters(*(floats(name) for name in ("top_n_sigma", "min_p", "xtc_probability", "xtc_threshold")))
        filters.least = filters.least.log()
    pressures = {row: s.past.pressure for row, s in enumerate(sequences) if s.past.pressure is not None}
    return RowOptions(
        temperature=floats("temperature"),
        top_k=whole(option.top_k for option in options),
        top_p=floats("top_p"),
        penalty=floats("repetition_penalty"),
        seed=whole(option.seed for option in options),
        sample=whole(sequence.number for sequence in sequences),
        position=whole(len(sequence.ids) for sequence in sequences),
        seen=stack_seen([sequence.past.seen for sequence in sequences], vocab_size, device),
        filters=filters,
        pressures=Pressures(pressures) if pressures else None,
        blocked=[(row, s.held_back.blocked) for row, s in enumerate(sequences) if s.held_back and s.held_back.blocked],
        **early_ends(sequences, whole),
    )


def stack_seen(parts: list[Tensor | None], vocab_size: int, device: torch.device) -> Tensor | None:
    """Which tokens each row's text holds, bool [B, V]; None where no row has to know."""
    if all(part is None for part in parts):
        return None
    blank = torch.zeros(vocab_size, dtype=torch.bool, device=device)
    return torch.stack([blank if part is None else part for part in parts])


def early_ends(sequences: list[Sequence], whole: Callable[[Iterable[int]], Tensor]) -> dict[str, Tensor]:
    """What the sampler must know where some sequences shall not end yet: the end tokens, and from which position on each
    sequence may choose one. `whole` makes a tensor of numbers."""
    least = [sequence.request.sampling.min_new_tokens for sequence in sequences]
    end_ids = sequences[0].request.folder.end_ids
    if not any(least) or not end_ids:
        return {}
    started = (len(sequence.ids) - sequence.ending.tokens for sequence in sequences)
    return {"ends": whole(end_ids), "ends_from": whole(map(sum, zip(started, least, strict=True)))}
