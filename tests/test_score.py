"""A text that is only read: what the model thought of each token, by other people's arithmetic, beside others' writing.

And what was known of a prompt's tokens before stays known.
"""

import io
import json
import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, TRICKY, finished
from engines import at_once, ids_of, running, stop, until_at_rest, until_written
from transformers import GPT2LMHeadModel
from waiting import until

from generate import Request, RunLog, Vocabulary, find_model, parse_sampling, perplexity, unknown_records, window_start
from generate.__main__ import main
from generate.scheduling.window import windows

NUMBERS = ("logprob", "entropy", "log_z", "alt_logprobs")
FABLE = (
    "Once upon a time there was an old king who had seven sons. “Go out,” he said — 从前有一只狐狸，住在森林里。🦊🌲👨‍👩‍👧 — "
    "and the youngest went over the hills and far away, until he came to a house of glass. 你好，世界！ There sat a fox with a "
    "golden tail, who said: ‘Take three hairs of mine, é, ñ, ü; they will help you when you need it most, 明天见。’ 🦊🦊"
)


@pytest.fixture(scope="module")
def clever(models):
    with running(models, prefix_memory=64) as writer:
        yield writer


@pytest.fixture(params=["off", "on"])
def either(request, forgetful, clever):
    """An engine without and with memory for texts."""
    return forgetful if request.param == "off" else clever


@pytest.fixture(scope="module")
def reference(models):
    """Log-probabilities [T, V] in float64 of a text no longer than the window, by `transformers`."""
    loaded = {}

    def logprobs(name, ids):
        if name not in loaded:
            loaded[name] = GPT2LMHeadModel.from_pretrained(models / name, dtype=torch.float32).eval()
        with torch.inference_mode():
            return loaded[name](torch.tensor([list(ids)])).logits[0].double().log_softmax(-1).numpy()

    return logprobs


def dice_text(length, seed=0) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(1, 299) for _ in range(length)]


def score(writer, ids, model="tiny", **options) -> RunLog:
    return writer.write(ids=ids, model=model, max_new_tokens=0, **options)


def by_hand(reference, name, ids, most) -> np.ndarray:
    """What is thought of tokens 1 .. len(ids) - 1, each in the window that writing would have used; [T - 1, V]."""
    return np.stack([reference(name, ids[window_start(i, most) : i])[-1] for i in range(1, len(ids))])


def compare(records, expected) -> None:
    """Records of tokens 1 .. T - 1 against log-probabilities [T - 1, V]."""
    assert len(records) == len(expected)
    for record, right in zip(records, expected, strict=True):
        assert record["logprob"] == pytest.approx(right[record["id"]], abs=1e-4)
        # within a rounding, tokens that are as likely may change places
        assert record["rank"] >= 1 + (right > right[record["id"]] + 2e-5).sum()
        assert record["rank"] <= 1 + (right > right[record["id"]] - 2e-5).sum()
        assert record["entropy"] == pytest.approx(-(np.exp(right) * right).sum(), abs=1e-4)
        assert record["alt_logprobs"] == pytest.approx(np.sort(right)[::-1][:10], abs=1e-4)
        assert right[record["alt_ids"]] == pytest.approx(np.sort(right)[::-1][:10], abs=1e-4)
        assert len(set(record["alt_ids"].tolist())) == 10
        assert (np.isnan(record["sampled_logprob"]), record["cut"]) == (True, 0)


def agree(a, b, tolerance=1e-4) -> None:
    assert a["id"].tolist() == b["id"].tolist()
    for name in NUMBERS:
        np.testing.assert_allclose(a[name], b[name], atol=tolerance, rtol=0, err_msg=name)
    assert ((a["rank"] == 0) == (b["rank"] == 0)).all()


def ended(run) -> None:
    """All samples ended with nothing written."""
    for sample in run.samples:
        assert (sample.finish_reason, len(sample), sample.text_end, sample.error) == ("length", 0, 0, None)


# Against transformers


