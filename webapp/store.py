"""Between logs and the database."""

import hashlib
import zlib
from functools import lru_cache

import numpy as np
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from generate import ModelFolder, RunLog, SampleLog, Vocabulary, record_dtype
from webapp.database import Block, Run, Sample, StoredVocabulary, db


def pack_vocabulary(vocabulary: Vocabulary) -> bytes:
    """All tokens, each as its length (uint16, little-endian; 65535 marks a special token) and its bytes."""
    parts = []
    for index, token in enumerate(vocabulary.tokens):
        special = index in vocabulary.special
        parts += [(65535 if special else len(token)).to_bytes(2, "little"), b"" if special else token]
    return b"".join(parts)


def unpack_vocabulary(data: bytes) -> Vocabulary:
    tokens, special, place = [], [], 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 2], "little")
        if size == 65535:
            special.append(len(tokens))
            size = 0
        tokens.append(data[place + 2 : place + 2 + size])
        place += 2 + size
    return Vocabulary(tokens, special)


@lru_cache(maxsize=16)
def vocabulary_id(vocabulary: Vocabulary) -> str:
    return hashlib.sha256(pack_vocabulary(vocabulary)).hexdigest()


def keep_vocabulary(folder: ModelFolder) -> str:
    """Store the folder's vocabulary unless it is there already; return its id. Commits."""
    vocabulary = folder.tokenizer.vocabulary
    name = vocabulary_id(vocabulary)
    if db.session.get(StoredVocabulary, name) is None:
        db.session.add(StoredVocabulary(id=name, tokens=zlib.compress(pack_vocabulary(vocabulary))))
        try:
            db.session.commit()
        except IntegrityError:  # another visitor's first run was quicker
            db.session.rollback()
    return name


@lru_cache(maxsize=16)
def find_vocabulary(name: str) -> Vocabulary:
    return unpack_vocabulary(zlib.decompress(db.session.get(StoredVocabulary, name).tokens))


def stored_log(run: Run) -> RunLog:
    """The log of a run that is over, read from the database."""
    dtype = record_dtype(run.vocab_size)
    prompt = np.frombuffer(run.prompt, dtype)
    log = RunLog(prompt["id"], len(run.samples), run.vocab_size)
    log.prompt, log.precision, log.device = prompt, run.precision, run.device
    query = select(Block).where(Block.run_id == run.id).order_by(Block.number, Block.start)
    pieces: dict[int, list[bytes]] = {sample.number: [] for sample in run.samples}
    for block in db.session.scalars(query):
        pieces[block.number].append(block.tokens)
    log.samples = [SampleLog(dtype, b"".join(pieces[sample.number])) for sample in run.samples]
    for kept, sample in zip(run.samples, log.samples, strict=True):
        log.finish(sample, kept.finish_reason or "error", kept.text_end or 0, kept.error)
    return log


def save_progress(run_id: str, log: RunLog, saved: list[int]) -> bool:
    """Write what is new in `log` since `saved` (tokens kept of each sample, brought up to date); True when it is done."""
    with log.changed:
        done = log.done
        news = [
            (sample.read(saved[n]), sample.finish_reason, sample.text_end, sample.error)
            for n, sample in enumerate(log.samples)
        ]
    run = db.session.get(Run, run_id)
    for number, (records, reason, text_end, error) in enumerate(news):
        if len(records):
            db.session.add(Block(run_id=run_id, number=number, start=saved[number], tokens=records.tobytes()))
        if reason:
            kept = run.samples[number]
            kept.finish_reason, kept.text_end, kept.error = reason, text_end, error
    run.precision, run.device = log.precision, log.device
    run.fingerprint = log.fingerprint or run.fingerprint
    if not any(saved):  # what the model thought of the prompt is complete once the first token is there
        run.prompt = log.prompt.tobytes()
    if done:
        run.state = "done"
    db.session.commit()
    for number, (records, *_) in enumerate(news):
        saved[number] += len(records)
    return done


def close_interrupted_runs() -> None:
    """Runs that a server left unfinished when it ended: keep what was written, and say why they stop there."""
    for run in db.session.scalars(select(Run).where(Run.state == "writing")):
        log = stored_log(run)
        vocabulary = find_vocabulary(run.vocabulary_id)
        for kept, sample in zip(run.samples, log.samples, strict=True):
            if kept.finish_reason is None:
                kept.finish_reason, kept.error = "error", "The server was stopped while this was being written."
                kept.text_end = len(vocabulary.bytes_of(sample.read()["id"]))
        run.state = "done"
    db.session.commit()


def new_run(**fields) -> Run:
    """Add a run with its empty samples to the session and commit."""
    run = Run(**fields)
    run.samples = [Sample(number=number) for number in range(run.options["samples"])]
    db.session.add(run)
    db.session.commit()
    return run
