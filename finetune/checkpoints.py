"""Checkpoints on the disk: only complete ones have a name, and only so many are kept."""

import json
import shutil
from pathlib import Path
from zipfile import is_zipfile

from safetensors import SafetensorError, safe_open

from generate import Refusal, sync

PREFIX = "checkpoint-"


def checkpoints(root: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted((path for path in root.glob(f"{PREFIX}*") if step_of(path) >= 0), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name, -1 where the name has none."""
    number = checkpoint.name.removeprefix(PREFIX)
    return int(number) if number.isdecimal() else -1


def show(hidden: Path, shown: Path) -> None:
    """Bring a complete checkpoint to the disk, then under its name, in one step."""
    for path in (*hidden.rglob("*"), hidden):
        sync(path)
    shutil.rmtree(shown, ignore_errors=True)
    hidden.rename(shown)
    sync(shown.parent)


def forget(root: Path, keep: int, best: int | None) -> None:
    """Remove all checkpoints but the newest `keep`, and the best one."""
    for checkpoint in checkpoints(root)[:-keep]:
        if step_of(checkpoint) != best:
            gone = root / f".{checkpoint.name}"
            checkpoint.rename(gone)  # half a checkpoint is never seen
            shutil.rmtree(gone)


def damaged(checkpoint: Path) -> str | None:
    """A file of a checkpoint that is missing or was cut short, as far as can be told without reading all of it."""
    weights = "adapter_model.safetensors" if (checkpoint / "adapter_config.json").is_file() else "model.safetensors"
    states = [path.name for path in checkpoint.glob("rng_state*.pth")] or ["rng_state.pth"]
    try:
        with safe_open(checkpoint / (name := weights), "numpy"):
            pass
        for name in ("trainer_state.json", *(n for n in ("config.json",) if (checkpoint / n).exists())):
            json.loads((checkpoint / name).read_text("utf-8"))
    except (OSError, ValueError, SafetensorError):
        return name
    return next((name for name in ("optimizer.pt", "scheduler.pt", *states) if not is_zipfile(checkpoint / name)), None)


def could_not_save(step: int, error: Exception, complete: list[Path]) -> Refusal:
    """The refusal to raise when saving failed: why, and what a training can be resumed from."""
    reason = (
        error.strerror
        if isinstance(error, OSError) and error.strerror
        else next(iter(str(error).splitlines()), type(error).__name__)[:200]
    )
    if not complete:
        return Refusal(
            "The checkpoint of step {step:,} could not be written ({reason}); there is no older one.",
            step=step,
            reason=reason,
        )
    return Refusal(
        "The checkpoint of step {step:,} could not be written ({reason}); the one of step {last:,} is complete: make "
        "room and go on with --resume.",
        step=step,
        reason=reason,
        last=step_of(complete[-1]),
    )
