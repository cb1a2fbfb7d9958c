"""Runs with all samplers on are what they are however they come about: taken up, continued, replayed, in company."""

import math
import random

import numpy as np
import pytest
from conftest import finished
from engines import running
from test_resume import half_done, told
from test_samplers import OFF, kept_of, plain_coin, pressed

from generate import Place, Request, find_model, logits_of, parse_sampling
from webapp.runs.probabilities import alternatives, place_of

ALL = {
    **{"min_p": 0.01, "top_n_sigma": 2.5, "xtc_probability": 0.5, "xtc_threshold": 0.02, "dry_multiplier": 0.8},
    **{"frequency_penalty": 0.2, "presence_penalty": 0.3, "repetition_penalty": 1.1, "top_k": 60, "top_p": 0.98},
    **{"logit_bias": ["5 = 1.5", "7 = -2"], "dry_range": 40, "dry_allowed_length": 1, "max_new_tokens": 90},
}
PROMPT = "the old king and the old fox and the old 从"


@pytest.fixture(scope="module", params=["float32", "bfloat16", "int8"])
def precise(request, models):
    with running(models, precision=request.param) as writer:
        yield writer


def records(run) -> list[bytes]:
    return [sample.read().tobytes() for sample in run.samples]


def test_a_run_that_was_interrupted_goes_on_as_it_would_have(writer):
    whole, dice = writer.write(PROMPT, samples=3, **ALL), random.Random(2)
    for _ in range(3):
        log = half_done(writer, whole, dice)
        folder = find_model(writer.engine.models, "tiny")
        sampling = parse_sampling({"seed": 1, "temperature": 1, "samples": 3} | ALL)
        writer.engine.submit(Request(folder, sampling), log)
        assert told(finished(log)) == told(whole)


def test_a_child_says_what_a_longer_run_would_have_said(writer):
    whole = writer.write(PROMPT, **ALL)
    short = writer.write(PROMPT, **ALL | {"max_new_tokens": 30})
    prompt = short.prompt["id"].tolist() + short.samples[0].read()["id"].tolist()
    child = writer.write(ids=prompt, **ALL | {"max_new_tokens": 60})
    ids = whole.samples[0].read()["id"].tolist()
    assert ids == prompt[len(short.prompt) :] + child.samples[0].read()["id"].tolist()
    assert len(ids) == 90  # past the window of 64 tokens, which restarts meanwhile


def test_a_run_is_the_same_a_second_time_and_among_others(precise):
    """The tokens in every precision; in int8 every bit that is told of them."""
    alone = precise.write(PROMPT, samples=2, **ALL)
    others = [precise.submit(f"{n} foxes", seed=n, **(ALL if n % 2 else {"max_new_tokens": 80})) for n in range(4)]
    among = precise.write(PROMPT, samples=2, **ALL)
    for run in others:
        finished(run)
    assert told(among) == told(alone)
    if alone.precision == "int8":
        assert records(among) == records(alone)


@pytest.mark.parametrize(
    "without", [(), ("repetition_penalty",), ("xtc_probability", "top_k", "top_p"), ("dry_multiplier", "min_p")]
)
def test_what_is_told_of_a_token_is_what_the_definitions_make_of_the_logits(writer, models, without):
    """Kept or cut, the sampler's probability of every alternative, and what was added to its logit."""
    folder, options = find_model(models, "tiny"), {k: v for k, v in ALL.items() if k not in without}
    run = writer.write(PROMPT, seed=5, **{"top_k": 0, "repetition_penalty": 1} | options | {"max_new_tokens": 15})
    asked = parse_sampling({"seed": 5, "temperature": 1, "top_k": 0} | options | {"max_new_tokens": 15}).as_dict()
    prompt, written = run.prompt["id"].tolist(), run.samples[0].read()
    ids, vocabulary = prompt + written["id"].tolist(), folder.tokenizer.vocabulary
    logits, wish, checked = logits_of(folder, [ids])[0], as_wish(asked, vocabulary), 0
    for place, record in enumerate(written, len(prompt)):
        scores = pressed(np.asarray(logits[place - 1]), wish, ids[:place])
        kept, near = kept_of(scores, wish, plain_coin(5, 0, place) < wish["chance"])
        scaled = scores - scores.max()
        total = math.log(np.exp(scaled[kept]).sum())
        for one in alternatives(record, place_of(record, asked, np.array(ids[:place]), vocabulary)):
            added = scores[one["id"]] - logits[place - 1][one["id"]]
            assert sum(one["touched"].values()) == pytest.approx(float(added), abs=1e-4)
            if near > 1e-5:
                assert one["cut"] == (not kept[one["id"]])
                checked += 1
            if not one["cut"]:
                assert one["sampled"] == pytest.approx(scaled[one["id"]] - total, abs=1e-3)
    assert checked > 60


def as_wish(asked: dict, vocabulary) -> dict:
    """The options of a run by the names that the definitions have for them."""
    breakers = [breaker.encode() for breaker in asked["dry_sequence_breakers"]]
    return OFF | {
        **{"top_k": asked["top_k"], "top_p": asked["top_p"], "penalty": asked["repetition_penalty"]},
        **{"frequency": asked["frequency_penalty"], "presence": asked["presence_penalty"]},
        **{"multiplier": asked["dry_multiplier"], "allowed": asked["dry_allowed_length"], "range": asked["dry_range"]},
        **{"sigma": asked["top_n_sigma"], "min_p": asked["min_p"]},
        **{"chance": asked["xtc_probability"], "threshold": asked["xtc_threshold"]},
        "bias": {5: 1.5, 7: -2.0},
        "breakers": {i for i, token in enumerate(vocabulary.tokens) if any(b in token for b in breakers)},
    }


def test_of_a_token_that_was_cut_it_is_told_by_which_sampler(writer):
    """With one of them on there is no doubt."""
    for name, options in {
        "min_p": {"min_p": 0.7},
        "top_k": {"top_k": 3},
        "top_p": {"top_p": 0.005},
        "top_n_sigma": {"top_n_sigma": 0.5},
        "XTC": {"xtc_probability": 1, "xtc_threshold": 0.001},
        "temperature": {"temperature": 0},
    }.items():
        asked = {"top_k": 0, "temperature": 1} | options
        run = writer.write(PROMPT, max_new_tokens=10, **asked)
        ids, found = run.prompt["id"].tolist(), set()
        for record in run.samples[0].read():
            found |= {
                one["cut_by"] for one in alternatives(record, place_of(record, asked, np.array(ids))) if one["cut"]
            }
            ids.append(int(record["id"]))
        assert found == {name}


def test_without_the_vocabulary_nothing_is_said_of_what_dry_did(writer):
    record = writer.write(PROMPT, **ALL).samples[0].read()[3]
    place = Place(record, ALL, np.array([1, 2]))
    assert math.isnan(place.logprob(int(record["id"]), float(record["logprob"])))