def test_two_hundred_tokens_agree_with_transformers(either, models, reference):
    ids = find_model(models, "storyteller").encode_prompt(FABLE)
    assert 200 <= len(ids) <= 512
    run = score(either, ids, "storyteller", samples=3)
    ended(run)
    assert run.prompt["rank"][0] == 0
    compare(run.prompt[1:], reference("storyteller", ids)[:-1])


@pytest.mark.parametrize("text", [TRICKY, "从前有一只狐狸 🦊", "\n\n"])
def test_odd_texts_agree_with_transformers(either, models, reference, text):
    ids = find_model(models, "storyteller").encode_prompt(text)
    compare(score(either, ids, "storyteller").prompt[1:], reference("storyteller", ids)[:-1])


@pytest.mark.parametrize("length", [2, 33, 63, 64, 65, 66, 96, 97, 98, 128, 129, 224])
def test_strided_windows_agree_with_windows_by_hand(either, reference, length):
    """A window of 64: 224 tokens are 3.5 windows. Nothing is left out, and nothing has too little before it."""
    ids = dice_text(length, length)
    run = score(either, ids)
    ended(run)
    compare(run.prompt[1:], by_hand(reference, "tiny", ids, 64))


def test_strided_windows_agree_with_the_usual_strided_loop(forgetful, reference):
    """`transformers`' own recipe, with a stride of half a window. It predicts the first token past a window from half
    of one, where we still have a whole one; all others are the same."""
    ids, most, stride = dice_text(224, 5), 64, 32
    run, before, other = score(forgetful, ids), 0, []
    for begin in range(0, len(ids), stride):
        end = min(begin + most, len(ids))
        found = reference("tiny", ids[begin:end])
        for place in range(max(1, before), end):
            close = run.prompt["logprob"][place] == pytest.approx(found[place - 1 - begin][ids[place]], abs=1e-4)
            other += [] if close else [place]
        before = end
        if end == len(ids):
            break
    assert set(other) <= {64, 96, 128, 160, 192}


@pytest.mark.parametrize("most", [1, 2, 3, 5, 64, 1024])
def test_windows_cover_every_token_once_and_are_those_of_writing(most):
    for count in [1, 2, 3, most - 1, most, most + 1, most + 2, 3 * most, 3 * most + 1, 500]:
        covered = []
        for start, first, end in windows(count, most):
            assert next(iter(windows(count, most, start))) == (start, first, end)
            assert end - 1 - start <= most
            for token in range(first, end):
                assert window_start(token, most) == start
                assert token - start >= min(token, most // 2)
            covered += range(first, end)
        assert covered == list(range(1, max(1, count)))


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_a_very_small_window_works(tmp_path, most):
    from conftest import make_model

    make_model(tmp_path / "small", seed=4, n_positions=most)
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "small").eval()
    ids = dice_text(12, most)
    with running(tmp_path, "small") as writer:
        run = score(writer, ids, "small")
    with torch.inference_mode():
        for i in range(1, len(ids)):
            right = model(torch.tensor([ids[window_start(i, most) : i]])).logits[0, -1].log_softmax(-1)[ids[i]]
            assert run.prompt["logprob"][i] == pytest.approx(right.item(), abs=1e-4)


# In the engine


@pytest.mark.parametrize("memory", [0, 16])
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_fewer_bits_say_nearly_the_same(models, forgetful, precision, memory):
    ids = find_model(models, "storyteller").encode_prompt(FABLE) * 4  # longer than the window of 512
    right = score(forgetful, ids, "storyteller").prompt
    with running(models, "storyteller", precision=precision, prefix_memory=memory) as writer:
        for _ in range(2):
            run = score(writer, ids, "storyteller")
            ended(run)
            assert abs(run.prompt["logprob"] - right["logprob"])[1:].mean() < 0.15
            assert (run.prompt["rank"][1:] > 0).all()


def test_a_text_scored_is_what_it_was_when_it_was_written(either):
    """Past the window, too: the cut points are those of writing."""
    whole = either.write("the old king", max_new_tokens=150, seed=3)
    records = np.concatenate((whole.prompt, whole.samples[0].read()))
    agree(score(either, records["id"].tolist()).prompt, records)


