"""The pieces of one training put together: trained, judged, and placed in `models/`."""

import gc
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import find_executable_batch_size
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback

from finetune import data, measure, pace, result, samples, telling
from finetune.arguments import arguments, precision_of, rhythm
from finetune.average import Average
from finetune.checkpoints import checkpoints, damaged, step_of
from finetune.divergence import check_not_diverged, how_to_go_on
from finetune.model import load_model
from finetune.plan import Plan, count_steps
from finetune.progress import Watch
from finetune.record import Record, begun, resumed
from finetune.schedule import WeightDecay, falling_steps
from finetune.stopping import Stop
from finetune.task import Task, clear_work
from finetune.teachers import Teachers
from finetune.trainer import Tuner
from finetune.windows import collate
from generate import N_, ModelFolder, Refusal, Score, check_folder, counted, gettext, remove_whole

UNKNOWN = 10**6  # steps of a training whose pace is being measured


class Events(TensorBoardCallback):
    """Event files for TensorBoard."""

    def on_train_begin(self, args, state, control, **kwargs):
        """Theirs writes all arguments down, with the folders of this machine."""


class Training:
    """Every process has one; the main one writes."""

    def __init__(self, task: Task, plan: Plan, device: str, process: PartialState, since: float):
        self.task, self.plan, self.options, self.device = task, plan, plan.options, device
        self.process, self.main, self.since, self.stop = process, process.is_main_process, since, Stop()
        self.steps = count_steps(plan, process.num_processes)
        self.checkpoint = next(reversed(checkpoints(task.work)), None) if task.resume else None
        if self.checkpoint and (file := damaged(self.checkpoint)):
            raise Refusal(
                "{path} is missing or damaged; remove {checkpoint} to go on from the checkpoint before it, or begin "
                "anew with --force.",
                path=self.checkpoint / file,
                checkpoint=self.checkpoint.name,
            )
        if self.main:
            clear_work(task)
        self.record = self.make_record()
        self.record.journal = task.journal
        self.say(*map(str, plan.data.assumed), plan.data.told, *telling.of_unknown(plan), *plan.choices)

    def make_record(self) -> Record:
        """A new run.json, or with --resume the one that is there, cut back to the checkpoint's step."""
        file = self.task.work / "run.json"
        now = self.plan.facts() | {"processes": self.process.num_processes}
        if self.task.resume:
            record = resumed(Record.read(file, self.main), now, step_of(self.checkpoint))
            self.steps = record.facts["steps"]
            return record
        how = {
            "command": self.task.command,
            "device": self.device,
            "precision": precision_of(self.options, self.device),
        }
        return begun(file, self.main, now | how | {"options": asdict(self.options), "steps": self.steps})

    def run(self) -> ModelFolder | None:
        """The folder that was made; None when it was stopped on the way."""
        share = self.options.batch_size // self.process.num_processes
        return find_executable_batch_size(self.attempt, share, partial(self.halve, [share]))()

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
                "Memory is too short for one window of {block_size:,} tokens; give --gradient-checkpointing, a "
                "smaller --block-size, --lora, or a smaller model.",
                block_size=self.plan.block_size,
            )
        windows = counted(share[0], "window")
        self.say(gettext("Memory is short: going on with {windows} at a time, and the same steps.", windows=windows))
        self.model = self.tuner = None  # what they hold is needed
        if last := checkpoints(self.task.work):
            self.checkpoint = last[-1]
            self.record.cut(step_of(self.checkpoint))
        return share[0]

    def attempt(self, batch_size: int) -> ModelFolder | None:
        """Train with so many windows at a time on each device."""
        if not self.steps:
            self.measure_pace(batch_size)
        self.every = rhythm(self.options, self.steps)
        self.say(telling.of_length(self.plan, self.steps, self.device))
        self.task.journal.tell("stage", name="training", steps=self.steps, step=self.last_step())
        watch = Watch(
            self.record,
            self.stop,
            self.every,
            "validation" in self.plan.windows,
            self.options.patience,
            self.sample,
            self.main,
        )
        tuner = watch.tuner = self.make_tuner(batch_size, self.steps, watch, watch.best_step)
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

    def last_step(self) -> int:
        """The step that it goes on from."""
        return step_of(self.checkpoint) if self.checkpoint else 0

    def make_tuner(
        self, batch_size: int, steps: int, watch: TrainerCallback, best_step: Callable[[], int | None] = lambda: None
    ) -> Tuner:
        """The model and who trains it; the same every time, for the same seed."""
        self.model = self.tuner = None
        gc.collect()  # of an attempt that memory was too short for
        o = self.options
        accumulation = o.gradient_accumulation * (o.batch_size // self.process.num_processes) // batch_size
        folders = self.plan.teachers
        teachers = Teachers(folders, o.distill_weight, self.device) if folders else None
        self.model = load_model(self.plan.start, o)
        self.lengths = data.byte_lengths(self.plan.start, self.model.config.vocab_size)
        self.average = Average(self.model, o.ema, steps - falling_steps(o, steps)) if o.ema else None
        self.tuner = Tuner(
            self.model,
            arguments(o, self.task.work, steps, batch_size, accumulation, self.device),
            self.plan.windows["train"],
            partial(collate, pad=self.plan.start.pad),
            o,
            teachers,
            self.average,
            self.score,
            self.finish_checkpoint,
            best_step,
            lambda: how_to_go_on(self.task.work, o, self.record.facts),
        )
        if self.process.process_index:
            torch.manual_seed(o.seed + self.process.process_index)  # other dropout than the first's
        self.tuner.remove_callback(PrinterCallback)
        averages = [self.average] if self.average else []
        for callback in (WeightDecay(o, steps), *averages, watch):  # the average before who looks at it
            self.tuner.add_callback(callback)
        return self.tuner

    def measure_pace(self, batch_size: int) -> None:
        """Let --minutes become a number of steps, once and for all."""
        self.task.journal.tell("stage", name="measuring")
        clock = pace.Pace(60 * self.options.minutes)
        tuner = self.make_tuner(batch_size, UNKNOWN, clock)
        evaluation = pace.seconds_for(self.score) if "validation" in self.plan.windows else 0.0
        sample = pace.seconds_for(self.sample) if self.options.sample_every and self.main else 0.0
        tuner.args.set_save(strategy="no")
        tuner.train()
        left = 60 * self.options.minutes - (time.monotonic() - self.since) - evaluation  # another before the first step
        self.steps = pace.agreed(
            pace.steps_in(left, clock.seconds, self.options, evaluation, sample), self.tuner.args.device
        )
        self.record.facts["steps"] = self.steps
        self.record.save()
        told = N_("A step takes {seconds:.2g} s: {steps:,} of them in {minutes:g} minutes.")
        self.say(gettext(told, seconds=clock.seconds, steps=self.steps, minutes=self.options.minutes))

    def before(self, watch: Watch) -> None:
        """How well the model does before anything is learned."""
        self.record.cut(-1)
        for part in ("validation", "test"):
            if part in self.plan.windows:
                found = self.score(part)
                if part == "validation":
                    watch.note_score(0, found)
                else:
                    self.record.add_score(0, part, found)

    def shown(self):
        """While entered, the model has the weights that are evaluated, shown and written."""
        return self.average.shown() if self.average else nullcontext()

    def score(self, part: str = "validation") -> Score:
        """Predict every token of a part once; in nats a token."""
        autocast = self.tuner.accelerator.autocast()
        windows, pad = self.plan.windows[part], self.plan.start.pad
        with self.shown(), torch.compiler.set_stance("force_eager"):
            return measure.score(self.model, windows, self.lengths, pad, self.plan.block_size, autocast)

    def sample(self) -> dict[str, str]:
        """What the model writes now after --sample-prompt, see samples.py."""
        with self.shown():
            return samples.write_sample(self.model, self.plan.start, self.options, self.task.work, self.device)

    def finish_checkpoint(self, folder: Path) -> None:
        """A checkpoint is a model too, which the page serves where it is copied to models/ (with --lora only its adapters)."""
        self.plan.start.tokenizer.save(str(folder / "tokenizer.json"))
        if self.average:
            self.average.save(folder)

    def tensorboard(self):
        """The writer of event files, in the main process alone; entries after the resumed step are dropped."""
        if not self.main:
            return None
        from torch.utils.tensorboard import SummaryWriter

        resumed = step_of(self.checkpoint) + 1 if self.checkpoint else None
        return SummaryWriter(str(self.task.work / "tensorboard"), purge_step=resumed)

    def stopped(self) -> None:
        """Keep that the training was stopped, and say how to go on."""
        step = self.tuner.state.global_step
        self.record.facts["state"] = "stopped"
        self.record.save()
        self.task.journal.tell("stopped", step=step)
        told = N_("Stopped and saved at step {step:,} of {steps:,}. The same command with --resume goes on from there.")
        self.say(gettext(told, step=step, steps=self.steps))

    def finish(self, watch: Watch) -> ModelFolder | None:
        """Take the best or the last weights, judge them, and put the folder in its place."""
        best = watch.best_step()
        if best is not None and best != self.tuner.state.global_step:
            kept = self.task.work / f"checkpoint-{best}"
            if kept.is_dir():
                self.tuner._load_from_checkpoint(str(kept))
                self.record.facts["best_step"] = best
        with self.shown():
            if "test" in self.plan.windows:
                step = self.record.facts.get("best_step", self.tuner.state.global_step)
                self.record.add_score(step, "test", self.score("test"))
            self.process.wait_for_everyone()
            return self.place() if self.main else None

    def place(self) -> ModelFolder:
        """Make the model's folder of what was trained, and return it."""
        task, facts = self.task, self.record.facts
        task.journal.tell("stage", name="writing")
        facts["state"] = "done"
        ids = self.plan.windows["train"][0].tolist()
        self.check_worth_keeping()
        result.place(task.out, task.work, self.model, self.plan.start, self.options, facts, ids)
        remove_whole(task.work, task.out)
        self.say(*telling.of_result(facts), telling.of_folder(task))
        task.journal.tell("done", model=task.out.name)
        return check_folder(task.out)

    def check_worth_keeping(self) -> None:
        """Raises Refusal for what diverged; there is then a checkpoint of it, also where none was asked for."""
        given = self.model, self.record.facts, self.model.config.vocab_size, self.task.work, self.options
        try:
            check_not_diverged(*given)
        except Refusal:
            if self.process.num_processes == 1 and not checkpoints(self.task.work):
                self.tuner._save_checkpoint(self.tuner.model, None)
            check_not_diverged(*given)  # and say where it is

    def say(self, *lines: str) -> None:
        """Print lines; only the first of several processes does."""
        if self.main:
            print(*lines, sep="\n", flush=True)
            self.task.journal.tell("says", lines=list(lines))
