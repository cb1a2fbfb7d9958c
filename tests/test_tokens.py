"""What a page tells of each token: its class under a lens, its alternatives, and what the sampler made of them."""

import math
import re

import numpy as np
import pytest
from conftest import TRICKY
from engines import until
from sqlalchemy import select

from generate import (
    Place,
    RunState,
    Vocabulary,
    is_known,
    known,
    logits_of,
    record_as_dict,
    record_dtype,
    unknown_records,
)
from webapp.runs.probabilities import alternatives, place_of
from webapp.runs.tables import Block, Run, db
from webapp.views.lenses import classes, classes_of_each
from webapp.views.sentences import share

OPTIONS = [
    {"temperature": 0.7, "top_k": 12, "top_p": 0.8, "repetition_penalty": 1.4},
    {"temperature": 1.3, "top_k": 0, "top_p": 1, "repetition_penalty": 1},
    {"temperature": 1, "top_k": 5, "top_p": 1, "repetition_penalty": 0.8},
    {"temperature": 0, "top_k": 0, "top_p": 1, "repetition_penalty": 1},
]


def sampler(logits: np.ndarray, options: dict, before: list[int]) -> np.ndarray:
    """Probabilities after penalty, temperature, top_k and top_p, written once more and plainly; float64 [V]."""
    logits = logits.astype(np.float64).copy()
    for index in set(before):
        penalty = options["repetition_penalty"]
        logits[index] = logits[index] / penalty if logits[index] > 0 else logits[index] * penalty
    if options["temperature"] == 0:
        return np.eye(len(logits))[int(logits.argmax())]
    logits /= options["temperature"]
    order = np.argsort(-logits, kind="stable")
    probabilities = np.exp(logits - logits.max())
    if options["top_k"]:
        probabilities[order[options["top_k"] :]] = 0
    probabilities /= probabilities.sum()
    before_it = np.concatenate(([0], np.cumsum(probabilities[order])[:-1]))
    probabilities[order[before_it >= options["top_p"]]] = 0
    return probabilities / probabilities.sum()


@pytest.mark.parametrize("options", OPTIONS)
def test_the_sampler_s_probability_of_every_alternative_is_what_an_independent_one_gives(writer, models, options):
    from generate import find_model

    folder = find_model(models, "tiny")
    run = writer.write(TRICKY[:40], seed=5, max_new_tokens=20, **options)
    prompt, records = run.prompt["id"].tolist(), run.samples[0].read()
    ids = prompt + records["id"].tolist()
    logits = logits_of(folder, [ids])[0]
    checked = 0
    for place, record in enumerate(records, len(prompt)):
        expected = sampler(logits[place - 1], options, ids[:place])
        for one in alternatives(record, place_of(record, options, np.array(ids[:place]))):
            wanted = expected[one["id"]]
            if one["cut"] or one["sampled"] is None:
                assert wanted == 0 or options["temperature"] == 0
            else:
                assert math.exp(one["sampled"]) == pytest.approx(wanted, abs=1e-4)
                checked += 1
    assert checked >= 20


def test_nothing_is_said_of_a_sampler_whose_options_are_others(writer):
    run = writer.write("the old king", temperature=0.5, max_new_tokens=5)
    record = run.samples[0].read()[2]
    before = run.prompt["id"]
    assert all(one["sampled"] is None for one in alternatives(record, place_of(record, OPTIONS[1], before)))
    assert math.isnan(Place(run.prompt[2], OPTIONS[1], before).logprob(7, -1.0))


def record(logprob, rank, entropy):
    made = unknown_records([5], 300)
    made["logprob"], made["rank"], made["entropy"] = logprob, rank, entropy
    return made


@pytest.mark.parametrize(
    ("records", "named"),
    [
        ([(math.log(0.9), 1, 0.1)], "p0 k0 e0"),
        ([(math.log(0.3), 2, 0.5)], "p1 k1 e1"),
        ([(math.log(0.02), 11, 3.0)], "p4 k2 e3"),
        ([(-30.0, 2000, 9.0)], "p6 k4 e5"),
        ([(math.log(0.9), 1, 0.1), (math.log(0.5), 3, 2.0)], "p1 k1 e2"),
        ([(math.nan, 0, math.nan)], ""),
        ([], ""),
    ],
)
def test_a_token_has_a_class_for_each_lens(records, named):
    made = [record(*one) for one in records]
    together = np.concatenate(made) if made else np.zeros(0, record_dtype(300))
    assert classes(together) == named
    assert classes_of_each(together) == [classes(one) for one in made]


def test_each_field_may_be_unknown_by_itself():
    made = record(math.log(0.3), 2, math.nan)
    assert (classes(made), is_known(made[0])) == ("p1 k1", True)
    some = [record(math.nan, 2, 1.0), record(-1.0, 0, 2.0)]
    assert classes(np.concatenate(some)) == "e2"
    assert classes_of_each(np.concatenate([made, *some])) == ["p1 k1", "k1 e1", "p1 e2"]
    assert known(np.concatenate([made, record(math.nan, 0, math.nan)])).tolist() == [True, False]
    made["alt_ids"][0, 0], made["alt_logprobs"][0, 0] = 7, -0.5
    told = record_as_dict(made[0], Vocabulary([b"a"] * 300, []))
    assert (told["rank"], told["entropy"], told["sampled_logprob"]) == (2, None, None)
    assert [(one["id"], one["cut"]) for one in told["alternatives"]] == [(7, None)]
    made["filter_norm"] = 0
    assert [one["cut"] for one in record_as_dict(made[0], Vocabulary([b"a"] * 300, []))["alternatives"]] == [False]


