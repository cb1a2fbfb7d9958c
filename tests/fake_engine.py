"""A second implementation of the engine's interface: a model in a few lines, that tells as much as a test wants."""

import random
import threading
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from generate import (
    Busy,
    Capabilities,
    FinishReason,
    Outlook,
    Refusal,
    Request,
    RunLog,
    RunState,
    SampleLog,
    Tallies,
    Tally,
    split_half_character,
    unknown_records,
)
from generate.sampling.in_use import SAMPLERS, require_samplers
from generate.sampling.records import ALTERNATIVES
from generate.text.ending import Ending

EVERYTHING = Capabilities(
    resumes_exactly=True,
    entropy=True,
    rank=True,
    kept_set=True,
    scores_prompt=True,
    loads_models=True,
    samplers=SAMPLERS,
)
LOGPROBS = np.log(
    2.0 ** -np.arange(1, ALTERNATIVES + 1)
)  # of the ten likeliest, at every place; the rest share 2 ** -10
SEVERAL = 5  # tokens of the likeliest that it writes


@dataclass(eq=False)
class Job:
    """A run in line. `salt` goes into the noise of an engine that does not resume exactly."""

    request: Request
    run: RunLog
    salt: int
    endings: dict[SampleLog, Ending] = field(default_factory=dict)

    def noise(self, number: int, place: int) -> random.Random:
        """What the choice at a place of sample `number` is made with."""
        return random.Random(f"{self.request.sampling.seed} {self.request.first_sample + number} {place} {self.salt}")


