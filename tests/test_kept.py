"""What is kept in mind: a text's first tokens stay in the window, however long it grows, and nothing else changes for that.

The reference is `transformers`, which is given exactly the tokens that a window shall hold, one place after another.
"""

import json
import random

import numpy as np
import pytest
import torch
from conftest import finished, make_model
from engines import ids_of, running, stop, until_written
from hypothesis import given
from hypothesis import strategies as st
from test_replay import verdict_of
from test_resume import half_done, told
from test_runs import Visitor
from transformers import GPT2LMHeadModel
from waiting import until

from generate import Refusal, Request, RunLog, context_at, find_model, known, parse_sampling
from generate.__main__ import main

KEPT = 11
BANNED = {"banned_phrases": ["a", "th", "ng "]}
LONG = {"n_keep": KEPT, "max_new_tokens": 150, "temperature": 1.5}  # past the tiny window of 64 three times
PROMPT = "the old king said to the fox"


def windows(count: int, n_positions: int, n_keep: int) -> list[list[int]]:
    """The places in the window when 0, 1, .. `count` tokens are there: one that is full drops half of it after its first
    `n_keep`."""
    window, found = [], [[]]
    for place in range(count):
        window = [*window, place]
        if len(window) > n_positions:
            del window[n_keep : n_keep + max(1, n_positions // 2)]
        found.append(window)
    return found


def listed(context: tuple[range, range]) -> list[int]:
    return [place for part in context for place in part]


# What is in the window


@given(st.integers(1, 40), st.data())
def test_the_context_is_what_is_left_of_a_window_that_drops_its_half_after_what_is_kept(n_positions, data):
    n_keep = data.draw(st.integers(0, n_positions // 4))
    for count, window in enumerate(windows(5 * n_positions, n_positions, n_keep)):
        assert listed(context_at(count, n_positions, n_keep)) == window


@given(st.integers(0, 10_000), st.integers(1, 1024), st.data())
def test_what_is_kept_is_there_at_every_cut_with_as_many_newer_tokens_as_fit(count, n_positions, data):
    n_keep = data.draw(st.integers(0, n_positions // 4))
    kept, newest = context_at(count, n_positions, n_keep)
    seen = listed((kept, newest))
    assert seen[:n_keep] == list(range(min(n_keep, count)))
    assert seen[-1:] == ([count - 1] if count else [])
    assert len(seen) == len(listed(context_at(count, n_positions)))
    assert min(count, max(1, n_positions // 2)) <= len(seen) <= n_positions
    assert len(newest) >= min(count, max(1, n_positions // 4))
    assert set(listed(context_at(count + 1, n_positions, n_keep))) <= {*seen, count}, (
        "what was left out does not come back"
    )


# Against transformers


@pytest.fixture(scope="module", params=["forgetful", "clever"])
def either(request, models):
    """An engine without and with memory for texts."""
    with running(models, prefix_memory=64 * (request.param == "clever")) as writer:
        yield writer


@pytest.fixture(scope="module")
def reference(models):
    model = GPT2LMHeadModel.from_pretrained(models / "tiny", dtype=torch.float32).eval()

    def logprobs(ids) -> np.ndarray:
        """Of the token that follows these, float64 [V]."""
        with torch.inference_mode():
            return model(torch.tensor([list(ids)])).logits[0, -1].double().log_softmax(-1).numpy()

    return logprobs


def agree(record, right) -> None:
    assert record["logprob"] == pytest.approx(right[record["id"]], abs=1e-4)
    assert record["entropy"] == pytest.approx(-(np.exp(right) * right).sum(), abs=1e-4)
    assert record["alt_logprobs"] == pytest.approx(np.sort(right)[::-1][:10], abs=1e-4)


def dice_text(length, seed=0) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(1, 299) for _ in range(length)]


@pytest.mark.parametrize("length", [3, 12, 64, 65, 96, 97, 200])
@pytest.mark.parametrize("n_keep", [1, KEPT, 16])
def test_every_token_is_written_after_exactly_what_the_window_shall_hold(either, reference, length, n_keep):
    """Also where the prompt is shorter than what is kept, longer than the window, and ends just at a cut."""
    ids = dice_text(length, length)
    run = either.write(ids=ids, n_keep=n_keep, max_new_tokens=110, seed=length)
    written = run.samples[0].read()
    ids += written["id"].tolist()
    held = windows(len(ids), 64, n_keep)
    for place, record in enumerate(written, length):
        agree(record, reference([ids[i] for i in held[place]]))


@pytest.mark.parametrize("length", [64, 65, 97, 129, 200])
def test_a_text_that_is_only_read_is_read_in_the_windows_of_writing(either, reference, length):
    ids = dice_text(length, length)
    run = either.write(ids=ids, n_keep=KEPT, max_new_tokens=0)
    held = windows(length, 64, KEPT)
    for place in range(1, length):
        agree(run.prompt[place], reference([ids[i] for i in held[place]]))


def test_a_text_scored_is_what_it_was_when_it_was_written(either):
    whole = either.write(PROMPT, **LONG)
    records = np.concatenate((whole.prompt, whole.samples[0].read()))
    again = either.write(ids=records["id"].tolist(), n_keep=KEPT, max_new_tokens=0).prompt
    np.testing.assert_allclose(again["logprob"], records["logprob"], atol=1e-4)


@pytest.mark.parametrize("n_keep", [1, KEPT, 16])
def test_of_a_prompt_longer_than_the_window_all_that_is_read_is_told(either, reference, n_keep):
    """What is kept, as the text begins with it; the newest, each after those that the window holds before it."""
    ids = dice_text(150, 7)
    prompt = either.write(ids=ids, n_keep=n_keep, max_new_tokens=3).prompt
    seen = listed(context_at(150, 64, n_keep))
    assert np.flatnonzero(known(prompt)).tolist() == seen[1:]
    assert prompt["id"].tolist() == ids
    for number, place in enumerate(seen[1:], 1):
        agree(prompt[place], reference([ids[i] for i in seen[:number]]))


def test_what_is_kept_is_told_also_where_all_that_was_left_out_and_all_that_is_new_was_known(either):
    ids, options = dice_text(150, 7), {"seed": 1, "n_keep": KEPT, "max_new_tokens": 3}
    right, folder = either.write(ids=ids, **options).prompt, find_model(either.engine.models, "tiny")
    records = either.write(ids=ids, max_new_tokens=0).prompt.copy()
    records["logprob"][:KEPT], records["rank"][:KEPT] = np.nan, 0
    run = finished(either.engine.submit(Request(folder, parse_sampling(options)), RunLog(records, 1)))
    assert run.prompt["logprob"][1:KEPT] == pytest.approx(right["logprob"][1:KEPT], abs=1e-4)
    assert run.prompt[KEPT:].tobytes() == records[KEPT:].tobytes()


@pytest.mark.parametrize("most", [1, 3, 4, 5, 9])
def test_a_very_small_window_keeps_a_quarter_at_the_most(tmp_path, most):
    make_model(tmp_path / "small", seed=4, n_positions=most)
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "small").eval()
    with running(tmp_path, "small") as writer:
        run = writer.write(ids=dice_text(3, most), model="small", n_keep=most // 4, max_new_tokens=4 * most)
        with pytest.raises(Refusal, match=f"n_keep may be {most // 4} with small at the most"):
            writer.submit(model="small", n_keep=most // 4 + 1)
    ids = run.prompt["id"].tolist() + run.samples[0].read()["id"].tolist()
    for place, window in list(enumerate(windows(len(ids), most, most // 4)))[3:-1]:
        with torch.inference_mode():
            right = model(torch.tensor([[ids[i] for i in window]])).logits[0, -1].log_softmax(-1)[ids[place]]
        assert run.samples[0].read()["logprob"][place - 3] == pytest.approx(right.item(), abs=1e-4)


# What was promised before


@pytest.fixture(scope="module", params=["float32", "int8"])
def precise(request, models):
    with running(models, precision=request.param) as writer:
        yield writer


def bits(run) -> list[bytes]:
    return [sample.read().tobytes() for sample in run.samples]


def test_until_the_window_is_full_nothing_is_different(precise):
    wish = {"max_new_tokens": 40, "temperature": 1.5, "samples": 3}
    plain, kept = (precise.write(PROMPT, **wish, n_keep=n) for n in (0, KEPT))
    assert told(kept) == told(plain)
    assert plain.precision != "int8" or bits(kept) == bits(plain)


@pytest.mark.parametrize(
    "more", [{}, {"repetition_penalty": 1.3, "samples": 3}, BANNED], ids=["plain", "penalty", "banned"]
)
def test_a_run_is_the_same_a_second_time_and_among_others(precise, more):
    """The others keep nothing, or another number, or are longer than the window already."""
    alone = precise.write(PROMPT, **LONG | more)
    others = [precise.submit(f"{n} foxes " * (n * n + 1), seed=n, **LONG | {"n_keep": 5 * n}) for n in range(4)]
    again = [precise.submit(PROMPT, **LONG | more) for _ in range(2)]
    for run in again:
        assert told(finished(run)) == told(alone)
        assert alone.precision != "int8" or bits(run) == bits(alone)
    for run in others:
        finished(run)
    assert told(precise.write(PROMPT, **LONG | more | {"n_keep": 0})) != told(alone)


@pytest.mark.long
@pytest.mark.parametrize("more", [{}, BANNED], ids=["plain", "banned"])
@pytest.mark.parametrize("prompt", [PROMPT, "fox", PROMPT * 6], ids=["short", "shorter than what is kept", "long"])
def test_a_run_that_was_interrupted_goes_on_as_it_would_have(precise, prompt, more):
    wish = LONG | {"samples": 5} | more
    whole, dice = precise.write(prompt, **wish), random.Random(2)
    folder = find_model(precise.engine.models, "tiny")
    for _ in range(3):
        log = half_done(precise, whole, dice)
        precise.engine.submit(Request(folder, parse_sampling({"seed": 1, "top_k": 0} | wish)), log)
        assert told(finished(log)) == told(whole)


@pytest.mark.parametrize("prompt", [PROMPT, "fox", PROMPT * 6], ids=["short", "shorter than what is kept", "long"])
def test_a_continuation_says_what_a_longer_run_would_have_said(precise, prompt):
    whole = precise.write(prompt, **LONG)
    before, said = whole.prompt["id"].tolist(), ids_of(whole)[0]
    for cut in (1, 40, 64 - len(before) % 32, 99, 149):
        child = precise.write(ids=before + said[:cut], **LONG | {"max_new_tokens": 150 - cut})
        assert ids_of(child)[0] == said[cut:]


def test_a_run_goes_on_with_what_it_kept_when_the_device_has_failed(models):
    """All windows are read anew, those that were being read in the middle of it too."""
    wish = LONG | {"samples": 3}
    with running(models) as writer:
        whole = writer.write(PROMPT, **wish)
        long = writer.write(PROMPT * 6, **wish)
        runs = [writer.submit(PROMPT, **wish)]
        until_written(runs[0], 100)
        batch, failed = writer.batch(), []
        real = batch.do

        def fail(work):
            if work.parts and work.parts[0][0].start and not failed:
                failed.append(work)
                raise torch.AcceleratorError("the device is lost")
            real(work)

        batch.do = fail
        runs.append(finished(writer.submit(PROMPT * 6, **wish)))
        assert failed
        assert [told(finished(run)) for run in runs] == [told(whole), told(long)]
        assert runs[1].restarts == 1


def test_texts_that_begin_alike_do_not_mix_what_they_keep(precise):
    """The prefix cache finds a text by what its window holds; runs of one prompt that keep more or less share no more."""
    alone = {n: ids_of(precise.write(PROMPT * 6, **LONG | {"n_keep": n})) for n in (0, 1, 8, 9, 16)}
    runs = {n: precise.submit(PROMPT * 6, **LONG | {"n_keep": n}) for n in (16, 9, 8, 1, 0)}
    assert {n: ids_of(finished(run)) for n, run in sorted(runs.items())} == alone
    assert len({json.dumps(ids) for ids in alone.values()}) == len(alone)


def test_what_was_written_is_remembered_as_its_window_held_it(models):
    """Whoever goes on with the tokens that lay behind the cut, or with those in the window, is not given the others' keys
    and values. A run that was interrupted takes all that it can from memory, as nothing is to be told of its prompt."""
    options = {"seed": 1, "top_k": 0, "temperature": 1, "max_new_tokens": 10}
    request = Request(find_model(models, "tiny"), parse_sampling(options))
    with running(models) as clever, running(models, prefix_memory=0) as forgetful:
        run = clever.write(PROMPT, **LONG)
        ids = run.prompt["id"].tolist() + ids_of(run)[0]
        kept, newest = context_at(len(ids) - 1, 64, KEPT)
        for text in (ids[newest.start - KEPT :][:40], [ids[n] for n in (*kept, *newest)][:40]):
            right = forgetful.write(ids=text, **options)
            found = finished(clever.engine.submit(request, half_done(clever, right, None, [3])))
            np.testing.assert_allclose(
                found.samples[0].read()["logprob"], right.samples[0].read()["logprob"], atol=1e-4
            )


def test_a_run_can_be_stopped_while_it_reads_its_window_anew(precise):
    run = precise.submit(PROMPT, **LONG | {"max_new_tokens": 4096})
    until_written(run, 70)
    stop(precise, run)
    whole = precise.write(PROMPT, **LONG | {"max_new_tokens": len(run.samples[0])})
    assert ids_of(run) == ids_of(whole)


# Refusals


def test_more_than_a_quarter_of_the_window_is_refused_in_one_sentence(writer):
    with pytest.raises(Refusal) as caught:
        writer.submit(n_keep=17)
    sentence = "n_keep may be 16 with tiny at the most, a quarter of its window of 64 tokens, not 17."
    assert (str(caught.value), caught.value.field) == (sentence, "n_keep")
    assert writer.write(n_keep=16).done


@pytest.mark.parametrize("junk", ["-1", "4097", "1.5", "nan", "some"])
def test_what_is_no_number_of_tokens_is_refused(junk):
    with pytest.raises(Refusal, match="n_keep must be a whole number from 0 to 4,096, not"):
        parse_sampling({"n_keep": junk})


def test_the_terminal_keeps_too(models, monkeypatch, capsys):
    monkeypatch.setenv("RUBRIC_MODELS", str(models))
    monkeypatch.setenv("RUBRIC_DEVICE", "cpu")
    monkeypatch.setenv("RUBRIC_PRECISION", "float32")  # nothing is measured, so nothing is written into the folder
    asked = ["--model", "tiny", "--seed", "1", "--max-new-tokens", "150", "--temperature", "1.5", PROMPT]
    told = []
    for n_keep in ("0", "11", "17"):
        told.append((main(["--n-keep", n_keep, *asked]), *capsys.readouterr()))
    assert [code for code, *_ in told] == [0, 0, 1]
    assert told[0][1] != told[1][1]
    assert told[2][2].startswith("generate: n_keep may be 16 with tiny at the most")


# On the page


def test_the_form_asks_for_it_and_brings_it_back_with_what_was_wrong_with_it(visitor):
    page = visitor.get("/").text
    assert 'name="n_keep"' in page
    assert "How many of the first tokens stay in the model’s window when it is full" in page
    answer = visitor.post("/runs", data={"prompt": "the fox", "model": "tiny", "n_keep": "17", "seed": "3"})
    assert answer.status_code == 422
    assert "n_keep may be 16 with tiny at the most, a quarter of its window of 64 tokens, not 17." in answer.text
    assert 'value="17"' in answer.text


def test_a_run_remembers_what_it_kept_and_all_that_follows_from_it_does_too(visitor: Visitor):
    options = {"n_keep": KEPT, "temperature": 1.5, "top_k": 0}
    run = visitor.start(PROMPT, max_new_tokens=150, **options)
    made = visitor.finish(run)
    assert made["options"]["n_keep"] == KEPT
    assert verdict_of(visitor, run) == "Identical: 150 tokens."
    short = visitor.start(PROMPT, max_new_tokens=30, **options)
    visitor.finish(short)
    child = visitor.finish(visitor.post(f"{short}/continue").headers["Location"])
    ids = [token["id"] for token in made["samples"][0]["tokens"]]
    assert [token["id"] for token in child["samples"][0]["tokens"]] == ids[30:60]
    assert f'name="n_keep" value="{KEPT}"' in " ".join(visitor.get(f"/?parent={run[3:]}").text.split())


def test_the_page_says_where_the_window_moved_and_what_stayed_in_mind(visitor):
    run = visitor.start(PROMPT, max_new_tokens=150, temperature=1.5, top_k=0, n_keep=KEPT)
    plain = visitor.start(PROMPT, max_new_tokens=150, temperature=1.5, top_k=0)
    for one in (run, plain):
        visitor.finish(one)
    kept, other = visitor.get(run).text, visitor.get(plain).text
    assert kept.count('class="moved"') >= 2
    said = "remembers only the text’s first 11 tokens and the later half of what it saw."
    assert kept.count(said) == kept.count('class="moved"')
    assert said not in other


@pytest.mark.needs("scores_kept")
def test_of_a_long_prompt_the_beginning_was_read_and_only_what_follows_it_was_not(visitor):
    run = visitor.start("the old king said " * 60, max_new_tokens=4, n_keep=KEPT)
    made = visitor.finish(run)
    tokens, page = made["prompt"]["tokens"], visitor.get(run).text
    seen = listed(context_at(len(tokens), 64, KEPT))
    assert made["prompt"]["unread_tokens"] == len(tokens) - len(seen)
    assert [n for n, token in enumerate(tokens) if token["logprob"] is not None] == seen[1:]
    assert "(paler) after the first 11 tokens, which stay in mind, were not read" in " ".join(page.split())
    assert page.index('class="prompt"') < page.index('class="prompt unread"')

    def panel(place):
        return visitor.get(f"{run}/token?sample=prompt&place={place}").text

    assert "It lies before the model&#39;s window and was not read." in panel(KEPT)
    assert "It lies before the model&#39;s window and was not read." in panel(seen[KEPT] - 1)
    for place in (KEPT - 1, seen[KEPT]):
        assert "was not read" not in panel(place)
        assert f"It ranked <b>{tokens[place]['rank']:,}</b>" in panel(place)


def test_another_model_reads_a_text_with_as_much_in_mind_as_it_was_written_with(visitor, writer):
    run = visitor.start(PROMPT, max_new_tokens=150, temperature=1.5, top_k=0, n_keep=KEPT)
    visitor.finish(run)
    answer = visitor.post(f"{run}/shift", data={"model": "other"})
    assert answer.status_code == 303, answer.text
    scored = visitor.finish(f"/r/{answer.headers['Location'].rpartition('/')[2]}")
    assert scored["options"]["n_keep"] == KEPT
    tokens = scored["prompt"]["tokens"]
    expected = writer.write(ids=[t["id"] for t in tokens], model="other", n_keep=KEPT, max_new_tokens=0).prompt[
        "logprob"
    ]
    assert [token["logprob"] for token in tokens[1:]] == pytest.approx(expected[1:].tolist(), abs=1e-4)


# What it is for


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_name_that_is_kept_in_mind_is_used_at_least_twice_as_often(models):
    """In 50 continuations of 3,000 tokens, as the storyteller writes by itself; its window holds 512 of them. Measured: 180
    times against 21."""
    text = "Zerlinda was the miller's daughter, and Zerlinda was clever, and every one knew Zerlinda."
    folder = find_model(models, "storyteller")
    ids, vocabulary = folder.encode_prompt(text), folder.tokenizer.vocabulary
    length = {"max_new_tokens": 3000, "min_new_tokens": 3000, "samples": 25}

    def uses(writer, n_keep) -> int:
        found = 0
        for seed in (1, 2):
            sampling = parse_sampling(length | {"seed": seed, "n_keep": n_keep}, dict(folder.defaults))
            request = Request(folder, sampling)
            run = writer.engine.submit(request, request.new_log(ids))
            until(lambda run=run: run.done, seconds=400, what="25 long texts")
            assert {len(sample) for sample in run.samples} == {3000}
            found += sum(vocabulary.bytes_of(said).count(b"Zerlinda") for said in ids_of(run))
        return found

    with running(models, "storyteller", precision="int8") as writer:
        kept, forgotten = uses(writer, len(ids)), uses(writer, 0)
        print(f"used {kept} times with the name in mind, {forgotten} times without")
        assert kept >= 2 * max(forgotten, 1)
