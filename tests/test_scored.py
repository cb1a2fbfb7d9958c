"""A text that is given whole and only read: its numbers are those of `transformers`, and the page says them in a line."""

import math
import re
import urllib.request

import numpy as np
import pytest
from browser import Window, opened, unfold
from conftest import TRICKY
from waiting import until

from generate import Vocabulary, unknown_records, window_start
from webapp.views.surprise import least_expected, rounded, verdict


@pytest.fixture(scope="module")
def reference(models):
    """log p of each token of a text given what is before it in the model's window, computed one by one."""
    import torch
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(models / "tiny").eval()

    def logprobs(ids: list[int]) -> np.ndarray:
        found = [math.nan]
        for place in range(1, len(ids)):
            window = ids[window_start(place, model.config.n_positions) : place]
            with torch.inference_mode():
                logits = model(torch.tensor([window])).logits[0, -1].double()
            found.append(float(torch.log_softmax(logits, -1)[ids[place]]))
        return np.array(found)

    return logprobs


def read(visitor, text: str, **fields) -> str:
    """Send the form with its second button; returns the run's address."""
    return visitor.start(text, read="only", **fields)


@pytest.mark.parametrize("text", ["the old king said to the young fox", TRICKY, "one two three " * 40])
def test_every_token_has_the_probability_that_transformers_gives_it(visitor, reference, text):
    made = visitor.finish(read(visitor, text))
    assert made["prompt"]["text"] == text.replace("\r\n", "\n")
    tokens = made["prompt"]["tokens"]
    assert tokens[0]["logprob"] is None
    expected = reference([token["id"] for token in tokens])
    found = [token["logprob"] for token in tokens[1:]]
    assert np.abs(np.array(found) - expected[1:]).max() < 2e-4
    assert all(token["rank"] and len(token["alternatives"]) == 10 for token in tokens[1:])
    assert made["samples"] == [{"text": "", "finish_reason": "length", "error": None, "tokens": []}]


@pytest.mark.parametrize("text", ["the old king said to the young fox", "one two three " * 40])
def test_the_page_says_perplexity_and_bits_per_byte(visitor, reference, text):
    run = read(visitor, text)
    ids = [token["id"] for token in visitor.finish(run)["prompt"]["tokens"]]
    loss = -reference(ids)[1:]
    first = len(visitor.json(run)["prompt"]["tokens"][0]["bytes"])
    bits = loss.sum() / math.log(2) / (len(text.encode()) - first)
    said = re.search(
        r"Read: ([\d,]+) tokens\. To tiny each was on average a choice among ([\d,.]+) "
        r"\(perplexity ([\d,.]+), ([\d.]+) bits per byte\); the least expected word was “(.+?)”\.",
        visitor.get(run).text,
    )
    assert said[1] == f"{len(ids):,}"
    assert float(said[2].replace(",", "")) == pytest.approx(math.exp(loss.mean()), rel=0.06)
    assert float(said[3].replace(",", "")) == pytest.approx(math.exp(loss.mean()), rel=6e-3)
    assert float(said[4]) == pytest.approx(bits, abs=6e-3)
    least = bytes(visitor.json(run)["prompt"]["tokens"][1 + loss.argmax()]["bytes"]).decode().strip()
    assert least in said[5]
    assert said[5] in text.split()


def test_a_text_that_was_read_opens_with_its_surprises_shaded_and_one_that_was_written_with_its_inks(visitor):
    for run, lens in ((read(visitor, "the old king"), "probability"), (visitor.start("the old king"), "author")):
        visitor.finish(run)
        assert re.findall(r'name="lens" value="(\w+)" checked', visitor.get(run).text) == [lens]


def test_only_reading_needs_one_sample_whatever_the_form_says(visitor):
    run = read(visitor, "the old king", samples=4, max_new_tokens=50)
    options = visitor.finish(run)["options"]
    assert (options["max_new_tokens"], options["samples"]) == (0, 1)


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_page_is_not_read_and_says_what_to_do(visitor, text):
    answer = visitor.post("/runs", data={"prompt": text, "model": "tiny", "read": "only"})
    assert answer.status_code == 422
    assert "Write something first: then it can tell how surprising it is." in answer.text
    assert 'id="prompt"' in answer.text, "the form is there again"
    assert "/r/" not in visitor.get("/runs").text, "no run was made"


def test_a_text_of_one_token_has_no_surprises(visitor):
    run = read(visitor, "t")
    visitor.finish(run)
    assert "Read: 1 token. Nothing came before it that could predict it." in visitor.get(run).text


