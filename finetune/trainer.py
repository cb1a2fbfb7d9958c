"""`transformers`' Trainer with its own order of data, evaluation, checkpoints, optimizer (Muon) and loss (teachers)."""

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import distributed
from torch.utils.data import DataLoader, Sampler
from transformers import GPT2LMHeadModel, Trainer, TrainingArguments

from finetune.average import Average
from finetune.checkpoints import PREFIX, checkpoints, could_not_save, forget, show, step_of
from finetune.muon import MuonWithAdamW
from finetune.options import Options
from finetune.teachers import Teachers
from finetune.windows import Windows
from generate import Refusal, Score


class Batches(Sampler):
    """This process's share of every batch of an epoch, as lists of window numbers; the order is fixed by seed and epoch.

    All processes together have each window once: a share may be empty, where accelerate's samplers would repeat windows.
    """

    def __init__(self, windows: Windows, batch_size: int, seed: int, rank: int, world: int):
        self.windows, self.batch_size, self.seed = windows, batch_size, seed
        self.rank, self.world = rank, world
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """The Trainer tells the sampler even where it takes the loader apart, to skip what a resumed training has had."""
        self.epoch = epoch
        self.windows.set_epoch(epoch)

    def __len__(self) -> int:
        return -(-len(self.windows) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        count = len(self.windows)
        order = np.random.default_rng([self.seed, self.epoch]).permutation(count).tolist()
        for first in range(0, count, self.batch_size):
            yield order[first : first + self.batch_size][self.rank :: self.world]


class Loader(DataLoader):
    """A DataLoader whose order of windows depends on the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on to the sampler."""
        self.batch_sampler.set_epoch(epoch)


class Tuner(Trainer):
    """`score` tells how well the model does on the validation part; `finish_checkpoint` completes one before it is shown."""

    def __init__(
        self,
        model: GPT2LMHeadModel,
        args: TrainingArguments,
        dataset: Windows,
        collate: Callable,
        options: Options,
        teachers: Teachers | None,
        average: Average | None,
        score: Callable[[], Score],
        finish_checkpoint: Callable[[Path], None],
        best_step: Callable[[], int | None],
        how_to_go_on: Callable[[], Refusal],
    ):
        super().__init__(model=model, args=args, train_dataset=dataset, data_collator=collate)
        self.options, self.teachers, self.average, self._score = options, teachers, average, score
        self._finish_checkpoint, self._best_step, self._how_to_go_on = finish_checkpoint, best_step, how_to_go_on
        self._saving = False
        self.predicted: torch.Tensor | int = 0  # tokens, since somebody last asked

    def get_train_dataloader(self) -> Loader:
        """Not prepared by accelerate: each process takes its own share, and the Trainer moves tensors to the device."""
        world, micro = self.args.world_size, self.args.per_device_train_batch_size
        batches = Batches(self.train_dataset, micro * world, self.args.seed, self.args.process_index, world)
        pin = self.args.device.type == "cuda"
        return Loader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator, pin_memory=pin)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The Trainer's batches of one step, whose predicted tokens are counted."""
        samples, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.predicted = self.predicted + count
        return samples, count

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The mean over the tokens of a step, of all its batches and processes, as the Trainer's own."""
        if not self.teachers:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        logits = model(input_ids=inputs["input_ids"]).logits
        loss = self.teachers.loss(logits, inputs, self.accelerator.autocast) / num_items_in_batch
        return loss * self.accelerator.num_processes  # whose gradients are averaged

    def floating_point_ops(self, inputs) -> int:
        """0: the Trainer's count takes a sixth of the calls between steps, and nothing uses it."""
        return 0

    def create_optimizer(self, model=None):
        """The Trainer's AdamW, or Muon; the group whose weights decay is marked for `WeightDecay`."""
        if self.optimizer is None and self.options.optimizer == "muon":
            o, decay = self.options, self.args.weight_decay
            self.optimizer = MuonWithAdamW(model or self.model, o.learning_rate, decay, o.beta2)
        elif model is not None:
            super().create_optimizer(model)
        else:
            super().create_optimizer()
        for group in self.optimizer.param_groups[:1]:  # both optimizers have what decays first
            group["decays"] = True
        return self.optimizer

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.average:
            checkpoint = Path(resume_from_checkpoint)
            self.average.load(checkpoint, step_of(checkpoint))

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval") -> dict[str, float]:
        """Score every token once; the Trainer's own loop gives a mean of the batches' means."""
        begun = time.monotonic()
        self.found = score = self._score()
        self.judged = time.monotonic() - begun
        metrics = {f"{metric_key_prefix}_loss": score.nats, f"{metric_key_prefix}_perplexity": score.perplexity}
        if score.bits_per_byte is not None:
            metrics[f"{metric_key_prefix}_bits_per_byte"] = score.bits_per_byte
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as the Trainer does; raises Refusal for a loss that is not finite."""
        if not math.isfinite(logs.get("loss", 0)):
            raise Refusal(
                "The loss is not a number any more at step {step:,}; lower --learning-rate (it is {rate:g}). {advice}",
                step=self.state.global_step,
                rate=self.options.learning_rate,
                advice=self._how_to_go_on(),
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
            raise could_not_save(self.state.global_step, error, checkpoints(root)) from error
        finally:
            self._saving = False
            if self.args.should_save:
                shutil.rmtree(hidden, ignore_errors=True)
        self.wait_for_all()

    def wait_for_all(self) -> None:
        """Wait until all processes of the training are here."""
        if self.args.world_size > 1:
            distributed.barrier()
