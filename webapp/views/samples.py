"""A contact sheet: several samples of one prompt side by side, folded up to where they part."""

from dataclasses import dataclass

import numpy as np

from generate import CharacterGate, Vocabulary
from webapp.views.run_view import RunView, SampleView

WORTH_FOLDING = 8  # tokens; a few words are read more quickly than a note that they are the same


def common_beginning(samples: list[np.ndarray], vocabulary: Vocabulary, half: bytes = b"") -> int:
    """How many tokens all samples begin with (each given by its ids), those without any left aside.

    Whole characters only; `half` is the half character that the prompt ended in, if any.
    """
    begun = [ids for ids in samples if len(ids)]
    if len(begun) < 2:
        return 0
    shortest = min(map(len, begun))
    first = begun[0][:shortest]
    same = np.logical_and.reduce([ids[:shortest] == first for ids in begun])
    return whole_characters(first if same.all() else first[: np.argmin(same)], vocabulary, half)


def whole_characters(ids: np.ndarray, vocabulary: Vocabulary, half: bytes = b"") -> int:
    """How many of these tokens can be shown before the text is cut inside a character."""
    gate, whole = CharacterGate(), 0
    gate.feed(half)
    for place, index in enumerate(ids.tolist(), 1):
        if gate.feed(vocabulary.tokens[index]) == 0:
            whole = place
    return whole


@dataclass(frozen=True)
class Sheet:
    """What samples have in common: `common` tokens, `folded` where that is worth it; or they are all the `same`."""

    common: int
    folded: bool
    same: bool
    samples: list[dict]  # as `shown` makes them; `html` is cut into `beginning` and `rest`


def contact_sheet(view: RunView, samples: list[dict], done: bool) -> Sheet:
    """Cut each sample's HTML where they part; while they are being written nothing is cut, for the stream appends."""
    if not done:
        return Sheet(0, False, False, [one | {"beginning": "", "rest": one["html"]} for one in samples])
    ids = [sample.read()["id"] for sample in view.log.samples]
    common = common_beginning(ids, view.vocabulary, view.half)
    same = len({one.tobytes() for one in ids}) == 1
    common = 0 if same else common
    return Sheet(common, common >= WORTH_FOLDING, same, [one | cut(view, one, common) for one in samples])


def cut(view: RunView, sample: dict, common: int) -> dict:
    """The HTML of a sample's first `common` tokens, and of the rest."""
    if not common or not len(view.log.samples[sample["number"]]):
        return {"beginning": "", "rest": sample["html"]}
    rest = SampleView(view, sample["number"], sent=common).news() or ""
    return {"beginning": sample["html"].removesuffix(rest) if rest else sample["html"], "rest": rest}
