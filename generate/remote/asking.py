"""What is asked of an engine: a row's request in vLLM's words, from the tokens since the root and the options.

An engine sees token ids alone. Where a text stops, at a string or a sentence, is found on our side, and so is what the
window holds; of vLLM, which has no sliding window, a text that grows past it is asked for piece by piece. Another Rubric
slides as we do: it gets the whole text, and all options by our names.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from generate.interface.request import Request
from generate.sampling.filters import is_greedy, lowered
from generate.sampling.in_use import SAMPLERS, TOGETHER
from generate.sampling.lists import bias_pairs
from generate.sampling.options import Sampling
from generate.sampling.records import ALTERNATIVES
from generate.scheduling.window import as_seen, window_start, windows

SEEDS = 2**32
FAR_APART = (
    2_654_435_761  # the noise of one window after another, and of neighbouring seeds, shall have nothing in common
)
MOST_BIASES = 1024  # of vLLM's GPU runner
BY_NAME = frozenset(
    {
        *("temperature", "top_k", "top_p", "min_p"),
        *("repetition_penalty", "frequency_penalty", "presence_penalty", "logit_bias"),
    }
)  # samplers of ours that vLLM has
HOTTEST = 2  # vLLM's highest temperature
WRITES_ONE = -1  # it has room for a token fewer than the window, as it writes one after whatever it reads


@dataclass(frozen=True)
class Ask:
    """One request: the ids to go on from, how many tokens to write at the most, and the sampler's fields."""

    ids: list[int]
    most: int
    fields: dict
    statistics: bool


def ask_vllm(request: Request, number: int, ids: Sequence[int], written: int) -> Ask:
    """What to ask vLLM for sample `number` (in the noise) of a run whose text since the root is `ids`, of which the last
    `written` are the sample's own.

    It writes up to the window's end and no further; a window that is full loses its first token that is not kept, as
    vLLM's prompt and what it writes have room for n_positions together.
    """
    sampling, most = request.sampling, request.folder.config.n_positions
    start = window_start(len(ids), most)
    context = list(as_seen(ids, start, request.n_keep)[start:])
    if len(context) == most:
        del context[request.n_keep]
    room = most - len(context)
    fields = sampler_fields(sampling) | {
        "seed": (sampling.seed + number + start * FAR_APART) % SEEDS,
        "min_tokens": min(max(0, sampling.min_new_tokens - written), room),
        "ignore_eos": True,
        "stop_token_ids": list(request.folder.end_ids),
    }
    biases = biases_of(request, ids[len(ids) - written :])
    if biases:
        fields["logit_bias"] = biases
    return Ask(context, min(sampling.max_new_tokens - written, room), fields, request.statistics)


def sampler_fields(sampling: Sampling) -> dict:
    """The samplers by vLLM's names, those that are off left out."""
    if is_greedy(np.float32(sampling.temperature)) or sampling.top_p == 0:
        return {"temperature": 0.0} | penalties(sampling)
    fields = {"temperature": sampling.temperature, "top_k": sampling.top_k or -1}
    fields |= {name: getattr(sampling, name) for name in ("top_p", "min_p")}
    return fields | penalties(sampling)


def penalties(sampling: Sampling) -> dict:
    """The three that depend on the text; vLLM counts for two of them what this one request has written."""
    return {name: getattr(sampling, name) for name in ("repetition_penalty", "frequency_penalty", "presence_penalty")}


def biases_of(request: Request, written: Sequence[int]) -> dict[str, float]:
    """What is added to the logits of tokens: as asked for, and for what the sample wrote before this request, which vLLM's
    own penalties do not see. Where that is too much for it, those that matter most."""
    sampling, found = request.sampling, dict(request.biases)
    if sampling.frequency_penalty or sampling.presence_penalty:
        for index, count in Counter(written).items():
            found[index] = lowered(found.get(index, 0.0), count, sampling.frequency_penalty, sampling.presence_penalty)
    heaviest = sorted(found, key=lambda index: -abs(found[index]))[:MOST_BIASES]
    return {str(index): max(-100.0, min(100.0, found[index])) for index in heaviest}


def ask_rubric(request: Request, number: int, ids: Sequence[int], written: int) -> Ask:
    """What to ask another Rubric: the whole text, with all samplers by our names. Its noise counts from the root."""
    sampling = request.sampling
    names = SAMPLERS.union(*TOGETHER.values()) - {"logit_bias"}
    fields = {name: value if not isinstance(value := getattr(sampling, name), tuple) else list(value) for name in names}
    fields |= {"seed": sampling.seed, "first_sample": number, "n_keep": sampling.n_keep}
    fields["min_tokens"] = max(0, sampling.min_new_tokens - written)
    if sampling.logit_bias:  # by the words that were given, as there may be only so many, and each may be two tokens
        fields["logit_bias"] = dict(bias_pairs(sampling.logit_bias))
    return Ask(list(ids), sampling.max_new_tokens - written, fields, request.statistics)


def body_of(ask: Ask, model: str, tokens_only: bool) -> tuple[str, dict]:
    """The address and the JSON of a streamed request: where it is open that for tokens alone, else OpenAI's."""
    count = {"logprobs": ALTERNATIVES} if ask.statistics else {}
    if tokens_only:
        fields = ask.fields | count | {"max_tokens": ask.most, "detokenize": False}
        if "logit_bias" in fields:
            fields["logit_bias"] = {int(index): bias for index, bias in fields["logit_bias"].items()}
        body = {
            "model": model,
            "token_ids": ask.ids,
            "stream": True,
            "return_token_ids": True,
            "sampling_params": fields,
        }
        return "/inference/v1/generate", body
    body = {"model": model, "prompt": ask.ids, "max_tokens": ask.most, "stream": True, "return_token_ids": True}
    return "/v1/completions", body | {"return_tokens_as_token_ids": True} | count | ask.fields


@dataclass(frozen=True)
class Reading:
    """A stretch of a text to be read: the ids to send, and which of the text's tokens, from `first` on, are the last
    `count` of them."""

    ids: list[int]
    first: int
    count: int


def readings(
    ids: Sequence[int], n_positions: int, n_keep: int, most: int, whole: bool, first: int = 1
) -> list[Reading]:
    """How a text of tokens is read by an engine that reads `most` at once: all of its windows (`whole`), or the one in
    which it is gone on from. Tokens before index `first` need not be told of.

    What does not fit before a window's end is read with the newest tokens that do.
    """
    found, last = [], window_start(len(ids), n_positions)
    stretches = windows(len(ids), n_positions) if whole else [(last, last + 1, len(ids))]
    for start, begin, end in stretches:
        begin, seen = max(begin, first), as_seen(ids, start, n_keep)
        fits = min(end, start + most)
        if begin < fits:
            found.append(Reading(list(seen[start:fits]), begin, fits - begin))
        if max(begin, fits) < end:
            found.append(Reading(list(seen[end - most : end]), max(begin, fits), end - max(begin, fits)))
    return found


def reading_body(reading: Reading, model: str, writes: int) -> dict:
    """The JSON by which a stretch is read; `writes` tokens are written and not looked at, as vLLM writes one at least."""
    body = {"model": model, "prompt": reading.ids, "max_tokens": writes, "temperature": 0.0}
    return body | {"prompt_logprobs": ALTERNATIVES, "return_token_ids": True}
