"""From a token's record to probabilities: what the model thought, and what the sampler then allowed.

A record keeps what is needed to know the sampler's probability of every alternative without its logits:
`filter_norm` n and `log_z` z, so that an alternative of log-probability l has (l' / temperature) - n, where l' is l, or
for a token that penalties or biases touch its logit (l + z) with all of them, less z. Those follow from the options and
the text before.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from generate import Place, Refusal, Vocabulary, is_known, known

AGREE = 1e-2  # nats by which a stored and a computed log-probability may differ and still be of the same options


def alternatives(record: np.void, place: Place | None) -> list[dict]:
    """The ten likeliest tokens at a place: id, log-probability, the sampler's (None: unknown, or cut), if it was cut and
    by which sampler ("" where that is not sure), and what samplers added to its logit, by their names.

    Whether it was cut is None where no sampler told. `place` is what `place_of` gives.
    """
    filtered = is_known(record, "cut")
    found = []
    for number in np.flatnonzero(known(record, "alt_logprobs")).tolist():
        token = int(record["alt_ids"][number]), float(record["alt_logprobs"][number])
        cut = bool(record["cut"] >> number & 1) if filtered else None
        found.append({
            "id": token[0],
            "logprob": token[1],
            "sampled": place.logprob(*token) if place and not cut else None,
            "cut": cut,
            "cut_by": place.cut_by(*token) if place and cut else "",
            "touched": place.touched(*token) if place else {},
            "rank": number + 1,
        })  # fmt: skip
    return found


def place_of(
    record: np.void,
    options: Mapping,
    before: np.ndarray,
    vocabulary: Vocabulary | None = None,
    blocked: Sequence[int] = (),
) -> Place | None:
    """The place of a token that was sampled with these options (they give for it what was stored), else None.

    An edited run may have other options than the one in which its first tokens were written.
    """
    logits_count = options.get("repetition_penalty", 1) != 1  # for all else log-probabilities do
    if not (is_known(record, "sampled_logprob") and is_known(record, "cut")):
        return None
    if logits_count and not is_known(record, "log_z"):
        return None
    try:
        place = Place(record, options, before, vocabulary, blocked)
    except Refusal:  # a bias names a token that this vocabulary has not
        return None
    computed = place.logprob(int(record["id"]), float(record["logprob"]))
    return place if abs(computed - float(record["sampled_logprob"])) < AGREE else None


def as_chosen(record: np.void, token: int, options: Mapping, before: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """The record of a place where a person chose `token`, one of its alternatives, instead; shape [1]."""
    chosen = np.array([record], record.dtype)
    if token == record["id"]:
        return chosen
    place = int(np.flatnonzero(record["alt_ids"] == token)[0])
    others = alternatives(record, place_of(record, options, before, vocabulary))
    other = next(one for one in others if one["rank"] == place + 1)
    chosen["id"], chosen["logprob"], chosen["rank"] = token, other["logprob"], other["rank"]
    chosen["sampled_logprob"] = math.nan if other["sampled"] is None else other["sampled"]
    return chosen
