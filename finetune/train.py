"""One training from the first look at the data to a complete `models/NAME`."""

import errno
import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from accelerate import PartialState

from finetune.arguments import precision_of
from finetune.checkpoints import checkpoints, step_of
from finetune.plan import make_plan
from finetune.task import Task, alone, check_work, choose_device
from finetune.training import Training
from generate import ModelFolder, Refusal, check_target, remove_whole

FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO)


def train(task: Task) -> ModelFolder | None:
    """Train, and make the folder `task.out`; None when it was stopped on the way. Raises Refusal with one sentence."""
    since = time.monotonic()
    for source in (*task.given, *task.validation):
        check_target(task.out, task.force, Path(source))
    device = choose_device(task.options.device)
    precision_of(task.options, device)
    if task.options.compile and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise Refusal("--compile needs a C++ compiler, and there is none; install g++, or leave --compile out.")
    process = join(device)
    if "-" in task.given and "-" in task.validation:
        raise Refusal("- (stdin) can be read once only; give --validation a file.")
    if process.num_processes > 1 and "-" in (*task.given, *task.validation):
        raise Refusal("- (stdin) reaches one process only; give several a file.")
    with ExitStack() as held:
        if process.is_main_process:
            held.enter_context(alone(task.work))
        try:
            if process.is_main_process:
                check_work(task)
            process.wait_for_everyone()
            scratch = held.enter_context(tempfile.TemporaryDirectory(prefix="rubric-"))
            task.journal.tell("stage", name="reading")
            plan = make_plan(task, process, Path(scratch))
            return Training(task, plan, device, process, since).run()
        except OSError as error:
            raise disk_trouble(task, error) from None
        finally:
            if process.is_main_process and not checkpoints(task.work):
                remove_whole(task.work, task.out)  # there is nothing in it to go on with


def join(device: str) -> PartialState:
    """This process among those of `torchrun`, if there are others; they may wait long while one tokenises."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return PartialState(cpu=device == "cpu")
    backend = {"backend": "gloo"} if device == "cpu" else {}
    return PartialState(cpu=device == "cpu", timeout=timedelta(days=1), **backend)


def disk_trouble(task: Task, error: OSError) -> Refusal:
    """The refusal for a disk that is full or fails: what cannot be written, and how to go on."""
    full, path, reason = error.errno in FULL, error.filename or task.work, error.strerror or error
    if not (complete := checkpoints(task.work)):
        return Refusal(
            "{path} cannot be written: {reason}." if full else "{path} cannot be used: {reason}.",
            path=path,
            reason=reason,
        )
    return Refusal(
        "{path} cannot be written: {reason}; the checkpoint of step {step:,} is complete, go on with --resume."
        if full
        else "{path} cannot be used: {reason}; the checkpoint of step {step:,} is complete, go on with --resume.",
        path=path,
        reason=reason,
        step=step_of(complete[-1]),
    )
