"""A run's preview card and its link's QR code: what is seen, measured in pixels and read back by others."""

import io
import re
import threading
import unicodedata

import numpy as np
import pytest
import zxingcpp
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor, ImageDraw

from generate import Refusal
from webapp.views.card import clusters, typefaces
from webapp.views.card import drawing as card
from webapp.views.card.drawing import EDGES, HAIRLINE, MARGINS, MODEL, PAPER, PERSON, QUIET, SHEET, draw_card
from webapp.views.card.typefaces import BOX
from webapp.views.card.words import words
from webapp.views.qr import qr_svg

FOX = "there was a little fox who lived at the edge of a dark wood. "
狐狸 = "从前有一只狐狸，住在森林的旁边。"
FAMILY, THUMB, FLAG = "👨‍👩‍👧", "👍🏽", "🇩🇪"


def pixels(*parts: tuple[str, bool], footer: str = "") -> np.ndarray:
    """The card as int [630, 1200, 3]."""
    return np.asarray(Image.open(io.BytesIO(draw_card(list(parts), footer))).convert("RGB")).astype(int)


def count(picture: np.ndarray, colour: str) -> int:
    """How many pixels are of a colour, or nearly so."""
    return int((np.abs(picture - ImageColor.getrgb(colour)).max(axis=2) < 12).sum())


def sheet(picture: np.ndarray) -> np.ndarray:
    left, top, right, bottom = EDGES
    return picture[top:bottom, left:right]


def rows_of(picture: np.ndarray, colour: str) -> np.ndarray:
    """Numbers of the pixel rows in which a colour occurs."""
    return np.flatnonzero((np.abs(sheet(picture) - ImageColor.getrgb(colour)).max(axis=2) < 12).any(axis=1))


def lines_of(*parts: tuple[str, bool]) -> list[str]:
    _, lines = card.arranged(list(parts))
    return ["".join(run.text for word in line for run in word.runs).strip() for line in lines]


def type_size(*parts: tuple[str, bool]) -> int:
    return card.arranged(list(parts))[0]


# What is seen


def test_a_card_has_the_size_that_chats_ask_for():
    picture = Image.open(io.BytesIO(draw_card([("Once upon a time", False)], "storyteller")))
    assert (picture.format, picture.size, picture.mode) == ("PNG", (1200, 630), "RGB")


def test_both_inks_lie_on_a_sheet_on_paper():
    picture = pixels(("Once upon a time", False), (" " + FOX, True), footer="storyteller")
    assert count(sheet(picture), PERSON.colour) > 500
    assert count(sheet(picture), MODEL.colour) > 500
    assert count(picture, SHEET) > 400_000
    assert count(picture, PAPER) > 100_000
    assert count(picture, HAIRLINE) > 3000


def test_only_a_person_writes_in_black_and_only_the_model_in_red():
    assert count(sheet(pixels((FOX, False))), MODEL.colour) == 0
    assert count(sheet(pixels((FOX, True))), PERSON.colour) == 0


def test_the_two_hands_differ_without_colour():
    dark = [(sheet(pixels((FOX * 3, by_model))).min(axis=2) < 128).sum() for by_model in (False, True)]
    assert dark[0] > 1.15 * dark[1], "the person's is the heavier one"


def test_the_wordmark_and_the_footer_stand_below_the_sheet():
    below = pixels((FOX, False), footer="storyteller")[EDGES[3] :]
    half = below.shape[1] // 2
    assert count(below[:, :half], MODEL.colour) > 20
    assert count(below[:, :half], PERSON.colour) > 50
    assert count(below[:, half:], QUIET.colour) > 50
    assert count(pixels((FOX, False))[EDGES[3] :, half:], QUIET.colour) == 0


def test_a_long_footer_is_shortened_before_it_meets_the_wordmark():
    below = pixels((FOX, False), footer="a model with a very long name " * 30)[EDGES[3] :]
    inked = np.flatnonzero((np.abs(below - ImageColor.getrgb(PAPER)).max(axis=2) > 60).any(axis=0))
    assert np.diff(inked).max() > 100
    assert inked[-1] <= EDGES[2] - MARGINS[0]


