"""The page of a model that finetune made: how it was trained, in words and as a curve, whatever run.json holds."""

import copy
import json
import math
import re
import shutil
import xml.etree.ElementTree as ElementTree
from difflib import ndiff
from html import unescape

import numpy as np
import pytest
from conftest import make_model, text_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from webapp.views.curve import POINTS, Loss, draw, loss_ticks, step_ticks, thinned
from webapp.views.training import FOLDED, SHOWN, read_training

SHA = "ab12" * 16
RUN = {
    "format": 1,
    "state": "done",
    "model": {"name": "storyteller", "fingerprint": "cd34" * 16},
    "data": [{"name": "friends.txt", "bytes": 48211, "sha256": SHA}],
    "validation_data": [],
    "documents": {"train": 90, "validation": 10, "test": 0},
    "tokens": {"train": 12345, "validation": 1200, "test": 0},
    "options": {"learning_rate": 5e-05, "batch_size": 8, "pack": True, "lora": None, "stop": ["a", 1]},
    "command": "python -m finetune friends.txt --model models/storyteller --out models/friends",
    "device": "cpu",
    "precision": "float32",
    "started": "2026-11-21T18:30:00+00:00",
    "seconds": 812.5,
    "steps": 300,
    "history": [{"step": step, "loss": 3 + 60 / (step + 60), "learning_rate": 5e-5} for step in range(10, 301, 10)],
    "evaluations": [
        {"step": 0, "part": "validation", "loss": 3.6, "perplexity": 36.6, "bits_per_byte": 1.31},
        {"step": 150, "part": "validation", "loss": 3.2, "perplexity": 24.53},
        {"step": 300, "part": "validation", "loss": 3.0587, "perplexity": 21.3, "bits_per_byte": 1.11},
    ],
    "samples": [
        {"step": step, "prompt": "The fox", "text": f" came back at {step}", "finish_reason": "length"}
        for step in range(0, 301, 50)
    ],
}
SENTENCE = (
    "Trained from storyteller on friends.txt (90 documents, 12,345 tokens) in 14 minutes. "
    "Perplexity on held-out text went from 36.6 to 21.3."
)
ODD = [None, True, "x", "", -1, 0.5, 10**400, math.nan, math.inf, [], {}, [None, 7, "x", [], {}], "\ud83d", "<b>"]


@pytest.fixture(scope="module")
def trained(models):
    """models/friends, to be given a run.json."""
    yield make_model(models / "friends", seed=7)
    shutil.rmtree(models / "friends")


@pytest.fixture
def page(trained, visitor):
    """The page of models/friends with a run.json of some value, or of some text, or without one."""

    def get(run: object) -> str:
        file = trained / "run.json"
        file.unlink(missing_ok=True)
        if run is not None:
            file.write_text(run if isinstance(run, str) else json.dumps(run))
        answer = visitor.get("/models/friends")
        assert answer.status_code == 200, answer.text
        return re.sub(r'name="nonce" value="[^"]+"', "", answer.text)  # another each time

    return get


def without(*keys, **changes) -> dict:
    return {key: value for key, value in RUN.items() if key not in keys} | changes


def plot(html: str) -> ElementTree.Element:
    """The curve as an XML parser sees it."""
    return ElementTree.fromstring(html[html.index('<svg class="curve"') : html.rindex("</svg>") + 6])


def sentence(**changes) -> str:
    return read_training(without(**changes)).sentence


# What the page says


def test_a_page_says_how_its_model_was_trained(page):
    html = page(RUN)
    assert SENTENCE in html
    assert RUN["command"] in html
    assert SHA in html
    assert "3.059 nats a token, 1.110 bits a byte; before training 3.600 nats" in html
    assert "21 November 2026, 18:30 UTC" in html
    facts = dict(re.findall(r"<dt>(\w+)</dt><dd>(.*?)</dd>", html))
    assert facts["learning_rate"] == "5e-05"
    assert (facts["pack"], facts["lora"], facts["stop"]) == ("yes", "none", "a, 1")


def test_a_page_without_run_json_is_as_it_was(page):
    before, after = page(None), page(RUN)
    assert "curve" not in before
    assert not [line for line in ndiff(before.splitlines(), after.splitlines()) if line[0] == "-" and line[2:].strip()]
    assert page({}) == before, "an empty one says nothing"


def test_the_plot_says_its_numbers_to_those_who_cannot_see_it(page):
    svg = plot(page(RUN))
    assert svg.get("role") == "img"
    names = {part.get("id"): part.text for part in svg if part.get("id")}
    assert " ".join(names) == svg.get("aria-labelledby")
    assert "on held-out text it went from 3.60 at step 0 to 3.06 at step 300" in names["curve-text"]
    assert "while training it went from 3.86 at step 10 to 3.17 at step 300" in names["curve-text"]


