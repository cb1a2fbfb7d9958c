"""The bytes of every token. GPT-2's tokens cut characters in half, so bytes are the truth and text a view."""

from collections.abc import Callable, Iterable, Sequence

import tokenizers

from generate.errors import Refusal
from generate.text.alphabet import byte_alphabet
from generate.text.bpe import model_of
from generate.text.kinds import Kind, kind_of
from generate.text.wordpiece import UNK, piece_bytes


class Vocabulary:
    """The bytes of every token. Special tokens (the end marker) have none: they are not part of the text.

    `tokens[id]` is bytes; ids past the tokenizer's last one (a padded embedding) are empty too.
    """

    def __init__(self, tokens: Sequence[bytes], special: Iterable[int] = ()):
        self.tokens = tuple(tokens)
        self.special = frozenset(special)

    def __len__(self) -> int:
        return len(self.tokens)

    def bytes_of(self, ids: Iterable[int]) -> bytes:
        """What these tokens say, one after the other; a character may be cut at either end."""
        return b"".join(self.tokens[i] for i in ids)


def read_vocabulary(tokenizer: tokenizers.Tokenizer, vocab_size: int) -> Vocabulary:
    """The bytes of each id below `vocab_size`; raises Refusal when a token is not written in GPT-2's byte alphabet, where
    the tokenizer is of its kind."""
    spell = speller(tokenizer)
    added = tokenizer.get_added_tokens_decoder()
    special = {index for index, token in added.items() if token.special and token.content != UNK}
    tokens = [b""] * vocab_size
    for text, index in tokenizer.get_vocab(with_added_tokens=True).items():
        if index in added:
            tokens[index] = b"" if index in special else text.encode()
        else:
            tokens[index] = spell(text)
    return Vocabulary(tokens, special)


def speller(tokenizer: tokenizers.Tokenizer) -> Callable[[str], bytes]:
    """How a token of a tokenizer's vocabulary is made bytes."""
    kind = kind_of(tokenizer)
    if kind == Kind.CHARACTERS:
        return str.encode
    if kind == Kind.WORDPIECE:
        prefix = model_of(tokenizer).get("continuing_subword_prefix", "")
        return lambda token: piece_bytes(token, prefix)
    return from_byte_alphabet


def from_byte_alphabet(token: str) -> bytes:
    """The bytes of a token of GPT-2's; raises Refusal where it is not written in its alphabet."""
    alphabet = byte_alphabet()
    if not all(character in alphabet for character in token):
        raise Refusal(
            "the tokenizer is not a byte-level BPE (token {text!r}); only GPT-2's kind can be served.", text=token
        )
    return bytes(alphabet[character] for character in token)
