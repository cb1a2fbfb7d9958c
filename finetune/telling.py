"""What a training says of itself, before it begins and when it is done."""

from typing import Any

import numpy as np

from finetune.plan import Plan
from finetune.task import Task
from finetune.verdict import verdict
from generate import N_, UNK, counted, gettext


def of_unknown(plan: Plan) -> list[str]:
    """One sentence on what the text has that the vocabulary has not, where such is read as a token of its own."""
    unknown = plan.start.tokenizer.token_to_id(UNK)
    if unknown is None:
        return []
    part = plan.data.parts["train"]
    count = sum(int(np.count_nonzero(part.document(n) == unknown)) for n in range(len(part)))
    told = N_("Of {tokens} to train on {count:,} are {unknown}: the vocabulary has nothing for what stands there.")
    return [gettext(told, tokens=counted(part.size), count=count, unknown=UNK)]


def of_length(plan: Plan, steps: int, device: str) -> str:
    """How long the training will be, in one sentence."""
    batch = plan.options.batch_size * plan.options.gradient_accumulation
    return gettext(
        "{steps} of {windows} of {tokens}, on {device}.",
        steps=counted(steps, "step"),
        windows=counted(batch, "window"),
        tokens=counted(plan.block_size),
        device=device,
    )


def of_result(facts: dict[str, Any]) -> list[str]:
    """Perplexities before and now, and what they say of the options."""
    found = [e for e in facts["evaluations"] if e["part"] == "validation" and "perplexity" in e]
    if not found:
        return [line for line in (verdict(facts),) if line]
    kept = facts.get("best_step")
    first, last = found[0], next((e for e in found if e["step"] == kept), found[-1])
    told = gettext(
        "Perplexity on the validation part: {before:,.2f} before, {now:,.2f} now.",
        before=first["perplexity"],
        now=last["perplexity"],
    )
    return [line for line in (told, verdict(facts)) if line]


def of_folder(task: Task) -> str:
    """Where the new model is, in one sentence."""
    listed = task.out.resolve().parent == task.models
    if listed:
        return gettext("{folder} is there; the page lists it by itself.", folder=task.out)
    return gettext("{folder} is there; in models/ the page would list it.", folder=task.out)
