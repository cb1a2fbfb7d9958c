"""What a sheet keeps of a run that is removed: its text, in black, as nobody knows any more what the model thought."""

from sqlalchemy import delete, select

from webapp.runs.lease import CHANGE
from webapp.runs.tables import Sample, db
from webapp.sheets.sources import Found, Sources
from webapp.sheets.spans import PROMPT, Left, Spans, Written, spans_from_json, spans_to_json
from webapp.sheets.store import rewrite
from webapp.sheets.tables import Reference


def keep_text(sources: Sources, run_id: str) -> None:
    """Put a run's text in the place of all that sheets refer to of it, now or in their history. Does not commit."""
    referring = select(Reference.sheet_id).where(Reference.run_id == run_id)
    sheets = db.session.scalars(referring.order_by(Reference.sheet_id)).all()  # locked in one order by all who do this
    if not sheets:
        return
    numbers = db.session.scalars(select(Sample.number).where(Sample.run_id == run_id)).all()
    found = sources.read(tuple(Written(run_id, number, 0, None) for number in (PROMPT, *numbers)))
    for sheet_id in sheets:
        rewrite(sheet_id, lambda stored: spans_to_json(without(spans_from_json(stored), run_id, found)))
    db.session.execute(delete(Reference).where(Reference.run_id == run_id), execution_options=CHANGE)


def without(spans: Spans, run_id: str, found: Found) -> Spans:
    """The same text with what is left of one run in the place of its tokens."""
    return tuple(left_of(one, found) if isinstance(one, Written) and one.run == run_id else one for one in spans)


def left_of(span: Written, found: Found) -> Left:
    """The text of some tokens."""
    said = found(span.run, span.sample)
    data = b"".join(said.tokens[span.start : span.end])
    return Left(data.decode("utf-8", "replace") + (said.rest if span.end is None else ""))
