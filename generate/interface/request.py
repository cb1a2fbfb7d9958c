"""What the engine is asked to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from generate.errors import Refusal
from generate.folders.model_folder import ModelFolder
from generate.interface.log import RunLog
from generate.sampling.lists import token_biases
from generate.sampling.options import Sampling
from generate.sampling.records import unknown_records
from generate.text.phrases import Phrases


@dataclass(frozen=True)
class Request:
    """One run to be: its model and its options. The tokens it starts from are the prompt of its log.

    `first_sample` numbers its samples in the noise, so that the continuation of sample 2 goes on as sample 2.
    `owner` is whoever asks: rows are shared out between owners. Without `statistics` no more than the tokens and
    the sampler's probability of each need be reported. One that `yields` has rows as long as no other run wants them:
    it waits behind all that do not yield, keeps none of them waiting, and may end with YIELDED.
    """

    folder: ModelFolder
    sampling: Sampling
    first_sample: int = 0
    owner: str = ""
    statistics: bool = True
    yields: bool = False

    @cached_property
    def biases(self) -> dict[int, float]:
        """What is added to the logit of each token id; raises Refusal where the model has no such token."""
        return token_biases(self.sampling.logit_bias, self.folder.tokenizer.vocabulary)

    @cached_property
    def phrases(self) -> Phrases | None:
        """The banned phrases; None where none is banned."""
        return Phrases(self.sampling.banned_phrases) if self.sampling.banned_phrases else None

    @cached_property
    def n_keep(self) -> int:
        """How many of the first tokens stay in the window; raises Refusal where they would take too much of it."""
        asked, config = self.sampling.n_keep, self.folder.config
        if asked > config.most_kept:
            raise Refusal(
                "n_keep may be {limit:,} with {model} at the most, a quarter of its window of {window:,} tokens, not "
                "{given:,}.",
                "n_keep",
                limit=config.most_kept,
                model=self.folder.name,
                window=config.n_positions,
                given=asked,
            )
        return asked

    @property
    def only_reads(self) -> bool:
        """Whether nothing is to be written: the text is scored, whole, and all samples end without a token."""
        return self.sampling.max_new_tokens == 0

    def new_log(self, prompt_ids: Sequence[int]) -> RunLog:
        """The log of such a run that begins with these tokens, of which nothing but their ids is known."""
        return RunLog(unknown_records(prompt_ids, self.folder.config.vocab_size), self.sampling.samples)