def test_nothing_in_the_page_needs_what_its_security_policy_forbids(page):
    html = page(RUN)
    assert not re.search(r"\sstyle=|<style|\son\w+=", html)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": None}, "Trained from nothing on friends.txt"),
        ({"model": {}}, "Trained on friends.txt"),
        ({"data": [{"name": "a"}, {"name": "b"}]}, "on a and b ("),
        ({"data": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}, "on a, b and c ("),
        ({"data": [{"name": str(n)} for n in range(2000)]}, "on 0, 1 and 1,998 other files ("),
        ({"documents": {"train": 1}, "tokens": {"train": 1}}, "(1 document, 1 token)"),
        ({"documents": None, "tokens": None}, "friends.txt in 14"),
        ({"seconds": 0.2}, "in 1 second."),
        ({"seconds": 61}, "in 61 seconds."),
        ({"seconds": 7200}, "in 2.0 hours."),
        ({"seconds": None}, "tokens). Perplexity"),
        ({"state": "stopped"}, "21.3. It was stopped before its last step."),
        ({"evaluations": []}, "in 14 minutes."),
        ({"evaluations": RUN["evaluations"][:1]}, "Perplexity on held-out text was 36.6 before."),
        ({"evaluations": RUN["evaluations"][2:]}, "Perplexity on held-out text is 21.3."),
        ({"evaluations": RUN["evaluations"][1:]}, "went from 24.5 at step 150 to 21.3."),
        ({"evaluations": RUN["evaluations"][:1] * 2}, "stayed at 36.6."),
        ({"evaluations": [{"step": 9, "part": "validation", "loss": 9.0109}]}, "is 8,192."),
        ({"evaluations": [{"step": 9, "part": "test", "loss": 1, "perplexity": 2.718}]}, "on test text is 2.72."),
    ],
)
def test_the_sentence_says_what_is_known(changes, words):
    assert words in sentence(**changes)
    assert sentence(**changes).endswith(".")


# Samples


def test_the_newest_samples_stand_first_and_the_others_are_folded_away(page):
    html = page(RUN)
    assert re.findall(r"<h3>Step (\d+)", html) == ["300", "250", "200", "150", "100", "50", "0"]
    open_ones = html[: html.index("Earlier samples")]
    assert open_ones.count("<h3>") == SHOWN


def test_a_sample_s_text_is_escaped_and_keeps_its_lines(page):
    text = "one <script>alert(1)</script>\n\n  two & “three”\t🦊 \x1b[31m"
    html = page(without(samples=[{"step": 1, "prompt": "<i>\n", "text": text, "finish_reason": "end"}]))
    assert "<script>alert" not in html
    assert "<i>" not in html
    said = html.split('class="continuation">')[1].split("</span>")[0]
    assert unescape(said) == text.replace("\x1b", "␛")
    assert text_of(f'<hx-partial hx-target="#sample-0">{said}') == text.replace("\x1b", "␛")
    assert ", ended by itself" in html


def test_of_thousands_of_samples_a_few_are_shown_from_the_last_to_the_first():
    made = read_training({"samples": [{"step": n, "text": "x"} for n in range(5000)]})
    assert [one.step for one in made.shown] == [4999, 4998, 4997]
    assert (len(made.folded), made.folded[0].step, made.folded[-1].step) == (FOLDED, 4996, 0)


# The curve


def test_losses_become_places_in_the_plot_where_its_ticks_say_they_are(page):
    """Second opinion: each place is read off the drawn ticks by a straight line fitted through them."""
    svg = plot(page(RUN))
    rules = [float(line.get("y1").rstrip("%")) for line in svg.iter("line")]
    words = [text.text for text in svg.iter("text") if text.get("class") == "loss"][: len(rules)]
    loss_at = np.polynomial.Polynomial.fit(rules, [float(word) for word in words], 1)
    marks = [text for text in svg.iter("text") if text.get("class") == "step"]
    step_at = np.polynomial.Polynomial.fit(
        [float(mark.get("x").rstrip("%")) for mark in marks], [float(mark.text) for mark in marks], 1
    )
    training, held = (line.get("points").split() for line in svg.iter("polyline"))
    for drawn, entries in ((training, RUN["history"]), (held, RUN["evaluations"])):
        places = np.array([[float(number) for number in point.split(",")] for point in drawn])
        assert step_at(places[:, 0]) == pytest.approx([entry["step"] for entry in entries], abs=0.05)
        assert loss_at(places[:, 1]) == pytest.approx([entry["loss"] for entry in entries], abs=1e-4)
    dots = [f"{float(dot.get('cx')[:-1]):g},{float(dot.get('cy')[:-1]):g}" for dot in svg.iter("circle")]
    assert dots == held


def test_a_curve_of_one_point_is_a_dot(page):
    svg = plot(page({"history": [{"step": 7, "loss": 3.2}]}))
    (dot,) = svg.iter("circle")
    assert (dot.get("cx"), dot.get("cy")) == ("100.0%", "50.0%")
    assert draw([Loss(0, 0.0)], []).lines[0].points == [(0, 100)], "even a loss of nothing at step 0"


def test_where_there_is_no_loss_there_is_no_plot(page):
    html = page(without("history", "evaluations"))
    assert "<svg" not in html
    assert "Trained from storyteller" in html


