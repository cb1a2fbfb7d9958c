"""What the numbers of a training say about how it was set up: one sentence, or none."""

from typing import Any

from finetune.record import LAST, numbers_of

HARDLY = 0.01  # nats a token: held-out loss that fell by less has hardly moved
RISEN = 0.02  # nats a token above the best, while training loss still falls


def verdict(facts: dict[str, Any]) -> str:
    """A sentence for whoever trained, from the record's evaluations and history; "" where all is well."""
    held = numbers_of(facts)
    rate = facts["options"]["learning_rate"]
    if len(held) < 2:
        told = [entry["loss"] for entry in facts["history"] if "loss" in entry]
        worse = not held and len(told) > LAST and min(told[-LAST:]) > max(told[:LAST]) + RISEN
        return (
            f"It got worse: training loss rose from {told[0]:.3f} to {told[-1]:.3f}; try --learning-rate {rate / 5:.0e}."
            if worse
            else ""
        )
    (first_step, first), (last_step, last) = held[0], held[-1]
    best_step, best = min(held, key=lambda found: found[1])
    if best_step > first_step and last > best + RISEN and trained_on(facts, last_step) < trained_on(facts, best_step):
        kept = facts.get("best_step")
        advice = (
            f"the weights of step {kept:,} were kept"
            if kept
            else "train for less, or add --patience 3 to keep the best"
        )
        worse = f", and is above the {first:.3f} of before" if not kept and last > first + RISEN else ""
        return (
            f"It was learning by heart since step {best_step:,}: held-out loss rose from {best:.3f} to {last:.3f} while "
            f"training loss fell{worse}; {advice}."
        )
    if last > first + RISEN:
        return f"It got worse: held-out loss rose from {first:.3f} to {last:.3f}; try --learning-rate {rate / 5:.0e}."
    if first - last < HARDLY:
        return f"It has hardly learned: held-out loss went from {first:.3f} to {last:.3f}; try --learning-rate {5 * rate:.0e}."
    return ""


def trained_on(facts: dict[str, Any], step: int) -> float:
    """The training loss that the log tells nearest to a step; that of the first steps for step 0."""
    told = [(entry["step"], entry["loss"]) for entry in facts["history"] if "loss" in entry]
    return min(told, key=lambda found: abs(found[0] - step))[1] if told else float("nan")
