"""What the files beside a pytorch_model.bin say of it: the tokens that begin and end its texts, and its defaults."""

from dataclasses import dataclass, field

from convert.from_gguf import gguf_ends
from convert.source import Source
from convert.vocabulary import Bpe
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


def read_neighbours(source: Source, rows: int, bpe: Bpe | None) -> Neighbours:
    """What they say, else that texts begin and end by the marks of the vocabulary; raises Refusal for an id that has no row
    in the embedding. Beside a TensorFlow checkpoint, and with BERT's vocabulary, nothing but defaults is looked at: in
    folders of the latter the ids are often those of GPT-2's own."""
    first, last = (bpe.begin_id, bpe.end_id) if bpe else (None, None)
    if source.is_tensorflow:
        return Neighbours(first, () if last is None else (last,))
    told = {}
    for name in ("config.json", "generation_config.json"):
        file = source.beside(name)
        told[name] = {} if file is None else read_object(file)
    if source.is_gguf:
        told["generation_config.json"] |= gguf_ends(source.prefix)
    both = {} if bpe and bpe.is_bert else told["config.json"] | told["generation_config.json"]
    ends = both.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [last if ends is None else ends]
    begin = both.get("bos_token_id", first)
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
