"""The classes by which a page colours a token: how probable it was, where it ranked, how unsure the model was.

`p0` to `p6` for its probability (log scale, clamped at both ends), `k0` to `k4` for its rank, `e0` to `e5` for the
entropy of the model's distribution where it stands. A cell of several tokens (a character that was cut) is as probable as
all of them together, as far down as the last of them, as unsure as the most unsure.
"""

import math

import numpy as np

from generate import N_, Capabilities, RunLog, gettext, known
from webapp.views.sentences import not_told

PROBABILITY = (0.5, 0.2, 0.1, 0.03, 0.01, 0.001)  # borders, from the likeliest class down
RANK = (1, 10, 100, 1000)  # the last rank of each class; the bands of GLTR (Gehrmann et al. 2019)
ENTROPY = (0.5, 1.5, 2.5, 3.5, 5.0)  # nats

LOGPROB = np.log(PROBABILITY)

NAMES = {"rank": N_("the rank"), "entropy": N_("the entropy")}
BELOW = N_("20 %"), N_("10 %"), N_("3 %"), N_("1 %"), N_("0.1 %")
LEGENDS = {
    "probability": ("p", [N_("over {share} likely"), *BELOW, N_("less")]),
    "rank": ("k", [N_("the likeliest"), N_("2 to 10"), N_("11 to 100"), N_("101 to 1,000"), N_("beyond")]),
    "entropy": ("e", [N_("sure"), N_("under 1.5 nats"), "2.5", "3.5", "5", N_("anything goes")]),
}


def classes(records: np.ndarray) -> str:
    """The classes of a cell; it has none of a lens for which something is not known of one of its tokens."""
    if not len(records):
        return ""
    # as `known` has it, but it is asked for each token of a page: one NaN makes a sum or a maximum NaN
    found, logprob, entropy = [], float(records["logprob"].sum()), float(records["entropy"].max())
    if not math.isnan(logprob):
        found.append(f"p{int((logprob < LOGPROB).sum())}")
    if records["rank"].all():
        rank = int(records["rank"].max())
        found.append(f"k{sum(rank > last for last in RANK)}")
    if not math.isnan(entropy):
        found.append(f"e{sum(entropy >= border for border in ENTROPY)}")
    return " ".join(found)


def classes_of_each(records: np.ndarray) -> list[str]:
    """The classes of each token of many, as `classes` has them of it alone."""
    logprob, rank, entropy = (records[name].astype(float) for name in ("logprob", "rank", "entropy"))
    rank[rank == 0] = np.nan
    parts = (
        ("p", logprob, (logprob[:, None] < LOGPROB).sum(1)),
        ("k", rank, (rank[:, None] > RANK).sum(1)),
        ("e", entropy, (entropy[:, None] >= ENTROPY).sum(1)),
    )
    named = [
        [f"{letter}{n}" if is_known else "" for n, is_known in zip(numbers.tolist(), ~np.isnan(value), strict=True)]
        for letter, value, numbers in parts
    ]
    return [" ".join(filter(None, names)) for names in zip(*named, strict=True)]


def untold(can: Capabilities, *logs: RunLog) -> dict[str, str]:
    """A sentence for each lens that shows nothing, as nobody told: the tokens' records say so, or before there are any
    the engine that will write them."""
    parts = [part for log in logs for part in (log.prompt, *(sample.read() for sample in log.samples))]
    told = {"rank": can.rank, "entropy": can.entropy}
    if any(known(part).any() for part in parts):
        told = {lens: any((known(part) & known(part, lens)).any() for part in parts) for lens in told}
    return {lens: not_told([gettext(NAMES[lens])]) for lens in told if not told[lens]}
