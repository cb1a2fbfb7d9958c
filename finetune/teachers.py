"""Learning from larger models' probabilities beside the text (Hinton et al., "Distilling the Knowledge", arXiv:1503.02531)."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch.nn.functional import cross_entropy

from finetune.model import load_weights
from finetune.options import Options
from finetune.start import Start
from finetune.windows import IGNORED
from generate import ModelFolder, Refusal, open_tokenizer


class Teachers:
    """Models that are asked and not trained; what they say is averaged, probability by probability."""

    def __init__(self, folders: Sequence[ModelFolder], weight: float, device: str):
        self.models = [load_weights(folder).to(device).eval().requires_grad_(False) for folder in folders]
        self.weight = weight

    @torch.no_grad()
    def probabilities(self, ids: torch.Tensor, asked: torch.Tensor, vocab: int) -> torch.Tensor:
        """float32 [places, vocab] for ids [windows, length] at the places where `asked` [windows, length - 1] is true."""
        total = None
        for model in self.models:
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1][asked]
            found = logits[:, :vocab].float().softmax(-1)
            total = found if total is None else total.add_(found)
        return total.div_(len(self.models))

    def loss(
        self, logits: torch.Tensor, batch: dict[str, torch.Tensor], autocast: Callable[[], AbstractContextManager]
    ) -> torch.Tensor:
        """Sum over the batch's predicted tokens of weight * cross entropy to the teachers + (1 - weight) * nats of the text.

        `logits` [windows, length, vocab] are the student's for `input_ids` [windows, length]; `labels` are not shifted.
        """
        labels = batch["labels"][:, 1:]
        asked = labels != IGNORED
        said = logits[:, :-1][asked].float()
        with autocast():
            wanted = self.probabilities(batch["input_ids"], asked, logits.shape[-1])
        soft = cross_entropy(said, wanted, reduction="sum")
        hard = cross_entropy(said, labels[asked], reduction="sum")
        return self.weight * soft + (1 - self.weight) * hard


def check_teacher(folder: ModelFolder, start: Start, block_size: int, options: Options) -> None:
    """Raises Refusal when a model cannot teach the one that `start` begins: other tokens, or too short a window."""
    if options.special_tokens:
        raise Refusal(
            "--special-tokens adds tokens that --teacher {teacher} does not know; leave one of them out.",
            teacher=folder.name,
        )
    known = open_tokenizer(folder.path).get_vocab(with_added_tokens=True)
    if known != start.tokenizer.get_vocab(with_added_tokens=True):
        raise Refusal(
            "--teacher {teacher} has another vocabulary than the model that learns, so that their probabilities "
            "cannot be compared; take a model made from it, or --from-scratch, which takes over the teacher's.",
            teacher=folder.name,
        )
    if folder.config.n_positions < block_size:
        raise Refusal(
            "--teacher {teacher} sees {limit:,} tokens at once, and a window has {block_size:,}; give --block-size "
            "{limit}.",
            teacher=folder.name,
            limit=folder.config.n_positions,
            block_size=block_size,
        )
