"""From text to token ids."""

import json
import re
from pathlib import Path

import tokenizers

from generate.errors import Refusal
from generate.text.vocabulary import read_vocabulary


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
        raise Refusal(
            "{model}: its tokenizer cannot be read ({reason}); copy its files again.", model=folder.name, reason=error
        ) from None
    raise Refusal(
        "{model}: no tokenizer.json, and no vocab.json with merges.txt; copy them from where the model came from.",
        model=folder.name,
    )


def from_vocab_and_merges(vocab: Path, merges: Path) -> tokenizers.Tokenizer:
    """GPT-2's byte-level BPE from the two files that OpenAI's release had."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(str(vocab), str(merges)))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    if "<|endoftext|>" in json.loads(vocab.read_text("utf-8")):
        tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer
