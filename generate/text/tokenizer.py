"""Between text, bytes and token ids. GPT-2's tokens cut characters in half, so bytes are the truth and text a view."""

import codecs
import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

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
        return b"".join(self.tokens[i] for i in ids)


class Tokenizer:
    """Byte-level BPE over the `tokenizers` library. Text that spells the end marker is ordinary text here."""

    def __init__(self, folder: Path, vocab_size: int):
        self._tokenizer = open_tokenizer(folder)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # "<|endoftext|>" in a prompt is seven ordinary tokens
        self.size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.vocabulary = read_vocabulary(self._tokenizer, vocab_size)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, with no special tokens added; their bytes are the text's own UTF-8.

        A lone surrogate is encoded as U+FFFD. Raises Refusal when this tokenizer cannot write some character.
        """
        data = re.sub("[\ud800-\udfff]", "\ufffd", text).encode()
        ids = self._tokenizer.encode(data.decode(), add_special_tokens=False).ids
        if self.vocabulary.bytes_of(ids) != data:
            raise Refusal("this model's tokenizer cannot write every character of the prompt.", "prompt")
        return ids


def open_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """Open `tokenizer.json`, else `vocab.json` with `merges.txt`; raises Refusal when neither is usable."""
    whole, vocab, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    try:
        if whole.exists():
            return tokenizers.Tokenizer.from_file(str(whole))
        if vocab.exists() and merges.exists():
            return from_vocab_and_merges(vocab, merges)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises bare Exception, and its panics are BaseException
        raise Refusal(f"{folder.name}: its tokenizer cannot be read ({error}); copy its files again.") from None
    raise Refusal(
        f"{folder.name}: no tokenizer.json, and no vocab.json with merges.txt; copy them from where the model came from."
    )


def from_vocab_and_merges(vocab: Path, merges: Path) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(str(vocab), str(merges)))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    if "<|endoftext|>" in json.loads(vocab.read_text("utf-8")):
        tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


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
            raise Refusal(f"the tokenizer is not a byte-level BPE (token {text!r}); only GPT-2's kind can be served.")
    return Vocabulary(tokens, (index for index, token in added.items() if token.special))


class CharacterGate:
    """Follows a growing byte string and says how much of it is whole characters.

    The text of a prefix that ends where `pending` is 0 is the same whatever follows, so it may be shown.
    Bytes that are not UTF-8 decode as U+FFFD, as `bytes.decode(errors="replace")` does.
    """

    def __init__(self):
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> int:
        """Take more bytes; return how many at the end wait for the rest of their character (0 to 3)."""
        self._decoder.decode(data)
        return len(self._decoder.getstate()[0])


def split_half_character(data: bytes) -> tuple[bytes, bytes]:
    """Cut `data` into whole characters and the half character it ends in (b"" where it ends well)."""
    pending = CharacterGate().feed(data)
    return data[: len(data) - pending], data[len(data) - pending :]
