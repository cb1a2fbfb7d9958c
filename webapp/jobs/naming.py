"""What jobs know of a model that gets another name, or goes."""

from pathlib import Path

from sqlalchemy import select

from generate import Refusal, model_homes
from webapp.jobs.service import Jobs
from webapp.jobs.tables import AT_WORK, Job, JobState
from webapp.jobs.titles import title_of
from webapp.runs.tables import db

BEGUN = (*AT_WORK, JobState.DRAFT, JobState.STOPPED)  # what would not be done any more without the model


def require_unused(jobs: Jobs, name: str) -> None:
    """Raise Refusal where a model may not be removed: a job needs it that is at work, or can go on."""
    _require_none_of(BEGUN, jobs, name)


def rename_model(jobs: Jobs, old: str, new: str) -> None:
    """Let the jobs of this machine know a model by its new name; does not commit. Raises Refusal while one is at work with
    it, as its process knows the folder."""
    _require_none_of(AT_WORK, jobs, old)
    renamed = dict(zip(_words_for(jobs.models, old), _words_for(jobs.models, new), strict=True))
    for job in _all(jobs):
        if job.makes == old and job.state == JobState.DONE:
            job.makes = new
        job.arguments = [renamed.get(word, word) for word in job.arguments]
        if job.about.get("model") == old:
            fields = job.about.get("fields", {})
            job.about = job.about | {"model": new, "fields": fields | {"model": new}}


def _require_none_of(states: tuple[JobState, ...], jobs: Jobs, name: str) -> None:
    words = set(_words_for(jobs.models, name))
    for job in _all(jobs):
        if job.state in states and (name in (job.makes, job.about.get("model")) or words & set(job.arguments)):
            raise Refusal(
                "A job of the workshop needs {name}: {title!r}. Let it end, or throw it away first.",
                "model",
                name=name,
                title=title_of(job),
            )


def _all(jobs: Jobs) -> list[Job]:
    return list(db.session.scalars(select(Job).where(Job.machine == jobs.machine)))


def _words_for(models: Path, name: str) -> list[str]:
    """How the arguments of a job name a model."""
    return [f"--model={name}", *(str(home / name) for home in model_homes(models))]
