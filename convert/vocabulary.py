"""GPT-2's vocabulary between its three spellings: OpenAI's encoder.json and vocab.bpe, `transformers`' vocab.json and
merges.txt (the same files by other names), and tokenizer.json."""

import json
from dataclasses import dataclass
from pathlib import Path

import tokenizers

from generate import Refusal

END = "<|endoftext|>"
VERSION = "#version: 0.2"


@dataclass(frozen=True)
class Bpe:
    """Tokens by id, in GPT-2's byte alphabet, and the merges in order."""

    encoder: dict[str, int]
    merges: list[tuple[str, str]]

    @property
    def end_id(self) -> int | None:
        return self.encoder.get(END)


def find_vocabulary(folder: Path) -> Bpe | None:
    """The vocabulary that lies in a folder, in whichever spelling; raises Refusal when it is broken."""
    for names in (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")):
        encoder, merges = (folder / name for name in names)
        if encoder.is_file() and merges.is_file():
            return Bpe(checked_encoder(read_json(encoder), encoder.name), read_merges(merges))
    whole = folder / "tokenizer.json"
    return from_tokenizer(whole) if whole.is_file() else None


def read_json(file: Path) -> object:
    try:
        return json.loads(file.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Refusal("{file} is not JSON ({reason}).", file=file.name, reason=error) from None


def checked_encoder(encoder: object, name: str) -> dict[str, int]:
    if not isinstance(encoder, dict) or not all(type(i) is int and i >= 0 for i in encoder.values()):
        raise Refusal("{file} must map tokens to ids.", file=name)
    if len(set(encoder.values())) != len(encoder):
        raise Refusal("{file} gives one id to several tokens.", file=name)
    return encoder


def read_merges(file: Path) -> list[tuple[str, str]]:
    """The merges in order. The first line is a comment by its place; a later one that begins with # is a merge."""
    try:
        lines = file.read_text("utf-8").split("\n")
    except ValueError:
        raise Refusal("{file} is not UTF-8.", file=file.name) from None
    merges = [(number, line.split()) for number, line in enumerate(lines[1:], 2) if line.strip()]
    for number, merge in merges:
        if len(merge) != 2:
            raise Refusal("{file} line {line} must hold two tokens.", file=file.name, line=number)
    return [(left, right) for _, (left, right) in merges]


def from_tokenizer(file: Path) -> Bpe:
    """The byte-level BPE inside a tokenizer.json, its added tokens included."""
    raw = read_json(file)
    try:
        model = raw["model"]
        merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
        encoder = dict(model["vocab"]) | {added["content"]: added["id"] for added in raw.get("added_tokens", ())}
    except (TypeError, KeyError, AttributeError):
        raise Refusal("{file} holds no BPE vocabulary.", file=file.name) from None
    return Bpe(checked_encoder(encoder, file.name), merges)


def write_vocabulary(bpe: Bpe, target: Path, rows: int) -> None:
    """Write vocab.json, merges.txt and tokenizer.json; raises Refusal when the embedding has fewer `rows` than tokens
    (more are padding)."""
    if len(bpe.encoder) < 2:
        raise Refusal(
            "The vocabulary has {count} token; bring the one the model was trained with.", count=len(bpe.encoder)
        )
    highest = max(bpe.encoder.values(), default=0)
    if highest >= rows:
        raise Refusal(
            "The vocabulary goes up to id {highest}, but model/wte has {rows} rows; it is another model's.",
            highest=highest,
            rows=rows,
        )
    try:
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=bpe.encoder, merges=bpe.merges))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises bare Exception, and its panics are BaseException
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise Refusal("The vocabulary and its merges do not belong together ({reason}).", reason=reason) from None
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    if bpe.end_id is not None:
        tokenizer.add_special_tokens([END])
    tokenizer.save(str(target / "tokenizer.json"))
    write_pair(bpe, target / "vocab.json", target / "merges.txt")


def write_makeshift(file: Path) -> None:
    """A tokenizer of two tokens, for a folder that has none and is to be loaded for a test."""
    tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"a": 0, "b": 1}, merges=[])).save(str(file))


def write_pair(bpe: Bpe, encoder: Path, merges: Path) -> None:
    """Write the two files that both OpenAI's and `transformers`' names stand for."""
    encoder.write_text(json.dumps(bpe.encoder, ensure_ascii=False), "utf-8")
    merges.write_text("\n".join([VERSION, *(" ".join(merge) for merge in bpe.merges), ""]), "utf-8")
