"""A run that was written in part goes on as if nothing had happened: same tokens, same ending."""

import random

import pytest
from conftest import Writer, finished
from engines import at_once

from generate import Request, RunLog, find_model, parse_sampling, unknown_records

WISHES = [
    {"max_new_tokens": 40, "samples": 3},
    {"max_new_tokens": 100, "temperature": 2, "repetition_penalty": 1.3},  # past the window of 64 tokens
    {"max_new_tokens": 40, "top_k": 5, "top_p": 0.9, "stop": ["e"]},
    {"max_new_tokens": 30, "samples": 5, "temperature": 0},
]


def half_done(writer: Writer, whole: RunLog, dice: random.Random, cuts: list[int] | None = None) -> RunLog:
    """The log that is left of a run that was interrupted after some tokens of each sample."""
    log = RunLog(whole.prompt, len(whole.samples))
    cuts = cuts or [dice.randint(0, len(sample)) for sample in whole.samples]
    for sample, full, cut in zip(log.samples, whole.samples, cuts, strict=True):
        for record in full.read(0, cut):
            sample.append(record, 0)
    return log


def go_on(writer: Writer, log: RunLog, wish: dict) -> RunLog:
    folder = find_model(writer.engine.models, "tiny")
    sampling = parse_sampling({"seed": 1, "top_k": 0, "temperature": 1} | wish)
    assert writer.engine.submit(Request(folder, sampling), log) is log
    return finished(log)


def told(run: RunLog) -> list:
    return [(s.read()["id"].tolist(), s.finish_reason, s.text_end, s.released) for s in run.samples]


@pytest.mark.parametrize("wish", WISHES)
def test_an_interrupted_run_ends_with_the_tokens_it_would_have_had(writer, wish):
    dice = random.Random(3)
    whole = writer.write("the old king 从前有", **wish)
    for _ in range(5):
        resumed = go_on(writer, half_done(writer, whole, dice), wish)
        assert told(resumed) == told(whole)


def test_samples_that_had_ended_stay_as_they_are(writer):
    wish = {"max_new_tokens": 20, "samples": 3}
    whole = writer.write(**wish)
    log = half_done(writer, whole, random.Random(0), [4, 20, 9])
    log.finish(log.samples[0], "cancelled", 7)
    resumed = go_on(writer, log, wish)
    assert (len(resumed.samples[0]), resumed.samples[0].finish_reason) == (4, "cancelled")
    assert told(resumed)[1:] == told(whole)[1:]


def test_a_run_that_was_cut_after_its_last_token_only_ends(writer):
    """Its tokens were stored and the server was killed before it could store that they were all."""
    wish = {"max_new_tokens": 20, "samples": 2}
    whole = writer.write(**wish)
    assert told(go_on(writer, half_done(writer, whole, random.Random(0), [20, 20]), wish)) == told(whole)


def test_a_resumed_run_that_is_stopped_in_line_keeps_its_text(writer, models):
    folder = find_model(models, "tiny")
    whole = writer.write(max_new_tokens=20)
    log = half_done(writer, whole, random.Random(0), [12])
    request = Request(folder, parse_sampling({"max_new_tokens": 20}))
    with at_once(writer):
        writer.engine.submit(request, log)
        writer.engine.cancel(log, "unwatched")
    finished(log)
    assert len(log.samples[0]) == 12
    assert log.samples[0].finish_reason == "unwatched"
    assert log.samples[0].text_end == len(folder.tokenizer.vocabulary.bytes_of(log.samples[0].read()["id"].tolist()))


def test_what_the_model_thought_of_the_prompt_is_computed_if_nothing_was_kept(writer):
    whole = writer.write(max_new_tokens=10)
    fresh = RunLog(unknown_records(whole.prompt_ids, 300), 1)
    resumed = go_on(writer, fresh, {"max_new_tokens": 10})
    assert resumed.prompt[1:]["logprob"].tolist() == pytest.approx(whole.prompt[1:]["logprob"].tolist(), abs=1e-5)
    kept = go_on(writer, half_done(writer, whole, random.Random(0), [3]), {"max_new_tokens": 10})
    assert kept.prompt.tobytes() == whole.prompt.tobytes()
