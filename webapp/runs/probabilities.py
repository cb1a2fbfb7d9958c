"""From a token's record to probabilities: what the model thought, and what the sampler then allowed.

A record keeps what is needed to know the sampler's probability of every alternative without its logits:
`filter_norm` n and `log_z` z, so that an alternative of log-probability l has (l' / temperature) - n, where l' is l, or
for a token that the repetition penalty touches its penalised logit (l + z) less z.
"""

import math
from collections.abc import Mapping

import numpy as np

from generate import is_known, known, sampler_logprob

AGREE = 1e-2  # nats by which a stored and a computed log-probability may differ and still be of the same options


def alternatives(record: np.void, options: Mapping, before: np.ndarray) -> list[dict]:
    """The ten likeliest tokens at a place: id, log-probability, the sampler's (None: unknown, or cut), if it was cut.

    Whether it was cut is None where no sampler told.
    """
    told, filtered = same_options(record, options, before), is_known(record, "cut")
    found = []
    for place in np.flatnonzero(known(record, "alt_logprobs")).tolist():
        index, logprob = int(record["alt_ids"][place]), float(record["alt_logprobs"][place])
        cut = bool(record["cut"] >> place & 1) if filtered else None
        sampled = sampler_logprob(record, logprob, index, options, before) if told and not cut else None
        found.append({"id": index, "logprob": logprob, "sampled": sampled, "cut": cut, "rank": place + 1})
    return found


def same_options(record: np.void, options: Mapping, before: np.ndarray) -> bool:
    """Whether a token was sampled with these options: what they give for it is what was stored.

    An edited run may have other options than the one in which its first tokens were written.
    """
    if not (is_known(record, "sampled_logprob") and is_known(record, "cut") and is_known(record, "log_z")):
        return False
    computed = sampler_logprob(record, float(record["logprob"]), int(record["id"]), options, before)
    return abs(computed - float(record["sampled_logprob"])) < AGREE


def as_chosen(record: np.void, token: int, options: Mapping, before: np.ndarray) -> np.ndarray:
    """The record of a place where a person chose `token`, one of its alternatives, instead; shape [1]."""
    chosen = np.array([record], record.dtype)
    if token == record["id"]:
        return chosen
    place = int(np.flatnonzero(record["alt_ids"] == token)[0])
    other = next(one for one in alternatives(record, options, before) if one["rank"] == place + 1)
    chosen["id"], chosen["logprob"], chosen["rank"] = token, other["logprob"], other["rank"]
    chosen["sampled_logprob"] = math.nan if other["sampled"] is None else other["sampled"]
    return chosen
