"""For tests that look at what an engine does between two steps: one of their own, watched, and bounded waits."""

import time
from collections import Counter
from contextlib import contextmanager

from conftest import DEVICE, Writer, started
from waiting import until

from generate import LocalEngine, Outlook


@contextmanager
def running(models, model="tiny", **options):
    """A writer over an engine of one's own, float32 unless told otherwise; int8 is on the CPU alone."""
    device = "cpu" if options.get("precision") == "int8" else DEVICE
    engine = LocalEngine(models, **({"device": device, "precision": "float32", "threads": 1} | options)).start(model)
    try:
        yield Writer(started(engine))
    finally:
        engine.close()


def until_written(run, count, seconds=60):
    """Wait until every sample of a run has written so many tokens."""
    deadline, version = time.time() + seconds, 0
    while any(len(sample) < count for sample in run.samples):
        assert not run.done, run.samples[0].error or run.samples[0].finish_reason
        assert time.time() < deadline, f"{[len(s) for s in run.samples]} of {count} tokens in {seconds} s"
        version = run.wait(version, 1)


def until_at_rest(writer, model="tiny") -> None:
    """Wait until nothing is in line, read, written or remembered any more."""
    batch, engine = writer.batch(model), writer.engine
    until(lambda: not batch.busy and not batch.prefills and engine.outlook == Outlook(), what="rest")


def at_once(writer):
    """Within this, runs are sent while the engine looks away: it finds all of them in line together."""
    return writer.engine._wake


def watch(batch, seen) -> None:
    """Call `seen(batch)` before each step of a batch, from the engine's thread."""
    real = batch.step

    def step():
        seen(batch)
        real()

    batch.step = step


def owners(batch) -> Counter:
    return Counter(sequence.request.owner for sequence in batch.admitted())


def ids_of(run) -> list[list[int]]:
    return [sample.read()["id"].tolist() for sample in run.samples]


def stop(writer, *runs) -> None:
    """Cancel runs and wait until they have ended."""
    for run in runs:
        writer.engine.cancel(run)
    for run in runs:
        until(lambda run=run: run.done, what="the end of a cancelled run")
