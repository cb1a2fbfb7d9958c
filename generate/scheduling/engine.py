"""The engine: one thread owns the models, and runs join and leave their running batches at every step."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from generate.errors import Busy, Problem, Refusal, problem_of, what_failed
from generate.folders.finding import find_model
from generate.folders.model_folder import ModelFolder
from generate.interface.log import RunLog
from generate.interface.request import Request
from generate.interface.states import FinishReason, RunState
from generate.sampling.options import Sampling
from generate.scheduling.batch import Batch
from generate.scheduling.loaded_models import LoadedModel, LoadedModels
from generate.scheduling.memory import poisoned
from generate.scheduling.queue import Outlook, Queue, Ticket
from generate.transformer.cpu import keep_freed_memory
from generate.transformer.model import GPT2
from generate.transformer.tuning import choose_threads, thread_limit

log = logging.getLogger(__name__)

STUCK = 60.0  # seconds without the end of a step after which the engine counts as stuck
TELL = 0.5  # seconds between two forecasts for those who wait
TYPICAL_TOKENS = 200  # of a run that might come
NEWCOMER = Request(None, (), Sampling(), owner="whoever comes next")
FIRST_GUESS = 0.02  # seconds a token, before a model has written any
RESTARTS = 3  # times in a row that a device may fail before the runs on it are given up


class Engine:
    """Runs requests on its own thread. `submit`, `cancel`, `ready` and `close` may be called from any other.

    `precision` is `auto` or one of PRECISIONS; `threads` 0 measures how many pay; `prefix_memory` is in MiB.
    """

    def __init__(
        self,
        models: Path,
        device: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        max_rows: int = 32,
        max_waiting: int = 64,
        prefix_memory: int = 256,
    ):
        self.models = models
        self.device = choose_device(device)
        if precision == "int8" and self.device.type != "cpu":
            raise Refusal("RUBRIC_PRECISION is 'int8', which only a CPU can do; use bfloat16, float32 or auto.")
        self.max_rows, self.max_waiting = max_rows, max_waiting
        self._threads, self._prefix_bytes = threads, prefix_memory << 20
        self._wake = threading.Condition()
        self._queue = Queue()
        self.outlook = Outlook()
        self._loaded_models = LoadedModels(self.device, precision, self._new_batch, self._notify)
        self._problem: str | None = "The engine has not started yet."
        self._closing = False
        self._over = False
        self._beat = time.monotonic()
        self._told = 0.0
        self._news = False  # something came that the engine's thread has to look at
        self._blocked: Ticket | None = None  # a run whose model finds no memory until those before it have ended
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def _new_batch(self, model: GPT2, folder: ModelFolder) -> Batch:
        return Batch(model, folder, self.max_rows, self._prefix_bytes)

    def start(self, model: str | ModelFolder) -> "Engine":
        """Start the thread; it loads `model` first. Returns at once: `ready` tells when it can write."""
        self._first_model = model
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop the thread after the step in progress; unfinished runs stay unfinished in their logs."""
        self._closing = True
        self._notify()
        if self._thread.is_alive():
            self._thread.join(timeout=30)
        self._loaded_models.close()

    def submit(self, request: Request, run: RunLog | None = None) -> RunLog:
        """Put a run in line and return its log; raises Refusal (empty prompt) or Busy (line full, engine gone).

        `run`, the log of the same request as far as it was written once, goes on from its last tokens. What its prompt
        holds of a token already (where the rank is not 0) stays as it is; the rest is filled in.
        """
        if not request.prompt_ids:
            raise Refusal("This model has no end token to start an empty prompt from; write a prompt.", "prompt")
        run = run or RunLog(request.prompt_ids, request.sampling.samples, request.folder.config.vocab_size)
        with self._wake:
            if self._over or self._closing:
                raise Busy("The engine has stopped; the server has to be started again.", retry_after=60)
            waiting, begun = len(self._queue.waiting), len(self._queue.tickets)
            if waiting >= self.max_waiting or begun >= self.max_waiting + self.max_rows:
                after = max(5, min(600, round(self.outlook.seconds or 60)))
                raise Busy(
                    "The line is full: {waiting} runs are waiting; please try again in a moment.",
                    after,
                    waiting=waiting,
                )
            ended = sum(sample.finish_reason is not None for sample in run.samples)
            self._queue.add(Ticket(request, run, ended=ended))
            run.set_state(RunState.WAITING, waiting + 1)  # a first guess, until the engine has looked
            self._told = 0.0
        self._notify()
        return run

    def cancel(self, run: RunLog, reason: str = FinishReason.CANCELLED) -> None:
        """Ask for a run to end; before the next step its samples end, with `reason` for a `finish_reason`."""
        run.cancelled = run.cancelled or reason
        self._notify()

    def ready(self) -> str | None:
        """None when a model is loaded and the engine steps; else a sentence saying why not."""
        if self._over or not self._thread.is_alive():
            return "The engine has stopped; the server has to be started again."
        silent = time.monotonic() - self._beat
        if self._problem is None and silent > STUCK and self._loaded_models.busy:
            return f"The engine has not finished a step for {silent:.0f} seconds."
        return self._problem

    @property
    def loaded(self) -> list[str]:
        """Names of the models in memory, the one used last first."""
        models = list(self._loaded_models.all.values())  # in one go: the engine's thread may add one meanwhile
        models.sort(key=lambda loaded: -loaded.used)
        return [loaded.folder.name for loaded in models]

    # The engine's own thread

    def _run(self) -> None:
        keep_freed_memory()
        torch.set_num_threads(self._threads or thread_limit())
        try:
            with torch.inference_mode():
                self._load_first()
                while not self._closing:
                    self._round()
        except Exception as error:
            log.exception("the engine stopped")
            self._abandon_all(error)
        finally:
            self._over = True

    def _load_first(self) -> None:
        """Load the model named at the start; a failure is kept for `ready` to tell."""
        first = self._first_model
        try:
            folder = find_model(self.models, first) if isinstance(first, str) else first
            self._problem = f"The model {folder.name} is being loaded."
            loaded = self._loaded_models.load(folder)
            if self._threads == 0 and self.device.type == "cpu":
                self._threads = choose_threads(loaded.model)
                log.info("%d of the processor's threads write fastest", self._threads)
            self._loaded_models.all[folder.identity] = loaded
            self._problem = None
        except Exception as error:
            self._problem = str(problem_of(error))
            log.error("%s", self._problem)

    def _round(self) -> None:
        """One step of every model that has work, and whatever comes between two steps."""
        self._beat = time.monotonic()
        self._cancel_waiting()
        self._welcome_loaded()
        self._let_in()
        self._tell_places()
        for loaded in self._loaded_models.busy:
            self._step(loaded)
        if not self._loaded_models.busy:
            self._tell_places()  # before this thread sleeps: nobody is writing any more
            with self._wake:
                self._wake.wait_for(lambda: self._news, timeout=TELL if self._queue.tickets else None)
                self._news = False

    def _notify(self) -> None:
        """Wake the engine's thread; called from any thread."""
        with self._wake:
            self._news = True
            self._wake.notify_all()

    def _step(self, loaded: LoadedModel) -> None:
        loaded.used = time.monotonic()
        self._do(loaded, loaded.batch.step)

    def _do(self, loaded: LoadedModel, work: Callable[[], None]) -> None:
        """Work of a batch. When it fails as a whole, its runs end; when the device failed, the model is restarted."""
        try:
            work()
            loaded.restarts = 0
        except Exception as error:
            log.exception("%s failed as a whole", loaded.folder.name)
            self._restart(loaded, error)

    def _restart(self, loaded: LoadedModel, error: Exception) -> None:
        loaded.restarts += 1
        try:
            if loaded.restarts > RESTARTS or not poisoned(error):
                raise error
            self._loaded_models.reload(loaded)
        except Exception as reason:
            loaded.batch.abandon(reason)
            self._loaded_models.drop(loaded)
            if poisoned(reason):
                self._problem = "The device failed and could not be restarted; the server has to be started again."

    def _abandon_all(self, error: Exception) -> None:
        """End everything with `error`, so that nobody waits for an engine that is gone."""
        with self._wake:
            self._over = True
            tickets, self._queue = self._queue.tickets, Queue()
        for loaded in self._loaded_models.all.values():
            loaded.batch.abandon(error)
        for ticket in tickets:
            end(ticket, FinishReason.ERROR, what_failed(error))

    # The line

    def _held(self) -> Counter:
        """How many rows each owner holds, in all models together."""
        models = self._loaded_models.all.values()
        return Counter(sequence.request.owner for loaded in models for sequence in loaded.batch.admitted())

    def _let_in(self) -> None:
        """Give rows to those in line, one by one, as long as there are any; begin to load models that are wanted."""
        while self._queue.tickets:
            held = self._held()
            free = held.total() < self.max_rows

            def fits(ticket: Ticket, free: bool = free) -> bool:
                loaded = self._loaded_models.get(ticket.request.folder)
                if not free or loaded is None or not loaded.batch.has_room or self._is_behind(ticket):
                    return False
                # each run holds its prompt until its last sample is let in, so those are bounded as well
                return ticket.granted > 0 or len(loaded.batch.prefills) < self.max_rows

            with self._wake:
                ticket = self._queue.next(held, fits)
            if ticket is None:
                break
            self._admit(ticket)
        self._load_wanted()

    def _admit(self, ticket: Ticket) -> None:
        """Let in one sample of a run."""
        loaded, request, run = self._loaded_models.get(ticket.request.folder), ticket.request, ticket.log
        if ticket.granted == 0:
            run.fingerprint, run.device = loaded.fingerprint, self.device.type
            run.precision = loaded.model.precision
            loaded.batch.admit(request, run, count=1)
        else:
            loaded.batch.let_in(run)
        with self._wake:
            self._queue.grant(ticket)

    def _is_behind(self, ticket: Ticket) -> bool:
        """Whether a run must wait for an earlier one whose model finds no memory yet; else that would wait for ever."""
        tickets, blocked = self._queue.tickets, self._blocked
        return blocked in tickets and ticket.granted == 0 and tickets.index(ticket) > tickets.index(blocked)

    def _load_wanted(self) -> None:
        """Begin to load the first model that somebody waits for."""
        self._blocked, before = None, set()
        for ticket in self._queue.waiting:
            folder, loading = ticket.request.folder, self._loaded_models.loading
            if self._loaded_models.get(folder) is None and loading is None:
                try:
                    if not self._loaded_models.start_loading(folder, before):
                        self._blocked = self._blocked or ticket
                except Refusal as refusal:
                    self._refuse(folder, refusal.problem)
                loading = self._loaded_models.loading
            if loading is not None and loading.folder.identity == folder.identity:
                ticket.log.set_state(RunState.LOADING)
            before.add(folder.identity)

    def _welcome_loaded(self) -> None:
        """See to a model whose loading has ended."""
        loading = self._loaded_models.collect()
        if loading is None:
            return
        if loading.problem is not None:
            self._refuse(loading.folder, loading.problem)
        elif self._problem is not None:
            self._problem = None

    def _refuse(self, folder: ModelFolder, problem: Problem) -> None:
        """End the runs that wait for a model that cannot be had."""
        for ticket in list(self._queue.waiting):
            if ticket.request.folder.identity == folder.identity:
                self._leave_queue(ticket, FinishReason.ERROR, problem)

    def _cancel_waiting(self) -> None:
        for ticket in list(self._queue.tickets):
            if ticket.log.cancelled or ticket.log.done:  # done: all its samples failed with the first
                self._leave_queue(ticket, ticket.log.cancelled)
                loaded = self._loaded_models.get(ticket.request.folder)
                if ticket.granted and loaded is not None and not loaded.batch.busy:  # it has no steps to do it in
                    self._do(loaded, loaded.batch.drop_cancelled)

    def _leave_queue(self, ticket: Ticket, reason: str, error: Problem | None = None) -> None:
        with self._wake:
            self._queue.remove(ticket)
            self._told = 0.0
        if ticket.granted == 0:
            end(ticket, reason, error)

    def _tell_places(self) -> None:
        """Tell everybody who waits, and who thinks of coming, a place and an estimate, now and then."""
        now = time.monotonic()
        if not self._queue.tickets and not self._loaded_models.busy:
            self.outlook = Outlook()
            return
        if now - self._told < TELL:
            return
        self._told = now
        models = list(self._loaded_models.all.values())
        running = [
            (sequence.left * self._pace(loaded) + self._reading_time(sequence.request, loaded), sequence.request.owner)
            for loaded in models
            for sequence in loaded.batch.admitted()
        ]
        with self._wake:
            for ticket in self._queue.tickets:
                loaded = self._loaded_models.get(ticket.request.folder)
                ticket.seconds = ticket.request.sampling.max_new_tokens * self._pace(loaded)
                ticket.seconds += self._reading_time(ticket.request, loaded)
            free = max(0, self.max_rows - len(running))
            forecasts = self._queue.forecast(running, free) if self._queue.tickets else []
            newcomer = Ticket(NEWCOMER, RunLog((), 1, 1), TYPICAL_TOKENS * self._pace(models[-1] if models else None))
            played = self._queue.forecast(running, free, newcomer)
        loading = self._loaded_models.loading
        seconds = next((f.seconds for f in played if f.ticket is newcomer), None)
        writing = {sequence.run for loaded in models for sequence in loaded.batch.admitted()}
        self.outlook = Outlook(len(writing), len(self._queue.waiting), seconds)
        for forecast in forecasts:
            if loading is None or loading.folder.identity != forecast.ticket.request.folder.identity:
                forecast.ticket.log.set_state(RunState.WAITING, forecast.place, forecast.seconds)

    def _pace(self, loaded: LoadedModel | None) -> float:
        """Seconds that one of the tokens asked for takes: a step's time, and how much of what they may runs do write."""
        batch = loaded.batch if loaded else None
        return batch.pace.writing * batch.delivery.share_written if batch and batch.pace.writing else FIRST_GUESS

    def _reading_time(self, request: Request, loaded: LoadedModel | None) -> float:
        """Seconds that a run takes which only reads; a part of a window, as others read, does not count."""
        token = loaded.batch.pace.token if loaded else None
        return len(request.prompt_ids) * token if request.only_reads and token else 0.0


def end(ticket: Ticket, reason: str, error: Problem | None = None) -> None:
    """End a run that no batch has taken in; what it wrote in an earlier life stays."""
    vocabulary = ticket.request.folder.tokenizer.vocabulary
    for sample in ticket.log.samples:
        ticket.log.finish(sample, reason, sample.size(vocabulary), error)


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one; raises Refusal when CUDA is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise Refusal("RUBRIC_DEVICE is 'cuda', but torch sees no CUDA device on this machine; use cpu or auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
