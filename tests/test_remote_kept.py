"""What a sampler left is worked out from ten alternatives exactly where they are enough, and nowhere guessed."""

import numpy as np
import pytest

from generate import Sampling
from generate.remote.kept import Kept
from generate.sampling.records import ALTERNATIVES

ENOUGH = [  # options, and for how much of the tokens they must be known
    ({"temperature": 1, "top_k": 0}, 1.0),
    ({"temperature": 0, "top_k": 0}, 1.0),
    ({"temperature": 0.7, "top_k": 7}, 1.0),
    ({"temperature": 1.6, "top_k": 10}, 1.0),
    ({"temperature": 0.8, "top_k": 9, "top_p": 0.7}, 1.0),
    ({"temperature": 1, "top_k": 0, "top_p": 0.1}, 0.1),
    ({"temperature": 0.5, "top_k": 0, "min_p": 0.3}, 0.9),
]
NOT_ENOUGH = [
    {"temperature": 0.8, "top_k": 0},
    {"temperature": 1, "top_k": 7, "repetition_penalty": 1.2},
    {"temperature": 1, "top_k": 7, "logit_bias": ("5 = 3",)},
    {"temperature": 1, "top_k": 7, "top_p": 0.5, "min_p": 0.1},
    {"temperature": 1, "top_k": 7, "xtc_probability": 0.5},
]


def worked_out(record, sampling):
    others = record["alt_logprobs"].tolist()
    place = record["alt_ids"].tolist().index(record["id"]) if record["id"] in record["alt_ids"] else None
    return Kept(sampling).of(float(record["logprob"]), place, others, False)


@pytest.mark.parametrize(("options", "share"), ENOUGH, ids=str)
def test_where_ten_are_enough_it_is_what_our_sampler_told(writer, options, share):
    options = {"max_new_tokens": 60, "seed": 3} | options
    records = writer.write("the old king", **options).samples[0].read()
    found = 0
    for record in records:
        sampled, norm, cut = worked_out(record, Sampling(**options))
        if not np.isnan(norm):
            found += 1
            assert sampled == pytest.approx(float(record["sampled_logprob"]), abs=1e-4)
            assert norm == pytest.approx(float(record["filter_norm"]), abs=1e-4)
            assert cut == record["cut"]
    assert found >= share * len(records)


@pytest.mark.parametrize("options", NOT_ENOUGH, ids=str)
def test_where_they_are_not_nothing_is_told(options):
    logprobs = np.log(0.5 ** np.arange(1, ALTERNATIVES + 1))
    sampled, norm, cut = Kept(Sampling(**options)).of(float(logprobs[1]), 1, logprobs.tolist(), False)
    assert (np.isnan(sampled), np.isnan(norm), cut) == (True, True, 0)
