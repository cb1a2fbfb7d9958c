"""Runs and vocabularies in the database: how they are found, kept, and read as logs."""

import hashlib
import logging
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from generate import ModelFolder, Problem, Refusal, RunLog, RunState, Vocabulary, Withdrawal, record_dtype
from webapp.runs.full import DiskFull
from webapp.runs.kinds import GoneReason, Relation
from webapp.runs.lease import CHANGE
from webapp.runs.tables import Block, Gone, Progress, Run, Sample, StoredVocabulary, db

log = logging.getLogger(__name__)


class UnknownRun(Refusal):
    """There never was such a run. `status` is what HTTP calls it."""

    status = 404


class RemovedRun(Refusal):
    """There was such a run, and it was deleted or hidden, or its time was over. `status` is what HTTP calls it."""

    status = 410


def unknown_run() -> UnknownRun:
    """The refusal for an address at which no run ever was."""
    return UnknownRun("There is no such run here. Perhaps the link lost a letter on its way.")


def removed_run(reason: str = GoneReason.DELETED) -> RemovedRun:
    """The refusal for a run that is gone; `reason` is a `GoneReason`."""
    if reason == GoneReason.TAKEN_DOWN:
        return RemovedRun("This run is gone: whoever runs this server has taken it down.")
    return RemovedRun(
        "This run is gone: the person who started it has deleted it."
        if reason == GoneReason.DELETED
        else "This run is gone: this server keeps runs for a while only, and its time was over."
    )


def pack_vocabulary(vocabulary: Vocabulary) -> bytes:
    """All tokens, each as its length (uint16, little-endian; 65535 marks a special token) and its bytes."""
    parts = []
    for index, token in enumerate(vocabulary.tokens):
        special = index in vocabulary.special
        parts += [(65535 if special else len(token)).to_bytes(2, "little"), b"" if special else token]
    return b"".join(parts)


def unpack_vocabulary(data: bytes) -> Vocabulary:
    """What `pack_vocabulary` packed."""
    tokens, special, place = [], [], 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 2], "little")
        if size == 65535:
            special.append(len(tokens))
            size = 0
        tokens.append(data[place + 2 : place + 2 + size])
        place += 2 + size
    return Vocabulary(tokens, special)


def vocabulary_id(vocabulary: Vocabulary) -> str:
    """The sha256 of what is stored of a vocabulary, before it is compressed."""
    return hashlib.sha256(pack_vocabulary(vocabulary)).hexdigest()


def stored_vocabulary(name: str) -> Vocabulary:
    """A vocabulary as the database has it, by its id."""
    return unpack_vocabulary(zlib.decompress(db.session.get(StoredVocabulary, name).tokens))


class Vocabularies:
    """The vocabularies that an app uses: the id of each is computed once, and few are kept that are read."""

    def __init__(self):
        self._ids: WeakKeyDictionary[Vocabulary, str] = WeakKeyDictionary()
        self._stored = lru_cache(16)(stored_vocabulary)

    def find(self, name: str) -> Vocabulary:
        """A stored vocabulary by its id; it is there, as a run refers to it."""
        return self._stored(name)

    def _id_of(self, vocabulary: Vocabulary) -> str:
        found = self._ids.get(vocabulary)
        if found is None:
            found = self._ids[vocabulary] = vocabulary_id(vocabulary)
        return found

    def same(self, run: Run, folder: ModelFolder) -> bool:
        """Whether the folder's tokens mean what they meant when the run was written."""
        return self._id_of(folder.tokenizer.vocabulary) == run.vocabulary_id

    def keep(self, folder: ModelFolder) -> str:
        """Store the folder's vocabulary unless it is there already; return its id. Commits."""
        vocabulary = folder.tokenizer.vocabulary
        name = self._id_of(vocabulary)
        if db.session.get(StoredVocabulary, name) is None:
            db.session.add(StoredVocabulary(id=name, tokens=zlib.compress(pack_vocabulary(vocabulary))))
            try:
                db.session.commit()
            except IntegrityError:  # another visitor's first run was quicker
                db.session.rollback()
        return name


def unpack(tokens: bytes, vocab_size: int) -> np.ndarray:
    """The records of packed tokens, which cannot be written to; `generate.record_dtype` says what they hold."""
    return np.frombuffer(tokens, record_dtype(vocab_size))


def by_place(stored: dict[str, list[int]] | None) -> dict[int, tuple[int, ...]]:
    """What was blocked at which places, as JSON has it."""
    return {int(place): tuple(ids) for place, ids in (stored or {}).items()}


