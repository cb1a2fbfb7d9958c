"""How a token is spelled in an answer: its text, `\\xNN` for bytes that are no whole character, or `token_id:N`.

Everything is kept as JSON, made once for each tokenizer: an answer with alternatives names eleven tokens for each that was
written.
"""

import json
import threading
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from generate import ModelFolder

NULL = "null"


def spelled(data: bytes) -> str:
    """Bytes as text, with `\\xNN` for those that are no whole character."""
    return data.decode("utf-8", "backslashreplace")


def by_id(index: int) -> str:
    """A token by its id, as vLLM spells it."""
    return f"token_id:{index}"


class Spelling:
    """The tokens of one tokenizer as JSON strings, each another one; a special token is spelled by its name.

    Two that would read alike, or that say nothing, are spelled by their ids: the alternatives of a place are the keys of an
    object.
    """

    def __init__(self, folder: ModelFolder):
        names, seen = folder.tokenizer.special_names, {""}
        self.words: list[str] = []
        for index, data in enumerate(folder.tokenizer.vocabulary.tokens):
            word = names.get(index) or spelled(data)
            word = by_id(index) if word in seen else word
            seen.add(word)
            self.words.append(json.dumps(word, ensure_ascii=False))
        self.ids = [json.dumps(by_id(index)) for index in range(len(self.words))]
        self.sizes = np.fromiter(map(len, folder.tokenizer.vocabulary.tokens), np.int64)  # bytes of each token


class Spellings:
    """The spelling of each tokenizer in use."""

    def __init__(self):
        self._found: WeakKeyDictionary = WeakKeyDictionary()
        self._lock = threading.Lock()

    def of(self, folder: ModelFolder) -> Spelling:
        """That of a model's tokenizer."""
        with self._lock:
            if (found := self._found.get(folder.tokenizer)) is None:
                found = self._found[folder.tokenizer] = Spelling(folder)
            return found


def numbers(values: np.ndarray) -> list[str]:
    """float32 [N] as JSON: the shortest that reads back as the same float32, wherever it stands."""
    return [str(value) if ok else NULL for value, ok in zip(values, np.isfinite(values).tolist(), strict=True)]


def places(records: np.ndarray, count: int) -> list[dict[int, str] | None]:
    """Of each token [N] the `count` likeliest of its place and the token itself last: JSON numbers by ids.

    None where nothing predicted the token. A token that is among the likeliest has the same digits either way.
    """
    alternatives = records["alt_ids"][:, :count]
    logprobs = numbers(records["logprob"])
    others = iter(numbers(records["alt_logprobs"][:, :count].ravel()))
    found = []
    for own, here, logprob in zip(records["id"].tolist(), alternatives.tolist(), logprobs, strict=True):
        pairs = {index: value for index in here if (value := next(others)) != NULL}
        pairs[own] = logprob
        found.append(None if logprob == NULL else pairs)
    return found


def likeliest(records: np.ndarray, words: Sequence[str], count: int) -> tuple[list[str], list[str]]:
    """Of tokens [N] the log-probability, and an object of the likeliest at each place with the token itself, as JSON."""
    found = places(records, count)
    logprobs = [NULL if pairs is None else pairs[own] for own, pairs in zip(records["id"].tolist(), found, strict=True)]
    return logprobs, [
        NULL if pairs is None else f"{{{','.join([f'{words[index]}:{value}' for index, value in pairs.items()])}}}"
        for pairs in found
    ]


def prompt_logprobs(records: np.ndarray, spelling: Spelling, count: int) -> str:
    """vLLM's `prompt_logprobs` of a prompt's tokens [N], as JSON: null, then for each an object by ids."""
    told = []
    for record, pairs in zip(records, places(records, count), strict=True):
        if pairs is None:
            told.append(NULL)
            continue
        ranks = {index: rank for rank, index in enumerate(record["alt_ids"][:count].tolist(), 1)}
        ranks[int(record["id"])] = int(record["rank"]) or NULL
        ones = [
            f'"{index}":{{"logprob":{value},"rank":{ranks[index]},"decoded_token":{spelling.words[index]}}}'
            for index, value in pairs.items()
        ]
        told.append(f"{{{','.join(ones)}}}")
    return f"[{','.join(told)}]"
