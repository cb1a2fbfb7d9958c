"""The bytes of every token. GPT-2's tokens cut characters in half, so bytes are the truth and text a view."""

from collections.abc import Iterable, Sequence
from functools import cache

import tokenizers

from generate.errors import Refusal


@cache
def byte_alphabet() -> dict[str, int]:
    """Map each of the 256 printable characters by which GPT-2's vocabulary files write a byte to that byte.

    Source: `bytes_to_unicode` in openai/gpt-2, src/encoder.py.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}


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
    """The bytes of each id below `vocab_size`; raises Refusal when a token is not written in GPT-2's byte alphabet."""
    alphabet = byte_alphabet()
    added = tokenizer.get_added_tokens_decoder()
    tokens = [b""] * vocab_size
    for text, index in tokenizer.get_vocab(with_added_tokens=True).items():
        if index in added:
            tokens[index] = b"" if added[index].special else text.encode()
        elif all(character in alphabet for character in text):
            tokens[index] = bytes(alphabet[character] for character in text)
        else:
            raise Refusal(
                "the tokenizer is not a byte-level BPE (token {text!r}); only GPT-2's kind can be served.", text=text
            )
    return Vocabulary(tokens, (index for index, token in added.items() if token.special))