@pytest.mark.parametrize("text", ["", " \n\t ", "\0\u200b"])
def test_where_there_is_no_text_the_card_says_what_rubric_is(text):
    assert lines_of((text, False), (text, True)) == ["You write in black,", "the model goes on in red."]


@pytest.mark.long
@pytest.mark.parametrize(
    "text",
    [
        *[FOX * 60, 狐狸 * 99, "W" * 100_000, "﷽🦊" * 999, "i\n" * 5000, "a " * 50_000, "—" * 9999, "\u3000字" * 999],
        *["السَّلَامُ عَلَيْكُمْ " * 99, "ק" * 9999, "क्षत्रियों के " * 99, "ที่ป่าน้ำผู้ใหญ่" * 99, "훈민정음 " * 99],
    ],
)
def test_nothing_is_drawn_on_the_margins_of_the_sheet(text):
    for parts in ([(text, False)], [(text, True)], [(text, False), (text, True)]):
        inner = sheet(pixels(*parts))[4:-4, 4:-4]
        x, y = MARGINS[0] // 2, MARGINS[1] // 2
        inner[y:-y, x:-x] = ImageColor.getrgb(SHEET)
        assert count(inner, SHEET) == inner.shape[0] * inner.shape[1]


# What fits


def test_a_short_text_is_large_and_a_long_one_smaller():
    sizes = [type_size(("Hello", False), (" " + FOX * times, True)) for times in (1, 2, 4, 6, 50)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == card.SIZES[0]
    assert sizes[-1] == card.SIZES[-1]


def test_a_text_that_fits_is_all_there():
    assert (
        " ".join(lines_of(("Once upon a time", False), (" " + FOX * 5, True))) == f"Once upon a time {FOX * 5}".strip()
    )


def test_a_text_that_does_not_fit_ends_with_an_ellipsis_after_a_whole_word():
    said = " ".join(lines_of(("Once upon a time", False), (" " + FOX * 50, True)))
    assert said.startswith("Once upon a time there")
    assert said.endswith("…")
    assert said[:-1].split()[-1] in FOX.split()


@pytest.mark.long
@pytest.mark.parametrize("prompt", [FOX * 12, FOX * 2000, 狐狸 * 500, "x" * 100_000, "a\n" * 3000, "🦊" * 5000])
@pytest.mark.parametrize("more", [" And home it went.", " " + FOX * 40, "。" + 狐狸 * 40, "\n\nThe End"])
def test_a_long_prompt_loses_its_beginning_so_that_both_inks_are_seen(prompt, more):
    picture = pixels((prompt, False), (more, True))
    assert count(sheet(picture), PERSON.colour) > 200
    assert count(sheet(picture), MODEL.colour) > 200
    lines = lines_of((prompt, False), (more, True))
    assert lines[0].startswith("…")
    assert ("".join(lines)[-6:] == more[-6:]) == (len(more) < 20)


def test_a_long_continuation_gets_half_of_the_card_beside_a_long_prompt():
    picture = pixels((FOX * 99, False), (FOX * 99, True))
    black, red = rows_of(picture, PERSON.colour), rows_of(picture, MODEL.colour)
    assert 0.7 < len(black) / len(red) < 1.4
    assert black[0] < red[0]
    assert black[-1] < red[-1]


def test_a_continuation_of_half_a_word_is_seen_too():
    assert lines_of((FOX * 99 + "unbeliev", False), ("able", True))[-1].endswith("unbelievable")


def test_a_prompt_alone_shows_its_beginning():
    said = " ".join(lines_of((FOX * 99, False)))
    assert said.startswith("there was")
    assert said.endswith("…")


def test_in_a_text_of_many_turns_the_last_continuation_is_seen():
    said = " ".join(lines_of((FOX * 20, False), (FOX * 20, True), (FOX, False), ("The End", True)))
    assert said.startswith("…")
    assert said.endswith("The End")


def test_newlines_and_indents_stay_and_runs_of_empty_lines_become_one():
    assert lines_of(("a\r\nb\n", False), ("\n \n\nc\rd", True)) == ["a", "b", "", "c", "d"]
    _, lines = card.arranged([("if x:\n\treturn", False)])
    assert lines[1][0].blank


def test_a_word_in_two_inks_is_not_parted():
    for length in range(20, 60):
        assert not any(line.endswith("ti") for line in lines_of(("a " * length + "ti", False), ("me " * 9, True)))


def test_no_line_begins_with_closing_punctuation_nor_ends_with_opening():
    for shift in range(30):
        lines = lines_of(("狐" * shift + "狸说：「走！」（『好』，好。）" * 9, True))
        assert len(lines) > 2
        assert not any(line[0] in clusters.CLOSING - {"…"} for line in lines)
        assert not any(line[-1] in clusters.OPENING for line in lines)


# Characters


def drawn(text: str) -> bytes:
    return sheet(pixels((text, False))).tobytes()


def has_file(text: str) -> bool:
    return all(run.file for word in words([(text, PERSON)]) for run in word.runs)


@pytest.mark.long
@pytest.mark.parametrize(
    "text",
    [
        "从前有一只狐狸",
        "龍鳳繁體語言學習",
        "ひらがなカタカナ",
        "Ωμέγα",
        "Привет",
        "Việt Nam",
        "שועל קטן שגר בקצה היער ₪",
        "ثعلب صغير يعيش، ١٢٣؟ پچگژکی ٹڈڑے",
        "एक छोटी लोमड़ी अँधेरे जंगल में, १२३। ₹",
        "สุนัขจิ้งจอกตัวน้อย ๑๒๓ ฯๆ ฿",
        "작은 여우가 숲에 살았습니다 ㄱㄴㅏ",
        "“é” – €½",
        "→★①※",
        "🦊🎩⭐❤️👍",
    ],
)
def test_every_character_of_these_has_a_typeface_and_a_look_of_its_own(text):
    assert has_file(text)
    characters = [character for character in text if unicodedata.category(character) != "Mn" and character != " "]
    pictures = {drawn(character) for character in characters}
    assert len(pictures) == len(set(characters))
    assert drawn(BOX) not in pictures


@pytest.mark.parametrize("text", [FAMILY, THUMB, FLAG, "1️⃣", "❤️", "👩🏽‍🚀", "🏳️‍🌈", "🏴󠁧󠁢󠁷󠁬󠁳󠁿"])
def test_joined_emoji_are_one_picture(text):
    [word] = words([(text, PERSON)])
    assert [run.text for run in word.runs] == [text]
    assert word.width == pytest.approx(words([("🦊", PERSON)])[0].width, rel=0.05), "as wide as any single one"
    alone = text[0] + text[1:].strip("🏽\ufe0f")  # one ink knows no skin colour
    assert (drawn(text) == drawn(text[0])) == (alone == text[0])


def test_what_no_typeface_has_is_a_hollow_box():
    for text in ("ა", "ກ", "അ", "ᠮ", "\ue000", "\U0010fffd", "\ud800", BOX):
        assert drawn(text) == drawn(BOX)


def test_marks_that_no_typeface_has_are_left_out():
    assert drawn("z̸̡̢̛͓̤") == drawn("z")
    assert drawn("e\u0301") == drawn("é")


def test_controls_are_left_out_and_directions_cannot_be_turned():
    assert drawn("a\0\x1b\u202e\u200e\ufeffb\u00adc") == drawn("abc")


@pytest.mark.long
@pytest.mark.parametrize("weight", [PERSON.weight, MODEL.weight])
def test_each_file_of_the_typefaces_is_there_and_has_most_of_what_its_package_says(weight):
    for package in typefaces.packages():
        for file, holds in package:
            some = [chr(code) for code in sorted(holds) if 0x4E00 <= code < 0xA000 or 0x1F300 <= code < 0x1F6FF]
            if "emoji" in file.name or all(0x4E00 <= ord(char) < 0xA000 for char in some):
                assert all(typefaces.has(file, char, weight) for char in some[:20])
            assert file.exists()


# Anything


TEXT = st.text(st.characters(exclude_categories=()), max_size=60) | st.lists(
    st.sampled_from(["\n", " ", "\t", "狐", "。", "「", FAMILY, FLAG, "\u200d", "\ufe0f", "🏽", "\u0301", "\ud83d", "ab", "-", "…", "x" * 40, "\x0b", "ﷺ"])
).map("".join)  # fmt: skip


@pytest.mark.long
@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(TEXT, st.booleans()), max_size=4), TEXT, st.sampled_from([1, 1, 40]))
def test_any_text_is_drawn(parts, footer, times):
    assert draw_card([(text * times, by_model) for text, by_model in parts], footer).startswith(b"\x89PNG")


