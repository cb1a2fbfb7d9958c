"""What the files beside a pytorch_model.bin say of it: the tokens that begin and end its texts, and its defaults."""

from dataclasses import dataclass, field

from convert.pytorch import ENDINGS
from convert.source import Source
from generate import Refusal, read_object


@dataclass(frozen=True)
class Neighbours:
    """Token ids, each checked, and what generation_config.json says."""

    begin: int | None
    ends: tuple[int, ...]
    generation: dict = field(default_factory=dict)

    @property
    def eos(self) -> int | list[int] | None:
        """As `transformers` writes it."""
        return list(self.ends) if len(self.ends) > 1 else next(iter(self.ends), None)


def read_neighbours(source: Source, rows: int, marker: int | None) -> Neighbours:
    """What they say, else that the `marker` of the vocabulary begins and ends texts; raises Refusal for an id that has no
    row in the embedding. Beside a TensorFlow checkpoint nothing is looked at."""
    if source.prefix.suffix not in ENDINGS:
        return Neighbours(marker, () if marker is None else (marker,))
    told = {}
    for name in ("config.json", "generation_config.json"):
        file = source.beside(name)
        told[name] = {} if file is None else read_object(file)
    both = told["config.json"] | told["generation_config.json"]
    ends = both.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [marker if ends is None else ends]
    begin = both.get("bos_token_id", marker)
    for name, token in (("bos_token_id", begin), *(("eos_token_id", end) for end in ends)):
        if token is not None and not (type(token) is int and 0 <= token < rows):
            raise Refusal(
                "{name} beside {file} must be a token id below {rows:,}, not {given!r:.60}.",
                name=name,
                file=source.prefix.name,
                rows=rows,
                given=token,
            )
    return Neighbours(begin, tuple(end for end in ends if end is not None), told["generation_config.json"])
