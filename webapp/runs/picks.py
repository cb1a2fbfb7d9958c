"""One sample of several as a run of its own."""

import secrets

from sqlalchemy import select, update

from generate import RunLog, Vocabulary
from webapp.runs.derivation import Beginning
from webapp.runs.kinds import Relation
from webapp.runs.lease import CHANGE
from webapp.runs.repository import find_run, unknown_run
from webapp.runs.tables import Run, db
from webapp.runs.written import add_written, stretch_of

KEPT = ("model", "typed", "vocabulary_id", "vocab_size", "n_positions")  # columns that are the parent's


def pick(parent: Run, log: RunLog, vocabulary: Vocabulary, number: int, owner: str) -> str:
    """Give a finished sample a run of its own; returns its id, the same each time the same visitor asks."""
    lock(parent.id)
    found = find_pick(parent.id, number, owner) or make_pick(parent, log, vocabulary, number, owner)
    db.session.commit()
    return found


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
    return db.session.scalar(select(Run.id).where(mine, Run.relation == Relation.PICK).order_by(Run.created).limit(1))


def make_pick(parent: Run, log: RunLog, vocabulary: Vocabulary, number: int, owner: str) -> str:
    """Add a run that is one sample of another, as if it had been asked for alone; return its id. Does not commit.

    Its number in the noise is the sample's, so that it can be continued and replayed.
    """
    first = parent.first_sample + number
    beginning = Beginning(log.prompt, tuple(parent.authors), Relation.PICK, parent, number, first)
    run = add_written(
        log,
        stretch_of(log, number, vocabulary),
        id=secrets.token_urlsafe(12),
        owner=owner,
        fingerprint=parent.fingerprint,
        options=parent.options | {"samples": 1},
        **beginning.columns() | {name: getattr(parent, name) for name in KEPT},
    )
    return run.id
