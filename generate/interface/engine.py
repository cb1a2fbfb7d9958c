"""What a page may ask of an engine, whichever it is: one on this machine, or one behind an address."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from generate.errors import Problem
from generate.interface.log import RunLog
from generate.interface.request import Request
from generate.interface.states import FinishReason
from generate.interface.tally import Tally
from generate.sampling.in_use import EVERYWHERE


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do and tell; a page asks before it promises anything.

    Every engine tells of each token it writes the log-probability, and the likeliest tokens at its place. What it does
    not tell beyond that stays unknown in the records (see `record_dtype`); it is never guessed.
    """

    resumes_exactly: bool = False  # a place has the same noise each time: a run taken up or written again says the same
    entropy: bool = False  # `entropy`
    rank: bool = False  # `rank`; without it 0
    kept_set: bool = False  # what the sampler left: `sampled_logprob`, `filter_norm`, `log_z` and `cut`
    scores_prompt: bool = False  # records of a prompt's tokens, and texts that are only read
    beyond_window: int = (
        1  # so many tokens more than n_positions are each scored from all before it; of longer texts not
    )
    loads_models: bool = False  # any model of the folder can be asked for; else those that are `loaded`
    samplers: frozenset[str] = EVERYWHERE  # by the names of their options; a run that asks for another is refused


@dataclass(frozen=True)
class Outlook:
    """How busy an engine is: runs being written, runs waiting, and the seconds until a newcomer's run would begin.

    `seconds` is None when that is further ahead than can be told. `full`: no run would be taken now.
    """

    writing: int = 0
    waiting: int = 0
    seconds: float | None = 0.0
    full: bool = False


@runtime_checkable
class Engine(Protocol):
    """Writes runs into their logs. All of it may be called from any thread, and nothing waits for a model."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do and tell. It changes only where an engine stands for others, as these come and go."""

    @property
    def loaded(self) -> list[str]:
        """Names of the models that write at once, the one used last first."""

    @property
    def outlook(self) -> Outlook:
        """How busy it is, or was a moment ago."""

    @property
    def rows(self) -> dict[str, int]:
        """How many samples are let in just now, by the names of their models; a model without any may be left out."""

    @property
    def tallies(self) -> dict[str, Tally]:
        """What it has done since it began, by the names of the models; of few models, and of all others together."""

    def submit(self, request: Request, run: RunLog) -> RunLog:
        """Put a run in line and return its log, into which it is written until `run.done`: first where it stands in
        line, then by which weights, in which precision and on which device, then its tokens.

        A log that was written in part goes on from its last tokens, and samples that had ended stay as they are. What
        the log knows of its prompt stays too; the rest is filled in, as far as `capabilities` says. Raises Refusal for
        an empty prompt and for what the engine cannot do, and Busy when the line is full or the engine is closed.
        """

    def why_not(self, name: str) -> Problem | None:
        """Why it cannot use a model of this name that it has; None where nothing is known against it."""

    def cancel(self, run: RunLog, reason: FinishReason = FinishReason.CANCELLED) -> None:
        """Ask for a run to end: soon its unfinished samples have `reason`, and keep their text. No-op for others' runs."""

    def forget(self) -> None:
        """Soon keep nothing of runs that have ended, or were cancelled before this: somebody has deleted one of them."""

    def ready(self) -> str | None:
        """None when runs can be written; else a sentence saying why not."""

    def close(self) -> None:
        """Stop; unfinished runs stay unfinished in their logs, so that they can be gone on with. May be called twice."""
