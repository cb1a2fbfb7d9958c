"""Two models, one prompt: their texts side by side, and which tokens the second finds likelier than the first."""

import html
import math
import re
import shutil

import numpy as np
import pytest
from conftest import TRICKY, finished, make_model, parse_events, pictured
from waiting import until

from generate import find_model
from webapp.views.comparison import degree
from webapp.views.tokens import cells


@pytest.fixture(scope="module", autouse=True)
def cousin(models):
    """A model that cuts text into other tokens than `tiny`."""
    folder = make_model(models / "cousin", seed=4, vocab_size=310)
    yield "cousin"
    shutil.rmtree(folder)


def beside(visitor, run, model="other") -> tuple[str, str]:
    """Start another model beside a run; returns the page's address and the new run's."""
    page = visitor.post(f"{run}/beside", data={"model": model}).headers["Location"]
    return page, "/r/" + page.split("/")[-1]


def shift(visitor, run, model="other") -> tuple[str, str]:
    """Let another model read a run's text; returns the page's address and that of the reading."""
    answer = visitor.post(f"{run}/shift", data={"model": model})
    assert answer.status_code == 303, answer.text
    page = answer.headers["Location"]
    return page, "/r/" + page.split("/")[-1]


def stories(page: str) -> list[str]:
    """The texts on a page, as they are shown."""
    found = re.findall(r'<p class="story" dir="auto">(.*?)</p>', page, re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]+>", "", story)) for story in found]


def degrees(page: str) -> list[str]:
    """The classes of the coloured tokens, in turn."""
    return re.findall(r'class="(?:prompt|continuation) (\w+)"', page)


def test_another_model_writes_what_it_would_write_alone(visitor, writer):
    run = visitor.start(TRICKY, max_new_tokens=12, samples=2, seed=7, stop="zq")
    visitor.finish(run)
    _, second = beside(visitor, run)
    made = visitor.finish(second)
    alone = visitor.finish(visitor.start(TRICKY, model="other", max_new_tokens=12, samples=2, seed=7, stop="zq"))
    assert made["model"] == "other"
    assert made["options"] == alone["options"]
    assert made["parent"] == {"id": run[3:], "sample": None, "relation": "beside"}
    assert [[t["id"] for t in s["tokens"]] for s in made["samples"]] == [
        [t["id"] for t in s["tokens"]] for s in alone["samples"]
    ]
    assert made["prompt"]["tokens"][3]["logprob"] == alone["prompt"]["tokens"][3]["logprob"]


def test_a_continuation_beside_another_goes_on_as_the_same_sample(visitor):
    root = visitor.start("the old king", max_new_tokens=6, samples=3)
    visitor.finish(root)
    child = visitor.post(f"{root}/continue", data={"sample": "2"}).headers["Location"]
    visitor.finish(child)
    _, second = beside(visitor, child)
    assert visitor.finish(second)["first_sample"] == 2


def test_whoever_asks_for_the_second_text_owns_it(visitor, friend):
    run = visitor.start("mine", model="slow", max_new_tokens=4096)
    _, second = beside(friend, run)
    assert visitor.post(f"{second}/stop").status_code == 422
    assert friend.post(f"{run}/stop").status_code == 422
    assert friend.post(f"{second}/stop").status_code == 303
    visitor.post(f"{run}/stop")


def test_both_texts_stand_on_one_page_each_with_ids_of_its_own(visitor):
    run = visitor.start("the old king", max_new_tokens=8)
    first = visitor.finish(run)
    page, second = beside(visitor, run)
    other = visitor.finish(second)
    answer = visitor.get(page).text
    ids = re.findall(r' id="([^"]+)"', answer)
    assert len(ids) == len(set(ids))
    assert {"a-prompt", "b-prompt", "a-sample-0", "b-sample-0"} <= set(ids)
    assert stories(answer) == [pictured("the old king" + made["samples"][0]["text"]) for made in (first, other)]


def test_a_stream_speaks_to_the_elements_of_its_own_column(visitor):
    run = visitor.start("x", max_new_tokens=9, samples=2)
    visitor.finish(run)
    events = parse_events(visitor.get(f"{run}/events?bare&prompt&at=b-").text)
    targets = set(re.findall(r'hx-target="([^"]+)"', " ".join(e["data"] for e in events)))
    assert targets == {"#b-sample-0", "#b-sample-1", "#b-status", "#b-prompt"}
    assert visitor.get(f'{run}/events?at="><script>').status_code == 400


