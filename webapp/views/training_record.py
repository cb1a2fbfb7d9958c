"""Reading run.json, whatever is in it: it may be older than this page, or somebody else's."""

import math
from dataclasses import dataclass

from generate import FinishReason
from webapp.views.curve import Loss

# finish reasons of samples that were not cut off at a length; "end" is another program's word for it
BY_ITSELF = (FinishReason.STOP, "end")


@dataclass(frozen=True)
class TrainingSample:
    """What the model wrote at a step."""

    step: float
    prompt: str
    text: str
    ended: bool  # by itself, not at a length


def number(value: object, most: float = 1e15) -> float | None:
    """A number from 0 to `most`, else None; true and false are none, nor is NaN."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most else None


def words(value: object) -> str:
    """A string that can be sent as UTF-8 (JSON may hold half a surrogate pair), or "" for anything else."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def part(value: object) -> dict:
    """An object as it is; {} for anything else."""
    return value if isinstance(value, dict) else {}


def entries(value: object) -> list[dict]:
    """The objects in a list; [] for anything else."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def losses(value: object, kind: str | None = None) -> list[Loss]:
    """The entries that have a step and a loss, of one part if `kind` names one, by step."""
    found = [
        Loss(
            step, loss, number(entry.get("perplexity"), 1e300) or exponential(loss), number(entry.get("bits_per_byte"))
        )
        for entry in entries(value)
        if kind is None or entry.get("part") == kind
        if (step := number(entry.get("step"), 1e9)) is not None and (loss := number(entry.get("loss"), 1e6)) is not None
    ]
    return sorted(found, key=lambda one: one.step)


def exponential(loss: float) -> float | None:
    """The perplexity of a loss in nats a token; None where a float would overflow."""
    return math.exp(loss) if loss < 690 else None


def samples(value: object) -> list[TrainingSample]:
    """The samples that have a step and a text, by step."""
    found = [
        TrainingSample(step, words(entry.get("prompt")), text, entry.get("finish_reason") in BY_ITSELF)
        for entry in entries(value)
        if (step := number(entry.get("step"), 1e9)) is not None and (text := words(entry.get("text")))
    ]
    return sorted(found, key=lambda one: one.step)
