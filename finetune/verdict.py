"""What the numbers of a training say about how it was set up: one sentence, or none."""

from typing import Any

from finetune.record import LAST, numbers_of
from generate import N_, gettext

HARDLY = 0.01  # nats a token: held-out loss that fell by less has hardly moved
RISEN = 0.02  # nats a token above the best, while training loss still falls


def verdict(facts: dict[str, Any]) -> str:
    """A sentence for whoever trained, from the record's evaluations and history; "" where all is well."""
    held = numbers_of(facts)
    rate = facts["options"]["learning_rate"]
    if len(held) < 2:
        told = [entry["loss"] for entry in facts["history"] if "loss" in entry]
        worse = not held and len(told) > LAST and min(told[-LAST:]) > max(told[:LAST]) + RISEN
        worst = N_("It got worse: training loss rose from {first:.3f} to {last:.3f}; try --learning-rate {rate:.0e}.")
        return gettext(worst, first=told[0], last=told[-1], rate=rate / 5) if worse else ""
    (first_step, first), (last_step, last) = held[0], held[-1]
    best_step, best = min(held, key=lambda found: found[1])
    if best_step > first_step and last > best + RISEN and trained_on(facts, last_step) < trained_on(facts, best_step):
        kept = facts.get("best_step")
        advice = gettext("train for less, or add --patience 3 to keep the best")
        if kept:
            advice = gettext("the weights of step {step:,} were kept", step=kept)
        above = N_(", and is above the {loss:.3f} of before")
        return gettext(
            "It was learning by heart since step {step:,}: held-out loss rose from {best:.3f} to {last:.3f} while training "
            "loss fell{worse}; {advice}.",
            step=best_step,
            best=best,
            last=last,
            worse=gettext(above, loss=first) if not kept and last > first + RISEN else "",
            advice=advice,
        )
    if last > first + RISEN:
        worse = N_("It got worse: held-out loss rose from {first:.3f} to {last:.3f}; try --learning-rate {rate:.0e}.")
        return gettext(worse, first=first, last=last, rate=rate / 5)
    if first - last < HARDLY:
        hardly = N_(
            "It has hardly learned: held-out loss went from {first:.3f} to {last:.3f}; try --learning-rate {rate:.0e}."
        )
        return gettext(hardly, first=first, last=last, rate=5 * rate)
    return ""


def trained_on(facts: dict[str, Any], step: int) -> float:
    """The training loss that the log tells nearest to a step; that of the first steps for step 0."""
    told = [(entry["step"], entry["loss"]) for entry in facts["history"] if "loss" in entry]
    return min(told, key=lambda found: abs(found[0] - step))[1] if told else float("nan")
