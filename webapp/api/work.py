"""The runs behind one request: one for each prompt, put in line as places come free, waited for, and ended with it.

`Work.advance` does what there is to do without waiting; `Work.wait` waits for news, never so long that a client's leaving
would go unnoticed. Whoever has one closes it: what is not done by then is cancelled.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from generate import Busy, Engine, FinishReason, ModelFolder, Request, RunLog, Sampling, unknown_records
from webapp.api.errors import Failed, TooLong, failed
from webapp.api.fields import Asked
from webapp.api.places import Place, Places
from webapp.runs.full import DiskFull

FLUSH = 0.06  # seconds of tokens that go out together
LOOK = 0.2  # seconds between two looks at the client at the most
LATER = 5  # seconds after which somebody may ask a server again that ends


class Keeper(Protocol):
    """Who starts runs that are kept."""

    def start(
        self,
        folder: ModelFolder,
        ids: list[int],
        sampling: Sampling,
        owner: str,
        text: str | None = None,
        first_sample: int = 0,
        address: str | None = None,
    ) -> tuple[str, RunLog]:
        """Start a run and store it, of a prompt that was given as `text` (None: by its ids), for somebody at an address, by
        its keyed hash; returns its id and its log. Raises Refusal, and Busy."""

    def end(self, run_id: str) -> None:
        """Nobody reads its log for an answer any more; if it is being written, that ends."""


@dataclass(frozen=True)
class Engines:
    """What a request is done with. `alive` is false once the server ends."""

    engine: Engine
    places: Places
    keeper: Keeper
    alive: Callable[[], bool]


@dataclass(eq=False)
class Running:
    """One run of a request: of `ids` with `sampling`, whose samples are `first_sample` and those after it in the noise. `log`
    is None until it is in line, `run_id` where it is not kept, `text` where its prompt was given by its ids."""

    ids: list[int]
    sampling: Sampling
    statistics: bool
    keep: bool = False
    text: str | None = None
    first_sample: int = 0
    place: Place | None = None
    log: RunLog | None = None
    run_id: str | None = None
    checked: bool = False  # it has ended, and well

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.log is not None and self.log.done


@dataclass(eq=False)
class Part:
    """One prompt: the run that writes, and where its last token needs no row of its own, the run that reads it whole."""

    ids: list[int]
    writing: Running
    reading: Running | None = None

    @property
    def runs(self) -> list[Running]:
        """Both, or the one that there is."""
        return [run for run in (self.reading, self.writing) if run is not None]

    @property
    def done(self) -> bool:
        """Whether all is there."""
        return all(run.done for run in self.runs)

    @property
    def prompt(self) -> RunLog | None:
        """The log that knows the prompt."""
        return self.runs[0].log

    @property
    def run_id(self) -> str | None:
        """The id of the run that is kept."""
        return next((run.run_id for run in self.runs if run.run_id), None)


def plan(
    asked: Asked, prompt: str | list[int], ids: list[int], folder: ModelFolder, sampling: Sampling, beyond: int
) -> Part:
    """How a prompt of these ids is answered; raises TooLong where its log-probabilities are asked for and the window does not hold it.

    Nothing slides where they are told: each token is predicted from all before it. The last of n_positions + 1 is
    predicted from the whole window, so it is read but for writing on; then one token is written from the last n_positions.
    `beyond` is how many more than n_positions the engine reads so.
    """
    statistics, keep, window = asked.needs_statistics, bool(asked["store"]), folder.config.n_positions
    text, first = prompt if isinstance(prompt, str) else None, asked["first_sample"] or 0
    if not asked.tells_prompt or len(ids) <= window + min(beyond, 0):
        return Part(ids, Running(ids, sampling, statistics, keep, text, first))
    if beyond <= 0:
        raise TooLong(
            "prompt has {given} tokens; this server's engine tells the log-probabilities of at most {most}, as it has to "
            "write into the window of {window} that {model} has.",
            "prompt",
            given=len(ids),
            most=window + beyond,
            window=window,
            model=folder.name,
        )
    if len(ids) > window + 1 or asked.most > 1:
        raise TooLong(
            "prompt has {given} tokens; the log-probabilities of at most {most} can be told where {written} are written, as "
            "{model} has a window of {window}.",
            "prompt",
            given=len(ids),
            most=window + (asked.most <= 1),
            written=asked.most,
            model=folder.name,
            window=window,
        )
    if asked.most == 0:
        return Part(ids, Running(ids, sampling, statistics, keep, text, first))
    only_read = replace(sampling, max_new_tokens=0, min_new_tokens=0, samples=1)
    writing = Running(ids[1:], sampling, statistics, first_sample=first)
    return Part(ids, writing, Running(ids, only_read, True, keep, text))


class Work:
    """The runs of one request, in the order of its prompts."""

    def __init__(
        self, engines: Engines, folder: ModelFolder, owner: str, parts: list[Part], address: str | None = None
    ):
        self.parts, self.folder = parts, folder
        self._engines, self._owner, self._address = engines, owner, address
        self._runs = [run for part in parts for run in part.runs]
        self._awaited: tuple[RunLog, int] | None = None  # the first log that is open, and its version at the last look

    def __enter__(self) -> "Work":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def advance(self) -> bool:
        """Put in line what may be, free the places of what has ended; True when all is done.

        Raises Refusal where a run failed or is gone, or the server ends.
        """
        if not self._engines.alive():
            raise Busy("The server is being stopped; please ask again in a moment.", retry_after=LATER)
        self._awaited = None
        for run in self._runs:
            if run.log is None:
                self._start(run)
            if run.done and not run.checked:
                self._check(run)
                self._engines.places.give_back(run.place)
            if self._awaited is None and run.log is not None and not run.checked:
                self._awaited = run.log, run.log.version
        return self.done

    @property
    def done(self) -> bool:
        """Whether all has ended, and well."""
        return all(run.checked for run in self._runs)

    def _start(self, run: Running) -> None:
        """Put a run in line, if it has a place and the line has room."""
        run.place = run.place or self._engines.places.ask(self._owner)
        if not run.place.held:
            return
        try:
            if run.keep:
                run.run_id, run.log = self._engines.keeper.start(
                    self.folder, run.ids, run.sampling, self._owner, run.text, run.first_sample, self._address
                )
            else:
                request = Request(self.folder, run.sampling, run.first_sample, self._owner, run.statistics)
                log = RunLog(unknown_records(run.ids, self.folder.config.vocab_size), run.sampling.samples)
                run.log = self._engines.engine.submit(request, log)
        except DiskFull:
            raise
        except Busy:
            if self._engines.engine.ready() is not None:
                raise

    def _check(self, run: Running) -> None:
        """Note that a run has ended; raise Refusal where it has not ended well."""
        run.checked = True
        if run.log.withdrawn is not None:
            raise Failed("The run was taken away while it was being written.")
        for sample in run.log.samples:
            if sample.finish_reason == FinishReason.ERROR:
                raise failed(sample.error)
            if sample.finish_reason not in (FinishReason.STOP, FinishReason.LENGTH):
                raise Failed("The run was stopped while it was being written.")

    def wait(self) -> None:
        """Wait for news since `advance`: tokens that come within FLUSH of each other are news once."""
        if self._awaited is None:
            time.sleep(FLUSH / 2)
            return
        (log, version), pause = self._awaited, 0.0
        if any(len(sample) for run in self._runs if run.log is not None for sample in run.log.samples):
            pause = FLUSH
            time.sleep(pause)
        log.wait(version, (LOOK if len(self._runs) == 1 else FLUSH) - pause)

    def close(self) -> None:
        """End what is not done. May be called twice."""
        for run in self._runs:
            if run.run_id is not None:
                self._engines.keeper.end(run.run_id)
            elif run.log is not None and not run.log.done:
                self._engines.engine.cancel(run.log)
            if run.place is not None:
                self._engines.places.give_back(run.place)
        self._runs = []


def until_done(work: Work, has_left: Callable[[], bool]) -> Iterator[None]:
    """Go on with work until it is done, yielding whenever there may be news; ends early when the client has left."""
    while True:
        over = work.advance()
        yield
        if over or has_left():
            return
        work.wait()
