"""Beginnings that a model brings along: how a folder says them, and the runs that the server makes of them for all to see."""

import json
import re
import secrets
import shutil
from datetime import datetime, timedelta
from html import unescape
from urllib.parse import urlencode

import pytest
from conftest import MODELS
from test_sheets import Page
from waiting import until

from generate import Example, Refusal, check_folder, parse_with_preset
from webapp.runs import examples
from webapp.runs.examples import BEGINNINGS, SHOWN, TRIES, examples_of
from webapp.runs.kinds import NOBODY, GoneReason
from webapp.runs.removal import Removal
from webapp.runs.repository import get_run
from webapp.runs.tables import Run, db

# In the folder


def told(folder, *examples, **more):
    (folder / "examples.json").write_text(json.dumps({"examples": list(examples)} | more))
    found = check_folder(folder)
    return found.examples, [str(remark) for remark in found.remarks]


def test_a_folder_says_its_examples_with_their_seeds_and_options(folder):
    assert check_folder(folder).examples == ()
    asked = {"prompt": "A fox", "seed": 7, "options": {"max_new_tokens": 30, "temperature": 0.5}}
    found, remarks = told(folder, asked, {"prompt": "從前"})
    assert found == (Example("A fox", 7, (("max_new_tokens", 30), ("temperature", 0.5))), Example("從前"))
    assert found[0].fields == {"max_new_tokens": 30, "temperature": 0.5, "seed": 7}
    assert remarks == []


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("A fox", "It must be an object with a prompt, not 'A fox'."),
        ({"seed": 1}, "Its prompt must be a text of 1 to 2,000 characters."),
        ({"prompt": " \n"}, "Its prompt must be a text of 1 to 2,000 characters."),
        ({"prompt": "a" * 2001}, "Its prompt must be a text of 1 to 2,000 characters."),
        ({"prompt": "A fox", "seed": -1}, "seed must be a whole number from 0 to 4,294,967,295, not '-1'."),
        ({"prompt": "A fox", "options": {"heat": 1}}, "Its options must be those of a run by their names, not \"{'heat': 1}\"."),
        ({"prompt": "A fox", "options": {"samples": 2}}, "Its options must be those of a run by their names"),
        ({"prompt": "A fox", "options": [1]}, "Its options must be those of a run by their names, not '[1]'."),
        ({"prompt": "A fox", "options": {"top_k": "many"}}, "top_k must be a whole number from 0 to 1,000,000, not 'many'."),
    ],
)  # fmt: skip
def test_an_example_that_cannot_be_is_left_out_with_a_remark_and_the_others_stay(folder, wrong, reason):
    found, (remark,) = told(folder, {"prompt": "One"}, wrong, {"prompt": "Two"})
    assert [example.prompt for example in found] == ["One", "Two"]
    assert remark.startswith(f"examples.json: example 2 is left out. {reason}")


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("[1]", "broken: examples.json"),
        ("{", "broken: examples.json"),
        ('{"examples": 5}', "examples.json is not obeyed: its examples must be a list."),
    ],
)
def test_a_file_that_is_none_is_a_remark_and_the_model_works(folder, text, remark):
    (folder / "examples.json").write_text(text)
    found = check_folder(folder)
    assert found.examples == ()
    assert str(found.remarks[0]).startswith(remark)


def test_other_examples_make_no_other_model_that_would_be_loaded_anew(folder):
    before = check_folder(folder)
    told(folder, {"prompt": "A fox"})
    after = check_folder(folder)
    assert before.signature != after.signature
    assert before.identity == after.identity


def test_those_of_the_storyteller_end_with_a_sentence_before_their_length(writer):
    teller = check_folder(MODELS / "storyteller")
    assert len(teller.examples) >= 4
    assert teller.remarks == ()
    for example in teller.examples:
        wish = parse_with_preset(example.fields, dict(teller.defaults)).as_dict()
        run = writer.write(example.prompt, "storyteller", **wish)
        assert len(run.samples[0]) < wish["max_new_tokens"]
        assert writer.text(run, "storyteller").rstrip()[-1] in ".!?\"'"


def test_what_a_folder_s_owner_says_of_it_is_taken_as_it_is_or_not_at_all(folder):
    (folder / "rubric.json").write_text(json.dumps({"format": 1, "can": "Tales\n and  songs.", "cannot": 5}))
    found = check_folder(folder)
    assert (found.can, found.cannot) == ("Tales and songs.", "")


# On the server


@pytest.fixture
def here(app, monkeypatch):
    """The app's state, by which none of the examples is written yet: those of each test have names of their own."""
    salt, real = secrets.token_hex(4), examples.name_of
    monkeypatch.setattr(examples, "name_of", lambda *made_of: salt + real(*made_of))
    with app.app_context():
        yield app.extensions["rubric"]


def nobodys() -> int:
    """How many runs are nobody's."""
    return db.session.query(Run).filter(Run.owner == NOBODY).count()


def teller_of(state):
    return state.models.find("storyteller")


