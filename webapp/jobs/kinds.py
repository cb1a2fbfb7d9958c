"""The kinds of jobs: which program does one, and how it is told what to make and to go on. Imports none of them."""

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


def finetuning(arguments: Sequence[str], out: Path) -> list[str]:
    """A training; one that was stopped, or whose machine failed, goes on from its last checkpoint."""
    resumed = ["--resume"] if any(work_of(out).glob("checkpoint-*")) else []
    return [*arguments, "--out", str(out), *resumed]


def conversion(arguments: Sequence[str], out: Path) -> list[str]:
    """A conversion; the first of its arguments is the source, and its target stands behind that."""
    return [arguments[0], str(out), *arguments[1:]]


@dataclass(frozen=True)
class Kind:
    """`command` makes a program's arguments of a job's own and of the folder to make; `looks`: there is a `look` at it first."""

    command: Callable[[Sequence[str], Path], list[str]]
    looks: bool


KINDS = {"finetune": Kind(finetuning, looks=True), "convert": Kind(conversion, looks=False)}


def work_of(out: Path) -> Path:
    """Where a training lives until `out` is whole; `finetune/task.py` says so."""
    return out.parent / f".{out.name}.training"


def sweep(out: Path) -> None:
    """Remove what a process that was killed has left beside `out`; what a training can go on from stays."""
    half_made = re.compile(re.escape(f".{out.name}-") + "[a-z0-9_]{8}")  # as `generate/folders/atomic.py` names them
    for path in [path for path in out.parent.iterdir() if half_made.fullmatch(path.name)]:
        shutil.rmtree(path, ignore_errors=True)


def clear(out: Path) -> None:
    """Remove all that a job which is thrown away has left half-made beside `out`."""
    sweep(out)
    shutil.rmtree(work_of(out), ignore_errors=True)
