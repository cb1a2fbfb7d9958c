"""The answer to a completion, whole or in pieces, from the runs that are behind it."""

import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from generate import FinishReason, ModelFolder, RunLog, SampleLog, Sampling, known, split_half_character
from webapp.api.fields import Asked
from webapp.api.spelling import NULL, Spelling, prompt_logprobs
from webapp.api.telling import Teller, Told, Wishes, choice_of
from webapp.api.work import Part, Work
from webapp.http.json_text import json_text

DONE = "data: [DONE]\n\n"
SHIFTED = (
    "The prompt has one token more than the model's window: its log-probabilities are exact, and the token after it was "
    "written from the last {window} tokens."
)


@dataclass(frozen=True)
class Snapshot:
    """The tokens of a sample that may be told now [N], and how it ended, if it has. `end` counts bytes."""

    records: np.ndarray
    finish: str | None
    end: int | None


def look(log: RunLog, sample: SampleLog, start: int) -> Snapshot:
    """What is new in a sample from its token `start` on."""
    with log.changed:
        finish = sample.finish_reason
        records = sample.read(start, None if finish else sample.released)
        return Snapshot(records, finish and str(finish), sample.text_end)


class Choice:
    """One sample as its reader has it. `sent` counts tokens, and `size` their bytes."""

    def __init__(self, number: int, log: RunLog, sample: SampleLog, teller: Teller, sizes: np.ndarray):
        self.number, self._log, self._sample, self._teller, self._sizes = number, log, sample, teller, sizes
        self.sent = self.size = 0
        self.finish: str | None = None

    def news(self) -> Told | None:
        """What was written since the last call; None where nothing was. `finish` is set once that is all."""
        if self.finish is not None:
            return None
        new = look(self._log, self._sample, self.sent)
        records = new.records
        ends = self.size + np.cumsum(self._sizes[records["id"]])
        most = None if new.finish is None else new.end - self.size
        if new.finish is not None and len(records) and ends[-1] > new.end:  # a stop string hides the rest
            records = records[: 1 + np.searchsorted(ends, new.end)]
            if new.end == self.size:
                records = records[:0]
        self.finish = new.finish
        if not len(records):
            return None
        self.sent += len(records)
        self.size = int(ends[len(records) - 1])
        return self._teller.tell(records, most)

    @property
    def mean_logprob(self) -> float:
        """By which the best are chosen."""
        return float(self._sample.read()["logprob"].mean()) if len(self._sample) else 0.0


@dataclass(eq=False)
class Prompt:
    """What is told of a prompt that is echoed, and how its choices' tellers begin."""

    part: Part
    wishes: Wishes
    teller: Teller
    echo: bool
    told: Told = field(default_factory=Told)

    def begin(self) -> Teller:
        """A teller for one of its choices; the prompt is told once."""
        if self.echo and not self.told.ids:
            self.told = self.teller.tell(self.part.prompt.prompt)
        return self.teller.fork()


