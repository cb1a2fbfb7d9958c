"""What the requests of one app share: who knows the unfinished runs, who keeps them, and what can be asked of them."""

import logging
import secrets
from contextlib import suppress
from functools import partial
from pathlib import Path

from flask import Flask, current_app, has_request_context
from sqlalchemy import select
from sqlalchemy.orm.exc import ObjectDeletedError

from generate import LISTS, OPTIONS, Engine, ModelFolder, Refusal, languages, models_folder, parse_with_preset
from webapp.api.desk import Desk
from webapp.api.kept import Kept
from webapp.http.answers import Answers
from webapp.http.operator import is_operator
from webapp.jobs.bringing import Bringing
from webapp.jobs.export import Export
from webapp.jobs.runner import Runner
from webapp.jobs.service import Jobs
from webapp.moderation import blocks, reports
from webapp.moderation.taking_down import TakingDown
from webapp.runs import replays
from webapp.runs.choices import Choices
from webapp.runs.examples import Examples
from webapp.runs.follower import Follower
from webapp.runs.full import tell_when_full
from webapp.runs.keeping import Keeping
from webapp.runs.models import Models
from webapp.runs.presses import Presses
from webapp.runs.recorder import Recorder
from webapp.runs.registry import Clock, Registry, Streams
from webapp.runs.removal import Removal
from webapp.runs.replays import Replays
from webapp.runs.repository import Vocabularies, get_run, removed_run
from webapp.runs.scheduler import Job, Scheduler
from webapp.runs.search import index_words
from webapp.runs.service import Service
from webapp.runs.tables import Run, check_tables, db, folder_of_database
from webapp.runs.takeover import Takeover
from webapp.sheets.beginnings import Begun, begun_with
from webapp.sheets.desks import Desks
from webapp.sheets.expiry import expire_sheets
from webapp.sheets.remains import keep_text
from webapp.sheets.search import index_sheets
from webapp.sheets.service import Sheets, Wish
from webapp.sheets.sources import Sources
from webapp.sheets.spans import spans_from_json
from webapp.sheets.suggestions import Suggestions
from webapp.sheets.tables import Sheet
from webapp.uploads.store import Uploads
from webapp.views.card.kept import Cards
from webapp.views.hints import stumble
from webapp.views.presets import as_meant, to_write_on
from webapp.views.replay import judge
from webapp.views.run_view import Pieces, RunView
from webapp.views.sheet_state import can_of, edge_seen, measures_of, state_of
from webapp.watch.disk import Disk
from webapp.watch.gauges import Gauges
from webapp.watch.history import EVERY
from webapp.watch.watcher import Watcher

log = logging.getLogger(__name__)


