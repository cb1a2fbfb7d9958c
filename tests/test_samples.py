"""Samples side by side: folded up to where they part, and any of them on a page of its own."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import text_of
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import until

from generate import Vocabulary
from webapp.views.samples import common_beginning

LETTERS = Vocabulary([b"", b"a", b"b", "从".encode()[:2], "从".encode()[2:], b"\xe4", b"\xbb", b"\x8e"])


def ids(*given) -> np.ndarray:
    return np.array(given, np.uint16)


@pytest.mark.parametrize(
    ("samples", "common"),
    [
        ([], 0),
        ([ids(1, 1)], 0),
        ([ids(1, 2), ids(2, 1)], 0),
        ([ids(1, 2, 1), ids(1, 2, 2), ids(1, 2)], 2),
        ([ids(1, 2), ids(1, 2)], 2),
        ([ids(1, 2, 1), ids(), ids(1, 2, 2)], 2),  # one that has not begun hides nothing
        ([ids(1, 3, 4), ids(1, 3, 1)], 1),  # never in the middle of a character
        ([ids(1, 5, 6, 7, 1), ids(1, 5, 6, 7, 2)], 4),
        ([ids(1, 5, 6, 7, 1), ids(1, 5, 6, 1)], 1),
    ],
)
def test_the_common_beginning_ends_where_samples_part(samples, common):
    assert common_beginning(samples, LETTERS) == common


def test_a_half_character_of_the_prompt_is_made_whole_first():
    half = "从".encode()[:2]
    assert common_beginning([ids(4, 1), ids(4, 2)], LETTERS, half) == 1
    assert common_beginning([ids(7, 1), ids(6, 2)], LETTERS, half) == 0


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 7), max_size=12), max_size=4), st.lists(st.integers(0, 7), max_size=6))
def test_the_common_beginning_says_the_same_in_all_whatever_follows(samples, start):
    arrays = [ids(*start, *sample) for sample in samples]
    common = common_beginning(arrays, LETTERS)
    begun = [one for one in arrays if len(one)]
    assert common <= min(map(len, begun), default=0)
    texts = {LETTERS.bytes_of(one[:common].tolist()).decode("utf-8", "replace") for one in begun}
    assert len(texts) <= 1
    for one in begun if common else []:
        whole = LETTERS.bytes_of(one.tolist()).decode("utf-8", "replace")
        rest = LETTERS.bytes_of(one[common:].tolist()).decode("utf-8", "replace")
        assert whole == texts.copy().pop() + rest


def several(visitor, **fields) -> str:
    """A run of several samples, to its end."""
    run = visitor.start("The old king", **{"samples": 8, "top_k": 0, "max_new_tokens": 40} | fields)
    visitor.finish(run)
    return run


def parting(visitor, run: str) -> int:
    """The number of the first token that is not the same in all samples, from 0."""
    tokens = [[token["id"] for token in sample["tokens"]] for sample in visitor.json(run)["samples"]]
    return next((n for n in range(40) if len({sample[n] for sample in tokens}) > 1), 40)


def parting_in(visitor, places: range) -> tuple[str, int]:
    """A run whose samples part in one of these places, and in which."""
    for seed in range(40):
        run = several(visitor, model="storyteller", samples=3, temperature=0.15, seed=seed)
        if (place := parting(visitor, run)) in places:
            return run, place
    raise AssertionError("no seed lets these samples part there")


def test_cards_fold_what_is_common_and_lose_no_letter(visitor):
    run, common = parting_in(visitor, range(8, 40))
    made, html = visitor.json(run)["samples"], visitor.get(run).text
    assert html.count(f'data-label="… the same {common} tokens"') == 3
    assert f"All begin with the same {common} tokens" in html
    for number, sample in enumerate(made):
        card = html.split(f'id="sample-{number}">')[1].split("</p>")[0]
        assert text_of(f'<hx-partial hx-target="#sample-0">{card}') == sample["text"]
        rest = card.split('<span class="rest">')[1]
        spoken = b"".join(bytes(token["bytes"]) for token in sample["tokens"][common:])
        assert text_of(f'<hx-partial hx-target="#sample-0">{rest}') == spoken.decode("utf-8", "replace")


def test_where_samples_part_at_once_nothing_is_spoken_of(visitor):
    html = visitor.get(several(visitor, temperature=5, samples=3)).text
    assert "parting" not in html
    assert "data-label" not in html


def test_a_few_common_words_are_not_folded_and_yet_spoken_of(visitor):
    run, common = parting_in(visitor, range(1, 8))
    html = visitor.get(run).text
    assert f"begin with the same {f'{common} tokens' if common > 1 else 'token'}; the next" in html
    assert html.count('<span class="rest">') == 3
    assert "data-label" not in html


def test_samples_that_all_say_the_same_are_shown_in_full(visitor):
    html = visitor.get(several(visitor, temperature=0, samples=3)).text
    assert "All 3 samples say the same." in html
    assert "data-label" not in html


def test_while_they_are_written_nothing_is_folded_and_the_grid_asks_for_itself_when_done(visitor):
    run = visitor.start(model="slow", samples=2, temperature=0, max_new_tokens=4096)
    until(lambda: all(sample["tokens"] for sample in visitor.json(run)["samples"]), what="tokens")
    html = visitor.get(run).text
    visitor.post(f"{run}/stop")
    visitor.events(run)
    grid = re.search(r'<div id="sheet"([^>]*)>', html)[1]
    assert f'hx-get="{run}"' in grid
    assert "hx-trigger=\"done from:'closest article'\"" in grid
    assert "data-label" not in html
    assert "hx-get" not in re.search(r'<div id="sheet"([^>]*)>', visitor.get(run).text)[1]


def test_a_picked_sample_is_a_run_like_any_other(visitor, friend):
    run = several(visitor, temperature=1.5)
    parent = visitor.json(run)
    page = friend.post(f"{run}/pick", data={"sample": 3})
    assert page.status_code == 303
    picked = friend.json(page.headers["Location"])
    assert picked["samples"] == [parent["samples"][3]]
    assert picked["prompt"] == parent["prompt"]
    assert picked["parent"] == {"id": run[3:], "sample": 3, "relation": "pick"}
    assert picked["options"] == parent["options"] | {"samples": 1}
    assert picked["first_sample"] == 3
    for name in ("state", "model", "fingerprint", "precision", "device", "seed"):
        assert picked[name] == parent[name]
    html = friend.get(page.headers["Location"]).text
    assert "Continue" in html
    assert "Delete it" in html, "it belongs to who made it"
    assert "Delete it" not in visitor.get(page.headers["Location"]).text


def test_a_picked_sample_goes_on_as_the_sample_would_have(visitor):
    run = several(visitor, samples=3, temperature=1.2)
    ways = []
    for start in (visitor.post(f"{run}/pick", data={"sample": 2}).headers["Location"], run):
        sample = 0 if start != run else 2
        child = visitor.post(f"{start}/continue", data={"sample": sample}).headers["Location"]
        ways.append(visitor.finish(child)["samples"][0]["text"])
    assert ways[0] == ways[1]


def test_a_second_click_leads_to_the_same_page_and_another_visitor_to_another(visitor, friend):
    run = several(visitor, samples=3)
    with ThreadPoolExecutor(4) as clicks:
        cookie = visitor.client.get_cookie("rubric").value
        pages = set(clicks.map(lambda _: click(visitor.client.application, cookie, run), range(4)))
    assert len(pages) == 1
    assert visitor.post(f"{run}/pick", data={"sample": 1}).headers["Location"] in pages
    assert visitor.post(f"{run}/pick", data={"sample": 0}).headers["Location"] not in pages
    assert friend.post(f"{run}/pick", data={"sample": 1}).headers["Location"] not in pages


def click(app, cookie: str, run: str) -> str:
    client = app.test_client()
    client.set_cookie("rubric", cookie)
    return client.post(f"{run}/pick", data={"sample": 1}).headers["Location"]


def test_a_page_of_one_s_own_outlives_the_run_it_came_from(visitor, friend):
    run = several(visitor, samples=2)
    text = visitor.json(run)["samples"][1]["text"]
    page = friend.post(f"{run}/pick", data={"sample": 1}).headers["Location"]
    visitor.post(f"{run}/delete")
    assert friend.json(page)["samples"][0]["text"] == text
    assert friend.post(f"{run}/pick", data={"sample": 0}).status_code == 410


def test_a_deleted_page_of_one_s_own_can_be_made_again(visitor):
    run = several(visitor, samples=2)
    first = visitor.post(f"{run}/pick", data={"sample": 1}).headers["Location"]
    visitor.post(f"{first}/delete")
    second = visitor.post(f"{run}/pick", data={"sample": 1}).headers["Location"]
    assert first != second
    assert visitor.get(second).status_code == 200


@pytest.mark.parametrize("sample", ["", "2", "-1", "x", "²", "99999999999999999999"])
def test_a_sample_that_is_not_there_is_a_sentence(visitor, sample):
    run = several(visitor, samples=2, max_new_tokens=3)
    answer = visitor.post(f"{run}/pick", data={"sample": sample})
    assert answer.status_code == 422
    assert "sample must be a whole number from 0 to 1" in answer.text


def test_an_unfinished_sample_waits_and_a_single_one_has_its_page(visitor):
    run = visitor.start(model="slow", samples=2, max_new_tokens=4096)
    answer = visitor.post(f"{run}/pick", data={"sample": 0})
    visitor.post(f"{run}/stop")
    visitor.events(run)
    assert answer.status_code == 422
    assert "still being written" in answer.text
    assert visitor.post(f"{run}/pick", data={"sample": 0}).status_code == 303
    single = visitor.start(max_new_tokens=2)
    visitor.finish(single)
    assert visitor.post(f"{single}/pick", data={"sample": 0}).headers["Location"] == single
