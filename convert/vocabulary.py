"""GPT-2's vocabulary between its three spellings: OpenAI's encoder.json and vocab.bpe, `transformers`' vocab.json and
merges.txt (the same files by other names), and tokenizer.json; and the tokens that other files add to them. Also BERT's
vocab.txt, and nanoGPT's meta.pkl."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tokenizers

from convert.characters import FILE as META
from convert.characters import read_meta
from generate import (
    CLS,
    END,
    SEP,
    Refusal,
    check_reached,
    is_lossless,
    merges_of,
    model_of,
    read_encoder,
    read_pair,
    read_whole,
    read_wordpiece,
)

VERSION = "#version: 0.2"
FLAGS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class Bpe:
    """A tokenizer, its added tokens included, and where it is from, in words."""

    tokenizer: tokenizers.Tokenizer
    origin: str

    @property
    def is_bert(self) -> bool:
        """Whether it is BERT's WordPiece, with marks of its own."""
        return not is_lossless(self.tokenizer)

    @property
    def is_byte_level(self) -> bool:
        """Whether it is of GPT-2's kind, which two files can spell."""
        return self.tokenizer.pre_tokenizer is not None and not self.is_bert

    @property
    def begin_id(self) -> int | None:
        """The id of the token that goes before a text, if there is one."""
        return self.tokenizer.token_to_id(CLS if self.is_bert else END)

    @property
    def end_id(self) -> int | None:
        """The id of the end token, if there is one."""
        return self.tokenizer.token_to_id(SEP if self.is_bert else END)

    @property
    def size(self) -> int:
        """Number of tokens, added ones included."""
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    @cached_property
    def model(self) -> dict:
        """The vocabulary and the merges as tokenizer.json has them."""
        return model_of(self.tokenizer)


READERS = {  # by the files that must be there
    ("encoder.json", "vocab.bpe"): read_pair,
    ("tokenizer.json",): read_whole,
    ("vocab.json", "merges.txt"): read_pair,
    ("vocab.txt",): read_wordpiece,
    (META,): read_meta,
}


def find_vocabulary(folder: Path, rows: int, origin: str) -> Bpe | None:
    """The vocabulary that lies in a folder, in whichever spelling; raises Refusal when it is broken, when its two files do
    not belong together, or when the embedding has fewer `rows` than tokens (more are padding)."""
    for names, read in READERS.items():
        files = [folder / name for name in names]
        if all(file.is_file() for file in files):
            if len(files) == 2:
                check_rows(read_encoder(files[0]), rows)
            return checked(Bpe(read(*files), origin), files[0], rows)
    return None


def word_list(file: Path, rows: int, origin: str) -> Bpe:
    """BERT's vocabulary in a file of any name, as GPT2-Chinese has several beside each other; raises Refusal as above."""
    return checked(Bpe(read_wordpiece(file), origin), file, rows)


def checked(bpe: Bpe, file: Path, rows: int) -> Bpe:
    """The same vocabulary; raises Refusal where it is none that can be used with an embedding of so many `rows`."""
    if "merges" not in bpe.model and not bpe.is_bert:
        raise Refusal("{file} holds no BPE vocabulary.", file=file.name)
    check_rows(bpe.tokenizer.get_vocab(with_added_tokens=True), rows)
    check_reached(bpe.tokenizer)
    return bpe


def check_rows(encoder: dict[str, int], rows: int) -> None:
    """Refuse a vocabulary {token: id} of fewer than two tokens, or with an id beyond the embedding's `rows`."""
    if len(encoder) < 2:
        raise Refusal("The vocabulary has {count} token; bring the one the model was trained with.", count=len(encoder))
    if (highest := max(encoder.values())) >= rows:
        raise Refusal(
            "The vocabulary goes up to id {highest}, but model/wte has {rows} rows; it is another model's.",
            highest=highest,
            rows=rows,
        )


def write_vocabulary(bpe: Bpe, target: Path) -> None:
    """Write tokenizer.json, and of a byte-level BPE vocab.json with merges.txt for programs that read no other."""
    bpe.tokenizer.save(str(target / "tokenizer.json"))
    if bpe.is_byte_level:  # there is no such spelling of the other kinds
        write_pair(bpe, target / "vocab.json", target / "merges.txt")


def write_makeshift(file: Path) -> None:
    """A tokenizer of two tokens, for a folder that has none and is to be loaded for a test."""
    tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"a": 0, "b": 1}, merges=[])).save(str(file))


def write_pair(bpe: Bpe, encoder: Path, merges: Path) -> None:
    """Write the two files that both OpenAI's and `transformers`' names stand for, and, where there are tokens that are no
    part of the vocabulary, a tokenizer_config.json with them."""
    vocab = bpe.model["vocab"] | ({} if bpe.end_id is None else {END: bpe.end_id})
    encoder.write_text(json.dumps(vocab, ensure_ascii=False), "utf-8")
    merges.write_text("\n".join([VERSION, *(" ".join(merge) for merge in merges_of(bpe.model)), ""]), "utf-8")
    added = bpe.tokenizer.get_added_tokens_decoder()
    if any(token.content != END for token in added.values()):
        told = {str(index): {flag: getattr(token, flag) for flag in FLAGS} for index, token in sorted(added.items())}
        config = {"added_tokens_decoder": told, "tokenizer_class": "GPT2Tokenizer"}
        encoder.with_name("tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=2), "utf-8")
