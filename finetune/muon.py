"""Muon for the matrices inside the blocks, AdamW for embeddings, norms and biases, as one optimizer.

Muon takes the momentum's nearest orthogonal matrix for its step, scaled to the size of AdamW's, so that one learning rate
serves both; embeddings are given half of it. Source: Jordan et al., "Muon: An optimizer for hidden layers in neural
networks", 2024; the scale from Liu et al., arXiv:2502.16982.
"""

from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from generate import has_bfloat16

REST = 0.5  # of the learning rate: what AdamW's part gets
SIZE = 0.2  # of a step's numbers in the square mean, times the learning rate: what AdamW's have


class Float32Muon(Muon):
    """torch's Muon, whose steps are the same but for rounding, with its products in float32 in place of bfloat16.

    A CPU without units for bfloat16 takes four fifths of a small model's training for them otherwise (17 s a step where
    3.9 s are enough: 7M parameters, 4,096 tokens, one core with AVX2). Their states are interchangeable.
    """

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One step; `closure` is not called."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad, memory_format=torch.preserve_format)
                average = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
                update = matrix.grad.lerp(average, group["momentum"]) if group["nesterov"] else average
                rate = group["lr"] * SIZE * max(matrix.shape) ** 0.5
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.sub_(orthogonal(update, group["ns_coefficients"], group["ns_steps"], group["eps"]), alpha=rate)


def orthogonal(matrix: torch.Tensor, weights: tuple[float, float, float], steps: int, eps: float) -> torch.Tensor:
    """The nearest matrix [M, N] whose singular values are about 1, by steps of Newton and Schulz, in the dtype it has."""
    a, b, c = weights
    is_tall = matrix.size(0) > matrix.size(1)
    found = matrix.T if is_tall else matrix
    found = found / found.norm().clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.T if is_tall else found


class MuonWithAdamW(Optimizer):
    """Two optimizers over disjoint parameters; their groups are shown, and may be changed, as one list."""

    def __init__(self, model: nn.Module, learning_rate: float, weight_decay: float, beta2: float):
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        matrices = [p for name, p in trained if p.ndim == 2 and ".h." in name]
        inside = set(map(id, matrices))
        rest = [p for _, p in trained if id(p) not in inside]
        adamw = AdamW(rest, REST * learning_rate, betas=(0.9, beta2), weight_decay=0.0)
        kind = Muon if matrices[0].device.type != "cpu" or has_bfloat16() else Float32Muon
        muon = kind(matrices, learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.parts = {"muon": muon, "adamw": adamw}
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        self.show_groups()

    def show_groups(self) -> None:
        """Let schedulers see the groups of both optimizers as one list."""
        self.param_groups = [group for part in self.parts.values() for group in part.param_groups]

    def step(self, closure=None) -> None:
        """One step of both optimizers; `closure` is not called."""
        for part in self.parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of both optimizers by name."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for name, part in self.parts.items():
            part.load_state_dict(state_dict[name])
        self.show_groups()
