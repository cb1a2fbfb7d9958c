"""The numbers that say whether a server is well, all at one moment."""

from dataclasses import dataclass, field

from generate import Tally


@dataclass(frozen=True)
class Stored:
    """What was found at the last look into the database: whether it `answers`, its size in bytes (None: not told), and its
    jobs by their state."""

    at: float = float("-inf")  # monotonic
    answers: bool = False
    size: int | None = None
    jobs: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Numbers:
    """`tallies` and `rows` are the engine's, by model; `refused` counts by what for, `answers` by the status's class.
    `memory` is resident, in bytes; None where the system does not tell."""

    ready: bool
    tallies: dict[str, Tally]
    rows: dict[str, int]
    waiting: int
    streams: int
    most_streams: int
    refused: dict[str, int]
    answers: dict[str, int]
    memory: int | None
    disk_free: int
    disk_total: int
    stored: Stored

    @property
    def all(self) -> Tally:
        """What all models did together."""
        whole = Tally()
        for tally in self.tallies.values():
            whole.add(tally)
        return whole
