"""Looks at the server every few seconds, so that who asks how it is waits for no disk and no database."""

import time
from collections.abc import Callable

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from webapp.runs.tables import db
from webapp.watch.disk import Disk
from webapp.watch.gauges import Gauges
from webapp.watch.history import History, Moment
from webapp.watch.numbers import Numbers, Stored

PAGES = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
SIZE = {"sqlite": PAGES, "postgresql": "SELECT pg_database_size(current_database())"}


class Watcher:
    """`jobs` counts the jobs by their state; it needs an app context, as `look` does."""

    def __init__(self, gauges: Gauges, disk: Disk, jobs: Callable[[], dict[str, int]]):
        self._gauges, self.disk, self._jobs = gauges, disk, jobs
        self.history = History()

    def now(self) -> Numbers:
        """The numbers at this moment, with what was last found in the database."""
        return self._gauges.read()

    def look(self) -> None:
        """Look at disk and database, and remember how it was."""
        self.disk.look()
        try:
            self._gauges.stored = Stored(time.monotonic(), True, size_of_database(), self._jobs())
        except SQLAlchemyError:
            self._gauges.stored = Stored()
            raise
        finally:
            db.session.rollback()
            self.history.add(Moment.of(self.now(), time.monotonic()))


def size_of_database() -> int | None:
    """In bytes; None of a kind that does not tell."""
    question = SIZE.get(db.engine.dialect.name)
    return None if question is None else int(db.session.scalar(text(question)))