def test_a_second_score_and_one_that_goes_on_are_the_same_with_memory(clever, forgetful):
    ids = dice_text(150, 9)
    for cut in (40, 60, 64, 65, 100, 150, 150, 20):
        agree(score(clever, ids[:cut]).prompt, score(forgetful, ids[:cut]).prompt)
        clever_run, plain = (w.write(ids=ids[:cut], max_new_tokens=9) for w in (clever, forgetful))
        assert ids_of(clever_run) == ids_of(plain)
        agree(clever_run.prompt, plain.prompt)


@pytest.mark.parametrize("length", [1, 2, 64, 65, 300])
def test_a_score_takes_no_seat_and_leaves_nothing(either, length, monkeypatch):
    batch = either.batch()
    monkeypatch.setattr(batch.cache, "join", lambda *given, **named: 1 / 0)
    ended(score(either, dice_text(length, 1), samples=32))
    until_at_rest(either)


def test_a_text_of_one_token_has_nothing_to_predict(either, models):
    run = score(either, [7])
    ended(run)
    assert run.prompt["rank"].tolist() == [0]
    found = perplexity(run.prompt, find_model(models, "tiny").tokenizer.vocabulary)
    assert (found.tokens, found.nats, found.perplexity, found.bits_per_byte) == (0, None, None, None)


def test_statistics_are_what_a_score_is_for_whoever_asks(forgetful, models):
    sampling = parse_sampling({"max_new_tokens": 0, "seed": 1})
    request = Request(find_model(models, "tiny"), sampling, statistics=False)
    run = finished(forgetful.engine.submit(request, request.new_log(dice_text(70))))
    agree(run.prompt, score(forgetful, dice_text(70)).prompt)


def test_scores_change_nobody_s_tokens_and_are_what_they_are_alone(models, forgetful, monkeypatch):
    texts = [dice_text(length, length) for length in (300, 90, 2, 64)]
    wishes = [{"text": "the old king", "seed": seed, "max_new_tokens": 60 + seed} for seed in range(20)]
    expected, right = [forgetful.ids(**wish) for wish in wishes], [score(forgetful, ids).prompt for ids in texts]
    with running(models, max_rows=24, prefix_memory=0) as crowd:
        monkeypatch.setattr(crowd.batch().pace, "budget", lambda rows: 11)
        with at_once(crowd):
            runs = [crowd.submit(**wish) for wish in wishes]
        until_written(runs[19], 3)
        scores = [crowd.submit(ids=ids, max_new_tokens=0) for ids in texts]
        for run, records in zip(scores, right, strict=True):
            ended(finished(run))
            agree(run.prompt, records)
        assert [ids_of(finished(run)) for run in runs] == expected


def test_a_long_text_lets_others_be_read_between_its_windows(models, monkeypatch):
    with running(models, prefix_memory=0) as writer:
        monkeypatch.setattr(writer.batch().pace, "budget", lambda rows: 8)
        other = writer.submit(max_new_tokens=4096)
        long = writer.submit(ids=dice_text(9000), max_new_tokens=0)
        until(lambda: (long.prompt["rank"] > 0).sum() > 100, what="some windows")
        assert writer.write(ids=dice_text(60, 2), max_new_tokens=2).done
        assert not long.done
        stop(writer, other, long)


def test_readers_hear_of_every_piece(forgetful, monkeypatch):
    monkeypatch.setattr(forgetful.batch().pace, "budget", lambda rows: 8)
    run, known, version = forgetful.submit(ids=dice_text(400, 3), max_new_tokens=0), [], -1
    while not run.done:
        version = run.wait(version, 5)
        known.append(int((run.prompt["rank"] > 0).sum()))
    assert known == sorted(known)
    assert len(set(known)) > 3


