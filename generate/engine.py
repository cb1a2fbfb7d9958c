"""The engine: one thread owns the model, and requests join and leave a running batch at every step."""

import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import torch

from generate.batch import Batch, what_failed
from generate.errors import Busy, Refusal
from generate.folder import ModelFolder
from generate.log import RunLog
from generate.model import load_model
from generate.models import find_model
from generate.request import Request

log = logging.getLogger(__name__)

STUCK = 60.0  # seconds without the end of a step after which the engine counts as stuck


@dataclass
class Waiting:
    request: Request
    log: RunLog


class Engine:
    """Runs requests on its own thread. `submit`, `cancel`, `ready` and `close` may be called from any other."""

    def __init__(self, models: Path, device="auto", precision="auto", threads=0, max_rows=32, max_waiting=64):
        self.models = models
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.max_rows, self.max_waiting = max_rows, max_waiting
        self._threads = threads or max(1, cores() - 1)  # one is left for the web
        self._wake = threading.Condition()
        self._line: deque[Waiting] = deque()
        self._batch: Batch | None = None
        self._loaded: ModelFolder | None = None
        self._problem: str | None = "The engine has not started yet."
        self._fingerprint = ""
        self._closing = False
        self._over = False
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self, model: str | ModelFolder) -> "Engine":
        """Start the thread; it loads `model` first. Returns at once: `ready` tells when it can write."""
        self._first_model = model
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop the thread after the step in progress; unfinished runs stay unfinished in their logs."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def submit(self, request: Request) -> RunLog:
        """Put a run in line and return its log; raises Refusal (empty prompt) or Busy (line full, engine gone)."""
        if not request.prompt_ids:
            raise Refusal("This model has no end token to start an empty prompt from; write a prompt.", "prompt")
        run = RunLog(request.prompt_ids, request.sampling.samples, request.folder.config.vocab_size)
        with self._wake:
            if self._over or self._closing:
                raise Busy("The engine has stopped; the server has to be started again.", retry_after=60)
            if len(self._line) >= self.max_waiting:
                raise Busy(f"The line is full: {len(self._line)} runs are waiting; please try again in a moment.")
            self._line.append(Waiting(request, run))
            self._tell_places()
            self._wake.notify_all()
        return run

    def cancel(self, run: RunLog) -> None:
        """Ask for a run to end; its samples end as `cancelled` before the next step."""
        run.cancelled = True
        with self._wake:
            self._wake.notify_all()

    def ready(self) -> str | None:
        """None when a model is loaded and the engine steps; else a sentence saying why not."""
        if self._over or not self._thread.is_alive():
            return "The engine has stopped; the server has to be started again."
        batch, silent = self._batch, time.monotonic() - self._beat
        if self._problem is None and batch is not None and batch.busy and silent > STUCK:
            return f"The engine has not finished a step for {silent:.0f} seconds."
        return self._problem

    @property
    def loaded(self) -> str | None:
        """Name of the model in memory."""
        folder = self._loaded
        return folder.name if folder else None

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                self._load_quietly(None)
                self._serve()
        except Exception as error:
            log.exception("the engine stopped")
            self._abandon_all(error)
        finally:
            self._over = True

    def _serve(self) -> None:
        while not self._closing:
            self._beat = time.monotonic()
            self._cancel_waiting()
            self._admit()
            if self._batch is not None and self._batch.busy:
                self._step()
            else:
                self._sleep()

    def _abandon_all(self, error: Exception) -> None:
        """End everything with `error`, so that nobody waits for an engine that is gone."""
        with self._wake:
            self._over = True
            line, self._line = list(self._line), deque()
        if self._batch is not None:
            self._batch.abandon(error)
        for waiting in line:
            for sample in waiting.log.samples:
                waiting.log.finish(sample, "error", 0, what_failed(error))

    def _step(self) -> None:
        try:
            self._batch.step()
        except Exception as error:
            log.exception("the batch broke; a new one takes its place")
            self._batch.abandon(error)
            self._batch = Batch(self._batch.model, self._loaded, self.max_rows)

    def _sleep(self) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._line or self._closing)

    def _load_quietly(self, folder: ModelFolder | None) -> None:
        """Load `folder`, or the model named at the start; a failure is kept for `ready` to tell."""
        try:
            first = self._first_model
            self._load(folder or (find_model(self.models, first) if isinstance(first, str) else first))
        except Exception as error:
            self._problem = sentence_of(error)
            log.error("%s", self._problem)

    def _load(self, folder: ModelFolder) -> None:
        """Put `folder` in the place of the loaded model, and try one step of it."""
        self._problem = f"The model {folder.name} is being loaded."
        self._fingerprint = folder.fingerprint()
        self._batch, self._loaded = None, None
        model = load_model(folder, self.device, self.precision)
        self._batch = Batch(model, folder, self.max_rows)
        self._batch.warm_up()
        self._loaded, self._problem = folder, None
        log.info("%s (%s…) is loaded in %s on %s", folder.name, self._fingerprint[:12], self.precision, self.device)

    def _admit(self) -> None:
        """Let runs from the front of the line into the batch while it has room; change the model when it is idle."""
        while self._line:
            waiting = self._line[0]
            if waiting.request.folder != self._loaded or self._batch is None:
                if self._batch is not None and self._batch.busy:
                    return
                if not self._change_model(waiting):
                    continue
            if not self._batch.has_room:
                return
            self._leave_line(waiting)
            waiting.log.fingerprint = self._fingerprint
            waiting.log.precision, waiting.log.device = self.precision, self.device.type
            self._batch.admit(waiting.request, waiting.log)

    def _change_model(self, waiting: Waiting) -> bool:
        """Load what `waiting` asks for; if that fails, its run ends with the reason and the model before comes back."""
        before = self._loaded
        waiting.log.set_state("loading")
        try:
            self._load(waiting.request.folder)
            return True
        except Exception as error:
            log.warning("loading %s failed", waiting.request.folder.name, exc_info=not isinstance(error, Refusal))
            self._leave_line(waiting)
            for sample in waiting.log.samples:
                waiting.log.finish(sample, "error", 0, sentence_of(error))
            self._problem = sentence_of(error)
            if before is not None:
                self._load_quietly(before)
            return False

    def _cancel_waiting(self) -> None:
        with self._wake:
            cancelled = [waiting for waiting in self._line if waiting.log.cancelled]
        for waiting in cancelled:
            self._leave_line(waiting)
            for sample in waiting.log.samples:
                waiting.log.finish(sample, "cancelled", 0)

    def _leave_line(self, waiting: Waiting) -> None:
        with self._wake:
            self._line.remove(waiting)
            self._tell_places()

    def _tell_places(self) -> None:
        for place, waiting in enumerate(self._line, 1):
            if waiting.log.state != "loading":
                waiting.log.set_state("waiting", place)


def sentence_of(error: Exception) -> str:
    return str(error) if isinstance(error, Refusal) else what_failed(error)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one; raises Refusal when CUDA is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise Refusal("RUBRIC_DEVICE is 'cuda', but torch sees no CUDA device on this machine; use cpu or auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def choose_precision(name: str, device: torch.device) -> str:
    return name if name != "auto" else "bfloat16" if device.type == "cuda" else "float32"
