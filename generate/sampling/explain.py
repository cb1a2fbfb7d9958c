"""What the samplers did to the tokens at one place, told afterwards from its record, the options and the text before it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np

from generate.sampling.filters import is_greedy, lowered, penalised
from generate.sampling.lists import token_biases
from generate.sampling.options import Sampling
from generate.sampling.records import is_known, known
from generate.text.vocabulary import Vocabulary

NAMES = frozenset(field.name for field in fields(Sampling))


class Place:
    """One place of a text that was sampled. `before` holds the ids of all tokens before it.

    `options` are those of the run; what they do not name is at its default. Without `vocabulary`, what DRY and logit_bias
    did cannot be told, and nothing is known of the sampler's probabilities where they are on. `blocked` are ids that a
    banned phrase kept out there.
    """

    def __init__(
        self,
        record: np.void,
        options: Mapping,
        before: np.ndarray,
        vocabulary: Vocabulary | None = None,
        blocked: Sequence[int] = (),
    ):
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items() if k in NAMES}
        self._record, self._before, self._sampling = record, before, Sampling(**given)
        self._blocked = frozenset(blocked)
        self._special = vocabulary.special if vocabulary else frozenset()
        asked, self._biases, self._repeated = self._sampling, {}, {}
        self._told = vocabulary is not None or not (asked.dry_multiplier or asked.logit_bias)
        if vocabulary is not None:
            self._biases = token_biases(asked.logit_bias, vocabulary)
            self._repeated = repeated(asked, vocabulary, before)

    def touched(self, index: int, logprob: float) -> dict[str, float]:
        """What was added to the logit of token `index` by which sampler, where that is not 0; less than 0: pressed down.

        `logprob` is what the model gave the token.
        """
        asked, count, repetition = self._sampling, int((self._before == index).sum()), 0.0
        if count and asked.repetition_penalty != 1:
            logit = logprob + float(self._record["log_z"])
            repetition = float(penalised(logit, asked.repetition_penalty, np.where)) - logit
        found = {
            "repetition_penalty": repetition,
            "frequency_penalty": lowered(0.0, count, asked.frequency_penalty, 0.0),
            "presence_penalty": lowered(0.0, count, 0.0, asked.presence_penalty),
            "DRY": -self._repeated.get(index, 0.0),
            "logit_bias": self._biases.get(index, 0.0),
        }
        return {name: amount for name, amount in found.items() if amount}

    def score(self, index: int, logprob: float) -> float:
        """The log-probability as penalties and biases left it: the logit less the model's log-sum-exp."""
        return logprob + sum(self.touched(index, logprob).values())

    def logprob(self, index: int, logprob: float) -> float:
        """The log of the sampler's probability of a token that it did not cut; NaN where that is not known."""
        if not is_known(self._record, "cut") or not self._told:
            return math.nan
        if is_greedy(np.float32(self._sampling.temperature)):
            return 0.0 if index == self._record["id"] else -math.inf
        return self.score(index, logprob) / self._sampling.temperature - float(self._record["filter_norm"])

    def cut_by(self, index: int, logprob: float) -> str:
        """Which of the samplers struck out token `index`, one of the alternatives that were cut; "" where that is not sure."""
        asked, record = self._sampling, self._record
        if index in self._blocked:
            return "banned_phrases"
        if is_greedy(np.float32(asked.temperature)):
            return "temperature"
        if not self._told:
            return ""
        rank = lambda token, logprob: (-self.score(token, logprob), token)  # noqa: E731
        own, chosen = rank(index, logprob), rank(int(record["id"]), float(record["logprob"]))
        if asked.min_new_tokens and index in self._special:
            return "min_new_tokens"
        if own < chosen:  # what filters cut of the last comes after the token that was drawn
            return "XTC" if asked.xtc_probability else ""
        there = known(record, "alt_logprobs")
        pairs = zip(record["alt_ids"][there].tolist(), record["alt_logprobs"][there].tolist(), strict=True)
        others = sorted([*(rank(*pair) for pair in pairs if pair[0] != record["id"]), chosen])
        if 0 < asked.top_k <= sum(other < own for other in others):
            return "top_k"
        if asked.min_p and (others[0][0] - own[0]) / asked.temperature < math.log(asked.min_p):
            return "min_p"
        unsure = {"top_n_sigma": asked.top_n_sigma > 0, "top_k": asked.top_k > 0, "top_p": asked.top_p < 1}
        possible = [name for name, on in unsure.items() if on]
        return possible[0] if len(possible) == 1 else ""


def repeated(sampling: Sampling, vocabulary: Vocabulary, before: np.ndarray) -> dict[int, float]:
    """What DRY takes from the logits of which tokens."""
    if not sampling.dry_multiplier:
        return {}
    from generate.sampling.dry import Stretches  # brings numba, which a page without an engine does without

    stretches = Stretches(sampling, vocabulary, before.tolist())
    ids, lengths = stretches.found()
    return dict(zip(ids.tolist(), stretches.losses[lengths].tolist(), strict=True))
