"""Checkpoints on the disk: only complete ones have a name, and only so many are kept."""

import os
import shutil
from pathlib import Path

PREFIX = "checkpoint-"


def checkpoints(root: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted((path for path in root.glob(f"{PREFIX}*") if step_of(path) >= 0), key=step_of)


def step_of(checkpoint: Path) -> int:
    number = checkpoint.name.removeprefix(PREFIX)
    return int(number) if number.isdecimal() else -1


def show(hidden: Path, shown: Path) -> None:
    """Bring a complete checkpoint to the disk, then under its name, in one step."""
    for path in (*hidden.rglob("*"), hidden):
        sync(path)
    shutil.rmtree(shown, ignore_errors=True)
    hidden.rename(shown)
    sync(shown.parent)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def forget(root: Path, keep: int, best: int | None) -> None:
    """Remove all checkpoints but the newest `keep`, and the best one."""
    for checkpoint in checkpoints(root)[:-keep]:
        if step_of(checkpoint) != best:
            shutil.rmtree(checkpoint)


def could_not_save(step: int, error: Exception, complete: list[Path]) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0][:200]
    last = f"the one of step {step_of(complete[-1]):,} is complete: make room and go on with --resume" if complete else (
        "there is no older one"
    )  # fmt: skip
    return f"The checkpoint of step {step:,} could not be written ({reason}); {last}."
