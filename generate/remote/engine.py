"""The engine for runs that others write: vLLM or another Rubric, behind one address or several.

One thread runs an event loop in which every row is a task. See generate/interface/engine.py for what its methods promise.
"""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from generate.errors import Busy, Problem, Refusal, problem_of
from generate.folders.finding import list_models
from generate.folders.model_folder import ModelFolder
from generate.interface.engine import Capabilities, Outlook
from generate.interface.log import RunLog
from generate.interface.request import Request
from generate.interface.states import FinishReason, RunState
from generate.interface.tally import Tallies, Tally
from generate.languages import gettext
from generate.remote.asking import HOTTEST
from generate.remote.line import Job, Line
from generate.remote.pool import Pool
from generate.remote.row import GivenUp, Row, Tries, end_reading, read_prompt
from generate.sampling.in_use import SAMPLERS, require_samplers

log = logging.getLogger(__name__)

TELL = 0.5  # seconds between two forecasts for those who wait
END = 30.0  # seconds that closing may take


class RemoteEngine:
    """Another `Engine`: lets runs in, has them written by whichever replica is well, and keeps their logs.

    `models` is the folder of the models, from which tokens, windows and fingerprints are known.
    """

    def __init__(
        self, models: Path, addresses: Sequence[str], key: str = "", max_rows: int = 32, max_waiting: int = 64
    ):
        self._models, self.max_rows, self.max_waiting = models, max_rows, max_waiting
        self._pool = Pool(addresses, key, max_rows)
        self._line, self._lock = Line(max_rows, max_waiting), threading.RLock()
        self._outlook, self._tallies, self._closed = Outlook(), Tallies(), False
        self._loop = asyncio.new_event_loop()
        self._news: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self, _model: str = "") -> "RemoteEngine":
        """Start the thread. Returns at once: `ready` tells when runs can be written."""
        self._thread.start()
        return self

    @property
    def capabilities(self) -> Capabilities:
        """What all replicas that have answered can do."""
        return self._pool.capabilities

    @property
    def loaded(self) -> list[str]:
        """The models that replicas have."""
        return self._pool.loaded

    def why_not(self, name: str) -> Problem | None:
        """Why a model that a replica has cannot be used; None where nothing stands against it."""
        return self._pool.unfit(name)

    @property
    def outlook(self) -> Outlook:
        """How busy it was a moment ago, and whether it would take a run now."""
        with self._lock:
            return replace(self._outlook, full=self._line.is_full())

    @property
    def rows(self) -> dict[str, int]:
        """How many samples are let in, by the names of their models."""
        with self._lock:
            return dict(Counter(job.request.folder.name for job in self._line.jobs.values() for _ in job.tasks))

    @property
    def tallies(self) -> dict[str, Tally]:
        """What it has done since it began, by the names of the models."""
        return self._tallies.all()

    def ready(self) -> str | None:
        """None while some replica answers and has a model of ours; else a sentence saying why not."""
        if self._closed or not self._thread.is_alive():
            return gettext("The engine has stopped; the server has to be started again.")
        problem = self._pool.problem()
        return None if problem is None else str(problem)

    def submit(self, request: Request, run: RunLog) -> RunLog:
        """Put a run in line and return its log; raises Refusal or Busy."""
        if not len(run.prompt):
            raise Refusal("This model has no end token to start an empty prompt from; write a prompt.", "prompt")
        name = request.folder.name
        if self._pool.loaded and name not in self._pool.loaded:
            why = self.why_not(name)
            if why is not None:
                raise Refusal(
                    "This server's engine cannot be used for {name}: {reason}.", "model", name=name, reason=why
                )
            raise Refusal("This server's engine does not have the model {name}.", "model", name=name)
        _ = request.biases, request.phrases, request.n_keep  # refused here, where somebody waits for the answer
        can = self.capabilities
        require_samplers(request.sampling, can.samplers)
        if can.samplers < SAMPLERS and request.sampling.temperature > HOTTEST:
            raise Refusal(
                "temperature may be {limit} at the most with this server's engine, not {given:g}.",
                "temperature",
                limit=HOTTEST,
                given=request.sampling.temperature,
            )
        with self._lock:
            if self._closed:
                raise Busy("The engine has stopped; the server has to be started again.", retry_after=60)
            tally = self._tallies.of(name)
            if self._line.is_full(request.yields):
                tally.refused += 1
                after = max(5, min(600, round(self._outlook.seconds or 60)))
                raise Busy("The line is full; please try again in a moment.", after)
            self._line.add(request, run)
            run.count_in(tally, request.yields)
        self._wake()
        return run

    def cancel(self, run: RunLog, reason: FinishReason = FinishReason.CANCELLED) -> None:
        """Ask for a run to end; its requests are closed, which ends them at the replica as well."""
        self._in_loop(partial(self._end, run, reason))

    def forget(self) -> None:
        """Nothing of ended runs is kept here. What a replica keeps of texts is not ours to clear."""

    def close(self) -> None:
        """Close all requests and stop the thread."""
        self._closed = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout=END)

    # The thread and its loop

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        except Exception:
            log.exception("the engine stopped")
        finally:
            self._closed = True
            self._loop.close()

    async def _main(self) -> None:
        self._news = asyncio.Event()
        watching = self._pool.watch(self._folders, self._news.set)
        try:
            while not self._closed:
                self._news.clear()
                self._let_in()
                try:
                    await asyncio.wait_for(self._news.wait(), TELL if self._is_busy else None)
                except TimeoutError:
                    continue
        finally:
            for task in [*watching, *self._tasks()]:
                task.cancel()
            await asyncio.gather(*watching, *self._tasks(), return_exceptions=True)
            await self._pool.close()
            await self._loop.shutdown_asyncgens()

    def _folders(self) -> list[ModelFolder]:
        return [listed.folder for listed in list_models(self._models) if listed.folder]

    @property
    def _is_busy(self) -> bool:
        return bool(self._line.jobs or self._line.queue.tickets)

    def _tasks(self) -> list[asyncio.Task]:
        jobs = list(self._line.jobs.values())
        return [task for job in jobs for task in (job.reading, *job.tasks.values()) if task is not None]

    def _in_loop(self, work: Callable[[], None]) -> None:
        """Have something done in the loop's thread, if it still runs."""
        try:
            self._loop.call_soon_threadsafe(work)
        except RuntimeError:  # it is closed: nothing is being written any more
            return

    def _wake(self) -> None:
        self._in_loop(lambda: self._news.set() if self._news else None)

    # Rows

    def _let_in(self) -> None:
        """Give rows to those in line as long as there are any, and tell the others where they stand."""
        with self._lock:
            while True:
                if (job := self._line.next(self._pool.has)) is not None:
                    self._begin(job)
                elif (job := self._line.in_the_way(self._pool.has)) is not None:
                    self._end(job.run, FinishReason.YIELDED)
                else:
                    break
            self._outlook = self._line.tell()

    def _begin(self, job: Job) -> None:
        """Let one more sample of a run begin."""
        number, request = job.waiting.pop(0), job.request
        if job.reading is None:
            job.reading = asyncio.create_task(self._read(job))
        task = asyncio.create_task(self._only_read(job) if request.only_reads else self._write(job, number))
        job.tasks[number] = task
        task.add_done_callback(lambda _: self._row_over(job, number))

    def _tell_weights(self, job: Job) -> None:
        """Say by which weights a run is written, and in which precision as far as that is told."""
        taken = self._pool.take(job.request.folder)
        job.run.fingerprint = job.request.folder.fingerprint()
        job.run.precision = taken[1].precision if taken else None

    async def _read(self, job: Job) -> None:
        """Learn what is told of a prompt before anything is written after it."""
        self._tell_weights(job)
        fresh = not any(len(sample) for sample in job.run.samples)
        if job.request.only_reads or (job.request.statistics and fresh):
            job.run.set_state(RunState.READING)
            await read_prompt(job.request, job.run, self._tries(job))
        job.run.close_prompt()
        job.run.set_state(RunState.WRITING)

    async def _write(self, job: Job, number: int) -> None:
        """Write one sample."""
        run, begun = job.run, time.monotonic()
        sample, vocabulary = run.samples[number], job.request.folder.tokenizer.vocabulary
        try:
            await asyncio.shield(job.reading)
            tally = self._tallies.of(job.request.folder.name)
            row = Row(job.request, run, number, self._tries(job), partial(self._goes_on, job, tally))
            before, begun = len(sample), time.monotonic()
            await row.write()
            if written := len(sample) - before:
                self._line.note_pace(time.monotonic() - begun, written)
        except GivenUp as given_up:
            run.finish(sample, FinishReason.ERROR, sample.size(vocabulary), given_up.problem)
        except Exception as error:
            log.exception("a sample could not be written")
            run.finish(sample, FinishReason.ERROR, sample.size(vocabulary), problem_of(error))

    async def _only_read(self, job: Job) -> None:
        """Read a text that nothing is written after."""
        problem = None
        try:
            await asyncio.shield(job.reading)
        except GivenUp as given_up:
            problem = given_up.problem
        except Exception as error:
            log.exception("a text could not be read")
            problem = problem_of(error)
        end_reading(job.request, job.run, problem)

    def _tries(self, job: Job) -> Tries:
        return Tries(self._pool, job.request, partial(self._pause, job))

    def _pause(self, job: Job) -> None:
        """An engine failed a run, or there is none for it now."""
        if not job.paused:
            job.paused = True
            job.run.note_restart()
        if not self._pool.has(job.request.folder):
            job.run.set_state(RunState.WAITING, 1)

    def _goes_on(self, job: Job, tally: Tally, tokens: int) -> None:
        """So many tokens of a run were written, perhaps after a pause."""
        tally.written += tokens
        job.run.count_first_token()
        if job.paused:
            job.paused = False
        if job.run.state != RunState.WRITING:
            job.run.set_state(RunState.WRITING)

    def _row_over(self, job: Job, number: int) -> None:
        """A row is free again."""
        with self._lock:
            job.tasks.pop(number, None)
            if job.run.done:
                self._line.remove(job.run)
        self._news.set()

    def _end(self, run: RunLog, reason: FinishReason) -> None:
        """End a run that waits or is being written; others' runs stay as they are."""
        with self._lock:
            waiting = [ticket.request for ticket in self._line.queue.tickets if ticket.log is run]
            job = self._line.remove(run)
        if job is None and not waiting:
            return
        request = job.request if job else waiting[0]
        for task in (job.reading, *job.tasks.values()) if job else ():
            if task is not None:
                task.cancel()
        vocabulary = request.folder.tokenizer.vocabulary
        for sample in run.samples:
            run.finish(sample, reason, sample.size(vocabulary))
        self._news.set()
