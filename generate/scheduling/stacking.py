"""The options of several sequences as tensors, for the sampler."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from generate.sampling.pressure import Pressure
from generate.sampling.sampler import Filters, RowOptions
from generate.scheduling.sequence import Sequence


def stack_options(sequences: list[Sequence], vocab_size: int, device: torch.device) -> RowOptions:
    """The options of all sequences as tensors."""
    options = [sequence.request.sampling for sequence in sequences]

    def floats(name):
        return torch.tensor([getattr(option, name) for option in options], dtype=torch.float32, device=device)

    def whole(values):
        return torch.tensor(list(values), dtype=torch.int64, device=device)

    filters = Filters(*(floats(name) for name in ("top_n_sigma", "min_p", "xtc_probability", "xtc_threshold")))
    filters.least = filters.least.log()
    return RowOptions(
        temperature=floats("temperature"),
        top_k=whole(option.top_k for option in options),
        top_p=floats("top_p"),
        penalty=floats("repetition_penalty"),
        seed=whole(option.seed for option in options),
        sample=whole(sequence.number for sequence in sequences),
        position=whole(len(sequence.ids) for sequence in sequences),
        seen=stack([sequence.past.seen for sequence in sequences], vocab_size, torch.bool, device),
        filters=filters if any(o.top_n_sigma or o.min_p or o.xtc_probability for o in options) else None,
        pressure=pressure(sequences, floats, whole, device),
        **early_ends(sequences, whole),
    )


def stack(parts: list[Tensor | None], size: int, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """Parts [V] as rows [B, V], zero where there is none; None where there is none at all."""
    if all(part is None for part in parts):
        return None
    blank = torch.zeros(size, dtype=dtype, device=device)
    return torch.stack([blank if part is None else part for part in parts])


def pressure(
    sequences: list[Sequence], floats: Callable[[str], Tensor], whole: Callable, device: torch.device
) -> Pressure | None:
    """What acts on single tokens beyond the repetition penalty; None where no sequence asks for any of it."""
    counts = [sequence.past.counts for sequence in sequences]
    stretches = [(row, s.past.stretches) for row, s in enumerate(sequences) if s.past.stretches is not None]
    biases = [(row, *bias) for row, sequence in enumerate(sequences) for bias in sequence.request.biases.items()]
    if not biases and not stretches and all(part is None for part in counts):
        return None
    return Pressure(
        frequency=floats("frequency_penalty"),
        presence=floats("presence_penalty"),
        counts=stack(counts, sequences[0].request.folder.config.vocab_size, torch.int32, device),
        stretches=stretches,
        rows=whole(row for row, _, _ in biases),
        ids=whole(token for _, token, _ in biases),
        biases=torch.tensor([bias for _, _, bias in biases], dtype=torch.float32, device=device),
    )


def early_ends(sequences: list[Sequence], whole: Callable[[Iterable[int]], Tensor]) -> dict[str, Tensor]:
    """What the sampler must know where some sequences shall not end yet: the end tokens, and from which position on each
    sequence may choose one. `whole` makes a tensor of numbers."""
    least = [sequence.request.sampling.min_new_tokens for sequence in sequences]
    end_ids = sequences[0].request.folder.end_ids
    if not any(least) or not end_ids:
        return {}
    started = (len(sequence.ids) - sequence.ending.tokens for sequence in sequences)
    return {"ends": whole(end_ids), "ends_from": whole(map(sum, zip(started, least, strict=True)))}
