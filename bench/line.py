"""A simulation of the line before the engines: how long people wait, for so many an hour, rows and replicas.

    python -m bench.line

Visitors come by chance (Poisson), each wants one text of 200 tokens; an engine writes up to `rows` at once, and the more
of them the slower each, as measured: `step` seconds a token for all rows together at one row, and `more` for each row on
top. The line and its sharing out are the server's own (generate/scheduling/queue.py takes the owner who holds the fewest
rows, and here each visitor is another owner, so whoever came first is first).
"""

import heapq
import random
from dataclasses import dataclass

TOKENS = 200
HOURS = 1.0


@dataclass(frozen=True)
class Engine:
    """Replicas of one kind: `step` + `more` * (rows in use - 1) are the seconds of a token."""

    name: str
    rows: int
    step: float
    more: float

    def token(self, used: int) -> float:
        """Seconds that each text takes for a token while so many are written."""
        return self.step + self.more * (used - 1)


# Rates: this project's design notes, 124M on two Zen 4 cores (int8: 1 row 90, 32 rows 581 tokens/s; vLLM CPU bfloat16 42 and
# 430); of the GPU nobody has measured here: a step of 5 ms for up to 128 rows is an assumption.
ENGINES = (
    Engine("this machine, int8, two cores", 32, 1 / 90, (32 / 581 - 1 / 90) / 31),
    Engine("vLLM, bfloat16, two cores", 32, 1 / 42, (32 / 430 - 1 / 42) / 31),
    Engine("vLLM on a GPU (assumed)", 128, 0.005, 0.00002),
)


def simulate(
    engine: Engine, replicas: int, an_hour: int, hours: float = HOURS, seed: int = 0
) -> tuple[float, float, float]:
    """Median and 95th percentile of the seconds until a text begins, and the share of rows in use.

    A text's pace is that of the moment it begins: an approximation that errs little, as the line changes slowly.
    """
    dice, rows = random.Random(seed), engine.rows * replicas
    ends: list[float] = []  # when rows come free
    now, waits, busy = 0.0, [], 0.0
    for _ in range(max(1, round(an_hour * hours))):
        now += dice.expovariate(an_hour / 3600)
        while ends and ends[0] <= now:
            heapq.heappop(ends)
        begin = now if len(ends) < rows else heapq.heappop(ends)
        used = min(engine.rows, 1 + len(ends) // replicas)
        seconds = TOKENS * engine.token(used)
        heapq.heappush(ends, begin + seconds)
        waits.append(begin - now)
        busy += seconds
    waits.sort()
    return waits[len(waits) // 2], waits[int(len(waits) * 0.95)], min(1.0, busy / (rows * max(now, 1.0)))


def fewest(engine: Engine, an_hour: int, patience: float = 2.0) -> int:
    """The fewest replicas with which 95 of 100 begin within `patience` seconds."""
    replicas = 1
    while simulate(engine, replicas, an_hour)[1] > patience:
        replicas += 1
    return replicas


def table() -> list[str]:
    """The lines of a table for docs/scale.md."""
    lines = [
        "| engine | an hour | replicas | median wait | 95 % wait | rows in use |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for engine in ENGINES:
        for an_hour in (10, 1_000, 100_000):
            replicas = fewest(engine, an_hour)
            median, late, used = simulate(engine, replicas, an_hour)
            lines.append(f"| {engine.name} | {an_hour:,} | {replicas} | {median:.1f} s | {late:.1f} s | {used:.0%} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
