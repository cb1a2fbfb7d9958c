"""What a job is called."""

from collections.abc import Sequence

from generate import gettext, languages
from webapp.jobs.tables import Job


def title_of(job: Job) -> str:
    """Its title in the language that is spoken here; it is stored in English."""
    if languages.current() is languages.ENGLISH:
        return job.title
    if job.kind == "convert":
        return gettext("Bring {model}", model=job.makes)
    model, files = job.about.get("model"), job.about.get("files")
    return learning(model, files) if model and files else job.title


def learning(model: str, files: Sequence[str]) -> str:
    """What a training is called."""
    if len(files) == 1:
        return gettext("{model} learns {file}", model=model, file=files[0])
    return gettext("{model} learns {file} and {count} more", model=model, file=files[0], count=len(files) - 1)
