"""Scripts that join, stack or run to the left, on the preview card: against Chromium, and Pillow's own order of one text."""

import io
import itertools
import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from test_card import count, drawn, forget_typefaces, has_file, pixels, sheet

from webapp.views.card import directions, drawing, typefaces
from webapp.views.card.clusters import clusters
from webapp.views.card.drawing import LEFT, MODEL, PERSON, RIGHT, displayed, draw_card
from webapp.views.card.words import words

MIXED = "אבגדهوءدabcd123٤٥٦()[]%,.+-/:!$ \u200e\u200f"
HEBREW, ARABIC = "היה היה שועל קטן. ", "كان له صديق صغير. "
ORDER = """
texts => texts.map(text => {
  const line = document.createElement('p');
  line.style.cssText = 'white-space: pre; unicode-bidi: plaintext; font: 20px serif; width: max-content';
  line.textContent = text;
  document.body.append(line);
  const range = document.createRange(), found = [];
  for (let at = 0; at < text.length; at++) {
    range.setStart(line.firstChild, at);
    range.setEnd(line.firstChild, at + 1);
    const box = range.getBoundingClientRect();
    if (box.width) found.push([box.left + box.width / 2, text[at]]);
  }
  line.remove();
  return found.sort((a, b) => a[0] - b[0]).map(([, char]) => char).join('');
})
"""


def in_order(text: str, *cuts: int) -> str:
    """The characters of a card's line from left to right; at each cut the ink changes."""
    inks = itertools.cycle((PERSON, MODEL))
    ends = [0, *sorted(cuts), len(text)]
    parts = [(text[start:end], ink) for (start, end), ink in zip(itertools.pairwise(ends), inks, strict=False)]
    shown = "".join(run.text[:: -1 if run.level % 2 else 1] for run in displayed(words(parts)))
    return shown.replace("\u200d", "")


def ink_of(*parts: tuple[str, bool]) -> np.ndarray:
    """Of the sheet's pixels, which are written on."""
    return sheet(pixels(*parts))[4:-4, 4:-4].max(axis=2) < 200


def drawn_line(text: str) -> np.ndarray:
    """A line alone, black on white."""
    image = Image.new("L", (900, 120), 255)
    drawing.draw_line(ImageDraw.Draw(image), 30, 80, words([(text, PERSON._replace(colour="#000"))]), 49)
    return np.asarray(image)


# The order of display


@pytest.mark.long
def test_lines_are_ordered_as_chromium_orders_them(browser):
    """Each character occurs once in a text, so that its place can be found again."""
    dice = random.Random(1)
    texts = ["".join(dice.sample(MIXED, dice.randint(2, 24))).strip() for _ in range(400)]
    texts += ["a (ב) ג", "אב (xy) 12.5%", "abc אבג 1+2", "ولد [ab] ٤٥", "ab – אב, גד!"]
    lines = [(text, dice.choices(range(len(text) + 1), k=2)) for text in texts]
    page = browser.new_page()
    theirs = page.evaluate(ORDER, texts)
    page.close()
    for (text, cuts), order in zip(lines, theirs, strict=True):
        ours = "".join(char for char in in_order(text, *cuts) if char in order)
        assert [char for char in ours if char != " "] == [char for char in order if char != " "], (text, cuts)


@pytest.mark.parametrize("text", ["שלום", "سلام", "می‌خواهم", "السَّلَامُ", "سلام٤٥كتب،دار", "प्रश्न", "ที่ปู่"])
def test_one_typeface_and_ink_look_as_pillow_draws_the_text_by_itself(text):
    [run] = {run.file for run in displayed(words([(text, PERSON)]))}
    way = "rtl" if unicodedata.bidirectional(text[0]) in ("R", "AL") else "ltr"
    image = Image.new("L", (900, 120), 255)
    font = typefaces.face(run, 49, PERSON.weight)
    ImageDraw.Draw(image).text((30, 80), text, "#000", font, anchor="ls", direction=way)
    off = np.abs(drawn_line(text).astype(int) - np.asarray(image)) > 100
    assert off.sum() <= (0 if text.isalpha() else 40), "pieces begin at whole pixels, so that digits may shift by one"


def test_each_paragraph_runs_and_is_aligned_as_its_first_letter_says():
    for text, from_right in [(HEBREW, True), ("12 א fox", True), ("... fox " + HEBREW, False), ("12 \u200f fox", True)]:
        columns = np.flatnonzero(ink_of((text, False)).any(axis=0)) + 4 + drawing.EDGES[0]
        assert (abs(columns[-1] - RIGHT) < 8) == from_right, text
        assert (abs(columns[0] - LEFT) < 8) == (not from_right), text


def test_a_paragraph_that_lost_its_beginning_runs_as_before():
    _, lines = drawing.arranged([(HEBREW + "all the rest is English. " * 200, False), ("The End", True)])
    assert {word.base for line in lines for word in line} == {1}
    assert displayed(lines[0])[-1].text.endswith("…"), "the ellipsis stands on the right"
    _, lines = drawing.arranged([("A fox. " * 300 + "\n" + "the rest is English. " * 99, False), (HEBREW, True)])
    assert {word.base for line in lines for word in line} == {0}


