"""Muon for the matrices inside the blocks, AdamW for embeddings, norms and biases, as one optimizer.

Muon takes the momentum's nearest orthogonal matrix for its step, scaled to the size of AdamW's, so that one learning rate
serves both; embeddings are given half of it. Source: Jordan et al., "Muon: An optimizer for hidden layers in neural
networks", 2024; the scale from Liu et al., arXiv:2502.16982.
"""

from typing import Any

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

REST = 0.5  # of the learning rate: what AdamW's part gets


class MuonWithAdamW(Optimizer):
    """Two optimizers over disjoint parameters; their groups are shown, and may be changed, as one list."""

    def __init__(self, model: nn.Module, learning_rate: float, weight_decay: float, beta2: float):
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        matrices = [p for name, p in trained if p.ndim == 2 and ".h." in name]
        inside = set(map(id, matrices))
        rest = [p for _, p in trained if id(p) not in inside]
        adamw = AdamW(rest, REST * learning_rate, betas=(0.9, beta2), weight_decay=0.0)
        muon = Muon(matrices, learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
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
