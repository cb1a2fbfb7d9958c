"""A training that diverged is not published: its checkpoints stay, and the refusal says how to go on."""

import math
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from finetune.checkpoints import checkpoints, step_of
from finetune.options import Options
from finetune.record import LAST, losses_of
from generate import Refusal

NOISE = 1.5  # by which factor those of two batches may differ by chance


def check_not_diverged(
    model: torch.nn.Module, facts: dict[str, Any], tokens: int, work: Path, options: Options
) -> None:
    """Raises Refusal for weights or a loss that are no numbers, and for a model that got worse than it was and is now
    worse than one that holds each of its `tokens` tokens for equally likely (a loss of ln(tokens) nats).

    What counts is the held-out loss of the weights that are published; without held-out text the last training losses.
    """
    first, last = first_and_last(facts)
    if not all(value.isfinite().all() for value in model.parameters()) or not math.isfinite(last):
        raise Refusal(
            "It diverged, and was not put into models/: the loss is not a number any more. {advice}",
            advice=how_to_go_on(work, options, facts),
        )
    if last > math.log(tokens) and last > (first if losses_of(facts) else NOISE * first):
        raise Refusal(
            "It diverged, and was not put into models/: its loss is {last:.4g} nats a token, where it was {first:.3f} before "
            "and guessing among {tokens:,} tokens has {guess:.3f}. {advice}",
            last=last,
            first=first,
            tokens=tokens,
            guess=math.log(tokens),
            advice=how_to_go_on(work, options, facts),
        )


def first_and_last(facts: dict[str, Any]) -> tuple[float, float]:
    """The loss before the training and after it; NaN where it was no number."""
    held = losses_of(facts)
    if held:
        return held[0][1], dict(held).get(facts.get("best_step"), held[-1][1])
    told = [entry.get("loss", math.nan) for entry in facts["history"]]
    return (told[0], fmean(told[-LAST:])) if told else (0.0, 0.0)


def gain_at(facts: dict[str, Any], step: int) -> float:
    """By how many nats a token the loss at a step is below that at the beginning; held-out where that is known."""
    held = dict(losses_of(facts))
    if step in held:
        return held.get(0, math.nan) - held[step]
    told = [(entry["step"], entry["loss"]) for entry in facts["history"] if "loss" in entry]
    before = [loss for at, loss in told if at <= step]
    return told[0][1] - before[-1] if before else math.nan


def how_to_go_on(work: Path, options: Options, facts: dict[str, Any]) -> Refusal:
    """Where the checkpoints are, and which of them is worth going on from."""
    found = checkpoints(work)
    # checkpoints of adapters are no models to go on from
    better = {path: gain_at(facts, step_of(path)) for path in found if not options.lora}
    better = {path: gain for path, gain in better.items() if gain > 0}
    if not found:
        return Refusal("Begin anew with a --learning-rate below {rate:g}.", rate=options.learning_rate)
    if not better:
        return Refusal(
            "Its checkpoints are in {work}; begin anew with --force and a --learning-rate below {rate:g}.",
            work=work,
            rate=options.learning_rate,
        )
    best = max(better, key=lambda path: better[path])
    return Refusal(
        "Its checkpoints are in {work}; go on from that of step {step:,} with --model {path}, another --out and a "
        "--learning-rate below {rate:g}.",
        work=work,
        step=step_of(best),
        path=best,
        rate=options.learning_rate,
    )
