"""The end token in a prompt, on purpose: named in the text, shown as a chip, and in no text that is copied."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2TokenizerFast

from generate import RunLog, Vocabulary, find_model, unknown_records
from generate.__main__ import main
from webapp.views.run_view import Pieces, RunView
from webapp.views.tokens import cells, token_html

END = "<|endoftext|>"
TALK = f"Once upon{END} a time{END}"


@pytest.fixture(scope="module")
def theirs(models):
    return GPT2TokenizerFast.from_pretrained(models / "tiny")


def test_a_name_is_a_text_unless_it_is_asked_for(tiny):
    assert tiny.end_id not in tiny.encode_prompt(TALK)
    assert tiny.encode_prompt(TALK, parse_special=True).count(tiny.end_id) == 2


@given(st.lists(st.sampled_from([END, END[:-1], "<|", "|>", " a time", "\n", "森", "<|endoftext|<|endoftext|>"])))
def test_names_are_found_as_transformers_finds_them(tiny, theirs, parts):
    text = "".join(parts)
    ids = tiny.tokenizer.encode(text, parse_special=True)
    assert ids == theirs.encode(text)
    assert tiny.tokenizer.spell(ids) == text.encode()


def test_a_model_without_special_tokens_takes_the_name_as_text(tiny, monkeypatch):
    monkeypatch.setattr(tiny.tokenizer, "special_names", {})
    assert tiny.tokenizer.encode(TALK, parse_special=True) == tiny.tokenizer.encode(TALK)


def test_the_model_reads_the_token_and_the_page_shows_a_chip(visitor, tiny):
    run = visitor.start(TALK, parse_special="on", max_new_tokens=3)
    said = visitor.finish(run)
    assert said["prompt"]["text"] == "Once upon a time"
    assert [token["id"] for token in said["prompt"]["tokens"]] == tiny.encode_prompt(TALK, parse_special=True)
    page = visitor.get(run).text
    assert page.count('<span class="special') == 2
    plain = visitor.start(TALK, max_new_tokens=3)
    assert visitor.finish(plain)["prompt"]["text"] == TALK
    assert '<span class="special' not in visitor.get(f"/r/{plain}").text


def test_the_token_that_an_empty_prompt_starts_from_is_no_chip_and_one_that_was_typed_is(visitor):
    empty = visitor.start("", max_new_tokens=3)
    typed = visitor.start(f"{END}Once", parse_special="on", max_new_tokens=3)
    for run, chips in ((empty, 0), (typed, 1)):
        visitor.finish(run)
        assert visitor.get(run).text.count('<span class="special') == chips


@pytest.mark.parametrize(("begins", "chips"), [(True, 1), (False, 2)], ids=["begins every text", "was typed"])
def test_the_token_that_a_model_puts_before_every_prompt_is_no_chip(tiny, begins, chips):
    ids = tiny.encode_prompt(f"{END}Once{END}", parse_special=True)
    run = SimpleNamespace(id="r", model="tiny", n_positions=64, options={}, authors=[len(ids)], typed=None)
    log = RunLog(unknown_records(ids, tiny.config.vocab_size), 1)
    view = RunView(run, log, tiny.tokenizer.vocabulary, Pieces(), lambda: ids[0] if begins else None)
    assert view.text_from == begins
    assert view.prompt_html().count('<span class="special') == chips


def test_a_chip_can_be_looked_at(visitor):
    run = visitor.start(TALK, parse_special="on", max_new_tokens=3)
    visitor.finish(run)
    place = re.search(r'<span class="special[^>]*data-n="([0-9]+)"', visitor.get(run).text)[1]
    assert "end of text" in visitor.get(f"{run}/token?sample=prompt&place={place}").text


def test_an_edit_keeps_the_tokens_before_the_change_up_to_a_special_one(visitor, models):
    """Hot, it writes tokens that no tokenizer would make of its text, so that they show what is kept."""
    tales = find_model(models, "storyteller")
    for seed in range(99):
        run = visitor.start("the old ki", model=tales.name, max_new_tokens=6, temperature=3, top_k=0, seed=seed)
        first = visitor.finish(run)
        said = first["samples"][0]
        ids = [token["id"] for token in first["prompt"]["tokens"] + said["tokens"]]
        text = "the old ki" + said["text"]
        if "\ufffd" not in text and tales.encode_prompt(text) != ids:
            break
    else:
        pytest.fail("every text was cut in a character, or as a tokenizer cuts it")
    edit = {"model": tales.name, "parse_special": "on", "parent": run[3:]}
    turn = visitor.start(text + END + "Well", parent_sample=0, **edit)
    expected = [*ids, tales.end_id, *tales.encode_prompt("Well")]
    assert [token["id"] for token in visitor.finish(turn)["prompt"]["tokens"]] == expected
    changed = visitor.start(text + END + "Good", **edit | {"parent": turn[3:]})
    expected = [*ids, tales.end_id, *tales.encode_prompt("Good")]
    assert [token["id"] for token in visitor.finish(changed)["prompt"]["tokens"]] == expected


def test_another_text_from_its_first_word_on_is_as_any_that_is_typed(visitor, tiny):
    run = visitor.start("", max_new_tokens=3)
    visitor.finish(run)
    edited = visitor.start("the old king", parent=run[3:])
    assert [token["id"] for token in visitor.finish(edited)["prompt"]["tokens"]] == tiny.encode_prompt("the old king")
    assert '<span class="special' not in visitor.get(edited).text
    assert 'name="parse_special" checked' not in visitor.get(f"/?parent={edited[3:]}").text


def test_a_special_token_is_called_by_what_is_known_of_it():
    ids, one = np.array([1, 0, 1]), Vocabulary([b"", b"a"], [0])
    several = Vocabulary([b"", b"a", b""], [0, 2])
    for vocabulary, name in ((one, "end of text"), (several, "special token")):
        chips = [cell for cell in cells(ids, vocabulary, chips=0) if cell.special]
        assert [(chip.special, chip.start) for chip in chips] == [(name, 1)]
        assert f'aria-label="{name}"' in token_html(chips[0], "")
    assert [cell.text for cell in cells(ids, one)] == ["a", "a"]


def test_the_form_of_an_edit_names_the_token_and_says_that_it_is_one(visitor):
    run = visitor.start(TALK, parse_special="on", max_new_tokens=3)
    visitor.finish(run)
    for sample in ("", "&sample=0"):
        form = visitor.get(f"/?parent={run[3:]}{sample}").text
        assert 'name="parse_special" checked' in form
        shown = re.search(r"<textarea id=\"prompt\"[^>]*>\n(.*?)</textarea>", form, re.S)[1]
        assert shown.startswith("Once upon&lt;|endoftext|&gt; a time&lt;|endoftext|&gt;")


def test_the_terminal_takes_it_too(models, writer, tiny, capsys, monkeypatch):
    monkeypatch.setenv("RUBRIC_MODELS", str(models))
    monkeypatch.setenv("RUBRIC_MODEL", "tiny")
    monkeypatch.setenv("RUBRIC_PRECISION", "float32")
    assert (
        main([TALK, "--parse-special", "--max-new-tokens", "9", "--seed", "4", "--top-k", "0", "--temperature", "1"])
        == 0
    )
    ids = tiny.encode_prompt(TALK, parse_special=True)
    assert capsys.readouterr().out == TALK + writer.text(writer.write(ids=ids, max_new_tokens=9, seed=4)) + "\n"
