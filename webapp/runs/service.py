"""What can be done with runs: start one, follow it with another, let another model read it, keep a sample by itself."""

import secrets
from collections.abc import Iterable

import numpy as np
from flask import current_app
from sqlalchemy import select, update
from sqlalchemy.orm.exc import ObjectDeletedError

from generate import (
    Listed,
    ModelFolder,
    Refusal,
    Request,
    RunLog,
    Sampling,
    Vocabulary,
    find_model,
    list_models,
    parse_sampling,
    unknown_records,
)
from webapp.runs.derivation import Beginning
from webapp.runs.lease import CHANGE, LEASE
from webapp.runs.repository import find_run, keep_vocabulary, new_run, removed_run, same_vocabulary, unknown_run
from webapp.runs.scheduler import live
from webapp.runs.tables import Block, Run, Sample, db

READ_ONLY = parse_sampling({"max_new_tokens": 0, "seed": 0})


def models() -> list[Listed]:
    return list_models(current_app.config["MODELS"])


def require_engine():
    engine = live().engine
    if engine is None:
        raise Refusal("This server has no engine, so it cannot start a run.")
    return engine


def log_of(run: Run) -> RunLog:
    """A run's log, live or stored; raises RemovedRun when it was deleted a moment ago."""
    try:
        return live().find(run)
    except ObjectDeletedError:
        raise removed_run("deleted") from None


def start(folder: ModelFolder, beginning: Beginning, sampling: Sampling, owner: str) -> str:
    """Put a run in line and store it; returns its id."""
    engine = require_engine()
    fingerprint, vocabulary = folder.fingerprint(), keep_vocabulary(folder)
    run_id = secrets.token_urlsafe(12)
    records = beginning.records
    if beginning.parent and beginning.parent.fingerprint != fingerprint:  # what others thought of them is not its own
        records = unknown_records(beginning.ids, folder.config.vocab_size)
    log = RunLog(beginning.ids, sampling.samples, folder.config.vocab_size)
    log.prompt = records.copy()  # the engine writes into it
    engine.submit(Request(folder, beginning.ids, sampling, beginning.first_sample, owner), log)
    try:
        new_run(
            id=run_id,
            owner=owner,
            model=folder.name,
            fingerprint=fingerprint,
            vocabulary_id=vocabulary,
            vocab_size=folder.config.vocab_size,
            n_positions=folder.config.n_positions,
            options=sampling.as_dict(),
            prompt=records.tobytes(),
            authors=list(beginning.authors),
            first_sample=beginning.first_sample,
            relation=beginning.relation,
            parent_id=beginning.parent.id if beginning.parent else None,
            parent_sample=beginning.parent_sample,
            holder=live().server,
            lease_until=live().clock.now() + LEASE,
        )
    except Exception:
        engine.cancel(log)
        raise
    live().registry.add(run_id, log)
    return run_id


def check_size(ids: Iterable[int], vocabulary: Vocabulary, purpose: str, field: str | None = None) -> None:
    """Refuse a text of tokens that is longer than a prompt may be, lest runs grow from runs without end."""
    size, limit = len(vocabulary.bytes_of(ids)), live().settings["RUBRIC_MAX_PROMPT"]
    if size > limit:
        raise Refusal(f"The text has {size:,} bytes and cannot {purpose}; the limit is {limit:,}.", field)


def model_of(run: Run) -> ModelFolder:
    """The model a run was written by; its tokens must still mean the same."""
    folder = find_model(current_app.config["MODELS"], run.model)
    if not same_vocabulary(run, folder):
        raise Refusal(
            f"The model {run.model} has other tokens now than when this was written; edit the text to go on with it."
        )
    return folder


def to_write(run: Run) -> dict:
    """What to change in a run's options to write on from it: one that was only read gets the usual length."""
    return {} if run.options["max_new_tokens"] else {"max_new_tokens": None}


def sampling_of(run: Run, **changes) -> Sampling:
    return parse_sampling(run.options | changes)


def comparable(run: Run) -> list[str]:
    """Names of the other models here that have the run's vocabulary."""
    return [m.name for m in models() if m.folder and m.name != run.model and same_vocabulary(run, m.folder)]


def unread(vocabulary: Vocabulary, ids: np.ndarray, authors: tuple[int, ...], run: Run) -> Beginning:
    """A text to be read by another model."""
    check_size(ids.tolist(), vocabulary, "be read by another model")
    return Beginning(unknown_records(ids, run.vocab_size), authors, "score", run, 0)


def kept_score(run: Run, folder: ModelFolder) -> str | None:
    """The id of the run in which these weights read this text, or are reading it."""
    same = (Run.parent_id == run.id) & (Run.relation == "score") & (Run.fingerprint == folder.fingerprint())
    for found in db.session.scalars(select(Run).where(same).order_by(Run.created.desc())):
        log = log_of(found)
        if not log.done or log.samples[0].finish_reason == "length":
            return found.id
    return None


def lock(run_id: str) -> None:
    """Lock a run's row until the transaction ends, so that two clicks at once make one page; refuses if it is gone."""
    held = update(Run).where(Run.id == run_id).values(parent_id=Run.parent_id)
    if db.session.execute(held, execution_options=CHANGE).rowcount == 0:
        db.session.rollback()
        find_run(run_id)
        raise unknown_run()


def find_pick(parent_id: str, number: int, owner: str) -> str | None:
    """The visitor's page of a sample, if there is one."""
    mine = (Run.parent_id == parent_id) & (Run.parent_sample == number) & (Run.owner == owner)
    return db.session.scalar(select(Run.id).where(mine, Run.relation == "pick").order_by(Run.created).limit(1))


def make_pick(parent: Run, log: RunLog, number: int, owner: str) -> str:
    """Add a run that is one sample of another, as if it had been asked for alone; return its id. Does not commit.

    Its number in the noise is the sample's, so that it can be continued and replayed.
    """
    run = Run(
        id=secrets.token_urlsafe(12),
        owner=owner,
        state="done",
        model=parent.model,
        fingerprint=log.fingerprint or parent.fingerprint,
        vocabulary_id=parent.vocabulary_id,
        vocab_size=parent.vocab_size,
        n_positions=parent.n_positions,
        precision=log.precision,
        device=log.device,
        options=parent.options | {"samples": 1},
        prompt=log.prompt.tobytes(),
        authors=list(parent.authors),
        first_sample=parent.first_sample + number,
        relation="pick",
        parent_id=parent.id,
        parent_sample=number,
        progress={"restarts": log.restarts} if log.restarts else {},
    )
    sample, records = log.samples[number], log.samples[number].read()
    ending = {"finish_reason": sample.finish_reason, "text_end": sample.text_end, "error": sample.error}
    run.samples = [Sample(number=0, **ending)]
    db.session.add(run)
    db.session.flush()
    if len(records):
        db.session.add(Block(run_id=run.id, number=0, start=0, tokens=records.tobytes(), released=len(records)))
    return run.id
