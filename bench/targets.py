"""What the engine is to reach, as ratios of what was measured in one run, and whether it did.

Each ratio is larger for a better engine: of tokens/s, or of the peer's time or memory to ours. The bounds
that stand in the way are printed beside them: a share of the floor near 1 leaves nothing to gain.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.contest import BARE, FLOOR
from bench.shapes import NAMES

PEER = "best peer"  # of those that the cell holds: Hugging Face, CTranslate2, llama.cpp
PEERS = ("HF ", "CTranslate2 ", "llama.cpp ")
EVERY = {1: 1.3, 8: 1.3, 32: 1.3}


@dataclass(frozen=True)
class Target:
    """`ours` against `peer` by `value` of their rows; `least` holds the ratio to be reached per batch."""

    says: str
    model: str
    ours: str
    peer: str
    least: dict[int, float]
    value: str = "tokens_per_s"


TARGETS = (
    *(
        Target(f"{says}, {ours} against the best peer", model, ours, PEER, least, value)
        for model in NAMES
        for says, value, least, ours in (
            ("decode", "tokens_per_s", EVERY, "int8"),
            ("whole requests", "whole_tokens_per_s", EVERY, "int8"),
            (
                "whole requests",
                "whole_tokens_per_s",
                EVERY,
                BARE.removeprefix("ours "),
            ),  # what the peers do, and no more
            ("first token", "first_ms", EVERY, "int8"),
            ("memory", "memory_mb", {1: 0.91, 32: 0.91}, "int8"),
        )
    ),
    Target("decode, int8, share of the floor", "124M", "int8", FLOOR, {1: 0.85, 8: 0.65, 32: 0.7}),
    Target("decode, int8, share left by the statistics", "124M", "int8", BARE, {1: 0.9, 8: 0.9, 32: 0.9}),
    Target("decode, bfloat16 against HF bfloat16", "124M", "bfloat16", "HF bfloat16", {1: 1.8, 8: 2, 32: 2}),
    Target("prefill of 512, float32 against HF's", "124M", "float32", "HF float32", {1: 1}, "prefill_ms"),
    Target("prefill of 512, bfloat16 against HF's", "124M", "bfloat16", "HF bfloat16", {1: 1}, "prefill_ms"),
)


def judged(results: dict) -> list[dict]:
    """Every target with what was found (None where it was not measured) and whether that reaches it."""
    return [
        {"target": says, "required": required, "found": found, "reached": None if found is None else reached(found)}
        for says, required, found, reached in [*of_cells(results["cells"]), *of_the_rest(results)]
    ]


def of_cells(cells: list[dict]) -> Iterator[tuple[str, str, float | None, Callable]]:
    for target in TARGETS:
        for batch, least in target.least.items():
            found = ratio(
                target, {c["contender"]: c for c in cells if (c["model"], c["batch"]) == (target.model, batch)}
            )
            yield f"{target.model} at {batch}: {target.says}", f">= {least}", found, lambda f, least=least: f >= least


def ratio(target: Target, rows: dict[str, dict]) -> float | None:
    """Ours over the peer's; None where either is missing."""
    ours = rows.get(f"ours {target.ours}", {}).get(target.value)
    wanted = [name for name in rows if name.startswith(PEERS)] if target.peer == PEER else [target.peer]
    theirs = [value for name in wanted if (value := rows.get(name, {}).get(target.value))]
    if not ours or not theirs:
        return None
    return ours / max(theirs) if target.value.endswith("per_s") else min(theirs) / ours


def of_the_rest(results: dict) -> Iterator[tuple[str, str, float | None, Callable]]:
    """Targets of the server, of long prompts, of sameness, and of writing beside a training."""
    for row in [row for row in results["serve"] if row["viewers"] == 32] or [{"model": "124M"}]:
        where, least = f"{row['model']}, 32 viewers", 0.85 if row["model"] == "storyteller" else 0.9
        says = f"{where}: speed against the engine alone"
        yield says, f">= {least}", row.get("steady_ratio"), lambda f, least=least: f >= least
        yield f"{where}: whole bursts against the engine alone", ">= 0.9", row.get("ratio"), lambda f: f >= 0.9
        yield f"{where}: /healthz p99, ms", "< 100", row.get("healthz_p99_ms"), lambda f: f < 100
    for row in [row for row in results["load"] if (row["model"], row["contender"]) == ("345M", "ours int8")]:
        yield (
            "345M: reading of its file, of the time to the first token",
            ">= 0.67",
            row["ratio"],
            lambda f: f >= 1 / 1.5,
        )
    for row in results["gaps"]:
        says = (
            f"{row['model']} {row['precision']}, {row['rows']} rows: longest gap while 900 tokens enter, in median gaps"
        )
        yield says, "< 3", row["ratio"], lambda f: f < 3
    for row in results["beside"]:
        says = f"{row['model']}, {row['writers']} writers: speed beside a training of the workshop, of that alone"
        yield says, ">= 0.6", row["ratio"], lambda f: f >= 0.6
    for row in results["sameness"]:
        if row["precision"] == "float32":
            yield "float32: share of equal ids, alone and among strangers", "= 1", row["equal_ids"], lambda f: f == 1
            yield "float32: the same of runs that were cut and go on", "= 1", row["resumed_equal_ids"], lambda f: f == 1
