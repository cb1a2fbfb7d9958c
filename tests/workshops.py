"""Servers whose jobs a test looks after itself, and the operator's browser; conftest.py hands the fixtures to all tests."""

from pathlib import Path

import pytest
from conftest import ROOT, Visitor
from flask_migrate import upgrade
from rounds import Server
from waiting import until

from webapp import create_app
from webapp.jobs.child import is_held
from webapp.jobs.kinds import KINDS, Kind
from webapp.jobs.progress import Progress
from webapp.jobs.service import Jobs
from webapp.jobs.tables import JobState
from webapp.runs.tables import db


def enter(app) -> Visitor:
    """The operator's browser: one that has opened a link."""
    operator = Visitor(app)
    key = app.extensions["operator"].new_link_key()
    assert operator.get("/operator", query_string={"key": key}).status_code == 200
    return operator


def pid_of(folder: Path) -> int | None:
    """The process that works in a job's folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder.resolve():
                return int(process.name)
        except OSError:
            continue
    return None


class Workshop:
    """A server whose rounds a test calls, with a kind of job that takes as long as a test wants."""

    def __init__(self, settings, engine):
        self.server = Server(settings, engine)
        self.jobs: Jobs = self.server.state.jobs
        self.runner = self.server.state.runner

    def submit(self, *arguments, makes="new", kind="slow_job", **more) -> str:
        with self.server.app.app_context():
            return self.jobs.submit(kind, arguments, "A job", makes, **more).id

    def ask(self, what: str, job_id: str, *given, **more) -> None:
        with self.server.app.app_context():
            getattr(self.jobs, what)(self.jobs.find(job_id), *given, **more)

    def job(self, job_id: str):
        with self.server.app.app_context():
            return self.jobs.find(job_id)

    def tend(self) -> None:
        with self.server.app.app_context():
            self.runner.tend()

    def until(self, job_id: str, *states, seconds=60):
        """Look after the jobs until this one is in one of these states; returns it, or None when it is removed."""

        def reached():
            self.tend()
            job = self.job(job_id)
            return (job is None or job.wish is None) and (job and job.state) in states

        until(reached, seconds, lambda: self.job(job_id) and (self.job(job_id).state, self.job(job_id).sentence))
        return self.job(job_id)

    def until_counting(self, job_id: str) -> None:
        self.until(job_id, JobState.RUNNING)
        until(lambda: self.tend() or self.progress(job_id).stage == "training")

    def progress(self, job_id: str) -> Progress:
        return Progress.from_json(self.job(job_id).progress)

    def folder(self, job_id: str) -> Path:
        return self.jobs.root / job_id

    def die(self) -> None:
        """As by kill -9: nothing is stored any more, and the pipes close."""
        self.runner.close()


def slowly(given, out) -> list[str]:
    """The arguments of tests/slow_job.py."""
    return [*given, "--out", str(out)]


@pytest.fixture
def shop_settings(new_database, tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "slow_job", Kind(slowly, looks=True, saves=True))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    (tmp_path / "models").mkdir()
    own = {"RUBRIC_INSTANCE": str(tmp_path / "instance"), "RUBRIC_MODELS": str(tmp_path / "models"), "RUBRIC_NICE": 0}
    made = new_database() | own
    made["DATABASE_URL"] = made["DATABASE_URL"] or f"sqlite:///{tmp_path / 'shared.sqlite'}"
    with create_app(made).app_context():
        upgrade()
        db.engine.dispose()
    return made


@pytest.fixture
def workshop(shop_settings, writer):
    workshop = Workshop(shop_settings, writer.engine)
    yield workshop
    workshop.die()
    folders = [path for path in workshop.jobs.root.glob("*") if path.is_dir()]
    until(lambda: not any(map(is_held, folders)), 60, "the end of all processes")
    workshop.server.close()