def test_a_score_that_is_cancelled_while_it_is_read_keeps_what_was_read(forgetful, monkeypatch):
    batch = forgetful.batch()
    monkeypatch.setattr(batch.pace, "budget", lambda rows: 1)
    run = forgetful.submit(ids=dice_text(9000), max_new_tokens=0, samples=4)
    until(lambda: (run.prompt["rank"] > 0).sum() > 70, what="some tokens")
    stop(forgetful, run)
    assert [(s.finish_reason, len(s), s.text_end) for s in run.samples] == [("cancelled", 0, 0)] * 4
    assert (run.prompt["rank"] == 0).any()
    until_at_rest(forgetful)


def test_a_score_cancelled_in_line_ends(models):
    with running(models, max_rows=1) as writer:
        blocker = writer.submit(max_new_tokens=4096)
        until_written(blocker, 1)
        run = writer.submit(ids=dice_text(50), max_new_tokens=0, samples=3)
        stop(writer, run, blocker)
        assert [sample.finish_reason for sample in run.samples] == ["cancelled"] * 3


def test_a_score_that_was_cut_goes_on_where_it_was(forgetful, models, monkeypatch):
    whole = score(forgetful, dice_text(300, 8))
    log = RunLog(np.concatenate((whole.prompt[:130], unknown_records(whole.prompt_ids[130:], 300))), 1)
    read, real = [], forgetful.batch().model.hidden
    monkeypatch.setattr(
        forgetful.batch().model, "hidden", lambda pieces: (read.append(len(pieces[0][1])), real(pieces))[1]
    )
    resumed = go_on(forgetful, log, models, max_new_tokens=0)
    ended(resumed)
    agree(resumed.prompt, whole.prompt)
    assert resumed.prompt[:130].tobytes() == whole.prompt[:130].tobytes()
    assert sum(read) < 300 + 200  # with all of its windows it would be over 500
    read.clear()
    assert (
        go_on(forgetful, resumed_copy(resumed), models, max_new_tokens=0).prompt.tobytes() == resumed.prompt.tobytes()
    )
    assert read == []


def resumed_copy(run) -> RunLog:
    return RunLog(run.prompt, 1)


def test_after_a_fault_of_the_device_a_score_goes_on(models, forgetful):
    right = score(forgetful, dice_text(300, 4)).prompt
    with running(models, prefix_memory=0) as writer:
        batch, calls = writer.batch(), []
        batch.pace.budget = lambda rows: 30
        real = batch.model.hidden

        def hidden(pieces):
            calls.append(1)
            if len(calls) == 6:
                raise torch.AcceleratorError(
                    "CUDA error: an illegal memory access was encountered (invented by a test)"
                )
            return real(pieces)

        batch.model.hidden = hidden
        run = finished(writer.submit(ids=dice_text(300, 4), max_new_tokens=0, samples=2))
        assert len(calls) == 6
        ended(run)
        assert run.restarts == 1
        agree(run.prompt, right)


@pytest.mark.parametrize("error", [ValueError("no such word"), MemoryError("no room")])
def test_a_text_that_cannot_be_read_ends_its_run_and_no_other(models, error):
    with running(models, prefix_memory=0) as writer:
        other = writer.submit(max_new_tokens=4096)
        until_written(other, 3)
        model, real = writer.batch().model, writer.batch().model.hidden

        def hidden(pieces):
            if any(len(ids) > 1 and (ids == 299).any() for _, ids, _ in pieces):
                raise error
            return real(pieces)

        model.hidden = hidden
        run = finished(writer.submit(ids=[*dice_text(100), 299, *dice_text(9)], max_new_tokens=0, samples=3))
        assert [sample.finish_reason for sample in run.samples] == ["error"] * 3
        until_written(other, len(other.samples[0]) + 5)
        stop(writer, other)


def test_numbers_out_of_range_are_told(models, monkeypatch):
    with running(models) as writer:
        real = writer.batch().model.logits
        monkeypatch.setattr(writer.batch().model, "logits", lambda hidden: real(hidden) * math.nan)
        run = finished(writer.submit(ids=dice_text(20), max_new_tokens=0, samples=2))
        assert [sample.finish_reason for sample in run.samples] == ["error"] * 2
        assert "NaN" in str(run.samples[0].error)
        until(lambda: not writer.batch().prefills, what="the end of the step")
        assert run.done, "nobody writes after a text that is only read"


