"""A text that is given whole and only read: its numbers are those of `transformers`, and the page says them in a line."""

import math
import re
import urllib.request

import numpy as np
import pytest
from browser import Window
from conftest import TRICKY

from generate import Vocabulary, unknown_records, window_start
from webapp.views.sentences import rounded, verdict


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
    said = re.search(r"Read: ([\d,]+) tokens\. Perplexity ([\d,.]+), ([\d.]+) bits per byte\.", visitor.get(run).text)
    assert said[1] == f"{len(ids):,}"
    assert float(said[2].replace(",", "")) == pytest.approx(math.exp(loss.mean()), rel=6e-3)
    assert float(said[3]) == pytest.approx(bits, abs=6e-3)


def test_only_reading_needs_one_sample_whatever_the_form_says(visitor):
    run = read(visitor, "the old king", samples=4, max_new_tokens=50)
    options = visitor.finish(run)["options"]
    assert (options["max_new_tokens"], options["samples"]) == (0, 1)


def test_an_empty_page_has_nothing_to_be_read(visitor):
    run = read(visitor, "")
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
    assert verdict(Page([math.nan, half, half], [b"ab", b"cd", b"e"])) == (
        "Read: 3 tokens. Perplexity 2.00, 0.67 bits per byte."
    )
    assert verdict(Page([math.nan, quarter], [b"", b"ab"])) == "Read: 2 tokens. Perplexity 4.00, 1.00 bits per byte."
    assert verdict(Page([math.nan, half], [b"a", b""])) == "Read: 2 tokens. Perplexity 2.00."
    assert verdict(Page([math.nan], [b"a"])) == "Read: 1 token. Nothing came before it that could predict it."


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


@pytest.mark.parametrize("script", [True, False], ids=["by htmx", "without scripts"])
def test_the_second_button_only_reads(browser, server, script):
    window = Window(browser, server, java_script_enabled=script)
    window.page.goto(server.url)
    window.page.fill("#prompt", "The old king")
    window.page.click("text=Only read it")
    window.page.wait_for_url("**/r/*")
    urllib.request.urlopen(f"{window.page.url}/events").read()  # to its end
    window.page.reload()
    assert "Read: " in window.page.inner_text("#status")
    window.context.close()
