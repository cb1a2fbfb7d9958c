"""A sheet's versions: the runs that were written in it, the newest first."""

from collections.abc import Sequence

from sqlalchemy import Row, func, select

from webapp.runs.tables import Run, db
from webapp.sheets.sources import Found, Sources
from webapp.sheets.spans import Written
from webapp.sheets.tables import Sheet

SHOWN = 50  # at once
WORDS = 8  # of each that are shown


def versions_of(sheet: Sheet, sources: Sources, first: int = 0) -> list[dict]:
    """Some versions of a sheet from number `first` on, each with the first words that were written."""
    rows = versions(sheet, SHOWN, first)
    found = sources.read(tuple(Written(row.id, 0, 0, None) for row in rows))
    return [{"run": r.id, "words": first_words(found, r.id), "when": f"{r.created.isoformat()}Z"} for r in rows]


def versions(sheet: Sheet, most: int | None = None, first: int = 0) -> Sequence[Row]:
    """The runs of a sheet, each with its `id` and when it was `created`; the newest first, and all unless `most` are wanted."""
    columns = select(Run.id, Run.created).where(Run.sheet_id == sheet.id, Run.hidden.is_(None))
    return db.session.execute(columns.order_by(Run.created.desc(), Run.id).limit(most).offset(first or None)).all()


def count_versions(sheet: Sheet) -> int:
    """How many there are."""
    return db.session.scalar(
        select(func.count()).select_from(Run).where(Run.sheet_id == sheet.id, Run.hidden.is_(None))
    )


def first_words(found: Found, run: str) -> str:
    """What a run wrote first."""
    tokens = found(run, 0).tokens[: WORDS * 4]
    return " ".join(b"".join(tokens).decode("utf-8", "ignore").split()[:WORDS])
