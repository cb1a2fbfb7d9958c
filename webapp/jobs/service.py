"""What can be asked of jobs. They are rows; who runs them is in `runner.py`, on the machine that a job names."""

import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sqlalchemy import func, select, update

from generate import Problem, Refusal, model_homes, write_whole
from webapp.jobs.child import is_held
from webapp.jobs.kinds import KINDS, clear, work_of
from webapp.jobs.tables import Job, JobState, Wish
from webapp.runs.tables import db

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", re.ASCII)
OPEN = (JobState.LOOKING, JobState.DRAFT, JobState.WAITING, JobState.RUNNING, JobState.STOPPED, JobState.FAILED)
READY = (JobState.DRAFT, JobState.STOPPED, JobState.FAILED)  # what can be put in line
STATES = {
    JobState.LOOKING: Problem("being looked at"),
    JobState.DRAFT: Problem("ready to begin"),
    JobState.WAITING: Problem("waiting in line"),
    JobState.RUNNING: Problem("being done"),
    JobState.STOPPED: Problem("stopped"),
    JobState.DONE: Problem("done"),
    JobState.FAILED: Problem("at an end, undone"),
}
STRAY = 3600.0  # seconds after which a folder without a row is nobody's


class Jobs:
    """The jobs of all machines, and the folders of this one's: `instance/jobs/ID`. Needs an app context."""

    def __init__(self, instance: Path, models: Path):
        self.root, self.models, self._instance = instance / "jobs", models, instance

    @property
    def machine(self) -> str:
        """The name of this machine, or rather of its instance folder: made once, and kept there."""
        file = self._instance / "machine"
        if not file.exists():
            write_whole(file, f"{socket.gethostname()[:60]}-{secrets.token_hex(4)}".encode())
        return file.read_text("utf-8")

    def folder(self, job: Job) -> Path:
        """Where its files are, on its own machine; arguments name them without a path."""
        return self.root / job.id

    def out(self, job: Job) -> Path:
        """The model's folder that it makes, on its own machine."""
        return self.models / job.makes

    # Found

    def all(self) -> list[Job]:
        """All jobs: what is being done first, then the line, then the others with the newest first."""
        order = {JobState.RUNNING: 0, JobState.WAITING: 1}
        found = db.session.scalars(select(Job).order_by(Job.created.desc())).all()
        return sorted(
            found, key=lambda job: (order.get(job.state, 2), job.created.timestamp() if job.state in order else 0)
        )

    def find(self, job_id: str) -> Job | None:
        """A job by its id, as it is stored now."""
        return None if "\0" in job_id else db.session.scalar(select(Job).where(Job.id == job_id))

    def place(self, job: Job) -> int:
        """How many are to be done on its machine before one that waits; 0 for any other."""
        if job.state != JobState.WAITING:
            return 0
        earlier = (Job.state == JobState.WAITING) & (Job.created < job.created) | (Job.state == JobState.RUNNING)
        return db.session.scalar(select(func.count()).select_from(Job).where(Job.machine == job.machine, earlier))

    def counts(self) -> dict[str, int]:
        """How many there are in each state."""
        return dict(db.session.execute(select(Job.state, func.count()).group_by(Job.state)).all())

    # Asked

    def submit(
        self,
        kind: str,
        arguments: Sequence[str],
        title: str,
        makes: str,
        fill: Callable[[Path], None] = lambda folder: None,
        about: Mapping | None = None,
        look: bool = False,
    ) -> Job:
        """Put a job in line, or with `look` have it looked at first; `makes` is the new model's name.

        `fill` gets the job's empty folder, to put the files there that `arguments` name. When it raises, or the disk is
        full, nothing is left. Raises Refusal.
        """
        if look and not KINDS[kind].looks:
            raise ValueError(f"{kind} has no look")
        self.check_name(makes)
        job = Job(
            id=secrets.token_urlsafe(12),
            kind=kind,
            title=title[:200],
            arguments=list(arguments),
            makes=makes,
            machine=self.machine,
            state=JobState.LOOKING if look else JobState.WAITING,
            about=dict(about or {}),
        )
        folder = self.folder(job)
        try:
            folder.mkdir(parents=True, mode=0o700)
            fill(folder)
            db.session.add(job)
            db.session.commit()
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise Refusal("The server could not keep it: {reason}.", reason=error.strerror) from None
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return job

    def check_name(self, name: str, but: Job | None = None) -> None:
        """Raise Refusal unless a model can be made under this name: nothing has it, and no other job will."""
        if not NAME.fullmatch(name):
            raise Refusal(
                "A model's name has 1 to 80 letters, digits, - _ or ., and begins with a letter or digit; {name!r} does not.",
                "makes",
                name=name[:100],
            )
        if any((home / name).exists() for home in model_homes(self.models)):
            raise Refusal("There is a model called {name} already; choose another name.", "makes", name=name)
        if (but is None or name != but.makes) and work_of(self.models / name).exists():
            raise begun_at_terminal(name)
        claims = select(Job.id).where(Job.makes == name, Job.machine == self.machine, Job.state.in_(OPEN))
        if any(found != (but and but.id) for found in db.session.scalars(claims)):
            raise Refusal(
                "Another job is to make {name}; choose another name, or throw that one away.", "makes", name=name
            )

    def begin(
        self, job: Job, arguments: Sequence[str] | None = None, makes: str | None = None, **columns: object
    ) -> None:
        """Put a job in line that was looked at, was stopped, or failed; it goes on from where it was, if it can.

        Other `arguments`, and another name for the model, are for one that has made nothing yet; `columns` are what else its
        row says from now on. Raises Refusal.
        """
        self._again(job, JobState.WAITING, arguments, makes, columns)

    def look(
        self, job: Job, arguments: Sequence[str] | None = None, makes: str | None = None, **columns: object
    ) -> None:
        """Have it looked at again, as with `begin`."""
        self._again(job, JobState.LOOKING, arguments, makes, columns)

    def stop(self, job: Job) -> None:
        """Let it save and stop; one that only waits leaves the line."""
        if not self.move(job, (JobState.WAITING,), state=JobState.STOPPED):
            self.move(job, (JobState.RUNNING,), wish=Wish.STOP)

    def throw_away(self, job: Job) -> None:
        """Remove it with all that it left half-made, as soon as its machine sees to it. A model that it made stays.

        Asked again of a job of another machine, which may be gone for good, it removes the row alone.
        """
        if job.wish == Wish.REMOVE and job.machine != self.machine:
            db.session.delete(job)
            db.session.commit()
        else:
            self.move(job, tuple(JobState), wish=Wish.REMOVE)

    def move(self, job: Job, states: Sequence[JobState], **values: object) -> bool:
        """Change a job that is in one of these states, in one step; False where it is in none. Commits."""
        of_it = (Job.id == job.id) & Job.state.in_(states)
        changed = db.session.execute(
            update(Job).where(of_it).values(**values), execution_options={"synchronize_session": False}
        )
        db.session.commit()
        return changed.rowcount == 1

    def _again(
        self, job: Job, state: JobState, arguments: Sequence[str] | None, makes: str | None, columns: Mapping
    ) -> None:
        self.check_name(makes or job.makes, job)
        values = {"state": state, "wish": None, "sentence": "", "makes": makes or job.makes, **columns}
        if arguments is not None:
            values["arguments"] = list(arguments)
        before, job_id, renamed = self.out(job), job.id, values["makes"] != job.makes
        if not self.move(job, READY, **values):
            raise Refusal("It is {state} by now, so it cannot be begun.", state=STATES[JobState(job.state)])
        if renamed:  # under another name it begins anew
            clear(before, job_id)


def begun_at_terminal(name: str) -> Refusal:
    """What is said where a training lives that is no job's."""
    return Refusal(
        "A training of {name} was begun at the terminal and has not ended; choose another name.", "makes", name=name
    )


def sweep_strays(jobs: Jobs) -> None:
    """Remove this machine's folders of jobs that have no row, as a server leaves that is killed when one is made.

    One that is younger than an hour may be getting its row at this moment; and a database without any job may be the wrong one.
    """
    ids = set(db.session.scalars(select(Job.id)))
    for folder in [path for path in jobs.root.iterdir() if ids and path.is_dir() and path.name not in ids]:
        if folder.stat().st_mtime < time.time() - STRAY and not is_held(folder):
            shutil.rmtree(folder, ignore_errors=True)
