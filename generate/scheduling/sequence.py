"""One sample being written, and the options of several as tensors."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from generate.interface.log import RunLog, SampleLog
from generate.interface.request import Request
from generate.sampling.sampler import RowOptions
from generate.scheduling.window import window_start
from generate.text.characters import split_half_character
from generate.text.ending import Ending
from generate.text.vocabulary import Vocabulary
from generate.transformer.bucket import Slot


@dataclass(eq=False)
class Sequence:
    """One sample being written. `ids` are all tokens since the root; `window` is the first one the model sees.

    `read` are the records of those it began with, as far as reading them told: from index `judged` on.
    """

    run: RunLog
    log: SampleLog
    request: Request
    number: int
    ids: list[int]
    ending: Ending
    window: int
    seen: Tensor | None
    arrival: int  # how many runs the batch had taken in with this one
    slot: Slot | None = None
    read: np.ndarray | None = None
    judged: int = 0

    @property
    def finished(self) -> bool:
        """Whether its sample has ended."""
        return self.log.finish_reason is not None

    @property
    def left(self) -> int:
        """How many tokens it may still write."""
        return self.request.sampling.max_new_tokens - self.ending.tokens


def new_sequences(
    request: Request, run: RunLog, arrival: int, vocabulary: Vocabulary, device: torch.device
) -> list[Sequence]:
    """The sequences of a run that begins, or of one that goes on: its samples that have not ended."""
    end_text = (request.folder.end_text,) if request.folder.end_text else ()
    stops = [stop.encode() for stop in (*request.sampling.stop, *end_text)]
    prompt = run.prompt_ids
    half = split_half_character(vocabulary.bytes_of(prompt))[1]
    sequences = []
    for index, sample in enumerate(run.samples):
        if sample.finish_reason is not None:
            continue
        written = sample.read()["id"].tolist()
        ids = [*prompt, *written]
        ending = Ending(stops, half, request.sampling.min_new_tokens)
        for token in written:
            ending.feed(vocabulary.tokens[token])
        sequences.append(
            Sequence(
                run=run,
                log=sample,
                request=request,
                number=request.first_sample + index,
                ids=ids,
                ending=ending,
                window=window_start(len(ids), request.folder.config.n_positions),
                seen=seen_tokens(request, ids, device),
                arrival=arrival,
            )
        )
    return sequences


def seen_tokens(request: Request, ids: Iterable[int], device: torch.device) -> Tensor | None:
    """Which tokens a text holds, where a penalty needs to know; bool [V]."""
    if request.sampling.repetition_penalty == 1:
        return None
    seen = torch.zeros(request.folder.config.vocab_size, dtype=torch.bool, device=device)
    seen[torch.tensor(ids, device=device)] = True
    return seen


def stack_options(sequences: list[Sequence], vocab_size: int, device: torch.device) -> RowOptions:
    """The options of all sequences as tensors, for the sampler."""
    options = [sequence.request.sampling for sequence in sequences]
    seen = None
    if any(option.repetition_penalty != 1 for option in options):
        blank = torch.zeros(vocab_size, dtype=torch.bool, device=device)
        seen = torch.stack([blank if sequence.seen is None else sequence.seen for sequence in sequences])

    def floats(name):
        return torch.tensor([getattr(option, name) for option in options], dtype=torch.float32, device=device)

    def whole(values):
        return torch.tensor(list(values), dtype=torch.int64, device=device)

    return RowOptions(
        temperature=floats("temperature"),
        top_k=whole(option.top_k for option in options),
        top_p=floats("top_p"),
        penalty=floats("repetition_penalty"),
        seed=whole(option.seed for option in options),
        sample=whole(sequence.number for sequence in sequences),
        position=whole(len(sequence.ids) for sequence in sequences),
        seen=seen,
        **early_ends(sequences, whole),
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
