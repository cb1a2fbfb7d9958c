"""What a page says of a job: where it stands in a sentence, how far it is, and what was seen of a training by now."""

import shlex
from dataclasses import dataclass

from generate import N_, Problem, counted, gettext, languages
from webapp.jobs.bringing import is_asked_first
from webapp.jobs.progress import Progress
from webapp.jobs.tables import AT_WORK, Job, JobState
from webapp.jobs.titles import title_of
from webapp.views.curve import Curve, draw
from webapp.views.sentences import about
from webapp.views.training_record import TrainingSample, losses, number, samples

STAGES = {
    "starting": N_("Starting…"),
    "fetching": N_("Fetching it from the hub…"),
    "reading": N_("Reading it…"),
    "measuring": N_("Measuring how long a step takes…"),
    "training": N_("It learns."),
    "writing": N_("Writing the model…"),
    "judging": N_("Judging the result…"),
}
SHOWN = 20  # samples of a training
KINDS = {"finetune": N_("Training"), "convert": N_("Conversion")}


@dataclass(frozen=True)
class JobView:
    """A job as pages show it; `ahead` is how many are to be done before it, where it waits. `elsewhere`: on another machine."""

    job: Job
    progress: Progress
    ahead: int
    elsewhere: bool

    @classmethod
    def of(cls, job: Job, ahead: int, machine: str) -> "JobView":
        """A job as it is stored; `machine` is ours."""
        return cls(job, Progress.from_json(job.progress), ahead, job.machine != machine)

    @property
    def title(self) -> str:
        """What it is called, in the language of the page that shows it."""
        return title_of(self.job)

    @property
    def kind(self) -> str:
        """What it is, in a word."""
        return gettext(KINDS.get(self.job.kind, self.job.kind))

    @property
    def live(self) -> bool:
        """Whether what the page shows will be another thing in a moment."""
        return self.job.state in AT_WORK or self.job.wish is not None

    @property
    def sentence(self) -> str:
        """Where it stands."""
        state, told = self.job.state, self.progress
        if self.job.wish is not None:
            return self._wish
        if state == JobState.WAITING:
            if not self.ahead:
                return gettext("It begins in a moment.")
            return gettext("It waits in line, behind {others}.", others=counted(self.ahead, "other"))
        if state == JobState.RUNNING:
            return gettext(STAGES.get(told.stage, N_("It is being done…")))
        if state == JobState.STOPPED:
            if not told.total:
                return gettext("Stopped. It goes on from there when you like.")
            reached = N_("Stopped at {done} of {total}. It goes on from there when you like.")
            if told.unit == "steps":
                reached = N_("Stopped at step {done} of {total}. It goes on from there when you like.")
            total = amount(told.total, told.unit, named=told.unit != "steps")
            return gettext(reached, done=amount(told.done, told.unit), total=total)
        return {
            JobState.LOOKING: gettext("Looking at it…"),
            JobState.DRAFT: self._said or gettext("This is what was found. Nothing has been learned yet."),
            JobState.DONE: gettext("Done: {model} is there.", model=self.job.makes),
            JobState.FAILED: gettext("One question, and it goes on.") if self.only_asks else self._said,
        }[JobState(state)]

    @property
    def _wish(self) -> str:
        """What was asked of it and is not done yet."""
        if self.job.wish == "stop":
            return gettext("It saves what it has, and stops…")
        if self.elsewhere:
            return gettext("It is thrown away as soon as its server, {machine}, sees to it.", machine=self.job.machine)
        return gettext("It is thrown away…")

    @property
    def _said(self) -> str:
        """What was said when it ended, in the page's language where its message is known."""
        problem = self.progress.problem
        if not problem or not self.job.sentence or languages.current() is languages.ENGLISH:
            return gettext(self.job.sentence)
        return str(Problem.from_json(problem["message"], problem["values"]))

    @property
    def assumed(self) -> list[str]:
        """How its files were read, a sentence for each way."""
        lines = self.progress.found.get("assumed", [])  # texts where an earlier version looked
        return [line if isinstance(line, str) else str(Problem.from_json(**line)) for line in lines]

    @property
    def command(self) -> str:
        """What a terminal would be told to do the same, beside the job's files."""
        out = ["--out", f"models/{self.job.makes}"] if self.job.kind == "finetune" else [f"models/{self.job.makes}"]
        first, *others = self.job.arguments or [""]
        words = [first, *others, *out] if self.job.kind == "finetune" else [first, *out, *others]
        return shlex.join(["python", "-m", self.job.kind, *words])

    @property
    def is_refused(self) -> bool:
        """Whether the sentence says that something cannot be done as it was asked."""
        return bool(self.job.sentence) and not self.only_asks

    @property
    def only_asks(self) -> bool:
        """Whether the sentence is the terminal's way to ask, in place of which a page has its form."""
        return is_asked_first(self.job)

    @property
    def facts(self) -> list[str]:
        """How far it is, how fast, and how long it will still take; the same number of words from one moment to the next."""
        told = self.progress
        if self.job.state not in (JobState.RUNNING, JobState.STOPPED) or not told.total:
            return []
        left = about(told.left) if self.job.state == JobState.RUNNING else ""
        return [
            gettext(
                "{done} of {total}",
                done=amount(told.done, told.unit),
                total=amount(told.total, told.unit, named=True),
            ),
            *filter(None, [self.speed, left and gettext("{time} left", time=left)]),
        ]

    @property
    def speed(self) -> str:
        """What it does in a second."""
        last = self.progress.history[-1] if self.progress.history else {}
        if (tokens := number(last.get("tokens_per_second"))) is not None:
            return gettext("{count:,.0f} tokens a second", count=tokens)
        if self.progress.unit != "bytes":
            return ""
        return gettext("{count:,.1f} MB a second", count=self.progress.pace / 1e6)

    @property
    def share(self) -> float | None:
        """How much of its stage is done, from 0 to 1; None where that is not known."""
        return min(1.0, self.progress.done / self.progress.total) if self.progress.total else None

    @property
    def curve(self) -> Curve | None:
        """The losses by now."""
        steps = self.progress.total if self.progress.unit == "steps" else 0
        return draw(losses(self.progress.history), losses(self.progress.evaluations, "validation"), steps)

    @property
    def samples(self) -> list[TrainingSample]:
        """What the model wrote on the way, the newest first."""
        return samples(self.progress.samples)[: -SHOWN - 1 : -1]


def amount(count: float, unit: str, named: bool = False) -> str:
    """A number of units as people read it."""
    if unit == "bytes":
        return f"{count / 1e6:,.1f}{' MB' if named else ''}"
    return counted(round(count), "step") if named and unit == "steps" else f"{count:,.0f}"
