"""A moving average of the weights over the steps in which the learning rate falls.

It is what is evaluated, shown and written; training goes on from the raw weights. Source: Polyak and Juditsky, "Acceleration
of stochastic approximation by averaging", 1992; averaging an annealed run's tail as in the NanoGPT speed runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from generate import Refusal

FILE = "average.safetensors"


class Average(TrainerCallback):
    """The average of a model's trained weights, float32, from step `begin` on; a function of those weights and the step.

    After n steps each step's weights count 1/n, and from n = `horizon` on exponentially less the older they are: so there is
    no start to be corrected. Every process keeps the same one.
    """

    def __init__(self, model: torch.nn.Module, horizon: int, begin: int):
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.horizon, self.begin = horizon, begin
        self.values: dict[str, torch.Tensor] = {}  # none before the first step that counts
        self.is_shown = False

    @torch.no_grad()
    def on_step_end(self, args, state, control, **kwargs):
        """Take the step's weights into the average."""
        n = state.global_step - self.begin
        if n == 1:
            self.values = {name: weight.detach().clone() for name, weight in self.weights.items()}
        elif n > 1:
            torch._foreach_lerp_([*self.values.values()], [*self.weights.values()], 1 / min(n, self.horizon))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While entered, also twice, the model has the average for its weights; then its own again, bit by bit."""
        if self.is_shown:
            yield
            return
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the weights and their averages."""
        self.is_shown = not self.is_shown
        for name, value in self.values.items():
            own = self.weights[name].detach().clone()
            self.weights[name].copy_(value)
            value.copy_(own)

    def save(self, folder: Path) -> None:
        """Write the averages beside a checkpoint's weights; nothing before there are any."""
        if self.values:
            save_file({name: value.cpu() for name, value in self.values.items()}, folder / FILE)

    def load(self, checkpoint: Path, step: int) -> None:
        """What `save` wrote; raises Refusal when a checkpoint of this step should hold it and does not."""
        if step <= self.begin:
            self.values = {}
            return
        try:
            found = load_file(checkpoint / FILE)
            self.values = {name: found[name].to(weight.device) for name, weight in self.weights.items()}
        except (OSError, KeyError, SafetensorError) as error:
            raise Refusal(
                "{path} is missing or damaged ({reason}); remove {checkpoint} to go on from the checkpoint before "
                "it, or begin anew with --force.",
                path=checkpoint / FILE,
                reason=error,
                checkpoint=checkpoint.name,
            ) from None
