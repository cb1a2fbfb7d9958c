"""Who runs this machine's jobs: one at a time, and beside it at most one look at what was given.

Everything that matters is in the rows, the journals and the locks of the jobs' folders, so that a server that is killed at
any moment is followed by one that goes on: a process of the earlier one saves and ends by itself (`generate/tied.py`), and
as soon as its lock is free the job is taken up anew.
"""

import logging
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.exc import InterfaceError, OperationalError

from generate import N_, Problem
from webapp.jobs.child import Child, held, is_held, last_words
from webapp.jobs.kinds import ENCODINGS, KINDS, claim, clear, sweep
from webapp.jobs.progress import Progress, Tail, clean
from webapp.jobs.service import Jobs, begun_at_terminal, sweep_strays
from webapp.jobs.tables import AT_WORK, Job, JobState, Wish, now
from webapp.runs.tables import db

log = logging.getLogger(__name__)

JOURNALS = {JobState.RUNNING: "journal.jsonl", JobState.LOOKING: "look.jsonl"}
TOLD_TO_END = (130, -signal.SIGTERM)  # the latter where it had hardly begun
LITTLE = 2**20  # bytes; where no more are free a process cannot say why it ended
UNTOLD = N_("What its process told could not be stored; the server's log says why.")


@dataclass
class Running:
    """A process of ours, what it is at, and what is known of it."""

    job_id: str
    lane: JobState  # RUNNING, or LOOKING
    child: Child
    tail: Tail
    progress: Progress


