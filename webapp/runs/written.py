"""Runs that are over when they are stored: what they say was written in another run's log, one of its samples."""

from collections.abc import Mapping
from dataclasses import dataclass

from generate import FinishReason, Problem, RunLog, RunState, Vocabulary
from webapp.runs.repository import add_run
from webapp.runs.tables import Block, Run, Sample, db


@dataclass(frozen=True)
class Stretch:
    """Tokens of a sample, packed, from some place on; what was blocked at which of their places, and how they end.

    `text_end` counts bytes from the first of them.
    """

    tokens: bytes
    count: int
    blocked: Mapping[int, tuple[int, ...]]
    finish_reason: str
    text_end: int
    error: Problem | None


def stretch_of(log: RunLog, number: int, vocabulary: Vocabulary, start: int = 0) -> Stretch:
    """What sample `number` has written from its token `start` on: all of one that has ended, else all that is shown of
    it, which then ends there by hand."""
    with log.changed:
        sample = log.samples[number]
        reason, text_end, error = sample.finish_reason, sample.text_end, sample.error
        records = sample.read(0, None if reason else sample.released)
        blocked = {place - start: ids for place, ids in sample.blocked.items() if start <= place < len(records)}
    before = len(vocabulary.bytes_of(records["id"][:start].tolist()))
    if reason is None:
        reason, text_end = FinishReason.CANCELLED, len(vocabulary.bytes_of(records["id"].tolist()))
    kept = records[start:]
    return Stretch(kept.tobytes(), len(kept), blocked, reason, text_end - before, error)


def add_written(log: RunLog, stretch: Stretch, **columns: object) -> Run:
    """Add a run of one sample that says what a stretch of a log says; `columns` are what else its row says, of which
    `fingerprint` counts where the log does not know it. Does not commit."""
    run = add_run(
        **columns
        | {
            "state": RunState.DONE,
            "fingerprint": log.fingerprint or columns["fingerprint"],
            "precision": log.precision,
            "device": log.device,
            "progress": {"restarts": log.restarts} if log.restarts else {},
        }
    )
    sample = run.samples[0]
    sample.finish_reason, sample.text_end = stretch.finish_reason, stretch.text_end
    for name, value in Sample.told(stretch.error).items():
        setattr(sample, name, value)
    db.session.flush()
    if stretch.count:
        block = {"tokens": stretch.tokens, "released": stretch.count, "blocked": stretch.blocked or None}
        db.session.add(Block(run_id=run.id, number=0, start=0, **block))
    return run