def test_the_first_text_may_still_be_written(visitor):
    run = visitor.start("x", model="slow", max_new_tokens=4096)
    page, second = beside(visitor, run, "tiny")
    visitor.post(f"{second}/stop")
    visitor.finish(second)
    answer = visitor.get(page).text
    assert "at=a-" in answer
    assert "at=b-" not in answer
    answer = visitor.post(f"{run}/shift", data={"model": "tiny"})
    assert answer.status_code == 422
    assert "still being written" in answer.text
    visitor.post(f"{run}/stop")


@pytest.mark.parametrize("action", ["beside", "shift"])
@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("cousin", "cousin has other tokens than tiny"),
        ("tiny", "tiny is the model that this run has already"),
        ("nobody", "There is no model called &#39;nobody&#39; here"),
        ("", "There is no model called"),
    ],
)
def test_models_that_cannot_be_compared_are_refused_in_one_sentence(visitor, action, model, why):
    run = visitor.start("x", max_new_tokens=2)
    visitor.finish(run)
    answer = visitor.post(f"{run}/{action}", data={"model": model})
    assert answer.status_code == 422
    assert why in answer.text


def test_only_models_with_the_same_tokens_are_offered(app, visitor):
    run = visitor.start("x", max_new_tokens=2)
    offered = re.findall(r"<option>(\w+)</option>", visitor.get(run).text)
    assert offered == ["other", "slow"]


def test_a_model_of_the_same_weights_is_neither_offered_nor_taken(visitor, models):
    twin = shutil.copytree(models / "tiny", models / "twin")
    try:
        run = visitor.start("x", max_new_tokens=2)
        visitor.finish(run)
        assert "<option>twin</option>" not in visitor.get(run).text
        for action in ("beside", "shift"):
            answer = visitor.post(f"{run}/{action}", data={"model": "twin"})
            assert answer.status_code == 422
            assert "twin is the model that this run has already" in answer.text
    finally:
        shutil.rmtree(twin)


def test_a_model_whose_weights_are_not_those_it_claims_is_not_offered_and_breaks_no_page(visitor, models):
    changed = shutil.copytree(models / "other", models / "changed")
    try:
        (changed / "rubric.json").write_text('{"format": 1, "fingerprint": "0000"}')
        run = visitor.start("x", max_new_tokens=2)
        assert "<option>changed</option>" not in visitor.get(run).text
        visitor.finish(run)
        assert (
            "is not the file that rubric.json describes"
            in visitor.post(f"{run}/beside", data={"model": "changed"}).text
        )
    finally:
        shutil.rmtree(changed)


@pytest.mark.parametrize("part", ["beside", "shift"])
def test_a_page_for_two_is_only_there_for_two_that_belong_together(visitor, part):
    one, two = (visitor.start("x", max_new_tokens=2) for _ in range(2))
    assert visitor.get(f"{one}/{part}/{two[3:]}").status_code == 404
    assert visitor.get(f"{one}/{part}/nothing").status_code == 404


def test_borders_lie_at_factors_of_two_five_and_twenty():
    assert [degree(math.log(f)) for f in (1, 1.99, 2.01, 4.99, 5.01, 19.9, 20.1, 1e9)] == [
        "same",
        "same",
        "more1",
        "more1",
        "more2",
        "more2",
        "more3",
        "more3",
    ]
    assert [degree(-math.log(f)) for f in (1.99, 2.01, 5.01, 1e9)] == ["same", "less1", "less2", "less3"]
    assert degree(math.nan) == "unknown"


def test_a_shift_is_the_difference_of_what_both_models_say(visitor, writer):
    run = visitor.start("the old king said", max_new_tokens=30, temperature=1.5, top_k=0)
    made = visitor.finish(run)
    page, second = shift(visitor, run)
    read = visitor.finish(second)
    ids = [t["id"] for t in made["prompt"]["tokens"] + made["samples"][0]["tokens"]]
    assert [t["id"] for t in read["prompt"]["tokens"]] == ids
    assert read["parent"] == {"id": run[3:], "sample": 0, "relation": "score"}

    def alone(model):
        log = finished(writer.submit(model=model, ids=ids, max_new_tokens=0))
        return log.prompt["logprob"].astype(np.float64)

    moved = alone("other") - alone("tiny")
    vocabulary = find_model(writer.engine.models, "tiny").tokenizer.vocabulary
    shifts = {cell.start: moved[cell.start : cell.end].sum() for cell in cells(np.array(ids), vocabulary)}
    answer = visitor.get(page).text
    assert degrees(answer) == [degree(one) for one in shifts.values()]
    mean = moved[1:].mean()
    assert f"{abs(mean):.2f} nats a token {'likelier' if mean > 0 else 'less likely'} than tiny" in answer
    own = -alone("tiny")[1:].mean()
    assert f"against {math.exp(own):,.0f}, over {len(ids) - 1} tokens" in answer
    listed = re.findall(r'<a href="#t(\d+)">', answer)
    assert listed == [str(start) for start in sorted(list(shifts)[1:], key=lambda start: -abs(shifts[start]))[:10]]
    assert all(f'id="t{n}"' in answer for n in listed)


