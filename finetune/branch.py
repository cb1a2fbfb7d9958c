"""`python -m finetune branch`: a copy of a training from its newest checkpoint on, to be cooled down and finished.

So there can be a finished model of a training at a constant rate while that goes on.
"""

import shutil
from dataclasses import asdict, replace
from pathlib import Path

from finetune.checkpoints import checkpoints, damaged, step_of
from finetune.option_checks import agreeing, as_options, check
from finetune.options import Options
from finetune.record import Record
from finetune.schedule import warmup_steps
from finetune.task import TOKENIZER, alone, clear, work_of
from generate import Refusal, check_target

MAY_DIFFER = ("cooldown", "ema", "weight_decay", "dtype")
TRIES = 5  # the training that goes on may remove a checkpoint while it is copied


def branch(source: Path, out: Path, given: dict, force: bool = False) -> int:
    """Make the folder of a training `out` that begins where the newest checkpoint of the training `source` is.

    `source` is what that training's --out is, and it may go on meanwhile. `given` has `cooldown`, in steps, and may have the
    other options in MAY_DIFFER. Returns the step. Raises Refusal.
    """
    for name, value in given.items():
        check(name, value)
    origin, target = work_of(source), work_of(out)
    if out.resolve() == source.resolve():
        raise Refusal("{path} is the training itself; give the copy another name.", path=out)
    check_target(out, force, source)
    if not checkpoints(origin):
        raise Refusal("There is no training of {path} with a checkpoint to begin from.", path=source)
    record = Record.read(origin / "run.json")
    before, steps = as_options(record.facts["options"]), record.facts["steps"]
    cooled(before, steps, step_of(checkpoints(origin)[-1]), given)  # refused before anything is made
    if checkpoints(target) and not force:
        raise Refusal(
            "{path} is being trained already; go on with --resume, or add --force to replace that training.", path=out
        )
    with alone(target):
        clear(target)
        step = step_of(copy_newest(origin, target))
        if (origin / TOKENIZER).is_file():
            shutil.copyfile(origin / TOKENIZER, target / TOKENIZER)
        options = cooled(before, steps, step, given)
        facts = record.facts | {"options": asdict(options), "steps": options.steps, "state": "stopped"}
        facts["branch"] = {"of": source.name, "step": step}
        made = Record(target / "run.json", facts)
        made.cut(step)
        made.save()
    return step


def copy_newest(origin: Path, target: Path) -> Path:
    """Copy the newest checkpoint of a training that may go on meanwhile; raises Refusal when it is damaged."""
    for _ in range(TRIES):
        newest = checkpoints(origin)[-1]
        hidden, copy = target / f".{newest.name}", target / newest.name
        try:
            shutil.copytree(newest, hidden)
        except (OSError, shutil.Error):
            shutil.rmtree(hidden, ignore_errors=True)
            if newest.is_dir():
                raise
            continue
        if file := damaged(hidden):
            raise Refusal(
                "{path} is missing or damaged; remove {checkpoint} to begin from the one before it.",
                path=newest / file,
                checkpoint=newest.name,
            )
        hidden.rename(copy)
        return copy
    raise Refusal(
        "{training} replaces its checkpoints faster than they can be copied; stop it for a moment.",
        training=origin.name,
    )


def cooled(before: Options, steps: int, step: int, given: dict) -> Options:
    """The options of the copy: those of the training, `cooldown` steps more from `step` on, and what else is given."""
    if before.schedule != "constant":
        raise Refusal(
            "The rate of that training falls by itself (--schedule {schedule}); only a constant one branches.",
            schedule=before.schedule,
        )
    if not given["cooldown"]:
        raise Refusal("--cooldown must be at least 1 step, not 0.")
    warmup = warmup_steps(before, steps)
    if step < warmup:
        raise Refusal(
            "Checkpoint {step:,} is in the warm-up of {warmup:,} steps still; wait until that is over.",
            step=step,
            warmup=warmup,
        )
    kept = {"warmup": max(1, warmup) if before.warmup else 0, "steps": step + given["cooldown"], "minutes": 0.0}
    return agreeing(replace(before, **kept, **given))
