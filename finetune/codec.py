"""A tokenizer as the encoding uses it."""

import hashlib

import numpy as np
import tokenizers

from generate import END, Vocabulary, is_lossless, read_vocabulary


class Codec:
    """A tokenizer of its own, set so that text is only text, and the bytes of each of its ids."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, begin: int | None, end: int):
        self.tokenizer = tokenizers.Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = True  # "<|endoftext|>" is a marker when reading, and else ordinary text
        self.begin, self.end = begin, end
        self.is_lossless = is_lossless(tokenizer)  # else what is written need not be the text to the byte
        self.fingerprint = hashlib.sha256(self.tokenizer.to_str().encode()).hexdigest()
        size = max(self.tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.vocabulary = read_vocabulary(self.tokenizer, size)
        highest = max(len(self.vocabulary) - 1, end, begin or 0)
        self.dtype = np.dtype("<u2" if highest < 2**16 else "<u4")

    @property
    def spelled(self) -> Vocabulary:
        """The vocabulary in which the end token has the text that old data writes for it."""
        tokens = [*self.vocabulary.tokens, *[b""] * (self.end + 1 - len(self.vocabulary))]
        tokens[self.end] = END.encode()
        return Vocabulary(tokens)