@pytest.mark.needs("rank")
def test_the_panel_says_what_an_engine_did_not_tell(app, visitor):
    run = visitor.start("the old king", max_new_tokens=3)
    visitor.finish(run)
    with app.app_context():
        until(lambda: db.session.get(Run, run[3:], populate_existing=True).state == RunState.DONE, what="its saving")
        blocks = db.session.scalars(select(Block).where(Block.run_id == run[3:]).order_by(Block.start)).all()
        records = np.frombuffer(b"".join(block.tokens for block in blocks), record_dtype(300)).copy()
        records["entropy"], records["rank"][0] = math.nan, 0
        for block, end in zip(blocks, [*(block.start for block in blocks[1:]), len(records)], strict=True):
            block.tokens = records[block.start : end].tobytes()
        db.session.commit()
    panel = visitor.get(f"{run}/token?sample=0&place=0").text
    assert "Its rank and the entropy are not told by this engine." in panel
    panel = visitor.get(f"{run}/token?sample=0&place=1").text
    assert f"It ranked <b>{records['rank'][1]}</b>. The entropy is not told by this engine." in panel
    assert visitor.get(run).text.count('class="p') >= 3


@pytest.mark.parametrize(
    ("probability", "words"),
    [
        (1, "100 %"),
        (0.123, "12 %"),
        (0.0123, "1.2 %"),
        (0.00123, "0.12 %"),
        (0.0001, "1 in 10,000"),
        (1e-20, "next to never"),
    ],
)
def test_a_probability_is_said_as_people_say_it(probability, words):
    assert share(math.log(probability)) == words


@pytest.mark.needs("rank")
def test_each_token_on_the_page_has_its_place_and_its_classes(visitor):
    run = visitor.start("the old king 从前", max_new_tokens=25)
    made = visitor.finish(run)
    page = visitor.get(run).text
    sample = re.search(r'id="sample-0">(.*?)</p>', page, re.S)[1]
    places = [(int(n), int(m or 1)) for n, m in re.findall(r'data-n="(\d+)"(?: data-m="(\d+)")?', sample)]
    assert sum(m for _, m in places) == 25
    assert [n for n, _ in places] == list(np.cumsum([0] + [m for _, m in places[:-1]]))
    assert len(re.findall(r'<span class="p\d k\d e\d" data-n', sample)) == len(places)
    prompt = re.search(r'id="prompt">(.*?)<span class="continuation" id', page, re.S)[1]
    known = len(re.findall(r'class="p\d k\d e\d"', prompt))
    cells = prompt.count("data-n=")
    assert known == cells - 1, "all but the first, which nothing could predict"
    assert made["prompt"]["tokens"][1]["rank"] > 0


@pytest.mark.needs("rank")
def test_classes_come_with_the_stream_and_the_prompt_s_once_they_are_known(visitor):
    run = visitor.start("the old king said to the young fox", max_new_tokens=12)
    told = visitor.get(f"{run}/events?prompt").text
    assert re.search(r'hx-target="#prompt" hx-swap="innerHTML"><span class="prompt"><span data-n="0">', told)
    assert re.search(r'hx-target="#sample-0" hx-swap="beforeend"><span class="p\d k\d e\d" data-n="0">', told)
    assert 'hx-target="#prompt"' not in visitor.get(f"{run}/events").text


@pytest.mark.needs("rank")
def test_a_token_s_panel_says_what_the_json_says(visitor, friend):
    run = visitor.start("the old king", max_new_tokens=20, top_k=5, samples=2)
    made = visitor.finish(run)
    for place, told in enumerate(made["samples"][1]["tokens"]):
        panel = friend.get(f"{run}/token?sample=1&place={place}").text
        assert f"It ranked <b>{told['rank']:,}</b>" in panel
        assert f"<b>{told['entropy']:.2f}</b> nats" in panel
        assert f"<b>{share(told['logprob'])}</b>" in panel
        assert panel.count("<li ") == 10 + (told["id"] not in [one["id"] for one in told["alternatives"]])
        assert panel.count(' cut"') == sum(one["cut"] for one in told["alternatives"])
        assert panel.count('class="here') == 1
    assert "nothing came before it" in friend.get(f"{run}/token?sample=prompt&place=0").text
    assert "It ranked" in friend.get(f"{run}/token?sample=prompt&place=1").text


@pytest.mark.parametrize(
    "query", ["", "?sample=0", "?sample=9&place=0", "?sample=0&place=99", "?sample=0&place=-1", "?sample=x&place=1"]
)
def test_a_token_that_is_not_there_is_not_found(visitor, query):
    run = visitor.start("x", max_new_tokens=3)
    visitor.finish(run)
    assert visitor.get(f"{run}/token{query}").status_code == 404


def test_half_characters_are_shown_as_their_bytes_and_nothing_breaks_out_of_the_panel(visitor):
    run = visitor.start("从前 <b> 🦊\n", max_new_tokens=3)
    tokens = visitor.finish(run)["prompt"]["tokens"]
    for place, one in enumerate(tokens):
        panel = visitor.get(f"{run}/token?sample=prompt&place={place}").text
        name = re.search(r'class="token-name"[^>]*>(.*?)</p>', panel)[1]
        try:
            bytes(one["bytes"]).decode()
        except UnicodeDecodeError:
            assert " ".join(f"{byte:02X}" for byte in one["bytes"]) in name
        assert "<b>" not in name
