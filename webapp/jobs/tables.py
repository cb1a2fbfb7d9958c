"""What is kept of a job: what was asked for, where it stands, and how far its process says that it is."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import JSON, DateTime, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from webapp.runs.moments import now
from webapp.runs.tables import db


class JobState(StrEnum):
    """Where a job stands."""

    LOOKING = "looking"  # its process is to look at what was given, and does or will
    DRAFT = "draft"  # looked at, and waits for the operator to begin it
    WAITING = "waiting"  # in line
    RUNNING = "running"
    STOPPED = "stopped"  # by the operator; it can go on
    DONE = "done"
    FAILED = "failed"  # `sentence` says why; it can be tried again


AT_WORK = (JobState.LOOKING, JobState.WAITING, JobState.RUNNING)  # its process is there, or comes by itself


class Wish(StrEnum):
    """What the operator asked of a job that only its own machine can do."""

    STOP = "stop"
    REMOVE = "remove"


class Job(db.Model):
    """One job. Only the server of its `machine` runs it.

    `arguments` are those of `python -m KIND`, with names of files in the job's own folder; `makes` is the name of the model
    that it is to make. `progress` is what `webapp.jobs.progress.Progress` says in JSON, `sentence` why it failed, and `about`
    whatever those who asked for it want to find again.
    """

    __table_args__ = (Index("ix_job_machine_state", "machine", "state"),)

    id: Mapped[str] = mapped_column(String(24), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    title: Mapped[str] = mapped_column(String(200))
    arguments: Mapped[list] = mapped_column(JSON)
    makes: Mapped[str] = mapped_column(String(255))
    machine: Mapped[str] = mapped_column(String(80))
    state: Mapped[str] = mapped_column(String(10))
    wish: Mapped[str | None] = mapped_column(String(10))
    created: Mapped[datetime] = mapped_column(DateTime, default=now)
    started: Mapped[datetime | None] = mapped_column(DateTime)  # when it was first its turn
    ended: Mapped[datetime | None] = mapped_column(DateTime)
    progress: Mapped[dict] = mapped_column(JSON, default=dict)
    sentence: Mapped[str] = mapped_column(Text, default="")
    about: Mapped[dict] = mapped_column(JSON, default=dict)
