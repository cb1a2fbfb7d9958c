"""Bringing a model: what was uploaded, or lies on this server, becomes a conversion; what it then asks for is answered."""

import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from sqlalchemy import select

from generate import Problem, Refusal, languages
from webapp.jobs.progress import Progress
from webapp.jobs.service import Jobs
from webapp.jobs.tables import Job, JobState
from webapp.runs.tables import db
from webapp.uploads.store import Uploads

KIND, SOURCE, VOCABULARY = "convert", "source", "vocabulary"  # the latter are folders within a job's own
OWN = "gpt2"  # what `convert --vocab` calls GPT-2's own
ANSWERS = {"heads": "--n-head", "vocabulary": "--vocab"}  # the options that answer what is asked
ENDINGS = re.compile(r"(\.tar\.gz|\.[A-Za-z0-9]{1,8})$")
HUB, HUB_NAME = "hub:", re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,95}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,95}", re.ASCII)
MOST_HEADS = 1024
UNNAMED = "brought"  # a model whose source has no letter in its name


class Bringing:
    """Needs an app context."""

    def __init__(self, jobs: Jobs, uploads: Uploads):
        self._jobs, self._uploads = jobs, uploads

    def from_uploads(self, upload_ids: Sequence[str], makes: str) -> Job:
        """Convert files that were uploaded whole, which are taken for it; raises Refusal."""
        found = [self._uploads.find(upload_id) for upload_id in dict.fromkeys(upload_ids)]
        if not found:
            raise Refusal("Drop the files of a checkpoint first, or name a folder.")
        source = f"{SOURCE}/{found[0].name}" if len(found) == 1 else SOURCE
        job = self._submit(source, found[0].name, makes, lambda folder: self._lend(upload_ids, folder / SOURCE))
        self._uploads.give_up(list(upload_ids))  # not before the job is stored
        return job

    def from_path(self, path: str, makes: str) -> Job:
        """Convert a folder or a file of this server's; raises Refusal."""
        if not Path(path).is_absolute() or "\0" in path:
            raise Refusal("The place on this server must be a whole path, not {path!r:.80}.", "path", path=path)
        return self._submit(path, Path(path).name or path, makes)

    def from_hub(self, name: str, makes: str) -> Job:
        """Fetch a model of the Hugging Face hub, and convert it where that is needed; raises Refusal."""
        if not HUB_NAME.fullmatch(name):
            raise Refusal(
                "A model on the hub is called NAME or OWNER/NAME, of letters, digits, - _ and ., not {name!r:.80}.",
                "hub",
                name=name,
            )
        return self._submit(f"{HUB}{name}", name.rsplit("/", 1)[-1], makes)

    def _submit(self, source: str, name: str, makes: str, fill: Callable[[Path], None] = lambda folder: None) -> Job:
        makes = makes.strip() or self._free(name_for(name))
        return self._jobs.submit(
            KIND, [source, "--ask"], languages.in_english(Problem("Bring {model}", model=makes)), makes, fill
        )

    def _free(self, name: str) -> str:
        """The name, or where something has it already the same with the first number that makes it another."""
        for candidate in (name, *(f"{name[:76]}-{number}" for number in range(2, 100))):
            with suppress(Refusal):
                self._jobs.check_name(candidate)
                return candidate
        return name

    def _lend(self, upload_ids: Sequence[str], folder: Path) -> None:
        self._uploads.lend(list(upload_ids), folder)

    def _take(self, upload_ids: Sequence[str], folder: Path) -> None:
        self._uploads.move(list(upload_ids), folder)

    def answer_heads(self, job: Job, text: str) -> None:
        """Say how many heads it has, and go on; raises Refusal."""
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_HEADS):
            raise Refusal(
                "heads must be a whole number from 1 to {most}, not {text!r:.40}.", most=MOST_HEADS, text=text
            )
        self._require_question(job)
        self._answer(job, ANSWERS["heads"], text)

    def answer_vocabulary(self, job: Job, folder: Path | None, upload_ids: Sequence[str]) -> None:
        """Say whose vocabulary it has, and go on: that of a `folder`, one that was uploaded, or else GPT-2's own. Raises
        Refusal, and then no other answer's files are touched."""
        self._require_question(job)
        if folder is not None or not upload_ids:
            self._answer(job, ANSWERS["vocabulary"], str(folder or OWN))
            return
        place = f"{VOCABULARY}/{secrets.token_hex(4)}"  # of each answer one; another may be read just now
        self._take(upload_ids, self._jobs.folder(job) / place)
        try:
            self._answer(job, ANSWERS["vocabulary"], place)
        except Refusal:
            shutil.rmtree(self._jobs.folder(job) / place, ignore_errors=True)
            raise

    def _require_question(self, job: Job) -> None:
        if not question_of(job):
            raise Refusal("This conversion asks for nothing just now.")

    def _answer(self, job: Job, option: str, value: str) -> None:
        given = list(job.arguments)
        if option in given:
            at = given.index(option)
            del given[at : at + 2]
        self._jobs.begin(job, [*given, option, value])

    def sweep(self) -> None:
        """Remove what was uploaded for conversions that are done, or were refused for good; call again and again."""
        ended = select(Job).where(
            Job.kind == KIND, Job.machine == self._jobs.machine, Job.state.in_((JobState.DONE, JobState.FAILED))
        )
        for job in db.session.scalars(ended):
            if job.state == JobState.DONE or is_refused(job):
                for name in (SOURCE, VOCABULARY, "tmp"):
                    shutil.rmtree(self._jobs.folder(job) / name, ignore_errors=True)


def question_of(job: Job) -> dict:
    """What a conversion that failed asks for: `asks`, and what is known of it; {} where it asks for nothing."""
    found = Progress.from_json(job.progress).found
    return found if job.kind == KIND and job.state == JobState.FAILED and found.get("asks") else {}


def is_asked_first(job: Job) -> bool:
    """Whether it asks for something that nobody has told it yet, so that nothing was wrong."""
    asked = question_of(job).get("asks")
    return bool(asked) and ANSWERS[asked] not in job.arguments


def is_refused(job: Job) -> bool:
    """Whether a conversion failed because of what was brought, and nothing that can be told, or another time, would help."""
    told = Progress.from_json(job.progress)
    return job.state == JobState.FAILED and told.ended == "refused" and not told.again and not question_of(job)


def can_try_again(job: Job) -> bool:
    """Whether what it was made from is still there."""
    return job.kind != KIND or not is_refused(job) or not job.arguments[0].startswith(SOURCE)


def name_for(name: str) -> str:
    """A model's name from a file's or a folder's."""
    bare = ENDINGS.sub("", name)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", bare, flags=re.ASCII).strip("-._")[:80] or UNNAMED