def test_a_score_holds_one_row_and_who_waits_is_told_so(models, monkeypatch):
    with running(models, max_rows=2, prefix_memory=0) as writer:
        monkeypatch.setattr(writer.batch().pace, "budget", lambda rows: 8)
        long = writer.submit(ids=dice_text(15000), max_new_tokens=0, samples=32)
        blocker = writer.submit(max_new_tokens=4096)
        until_written(blocker, 1)
        assert not long.done
        late = writer.submit(owner="ben")
        until(lambda: late.place == 1 and late.seconds is not None, what="a place")
        stop(writer, long, blocker, late)


# What is known of a prompt stays known


def go_on(writer, log, models, model="tiny", **options) -> RunLog:
    folder = find_model(models, model)
    sampling = parse_sampling({"seed": 1, "top_k": 0, "temperature": 1} | options)
    return finished(writer.engine.submit(Request(folder, sampling), log))


def child_of(parent, cut=None, more=()) -> RunLog:
    """The log of a run that starts from a parent's first `cut` tokens, with what is known of them, and `more`."""
    records = np.concatenate((parent.prompt, parent.samples[0].read()))[:cut]
    return RunLog(np.concatenate((records, unknown_records(more, 300))), 1)


@pytest.mark.parametrize("length", [20, 100], ids=["in the window", "past it"])
@pytest.mark.parametrize("count", [0, 15], ids=["scored", "written on"])
def test_records_of_a_parent_survive_and_those_after_them_are_filled(either, forgetful, models, length, count):
    parent = either.write("the young fox", max_new_tokens=length, top_k=7, temperature=0.8, seed=2)
    until(lambda: not either.batch().busy, what="rest")
    for cut, more in [(None, []), (-5, dice_text(9)), (20, dice_text(12)), (9, [5]), (4, dice_text(40))]:
        log = child_of(parent, cut, more)
        before = log.prompt.copy()
        known = before["rank"] > 0
        child = go_on(either, log, models, max_new_tokens=count)
        assert child.prompt[known].tobytes() == before[known].tobytes()
        assert not np.isnan(child.prompt["sampled_logprob"][known][len(parent.prompt) - 1 :]).any()
        right = forgetful.write(ids=before["id"].tolist(), max_new_tokens=count)
        assert ids_of(child) == ids_of(right)
        agree(child.prompt[~known], right.prompt[~known])
        again = go_on(either, child_of(parent, cut, more), models, max_new_tokens=count)
        assert again.prompt[known].tobytes() == before[known].tobytes()
        agree(again.prompt, child.prompt)


def test_what_somebody_else_knew_of_a_prompt_is_told_to_nobody_else(models, forgetful):
    """Another model's numbers, say: they stay with the run that came with them."""
    ids = dice_text(40, 6)
    right = forgetful.write(ids=ids, max_new_tokens=5, seed=9)
    with running(models, prefix_memory=16) as writer:
        for cut, count in [
            (40, 5),
            (40, 1),
            (12, 5),
            (12, 1),
        ]:  # one token: what was read is kept, not what was written
            records = unknown_records(ids, 300)
            records["rank"][1:cut], records["logprob"][1:cut] = 77, -55
            strange = go_on(writer, RunLog(records, 1), models, max_new_tokens=count, seed=9)
            assert (strange.prompt["logprob"][1:cut] == -55).all()
            agree(strange.prompt[cut:], right.prompt[cut:])
            until(lambda: not writer.batch().busy, what="rest")
            fresh = writer.write(ids=ids, max_new_tokens=5, seed=9)
            agree(fresh.prompt, right.prompt)
            longer = [*ids, *ids_of(fresh)[0], 8]
            agree(score(writer, longer).prompt, score(forgetful, longer).prompt)
            writer.batch().prefix_cache.drop()