class FakeEngine:
    """Writes one token of each run it has let in a round; `max_rows` runs at once, whatever samples they have.

    It has every model that is asked for, or those named in `loaded`. `pace` are the seconds that a token takes.
    """

    def __init__(self, capabilities=EVERYTHING, loaded=("tiny",), max_rows=4, max_waiting=64, pace=0.001):
        self.capabilities, self.loaded = capabilities, list(loaded)
        self.max_rows, self.max_waiting, self._pace = max_rows, max_waiting, pace
        self.precision = "float32"
        self._jobs: list[Job] = []
        self._changed, self._closed = threading.Condition(), False
        self._dice, self.forgot, self._tallies = random.Random(0), 0, Tallies()
        self._thread = threading.Thread(target=self._work, name="fake engine", daemon=True)
        self._thread.start()

    def ready(self) -> str | None:
        return "The engine has stopped." if self._closed else None

    @property
    def outlook(self) -> Outlook:
        writing, waiting = min(len(self._jobs), self.max_rows), max(0, len(self._jobs) - self.max_rows)
        return Outlook(writing, waiting, None if waiting else 0.0, waiting >= self.max_waiting)

    @property
    def rows(self) -> dict[str, int]:
        return dict(Counter(job.request.folder.name for job in self._jobs[: self.max_rows] for _ in job.run.samples))

    @property
    def tallies(self) -> dict[str, Tally]:
        return self._tallies.all()

    def submit(self, request: Request, run: RunLog) -> RunLog:
        if not len(run.prompt):
            raise Refusal("Write a prompt.", "prompt")
        if request.only_reads and not self.capabilities.scores_prompt:
            raise Refusal("This engine cannot only read.")
        require_samplers(request.sampling, self.capabilities.samplers)
        if request.folder.name not in self.loaded:
            if not self.capabilities.loads_models:
                raise Refusal("This engine has no such model.", "model")
            self.loaded.append(request.folder.name)
        with self._changed:
            tally = self._tallies.of(request.folder.name)
            if self._closed or self.outlook.full:
                tally.refused += 1
                raise Busy("The engine takes no more runs; please try again.")
            salt = 0 if self.capabilities.resumes_exactly else self._dice.randrange(2**32)
            self._jobs.append(Job(request, run, salt))
            run.count_in(tally, request.yields)
            run.set_state(RunState.WAITING, len(self._jobs))
            self._changed.notify_all()
        return run

    def why_not(self, _name: str) -> None:
        return None

    def cancel(self, run: RunLog, reason: FinishReason = FinishReason.CANCELLED) -> None:
        with self._changed:
            for job in [job for job in self._jobs if job.run is run]:
                self._jobs.remove(job)
                for sample in run.samples:
                    end(job, sample, reason)

    def forget(self) -> None:
        """It remembers nothing; tests see that it was asked."""
        self.forgot += 1

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout=30)

    def _work(self) -> None:
        with self._changed:
            while not self._closed:
                for place, job in enumerate(list(self._jobs)):
                    if place < self.max_rows:
                        self._step(job)
                    else:
                        job.run.set_state(RunState.WAITING, place + 1 - self.max_rows)
                self._jobs = [job for job in self._jobs if not job.run.done]
                self._changed.wait(self._pace if self._jobs else None)

    def _step(self, job: Job) -> None:
        """One token of every sample that has not ended."""
        run = job.run
        if not job.endings:
            self._begin(job)
        for number, sample in enumerate(run.samples):
            if sample.finish_reason is None and not over(job, sample):
                place = len(run.prompt) + len(sample)
                record = self._record(job, place, job.noise(number, place).randrange(SEVERAL), sampled=True)
                ending = job.endings[sample]
                ending.feed(job.request.folder.tokenizer.vocabulary.tokens[int(record["id"][0])])
                with run.changed:
                    sample.append(record, ending.released)
                    run.touch()
                self._tallies.of(job.request.folder.name).written += 1
                run.count_first_token()
            if sample.finish_reason is None and (reason := over(job, sample)):
                end(job, sample, reason)

    def _begin(self, job: Job) -> None:
        """Read the prompt, and what was written before."""
        run, folder, vocabulary = job.run, job.request.folder, job.request.folder.tokenizer.vocabulary
        half = split_half_character(vocabulary.bytes_of(run.prompt_ids))[1]
        stops = [stop.encode() for stop in job.request.sampling.stop]
        for sample in run.samples:
            job.endings[sample] = Ending(stops, half)
            for index in sample.read()["id"].tolist():
                job.endings[sample].feed(vocabulary.tokens[index])
        run.fingerprint, run.precision, run.device = folder.fingerprint(), self.precision, "cpu"
        run.set_state(RunState.WRITING)
        if self.capabilities.scores_prompt:
            for place, index in enumerate(run.prompt_ids[1:], 1):
                run.learn(place, self._record(job, place, 2, sampled=False, index=index))

    def _record(self, job: Job, place: int, choice: int, sampled: bool, index: int | None = None) -> np.ndarray:
        """What is told of the token at a place, which is the `choice`-th likeliest, from 0; shape [1]."""
        size = job.request.folder.config.vocab_size
        likeliest = 1 + (37 * place + np.arange(ALTERNATIVES)) % (size - 1)  # never 0, which ends texts
        likeliest[choice] = likeliest[choice] if index is None else index
        record, can = unknown_records(likeliest[choice : choice + 1], size), self.capabilities
        record["logprob"], record["alt_ids"], record["alt_logprobs"] = LOGPROBS[choice], likeliest, LOGPROBS
        if can.rank:
            record["rank"] = choice + 1
        if can.entropy:
            record["entropy"] = 2 * np.log(2)
        if can.kept_set and sampled:
            scaled = LOGPROBS / job.request.sampling.temperature
            kept = np.arange(ALTERNATIVES) < SEVERAL
            record["filter_norm"], record["log_z"] = np.log(np.exp(scaled[kept]).sum()), 0.0
            record["sampled_logprob"] = scaled[choice] - record["filter_norm"]
            record["cut"] = int(((~kept) << np.arange(ALTERNATIVES)).sum())
        return record


def over(job: Job, sample: SampleLog) -> FinishReason | None:
    """How a sample has ended, if it has."""
    if job.endings[sample].stop_at is not None:
        return FinishReason.STOP
    return FinishReason.LENGTH if len(sample) >= job.request.sampling.max_new_tokens else None


def end(job: Job, sample: SampleLog, reason: FinishReason) -> None:
    """End a sample where it stands, or where its stop string begins."""
    ending, vocabulary = job.endings.get(sample), job.request.folder.tokenizer.vocabulary
    stop_at = ending.stop_at if ending else None
    job.run.finish(sample, reason, sample.size(vocabulary) if stop_at is None else stop_at)