def test_brackets_are_mirrored():
    assert drawn("א(") != drawn("א)")
    mirrored = [np.flatnonzero(drawn_line(text).min(axis=0) < 128) for text in ("(א", ")א")]
    assert not np.array_equal(*mirrored)
    [opening] = [run for run in displayed(words([("(א)", PERSON)])) if run.text == "("]
    assert opening.level == 1, "so that the shaper turns it"


def test_directions_of_embedding_and_override_are_left_out_and_marks_are_heeded():
    assert drawn("abc \u202eאב\u2067 d") == drawn("abc אב d")
    assert drawn("אב!") == drawn("אב!\u200f")
    assert drawn("x אב!") != drawn("x אב!\u200f")


# The seam of two inks


@pytest.mark.parametrize(("before", "after"), [("سل", "م"), ("صغ", "ير"), ("كَ", "تب")])
def test_letters_join_across_the_seam(before, after):
    """Where Arabic letters join, no white column parts the two inks; the widths are those of the whole word."""
    columns = np.flatnonzero(ink_of((before, False), (after, True)).any(axis=0))
    assert np.diff(columns).max() == 1
    alone = [sum(word.width for word in words([(text, PERSON)])) for text in (before, after)]
    [whole] = words([(before, PERSON), (after, PERSON)])
    [seamed] = words([(before, PERSON), (after, MODEL)])
    assert abs(seamed.width - whole.width) < abs(sum(alone) - whole.width) + 0.2


@pytest.mark.parametrize(
    ("before", "after"), [("سا", "م"), ("دار", "س"), ("של", "ום"), ("کتاب\u200c", "ها"), ("fo", "x")]
)
def test_letters_that_do_not_join_are_left_alone(before, after):
    [word] = words([(before, PERSON), (after, MODEL)])
    assert [run.text for run in word.runs] == [before, after]


@pytest.mark.parametrize(
    ("before", "after", "whole"),
    [("क", "ि", "कि"), ("क्", "ष", "क्ष"), ("ש", "ָׁ", "שָׁ"), ("ที", "่", "ที่"), ("e", "\u0301", "é"), ("ᄒ", "ᅡᆫ", "한")],
)
def test_what_is_drawn_as_one_has_the_ink_of_its_letter(before, after, whole):
    assert drawn(whole) == sheet(pixels((before, False), (after, True))).tobytes()
    assert count(sheet(pixels((before, True), (after, False))), PERSON.colour) == 0


# Where a line may end


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("क्षत्रिय", ["क्ष", "त्रि", "य"]),
        ("र्‍य क्‌ष", ["र्‍य", " ", "क्‌", "ष"]),
        ("ที่ปู่ผู้", ["ที่", "ปู่", "ผู้"]),
        ("שָׁלוֹם", ["שָׁ", "ל", "וֹ", "ם"]),
        ("ᄒᆞᆫ글", ["ᄒᆞᆫ", "글"]),
    ],
)
def test_clusters_are_those_of_unicode(text, found):
    assert clusters(text) == found


def test_thai_lines_end_between_syllables_marks_and_vowels_staying_with_their_letter():
    _, lines = drawing.arranged([("เด็กน้ำใจดีไปเที่ยวป่าและเขาทำให้แม่ยิ้ม" * 9, False)])
    texts = ["".join(run.text for word in line for run in word.runs) for line in lines]
    assert len(texts) > 4
    for text in texts:
        assert unicodedata.category(text[0]) != "Mn"
        assert text[0] not in "ะาำๅๆฯ"
        assert text[-1] not in "เแโใไ"
    assert all(len(text) > 0.8 * max(map(len, texts[:-1])) for text in texts[:-1]), "no line is left half empty"


@pytest.mark.parametrize("text", [HEBREW, ARABIC, "السَّلَامُ عَلَيْكُمْ ", "क्षत्रियों के जंगल ", "ที่ปู่ผู้ใหญ่ ", "여우가 살았습니다 "])
def test_lines_are_drawn_as_wide_as_they_were_measured(text):
    size, lines = drawing.arranged([(text * 9, False), (text * 9, True)])
    for line in lines:
        said = drawing.width_of(line[: -1 if line[-1].blank else None]) * size
        drawn_at = sum(typefaces.measured(*run, size) * size for run in displayed(line))
        assert drawn_at == pytest.approx(said, rel=0.01, abs=2)


# Without a shaper


@pytest.fixture
def no_fribidi(monkeypatch):
    monkeypatch.setattr(directions, "NAMES", ())
    directions.fribidi.cache_clear()
    forget_typefaces()
    yield
    monkeypatch.undo()
    directions.fribidi.cache_clear()
    forget_typefaces()


def test_where_fribidi_is_missing_only_scripts_that_need_no_shaping_are_drawn(no_fribidi):
    assert has_file("A fox, Ωμέγα, 狐狸, 여우 🦊")
    for text in (HEBREW, ARABIC, "क्ष", "ที่"):
        assert not has_file(text)
        assert draw_card([(text, False)], "storyteller").startswith(b"\x89PNG")


# Any text


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.text(st.sampled_from("אבلا سَّ१क्षिกที่น้ำ한하\u200c\u200d\u200e\u200f\u061c (1),a\n﷽ﷲ٤"), max_size=40), st.booleans()), max_size=4))  # fmt: skip
def test_any_text_of_these_scripts_is_drawn(parts):
    picture = Image.open(io.BytesIO(draw_card(parts, "שועל")))
    assert picture.size == drawing.SIZE
