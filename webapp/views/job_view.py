"""What a page says of a job: where it stands in a sentence, how far it is, and what was seen of a training by now."""

import shlex
from dataclasses import dataclass

from generate import counted
from webapp.jobs.progress import Progress
from webapp.jobs.tables import AT_WORK, Job, JobState
from webapp.views.curve import Curve, draw
from webapp.views.sentences import how_long
from webapp.views.training_record import TrainingSample, losses, number, samples

STAGES = {
    "starting": "Starting…",
    "fetching": "Fetching it from the hub…",
    "reading": "Reading it…",
    "measuring": "Measuring how long a step takes…",
    "training": "It learns.",
    "writing": "Writing the model…",
    "judging": "Judging the result…",
}
SHOWN = 20  # samples of a training
KINDS = {"finetune": "Training", "convert": "Conversion"}


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
    def kind(self) -> str:
        """What it is, in a word."""
        return KINDS.get(self.job.kind, self.job.kind)

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
            return (
                f"It waits in line, behind {counted(self.ahead, 'other')}." if self.ahead else "It begins in a moment."
            )
        if state == JobState.RUNNING:
            return STAGES.get(told.stage, "It is being done…")
        if state == JobState.STOPPED:
            at = f" at {told.unit.removesuffix('s')} {told.done:,.0f} of {told.total:,.0f}" if told.total else ""
            return f"Stopped{at}. It goes on from there when you like."
        return {
            JobState.LOOKING: "Looking at it…",
            JobState.DRAFT: self.job.sentence or "This is what was found. Nothing has been learned yet.",
            JobState.DONE: f"Done: {self.job.makes} is there.",
            JobState.FAILED: self.job.sentence,
        }[JobState(state)]

    @property
    def _wish(self) -> str:
        """What was asked of it and is not done yet."""
        if self.job.wish == "stop":
            return "It saves what it has, and stops…"
        if self.elsewhere:
            return f"It is thrown away as soon as its server, {self.job.machine}, sees to it."
        return "It is thrown away…"

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
        return bool(self.job.sentence)

    @property
    def facts(self) -> list[str]:
        """How far it is, how fast, and how long it will still take; the same number of words from one moment to the next."""
        told = self.progress
        if self.job.state not in (JobState.RUNNING, JobState.STOPPED) or not told.total:
            return []
        left = how_long(told.left).removeprefix(", ") if self.job.state == JobState.RUNNING else ""
        return [
            f"{amount(told.done, told.unit)} of {amount(told.total, told.unit, named=True)}",
            *filter(None, [self.speed, left and f"{left} left"]),
        ]

    @property
    def speed(self) -> str:
        """What it does in a second."""
        last = self.progress.history[-1] if self.progress.history else {}
        if (tokens := number(last.get("tokens_per_second"))) is not None:
            return f"{tokens:,.0f} tokens a second"
        return f"{self.progress.pace / 1e6:,.1f} MB a second" if self.progress.unit == "bytes" else ""

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
    return f"{count:,.0f}{f' {unit}' if named else ''}"
