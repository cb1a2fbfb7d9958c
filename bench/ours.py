"""Our engine as a contender: the engine's `Batch` driven by the main thread, with no engine thread and no server.

Two things are measured in a turn. A whole request goes from `admit` to the last token. Decode alone is the median step
of a batch whose prompts are all read, on rows that are then cancelled. Every row has options and noise of its own, and
every token comes with its log-probability, rank, entropy and ten alternatives, which no peer reports; what these cost
is seen beside `bare`, the same without them.

The bound of a decode step is that of floor.py: its matrix products alone.
"""

import time
from pathlib import Path

import torch

from bench.measure import Timing, median, require_units
from bench.shapes import SAMPLING
from generate import ModelFolder, Request, RunLog, Sampling, check_folder, parse_sampling
from generate.scheduling.batch import Batch
from generate.transformer.cpu import keep_freed_memory
from generate.transformer.model import load_model

PRECISIONS = ("float32", "bfloat16", "int8")
LONG = 400  # tokens that a row may write while decoding is timed: more than there are steps, within every window
MAX_ROWS = 32


class Ours:
    """One precision of the engine."""

    def __init__(self, precision: str, threads: int = 1, device: str = "cpu"):
        if device == "cpu":
            require_units(precision)
        torch.set_num_threads(1 if precision == "int8" else threads)
        keep_freed_memory()  # as the engine's thread does
        self.precision, self.threads, self.device = precision, threads, torch.device(device)

    @torch.inference_mode()
    def load(self, path: Path) -> None:
        self.folder = check_folder(path)
        self.batch = None  # the model before makes room first
        model = load_model(self.folder, self.device, self.precision)
        model.use_threads(self.threads)
        self.batch = Batch(model, self.folder, MAX_ROWS)

    def beside(self) -> Batch:
        """Another batch of the same model, as large as the first."""
        return Batch(self.batch.model, self.folder, MAX_ROWS)

    def turn(self, prompts: list[list[int]], new: int) -> Timing:
        """Whole requests for `prompts`, then as many decode steps as they took, alone.

        Where only reading is timed (one new token), the prompt's statistics are left out: the peers' have none.
        """
        return self.timed(prompts, new, statistics=new > 1)

    def bare(self, prompts: list[list[int]], new: int) -> Timing:
        """The same once more, of rows that report their ids and nothing else, as the peers' do."""
        return self.timed(prompts, new, statistics=False)

    @torch.inference_mode()
    def timed(self, prompts: list[list[int]], new: int, statistics: bool) -> Timing:
        """What a turn takes."""
        begun, seen = time.perf_counter(), []
        runs = admit(self.batch, self.folder, prompts, usual(len(prompts), new), statistics)
        while self.batch.busy:
            self.batch.step()
            if len(seen) < len(runs):
                started = sum(len(run.samples[0]) > 0 for run in runs)
                seen += [time.perf_counter() - begun] * (started - len(seen))
        whole = time.perf_counter() - begun
        check(runs, new)
        step = median(self.decode(prompts, new - 1, statistics)) if new > 1 else 0
        return Timing(sum(seen) / len(seen), whole, step)

    def decode(self, prompts: list[list[int]], steps: int, statistics: bool) -> list[float]:
        """Seconds of each of `steps` steps of a batch with a row for every prompt."""
        runs = admit(self.batch, self.folder, prompts, usual(len(prompts), LONG), statistics)
        read_all(self.batch, len(prompts))
        times = [timed_step(self.batch) for _ in range(steps)]
        cancel(self.batch, runs)
        return times


def usual(count: int, new: int) -> list[Sampling]:
    """What every contender is asked for; each row with a seed of its own."""
    return [parse_sampling(SAMPLING | {"max_new_tokens": new, "seed": seed}) for seed in range(count)]


def admit(
    batch: Batch, folder: ModelFolder, prompts: list[list[int]], samplings: list[Sampling], statistics: bool = True
) -> list[RunLog]:
    """Let a run of its own into the batch for every prompt."""
    runs = []
    for ids, sampling in zip(prompts, samplings, strict=True):
        request = Request(folder, sampling, statistics=statistics)
        runs.append(request.new_log(ids))
        batch.admit(request, runs[-1])
    return runs


def read_all(batch: Batch, rows: int) -> None:
    """Step until all prompts are read and judged, and so many rows are being written."""
    while batch.prefills or batch.judging.tokens or len(batch.sequences) < rows:
        batch.step()


def timed_step(batch: Batch) -> float:
    """The seconds that a step takes."""
    begun = time.perf_counter()
    batch.step()
    return time.perf_counter() - begun


def cancel(batch: Batch, runs: list[RunLog]) -> None:
    """End the runs, and step until they are out of the batch; one that failed is an error here."""
    for run in runs:
        batch.cancel(run)
    while batch.busy:
        batch.step()
    check(runs)


def check(runs: list[RunLog], new: int | None = None) -> None:
    """A run that failed or ended early would make a good time out of bad work."""
    for run in runs:
        sample = run.samples[0]
        if sample.error or (new and len(sample) != new):
            raise RuntimeError(sample.error or f"{len(sample)} tokens instead of {new}")
