"""One training from the first look at the data to a complete `models/NAME`."""

import errno
import gc
import os
import shutil
import tempfile
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path

import tokenizers
import torch
from accelerate import PartialState
from accelerate.utils import find_executable_batch_size
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback

from finetune import data, measure, result, samples
from finetune.arguments import arguments, precision_of, rhythm
from finetune.checkpoints import checkpoints, damaged, step_of
from finetune.progress import Watch
from finetune.record import Record, begun, resumed
from finetune.start import Start, block_size, find_folder, from_folder, load_model
from finetune.stopping import Stop
from finetune.task import TOKENIZER, Task, alone, check_work, choose_device, clear_work
from finetune.trainer import Tuner
from finetune.windows import collate, windows
from generate import ModelFolder, Refusal, Score, check_folder, check_target

FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO)


def train(task: Task) -> ModelFolder | None:
    """Train, and make the folder `task.out`; None when it was stopped on the way. Raises Refusal with one sentence."""
    for source in (*task.given, *task.validation):
        check_target(task.out, task.force, Path(source))
    device = choose_device(task.options.device)
    precision_of(task.options, device)
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
            return Training(task, device, process, Stop(), Path(scratch)).run()
        except OSError as error:
            raise Refusal(disk_trouble(task, error)) from None
        finally:
            if process.is_main_process and not checkpoints(task.work):
                shutil.rmtree(task.work, ignore_errors=True)  # there is nothing in it to go on with


