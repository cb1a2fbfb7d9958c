"""What the requests of one app share: who knows the unfinished runs, who keeps them, and what can be asked of them."""

import secrets
from functools import partial

from flask import Flask, current_app
from sqlalchemy import select
from sqlalchemy.orm.exc import ObjectDeletedError

from generate import Engine, models_folder
from webapp.runs import replays
from webapp.runs.follower import Follower
from webapp.runs.models import Models
from webapp.runs.presses import Presses
from webapp.runs.recorder import Recorder
from webapp.runs.registry import Clock, Registry, Streams
from webapp.runs.removal import Removal
from webapp.runs.replays import Replays
from webapp.runs.repository import Vocabularies, removed_run
from webapp.runs.scheduler import Job, Scheduler
from webapp.runs.search import index_words
from webapp.runs.service import Service
from webapp.runs.tables import Run, check_tables, db
from webapp.runs.takeover import Takeover
from webapp.views.card.kept import Cards
from webapp.views.replay import judge
from webapp.views.run_view import Pieces, RunView


class State:
    """The parts of one app, each made once and handed what it needs. `engine` is None on a server that writes nothing."""

    def __init__(self, app: Flask, engine: Engine | None):
        settings = app.config["SETTINGS"]
        self.app, self.engine = app, engine
        self.server = secrets.token_hex(8)  # this process's name among those that share the database
        self.vocabularies, self.pieces, self.cards = Vocabularies(), Pieces(), Cards()
        self.models = Models(engine, models_folder(settings), self.vocabularies)
        self.clock = Clock()
        self.streams = Streams(settings["RUBRIC_MAX_STREAMS"])
        self.registry = Registry(settings["RUBRIC_GRACE"])
        self.recorder = Recorder(self.server, self.registry, self.clock, engine)
        self.follower = Follower(self.server, self.registry, self.clock)
        self.takeover = Takeover(self.server, self.registry, self.clock, self.models, self.vocabularies)
        self.removal = Removal(settings["RUBRIC_KEEP_DAYS"])
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
        self.scheduler = Scheduler(
            app,
            engine,
            save=Job("save", self.recorder.save_round),
            release=Job("release", self.recorder.release),
            chores=(
                Job("follow", self.follower.follow),
                Job("take_over", self.takeover.take_over),
                Job("stop_unwatched", self.takeover.stop_unwatched),
                Job("tell_viewers", self.follower.tell_viewers, 1.0),
                Job("reap", self.takeover.reap, 2.0),
                Job("index_words", partial(index_words, self.vocabularies), 1.0),
                Job("scrub", self.removal.scrub, 2.0),
                Job("notice_removed", self._notice_removed, 5.0),
                Job("expire", self.removal.expire, 60.0),
                Job("expire_presses", self.presses.expire, 60.0),
                Job("clock", self.clock.set, 60.0),
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
        self.scheduler.start()

    def close(self) -> None:
        """Stop the engine and store what there is; see `Scheduler.close`."""
        self.scheduler.close()

    def forget_removed(self) -> None:
        """Let nothing in memory tell of runs that are gone: no picture, no replay, and no text that the engine remembers."""
        self.removal.notice()  # what is forgotten here need not be noticed again
        replayed = self.replays.run_ids()
        there = set(db.session.scalars(select(Run.id).where(Run.id.in_(replayed))))
        self.replays.forget(replayed - there)
        self.cards.forget()
        if self.engine is not None:
            self.engine.forget()

    def _notice_removed(self) -> None:
        if self.removal.notice():
            self.forget_removed()

    def look(self, run: Run) -> RunView:
        """A stored run as pages show it; raises RemovedRun when it was deleted a moment ago."""
        try:  # any of these may read the run's row again
            log, vocabulary = self.service.log_of(run), self.vocabularies.find(run.vocabulary_id)
            return RunView(run, log, vocabulary, self.pieces, partial(self.models.begin_of, run.model))
        except ObjectDeletedError:
            raise removed_run() from None


def state() -> State:
    """The running app's."""
    return current_app.extensions["rubric"]
