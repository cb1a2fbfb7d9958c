"""What a person asked for, and whether it may begin."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from finetune.checkpoints import checkpoints, step_of
from finetune.options import Options
from generate import Refusal


@dataclass(frozen=True)
class Task:
    """What a person asked for. `model` is "" for a training from nothing."""

    given: Sequence[str]
    validation: Sequence[str]
    model: str
    out: Path
    options: Options
    models: Path
    cache: Path
    command: str = ""
    resume: bool = False
    force: bool = False

    @property
    def work(self) -> Path:
        """Where a training lives until it is done; hidden, so that the page does not list it."""
        return self.out.parent / f".{self.out.name}.training"


def check_work(task: Task) -> None:
    """What an earlier training left is gone on with, or replaced, only when that was asked for."""
    begun = (task.work / "run.json").is_file()
    if task.resume and not begun:
        raise Refusal(f"There is no training of {task.out} to resume; leave --resume out to begin one.")
    if begun and not task.resume and not task.force:
        last = checkpoints(task.work)
        at = f" up to step {step_of(last[-1]):,}" if last else ""
        raise Refusal(f"{task.out} was being trained{at}; go on with --resume, or begin anew with --force.")
    if task.work.exists() and not task.resume:
        shutil.rmtree(task.work)


def choose_device(wanted: str) -> str:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise Refusal("--device is cuda, but there is no CUDA device here; use cpu or auto.")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
