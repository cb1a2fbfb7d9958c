"""What kind of tokens a tokenizer has, and with it how they are spelled and what can be promised of them."""

from enum import Enum

import tokenizers
from tokenizers import decoders, models

from generate.errors import Problem
from generate.text.bpe import model_of


class Kind(Enum):
    """GPT-2's byte-level BPE; BERT's WordPiece, as Chinese GPT-2s have it; and plain characters, as in nanoGPT's examples."""

    BYTES = "bytes"
    WORDPIECE = "wordpiece"
    CHARACTERS = "characters"


def kind_of(tokenizer: tokenizers.Tokenizer) -> Kind:
    """The kind that a tokenizer is of; whatever is none of the other two counts as byte-level, and is checked as such."""
    if isinstance(tokenizer.model, models.WordPiece):
        return Kind.WORDPIECE
    if (
        isinstance(tokenizer.decoder, decoders.Fuse)
        and tokenizer.pre_tokenizer is None
        and tokenizer.normalizer is None
    ):
        return Kind.CHARACTERS
    return Kind.BYTES


def is_lossless(tokenizer: tokenizers.Tokenizer) -> bool:
    """Whether the bytes of a text's tokens should be the text's own; no WordPiece keeps spaces and line breaks."""
    return kind_of(tokenizer) != Kind.WORDPIECE


def character_level(vocab: dict[str, int]) -> tokenizers.Tokenizer:
    """A tokenizer of single characters by their ids; a text with any other cannot be written with it."""
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def remark_on(tokenizer: tokenizers.Tokenizer) -> Problem | None:
    """What somebody should know of a vocabulary that is not GPT-2's kind."""
    kind = kind_of(tokenizer)
    if kind == Kind.CHARACTERS:
        return Problem(
            "It knows {count} characters, and can read and write no others.", count=len(tokenizer.get_vocab())
        )
    if kind == Kind.WORDPIECE:
        lowered = (model_of(tokenizer, "normalizer") or {}).get("lowercase")
        return (
            Problem(
                "Its vocabulary is BERT's: it reads no capitals, line breaks or repeated spaces, and [UNK] where it "
                "does not know a character.",
            )
            if lowered
            else Problem(
                "Its vocabulary is BERT's: it reads no line breaks or repeated spaces, and [UNK] where it does not "
                "know a character.",
            )
        )
    return None
