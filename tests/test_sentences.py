"""A text that comes close to its length ends where a sentence does: the same one in any company, resumed and replayed."""

import json
import random
import re

import pytest
from browser import unfold
from conftest import finished
from engines import running
from hypothesis import example, given
from hypothesis import strategies as st
from test_replay import verdict_of
from test_resume import half_done, told
from waiting import until

from generate import Request, Sampling, find_model, parse_sampling
from generate.text.sentences import FAR, could_end, ends_sentence

ENDS = [
    "The fox ran.", "Is it far?", "Run!", "He went on…", "He went on...", "“Go home.”", '"Go home."', "'Go home.'",
    "(It was late.)", "He said “no”.", "He said 'no'.", "It was I.", '"Go!"', '"Go," said he. "Come back."', "So far!?",
    "“He said ‘go.’”", "'I don't know.'", "It was the boys' house.", "'It isn't far.'", "He'd said 'no', and 'never'.", "Thus spoke he.  ", "Thus spoke he.\n",
    "狐狸跑了。", "远吗？", "跑！", "他说：“回家吧。”", "「回家吧。」", "他走了（很晚了。）", "शाम हुई।",
    "Chapter One\n\n", "One, two:\n\nThree.", '"An open one\n\nAnd another.', "'Tis true.\" \n\nSo it was.", "„Geh heim.“",
    '"\'Tis true," said he.',
]  # fmt: skip
GOES_ON = [
    "", " ", "\n\n", "The fox ran", "The fox ran,", "Mr.", "He met Mrs.", "J.", "It was J. R.", "It was 3.", "e.g.",
    '"Go home.', "“Go home.", "'Go home.", "‘I don’t know.", '"Go home," said he. "Come', '"Go," said he. "Come.', "(late)",
    "狐狸跑了", "狐狸跑了，", "他说：“回家吧。", "「回家吧。", "They said:\n\n", "They came,\n \n", "They went --\n\n",
    "He said “he said ‘go.’", "he said “Mr.", "The fox ran.\n\nThe bear",
]  # fmt: skip


@pytest.mark.parametrize("text", ENDS)
def test_here_a_sentence_ends(text):
    assert ends_sentence(text.encode())


@pytest.mark.parametrize("text", GOES_ON)
def test_here_none_does(text):
    assert not ends_sentence(text.encode())


def test_no_sentence_ends_within_a_character():
    assert [ends_sentence("跑了。".encode()[:size]) for size in range(1, 10)] == [False] * 8 + [True]


QUOTES = {'"': '"', "“": "”", "「": "」"}


def slowly(text: str) -> bool:
    """The rule read aloud, for texts without apostrophes, brackets, digits and titles."""
    said = text.rstrip()
    if not said:
        return False
    if text[len(said) :].count("\n") > 1:
        return said[-1] not in ",:，：-"
    paragraph = re.split(r"\n\s*\n", said)[-1]
    opened = []
    for mark in paragraph:
        if any(QUOTES[one] == mark for one in opened):
            while QUOTES[opened.pop()] != mark:
                pass
        elif mark in QUOTES:
            opened.append(mark)
    while paragraph and paragraph[-1] in '"”」':
        paragraph = paragraph[:-1]
    return not opened and paragraph[-1:] in set(".!?…。！？")


pieces = st.lists(st.sampled_from(["to go", " I said", ".", "!", "。", "…", ",", "，", "：", '"', "“", "”", "「", "」", "\n", " ", "回家"]))  # fmt: skip


@given(pieces.map("".join))
@example('"to go."\n\n')
@example("“「to go.”.")
def test_a_sentence_ends_where_the_rule_says_so(text):
    assert ends_sentence(text.encode()) == slowly(text)


@given(pieces.map("".join), st.integers(1, 6))
def test_the_last_bytes_alone_tell_whether_it_is_worth_looking(text, size):
    data = text.encode()
    assert could_end(data[-size:]) or not ends_sentence(data)


