"""One sample being written, and the options of several as tensors."""

from dataclasses import dataclass

import torch
from torch import Tensor

from generate.ending import Ending
from generate.log import RunLog, SampleLog
from generate.request import Request
from generate.sampling import Rows

GREEDY_BELOW = 1e-4  # a lower temperature is greedy in all but name, and would overflow float32


@dataclass(eq=False)
class Row:
    """One sample being written. `ids` are all tokens since the root; `window` is the first one the model sees."""

    run: RunLog
    log: SampleLog
    request: Request
    number: int
    ids: list[int]
    ending: Ending
    window: int
    seen: Tensor | None

    @property
    def finished(self) -> bool:
        return self.log.finish_reason is not None


def seen_tokens(request: Request, vocab_size: int, device: torch.device) -> Tensor | None:
    """Which tokens the prompt holds, where a penalty needs to know; bool [V]."""
    if request.sampling.repetition_penalty == 1:
        return None
    seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
    seen[torch.tensor(request.prompt_ids, device=device)] = True
    return seen


def stack_options(rows: list[Row], vocab_size: int, device: torch.device) -> Rows:
    """The options of all rows as tensors, for the sampler."""
    options = [row.request.sampling for row in rows]
    seen = None
    if any(option.repetition_penalty != 1 for option in options):
        blank = torch.zeros(vocab_size, dtype=torch.bool, device=device)
        seen = torch.stack([blank if row.seen is None else row.seen for row in rows])

    def floats(name):
        return torch.tensor([getattr(option, name) for option in options], dtype=torch.float32, device=device)

    def whole(values):
        return torch.tensor(list(values), dtype=torch.int64, device=device)

    temperature = floats("temperature")
    return Rows(
        temperature=torch.where(temperature < GREEDY_BELOW, 0.0, temperature),
        top_k=whole(option.top_k for option in options),
        top_p=floats("top_p"),
        penalty=floats("repetition_penalty"),
        seed=whole(option.seed for option in options),
        sample=whole(row.number for row in rows),
        position=whole(len(row.ids) for row in rows),
        seen=seen,
    )
