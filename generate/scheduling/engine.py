"""The engine of this machine: one thread owns the models, and runs join and leave their running batches at every step."""

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path

import torch

from generate.errors import Busy, Problem, Refusal, problem_of
from generate.folders.finding import find_model
from generate.folders.model_folder import ModelFolder
from generate.interface.engine import Capabilities, Outlook
from generate.interface.log import RunLog
from generate.interface.request import Request
from generate.interface.states import FinishReason, RunState
from generate.interface.tally import Tallies, Tally
from generate.languages import gettext
from generate.sampling.in_use import SAMPLERS
from generate.scheduling.batch import Batch
from generate.scheduling.dispatch import Dispatch
from generate.scheduling.forecast import TELL, Forecaster
from generate.scheduling.loaded_models import LoadedModel, LoadedModels
from generate.scheduling.queue import Queue, Ticket
from generate.transformer.cpu import keep_freed_memory
from generate.transformer.model import GPT2
from generate.transformer.tuning import choose_torch_threads, thread_limit

log = logging.getLogger(__name__)

STUCK = 60.0  # seconds without the end of a step after which the engine counts as stuck


class LocalEngine:
    """The first `Engine` (see generate/interface/engine.py for what its methods promise); it runs on its own thread.

    `precision` is `auto` or one of PRECISIONS; `threads` 0 measures how many pay; `prefix_memory` is in MiB.
    """

    capabilities = Capabilities(
        resumes_exactly=True,
        entropy=True,
        rank=True,
        kept_set=True,
        scores_prompt=True,
        loads_models=True,
        samplers=SAMPLERS,
    )

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
        self._wake = threading.Condition()  # guards the queue and what is asked of the engine's thread
        self._queue, self._tallies = Queue(), Tallies()
        self._loaded_models = LoadedModels(self.device, precision, self._new_batch, self._notify, threads)
        self._dispatch = Dispatch(self._queue, self._loaded_models, self._wake, max_rows)
        self._forecaster = Forecaster(self._queue, self._loaded_models, self._wake, max_rows)
        self._cancelled: dict[RunLog, FinishReason] = {}  # runs that shall end, until the engine's thread has looked
        self._forget = False  # what is remembered of ended runs shall go
        self._problem: Problem | None = Problem("The engine has not started yet.")
        self._closing = False
        self._over = False
        self._beat = time.monotonic()
        self._news = False  # something came that the engine's thread has to look at
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def _new_batch(self, model: GPT2, folder: ModelFolder) -> Batch:
        return Batch(model, folder, self.max_rows, self._prefix_bytes, self._tallies.of(folder.name))

    def start(self, model: str | ModelFolder) -> "LocalEngine":
        """Start the thread; it loads `model` first. Returns at once: `ready` tells when it can write."""
        self._first_model = model
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop the thread after the step in progress."""
        self._closing = True
        self._notify()
        if self._thread.is_alive():
            self._thread.join(timeout=30)
        self._loaded_models.close()

    def submit(self, request: Request, run: RunLog) -> RunLog:
        """Put a run in line and return its log; raises Refusal (empty prompt) or Busy (line full, engine gone)."""
        if not len(run.prompt):
            raise Refusal("This model has no end token to start an empty prompt from; write a prompt.", "prompt")
        # refused and made here, where somebody waits for the answer, and no step does
        _ = request.biases, request.phrases, request.n_keep
        with self._wake:
            if self._over or self._closing:
                raise Busy("The engine has stopped; the server has to be started again.", retry_after=60)
            waiting = len(self._queue.waiting) if request.yields else self._queue.waiting_runs
            tally = self._tallies.of(request.folder.name)
            if self._is_full(request.yields):
                tally.refused += 1
                after = max(5, min(600, round(self._forecaster.outlook.seconds or 60)))
                if waiting == 1:
                    raise Busy("The line is full: one run is waiting; please try again in a moment.", after)
                raise Busy(
                    "The line is full: {waiting} runs are waiting; please try again in a moment.",
                    after,
                    waiting=waiting,
                )
            ended = sum(sample.finish_reason is not None for sample in run.samples)
            self._queue.add(Ticket(request, run, ended=ended))
            run.count_in(tally, request.yields)
            run.set_state(RunState.WAITING, waiting + 1)  # a first guess, until the engine has looked
        self._notify()
        return run

    def why_not(self, _name: str) -> Problem | None:
        """None: it loads each model when it is asked for, and a run that finds it broken says why."""
        return None

    def cancel(self, run: RunLog, reason: FinishReason = FinishReason.CANCELLED) -> None:
        """Ask for a run to end; before the next step its samples end, with `reason` for a `finish_reason`."""
        with self._wake:
            self._cancelled.setdefault(run, reason)
        self._notify()

    def forget(self) -> None:
        """Before the next step, keep no keys, values and ids of texts that were read or written before."""
        with self._wake:
            self._forget = True
        self._notify()

    def ready(self) -> str | None:
        """None when a model is loaded and the engine steps; else a sentence saying why not."""
        if self._over or not self._thread.is_alive():
            return gettext("The engine has stopped; the server has to be started again.")
        if self._loaded_models.device_failed:
            return gettext("The device failed and could not be restarted; the server has to be started again.")
        silent = time.monotonic() - self._beat
        if self._problem is None and silent > STUCK and self._loaded_models.busy:
            return gettext("The engine has not finished a step for {seconds:.0f} seconds.", seconds=silent)
        return None if self._problem is None else str(self._problem)

    @property
    def loaded(self) -> list[str]:
        """Names of the models in memory, the one used last first."""
        models = list(self._loaded_models.all.values())  # in one go: the engine's thread may add one meanwhile
        models.sort(key=lambda loaded: -loaded.used)
        return [loaded.folder.name for loaded in models]

    @property
    def outlook(self) -> Outlook:
        """How busy it was when it last looked, and whether it would take a run now."""
        with self._wake:
            return replace(self._forecaster.outlook, full=self._is_full())

    @property
    def rows(self) -> dict[str, int]:
        """How many samples are let in, by the names of their models."""
        return self._loaded_models.rows

    @property
    def tallies(self) -> dict[str, Tally]:
        """What it has done since it began, by the names of the models."""
        return self._tallies.all()

    def _is_full(self, yields: bool = False) -> bool:
        """Whether the line is full, for one that `yields` or for any other; call with `_wake` held."""
        counted = [ticket for ticket in self._queue.tickets if yields or not ticket.request.yields]
        waiting = sum(ticket.granted == 0 for ticket in counted)
        return waiting >= self.max_waiting or len(counted) >= self.max_waiting + self.max_rows

    def _notify(self) -> None:
        """Wake the engine's thread; called from any thread."""
        with self._wake:
            self._news = True
            self._wake.notify_all()

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
            with self._wake:
                self._over = True
            self._dispatch.abandon_all(error)
        finally:
            self._over = True

    def _load_first(self) -> None:
        """Load the model named at the start; a failure is kept for `ready` to tell."""
        first = self._first_model
        try:
            folder = find_model(self.models, first) if isinstance(first, str) else first
            self._problem = Problem("The model {model} is being loaded.", model=folder.name)
            loaded = self._loaded_models.load(folder)
            if self._threads == 0 and self.device.type == "cpu":
                choose_torch_threads(loaded.model)
            self._loaded_models.all[folder.identity] = loaded
            self._problem = None
        except Exception as error:
            self._problem = problem_of(error)
            log.error("%s", self._problem)

    def _round(self) -> None:
        """One step of every model that has work, and whatever comes between two steps."""
        self._beat = time.monotonic()
        cancelled, forget = self._take_asked()
        self._dispatch.end_cancelled(cancelled)
        if forget:  # after those that were cancelled, whose texts are remembered as they end
            self._loaded_models.forget()
        self._dispatch.drop_over()
        if self._dispatch.welcome_loaded():
            self._problem = None
        self._dispatch.let_in()
        self._dispatch.load_wanted()
        self._forecaster.tell()
        for loaded in self._loaded_models.busy:
            self._step(loaded)
        if not self._loaded_models.busy:
            self._forecaster.tell()  # before this thread sleeps: nobody is writing any more
            self._sleep()

    def _take_asked(self) -> tuple[dict[RunLog, FinishReason], bool]:
        """The runs that were asked to end since the last look, each with the reason; whether to forget ended ones."""
        with self._wake:
            cancelled, forget = self._cancelled, self._forget
            self._cancelled, self._forget = {}, False
        return cancelled, forget

    def _step(self, loaded: LoadedModel) -> None:
        loaded.used = time.monotonic()
        self._loaded_models.attempt(loaded, loaded.batch.step)

    def _sleep(self) -> None:
        """Wait for news; while anybody waits, no longer than until they are to be told something."""
        with self._wake:
            self._wake.wait_for(lambda: self._news, timeout=TELL if self._queue.tickets else None)
            self._news = False


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one; raises Refusal when CUDA is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise Refusal("RUBRIC_DEVICE is 'cuda', but torch sees no CUDA device on this machine; use cpu or auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