def test_what_stands_far_back_counts_as_not_there():
    assert not ends_sentence(b'"' + b"a " * (FAR // 2 - 3) + b"bb.")
    assert ends_sentence(b'"' + b"a " * (FAR // 2) + b"bb.")


def test_only_the_last_quarter_of_a_length_is_within_reach_and_what_is_asked_for_at_least_is_written():
    def place(**options):
        return Sampling(**options).may_end_at

    assert place(max_new_tokens=200) == 200
    assert place(max_new_tokens=200, end_at_sentence=20) == 180
    assert place(max_new_tokens=200, end_at_sentence=64) == 150
    assert place(max_new_tokens=200, end_at_sentence=64, min_new_tokens=190) == 190
    assert place(max_new_tokens=1, end_at_sentence=64) == place(max_new_tokens=0, end_at_sentence=9) == 1


# Written by an engine

WISH = {"model": "storyteller", "max_new_tokens": 80, "temperature": 0.8, "top_k": 40, "seed": 3, "samples": 6}
PROMPT = "Once upon a time there was a king"


def texts(writer, run) -> list[str]:
    return [writer.text(run, "storyteller", number) for number in range(len(run.samples))]


def test_each_sample_ends_at_its_first_sentence_within_reach_and_else_at_its_length(writer):
    whole = writer.write(PROMPT, **WISH)
    run = writer.write(PROMPT, **WISH, end_at_sentence=20)
    vocabulary = find_model(writer.engine.models, "storyteller").tokenizer.vocabulary
    ended = 0
    for short, long in zip(run.samples, whole.samples, strict=True):
        ids = long.read()["id"].tolist()
        ends = [n for n in range(60, 81) if ends_sentence(vocabulary.bytes_of(run.prompt_ids + ids[:n]))]
        assert short.read()["id"].tolist() == ids[: (ends or [80])[0]]
        assert short.finish_reason == "length"
        ended += bool(ends)
    assert ended > 3


@pytest.mark.long
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_alone_in_company_and_taken_up_anew_it_ends_at_the_same_place(models, precision):
    with running(models, "storyteller", precision=precision) as writer:
        wish = {**WISH, "end_at_sentence": 64}
        whole = writer.write(PROMPT, **wish)
        assert any(len(sample) < 80 for sample in whole.samples)
        assert told(writer.write(PROMPT, **wish)) == told(whole)
        crowd = [writer.submit(f"{n} old foxes", **{**wish, "seed": n, "samples": 1}) for n in range(9)]
        assert told(writer.write(PROMPT, **wish)) == told(whole)
        for run in crowd:
            finished(run)
        folder, dice = find_model(models, "storyteller"), random.Random(1)
        asked = Request(folder, parse_sampling({name: value for name, value in wish.items() if name != "model"}))
        cuts = [None, [len(sample) for sample in whole.samples], [len(sample) - 1 for sample in whole.samples]]
        for cut in cuts:
            log = half_done(writer, whole, dice, cut)
            writer.engine.submit(asked, log)
            assert told(finished(log)) == told(whole)


def test_a_text_that_goes_on_says_what_a_longer_one_would_have_said(writer):
    first = writer.write(PROMPT, **{**WISH, "samples": 1}, end_at_sentence=64).samples[0].read()["id"].tolist()
    long = writer.ids(PROMPT, **{**WISH, "samples": 1, "max_new_tokens": 160})[0]
    ids = find_model(writer.engine.models, "storyteller").encode_prompt(PROMPT) + first
    rest = writer.ids(ids=ids, **{**WISH, "samples": 1}, end_at_sentence=64)[0]
    assert first + rest == long[: len(first) + len(rest)]
    assert len(first) < 80


def test_what_may_be_the_beginning_of_a_banned_phrase_is_shown_where_the_text_ends(writer):
    """The full stop is held back, as the phrase begins with it; as the text ends there, it stays."""
    wish = {**WISH, "samples": 1, "end_at_sentence": 64}
    free = writer.write(PROMPT, **wish)
    assert len(free.samples[0]) < 80
    last = texts(writer, free)[0][-1]
    held = writer.write(PROMPT, **wish, banned_phrases=[f"{last} Zz"])
    assert told(held) == told(free)


def test_a_stop_string_that_comes_first_ends_it_first(writer):
    wish = {**WISH, "samples": 1, "end_at_sentence": 64}
    (text,) = texts(writer, writer.write(PROMPT, **wish))
    run = writer.write(PROMPT, **wish, stop=[text[-12:-6]])
    assert run.samples[0].finish_reason == "stop"
    assert texts(writer, run)[0] == text[: text.index(text[-12:-6])]


# On the page

ASKED = {"model": "storyteller", "max_new_tokens": 80, "seed": 4}


def test_a_run_says_that_it_stopped_at_the_end_of_a_sentence_and_is_replayed_to_there(visitor):
    run = visitor.start(PROMPT, **ASKED, end_at_sentence=64)
    made = visitor.finish(run)
    count = len(made["samples"][0]["tokens"])
    assert (made["options"]["end_at_sentence"], count < 80) == (64, True)
    assert f"Stopped at a sentence: {count} of 80 tokens." in visitor.get(run).text
    assert verdict_of(visitor, run) == f"Identical: {count} tokens."


@pytest.mark.long
def test_a_run_that_was_stopped_by_hand_is_replayed_as_far_as_it_went_though_sentences_end_before(visitor):
    run = visitor.start(PROMPT, **ASKED | {"max_new_tokens": 4096}, end_at_sentence=1000)
    until(lambda: len(visitor.get(f"{run}.json").json["samples"][0]["tokens"]) > 60)
    visitor.post(f"{run}/stop")
    count = len(visitor.finish(run)["samples"][0]["tokens"])
    assert verdict_of(visitor, run) == f"Identical: {count} tokens."


def test_without_the_option_a_text_is_as_long_as_was_asked_for(visitor):
    made = visitor.finish(visitor.start(PROMPT, **ASKED))
    assert (made["options"]["end_at_sentence"], len(made["samples"][0]["tokens"])) == (0, 80)


def test_an_empty_field_of_the_form_means_that_it_ends_at_a_sentence_and_a_missing_one_means_nothing(visitor):
    def wanted(**fields):
        return visitor.json(visitor.start(PROMPT, **{"model": "tiny", "max_new_tokens": 8} | fields))["options"]

    assert wanted(end_at_sentence="")["end_at_sentence"] == 64
    assert wanted(end_at_sentence="0")["end_at_sentence"] == 0
    assert wanted()["end_at_sentence"] == 0


def test_who_writes_on_from_a_run_has_it_as_the_run_had_it(visitor):
    for value in ("64", "0"):
        run = visitor.start("Once", end_at_sentence=value)
        visitor.finish(run)
        page = visitor.get(f"/?parent={run[3:]}").text
        box = re.search(r'name="end_at_sentence" value="(\d*)"', page)[1]
        assert (box or "64") == value
        assert re.search(r'data-ticks="end_at_sentence".*?(checked)?>', page)[1] == (
            "checked" if value == "64" else None
        )


TICK = "[data-ticks=end_at_sentence]"
CHIPS = "[...document.querySelectorAll('#chips button')].map(chip => chip.firstChild.data)"


@pytest.mark.long
def test_the_tick_is_set_and_whoever_takes_it_away_sees_a_chip_and_gets_the_whole_length(window):
    window.type(PROMPT, "/?model=storyteller&max_new_tokens=80&seed=4")
    page = window.page
    unfold(page)
    assert page.is_checked(TICK)
    assert page.evaluate(CHIPS) == ["Luck 4"]
    page.uncheck(TICK)
    assert page.evaluate(CHIPS) == ["End at a sentence off", "Luck 4"]
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Enter")
    made = window.wait_until_written()
    assert (made["options"]["end_at_sentence"], len(made["samples"][0]["tokens"])) == (0, 80)
    assert "Stopped at its length: 80 tokens." in page.inner_text("#sheet-status")
    window.reload()
    page.wait_for_selector(".acts.ready")
    unfold(page)
    assert not page.is_checked(TICK), "a sheet keeps it"
    page.click("[data-empty=end_at_sentence]")
    assert page.is_checked(TICK)
    page.keyboard.press("Escape")
    page.click("[data-do=retry]")
    state = page.evaluate("location.href.split('?')[0]") + "/state"
    status = lambda: json.loads(window.context.request.get(state).text())["status"]  # noqa: E731
    until(lambda: "at a sentence" in status(), what="the end of a sentence")
    count = len(window.wait_until_written()["samples"][0]["tokens"])
    assert status() == f"Stopped at a sentence: {count} of 80 tokens."
    assert page.inner_text("#sheet-status") == "Luck is 4: the same words come again."
    assert page.inner_text("#editor").strip()[-1] in ".!?\"'"
