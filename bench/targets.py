"""What the engine is to reach, as ratios of what was measured in one run, and whether it did.

Each ratio is larger for a better engine: of tokens/s, or of the peer's time to ours. "best" is our fastest precision in
that cell. The bounds that stand in the way are printed beside them: a share of the floor near 1 leaves nothing to gain.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.contest import BARE, FLOOR
from bench.ours import PRECISIONS


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
    Target("decode, best against HF float32", "124M", "best", "HF float32", {1: 4, 8: 6, 32: 5.5}),
    Target("decode, int8 against CTranslate2 int8", "124M", "int8", "CTranslate2 int8", {1: 1.5, 8: 1.5, 32: 1.3}),
    Target("decode, int8 against llama.cpp q8_0", "124M", "int8", "llama.cpp q8_0", {1: 0.9, 8: 2, 32: 2.3}),
    Target("decode, int8, share of the floor", "124M", "int8", FLOOR, {1: 0.85, 8: 0.65, 32: 0.7}),
    Target("decode, int8, share left by the statistics", "124M", "int8", BARE, {1: 0.9, 8: 0.9, 32: 0.9}),
    Target("decode, bfloat16 against HF bfloat16", "124M", "bfloat16", "HF bfloat16", {1: 1.8, 8: 2, 32: 2}),
    Target("decode, best against CTranslate2 int8", "storyteller", "best", "CTranslate2 int8", {1: 0.7, 8: 1, 32: 1.2}),
    Target("whole, best against CTranslate2 int8", "124M", "best", "CTranslate2 int8", {32: 1.2}, "whole_tokens_per_s"),
    Target("first token, best against HF float32", "124M", "best", "HF float32", {1: 2, 8: 2, 32: 2}, "first_ms"),
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
    lower = target.value.endswith("_ms")
    wanted = PRECISIONS if target.ours == "best" else (target.ours,)
    ours = [row[target.value] for name in wanted if (row := rows.get(f"ours {name}")) and row.get(target.value)]
    theirs = rows.get(target.peer, {}).get(target.value)
    if not ours or not theirs:
        return None
    return theirs / min(ours) if lower else max(ours) / theirs


def of_the_rest(results: dict) -> Iterator[tuple[str, str, float | None, Callable]]:
    """Targets of the server, of long prompts, of sameness, and of writing beside a training."""
    for row in [row for row in results["serve"] if row["viewers"] == 32] or [{"model": "124M"}]:
        where = f"{row['model']}, 32 viewers"
        yield f"{where}: speed against the engine alone", ">= 0.9", row.get("steady_ratio"), lambda f: f >= 0.9
        yield f"{where}: whole bursts against the engine alone", ">= 0.9", row.get("ratio"), lambda f: f >= 0.9
        yield f"{where}: /healthz p99, ms", "< 100", row.get("healthz_p99_ms"), lambda f: f < 100
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
