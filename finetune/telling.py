"""What a training says of itself, before it begins and when it is done."""

from typing import Any

import numpy as np

from finetune.plan import Plan
from finetune.task import Task
from finetune.verdict import verdict
from generate import UNK, counted


def of_unknown(plan: Plan) -> list[str]:
    """One sentence on what the text has that the vocabulary has not, where such is read as a token of its own."""
    unknown = plan.start.tokenizer.token_to_id(UNK)
    if unknown is None:
        return []
    part = plan.data.parts["train"]
    count = sum(int(np.count_nonzero(part.document(n) == unknown)) for n in range(len(part)))
    return [
        f"Of {counted(part.size)} to train on {count:,} are {UNK}: the vocabulary has nothing for what stands there."
    ]


def of_length(plan: Plan, steps: int, device: str) -> str:
    """How long the training will be, in one sentence."""
    batch = plan.options.batch_size * plan.options.gradient_accumulation
    windows = f"{counted(batch, 'window')} of {counted(plan.block_size)}"
    return f"{counted(steps, 'step')} of {windows}, on {device}."


def of_result(facts: dict[str, Any]) -> list[str]:
    """Perplexities before and now, and what they say of the options."""
    found = [e for e in facts["evaluations"] if e["part"] == "validation" and "perplexity" in e]
    if not found:
        return [line for line in (verdict(facts),) if line]
    kept = facts.get("best_step")
    first, last = found[0], next((e for e in found if e["step"] == kept), found[-1])
    told = f"Perplexity on the validation part: {first['perplexity']:,.2f} before, {last['perplexity']:,.2f} now."
    return [line for line in (told, verdict(facts)) if line]


def of_folder(task: Task) -> str:
    """Where the new model is, in one sentence."""
    listed = task.out.resolve().parent == task.models
    return f"{task.out} is there; {'the page lists it by itself' if listed else 'in models/ the page would list it'}."