def written(state, count=SHOWN):
    """The runs of the storyteller's first examples, once they are there."""
    folder = teller_of(state)
    chosen = folder.examples[:count]

    def found():
        db.session.rollback()
        return [run for one in chosen if (run := state.examples.find(folder, one))]

    state.examples.write(folder, chosen)
    until(lambda: len(found()) == count, what="the runs of all examples")
    return found()


def test_they_are_written_once_with_what_they_say_and_are_nobodys(here, visitor):
    before = nobodys()
    runs = written(here)
    assert [run.id for run in written(here)] == [run.id for run in runs]
    for run, example in zip(runs, teller_of(here).examples, strict=False):
        assert example.fields.items() <= run.options.items()
        assert (run.owner, run.options["samples"], run.options["preset"]) == (NOBODY, 1, "model")
        assert visitor.json(f"/r/{run.id}")["prompt"]["text"] == example.prompt
        assert visitor.post(f"/r/{run.id}/delete").status_code == 422, "only who started it"
    assert all(run.id not in visitor.get("/runs").text for run in runs)
    assert nobodys() == before + SHOWN


def test_the_model_of_the_page_writes_its_own_by_itself_and_a_model_without_any_writes_none(here):
    before = nobodys()
    here.examples.tend("tiny")
    assert nobodys() == before
    here.examples.tend("storyteller")
    folder = teller_of(here)
    until(lambda: db.session.rollback() or here.examples.find(folder, folder.examples[SHOWN - 1]))
    here.examples.tend("no such model")


def test_one_that_was_stopped_is_tried_again_and_not_for_ever(here, monkeypatch):
    folder = teller_of(here)
    (run,) = written(here, 1)
    tried = {run.id}
    for _ in range(TRIES + 2):
        run.samples[0].finish_reason = "cancelled"
        db.session.commit()
        assert here.examples.find(folder, folder.examples[0]) is None
        here.examples.write(folder, folder.examples[:1])
        until(lambda: not (db.session.rollback() or here.examples.is_on_its_way(folder, folder.examples[0])))
        run = here.examples.find(folder, folder.examples[0]) or run
        tried.add(run.id)
    assert len(tried) == TRIES


def test_other_weights_write_their_own(here, models):
    folder = models / "another-teller"
    shutil.copytree(models / "storyteller", folder)
    try:
        (mine,) = written(here, 1)
        assert here.examples.find(here.models.find("another-teller"), teller_of(here).examples[0]) is None
        (folder / "rubric.json").write_text(json.dumps({"format": 1, "fingerprint": "0" * 64}))
        wrong = here.models.find("another-teller")
        with pytest.raises(Refusal):
            wrong.fingerprint()
        here.examples.write(wrong, wrong.examples)
        assert here.examples.find(wrong, wrong.examples[0]) is None
        assert not here.examples.is_on_its_way(wrong, wrong.examples[0])
        assert get_run(mine.id) is not None
    finally:
        shutil.rmtree(folder)


def test_they_stay_where_old_runs_go(here, visitor):
    (run,) = written(here, 1)
    other = visitor.start("Once")
    visitor.finish(other)
    until(lambda: db.session.rollback() or get_run(other[3:]).state == "done")
    for one in (run, get_run(other[3:])):
        one.created = datetime(2020, 1, 1) + timedelta(days=1)
    db.session.commit()
    Removal(1, leaving=lambda run_id: None).expire()
    assert get_run(run.id) is not None
    assert get_run(other[3:]) is None
    assert GoneReason.EXPIRED in (db.session.execute(db.text("select reason from gone")).scalars().all())


def test_what_one_visitor_makes_of_it_no_other_sees(here, visitor, friend):
    """A family shows what came from a run; of one that all can press it would show strangers to each other."""
    (run,) = written(here, 1)
    mine, theirs = (
        who.post(f"/r/{run.id}/fork", data={"sample": 0, "place": 3}).headers["Location"] for who in (visitor, friend)
    )
    for who, fork in ((visitor, mine), (friend, theirs)):
        who.finish(fork)
    page = visitor.get(mine).text
    assert f'href="/r/{run.id}"' in page
    assert theirs not in page
    assert mine not in friend.get(theirs).text
    assert not {mine, theirs} & set(re.findall(r"/r/[\w-]+", visitor.get(f"/r/{run.id}").text))


# On the pages

HEADLINE = '<h1 class="lead">You write in black, <em>the model goes on in red.</em></h1>'


def test_the_page_begins_with_what_was_written_and_until_then_with_a_sentence(here, visitor):
    before = visitor.get("/?model=storyteller").text
    assert HEADLINE in before
    assert "Press a red word" not in before
    (run,) = written(here, 1)
    page = visitor.get("/?model=storyteller").text
    assert HEADLINE not in page
    assert f'data-run="{run.id}"' in page
    assert "Press a red word: what else could it have been?" in page
    text = re.sub(r"<[^>]+>", "", re.search(r'<section class="demo".*?</p>', page, re.S)[0])
    made = visitor.json(f"/r/{run.id}")
    assert unescape(text).strip() == made["prompt"]["text"] + made["samples"][0]["text"]
    for other in ("/", "/?model=storyteller&prompt=A+fox", f"/?parent={run.id}&sample=0"):
        assert "data-run" not in visitor.get(other).text, "only an empty page of this model"


