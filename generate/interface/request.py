"""What the engine is asked to do."""

from dataclasses import dataclass

from generate.folders.model_folder import ModelFolder
from generate.sampling.options import Sampling


@dataclass(frozen=True)
class Request:
    """One run to be: its model, the token ids from the root of its family on, and its options.

    `first_sample` numbers its samples in the noise, so that the continuation of sample 2 goes on as sample 2.
    `owner` is whoever asks: rows are shared out between owners. Without `statistics` no more than the tokens and
    the sampler's probability of each need be reported.
    """

    folder: ModelFolder
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    first_sample: int = 0
    owner: str = ""
    statistics: bool = True

    @property
    def only_reads(self) -> bool:
        """Whether nothing is to be written: the text is scored, whole, and all samples end without a token."""
        return self.sampling.max_new_tokens == 0