@settings(max_examples=200, deadline=None)
@given(TEXT)
def test_clusters_lose_nothing_but_surplus_marks(text):
    tidy = clusters.tidy(text)
    found = clusters.clusters(tidy)
    assert all(found)
    if max(map(len, found), default=0) < 12:
        assert "".join(found) == tidy


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TEXT, st.booleans()), max_size=4), st.sampled_from([1, 7]))
def test_every_line_is_as_wide_as_the_sheet_allows(parts, times):
    size, lines = card.arranged([(text * times, by_model) for text, by_model in parts])
    assert size in card.SIZES
    for line in lines:
        while line and line[-1].blank:
            line = line[:-1]
        assert card.width_of(line) * size <= card.ROOM[0] + 1


def test_the_same_text_gives_the_same_card_in_any_thread():
    parts = [("从前 Once upon 🦊", False), (FOX * 4, True)]
    cards = []
    threads = [threading.Thread(target=lambda: cards.extend(draw_card(parts, "x") for _ in range(5))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cards) == 20
    assert len(set(cards)) == 1


def forget_typefaces() -> None:
    for name in ("packages", "glyphs", "has", "unknown", "measured", "face"):
        getattr(typefaces, name).cache_clear()


def test_missing_typefaces_are_one_clear_refusal(monkeypatch, tmp_path):
    monkeypatch.setattr(typefaces, "MODULES", tmp_path)
    forget_typefaces()
    with pytest.raises(Refusal, match="its typefaces cannot be read"):
        draw_card([("Once", False)], "storyteller")
    monkeypatch.undo()
    assert count(pixels(("Once", False)), PERSON.colour) > 100, "and once they are there, all is well"


# The QR code


def painted(svg: str, scale: int = 6) -> Image.Image:
    """An SVG of segno's as a picture: its one stroked path followed by hand."""
    side = int(re.search(r'viewBox="0 0 (\d+) \1"', svg)[1])
    picture = Image.new("L", (side * scale, side * scale), 255)
    draw = ImageDraw.Draw(picture)
    x = y = 0.0
    for command, numbers in re.findall(r"([Mmh])([-\d. ]*)", re.search(r'stroke="#1c1915" d="([^"]+)"', svg)[1]):
        dx, dy = [*map(float, numbers.split()), 0.0][:2]
        if command == "h":
            draw.rectangle((x * scale, (y - 0.5) * scale, (x + dx) * scale - 1, (y + 0.5) * scale - 1), fill=0)
        x, y = (dx, dy) if command == "M" else (x + dx, y + dy)
    return picture


@pytest.mark.parametrize(
    "address",
    [
        "http://192.168.1.20:8000/r/AbC_12-x",
        "https://rubric.example/r/x?a=1&b=<2>",
        "https://例子.example/狐狸",
        "x" * 2331,
    ],
)
def test_another_reader_reads_the_qr_code(address):
    [found] = zxingcpp.read_barcodes(painted(qr_svg(address)))
    assert found.text == address


def test_the_qr_code_says_in_words_what_it_is_and_cannot_break_out_of_them():
    svg = qr_svg("https://rubric.example/</title><script>")
    assert "<title>QR code of https://rubric.example/&lt;/title&gt;&lt;script&gt;</title>" in svg
    assert not re.search(r"<svg[^>]* (width|height)=", svg)
    assert svg.startswith("<svg ")


def test_the_qr_code_has_its_quiet_zone():
    dark = np.asarray(painted(qr_svg("https://rubric.example/r/AbC"), scale=1)) < 128
    assert not dark[:4].any()
    assert not dark[-4:].any()
    assert not dark[:, :4].any()
    assert not dark[:, -4:].any()
    assert dark[4, 4:11].all(), "a corner's square begins right after it"


def test_too_long_an_address_is_a_value_error():
    with pytest.raises(ValueError, match="too large"):
        qr_svg("x" * 2332)