@pytest.mark.parametrize("prompt", [TRICKY, "🦊" * 30, "", "<b>\n\n&amp; x"])
def test_a_shift_shows_any_text_as_it_is(visitor, prompt):
    run = visitor.start(prompt, max_new_tokens=20, temperature=3, top_k=0)
    visitor.finish(run)
    page, second = shift(visitor, run)
    visitor.finish(second)
    answer = visitor.get(page).text
    assert "<script>alert" not in answer
    assert stories(answer) == [pictured(visitor.get(f"{run}.txt").text)]


def test_what_a_stop_string_hides_is_not_judged(visitor):
    said = visitor.finish(visitor.start("the old king", max_new_tokens=60, seed=3))["samples"][0]["tokens"]
    stop = next(token["token"] for token in said[5:] if token["token"].isascii() and token["token"].isprintable())
    run = visitor.start("the old king", max_new_tokens=60, seed=3, stop=stop)
    made = visitor.finish(run)["samples"][0]
    assert made["finish_reason"] == "stop"
    page, second = shift(visitor, run)
    visitor.finish(second)
    assert stories(visitor.get(page).text) == [pictured("the old king" + made["text"])]


def test_a_text_is_read_once_by_each_model(visitor, friend):
    run = visitor.start("the old king", max_new_tokens=8)
    visitor.finish(run)
    page, second = shift(visitor, run)
    visitor.finish(second)
    assert shift(friend, run)[0] == page
    assert shift(friend, run, "slow")[0] != page


def test_a_page_waits_for_the_second_model_and_then_asks_no_more(visitor, app, monkeypatch):
    run = visitor.start("the old king", max_new_tokens=8)
    visitor.finish(run)
    page, second = shift(visitor, run)
    visitor.finish(second)
    from webapp.state import State

    assert "every 500ms" not in visitor.get(page).text
    found = State.look

    def still_reading(self, asked):
        view = found(self, asked)
        if asked.relation == "score":
            view.log.state = "reading"
        return view

    monkeypatch.setattr(State, "look", still_reading)
    answer = visitor.get(page).text
    assert "every 500ms" in answer
    assert "Reading the prompt" in answer


def test_a_reading_goes_with_the_text_it_read(visitor, friend):
    run = visitor.start("the old king", max_new_tokens=4)
    visitor.finish(run)
    page, second = shift(friend, run)
    friend.finish(second)
    assert second not in friend.get("/runs").text
    visitor.post(f"{run}/delete")
    assert friend.get(second).status_code == 410
    assert friend.get(page).status_code == 410


def column(window, at: str) -> str:
    """What the page shows of one text's continuation."""
    return window.page.evaluate(f"document.getElementById('{at}-sample-0').textContent")


@pytest.mark.long
def test_both_columns_are_written_live_and_then_compared(window):
    page, server = window.page, window.server
    run = window.write("The old king", model="slow", max_new_tokens=4096)
    page.click("summary:has-text('Another model')")
    page.select_option(".compare select", "tiny")
    page.click("text=Write beside this")
    page.wait_for_url("**/beside/*")
    sizes = [len(column(window, at)) for at in "ab"]
    until(lambda: all(len(column(window, at)) > size + 20 for at, size in zip("ab", sizes, strict=True)))
    page.click("[aria-label='Stop slow']")
    page.click("[aria-label='Stop tiny']")
    until(lambda: page.locator("article.over").count() == 2)
    second = f"{server.url}/r/{page.url.split('/')[-1]}"
    for at, one in (("a", run), ("b", second)):
        assert column(window, at) == pictured(window.stored(one)["samples"][0]["text"])
    page.click("text=tiny reads slow")
    page.wait_for_selector(".moved-most")
    assert page.locator(".moved-most tbody tr").count() == 10


@pytest.mark.long
def test_what_moved_can_be_asked_for_on_a_run_s_page(window):
    page = window.page
    window.write("The old king", model="tiny", max_new_tokens=20)
    window.wait_until_over()
    page.click("summary:has-text('Another model')")
    page.select_option(".compare select", "other")
    page.click("text=Show what moved")
    page.wait_for_url("**/shift/*")
    page.wait_for_selector(".moved-most")
    assert "other finds this text" in page.inner_text(".verdict")