@pytest.mark.long
def test_random_children_say_with_memory_what_they_say_without(clever, forgetful, models):
    """Chains of runs that go on from one another, cut anywhere, each knowing some of its tokens."""
    dice = random.Random(11)
    for _ in range(6):
        parents = {
            writer: writer.write(ids=dice_text(30, 12), max_new_tokens=40, seed=4) for writer in (forgetful, clever)
        }
        for _ in range(6):
            cut, more = dice.randint(2, 68), dice_text(dice.choice([0, 1, 6]), dice.randint(0, 2))
            hidden, count = dice.choice([0, 0, 5]), dice.choice([0, 1, 30])
            for writer, parent in list(parents.items()):
                records = child_of(parent, cut, more).prompt.copy()
                low = len(records) // 2
                records[low : low + hidden] = unknown_records(records["id"], 300)[low : low + hidden]
                parents[writer] = go_on(writer, RunLog(records, 1), models, max_new_tokens=count, seed=4)
            one, other = parents[forgetful], parents[clever]
            assert ids_of(one) == ids_of(other)
            agree(one.prompt, other.prompt)
            agree(one.samples[0].read(), other.samples[0].read())


@pytest.mark.parametrize(("length", "most"), [(30, 2), (100, 1)], ids=["in the window", "past it"])
def test_a_continuation_that_knows_its_prompt_reads_next_to_nothing(clever, models, length, most):
    parent = clever.write("one two three the sea", max_new_tokens=length, seed=13)
    until(lambda: not clever.batch().busy, what="rest")
    read, batch = [], clever.batch()
    real = batch.prefix_cache.fill

    def fill(prefix, ids, first):
        found = real(prefix, ids, first)
        read.append(len(ids) - prefix.length)
        return found

    batch.prefix_cache.fill = fill
    go_on(clever, child_of(parent), models, max_new_tokens=3, seed=13)
    del batch.prefix_cache.fill
    assert read == [most]


# The sampler, a second time


def plain_sampler(logits, seen, temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0):
    """Log-probabilities [V] after the filters, -inf where they cut; all in numpy, float64."""
    scaled = logits.copy()
    scaled[seen] = np.where(logits[seen] > 0, logits[seen] / repetition_penalty, logits[seen] * repetition_penalty)
    scaled /= temperature
    if 0 < top_k < len(scaled):
        scaled[scaled < np.sort(scaled)[-top_k]] = -np.inf
    order = np.argsort(-scaled)
    p = np.exp(scaled[order] - scaled.max())
    p /= p.sum()
    if top_p < 1:  # a token stays while those likelier than it have less than top_p together
        scaled[order[1:][np.cumsum(p)[:-1] >= top_p]] = -np.inf
    return scaled - scaled.max() - np.log(np.exp(scaled - scaled.max()).sum())


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1},
        {"temperature": 0.7, "top_k": 5},
        {"temperature": 1.3, "top_p": 0.6},
        {"temperature": 0.9, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.5},
        {"temperature": 1.5, "top_k": 300, "top_p": 0.95, "repetition_penalty": 0.8},
    ],
    ids=str,
)
def test_sampled_logprobs_and_cuts_of_200_tokens_are_what_numpy_says(forgetful, models, options):
    run = forgetful.write("Once upon a time", "storyteller", max_new_tokens=200, seed=21, **options)
    model = GPT2LMHeadModel.from_pretrained(models / "storyteller", dtype=torch.float32).eval()
    start, written = len(run.prompt), run.samples[0].read()
    ids = [*run.prompt["id"].tolist(), *written["id"].tolist()]
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0].double().numpy()
    assert len(written) > 100
    for place, record in enumerate(written, start):
        right = plain_sampler(logits[place - 1], sorted(set(ids[:place])), **options)
        assert record["sampled_logprob"] == pytest.approx(right[record["id"]], abs=1e-4)
        cut = [bool(record["cut"] >> n & 1) for n in range(10)]
        assert cut == (right[record["alt_ids"]] == -np.inf).tolist()


# As one number


