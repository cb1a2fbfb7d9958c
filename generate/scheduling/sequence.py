"""One sample being written."""

from dataclasses import dataclass

import numpy as np
import torch

from generate.interface.log import RunLog, SampleLog
from generate.interface.request import Request
from generate.scheduling.endings import ending_of
from generate.scheduling.held_back import HeldBack
from generate.scheduling.past import Past
from generate.scheduling.window import as_seen, window_start
from generate.text.ending import Ending
from generate.text.vocabulary import Vocabulary
from generate.transformer.bucket import Slot


@dataclass(eq=False)
class Sequence:
    """One sample being written. `ids` are all tokens since the root; `window` is how many of them its window
    has left out, which has no more to do with them but for those that are kept in mind.

    `read` are the records of those it began with, as far as reading them told: from index `judged` on.
    """

    run: RunLog
    log: SampleLog
    request: Request
    number: int
    ids: list[int]
    ending: Ending
    window: int
    past: Past
    arrival: int  # how many runs the batch had taken in with this one
    slot: Slot | None = None
    read: np.ndarray | None = None
    judged: int = 0
    held_back: HeldBack | None = None  # where phrases are banned
    went_back: bool = False  # tokens were taken back that its place in the cache, and `past`, still hold

    @property
    def finished(self) -> bool:
        """Whether its sample has ended."""
        return self.log.finish_reason is not None

    @property
    def shown(self) -> list[int]:
        """Its tokens as its window sees them, which begins at index `window`."""
        return as_seen(self.ids, self.window, self.request.n_keep)

    @property
    def left(self) -> int:
        """How many tokens it may still write."""
        return self.request.sampling.max_new_tokens - self.ending.tokens

    def take_back(self, count: int) -> bool:
        """Take the last `count` tokens back, which completed a banned phrase; False where no way on is left."""
        written = self.ending.tokens
        self.ending, goes_on = self.held_back.take_back(count)
        del self.ids[len(self.ids) - (written - self.ending.tokens) :]
        self.went_back = True
        return goes_on

    def drop_held_back(self) -> None:
        """Let a text that is stopped end before what is held back: nobody knows yet what would have stood there."""
        if self.held_back.ending is not None:
            self.ending, self.went_back = self.held_back.ending, True


def new_sequences(
    request: Request, run: RunLog, arrival: int, vocabulary: Vocabulary, device: torch.device
) -> list[Sequence]:
    """The sequences of a run that begins, or of one that goes on: its samples that have not ended."""
    prompt = run.prompt_ids
    sequences = []
    for index, sample in enumerate(run.samples):
        if sample.finish_reason is not None:
            continue
        written = sample.read()["id"].tolist()
        ids = [*prompt, *written]
        held_back = None
        if request.phrases is not None:
            before = vocabulary.bytes_of(ids)
            held_back = HeldBack(request.phrases, before, len(written), len(vocabulary))
        sequences.append(
            Sequence(
                run=run,
                log=sample,
                request=request,
                number=request.first_sample + index,
                ids=ids,
                ending=ending_of(request, run, sample),
                window=window_start(len(ids), request.folder.config.n_positions),
                past=Past.of(request, ids, device),
                arrival=arrival,
                held_back=held_back,
            )
        )
    return sequences
