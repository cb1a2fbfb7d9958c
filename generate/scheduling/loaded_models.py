"""The models in memory. Loading goes on beside the running ones; the least recently used makes room."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from generate.errors import Problem, Refusal, problem_of
from generate.folders.model_folder import ModelFolder
from generate.interface.log import RunLog
from generate.scheduling.batch import Batch
from generate.scheduling.failures import worth_restarting
from generate.scheduling.memory import free_bytes, loading_bytes, model_bytes, poisoned
from generate.scheduling.sequence import Sequence
from generate.scheduling.warm_up import warm_up
from generate.transformer.model import GPT2, load_model
from generate.transformer.precision import choose_precision
from generate.transformer.tuning import choose_threads

log = logging.getLogger(__name__)

SPARE = 256 << 20  # bytes left alone when a model is loaded


@dataclass(eq=False)
class LoadedModel:
    """A model in memory with the batch that runs on it."""

    folder: ModelFolder
    fingerprint: str
    model: GPT2
    batch: Batch
    used: float = field(default_factory=time.monotonic)
    restarts: int = 0  # in a row


def size_of(loaded: LoadedModel) -> int:
    """Bytes that come free when a model goes."""
    return model_bytes(loaded.model.config, loaded.model.precision)


@dataclass(eq=False)
class Loading:
    """A model that is being loaded on a thread of its own; it ends with `loaded` or with `problem`."""

    folder: ModelFolder
    loaded: LoadedModel | None = None
    problem: Problem | None = None
    done: bool = False


class LoadedModels:
    """Changed by the engine's thread alone; `on_change` is called from the loading thread when a model is there.

    In int8 each model has threads of its own: `threads`, or, where that is 0, as many as are found to pay.
    """

    def __init__(
        self,
        device: torch.device,
        precision: str,
        new_batch: Callable[[GPT2, ModelFolder], Batch],
        on_change: Callable[[], None],
        threads: int = 1,
    ):
        self.device, self.precision, self._threads = device, precision, threads
        self._new_batch, self._on_change = new_batch, on_change
        self.all: dict[tuple, LoadedModel] = {}
        self.loading: Loading | None = None
        self.device_failed = False  # and could not be restarted, since when no model was loaded
        self._thread: threading.Thread | None = None

    # Who is here

    def get(self, folder: ModelFolder) -> LoadedModel | None:
        """The model of this folder, if it is in memory."""
        return self.all.get(folder.identity)

    @property
    def busy(self) -> list[LoadedModel]:
        """The models with sequences let in; may be asked from any thread."""
        pairs = [(loaded, loaded.batch) for loaded in list(self.all.values())]  # web threads ask as well
        return [loaded for loaded, batch in pairs if batch is not None and batch.busy]

    @property
    def rows(self) -> dict[str, int]:
        """How many sequences are let in, by the names of the models; may be asked from any thread."""
        rows = Counter()
        for loaded in list(self.all.values()):
            if (batch := loaded.batch) is not None:
                rows[loaded.folder.name] += batch.held
        return dict(rows)

    def admitted(self) -> list[Sequence]:
        """Sequences that are let in, in all models together."""
        return [sequence for loaded in self.all.values() for sequence in loaded.batch.admitted()]

    def holding(self, run: RunLog) -> list[LoadedModel]:
        """The models in whose batches a run is."""
        return [r for r in self.all.values() if any(sequence.run is run for sequence in r.batch.everyone())]

    def is_loading(self, folder: ModelFolder) -> bool:
        """Whether this folder's model is being loaded."""
        return self.loading is not None and self.loading.folder.identity == folder.identity

    def idle(self, wanted: set[tuple]) -> list[LoadedModel]:
        """Models that nobody uses or waits for, the least recently used first."""
        free = [r for key, r in self.all.items() if key not in wanted and not r.batch.held and not r.batch.prefills]
        return sorted(free, key=lambda loaded: loaded.used)

    def forget(self) -> None:
        """Let no model remember the texts of runs that have ended."""
        for loaded in self.all.values():
            loaded.batch.prefix_cache.drop()

    # Loading

    def start_loading(self, folder: ModelFolder, wanted: set[tuple]) -> bool:
        """Begin to load a model as soon as memory allows; False while others must end first.

        Raises Refusal when it cannot fit even alone.
        """
        if self.loading is not None or not self._make_room(folder, wanted):
            return False
        self.loading = Loading(folder)
        self._thread = threading.Thread(target=self._load, args=(self.loading,), name="loading", daemon=True)
        self._thread.start()
        return True

    def _make_room(self, folder: ModelFolder, wanted: set[tuple]) -> bool:
        """Count the memory before it is taken; idle models go until there is enough, and none goes in vain."""
        needed, free, idle = loading_bytes(folder, self.precision) + SPARE, free_bytes(self.device), self.idle(wanted)
        if needed > free + sum(map(size_of, self.all.values())):
            raise Refusal(
                "The model {model} needs {needed:.1f} GB of memory and {free:.1f} GB are free.",
                "model",
                model=folder.name,
                needed=needed / 1e9,
                free=free / 1e9,
            )
        if needed > free + sum(map(size_of, idle)):
            return False
        for loaded in idle:
            if needed <= free_bytes(self.device):
                break
            log.info("%s makes room for %s", loaded.folder.name, folder.name)
            self.drop(loaded)
        return True

    def drop(self, loaded: LoadedModel) -> None:
        """Let go of a model and of its memory."""
        del self.all[loaded.folder.identity]
        loaded.model = loaded.batch = None  # whoever still holds `loaded` holds no memory
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Wait for what is being loaded: a process that ends in the midst of it ends with an abort."""
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _load(self, loading: Loading) -> None:
        try:
            with torch.inference_mode():
                loading.loaded = self.load(loading.folder)
        except BaseException as error:  # a panic in a library's Rust code is no Exception, and this thread ends anyhow
            if not isinstance(error, Refusal):
                log.exception("%s could not be loaded", loading.folder.name)
            loading.problem = problem_of(error)
        loading.done = True
        self._on_change()

    def load(self, folder: ModelFolder) -> LoadedModel:
        """Read a model, choose its precision, and try one step of it; raises Refusal when it cannot be used."""
        fingerprint = folder.fingerprint()

        def load(precision: str) -> GPT2:
            return load_model(folder, self.device, precision)

        model = choose_precision(folder, self.device, load) if self.precision == "auto" else load(self.precision)
        batch = self._new_batch(model, folder)
        if model.precision == "int8" and self._threads:
            model.use_threads(self._threads)
        elif model.precision == "int8":
            choose_threads(model)
        warm_up(model, batch.cache)
        taken = model_bytes(model.config, model.precision) / 1e6
        log.info("%s (%s…) is loaded: %s, %.0f MB", folder.name, fingerprint[:12], model.precision, taken)
        return LoadedModel(folder, fingerprint, model, batch)

    def collect(self) -> Loading | None:
        """The loading that has ended since the last call, if any; its model is in `all` then."""
        loading = self.loading
        if loading is None or not loading.done:
            return None
        self.loading = None
        if loading.loaded is not None:
            self.all[loading.folder.identity] = loading.loaded
            self.device_failed = False
        return loading

    # When a batch fails as a whole

    def attempt(self, loaded: LoadedModel, work: Callable[[], None]) -> None:
        """Do some work of a model's batch; a failure is seen to, and never raised."""
        try:
            work()
            loaded.restarts = 0
        except Exception as error:
            log.exception("%s failed as a whole", loaded.folder.name)
            self._recover(loaded, error)

    def _recover(self, loaded: LoadedModel, error: Exception) -> None:
        """Let the runs go on where that may help; else they end, and the model is given up."""
        loaded.restarts += 1
        try:
            if not worth_restarting(error, loaded.restarts):
                raise error
            self.reload(loaded)
        except Exception as reason:
            loaded.batch.abandon(reason)
            self.drop(loaded)
            self.device_failed = self.device_failed or poisoned(reason)

    def reload(self, loaded: LoadedModel) -> None:
        """Read the weights of a model anew after its device failed, and let its runs go on where they were."""
        fresh = self.load(loaded.folder)
        fresh.batch.take_over(loaded.batch)
        loaded.model, loaded.batch = fresh.model, fresh.batch
