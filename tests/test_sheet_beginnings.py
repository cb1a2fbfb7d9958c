"""A sheet that goes on from a run: what its page shows is what the server takes it for, special tokens and all."""

import json
import re
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from chinese import make_chinese
from hypothesis import given
from hypothesis import strategies as st
from test_sheets import Page
from waiting import until

from generate import RunLog, check_folder, unknown_records
from webapp.runs.derivation import edit
from webapp.runs.typed import as_typed, before
from webapp.sheets.beginnings import begun_with
from webapp.sheets.spans import PROMPT, Typed, Written

END = "<|endoftext|>"
TALK = f"Once upon{END} a time"


def opened(visitor, address) -> Page:
    """The page at an address as its script finds it, before anything is stored."""
    html = visitor.get(address).text
    page = Page(visitor)
    page.state = json.loads(re.search(r'id="sheet-state">(.*?)</script>', html, re.S)[1])
    page.html = html
    return page


def typed_behind(page, text="!", **more) -> Page:
    """Type at the end of what a page shows, as its script does."""
    made = Page(page.http)
    edits = [[len(page.text), 0, text]]
    made.state = made.post("/sheets", 201, edits=edits, **{"from": page.state["from"] | more})
    made.address = f"/s/{made.state['id']}"
    return made


def test_a_run_with_special_tokens_stands_in_its_sheet_by_their_names_and_goes_on_from_its_tokens(visitor):
    run = visitor.start(TALK, parse_special="on", max_new_tokens=6)
    told = visitor.finish(run)
    page = opened(visitor, f"/?parent={run[3:]}&sample=0")
    assert page.text == TALK + told["samples"][0]["text"]
    assert not any(where for _, where in page.inks[: len(TALK)])
    assert all(where for _, where in page.inks[len(TALK) :])
    assert page.state["status"] == "Special tokens stand in the black text by their names, and are read as such."
    assert 'name="parse_special" checked' in page.html
    made = typed_behind(page)
    assert made.inks == [*page.inks, ("!", None)]
    made.write(parse_special="on")
    ids = [token["id"] for token in told["prompt"]["tokens"] + told["samples"][0]["tokens"]]
    prompt = visitor.json(f"/r/{made.state['versions'][0]['run']}")["prompt"]["tokens"]
    assert [token["id"] for token in prompt][: len(ids)] == ids


def test_of_a_run_without_special_tokens_nothing_is_said(visitor):
    run = visitor.start("Once upon a time", max_new_tokens=6)
    visitor.finish(run)
    assert opened(visitor, f"/?parent={run[3:]}&sample=0").state["status"] == ""


@pytest.mark.parametrize("sample", ["sample=0", "parent_sample=0", "sample=0&parent_sample=0"])
def test_a_page_that_is_come_back_to_can_be_typed_in_with_what_was_changed_there(visitor, sample):
    """After "How surprising is my text?" its form is in its address."""
    run = visitor.start("Once upon a time", max_new_tokens=6)
    visitor.finish(run)
    page = opened(visitor, f"/?parent={run[3:]}&{sample}")
    assert page.state["from"] == {"run": run[3:], "sample": 0, "seen": None}
    assert page.state["typed"] is None
    typed_behind(page)
    changed = urlencode({"prompt": f"{page.text}, and\r\nso"})
    again = opened(visitor, f"/?{changed}&parent={run[3:]}&{sample}")
    assert again.inks == page.inks
    assert again.state["typed"] == f"{page.text}, and\nso"
    typed_behind(again)


@pytest.mark.parametrize("sample", ["", "sample=9", "parent_sample=x", "sample=-1", "sample=²"])
def test_a_run_s_prompt_alone_is_what_a_sheet_begins_with_where_no_sample_is_named(visitor, sample):
    run = visitor.start("Once upon a time", max_new_tokens=6)
    visitor.finish(run)
    page = opened(visitor, f"/?parent={run[3:]}&{sample}")
    assert page.text == "Once upon a time"
    assert 'name="parent_sample"' not in page.html
    assert typed_behind(page).text == "Once upon a time!"


def test_a_form_that_is_refused_comes_back_as_a_sheet_that_can_be_typed_in(visitor):
    run = visitor.start("Once upon a time", max_new_tokens=6)
    visitor.finish(run)
    form = {"prompt": "Once more", "parent": run[3:], "parent_sample": "0", "model": "tiny", "top_p": "7"}
    html = visitor.post("/runs", data=form).text
    state = json.loads(re.search(r'id="sheet-state">(.*?)</script>', html, re.S)[1])
    assert state["typed"] == "Once more"
    assert state["from"] == {"run": run[3:], "sample": 0, "seen": None}


def test_of_a_run_that_is_being_written_a_sheet_begins_with_what_its_page_has_shown(visitor):
    run = visitor.start("Once upon a time", max_new_tokens=3000, min_new_tokens=3000)
    count = lambda: len(visitor.json(run)["samples"][0]["tokens"])  # noqa: E731
    until(lambda: count() > 5)
    page = opened(visitor, f"/?parent={run[3:]}&sample=0")
    before = count()
    until(lambda: count() > before + 20)
    assert typed_behind(page).inks == [*page.inks, ("!", None)]
    visitor.post(f"{run}/stop")


