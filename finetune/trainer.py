"""`transformers`' Trainer with four things changed: the order of the data, what an evaluation is, how a checkpoint appears, Muon."""

import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import distributed
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import GPT2LMHeadModel, Trainer, TrainingArguments

from finetune.muon import MuonWithAdamW
from finetune.options import Options
from generate import Refusal, Score

PREFIX = "checkpoint-"
LEAST_RATE = 0.02  # of the learning rate, at the end of the schedule `stable`


class Batches(Sampler):
    """This process's share of every batch of an epoch, as lists of window numbers; the order is fixed by seed and epoch.

    All processes together have each window once: a share may be empty, where accelerate's samplers would repeat windows.
    """

    def __init__(self, count: int, batch_size: int, seed: int, rank: int, world: int):
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.rank, self.world, self.epoch = rank, world, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count).tolist()
        for first in range(0, self.count, self.batch_size):
            yield order[first : first + self.batch_size][self.rank :: self.world]


class Loader(DataLoader):
    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)


class Tuner(Trainer):
    """`score` tells how well the model does on the validation part; `finish_checkpoint` completes one before it is shown."""

    def __init__(
        self,
        model: GPT2LMHeadModel,
        args: TrainingArguments,
        dataset: Dataset,
        collate: Callable,
        options: Options,
        score: Callable[[], Score] | None,
        finish_checkpoint: Callable[[Path], None],
        best_step: Callable[[], int | None],
    ):
        super().__init__(model=model, args=args, train_dataset=dataset, data_collator=collate)
        self.options, self._score = options, score
        self._finish_checkpoint, self._best_step = finish_checkpoint, best_step
        self._saving = False
        self.predicted: torch.Tensor | int = 0  # tokens, since somebody last asked

    def get_train_dataloader(self) -> Loader:
        """Not prepared by accelerate: each process takes its own share, and the Trainer moves tensors to the device."""
        world, micro = self.args.world_size, self.args.per_device_train_batch_size
        batches = Batches(len(self.train_dataset), micro * world, self.args.seed, self.args.process_index, world)
        pin = self.args.device.type == "cuda"
        return Loader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator, pin_memory=pin)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        samples, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.predicted = self.predicted + count
        return samples, count

    def create_optimizer(self, model=None):
        if self.optimizer is None and self.options.optimizer == "muon":
            o = self.options
            self.optimizer = MuonWithAdamW(model or self.model, o.learning_rate, o.weight_decay, o.beta2)
            return self.optimizer
        return super().create_optimizer(model) if model is not None else super().create_optimizer()

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval") -> dict[str, float]:
        """Score every token once; the Trainer's own loop gives a mean of the batches' means."""
        self.found = score = self._score()
        metrics = {f"{metric_key_prefix}_loss": score.nats, f"{metric_key_prefix}_perplexity": score.perplexity}
        if score.bits_per_byte is not None:
            metrics[f"{metric_key_prefix}_bits_per_byte"] = score.bits_per_byte
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if not math.isfinite(logs.get("loss", 0)):
            raise Refusal(
                f"The loss is not a number any more at step {self.state.global_step:,}; lower --learning-rate (it is "
                f"{self.options.learning_rate:g}), and begin anew with --force or from the last checkpoint with --resume."
            )
        super().log(logs, start_time)

    def _get_output_dir(self, trial=None) -> str:
        """Where the Trainer writes: beside the checkpoints while one is being made."""
        folder = super()._get_output_dir(trial)
        return os.path.join(folder, ".saving") if self._saving else folder

    def _save_checkpoint(self, model, trial) -> None:
        """A checkpoint is written under a hidden name and shown when it is complete and on the disk."""
        root = Path(super()._get_output_dir(trial))
        hidden, name = root / ".saving", f"{PREFIX}{self.state.global_step}"
        self.wait_for_all()
        if self.args.should_save:
            shutil.rmtree(hidden, ignore_errors=True)
            hidden.mkdir(parents=True)
        self.wait_for_all()
        self._saving = True
        try:
            super()._save_checkpoint(model, trial)
            self.wait_for_all()
            if self.args.should_save:
                self._finish_checkpoint(hidden / name)
                show(hidden / name, root / name)
                forget(root, self.options.keep, self._best_step())
        except Exception as error:  # torch and safetensors have exceptions of their own for a full disk
            raise Refusal(could_not_save(self.state.global_step, error, checkpoints(root))) from error
        finally:
            self._saving = False
            if self.args.should_save:
                shutil.rmtree(hidden, ignore_errors=True)
        self.wait_for_all()

    def wait_for_all(self) -> None:
        if self.args.world_size > 1:
            distributed.barrier()


