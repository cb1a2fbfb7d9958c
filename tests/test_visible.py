"""Text of people and models outside the token view: controls are seen as pictures there, and no value breaks a page."""

import html
import json
import re
import shutil

import pytest

NASTY = "\x1b[31mred\x1b \x00 \x07 end"
SHOWN = "␛[31mred␛ ␀ ␇ end"


def test_titles_and_descriptions_show_controls_as_pictures(visitor):
    run = visitor.start(NASTY, max_new_tokens=2, temperature=0)
    visitor.finish(run)
    for address in (run, f"{run}/plain", "/runs"):
        page = visitor.get(address).text
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", page), address
    page = html.unescape(visitor.get(run).text)
    assert f"<title>{SHOWN}" in page
    assert f'<meta property="og:title" content="{SHOWN}…">' in page
    assert f'<h1 class="unseen" dir="auto">{SHOWN}</h1>' in page
    assert f'<meta name="description" content="{SHOWN}… Written in black' in page


def test_a_field_holds_its_controls_so_that_they_come_back(visitor):
    run = visitor.start("a \x1b b", max_new_tokens=2, stop="\x07")
    visitor.finish(run)
    page = visitor.get(f"/?parent={run[3:]}").text
    assert ">\na \x1b b</textarea>" in page
    assert ">\n\x07</textarea>" in page
    found = visitor.get("/runs?q=%1B").text
    assert 'value="\x1b"' in found
    assert "␛" in found


CERTIFICATES = [
    ({"verdict": "It reads well."}, ["It reads well."]),
    ({"tensors": 28}, ["28", "does not say what came of it"]),
    ({"verdict": "x", "loss": 2.5}, ["2.50 nats a token"]),
    (
        {"verdict": "x", "loss": 2.5, "chance": 8.1, "other_heads": {"1": 3.1}},
        ["chance is 8.10, with 1 head it would be 3.10"],
    ),
    ({"verdict": "x", "loss": 2.5, "other_heads": [1]}, ["2.50 nats"]),
    ({"verdict": "x", "loss": "much", "largest_difference": "small", "exact": "yes", "tensors": "all"}, ["x"]),
    ({"verdict": ["x"], "sample": "text"}, ["does not say what came of it"]),
    ({"verdict": "x", "largest_difference": None}, ["differ by more than can be told"]),
    ({"verdict": "x", "sample": {"text": "a \x1b b"}}, ["a ␛ b"]),
    ({"verdict": "half \ud800 a pair", "sample": {"prompt": 7, "text": "\udfff"}}, ["half ? a pair"]),
    ({"verdict": "x", "loss": float("nan"), "chance": float("inf"), "tensors": 10**400}, ["x"]),
    (["no object"], ["must hold a JSON object"]),
]


@pytest.mark.parametrize(("certificate", "told"), CERTIFICATES)
def test_a_certificate_with_anything_in_it_is_shown_as_far_as_it_goes(visitor, models, certificate, told):
    folder = shutil.copytree(models / "tiny", models / "certified")
    try:
        (folder / "certificate.json").write_text(json.dumps(certificate))
        page = visitor.get("/models/certified")
        assert page.status_code == 200
        for words in told:
            assert words in html.unescape(page.text)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("source", ["", "half \ud800 a pair", "\x1b[0m"])
def test_a_manifest_s_words_break_no_page(visitor, models, source):
    folder = shutil.copytree(models / "tiny", models / "odd")
    try:
        (folder / "rubric.json").write_text(json.dumps({"format": 1, "source": source}))
        for address in ("/models/odd", "/", "/?model=odd"):
            page = visitor.get(address)
            assert page.status_code == 200
            assert "\x1b" not in page.text
    finally:
        shutil.rmtree(folder)
