"""How well a model predicts a part: loss, perplexity, bits per byte, of windows that are not trained on."""

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import distributed
from torch.nn.functional import cross_entropy

from finetune.processes import together
from finetune.windows import IGNORED, Windows, collate
from generate import Score

TOKENS_AT_ONCE = 8192  # logits of that many are in memory together


def score(
    model: torch.nn.Module,
    windows: Windows,
    byte_lengths: np.ndarray,
    pad: int,
    block_size: int,
    autocast: AbstractContextManager | None = None,
) -> Score:
    """Judge every token of the windows once; `byte_lengths` [V] tells how many bytes a token stands for.

    Several processes share the windows out and give the same answer.
    """
    device = next(model.parameters()).device
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if together() else (0, 1)
    total = torch.zeros(3, dtype=torch.float64)
    lengths = torch.from_numpy(byte_lengths).to(device)
    was_training = model.training
    model.eval()
    at_once = max(1, TOKENS_AT_ONCE // block_size)
    mine = range(rank, len(windows), world)
    with torch.inference_mode(), autocast or nullcontext():
        for first in range(0, len(mine), at_once):
            batch = collate([windows[n] for n in mine[first : first + at_once]], pad)
            total += sums(model, {name: value.to(device) for name, value in batch.items()}, lengths).cpu()
    model.train(was_training)
    if together():
        total = total.to(device)
        distributed.all_reduce(total)
    nats, tokens, size = total.tolist()
    return Score.of(nats, int(tokens), int(size))


def sums(model: torch.nn.Module, batch: dict[str, torch.Tensor], byte_lengths: torch.Tensor) -> torch.Tensor:
    """Sum of -log p over the batch's predicted tokens, their number, and their bytes; float64 [3]."""
    logits = model(input_ids=batch["input_ids"]).logits[:, :-1].float()
    labels = batch["labels"][:, 1:]
    nats = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    judged = labels[labels != IGNORED]
    return torch.stack([nats.double(), judged.new_tensor(len(judged)).double(), byte_lengths[judged].sum().double()])