class Runner:
    """`nice` is how much the processes give way. `when_done` are called with each job that is done, in an app context.

    Each is called at least once, and before the job says that it is done; what one raises is logged.
    """

    def __init__(self, jobs: Jobs, nice: int):
        self.jobs, self._nice = jobs, nice
        self.when_done: list[Callable[[Job], None]] = []
        self._running: dict[JobState, Running] = {}
        self._ours, self._alone, self._closed = ExitStack(), False, False
        self._lock = threading.Lock()

    def tend(self) -> None:
        """Look after the processes, heed what was asked, and begin what is next; call again and again."""
        with self._lock:
            if self._closed or not self._is_alone():
                return
            for running in list(self._running.values()):
                try:
                    self._look_after(running)
                except (OperationalError, InterfaceError):  # the database is away: the next round finds it, or the next
                    raise
                except Exception:  # or it would be begun again and again, and nothing after it ever
                    log.exception("what the job %s told cannot be stored", running.job_id)
                    self._give_up(running)
            if not self._rows(Job.wish.is_not(None) | Job.state.in_(AT_WORK)):  # as nearly always: one look is enough
                return
            for job in self._rows(Job.wish.is_not(None)):
                self._heed(job)
            for job in self._rows(Job.state == JobState.RUNNING):
                self._recover(job)
            for lane, state in ((JobState.LOOKING, JobState.LOOKING), (JobState.RUNNING, JobState.WAITING)):
                if lane not in self._running and (job := self._next(lane, state)) is not None:
                    self._begin(job, lane)

    def close(self) -> None:
        """Let all processes save and end by themselves; the next server goes on with their jobs."""
        with self._lock:
            self._closed = True
            for running in self._running.values():
                running.child.stop()
            self._ours.close()

    # Which ones

    def _is_alone(self) -> bool:
        """Whether no other server of this machine runs its jobs."""
        if not self._alone and self.jobs.root.parent.is_dir():
            self.jobs.root.mkdir(exist_ok=True, mode=0o700)
            try:
                self._ours.enter_context(held(self.jobs.root))
                self._alone = True
                sweep_strays(self.jobs)
            except BlockingIOError:
                return False
        return self._alone

    def _rows(self, condition) -> list[Job]:
        ours = select(Job).where(Job.machine == self.jobs.machine, condition)
        return list(db.session.scalars(ours.order_by(Job.started.is_(None), Job.created)))

    def _next(self, lane: JobState, state: JobState) -> Job | None:
        """The first in line; what was begun already goes before. None while something is being done."""
        if lane is JobState.RUNNING and self._rows(Job.state == JobState.RUNNING):
            return None  # a process of an earlier server has not ended
        return next(iter(self._rows((Job.state == state) & Job.wish.is_(None))), None)

    # A process

    def _begin(self, job: Job, lane: JobState) -> None:
        """Start the process of a job."""
        kind, folder, journal = KINDS[job.kind], self.jobs.folder(job), JOURNALS[lane]
        tail, progress = Tail(folder / journal), Progress()
        looks = lane is JobState.LOOKING
        command = kind.words(job.arguments, self.jobs.out(job), looks)
        while events := tail.read():
            for event in events:
                progress.take(event)
        progress.take({"event": "began"})
        if not looks:
            progress.found = Progress.from_json(job.progress).found
        started = {} if looks else {"started": job.started or now(), "ended": None}
        if not self.jobs.move(job, (job.state,), state=lane, progress=progress.as_json(), sentence="", **started):
            return
        try:
            if not looks and not is_held(folder):
                sweep(self.jobs.out(job))
            if not looks and kind.saves and not claim(self.jobs.out(job), job.id):
                self._end(job, JobState.FAILED, self._told(job, progress, begun_at_terminal(job.makes).problem))
                return
            child = Child(folder, job.kind, command, journal, self.jobs.models, self._nice)
        except BlockingIOError:  # that of an earlier server is not gone yet
            self.jobs.move(job, (lane,), state=JobState.LOOKING if looks else JobState.WAITING)
            return
        except OSError as error:
            self._end(job, JobState.DRAFT if looks else JobState.FAILED, f"{error.strerror or error}.")
            return
        self._running[lane] = Running(job.id, lane, child, tail, progress)

    def _look_after(self, running: Running) -> None:
        """Store what a process told, and what became of it when it has ended."""
        status = running.child.status()  # before the last lines are read
        job = self.jobs.find(running.job_id)
        if job is None:  # its row was taken from us, as by a restored backup
            running.child.stop()
        events = running.tail.read()
        for event in events:
            running.progress.take(event)
        if events and job is not None:
            job.progress = running.progress.as_json()
            db.session.commit()
        if status is None or events:
            return
        del self._running[running.lane]
        running.child.stop()
        if job is not None:
            self._conclude(job, running, status)

    def _give_up(self, running: Running) -> None:
        """Let a job fail of whose process nothing can be stored."""
        db.session.rollback()
        running.child.stop()
        self._running.pop(running.lane, None)
        if (job := self.jobs.find(running.job_id)) is not None:
            self._end(job, JobState.DRAFT if running.lane is JobState.LOOKING else JobState.FAILED, UNTOLD)

    def _conclude(self, job: Job, running: Running, status: int) -> None:
        """Put a job into the state that its process left it in."""
        looks = running.lane is JobState.LOOKING
        if job.wish == Wish.REMOVE:
            self._remove(job)
        elif status == 0 or running.progress.ended == "done":
            self._end(job, JobState.DRAFT) if looks else self._done(job)
        elif job.wish == Wish.STOP and status in TOLD_TO_END:
            self._end(job, JobState.STOPPED)
        elif status in TOLD_TO_END:  # not by us: systemd tells all processes at once that the server is to end
            self.jobs.move(job, (running.lane,), state=JobState.LOOKING if looks else JobState.WAITING)
        elif looks:
            self._end(job, JobState.DRAFT, self._why(job, running.progress, status))
        else:
            self._end(job, JobState.FAILED, self._why(job, running.progress, status))

    def _why(self, job: Job, progress: Progress, status: int) -> str:
        """Why a process did not do it, in a sentence: its own, if it had one. What was counted of it is kept beside it."""
        if progress.sentence:
            return progress.sentence
        if status < 0:
            why = Problem(
                "Its process was killed (signal {number}), perhaps because memory was short; it can go on.",
                number=-status,
            )
        elif shutil.disk_usage(self.jobs.root).free < LITTLE:
            why = Problem("The server's disk is full; make room, and go on.")
        elif last := last_words(self.jobs.folder(job)):
            return last
        else:
            why = Problem(
                "Its process ended with status {status} and without a word; it can be tried again.", status=status
            )
        return self._told(job, progress, why)

    def _told(self, job: Job, progress: Progress, why: Problem) -> str:
        """The sentence of a problem, which is stored beside it as a message and values, to be told in other languages."""
        progress.problem = why.whole()
        self.jobs.move(job, tuple(JobState), progress=progress.as_json())
        return str(why)

    # What becomes of a job

    def _recover(self, job: Job) -> None:
        """Take up a job that a server before us was at, as soon as its process has saved and ended."""
        if any(running.job_id == job.id for running in self._running.values()) or is_held(self.jobs.folder(job)):
            return
        if self.jobs.out(job).exists():  # only this job could make it
            self._done(job)
        else:
            self.jobs.move(job, (JobState.RUNNING,), state=JobState.WAITING)

    def _heed(self, job: Job) -> None:
        """Do what was asked: a process is stopped first, and what becomes of its job follows from how it ends."""
        ours = [running for running in self._running.values() if running.job_id == job.id]
        for running in ours:
            running.child.stop()
        if ours or is_held(self.jobs.folder(job)):
            return
        if job.wish == Wish.REMOVE:
            self._remove(job)
        elif job.state == JobState.WAITING or (job.state == JobState.RUNNING and not self.jobs.out(job).exists()):
            self._end(job, JobState.STOPPED)

    def _done(self, job: Job) -> None:
        for tell in self.when_done:
            try:
                tell(job)
            except Exception:
                log.exception("what follows on the job %s failed", job.id)
        clear(self.jobs.out(job), job.id)  # of one that was killed when its model was placed
        shutil.rmtree(self.jobs.folder(job) / ENCODINGS, ignore_errors=True)
        self._end(job, JobState.DONE)

    def _end(self, job: Job, state: JobState, sentence: str = "") -> None:
        self.jobs.move(job, tuple(JobState), state=state, sentence=clean(sentence), wish=None, ended=now())

    def _remove(self, job: Job) -> None:
        """Remove its row, its folder, and what it left half-made."""
        if job.started is not None and job.state != JobState.DONE:
            clear(self.jobs.out(job), job.id)
        shutil.rmtree(self.jobs.folder(job), ignore_errors=True)
        db.session.delete(job)
        db.session.commit()