class State:
    """The parts of one app, each made once and handed what it needs. `engine` is None on a server that writes nothing."""

    def __init__(self, app: Flask, engine: Engine | None):
        settings = app.config["SETTINGS"]
        self.app, self.engine = app, engine
        self._usual = settings["RUBRIC_MODEL"]
        self.server = secrets.token_hex(8)  # this process's name among those that share the database
        self.vocabularies, self.pieces, self.cards = Vocabularies(), Pieces(), Cards()
        self.choices = Choices(Path(app.instance_path))
        self.models = Models(engine, models_folder(settings), self.vocabularies, self.choices, sees_hidden_models)
        self.keeping = Keeping(self.models, self.choices, self._usual)
        self.clock = Clock()
        self.answers, self.disk = Answers(), Disk(folder_of_database(app))
        with app.app_context():
            tell_when_full(db.engine, self.disk.refuses)
        self.streams = Streams(settings["RUBRIC_MAX_STREAMS"])
        self.registry = Registry(settings["RUBRIC_GRACE"])
        self.recorder = Recorder(self.server, self.registry, self.clock, engine)
        self.follower = Follower(self.server, self.registry, self.clock)
        self.takeover = Takeover(self.server, self.registry, self.clock, self.models, self.vocabularies)
        self.sources = Sources(self.registry, self.vocabularies)
        self.removal = Removal(settings["RUBRIC_KEEP_DAYS"], leaving=partial(keep_text, self.sources))
        self.replays = Replays(judge, engine)
        self.presses = Presses(self.clock)
        self.service = Service(
            self.server,
            self.registry,
            self.clock,
            self.models,
            settings["RUBRIC_MAX_PROMPT"],
            self.vocabularies,
            self.removal,
            self.replays,
        )
        self.examples = Examples(self.service, self.models)
        self.jobs = Jobs(Path(app.instance_path), models_folder(settings))
        self.runner = Runner(self.jobs, settings["RUBRIC_NICE"])
        self.desks = Desks()
        self.sheets = Sheets(self.service, self.vocabularies, self.sources, self.desks)
        self.taking_down = TakingDown(self.service, self.sheets)
        self.suggestions = Suggestions(self.sheets, self.models, self.vocabularies)
        self.uploads = Uploads(Path(app.instance_path) / "uploads")
        self.bringing = Bringing(self.jobs, self.uploads)
        self.export = Export(self.uploads.folder, self.jobs.models, settings["RUBRIC_NICE"])
        self.api = Desk(
            engine,
            self.models,
            Kept(app, self.service, self.registry),
            lambda: self.scheduler.alive(),  # which a server sets
            settings["RUBRIC_MODEL"],
            settings["RUBRIC_MAX_PROMPT"],
            settings["RUBRIC_MAX_ROWS"] + -(-settings["RUBRIC_MAX_WAITING"] // 2),  # the other half is for pages
        )
        gauges = Gauges(engine, self.streams, self.api.slots, self.answers, self.disk)
        self.watcher = Watcher(gauges, self.disk, self.jobs.counts)
        self.scheduler = Scheduler(
            app,
            engine,
            save=Job("save", self.recorder.save_round),
            release=Job("release", self.recorder.release),
            chores=(
                Job("follow", self.follower.follow),
                Job("look_at_sheets", self.desks.look, 0.5),
                Job("take_over", self.takeover.take_over),
                Job("stop_unwatched", self.takeover.stop_unwatched),
                Job("tell_viewers", self.follower.tell_viewers, 1.0),
                Job("reap", self.takeover.reap, 2.0),
                Job("index_words", partial(index_words, self.vocabularies), 1.0),
                Job("index_sheets", partial(index_sheets, self.sources), 1.0),
                Job("scrub", self.removal.scrub, 2.0),
                Job("notice_removed", self._notice_removed, 0.5),
                Job("expire_sheets", partial(expire_sheets, self.removal, settings["RUBRIC_KEEP_DAYS"]), 60.0),
                Job("expire", self.removal.expire, 60.0),
                Job("expire_suggestions", self.suggestions.expire, 5.0),
                Job("expire_presses", self.presses.expire, 60.0),
                Job("expire_uploads", self.uploads.expire, 60.0),
                Job("forget_addresses", self._forget_moderated, 60.0),
                Job("clock", self.clock.set, 60.0),
                Job("jobs", self.runner.tend, 0.5),
                Job("sweep_brought", self.bringing.sweep, 1.0),
                Job("look", self.watcher.look, EVERY),
                Job("examples", partial(self.examples.tend, self._usual), 1.0),
            ),
            tend=Job("replays", self.replays.tend_all, replays.ROUND),
        )

    def start(self) -> None:
        """Begin to record and to follow; call once, in the process that owns the engine.

        Raises Refusal when the database has not the tables of this version.
        """
        with self.app.app_context():
            check_tables()
            self.clock.set()
        self.keeping.sweep()
        for listed in self.models.all():
            if listed.problem is not None:  # pages tell visitors only that it cannot be used
                log.warning("The model %s cannot be used: %s", listed.name, languages.in_english(listed.problem))
        self.scheduler.start()

    def close(self) -> None:
        """Let the jobs' processes save, stop the engine and store what there is; see `Scheduler.close`."""
        self.runner.close()
        self.scheduler.close()

    def forget_removed(self) -> None:
        """Let nothing in memory tell of what is gone or hidden: no picture, no replay, and no text that the engine remembers."""
        self.removal.notice()  # what is forgotten here need not be noticed again
        replayed = self.replays.run_ids()
        there = set(db.session.scalars(select(Run.id).where(Run.id.in_(replayed), Run.hidden.is_(None))))
        self.replays.forget(replayed - there)
        self.cards.forget()
        self.sources.forget()
        self.suggestions.forget()
        if self.engine is not None:
            self.engine.forget()

    def _notice_removed(self) -> None:
        if self.removal.notice():
            self.forget_removed()

    def _forget_moderated(self) -> None:
        if blocks.forget_addresses() | reports.forget_reports():
            self.removal.scrubbed = False

    def look(self, run: Run) -> RunView:
        """A stored run as pages show it; raises RemovedRun when it was deleted a moment ago."""
        try:  # any of these may read the run's row again
            log, vocabulary = self.service.log_of(run), self.vocabularies.find(run.vocabulary_id)
            return RunView(run, log, vocabulary, self.pieces, partial(self.models.begin_of, run.model))
        except ObjectDeletedError:
            raise removed_run() from None

    def begun_with(self, run: Run, number: int | None, seen: int | None = None) -> Begun:
        """What a sheet holds that goes on from a run, as `beginnings.begun_with` has it; needs an app context."""
        view, folder = self.look(run), None
        with suppress(Refusal):
            folder = self.models.find_for(run)
        return begun_with(run, view.log, number, seen, view.text_from, view.vocabulary, folder)

    def wish(self, given: dict[str, str], once: dict[str, str] | None = None) -> Wish:
        """How a model shall write in a sheet, from the form's fields, or from those for `once`; the sheet keeps the
        form's. Raises Refusal."""
        fields = given if once is None else once
        folder = self.models.find(fields.get("model") or self.models.preferred(self._usual))
        names = ("preset", *(option.name for option in OPTIONS + LISTS))
        wanted = as_meant({name: fields.get(name) for name in names}) | {"samples": "1"}
        sampling = parse_with_preset(wanted, self.models.defaults_for(folder))
        return Wish(folder, sampling, bool(fields.get("parse_special")), given)

    def sheet_state(self, sheet: Sheet, visitor: str | None) -> dict:
        """A sheet as its page has it, for one visitor."""
        run, mine = get_run(sheet.run_id) if sheet.run_id else None, sheet.owner == visitor
        status = partial(self.look(run).status, in_sheet=True) if run is not None else str
        options = sheet.options if mine else self._options_shown(run)
        return state_of(sheet, mine, self.sources, options, self._folder(options), status)

    def noted(self, sheet: Sheet) -> dict:
        """What the page of a sheet is told of what was typed or set: what can be taken back and done again, how long the
        text is, where the model's window begins in it, and what the model would stumble over."""
        folder = self._folder(sheet.options)
        hint = stumble(spans_from_json(sheet.spans), folder)
        return {"hint": hint} | can_of(sheet) | measures_of(sheet, self.sources, folder)

    def edge(self, sheet: Sheet, visitor: str | None) -> dict[str, int | None]:
        """Where the model's window begins in what a visitor sees of a sheet, and the revision of that."""
        mine = sheet.owner == visitor
        options = sheet.options if mine else self._options_shown(get_run(sheet.run_id) if sheet.run_id else None)
        return edge_seen(sheet, mine, self.sources, self._folder(options))

    def _folder(self, options: dict[str, str]) -> ModelFolder | None:
        """The model that the form's fields name; None where it is not here."""
        with suppress(Refusal):
            return self.models.find(options.get("model") or self.models.preferred(self._usual))
        return None

    def _options_shown(self, run: Run | None) -> dict[str, str]:
        """The form's fields as others see them of a sheet: those of its last writing, not what was set since.

        Without `n_keep`, which goes with the text that its owner wants kept in mind.
        """
        if run is None:
            return {}
        fields = to_write_on(run.options, self.models.defaults_of(run.model) or {}) | {"model": run.model}
        return {name: str(value) for name, value in fields.items() if name not in ("n_keep", "samples")}


def sees_hidden_models() -> bool:
    """Whether the operator asks, or the server itself."""
    return not has_request_context() or is_operator()


def state() -> State:
    """The running app's."""
    return current_app.extensions["rubric"]
