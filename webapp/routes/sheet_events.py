"""A sheet as it is written, in server-sent events: that it is another one now, or gone, and the tokens of its open run."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from flask import Blueprint

from generate import Busy, Withdrawal
from webapp.http.event_stream import event, event_stream
from webapp.http.visitors import visitor
from webapp.runs.registry import hold
from webapp.runs.repository import get_run
from webapp.sheets.desks import Desk, News
from webapp.sheets.pieces import unfinished
from webapp.sheets.sources import said_by
from webapp.sheets.store import HiddenSheet, UnknownSheet, find_sheet
from webapp.state import State, state
from webapp.views.lenses import classes
from webapp.views.run_view import RunView
from webapp.views.tokens import whole_cells

blueprint = Blueprint("sheet_events", __name__)

FLUSH = 0.04  # seconds between two events at the least
BEAT = 1.0  # seconds between two beats at the most
COME_BACK = 5000  # milliseconds after which a reader who found no room tries again
SOON = 1000  # milliseconds after which one comes back whose line was cut


@blueprint.get("/s/<sheet_id>/events")
def events(sheet_id: str):
    """What happens to a sheet from now on. Others than its owner hear of its writings alone."""
    here = state()
    try:
        sheet = find_sheet(sheet_id)
    except (UnknownSheet, HiddenSheet):  # a browser would ask for ever after anything but an answer
        return event_stream(iter([told("gone")]))
    news = News(sheet.rev, sheet.shown_rev, sheet.run_id)
    parts = follow(here, sheet_id, visitor(), sheet.owner == visitor(), news)
    try:
        return event_stream(hold(here.streams, here.registry, parts))
    except Busy:
        return event_stream(iter([event("busy", "{}", retry=COME_BACK)]))


def told(name: str, retry: int | None = None, /, **data: object) -> str:
    """An event with JSON; `retry` is for a browser that comes back by itself."""
    return event(name, json.dumps(data, separators=(",", ":")), retry=retry)


def follow(here: State, sheet_id: str, reading: str | None, mine: bool, news: News) -> Iterator[str]:
    """Yield events until the server closes, or the sheet is gone; `reading` is the visitor who hears them, `mine` whether it is their sheet."""
    desk = here.desks.join(sheet_id, news)
    reader, rev = None, None
    try:
        beat = time.monotonic()
        while here.scheduler.alive():
            if desk.gone:
                yield told("gone")
                return
            news = desk.news
            if (now := news.rev if mine else news.shown) != rev:
                first, rev = rev is None, now
                yield told("sheet", SOON if first else None, rev=rev)
            if news.run_id and (reader is None or reader.run_id != news.run_id or reader.moved):
                reader = replaced(here, reader, news.run_id)
            if reader:
                yield from reader.news(lambda: edge(here, sheet_id, reading))
            if time.monotonic() - beat >= BEAT:
                beat = time.monotonic()
                yield told("beat")
            breathe(desk, news, reader)
    finally:
        if reader:
            reader.close()
        here.desks.leave(sheet_id, desk)


def replaced(here: State, reader: "Reader | None", run_id: str) -> "Reader | None":
    """The reader of another run, in the place of one."""
    if reader:
        reader.close()
    with here.app.app_context():
        run = get_run(run_id)
        return Reader(here, here.look(run)) if run else None


def edge(here: State, sheet_id: str, reading: str | None) -> dict[str, int | None]:
    """Where the model's window begins in what a reader sees, and the revision of that; {} where the sheet is gone."""
    with here.app.app_context(), suppress(UnknownSheet, HiddenSheet):
        return here.edge(find_sheet(sheet_id), reading)
    return {}


def breathe(desk: Desk, news: News, reader: "Reader | None") -> None:
    """Wait for news of the sheet or of its run: at least FLUSH seconds, at most BEAT."""
    if reader is None or reader.over:
        desk.wait(news, BEAT)
        return
    time.sleep(FLUSH)
    if desk.news == news and not desk.gone:
        reader.view.log.wait(reader.version, BEAT - FLUSH)


class Reader:
    """What one stream has told of a run, of whose watchers it is one as long as it is not closed."""

    def __init__(self, here: State, view: RunView):
        self._here, self.view, self.run_id = here, view, view.id
        self.sent, self.version, self.over, self._is_cut = 0, -1, False, False
        self._restarts, self._status, self._watching = view.log.restarts, "", 0
        self._half = unfinished(view.vocabulary.tokens[index] for index in view.prompt_ids.tolist())
        self._entry = here.registry.join(view.id, view.log)

    @property
    def moved(self) -> bool:
        """Whether another log has the run now, as another server took it up."""
        return self.view.log.withdrawn is Withdrawal.MOVED

    def close(self) -> None:
        """Watch no more."""
        self._here.registry.leave(self._entry)
        self._entry = None

    def news(self, edge: Callable[[], dict]) -> Iterator[str]:
        """Events of what is new in its log since the last call; `edge` tells where the model's window begins by now."""
        if self.over:
            return
        log, sample = self.view.log, self.view.log.samples[0]
        with log.changed:
            self.version, done = log.version, log.done
            released, end, restarts = sample.released, sample.text_end, log.restarts
        if log.withdrawn is not None:  # the run was deleted, or is read from another log in a moment
            self.over = True
            yield told("again", run=self.run_id)
            return
        if restarts != self._restarts:
            self._restarts, self.sent = restarts, 0
            yield told("again", run=self.run_id)
        if released > self.sent:
            yield from self._tokens(released, done, end)
        here = self._here
        problem = here.models.problem() if here.registry.writes(self.run_id) else None
        if not done and (now := self.view.status(problem, in_sheet=True)) != self._status:
            self._status = now
            yield told("status", text=now)
        if (watching := 0 if done else here.registry.watching(self.run_id)) != self._watching:
            self._watching = watching
            yield told("watching", n=watching)
        if done:
            self.over = True
            tokens = self.sent + self._is_cut
            yield told("over", run=self.run_id, tokens=tokens, text=self.view.status(in_sheet=True), **edge())

    def _tokens(self, released: int, done: bool, end: int | None) -> Iterator[str]:
        """The whole cells up to `released`; once all is `done`, up to the token in which the text ends at byte `end`.

        What is left of that one is black, and in the sheet's state alone.
        """
        view, log, start = self.view, self.view.log.samples[0], self.sent
        if done:
            said = said_by(log.read(0, released)["id"], view.vocabulary, end, done)
            released, self._is_cut = len(said.tokens), said.rest != ""
        records, before = log.read(start, released), b"" if start else self._half
        found = []
        for cell in whole_cells(records["id"], view.vocabulary, start, before, done):
            look = classes(records[cell.start - start : cell.end - start])
            found.append([cell.text, cell.end - self.sent, look])  # with tokens before it that have no text
            self.sent = cell.end
        if found:
            yield told("tokens", run=self.run_id, sample=0, **{"from": start}, to=self.sent, cells=found)
