"""The kinds of jobs: which program does one, and how it is told what to make and to go on. Imports none of them."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from generate import half_made, remove_whole


def finetuning(arguments: Sequence[str], out: Path) -> list[str]:
    """A training; one that was stopped, or whose machine failed, goes on from its last checkpoint."""
    resumed = ["--resume"] if any(work_of(out).glob("checkpoint-*")) else []
    return [*arguments, "--out", str(out), *resumed]


def conversion(arguments: Sequence[str], out: Path) -> list[str]:
    """A conversion; the first of its arguments is the source, and its target stands behind that."""
    return [arguments[0], str(out), *arguments[1:]]


OWNER = "job"  # the file that says whose a training is; `finetune/task.py` leaves it where it is


@dataclass(frozen=True)
class Kind:
    """`command` makes a program's arguments of a job's own and of the folder to make; `looks`: there is a `look` at it first;
    `saves`: it keeps in `work_of` that folder what it can go on from; `own`: options that it has here whatever was asked for.
    """

    command: Callable[[Sequence[str], Path], list[str]]
    looks: bool
    saves: bool = False
    own: tuple[str, ...] = ()

    def words(self, arguments: Sequence[str], out: Path, look: bool) -> list[str]:
        """The whole of a program's arguments, for the work or for the look at it."""
        return [*(["look", *arguments] if look else self.command(arguments, out)), *self.own]


ENCODINGS = (
    "encodings"  # in a job's folder: what is made of its text goes with it, and stays in no cache of the server's
)
KINDS = {
    "finetune": Kind(finetuning, looks=True, saves=True, own=(f"--cache={ENCODINGS}",)),
    "convert": Kind(conversion, looks=False),
}


def work_of(out: Path) -> Path:
    """Where a training lives until `out` is whole; `finetune/task.py` says so."""
    return out.parent / f".{out.name}.training"


def sweep(out: Path) -> None:
    """Remove what a process that was killed has left beside `out`; what a training can go on from stays."""
    for path in half_made(out):
        shutil.rmtree(path, ignore_errors=True)


def claim(out: Path, job_id: str) -> bool:
    """Make the folder in which a job's training lives; False where one lives there that is not this job's."""
    work = work_of(out)
    work.mkdir(parents=True, exist_ok=True)
    if not any(work.iterdir()):
        (work / OWNER).write_text(job_id)
    return is_owned(out, job_id)


def is_owned(out: Path, job_id: str) -> bool:
    """Whether what lives in `work_of(out)` is this job's, and none that was begun at the terminal."""
    try:
        return (work_of(out) / OWNER).read_text("utf-8", "replace") == job_id
    except OSError:
        return False


def clear(out: Path, job_id: str) -> None:
    """Remove all that a job which is done or thrown away has left half-made beside `out`, and nothing of others."""
    sweep(out)
    if is_owned(out, job_id):
        remove_whole(work_of(out), out)