def forms(page):
    """The fields of the forms that start a beginning, as a browser without scripts sends them."""
    for form in re.findall(r'<form class="example".*?</form>', page, re.S):
        fields = re.findall(r'name="([^"]+)" value="([^"]*)"', form)
        yield {name: unescape(value) for name, value in fields}


def test_without_a_script_a_beginning_makes_the_run_that_it_promises(here, visitor):
    for fields, example in zip(forms(visitor.get("/?model=storyteller").text), teller_of(here).examples, strict=True):
        run = visitor.post("/runs", data=fields).headers["Location"]
        made = visitor.finish(run)
        assert made["prompt"]["text"] == example.prompt
        assert example.fields.items() <= made["options"].items()


def test_a_model_without_examples_gets_beginnings_without_seeds_that_end_at_a_sentence(visitor):
    fields = list(forms(visitor.get("/").text))
    assert [one["prompt"] for one in fields] == [one.prompt for one in BEGINNINGS]
    assert all("seed" not in one for one in fields)
    made = visitor.finish(visitor.post("/runs", data=fields[0]).headers["Location"])
    assert (made["model"], made["options"]["end_at_sentence"]) == ("tiny", 64)


def test_a_beginning_in_a_sheet_is_written_with_its_options_and_the_sheet_keeps_its_own(here, visitor):
    example = teller_of(here).examples[0]
    once = {name: str(value) for name, value in example.fields.items()} | {"model": "storyteller", "preset": "model"}
    page = Page(visitor).open(example.prompt)
    own = {"model": "tiny", "temperature": "1.5"}
    page.do("write", at=len(example.prompt), options=own, once=once)
    page.rest()
    (run,) = written(here, 1)
    assert page.text == example.prompt + visitor.json(f"/r/{run.id}")["samples"][0]["text"]
    assert page.state["options"] == own
    page.do("retry", options=own)
    made = visitor.json(f"/r/{page.rest().state['versions'][0]['run']}")
    assert (made["model"], made["options"]["temperature"]) == ("tiny", 1.5)
    page.do("write", 422, at=3, options=own, once={"temperature": "hot"})


# A model's page


def test_a_model_s_page_says_plainly_what_it_is(visitor):
    page = unescape(visitor.get("/models/storyteller").text)
    for said in (
        "The tone of an old tale",
        "A plot, facts, anything modern",
        "7.0 million parameters in 6 layers of width 256.",
        "It sees the last 512 tokens of a text, in English about 390 words.",
        "Its 8,192 tokens were made for English. It has to spell German,",
        "what it says need not be true",
    ):
        assert said in page
    tiny = visitor.get("/models/tiny").text
    assert "Good at" not in tiny
    assert "Its tokens were made for no language that this page knows" in unescape(tiny)


def test_looking_at_a_page_writes_nothing_and_a_press_lets_it_write_three_samples(here, visitor):
    before, page = nobodys(), visitor.get("/models/storyteller").text
    assert "Let it write samples" in page
    assert "Go on from it" not in page
    assert nobodys() == before
    answer = visitor.post("/models/storyteller/samples")
    assert answer.headers["Location"] == "/models/storyteller#samples"
    until(lambda: visitor.get("/models/storyteller/samples").text.count("Go on from it") == SHOWN)
    part = visitor.get("/models/storyteller/samples").text
    assert "<html" not in part
    assert "hx-get" not in part
    for example in teller_of(here).examples[:SHOWN]:
        run = here.examples.find(teller_of(here), example)
        text = visitor.json(f"/r/{run.id}")["samples"][0]["text"]
        assert unescape(re.sub(r"<[^>]+>", "", part)).count(text) == 1
        sheet = unescape(visitor.get(f"/?parent={run.id}&sample=0").text)
        assert text.split("\n")[0] in sheet


def test_while_samples_are_being_written_the_page_asks_again(here, visitor, monkeypatch):
    monkeypatch.setattr(here.examples, "is_on_its_way", lambda folder, example: True)
    page = visitor.get("/models/storyteller").text
    assert 'hx-get="/models/storyteller/samples"' in page
    assert "It is writing samples…" in page


def test_any_model_can_be_asked_for_samples_and_one_that_is_not_there_cannot(here, visitor):
    visitor.post("/models/tiny/samples")
    until(lambda: visitor.get("/models/tiny/samples").text.count("Go on from it") == SHOWN)
    assert examples_of(here.models.find("tiny")) == BEGINNINGS
    assert visitor.get("/models/none/samples").status_code == visitor.post("/models/none/samples").status_code == 404


def test_an_address_with_other_words_begins_with_the_sentence(here, visitor):
    written(here, 1)
    assert HEADLINE in visitor.get("/?" + urlencode({"model": "storyteller", "prompt": "A fox"})).text
