"""What an engine answers, as records: from JSON in vLLM's form to the packed tokens that a log keeps.

Whatever is not as it should be raises `Broken`: other ids than were sent, ids that the model has not, numbers that are no
log-probabilities, lists that do not fit together.
"""

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from generate.remote.failures import Broken
from generate.remote.kept import Kept
from generate.sampling.records import ALTERNATIVES, UNKNOWN, record_dtype, unknown_records

SLACK = 1e-3  # a log-probability may be so much above 0, as rounding has it
PREFIX = "token_id:"
FILL_IDS, FILL_LOGPROBS = (0,) * ALTERNATIVES, (UNKNOWN,) * ALTERNATIVES

Pair = tuple[int, float]  # a token and its log-probability


@dataclass(frozen=True)
class Piece:
    """What one event tells: records [N] of the next tokens, and how the request ended, if it has."""

    records: np.ndarray
    finish: str | None


class Packer:
    """Makes records for a vocabulary. What an engine does not tell is unknown in them."""

    def __init__(self, vocab_size: int, kept: Kept | None):
        self._size, self._kept, self._dtype = vocab_size, kept, record_dtype(vocab_size)
        index = "H" if vocab_size < 2**16 else "I"
        self._pack = struct.Struct(f"<{index}5f{index}{ALTERNATIVES}{index}{ALTERNATIVES}fH").pack
        self._few = min(ALTERNATIVES, vocab_size)

    def ids(self, found: Sequence[object]) -> np.ndarray:
        """Records of tokens of which nothing but the ids is told."""
        return unknown_records([self._id(one) for one in found], self._size)

    def token(self, index: object, logprob: object, rank: object, pairs: Iterable[Pair]) -> bytes:
        """One record: of a token, its rank (None: not told), and the likeliest with the token itself among them."""
        index, logprob = self._id(index), self._logprob(logprob)
        likeliest = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:ALTERNATIVES]
        if len(likeliest) < self._few:
            raise Broken(
                "it told of {given} tokens where {wanted} were asked for", given=len(likeliest), wanted=self._few
            )
        ids, logprobs = zip(*likeliest, strict=True)
        sampled, norm, cut = UNKNOWN, UNKNOWN, 0
        if self._kept is not None:
            place = ids.index(index) if index in ids else None
            sampled, norm, cut = self._kept.of(logprob, place, logprobs, self._size <= ALTERNATIVES)
        place = rank if type(rank) is int and 0 < rank <= self._size else 0
        ids, logprobs = (*ids, *FILL_IDS)[:ALTERNATIVES], (*logprobs, *FILL_LOGPROBS)[:ALTERNATIVES]
        return self._pack(index, logprob, sampled, UNKNOWN, norm, UNKNOWN, place, *ids, *logprobs, cut)

    def pair(self, index: object, logprob: object) -> Pair:
        """One of the likeliest."""
        return self._id(index), self._logprob(logprob)

    def unpack(self, packed: list[bytes]) -> np.ndarray:
        """Records as an array [N]."""
        return np.frombuffer(b"".join(packed), self._dtype)

    def _id(self, index: object) -> int:
        if type(index) is not int or not (0 <= index < self._size):
            raise Broken("it wrote token {index}, which this model has not", index=str(index)[:20])
        return index

    def _logprob(self, value: object) -> float:
        if type(value) not in (int, float) or not (-math.inf < value <= SLACK):
            raise Broken("it told a log-probability that is none: {value}", value=str(value)[:20])
        return float(value)


def as_id(spelled: object) -> int:
    """The id in `token_id:N`."""
    text = spelled.removeprefix(PREFIX) if isinstance(spelled, str) and spelled.startswith(PREFIX) else ""
    if not text.isdecimal():
        raise Broken("it spells tokens by their text where ids were asked for")
    return int(text)


def piece_of(event: object, packer: Packer, sent: Sequence[int], statistics: bool) -> Piece | None:
    """What an event of either address tells; None where it tells of no token. `sent` are the ids that were sent."""
    if not isinstance(event, dict) or "error" in event:
        raise Broken("it broke off with an error")
    choices = event.get("choices")
    if not isinstance(choices, list) or not all(isinstance(one, dict) for one in choices):
        raise Broken("its answer has another form than asked for")
    if not choices:
        return None
    choice = choices[0]
    prompt = choice.get("prompt_token_ids") or event.get("prompt_token_ids")
    if prompt is not None and prompt != list(sent):
        raise Broken("it read other tokens than were sent")
    ids, told = choice.get("token_ids") or [], choice.get("logprobs")
    finish = choice.get("finish_reason")
    if not isinstance(ids, list) or not isinstance(finish, str | None):
        raise Broken("its answer has another form than asked for")
    if not statistics or not ids:
        return Piece(packer.ids(ids), finish)
    if not isinstance(told, dict):
        raise Broken("it told no log-probabilities")
    rows = token_rows(told, packer) if "content" in told else completion_rows(told, packer)
    if [packed[0] for packed in rows] != ids:
        raise Broken("it told of other tokens than it wrote")
    return Piece(packer.unpack([packed[1] for packed in rows]), finish)


def token_rows(told: dict, packer: Packer) -> list[tuple[int, bytes]]:
    """(id, record) of each token, from the form of the address for tokens alone."""
    try:
        return [
            (
                one["token_id"],
                packer.token(
                    one["token_id"],
                    one["logprob"],
                    one.get("rank"),
                    [packer.pair(other["token_id"], other["logprob"]) for other in one["top_logprobs"]],
                ),
            )
            for one in told["content"]
        ]
    except (KeyError, TypeError, AttributeError):
        raise Broken("its answer has another form than asked for") from None


def completion_rows(told: dict, packer: Packer) -> list[tuple[int, bytes]]:
    """(id, record) of each token, from the form of OpenAI's completions."""
    try:
        columns = zip(told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True)
        rows = []
        for token, logprob, top in columns:
            index = as_id(token)
            pairs = [packer.pair(as_id(name), value) for name, value in top.items()]
            rows.append((index, packer.token(index, logprob, None, pairs)))
        return rows
    except (KeyError, TypeError, AttributeError, ValueError):
        raise Broken("its answer has another form than asked for") from None


def read_of(answer: object, packer: Packer, sent: Sequence[int], count: int) -> np.ndarray:
    """Records of the last `count` tokens of a text that was read [count], from an answer that was not streamed."""
    try:
        choice = answer["choices"][0]
        told, prompt = choice["prompt_logprobs"], choice["prompt_token_ids"]
        if prompt != list(sent) or len(told) != len(sent):
            raise Broken("it read other tokens than were sent")
        packed = []
        for index, row in zip(sent[-count:], told[-count:], strict=True):
            own = row[str(index)]
            pairs = [packer.pair(int(name), one["logprob"]) for name, one in row.items()]
            packed.append(packer.token(index, own["logprob"], own.get("rank"), pairs))
        return packer.unpack(packed)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        raise Broken("its answer has another form than asked for") from None
