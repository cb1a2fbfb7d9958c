"""What visitors find wrong with a run or a sheet: said to the operator, who decides. Nothing is hidden by it."""

from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import and_, delete, func, not_, or_, select

from generate import N_, Refusal
from webapp.moderation.tables import Kind, Report
from webapp.runs.lease import CHANGE
from webapp.runs.moments import now
from webapp.runs.tables import Run, db
from webapp.sheets.tables import Sheet

REASONS = {
    "hurts": N_("It threatens or insults somebody"),
    "private": N_("It tells something private about somebody"),
    "illegal": N_("It is against the law"),
    "spam": N_("It is advertising, or put here to mislead"),
    "other": N_("Something else"),
}
MOST_WORDS = 500  # characters
A_DAY = 5  # reports of one visitor
FROM_ONE_ADDRESS = "10 per hour"
KEPT = timedelta(days=90)  # that a report waits for the operator at the most


class Enough(Refusal):
    """A visitor has said enough for today. `status` is what HTTP calls it."""

    status = 429


def report(kind: Kind, name: str, reporter: str, reason: str, words: str) -> None:
    """Store what a visitor says, in the place of what they said of the same thing before; commits. Raises Refusal, and Enough
    for one who has said enough for today."""
    if reason not in REASONS:
        raise Refusal("reason must be one of those on the page, not {given!r}.", "reason", given=reason[:40])
    words = words.strip().replace("\0", "")  # PostgreSQL's text holds no NUL
    if len(words) > MOST_WORDS:
        raise Refusal(
            "words may have at most {limit} characters, not {size:,}.", "words", limit=MOST_WORDS, size=len(words)
        )
    today = (Report.reporter == reporter) & (Report.created > now() - timedelta(days=1))
    others = not_(and_(Report.kind == kind, Report.name == name))
    if db.session.scalar(select(func.count()).where(today, others)) >= A_DAY:
        raise Enough("You have reported {most} things within a day; the operator looks at those first.", most=A_DAY)
    db.session.merge(Report(kind=kind, name=name, reporter=reporter, reason=reason, words=words, created=now()))
    db.session.commit()


def count_reported() -> int:
    """How many things were reported that the operator has not put aside."""
    things = select(Report.kind, Report.name).distinct().subquery()
    return db.session.scalar(select(func.count()).select_from(things))


def put_aside(reports: Iterable[Report]) -> None:
    """Forget what was said; commits."""
    for one in reports:
        db.session.delete(one)
    db.session.commit()


def forget_reports() -> bool:
    """Forget what waited too long, and what was said of things that are gone; whether there was any. Commits."""
    runs, sheets = select(Run.id).where(Run.id == Report.name), select(Sheet.id).where(Sheet.id == Report.name)
    lost = or_(
        and_(Report.kind == Kind.RUN, ~runs.correlate(Report).exists()),
        and_(Report.kind == Kind.SHEET, ~sheets.correlate(Report).exists()),
    )
    old = Report.created < now() - KEPT
    found = db.session.execute(delete(Report).where(or_(lost, old)), execution_options=CHANGE).rowcount
    db.session.commit()
    return bool(found)