def test_ten_thousand_points_stay_a_small_page(page):
    noise = np.random.default_rng(1).normal(0, 0.2, 10_000)
    history = [{"step": n + 1, "loss": 4 - n / 10_000 + float(noise[n])} for n in range(10_000)]
    html = page(without(history=history))
    assert len(html.encode()) < 20_000
    assert len(plot(html).find(".//polyline").get("points").split()) == POINTS


def test_a_long_line_is_drawn_by_the_means_of_neighbours():
    steps, found = np.arange(9000.0), np.random.default_rng(1).uniform(0, 9, 9000)
    drawn = thinned([Loss(*one) for one in zip(steps.tolist(), found.tolist(), strict=True)])
    assert [one.step for one in drawn] == pytest.approx(steps.reshape(POINTS, 30).mean(1))
    assert [one.loss for one in drawn] == pytest.approx(found.reshape(POINTS, 30).mean(1))
    odd = thinned([Loss(n, 1.0) for n in range(301)])
    assert (len(odd), odd[0].step, odd[-1].step) == (POINTS, 0, 299.5), (
        "none is lost where they cannot be shared evenly"
    )


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 10**9))
def test_ticks_are_few_and_round_and_hold_all_losses(found, last):
    ticks, marks = loss_ticks(found), step_ticks(last)
    assert 2 <= len(ticks) <= 6
    assert ticks[0] <= min(found) + 1e-6
    assert ticks[-1] >= max(found) - 1e-6
    assert 2 <= len(marks) <= 5
    assert marks[-1] <= last
    for step in (ticks[1] - ticks[0], marks[1]):
        assert f"{step:.0e}"[0] in "125"


@given(st.lists(st.floats(0, 20), min_size=2, max_size=2))
def test_the_names_of_two_lines_never_touch(ends):
    first, second = draw([Loss(1, ends[0])], [Loss(1, ends[1])]).lines
    assert abs(first.label - second.label) >= 6.9
    assert min(first.label, second.label) >= 0
    assert max(first.label, second.label) <= 100
    assert (first.label < second.label) == (first.points[-1][1] < second.points[-1][1]) or first.points == second.points


# Broken files


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '"x"', "null", "[" * 100_000, '{"steps": ' + "9" * 5000 + "}"])
def test_a_file_that_is_no_json_object_is_named_and_the_page_is_there(page, text):
    html = page(text)
    assert "friends: run.json" in html
    assert "Write with it" in html


@pytest.mark.parametrize("key", RUN)
def test_any_key_may_be_missing_or_odd_and_the_rest_is_shown(page, key):
    assert "Write with it" in page(without(key))
    for odd in ODD:
        assert "Write with it" in page(without(**{key: odd}))


def test_odd_options_are_left_out_and_the_others_shown():
    made = read_training({"options": {str(n): odd for n, odd in enumerate(ODD)} | {"\ud83d": 1}})
    shown = {fact.name: fact.words for fact in made.facts}
    assert shown == {"0": "none", "1": "yes", "2": "x", "3": "", "4": "-1", "5": "0.5", "9": "none"} | {
        "11": "none, 7, x",
        "12": "?",
        "13": "<b>",
        "?": "1",
    }


def test_a_file_in_another_order_gives_the_same_page():
    turned = without(**{key: RUN[key][::-1] for key in ("history", "evaluations", "samples")})
    assert read_training(turned) == read_training(RUN)


def test_odd_entries_are_left_out_and_the_others_shown():
    odd = [*ODD, *({"step": one, "loss": one, "text": one, "name": one, "part": one} for one in ODD if one != 0.5)]
    whole = copy.deepcopy(RUN)
    for key in ("history", "evaluations", "samples", "data"):
        whole[key] = [*odd[:9], *whole[key], *odd[9:]]
    made = read_training(whole)
    assert made.curve == read_training(RUN).curve
    assert made.shown == read_training(RUN).shown
    assert "went from 36.6 to 21.3" in made.sentence


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5)
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner))
entry = st.fixed_dictionaries(
    {},
    optional={
        key: scalars | st.sampled_from(["validation", 3.5, 10])
        for key in ("step", "part", "loss", "perplexity", "bits_per_byte", "prompt", "text", "name", "bytes", "train")
    },
)
runs = st.fixed_dictionaries({}, optional={key: anything | entry | st.lists(entry, max_size=4) for key in RUN})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs)
def test_whatever_the_file_holds_there_is_a_page(page, run):
    html = page(run)
    assert "Write with it" in html
    assert "nan" not in "".join(re.findall(r'points="[^"]*"', html))


def test_where_the_best_weights_were_kept_the_page_tells_of_those():
    told = read_training(
        {
            "evaluations": [{"step": n, "part": "validation", "loss": x} for n, x in ((0, 4.0), (5, 3.0), (10, 3.5))],
            "best_step": 5,
        }
    )
    assert "went from 54.6 to 20.1" in told.sentence
    assert "The weights of step 5 were the best, and were kept." in told.sentence
