"""Runs by their owner and by their words."""

from sqlalchemy import Select, select, update

from webapp.runs.lease import CHANGE
from webapp.runs.repository import Vocabularies, stored_log
from webapp.runs.tables import Run, db
from webapp.runs.transcript import Transcript

INDEXED = 20  # runs made searchable in one round
SEAM = 1000  # characters of the prompt that are found together with those of a second sample, or a later one
APART = "\n\x1e\n"  # nobody searches for a record separator


def index_words(vocabularies: Vocabularies) -> None:
    """Make runs searchable: keep the text of some that have none yet, or that have ended since."""
    for run_id in db.session.scalars(select(Run.id).where(Run.words.is_(None)).limit(INDEXED)).all():
        run = db.session.get(Run, run_id)
        if run is None:
            continue
        said, state = Transcript(stored_log(run), vocabularies.find(run.vocabulary_id)), run.state
        words = APART.join(texts_of(said, run.typed)).lower().replace("\0", "")  # PostgreSQL's text holds no NUL
        as_it_was = (Run.id == run_id) & (Run.state == state)
        db.session.execute(update(Run).where(as_it_was).values(words=words), execution_options=CHANGE)
        db.session.commit()  # one by one: nobody waits for another's lock


def texts_of(said: Transcript, typed: str | None) -> list[str]:
    """Each sample with the prompt before it, as it was typed if that is stored, whose end alone is enough for all but the first."""
    prompt = said.prompt_text if typed is None else typed
    texts = [said.text(number) for number in range(len(said.log.samples))]
    return [prompt + texts[0], *(prompt[-SEAM:] + text for text in texts[1:])]


def runs_of(owner: str | None, words: str = "") -> Select:
    """The runs of an owner that are not hidden, those that hold all of some words in a row."""
    found = select(Run).where(Run.owner == owner if owner else Run.id.is_(None), Run.hidden.is_(None))
    return found.where(Run.words.contains(words.lower(), autoescape=True)) if words else found