def could_not_save(step: int, error: Exception, complete: list[Path]) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0][:200]
    last = f"the one of step {step_of(complete[-1]):,} is complete: make room and go on with --resume" if complete else (
        "there is no older one"
    )  # fmt: skip
    return f"The checkpoint of step {step:,} could not be written ({reason}); {last}."


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


def checkpoints(root: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted((path for path in root.glob(f"{PREFIX}*") if step_of(path) >= 0), key=step_of)


def step_of(checkpoint: Path) -> int:
    number = checkpoint.name.removeprefix(PREFIX)
    return int(number) if number.isdecimal() else -1


def forget(root: Path, keep: int, best: int | None) -> None:
    """Remove all checkpoints but the newest `keep`, and the best one."""
    for checkpoint in checkpoints(root)[:-keep]:
        if step_of(checkpoint) != best:
            shutil.rmtree(checkpoint)


def rate_schedule(options: Options, steps: int) -> dict:
    """The Trainer's arguments for the learning rate."""
    warmup = round(options.warmup * steps) if options.warmup < 1 else min(int(options.warmup), steps // 2)
    arguments = {"learning_rate": options.learning_rate, "warmup_steps": warmup}
    if options.schedule == "stable":
        fall = max(1, round((1 - options.stable) * steps))
        shape = {"num_decay_steps": min(fall, steps - warmup), "min_lr_ratio": LEAST_RATE, "decay_type": "linear"}
        return arguments | {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": shape}
    name = {"constant": "constant_with_warmup"}.get(options.schedule, options.schedule)
    return arguments | {"lr_scheduler_type": name}


def arguments(
    options: Options, work: Path, steps: int, micro: int, accumulation: int, device: str
) -> TrainingArguments:
    """What the Trainer is told. Everything about evaluation, logging and saving is in steps."""
    every = rhythm(options, steps)
    precision = precision_of(options, device)
    return TrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        activation_checkpointing=options.gradient_checkpointing,
        optim="adamw_torch_fused",
        adam_beta2=options.beta2,
        weight_decay=options.weight_decay,
        max_grad_norm=options.clip,
        bf16=precision == "bfloat16",
        fp16=precision == "float16",
        use_cpu=device == "cpu",
        seed=options.seed,
        logging_steps=every["log"],
        logging_nan_inf_filter=False,
        save_strategy="steps" if every["save"] else "no",
        save_steps=every["save"] or steps,
        eval_strategy="no",
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
        dataloader_num_workers=0,
        ddp_find_unused_parameters=False,
        ddp_backend="gloo" if device == "cpu" and int(os.environ.get("WORLD_SIZE", "1")) > 1 else None,
        log_level="error",
        **rate_schedule(options, steps),
    )


def rhythm(options: Options, steps: int) -> dict[str, int]:
    """Steps between two evaluations, samples, checkpoints and entries of the log; 0: never."""
    tenth, hundredth = max(1, math.ceil(steps / 10)), max(1, math.ceil(steps / 100))
    asked = {
        "evaluate": (options.evaluate_every, tenth),
        "sample": (options.sample_every, tenth),
        "save": (options.save_every, tenth),
        "log": (options.log_every, hundredth),
    }
    found = {name: value if value >= 0 else usual for name, (value, usual) in asked.items()}
    return found | {"log": found["log"] or steps}


def precision_of(options: Options, device: str) -> str:
    """What `auto` means on this device; raises Refusal for what it cannot do."""
    if options.precision == "float16" and device == "cpu":
        raise Refusal("--precision float16 needs a GPU; on a CPU use bfloat16 or float32.")
    if options.precision != "auto":
        return options.precision
    if device == "cpu":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
