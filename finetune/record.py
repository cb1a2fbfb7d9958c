"""run.json: what was asked, what was trained on, how the loss went, what the model wrote on the way.

It is written anew, whole, with every entry; in the end it becomes part of the model's folder, and the page shows it.
"""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from generate import Journal, Refusal, Score, write_json

KINDS = {"options": dict, "seconds": int | float, "steps": int} | dict.fromkeys(
    ("data", "validation_data", "history", "evaluations", "samples"), list
)
LAST = 3  # training losses that stand for an end of a training, where no text is held out


class Record:
    """The facts of a training as they are in run.json; only one process writes them."""

    def __init__(self, file: Path, facts: dict[str, Any], writes: bool = True):
        self.file, self.facts, self.writes = file, facts, writes
        self.journal = Journal()  # who starts a training may want another one

    @classmethod
    def read(cls, file: Path, writes: bool = True) -> "Record":
        """Read run.json; raises Refusal when it is missing, no JSON, or lacks what a resumed training needs."""
        try:
            facts = json.loads(file.read_text("utf-8"))
            wrong = [
                name
                for name, kind in KINDS.items()
                if not (isinstance(facts, dict) and isinstance(facts.get(name), kind))
            ]
            if wrong:
                raise Refusal("it has no right {name}", name=wrong[0])
            return cls(file, facts, writes)
        except (OSError, ValueError, RecursionError) as error:
            raise Refusal(
                "{path} cannot be read ({reason}); start anew with --force.", path=file, reason=error
            ) from None

    def add(self, kind: str, entry: dict[str, Any]) -> None:
        """Append to `history`, `evaluations` or `samples`, and save."""
        self.facts[kind].append({k: v for k, v in entry.items() if not (isinstance(v, float) and not math.isfinite(v))})
        self.journal.tell(kind, **entry)
        self.save()

    def add_score(self, step: int, part: str, score: Score) -> None:
        """Note a look at a part: loss in nats a token, perplexity, bits per byte."""
        entry = {"loss": score.nats, "perplexity": score.perplexity, "bits_per_byte": score.bits_per_byte}
        self.add("evaluations", {"step": step, "part": part} | entry)

    def cut(self, step: int) -> None:
        """Forget what came after a step: a resumed training does it again."""
        for kind in ("history", "evaluations", "samples"):
            self.facts[kind] = [entry for entry in self.facts[kind] if entry["step"] <= step]

    def losses(self) -> list[tuple[int, float]]:
        """(step, held-out loss) of every look at the validation part that found a number."""
        return numbers_of(self.facts)

    def save(self) -> None:
        """Raises OSError when the disk is full; the file is then as it was."""
        if self.writes:
            write_json(self.file, self.facts)


def losses_of(facts: dict[str, Any]) -> list[tuple[int, float]]:
    """(step, held-out loss) of every look at the validation part; NaN where it was no number, which is not written down."""
    held = [entry for entry in facts["evaluations"] if entry["part"] == "validation"]
    return [(entry["step"], math.nan if entry.get("loss") is None else entry["loss"]) for entry in held]


def numbers_of(facts: dict[str, Any]) -> list[tuple[int, float]]:
    """Those of `losses_of` that are numbers."""
    return [(step, loss) for step, loss in losses_of(facts) if math.isfinite(loss)]


def begun(file: Path, writes: bool, facts: dict[str, Any]) -> Record:
    """The record of a training that begins now."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    empty = {"seconds": 0.0, "history": [], "evaluations": [], "samples": []}
    record = Record(file, {"format": 1, "state": "training", "started": started} | facts | empty, writes)
    record.save()
    return record


def resumed(record: Record, now: dict[str, Any], step: int) -> Record:
    """The record of a training that goes on from `step`; raises Refusal when its text, model or processes are others."""
    before = record.facts
    for name in ("data", "validation_data"):
        if [source["sha256"] for source in before[name]] != [source["sha256"] for source in now[name]]:
            raise Refusal("The text is not the one this training began with; bring it back, or use --force.")
    if before.get("tokens", now["tokens"]) != now["tokens"]:
        raise Refusal(
            "The text is read otherwise than when this training began ({before:,} tokens to train on then, {now:,} now; "
            "line endings, for instance, are read alike today); begin anew with --force.",
            before=before["tokens"].get("train", 0),
            now=now["tokens"]["train"],
        )
    base, model = before["model"], now["model"]
    if base and base["fingerprint"] != model["fingerprint"]:
        raise Refusal(
            "--model {model} is not the {base} this training began with; bring that back, or use --force.",
            model=model["name"],
            base=base["name"],
        )
    taught, teach = ([t["fingerprint"] for t in facts.get("teachers", [])] for facts in (before, now))
    if taught != teach:
        if names := ", ".join(t["name"] for t in before.get("teachers", [])):
            raise Refusal(
                "This training began with {names} for --teacher; give the same, or begin anew with --force.",
                names=names,
            )
        raise Refusal("This training began with no teacher for --teacher; give the same, or begin anew with --force.")
    if before.get("processes", 1) != now["processes"]:
        raise Refusal(
            "The number of processes was {before} when this training began, and it cannot go on exactly with {now}; start "
            "as many, or begin anew with --force.",
            before=before["processes"],
            now=now["processes"],
        )
    before["state"] = "training"
    record.cut(step)
    return record