def records_of(logprobs, ids=None) -> np.ndarray:
    records = unknown_records(range(len(logprobs)) if ids is None else ids, 300)
    records["logprob"] = logprobs
    return records


def test_perplexity_by_hand():
    vocabulary = Vocabulary([b"a", b"bb", b"", "狐".encode()] + [b""] * 296, special=[2])
    found = perplexity(records_of([math.nan, -1.0, -2.0, -3.0]), vocabulary)
    assert (found.tokens, found.nats) == (3, 2.0)
    assert found.perplexity == pytest.approx(math.exp(2))
    assert found.bits_per_byte == pytest.approx(6 / math.log(2) / 5)  # 2 + 0 + 3 bytes
    nothing = perplexity(records_of([math.nan] * 2), vocabulary)
    assert (nothing.tokens, nothing.nats, nothing.perplexity, nothing.bits_per_byte) == (0, None, None, None)
    assert perplexity(records_of([]), vocabulary) == nothing
    end = perplexity(records_of([-1.0], [2]), vocabulary)
    assert (end.tokens, end.nats, end.bits_per_byte) == (1, 1.0, None)
    assert perplexity(records_of([-1e4]), vocabulary).perplexity == math.inf
    assert perplexity(records_of([-0.0]), vocabulary).perplexity == 1
    assert isinstance(str(nothing), str)


def test_perplexity_of_a_text_agrees_with_the_loss_of_transformers(forgetful, models):
    folder = find_model(models, "storyteller")
    ids = folder.encode_prompt(FABLE)
    model = GPT2LMHeadModel.from_pretrained(models / "storyteller", dtype=torch.float32).eval()
    with torch.inference_mode():
        loss = model(torch.tensor([ids]), labels=torch.tensor([ids])).loss.item()
    found = perplexity(score(forgetful, ids, "storyteller").prompt, folder.tokenizer.vocabulary)
    assert found.tokens == len(ids) - 1
    assert found.nats == pytest.approx(loss, abs=1e-4)
    size = len(FABLE.encode()) - len(folder.tokenizer.vocabulary.tokens[ids[0]])
    assert found.bits_per_byte == pytest.approx(loss * (len(ids) - 1) / math.log(2) / size, abs=1e-4)


def test_perplexity_needs_no_torch():
    code = "import sys; from generate import perplexity; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# On the terminal


@pytest.fixture
def terminal(models, tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder; returns its exit status, output and errors."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"MODELS": str(models), "MODEL": "tiny", "PRECISION": "float32", "THREADS": "1"}.items():
        monkeypatch.setenv(f"RUBRIC_{name}", value)

    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        return main(["--max-new-tokens", "0", *arguments]), *capsys.readouterr()

    return run


def test_the_terminal_says_it_in_one_line(terminal, models, tmp_path, forgetful):
    text = "the old king said to the young fox " * 10
    folder = find_model(models, "tiny")
    ids = folder.encode_prompt(text)
    found = perplexity(score(forgetful, ids).prompt, folder.tokenizer.vocabulary)
    line = f"{len(ids)} tokens, perplexity {found.perplexity:,.2f}, {found.bits_per_byte:.3f} bits per byte\n"
    assert terminal(text) == (0, line, "")
    assert terminal("--interactive", stdin=f"{text}\n") == (0, line, "")
    assert terminal(text, "--to-file", "a.txt", "--samples", "3") == (0, "", "")
    assert (tmp_path / "a.txt").read_text() == line
    assert terminal(text, "--to-file", "b.jsonl") == (0, "", "")
    told = json.loads((tmp_path / "b.jsonl").read_text())
    assert [token["id"] for token in told["tokens"]] == ids
    assert (told["predicted"], told["perplexity"]) == (len(ids) - 1, pytest.approx(found.perplexity))
    assert told["tokens"][0]["logprob"] is None
    assert len(told["tokens"][1]["alternatives"]) == 10


def test_the_terminal_says_so_when_there_is_nothing_to_predict(terminal):
    assert terminal("--unconditional") == (0, "1 token, nothing of it is predicted\n", "")