def join(device: str) -> PartialState:
    """This process among those of `torchrun`, if there are others; they may wait long while one tokenises."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return PartialState(cpu=device == "cpu")
    backend = {"backend": "gloo"} if device == "cpu" else {}
    return PartialState(cpu=device == "cpu", timeout=timedelta(days=1), **backend)


def disk_trouble(task: Task, error: OSError) -> str:
    last = checkpoints(task.work)
    kept = f"; the checkpoint of step {step_of(last[-1]):,} is complete, go on with --resume" if last else ""
    what = "cannot be written" if error.errno in FULL else "cannot be used"
    return f"{error.filename or task.work} {what}: {error.strerror or error}{kept}."


class Events(TensorBoardCallback):
    def on_train_begin(self, args, state, control, **kwargs):
        """Theirs writes all arguments down, with the folders of this machine."""


class Training:
    """The pieces of one training. Every process has one; the main one writes."""

    def __init__(self, task: Task, device: str, process: PartialState, stop: Stop, scratch: Path):
        self.task, self.options, self.device = task, task.options, device
        self.process, self.stop, self.main = process, stop, process.is_main_process
        self.scratch = scratch

    def run(self) -> ModelFolder | None:
        with self.process.main_process_first() if self.process.num_processes > 1 else nullcontext():
            self.start = self.make_start()
            self.block = block_size(self.start, self.options)
            arguments = (self.task.given, self.task.validation, self.options, self.start, self.task.cache)
            self.data = data.load(*arguments, self.scratch, self.main)
        begun = dict.fromkeys(self.data.parts, self.start.begin is not None)
        if self.data.cut:
            begun |= dict.fromkeys(begun.keys() - {"train"}, False)  # what was cut off does not begin with the token
        self.windows = {
            name: windows(
                part, self.block, self.start.context, self.options.line_by_line, begun[name], alternate=name == "train"
            )
            for name, part in self.data.parts.items()
        }
        self.steps = self.count_steps()
        self.every = rhythm(self.options, self.steps)
        self.checkpoint = next(reversed(checkpoints(self.task.work)), None) if self.task.resume else None
        if self.checkpoint and (file := damaged(self.checkpoint)):
            raise Refusal(
                f"{self.checkpoint / file} is missing or damaged; remove {self.checkpoint.name} to go on from the checkpoint "
                "before it, or begin anew with --force."
            )
        if self.main:
            clear_work(self.task)
        self.record = self.make_record()
        self.say_what_comes()
        share = self.options.batch_size // self.process.num_processes
        return find_executable_batch_size(self.attempt, share, partial(self.halve, [share]))()

    def make_start(self) -> Start:
        """The base model with its tokenizer; a new tokenizer is trained once and then kept with the training."""
        if self.task.model:
            folder = check_folder(find_folder(self.task.model, self.task.models))
            folder.fingerprint()  # its weights are those that its manifest promises
            return from_folder(folder, self.options)
        kept = self.task.work / TOKENIZER
        if kept.is_file() and (self.task.resume or not self.main):
            try:
                tokenizer = tokenizers.Tokenizer.from_file(str(kept))
            except Exception as error:  # it has no class of its own
                raise Refusal(f"{kept} is damaged ({error}); begin anew with --force.") from None
            tokenizer.encode_special_tokens = True
            return Start(tokenizer, None, 0, 0, None, False)
        start = data.new_tokenizer(self.task.given, self.options, self.scratch)
        start.tokenizer.save(str(kept))
        return start

    def count_steps(self) -> int:
        """Optimizer steps in all."""
        o, world = self.options, self.process.num_processes
        if o.batch_size % world:
            raise Refusal(f"--batch-size {o.batch_size} cannot be shared by {world} processes; give a multiple.")
        batches = -(-len(self.windows["train"]) // o.batch_size)
        steps = o.steps or round(o.epochs * -(-batches // o.gradient_accumulation))
        if steps < 1:
            raise Refusal(f"--epochs {o.epochs:g} of {batches} batches are no step at all; give --steps.")
        return steps

    def make_record(self) -> Record:
        file, base = self.task.work / "run.json", self.start.folder
        now = self.data.facts() | {
            "model": base and {"name": base.name, "fingerprint": base.fingerprint()},
            "processes": self.process.num_processes,
        }
        if self.task.resume:
            return resumed(Record.read(file, self.main), now, step_of(self.checkpoint))
        o = self.options
        how = {"command": self.task.command, "device": self.device, "precision": precision_of(o, self.device)}
        return begun(file, self.main, now | how | {"options": asdict(o), "steps": self.steps})

    def halve(self, share: list[int]) -> int:
        """The next smaller batch that its accumulated batches add up to the same as before."""
        if self.process.num_processes > 1:
            raise Refusal(
                "Memory is too short on one of the devices; give a smaller --batch-size with more --gradient-accumulation, "
                "or --gradient-checkpointing."
            )
        share[0] = next((n for n in range(share[0] // 2, 0, -1) if share[0] % n == 0), 0)
        if not share[0]:
            raise Refusal(
                f"Memory is too short for one window of {self.block:,} tokens; give --gradient-checkpointing, a smaller "
                "--block-size, --lora, or a smaller model."
            )
        self.say(f"Memory is short: going on with {share[0]} window(s) at a time, and the same steps.")
        self.model = self.tuner = None  # what they hold is needed
        if last := checkpoints(self.task.work):
            self.checkpoint = last[-1]
            self.record.cut(step_of(self.checkpoint))
        return share[0]

    def attempt(self, batch_size: int) -> ModelFolder | None:
        """Train with so many windows at a time on each device."""
        gc.collect()  # of an attempt that memory was too short for
        o = self.options
        accumulation = o.gradient_accumulation * (o.batch_size // self.process.num_processes) // batch_size
        args = arguments(o, self.task.work, self.steps, batch_size, accumulation, self.device)
        model = load_model(self.start, o)
        self.model = model
        self.lengths = data.byte_lengths(self.start, model.config.vocab_size)
        held = self.windows.get("validation")
        watch = Watch(
            self.record, self.stop, self.every, held is not None, o.patience, self.sample, self.main
        )  # fmt: skip
        tuner = Tuner(
            model,
            args,
            self.windows["train"],
            partial(collate, pad=self.start.pad),
            o,
            self.score,
            self.finish_checkpoint,
            watch.best_step,
        )
        watch.tuner = self.tuner = tuner
        if self.process.process_index:
            torch.manual_seed(o.seed + self.process.process_index)  # other dropout than the first's
        tuner.remove_callback(PrinterCallback)
        tuner.add_callback(watch)
        writer = self.tensorboard()
        if writer:
            tuner.add_callback(Events(writer))
        if self.checkpoint is None:
            self.before(watch)
        with self.stop:
            if self.checkpoint and step_of(self.checkpoint) >= self.steps:  # only the end was missing
                tuner._load_from_checkpoint(str(self.checkpoint))
                tuner.state.global_step = step_of(self.checkpoint)
            else:
                tuner.train(resume_from_checkpoint=self.checkpoint and str(self.checkpoint))
        if writer:
            writer.close()
        return self.stopped() if watch.stopped else self.finish(watch)

    def before(self, watch: Watch) -> None:
        """How well the model does before anything is learned."""
        self.record.cut(-1)
        for part in ("validation", "test"):
            if part in self.windows:
                found = self.score(part)
                if part == "validation":
                    watch.note_score(0, found)
                else:
                    self.record.add_score(0, part, found)

    def score(self, part: str = "validation") -> Score:
        autocast = self.tuner.accelerator.autocast()
        return measure.score(self.model, self.windows[part], self.lengths, self.start.pad, self.block, autocast)

    def sample(self) -> dict[str, str]:
        return samples.write_sample(self.model, self.start, self.options, self.task.work, self.device)

    def finish_checkpoint(self, folder: Path) -> None:
        """A checkpoint is a model too, which the page serves where it is copied to models/ (with --lora only its adapters)."""
        self.start.tokenizer.save(str(folder / "tokenizer.json"))

    def tensorboard(self):
        if not self.main:
            return None
        from torch.utils.tensorboard import SummaryWriter

        resumed = step_of(self.checkpoint) + 1 if self.checkpoint else None
        return SummaryWriter(str(self.task.work / "tensorboard"), purge_step=resumed)

    def stopped(self) -> None:
        step = self.tuner.state.global_step
        self.record.facts["state"] = "stopped"
        self.record.save()
        self.say(
            f"Stopped and saved at step {step:,} of {self.steps:,}. The same command with --resume goes on from there."
        )

    def finish(self, watch: Watch) -> ModelFolder | None:
        """Take the best or the last weights, judge them, and put the folder in its place."""
        best = watch.best_step()
        if best is not None and best != self.tuner.state.global_step:
            kept = self.task.work / f"checkpoint-{best}"
            if kept.is_dir():
                self.tuner._load_from_checkpoint(str(kept))
                self.record.facts["best_step"] = best
        if "test" in self.windows:
            step = self.record.facts.get("best_step", self.tuner.state.global_step)
            self.record.add_score(step, "test", self.score("test"))
        self.process.wait_for_everyone()
        if not self.main:
            return None
        self.record.facts["state"] = "done"
        ids = self.windows["train"][0].tolist()
        result.place(self.task.out, self.task.work, self.model, self.start, self.options, self.record.facts, ids)
        shutil.rmtree(self.task.work)
        self.say_what_came()
        return check_folder(self.task.out)

    def say(self, text: str) -> None:
        if self.main:
            print(text, flush=True)

    def say_what_comes(self) -> None:
        found = self.data.parts
        counts = ", ".join(
            f"{name} {len(part):,} document{'s' * (len(part) != 1)}, {part.size:,} tokens"
            for name, part in found.items()
        )
        self.say(counts + (" (cut from each document: there are few)" if self.data.cut else ""))
        self.say(f"{self.steps:,} steps of {self.options.batch_size * self.options.gradient_accumulation} windows of {self.block:,} tokens, on {self.device}.")  # fmt: skip

    def say_what_came(self) -> None:
        found = [e for e in self.record.facts["evaluations"] if e["part"] == "validation" and "perplexity" in e]
        if found:
            kept = self.record.facts.get("best_step")
            first, last = found[0], next((e for e in found if e["step"] == kept), found[-1])
            self.say(
                f"Perplexity on the validation part: {first['perplexity']:,.2f} before, {last['perplexity']:,.2f} now."
            )
        listed = self.task.out.resolve().parent == self.task.models
        self.say(
            f"{self.task.out} is there; {'the page lists it by itself' if listed else 'in models/ the page would list it'}."
        )
