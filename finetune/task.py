"""What a person asked for, and whether it may begin."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from finetune.checkpoints import checkpoints, step_of
from finetune.options import Options
from finetune.record import Record
from generate import Journal, Refusal, half_made

try:
    import fcntl
except ImportError:  # not on Windows: there two processes must be kept apart by those who start them
    fcntl = None

LOCK, TOKENIZER = "lock", "tokenizer.json"  # files in the folder of a training
OWNER = "job"  # another, in which whoever began it for somebody may say whose it is


@dataclass(frozen=True)
class Task:
    """What a person asked for. `model` is "" for a training from nothing, which `tokenizer` names the tokens of, or ""."""

    given: Sequence[str]
    validation: Sequence[str]
    model: str
    out: Path
    options: Options
    models: Path
    cache: Path
    teachers: Sequence[str] = ()
    tokenizer: str = ""
    command: str = ""
    resume: bool = False
    force: bool = False
    journal: Journal = field(default_factory=Journal)

    @property
    def work(self) -> Path:
        """Where the training lives until it is done."""
        return work_of(self.out)


def work_of(out: Path) -> Path:
    """Where a training lives until it is done; hidden, so that the page does not list it."""
    return out.parent / f".{out.name}.training"


def check_work(task: Task) -> None:
    """What an earlier training left is gone on with, or replaced, only when that was asked for."""
    begun = checkpoints(task.work)
    if task.resume and not begun:
        raise Refusal("There is no training of {path} to resume; leave --resume out to begin one.", path=task.out)
    if task.resume and bool(task.model) != bool(base := Record.read(task.work / "run.json").facts.get("model")):
        how = f"--model {base['name']}" if base else "--from-scratch"
        raise Refusal("This training began with {how}; go on with that, or begin anew with --force.", how=how)
    if begun and not task.resume and not task.force:
        last = step_of(begun[-1])
        raise Refusal(
            "{path} was being trained up to step {step:,}; go on with --resume, or begin anew with --force.",
            path=task.out,
            step=last,
        )


def clear_work(task: Task) -> None:
    """Remove what processes that were killed left half-made, and of an older training all that is not gone on with.

    Called when nothing can be refused any more, so that a mistyped option beside --force costs no checkpoints.
    """
    for path in (*task.work.glob(".sample-*"), *half_made(task.out)):
        shutil.rmtree(path, ignore_errors=True)
    if not task.resume:
        clear(task.work, TOKENIZER)


def clear(folder: Path, *kept: str) -> None:
    """Remove what lies in a folder, but for the lock, whose it is, and what else is kept."""
    for path in folder.iterdir():
        if path.name not in (LOCK, OWNER, *kept):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def alone(work: Path) -> Iterator[None]:
    """Hold the folder of a training; raises Refusal while another process does."""
    work.mkdir(exist_ok=True)
    with (work / LOCK).open("w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                name = work.name.removeprefix(".").removesuffix(".training")
                raise Refusal(
                    "{name} is being trained by another process at this moment; wait for it, or stop it.", name=name
                ) from None
        yield


def choose_device(wanted: str) -> str:
    """`cuda` or `cpu`; raises Refusal for a GPU that is not there."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise Refusal("--device is cuda, but there is no CUDA device here; use cpu or auto.")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
