"""From the records of tokens to the text of a choice: whole characters, and the entries of `logprobs`."""

import json
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field

import numpy as np

from generate import CharacterGate, Vocabulary
from webapp.api.spelling import NULL, Spelling, likeliest


@dataclass(frozen=True)
class Wishes:
    """What a request wants to be told of each token. `logprobs` is how many alternatives, None for no log-probabilities."""

    logprobs: int | None = None
    ids: bool = False  # the ids of the tokens
    by_id: bool = False  # tokens are spelled by their ids


@dataclass
class Told:
    """Some tokens of a choice: the text that became whole with each, or one text of all; entries are JSON, each one string."""

    texts: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    logprobs: list[str] = field(default_factory=list)
    top: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    def __add__(self, other: "Told") -> "Told":
        return Told(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    def apart(self) -> list["Told"]:
        """Each token by itself, where log-probabilities are told; else all as one, unless there are none."""
        if not self.tokens:
            return [self] if self.ids else []
        columns = (self.texts, self.ids, self.tokens, self.logprobs, self.top, self.offsets)
        return [Told(*([one] for one in row)) for row in zip(*columns, strict=True)]


class Teller:
    """Follows the tokens of one choice in their order."""

    def __init__(self, vocabulary: Vocabulary, spelling: Spelling, wishes: Wishes, half: bytes = b""):
        """`half` is the half character that a prompt ended in which is not answered itself."""
        self._tokens, self._wishes = vocabulary.tokens, wishes
        self._words = spelling.ids if wishes.by_id else spelling.words
        self._gate = CharacterGate()
        self._gate.feed(half)
        self._characters = 0

    def fork(self) -> "Teller":
        """Another one that has come as far."""
        other = copy(self)
        other._gate = copy(self._gate)
        return other

    def tell(self, records: np.ndarray, most: int | None = None) -> Told:
        """Tell of the next tokens [N]; of their text no more than `most` bytes."""
        ids = records["id"].tolist()
        if self._wishes.logprobs is None:
            return Told([self._gate.decode(b"".join([self._tokens[index] for index in ids])[:most])], ids)
        logprobs, top = likeliest(records, self._words, self._wishes.logprobs)
        texts, offsets = [], []
        for index in ids:
            data = self._tokens[index][:most]
            most = None if most is None else most - len(data)
            offsets.append(self._characters)
            texts.append(self._gate.decode(data))
            self._characters += len(texts[-1])
        return Told(texts, ids, [self._words[index] for index in ids], logprobs, top, offsets)


def logprobs_of(told: Told) -> str:
    """The `logprobs` of a choice, as JSON."""
    parts = {"tokens": told.tokens, "token_logprobs": told.logprobs, "top_logprobs": told.top}
    lists = [f'"{name}":[{",".join(values)}]' for name, values in parts.items()]
    return f'{{{",".join(lists)},"text_offset":[{",".join(map(str, told.offsets))}]}}'


def choice_of(number: int, told: Told, finish: str | None, wishes: Wishes, more: Sequence[str] = ()) -> str:
    """A choice as JSON, whole or a piece of it; `more` are further members, each as JSON has it."""
    text = json.dumps("".join(told.texts), ensure_ascii=False)
    reason = NULL if finish is None else f'"{finish}"'
    logprobs = NULL if wishes.logprobs is None or not told.tokens else logprobs_of(told)
    ids = [f'"token_ids":[{",".join(map(str, told.ids))}]'] if wishes.ids else []
    parts = [f'"index":{number}', f'"text":{text}', f'"logprobs":{logprobs}', f'"finish_reason":{reason}', *ids, *more]
    return f"{{{','.join(parts)}}}"