def test_a_friend_s_sheet_begins_with_what_they_saw_of_a_writing_and_not_with_what_came_since(visitor, friend):
    page = Page(visitor).open("Once upon")
    wish = {"max_new_tokens": "3000", "min_new_tokens": "3000", "model": "tiny", "seed": "1"}
    page.do("write", at=9, options=wish)
    other = Page(friend, page.address)
    until(lambda: other.look()["open"]["tokens"] > 5)
    seen, rev = other.state["open"]["tokens"], other.state["rev"]
    until(lambda: page.look()["open"]["tokens"] > seen + 20)
    other.state["from"] = {"sheet": page.state["id"], "rev": rev, "seen": seen}
    assert typed_behind(other).inks == [*other.inks, ("!", None)]
    page.do("stop", 204)
    page.rest().write()
    other.post("/sheets", 409, edits=[], **{"from": other.state["from"]})


def run_of(folder, turns, typed=None):
    """A run whose prompt has some turns of ids, the person's first; its log and how it is called."""
    ids = [index for turn in turns for index in turn]
    log = RunLog(unknown_records(ids, folder.config.vocab_size), 1)
    return SimpleNamespace(id="r", authors=[len(turn) for turn in turns], typed=typed), log


def test_special_tokens_that_nobody_can_name_are_counted_and_those_of_the_model_stay(tiny):
    end, word = tiny.end_id, tiny.tokenizer.encode("a")[0]
    run, log = run_of(tiny, [[word, end, word], [end, word], [word]])
    vocabulary = tiny.tokenizer.vocabulary
    gone = begun_with(run, log, None, None, 0, vocabulary, None)
    assert (gone.named, gone.nameless, gone.unseen) == (False, 1, 1)
    assert gone.spans == (Typed("aa"), Written("r", PROMPT, 3, 5), Typed("a"))
    here = begun_with(run, log, None, None, 0, vocabulary, tiny)
    assert (here.named, here.nameless, here.unseen) == (True, 0, 1)
    assert here.spans[0] == Typed(f"a{END}a")


def test_the_token_that_stands_for_an_empty_prompt_is_in_no_sheet(tiny):
    run, log = run_of(tiny, [[tiny.end_id], [5, 6]])
    begun = begun_with(run, log, None, None, 1, tiny.tokenizer.vocabulary, tiny)
    assert begun.spans == (Written("r", PROMPT, 1, 3),)
    assert not begun.named


@pytest.fixture(scope="module")
def chinese(tmp_path_factory):
    return check_folder(make_chinese(tmp_path_factory.mktemp("chinese") / "zh"))


@pytest.mark.parametrize("text", ["[CLS]我爱你", "[CLS]", "[SEP]我 爱", "[CLS] 我[UNK]\n爱"])
@pytest.mark.parametrize("parse_special", [False, True])
def test_the_name_of_a_special_token_that_a_prompt_begins_with_is_in_it_once(chinese, text, parse_special):
    """Whether it was that token, or letters."""
    ids = chinese.encode_prompt(text, parse_special)
    found = [before(text, ids, (len(ids),), place, chinese) for place in range(len(ids) + 1)]
    assert found[-1] == text
    assert all(text.startswith(part) for part in found), found
    assert found == sorted(found, key=len)


@pytest.mark.parametrize(
    ("text", "kept"), [("我\ud83e", "我�"), ("\udd8a我\0", "�我�"), ("\ud83e\udd8a?", "🦊?"), ("Fox  我", "Fox  我")]
)
def test_half_a_surrogate_pair_is_kept_as_the_sign_for_it(chinese, tiny, text, kept):
    assert as_typed(text, chinese) == kept
    assert as_typed(text, tiny) is None
    ids = edit(*run_of(tiny, [[5]]), None, text, tiny).ids
    said = f"{kept[:-1]}\0" if text.endswith("\0") else kept  # which tokens can say
    assert tiny.tokenizer.vocabulary.bytes_of(ids).decode() == said


texts = st.text(alphabet="我爱你 \n，Fox龘", max_size=6)
words = st.text(alphabet="我爱你fox", min_size=1, max_size=3)


@given(st.lists(st.tuples(texts, words), max_size=4), texts)
def test_what_was_typed_between_red_words_is_found_again_with_each_of_its_spaces(chinese, parts, last):
    """Of a vocabulary that drops them; the red words stay the model's, wherever else the same letters stand."""
    encode, vocabulary = chinese.tokenizer.encode, chinese.tokenizer.vocabulary
    turns, typed = [], ""
    for text, word in parts:
        turns += [encode(text), encode(word)]
        typed += text + vocabulary.bytes_of(turns[-1]).decode()
    run, log = run_of(chinese, [[chinese.begin_id], *turns, encode(last)], typed + last)
    run.authors[:2] = [sum(run.authors[:2])]
    found = begun_with(run, log, None, None, 1, vocabulary, chinese)
    said = [
        s.text if isinstance(s, Typed) else vocabulary.bytes_of(log.prompt["id"][s.start : s.end].tolist()).decode()
        for s in found.spans
    ]
    assert "".join(said) == typed + last
    red = [n for s in found.spans if isinstance(s, Written) for n in range(s.start, s.end)]
    ends = [sum(run.authors[: n + 1]) for n in range(len(run.authors))]
    assert red == [n for start, end in zip(ends[::2], ends[1::2], strict=False) for n in range(start, end)]


def test_where_what_was_typed_does_not_fit_the_tokens_they_say_what_the_text_is(chinese):
    encode = chinese.tokenizer.encode
    run, log = run_of(chinese, [encode("我爱"), encode("你")], "an other text")
    assert begun_with(run, log, None, None, 0, chinese.tokenizer.vocabulary, chinese).spans[0] == Typed("我爱")
