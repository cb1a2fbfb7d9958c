"""Who watches sheets, and what is new there: woken by this server's own changes, and by a look at the others' once in a while."""

import threading
from dataclasses import dataclass

from sqlalchemy import select

from webapp.runs.tables import db
from webapp.sheets.tables import Sheet


@dataclass(frozen=True)
class News:
    """What a sheet's readers are told: its owner `rev`, all others `shown`, and the run that was started last."""

    rev: int
    shown: int
    run_id: str | None


class Desk:
    """One sheet that somebody watches."""

    def __init__(self, news: News):
        self.news, self.readers, self.gone = news, 0, False
        self.changed = threading.Condition()

    def tell(self, news: News) -> None:
        """Take over what is newer, and wake the readers."""
        with self.changed:
            if (news.rev, news.shown) > (self.news.rev, self.news.shown):
                self.news = news
                self.changed.notify_all()

    def end(self) -> None:
        """The sheet is not there any more, or not to be seen: wake the readers, who leave."""
        with self.changed:
            self.gone = True
            self.changed.notify_all()

    def wait(self, news: News, timeout: float) -> News:
        """What there is once it differs from `news` or the sheet is gone, after `timeout` seconds at the latest."""
        with self.changed:
            self.changed.wait_for(lambda: self.gone or self.news != news, timeout)
            return self.news


class Desks:
    """The sheets that are watched on this server."""

    def __init__(self):
        self._desks: dict[str, Desk] = {}
        self._lock = threading.Lock()

    def join(self, sheet_id: str, news: News) -> Desk:
        """One more watches a sheet, until `leave`."""
        with self._lock:
            desk = self._desks.get(sheet_id)
            if desk is None or desk.gone:  # it is shown again, and those who were sent away are leaving
                desk = self._desks[sheet_id] = Desk(news)
            desk.readers += 1
        desk.tell(news)
        return desk

    def leave(self, sheet_id: str, desk: Desk) -> None:
        """One less watches a sheet."""
        with self._lock:
            desk.readers -= 1
            if not desk.readers and self._desks.get(sheet_id) is desk:
                del self._desks[sheet_id]

    def tell(self, sheet_id: str, news: News) -> None:
        """A sheet was changed."""
        with self._lock:
            desk = self._desks.get(sheet_id)
        if desk is not None:
            desk.tell(news)

    def end(self, sheet_id: str) -> None:
        """A sheet is gone, or hidden."""
        with self._lock:
            desk = self._desks.get(sheet_id)
        if desk is not None:
            desk.end()

    def look(self) -> None:
        """See what other servers changed, removed or hid; needs an app context."""
        with self._lock:
            watched = list(self._desks)
        if not watched:
            return
        columns = select(Sheet.id, Sheet.rev, Sheet.shown_rev, Sheet.run_id)
        seen = Sheet.id.in_(watched) & Sheet.hidden.is_(None)
        found = {sheet_id: News(*news) for sheet_id, *news in db.session.execute(columns.where(seen)).all()}
        for sheet_id in watched:
            if sheet_id in found:
                self.tell(sheet_id, found[sheet_id])
            else:
                self.end(sheet_id)