def stored_log(run: Run) -> RunLog:
    """The log of a run as the database has it. One that has not ended is `paused`: somebody may go on with it."""
    log = RunLog(unpack(run.prompt, run.vocab_size), len(run.samples), by_place(run.blocked))
    log.precision, log.device, log.fingerprint = run.precision, run.device, run.fingerprint
    query = select(Block).where(Block.run_id == run.id).order_by(Block.number, Block.start)
    pieces: dict[int, list[Block]] = {sample.number: [] for sample in run.samples}
    for block in db.session.scalars(query):
        pieces[block.number].append(block)
    for kept, sample in zip(run.samples, log.samples, strict=True):
        for block in pieces[kept.number]:
            sample.append(unpack(block.tokens, run.vocab_size), block.released)
            sample.blocked |= by_place(block.blocked)
        if kept.finish_reason:
            log.finish(sample, kept.finish_reason, kept.text_end, kept.problem)
    told = Progress.from_json(run.progress)
    log.restarts = told.restarts
    if told.prompt_known:
        log.close_prompt()
    if not log.done:
        log.set_state(RunState.PAUSED)
    return log


def new_run(**fields) -> Run:
    """Add a run with its empty samples to the session and commit."""
    run = add_run(**fields)
    db.session.commit()
    return run


def add_run(**fields) -> Run:
    """Add a run with its empty samples to the session. Does not commit."""
    run = Run(**fields)
    run.samples = [Sample(number=number) for number in range(run.options["samples"])]
    db.session.add(run)
    return run


def any_run(run_id: str) -> Run | None:
    """The stored run, hidden or not, or None."""
    return db.session.get(Run, run_id) if is_name(run_id) else None


def get_run(run_id: str) -> Run | None:
    """The stored run, or None; None also for one that is hidden."""
    run = any_run(run_id)
    return None if run is None or run.hidden else run


def why_gone(run_id: str) -> str | None:
    """Why a run is gone that was here once, a `GoneReason`; None where none was."""
    run = any_run(run_id)
    if run is not None:
        return GoneReason.TAKEN_DOWN if run.hidden else None
    gone = db.session.get(Gone, run_id) if is_name(run_id) else None
    return gone.reason if gone else None


def withdrawal_for(reason: str) -> Withdrawal:
    """What readers of a run are told that is gone for a reason, a `GoneReason`."""
    return Withdrawal.TAKEN_DOWN if reason == GoneReason.TAKEN_DOWN else Withdrawal.DELETED


def withdrawn(ids: Iterable[str]) -> dict[str, Withdrawal]:
    """Those of some runs that are gone or hidden, each with what its readers are told."""
    ids = list(ids)
    if not ids:
        return {}
    gone = db.session.execute(select(Gone.id, Gone.reason).where(Gone.id.in_(ids)))
    found = {name: withdrawal_for(reason) for name, reason in gone}
    hidden = db.session.scalars(select(Run.id).where(Run.id.in_(ids), Run.hidden.is_not(None)))
    return found | dict.fromkeys(hidden, Withdrawal.TAKEN_DOWN)


def is_name(run_id: str) -> bool:
    """Whether this may be a run's id; a database may refuse to look for other text."""
    return len(run_id) <= 24 and "\0" not in run_id


def find_run(run_id: str) -> Run:
    """The stored run; raises UnknownRun, or RemovedRun when it was there once, or is hidden."""
    run = get_run(run_id)
    if run is None:
        reason = why_gone(run_id)
        raise removed_run(reason) if reason else unknown_run()
    return run


def find_related(run_id: str, parent_id: str, relation: Relation) -> Run:
    """A run that came from another in this way; raises UnknownRun or RemovedRun when there is none."""
    run = find_run(run_id)
    if (run.parent_id, run.relation) != (parent_id, relation):
        raise unknown_run()
    return run


def end_sample(run_id: str, number: int, reason: str, text_end: int, error: Problem | None) -> None:
    """Store how a sample ended, unless it had ended before. `text_end` counts bytes. Does not commit."""
    which = (Sample.run_id == run_id) & (Sample.number == number) & Sample.finish_reason.is_(None)
    change = update(Sample).where(which).values(finish_reason=reason, text_end=text_end, **Sample.told(error))
    db.session.execute(change, execution_options=CHANGE)


def each_alone(ids: Iterable[str], work: Callable[[str], None], sentence: str) -> None:
    """Do some work for each of many runs, so that one which fails holds up no other.

    A failure undoes that run's transaction and is logged with `sentence`, in which %s stands for the run's id. Raises
    DiskFull, which it is for all of them.
    """
    for run_id in ids:
        try:
            work(run_id)
        except DiskFull:
            db.session.rollback()
            raise
        except Exception:
            db.session.rollback()
            log.exception(sentence, run_id)