class Completion:
    """One request's answer. `link` gives the address of a run that is kept; `warnings` are those that the engine gives
    cause for."""

    def __init__(
        self,
        asked: Asked,
        sampling: Sampling,
        folder: ModelFolder,
        spelling: Spelling,
        work: Work,
        link: Callable[[str], str],
        warnings: Sequence[str] = (),
    ):
        self._asked, self._sampling, self._folder, self._spelling = asked, sampling, folder, spelling
        self.work, self._link = work, link
        self.name, self._created = f"cmpl-{secrets.token_hex(12)}", int(time.time())
        self._wishes = Wishes(
            asked["logprobs"], bool(asked["return_token_ids"]), bool(asked["return_tokens_as_token_ids"])
        )
        self._prompts = [self._prompt_of(part) for part in work.parts]
        self._choices: dict[int, Choice] = {}  # by the number in the answer
        self._begun = False  # an event was sent, and with it what is told once
        self._warnings = [*asked.warnings, *warnings]
        if any(part.reading is not None for part in work.parts):
            self._warnings.append(SHIFTED.format(window=folder.config.n_positions))

    def _prompt_of(self, part: Part) -> Prompt:
        echo, vocabulary = bool(self._asked["echo"]), self._folder.tokenizer.vocabulary
        half = b"" if echo else split_half_character(vocabulary.bytes_of(part.ids))[1]
        return Prompt(part, self._wishes, Teller(vocabulary, self._spelling, self._wishes, half), echo)

    # The whole answer

    def answer(self) -> str:
        """The JSON of the whole, once the work is done."""
        choices = []
        for prompt in self._prompts:
            log = prompt.part.writing.log
            found = [
                Choice(number, log, sample, prompt.begin(), self._spelling.sizes)
                for number, sample in enumerate(log.samples)
            ]
            if self._asked.samples > self._asked.n:
                found = sorted(found, key=lambda choice: -choice.mean_logprob)[: self._asked.n]
            for choice in found:
                told = prompt.told + (choice.news() or Told())
                more = self._of_prompt(prompt)
                choices.append(choice_of(len(choices), told, finish_of(choice), self._wishes, more))
        return f'{self._head()},"choices":[{",".join(choices)}],"usage":{self._usage()},{self._tail()}}}'

    def _head(self) -> str:
        log, model = self.work.parts[0].prompt, json.dumps(self._folder.name)
        print_ = NULL if log is None else json.dumps(fingerprint_of(log))
        return (
            f'{{"id":"{self.name}","object":"text_completion","created":{self._created},"model":{model},'
            f'"system_fingerprint":{print_}'
        )

    def _tail(self) -> str:
        """What is not OpenAI's: the warnings, the seed, and the addresses of runs that are kept."""
        told: dict = {"seed": self._sampling.seed}
        kept = [self._link(part.run_id) for part in self.work.parts if part.run_id]
        if kept:
            told |= {"url": kept[0], "urls": kept}
        warnings = [f'"warnings":{json_text(self._warnings)}'] if self._warnings else []
        return ",".join([*warnings, f'"rubric":{json.dumps(told)}'])

    def _usage(self) -> str:
        prompt = sum(len(part.ids) for part in self.work.parts)
        written = sum(len(s) for part in self.work.parts if part.writing.log for s in part.writing.log.samples)
        return f'{{"prompt_tokens":{prompt},"completion_tokens":{written},"total_tokens":{prompt + written}}}'

    def _of_prompt(self, prompt: Prompt) -> list[str]:
        """Members of a choice that tell of its prompt, as vLLM has them."""
        found = []
        if self._wishes.ids:
            found.append(f'"prompt_token_ids":[{",".join(map(str, prompt.part.ids))}]')
        if (count := self._asked["prompt_logprobs"]) is not None:
            told = prompt_logprobs(prompt.part.prompt.prompt, self._spelling, count)
            found.append(f'"prompt_logprobs":{told}')
        return found

    # The answer in pieces

    def pieces(self) -> str:
        """The events for what is new; "" where nothing is."""
        return "".join([event for number, prompt in enumerate(self._prompts) for event in self._news(number, prompt)])

    def _news(self, number: int, prompt: Prompt) -> Iterator[str]:
        part = prompt.part
        if part.writing.log is None or not self._may_begin(part):
            return
        first = number * self._asked.n
        for place, sample in enumerate(part.writing.log.samples):
            at = first + place
            if at not in self._choices:
                self._choices[at] = Choice(at, part.writing.log, sample, prompt.begin(), self._spelling.sizes)
                yield from self._opening(at, prompt)
            yield from self._written(self._choices[at])

    def _may_begin(self, part: Part) -> bool:
        """Whether all is known that is told before the first token that is written."""
        if not self._asked.tells_prompt:
            return part.prompt is not None
        log = part.prompt
        return log is not None and (log.done or bool(known(log.prompt, "logprob")[1:].all()))

    def _opening(self, at: int, prompt: Prompt) -> Iterator[str]:
        """What comes before a choice's first token: its prompt where that is echoed, and what is told once."""
        more = self._of_prompt(prompt)
        pieces = prompt.told.apart() if prompt.echo else []
        if more and not pieces:
            pieces = [Told([""])]
        for count, told in enumerate(pieces):
            yield self._event(choice_of(at, told, None, self._wishes, () if count else more))

    def _written(self, choice: Choice) -> Iterator[str]:
        ended_before, told = choice.finish is not None, choice.news()
        pieces = told.apart() if told is not None else []
        if choice.finish is not None and not ended_before and not pieces:
            pieces = [Told([""])]
        for count, piece in enumerate(pieces, 1):
            finish = finish_of(choice) if count == len(pieces) else None
            if finish is not None or piece.tokens or self._wishes.ids or any(piece.texts):
                yield self._event(choice_of(choice.number, piece, finish, self._wishes))

    def _event(self, choice: str) -> str:
        """One event with a piece of a choice; the first one tells what is told once."""
        usage = ',"usage":null' if self._asked.include_usage else ""
        tail, self._begun = "" if self._begun else f",{self._tail()}", True
        return f'data: {self._head()},"choices":[{choice}]{usage}{tail}}}\n\n'

    def ending(self) -> str:
        """The last events."""
        last = f'data: {self._head()},"choices":[],"usage":{self._usage()},{self._tail()}}}\n\n'
        return (last if self._asked.include_usage else "") + DONE


def fingerprint_of(log: RunLog) -> str | None:
    """The weights, and the precision where the engine tells it; None before a run has begun."""
    return "-".join(part for part in (log.fingerprint, log.precision) if part) or None


def finish_of(choice: Choice) -> str | None:
    """How a choice ended, in OpenAI's words."""
    if choice.finish is None:
        return None
    return "stop" if choice.finish == FinishReason.STOP else "length"