def test_a_text_that_was_read_can_be_written_on(visitor):
    run = read(visitor, "the old king said")
    visitor.finish(run)
    child = visitor.post(f"{run}/continue").headers["Location"]
    visitor.events(child)
    made = visitor.json(child)
    assert made["prompt"]["text"] == "the old king said"
    assert len(made["samples"][0]["tokens"]) == 200
    assert 'max_new_tokens" value=""' in visitor.get(f"/?parent={run[3:]}").text


class Page:
    """As much of a run's view as a verdict needs."""

    def __init__(self, logprobs, tokens):
        self.vocabulary = Vocabulary(tokens)
        self.log = type("Log", (), {"prompt": unknown_records(range(len(tokens)), 300)})
        self.log.prompt["logprob"] = logprobs


def test_a_verdict_counts_what_was_predicted():
    half, quarter = math.log(0.5), math.log(0.25)
    assert verdict(Page([math.nan, half, half], [b"ab", b"cd", b"e"]), "tiny") == (
        "Read: 3 tokens. To tiny each was on average a choice among 2.0 (perplexity 2.00, 0.67 bits per byte); "
        "the least expected word was “abcde”."
    )
    assert verdict(Page([math.nan, quarter], [b"", b"ab"]), "tiny").startswith(
        "Read: 2 tokens. To tiny each was on average a choice among 4.0 (perplexity 4.00, 1.00 bits per byte)"
    )
    assert verdict(Page([math.nan, half], [b"a", b""]), "tiny") == (
        "Read: 2 tokens. To tiny each was on average a choice among 2.0 (perplexity 2.00)."
    )
    assert verdict(Page([math.nan], [b"a"]), "tiny") == "Read: 1 token. Nothing came before it that could predict it."


@pytest.mark.parametrize(("tokens", "told"), [
    (["the", " gi", ">ant", ",", " said"], "word was “giant”"),
    (["the", " king", ">,", " and"], "sign was “,”"),
    (["the", ">\n\n", "king"], "was a line break"),
    (["the", "> ", " king"], "was a space"),
    (["the", " don", ">’t", " go"], "word was “don’t”"),
    (["从前", ">有一", "只狐狸"], "word was “有一”"),
    (["ab", ">" + "c" * 30, "d"], f"word was “{'c' * 30}”"),
    (["a", ">\x07"], ""),
])  # fmt: skip
def test_the_least_expected_is_told_as_the_word_the_sign_or_the_break_that_it_stands_in(tokens, told):
    logprobs = [math.nan, *(-9 if token.startswith(">") else -1 for token in tokens[1:])]
    page = Page(logprobs, [token.removeprefix(">").encode() for token in tokens])
    assert least_expected(page.log.prompt, page.vocabulary) == told


def test_half_of_a_character_is_told_as_the_whole_one():
    fox = "狐".encode()
    page = Page([math.nan, -1, -9, -1], [b"a ", fox[:1], fox[1:], b" b"])
    assert least_expected(page.log.prompt, page.vocabulary) == "word was “狐”"
    page = Page([math.nan, -9, -1, -1], [b"a ", fox[:1], fox[1:], b" b"])
    assert least_expected(page.log.prompt, page.vocabulary) == "word was “狐”"


def test_perplexities_are_rounded_as_people_read_them():
    assert [rounded(p) for p in (1.0, 9.876, 23.44, 99.94, 99.96, 1234.5, 2e7)] == [
        "1.00",
        "9.88",
        "23.4",
        "99.9",
        "100",
        "1,234",
        "2.0e+07",
    ]


@pytest.mark.long
@pytest.mark.parametrize("script", [True, False], ids=["by htmx", "without scripts"])
def test_the_second_button_only_reads(browser, server, script):
    window = Window(browser, server, java_script_enabled=script)
    window.page.goto(server.url + "/?prompt=The+old+king")
    if script:
        unfold(window.page)
    window.page.click("text=How surprising is my text?")
    window.page.wait_for_url("**/r/*")
    urllib.request.urlopen(f"{window.page.url}/events").read()  # to its end
    window.page.reload()
    assert "Read: " in window.page.inner_text("#status")
    assert window.page.is_checked("[name=lens][value=probability]")
    window.context.close()


def test_in_a_sheet_an_empty_page_gets_a_hint_until_something_is_typed(browser, server):
    with opened(browser, server) as window:
        window.type("  ")
        unfold(window.page)
        window.page.click("text=How surprising is my text?")
        hint = "Write something first: then it can tell how surprising it is."
        assert window.page.inner_text("#sheet-status") == hint
        assert not [address for address in window.asked if address.endswith("/runs")]
        window.page.focus(".cm-content")
        window.page.keyboard.insert_text("Once")
        until(lambda: window.page.inner_text("#sheet-status") != hint)
