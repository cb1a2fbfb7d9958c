"""The certificate of a conversion: the new folder is loaded as the engine loads it, and judged."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from convert import judge
from convert.bundle import Bundle
from convert.names import to_transformers
from convert.sizes import Sizes
from generate import ModelFolder, retelling

TEXT = (
    "The sun was low when the old man came down to the river. He sat on a stone, took the bread from his bag, and gave "
    'half of it to the dog. "We have come a long way," he said, "and we shall not go home before the winter." The dog '
    "looked at him, and then at the water, where a boat was waiting."
)
CHINESE = (
    "太阳快要落山的时候，老人走到了河边。他坐在一块石头上，从包里拿出面包，分了一半给他的狗。“我们走了很远的路，”他说，"
    "“冬天以前是回不了家的。”狗看了看他，又看了看水面，那里有一只小船在等着。"
)  # the same, for BERT's vocabulary
WITHOUT_VOCABULARY = 32  # token ids to compare logits on where there is no text to tokenise
AGREE = {"float32": 1e-3, "float16": 0.1, "bfloat16": 1.0}  # largest difference of a logit that rounding explains
NOISE = 0.75  # of ln(vocabulary): a model that knows no better than chance has 1


@dataclass(frozen=True)
class Certificate:
    """What was found: `loss` in nats a token, `largest_difference` of any logit, `other_heads` {n_head: loss}."""

    tensors: int
    exact: bool  # bit by bit as in the checkpoint; else rounded to the type that was asked for
    largest_difference: float | None  # None where the logits ran out of range
    tokens: int
    loss: float | None
    chance: float
    other_heads: dict[int, float]
    verdict: str
    vocabulary: str | None = None  # where it is from
    sample: dict[str, str] | None = None  # {"prompt", "text"}: how it goes on with the text above


def certify(bundle: Bundle, sizes: Sizes, folder: ModelFolder, dtype: str, vocabulary: str | None) -> Certificate:
    """Judge a folder against the checkpoint it came from. Every tensor was compared when it was written.

    `vocabulary` says where that is from; None where there is none.
    """
    from generate import logits_of  # brings torch, which converting alone does without

    ids = text_ids(folder) if vocabulary is not None else []
    ids = ids or list(range(WITHOUT_VOCABULARY))
    ids = [index % sizes.vocab_size for index in ids][: sizes.n_positions]
    ours, theirs = logits_of(folder, [ids])[0], judge.logits(bundle, sizes, ids)
    difference = float(np.abs(ours - theirs).max())
    readable = vocabulary is not None and len(ids) > 1
    loss = loss_of(theirs, ids) if readable else None
    others = losses_of_other_heads(bundle, sizes, ids) if readable else {}
    chance = math.log(sizes.vocab_size)
    verdict = verdict_of(difference, AGREE[dtype], loss, chance, others)
    exact = {bundle.variables[name].dtype for name in to_transformers(bundle.variables)} == {dtype}
    return Certificate(
        12 * sizes.n_layer + 4 + sizes.has_head,
        exact,
        finite(difference),
        len(ids),
        finite(loss),
        chance,
        {n: other for n, other in others.items() if math.isfinite(other)},
        verdict,
        vocabulary,
    )


def text_ids(folder: ModelFolder) -> list[int]:
    """The tokens of a short text, in the language that the vocabulary was made for, as far as it can write it."""
    text = TEXT if folder.tokenizer.is_lossless else CHINESE
    return folder.encode_prompt(folder.tokenizer.writable(text))


def finite(number: float | None) -> float | None:
    """The number, None where there is none; also for infinity and NaN, which JSON lacks."""
    return number if number is not None and math.isfinite(number) else None


def loss_of(logits: np.ndarray, ids: list[int]) -> float:
    """Mean negative log-probability, in nats, of each token given those before it."""
    top = logits.max(-1, keepdims=True)
    logprobs = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    return float(-logprobs[np.arange(len(ids) - 1), ids[1:]].mean())


def losses_of_other_heads(bundle: Bundle, sizes: Sizes, ids: list[int]) -> dict[int, float]:
    """The loss with half and twice as many heads: no shape tells their number, but the text does."""
    tried = {}
    for heads in (sizes.n_head // 2, sizes.n_head * 2):
        if heads and sizes.n_embd % heads == 0:
            changed = dataclasses.replace(sizes, n_head=heads)
            tried[heads] = loss_of(judge.logits(bundle, changed, ids), ids)
    return tried


def verdict_of(difference: float, allowed: float, loss: float | None, chance: float, others: dict[int, float]) -> str:
    """What the numbers say of the conversion, in one sentence; `difference` and `allowed` are of logits."""
    if not difference <= allowed:
        return retelling.DIFFERS.format(difference=f"{difference:.2g}")
    if loss is None:
        return retelling.AGREES
    if not loss < NOISE * chance:
        return retelling.NOISE
    better = [heads for heads, other in others.items() if other < loss]
    if better:
        return retelling.OTHER_HEADS.format(heads=f"{better[0]} {'head' if better[0] == 1 else 'heads'}")
    return retelling.GOOD
