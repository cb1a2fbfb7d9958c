"""What is known of one token, packed: the form in which the engine reports it and the database keeps it.

86 bytes a token with 16-bit ids, 110 with 32-bit ones (where the vocabulary needs them).
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from generate.text.vocabulary import Vocabulary

ALTERNATIVES = 10
UNKNOWN = math.nan


@cache
def record_dtype(vocab_size: int) -> np.dtype:
    """The packed layout of a token for a vocabulary of this size; little-endian, no padding.

    id              the token
    logprob         natural log of the model's probability of it, before any sampling filter
    sampled_logprob the same after penalty, temperature, top_k and top_p
    entropy         of the model's distribution at this place, in nats, before the filters
    filter_norm     n such that an alternative with no penalty has sampled_logprob = logprob / temperature - n
    log_z           log-sum-exp of the raw logits: logit = logprob + log_z, which the penalty acts on
    rank            1 for the likeliest token; 0 where nothing is known
    alt_ids         the ten likeliest tokens, the likeliest first; alt_logprobs is NaN past a tiny vocabulary's end
    cut             bit i is set where the filters cut alternative i

    Unknown numbers are NaN: the first token of a prompt has no prediction, and prompt tokens were not sampled. Each
    field may be unknown by itself, as an engine may tell some of them and not others; ask `known`.
    """
    index = "<u2" if vocab_size < 2**16 else "<u4"
    return np.dtype(
        [
            ("id", index),
            ("logprob", "<f4"),
            ("sampled_logprob", "<f4"),
            ("entropy", "<f4"),
            ("filter_norm", "<f4"),
            ("log_z", "<f4"),
            ("rank", index),
            ("alt_ids", index, (ALTERNATIVES,)),
            ("alt_logprobs", "<f4", (ALTERNATIVES,)),
            ("cut", "<u2"),
        ]
    )


def unknown_records(ids: Sequence[int], vocab_size: int) -> np.ndarray:
    """Records for tokens of which nothing but the id is known; shape [len(ids)]."""
    records = np.zeros(len(ids), record_dtype(vocab_size))
    records["id"] = np.asarray(ids, records["id"].dtype)
    for name in ("logprob", "sampled_logprob", "entropy", "filter_norm", "log_z", "alt_logprobs"):
        records[name] = UNKNOWN
    return records


def known(records: np.ndarray | np.void, field: str | None = None) -> np.ndarray:
    """Where `field` is known, by default anything that the model thought of a token; bool of the shape of `records`.

    `cut`, which alternatives the filters cut, is known where a sampler's `filter_norm` is.
    """
    match field:
        case None:
            return known(records, "logprob") | known(records, "rank")
        case "rank":
            return records["rank"] > 0
        case "cut":
            return ~np.isnan(records["filter_norm"])
        case _:
            return ~np.isnan(records[field])


def is_known(record: np.void, field: str | None = None) -> bool:
    """Whether `field` of one record is known, by default anything that the model thought of its token."""
    return bool(known(record, field))


def first_unknown(records: np.ndarray, start: int, end: int) -> int:
    """Index of the first token of a prompt, from `start` up to `end`, of which nothing is known; else `end`."""
    unknown = (~known(records[start:end])).nonzero()[0]
    return start + int(unknown[0]) if len(unknown) else end


def record_as_dict(record: np.void, vocabulary: Vocabulary, blocked: Sequence[int] = ()) -> dict:
    """One record as plain values for JSON; `bytes` are a list of 0 to 255. `blocked` are ids that a banned phrase kept out
    there; it is left out where there are none.

    What is not known is None, each field by itself: `logprob` where nothing predicted the token, `sampled_logprob` and
    an alternative's `cut` where no sampler told of them, `entropy` and `rank` where the engine did not tell them.
    """
    filtered, there = is_known(record, "cut"), known(record, "alt_logprobs")
    return (
        token_as_dict(record["id"], record["logprob"], vocabulary)
        | {
            "sampled_logprob": plain(record["sampled_logprob"]),
            "entropy": plain(record["entropy"]),
            "rank": int(record["rank"]) if is_known(record, "rank") else None,
            "alternatives": [
                token_as_dict(alt, logprob, vocabulary)
                | {"cut": bool(record["cut"] >> place & 1) if filtered else None}
                for place, (alt, logprob) in enumerate(zip(record["alt_ids"], record["alt_logprobs"], strict=True))
                if there[place]
            ],
        }
        | ({"blocked": [token_of(index, vocabulary) for index in blocked]} if blocked else {})
    )


def token_as_dict(index: np.integer, logprob: np.floating, vocabulary: Vocabulary) -> dict:
    """One token for JSON, with its log-probability."""
    return token_of(index, vocabulary) | {"logprob": plain(logprob)}


def token_of(index: int, vocabulary: Vocabulary) -> dict:
    """What a token is, for JSON; `token` is lossy where it is a part of a character, `bytes` are exact."""
    data = vocabulary.tokens[index]
    return {"id": int(index), "token": data.decode("utf-8", "replace"), "bytes": list(data)}


def plain(number: np.floating) -> float | None:
    """A float32 as the shortest float that reads back the same; NaN and infinities, which JSON lacks, as None."""
    return float(str(number)) if np.isfinite(number) else None
