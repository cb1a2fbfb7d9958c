"""A sheet over its routes: what is typed, what a model writes in it, and how it is taken back."""

import json
import math
import re
import secrets
import threading

import pytest
from conftest import Visitor, parse_events
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import until

from generate import Busy, RunLog, RunState, context_at, known, unknown_records
from webapp.runs.registry import Entry
from webapp.runs.repository import stored_log
from webapp.runs.tables import Run, db
from webapp.sheets import service
from webapp.sheets.content import Content
from webapp.sheets.pieces import Cell, Origin
from webapp.sheets.sources import Sources
from webapp.sheets.spans import PROMPT, Written
from webapp.views import versions
from webapp.views.sheet_state import open_run

JSON = {"Accept": "application/json"}


class Page:
    """A visitor's sheet, asked as its page asks."""

    def __init__(self, visitor, address=None):
        self.http, self.address = visitor, address
        self.state = {}

    def post(self, path, status=200, **fields):
        """One request; takes over the state that is answered."""
        answer = self.http.post(path, json={"key": secrets.token_urlsafe(16)} | fields, headers=JSON)
        assert answer.status_code == status, (answer.status_code, answer.text)
        return answer.get_json() if answer.is_json else None

    def open(self, text="", **fields):
        self.state = self.post("/sheets", 201, edits=[[0, 0, text]] if text else [], **fields)
        self.address = f"/s/{self.state['id']}"
        return self

    def do(self, what, status=200, **fields):
        """Something to the sheet as it was last seen."""
        seen = self.state["open"]["tokens"] if self.state["open"] else None
        given = {"rev": self.state["rev"], "seen": seen} | fields
        found = self.post(f"{self.address}/{what}", status, **given)
        if status == 200:
            self.state = found if "spans" in found else self.look()
        return found

    def look(self):
        self.state = self.http.get(f"{self.address}/state").get_json()
        return self.state

    def type(self, at, removed, text, **fields):
        return self.do("edits", edits=[[at, removed, text]], **fields)

    def write(self, at=None, **options):
        wish = {"max_new_tokens": "8", "seed": "1", "model": "tiny", "min_new_tokens": "8"} | options
        self.do("write", at=len(self.text) if at is None else at, options=wish)
        return self.rest()

    def rest(self):
        """Wait until nobody writes."""
        until(lambda: self.look()["open"] is None, what="the end of the writing")
        return self

    @property
    def text(self):
        return "".join(one[0] for one in self.inks)

    @property
    def inks(self):
        """Each character with where it is from."""
        found = []
        for span in self.state["spans"]:
            if "text" in span:
                found += [(c, None) for c in span["text"]]
            place = span.get("from")
            for text, count, _ in span.get("cells", ()):
                found += [(c, (span["run"], span["sample"], place)) for c in text]
                place += count
        return found


@pytest.fixture
def page(visitor):
    return Page(visitor)


def test_what_is_typed_is_black_and_what_a_model_writes_is_red(page):
    page.open("Once upon").write()
    assert page.text.startswith("Once upon")
    assert [one for _, one in page.inks[:9]] == [None] * 9
    assert len(page.inks) > 9
    assert all(one for _, one in page.inks[9:])


def test_a_word_typed_in_the_middle_leaves_what_stands_behind_it_red_with_its_numbers(page):
    page.open("Once upon").write()
    before = page.state["spans"][1]
    page.type(4, 0, " more")
    assert page.text.startswith("Once more upon")
    assert page.state["spans"][1] == before
    assert before["cells"][0][2], "nothing is known of the first token"


def test_undo_takes_back_a_writing_and_redo_brings_it_again(page):
    page.open("Once upon").write()
    whole = page.inks
    assert page.state["status"].startswith("Stopped")
    page.do("undo")
    assert page.text == "Once upon"
    assert page.state["status"] == ""
    page.do("undo")
    assert page.text == ""
    page.do("undo", 422)
    page.do("redo")
    page.do("redo")
    assert page.inks == whole


def test_a_writing_that_ends_while_a_state_is_read_is_not_said_to_go_on(page, monkeypatch):
    read = Sources.read

    def at_the_end(sources, *texts):
        def over():
            db.session.rollback()  # PostgreSQL ends a transaction in which nothing is done for seconds
            return db.session.get(Run, run, populate_existing=True).state == RunState.DONE

        until(over, what="the end of the writing")
        return read(sources, *texts)

    page.open("Once upon")
    wish = {"max_new_tokens": "150", "min_new_tokens": "150", "seed": "1", "model": "tiny"}
    begun = page.post(f"{page.address}/write", rev=page.state["rev"], seen=None, at=9, options=wish)
    run = begun["open"]["run"]
    monkeypatch.setattr(Sources, "read", at_the_end)
    state = page.look()
    assert state["open"] is None
    assert state["status"].startswith("Stopped at its length"), state["status"]


def test_what_is_thought_of_a_chosen_word_is_there_once_its_run_is_seen_to_have_ended(page, app, monkeypatch):
    page.open("Once upon").write()
    span = page.state["spans"][1]
    stored = page.http.get(f"/r/{span['run']}.json").get_json()["samples"][0]["tokens"][2]
    other = next(a["id"] for a in stored["alternatives"] if a["id"] != stored["id"])
    wish = {"max_new_tokens": "4", "min_new_tokens": "4", "model": "tiny"}
    page.do("word", run=span["run"], sample=0, place=2, token=other, options=wish)
    page.rest()
    word, run_id = page.state["spans"][-2]["from"], page.state["spans"][-1]["run"]
    until(lambda: saved(app, run_id), what="the run in the database")
    state, spans = app.extensions["rubric"], (Written(run_id, PROMPT, word, word + 1), Written(run_id, 0, 0, None))
    with app.app_context():
        run = db.session.get(Run, run_id)
        whole = stored_log(run)
        log = EndsOnceItsPromptIsRead(unknown_records(whole.prompt_ids, run.vocab_size), 1)
        log.samples[0].append(whole.samples[0].read(), 4)
        log.whole = whole
        monkeypatch.setattr(state.registry, "get", {run_id: Entry(log)}.get)
        state.sources.forget()
        found = state.sources.read(spans)
    assert found.growing(spans[1]) or known(found.reading(run_id, PROMPT).records)[word]


class EndsOnceItsPromptIsRead(RunLog):
    """The log of a run of which all is learned, and which ends, as soon as somebody has read its prompt."""

    @property
    def prompt(self):
        read = super().prompt.copy()
        self.learn(0, self.whole.prompt)
        self.finish(self.samples[0], "length", self.whole.samples[0].text_end)
        return read


def test_another_try_stands_beside_the_first(page):
    page.open("Once upon").write()
    first = page.inks
    page.do("retry", options={"max_new_tokens": "8", "seed": "2", "model": "tiny"})
    second = page.rest().inks
    assert page.state["tries"] == {"current": 1, "count": 2}
    assert second[:9] == first[:9]
    assert second != first
    page.do("flip", to=0)
    assert page.inks == first
    page.do("flip", to=1)
    assert page.inks == second


def test_writing_on_before_some_text_sets_it_aside_and_it_can_be_put_back(page):
    page.open("Once upon a time").write(at=4)
    assert page.state["aside"] == [[{"text": " upon a time", "red": False}]]
    text = page.text
    page.do("back", piece=0)
    assert page.text == text + " upon a time"
    assert page.state["aside"] == []


def test_another_word_is_a_try_with_the_tail_set_aside(page):
    page.open("Once upon").write()
    whole, span = page.inks, page.state["spans"][1]
    stored = page.http.get(f"/r/{span['run']}.json").get_json()["samples"][0]["tokens"][2]
    other = next(a["id"] for a in stored["alternatives"] if a["id"] != stored["id"])
    page.do("word", run=span["run"], sample=0, place=2, token=other, options={"max_new_tokens": "4", "model": "tiny"})
    page.rest()
    assert page.state["tries"]["count"] == 2
    assert page.state["aside"]
    page.do("flip", to=0)
    assert page.inks == whole


@pytest.mark.parametrize("what", ["write", "retry"])
def test_a_press_that_finds_the_line_full_leaves_the_writing_as_it_is(page, app, monkeypatch, what):
    page.open("Once upon")
    options = {"max_new_tokens": "400", "min_new_tokens": "400", "model": "tiny", "seed": "1"}
    page.do("write", at=9, options=options)
    until(lambda: page.look()["open"]["tokens"] > 5)
    run, before = page.state["open"]["run"], page.state["versions"]

    def full(*_):
        raise Busy("The line is full.", 5)

    with monkeypatch.context() as patch:
        patch.setattr(app.extensions["rubric"].engine, "submit", full)
        page.do(what, 503, options=options, **({"at": 9} if what == "write" else {}))
    page.rest()
    assert page.state["versions"][0]["run"] == before[0]["run"] == run
    assert len(page.http.get(f"/r/{run}.json").get_json()["samples"][0]["tokens"]) == 400
    assert "Stopped at its length" in page.state["status"]


def test_the_same_request_is_done_once(page):
    page.open("one")
    rev = page.state["rev"]
    for _ in range(2):
        page.do("edits", edits=[[3, 0, " two"]], key="k" * 22, rev=rev)
    assert page.text == "one two"


def test_a_request_that_comes_again_is_told_where_it_led_though_the_sheet_went_on(page):
    """Or its page would take the text that it has for the newest."""
    page.open("one")
    fields = {"edits": [[3, 0, " two"]], "key": "k" * 22, "rev": page.state["rev"]}
    told = page.do("edits", **fields)
    page.type(0, 1, "O")
    assert page.do("edits", **fields)["rev"] == told["rev"] < page.state["rev"]


def test_nobody_makes_another_s_sheet_wait_by_saying_that_they_saw_more_than_there_is(page, friend, monkeypatch):
    monkeypatch.setattr(service, "PATIENCE", 1000.0)
    page.open("one")
    page.do("write", at=3, options={"max_new_tokens": "3000", "min_new_tokens": "3000", "model": "tiny"})
    other = Page(friend, page.address)
    other.look()
    other.do("undo", 403, seen=10**7)
    page.do("stop", 204)


def test_typing_that_went_behind_another_request_is_done_if_nothing_came_between(page):
    page.open("one")
    rev = page.state["rev"]
    page.do("edits", 409, edits=[[7, 0, "!"]], rev=0, behind="k" * 22)
    page.do("edits", edits=[[3, 0, " two"]], rev=rev, key="k" * 22)
    page.do("edits", edits=[[7, 0, "!"]], rev=rev, behind="k" * 22)
    assert page.text == "one two!"
    page.do("edits", 409, edits=[[7, 0, "?"]], behind="k" * 22)


def test_a_sheet_is_made_once_however_often_it_is_asked_for(page, friend):
    """Also where the answer with the cookie did not come; whoever has another cookie makes one of their own."""
    key = secrets.token_urlsafe(16)
    first = page.open("one", key=key).state["id"]
    page.http.client.delete_cookie("rubric")
    again = page.open("one", key=key)
    assert again.state["id"] == first
    again.type(3, 0, " two")
    friend.start()
    other = Page(friend).open("one", key=key)
    assert other.state["id"] != first
    assert other.state["mine"]
    assert again.look()["mine"]


def test_typing_behind_what_was_seen_of_a_run_ends_it_there_though_it_has_ended_meanwhile(page):
    page.open("Once upon").write()
    cells = page.state["spans"][1]["cells"][:2]
    shown = "Once upon" + "".join(text for text, _, _ in cells)
    page.type(len(shown), 0, "!", seen=sum(count for _, count, _ in cells))
    assert page.text == shown + "!"


def test_a_request_based_on_an_older_text_is_refused(page):
    page.open("one")
    rev = page.state["rev"]
    page.type(3, 0, " two")
    assert page.do("edits", 409, edits=[[0, 0, "x"]], rev=rev)["values"]["rev"] == page.state["rev"]


def test_others_see_what_was_part_of_a_writing_and_may_not_change_it(page, friend):
    page.open("Once upon").write()
    whole = page.text
    page.type(0, 0, "unsent ")
    other = Page(friend, page.address)
    other.look()
    assert other.text == whole
    assert not other.state["mine"]
    assert not other.state["undo"]
    other.do("edits", 403, edits=[[0, 0, "x"]])
    mine = Page(friend).open("", **{"from": {"sheet": page.state["id"]}})
    assert mine.inks == other.inks


def test_others_see_the_settings_of_the_last_writing_and_not_what_was_set_since(page, friend):
    page.open("one").write(temperature="0.5", stop="no\\nfox")
    page.do("settings", options={"temperature": "0.7", "banned_phrases": "a secret"})
    told = friend.get(f"{page.address}/state").get_json()["options"]
    assert told["model"] == "tiny"
    assert float(told["temperature"]) == 0.5
    assert told["stop"] == "no\\nfox"
    assert "secret" not in friend.get(page.address).text + str(told)
    assert page.look()["options"]["banned_phrases"] == "a secret"


def test_a_run_of_before_opens_as_a_sheet_in_its_inks(page, visitor):
    run = visitor.start(max_new_tokens=6)
    visitor.finish(run)
    sheet = Page(visitor).open("", **{"from": {"run": run.split("/")[-1], "sample": 0}})
    assert [bool(one) for _, one in sheet.inks][:16] == [False] * 16
    assert all(one for _, one in sheet.inks[16:])


def test_a_sheet_keeps_the_text_of_a_run_that_is_deleted_and_of_its_past(page, friend):
    """In black, as nobody knows any more what the model thought; a friend's copy does too."""
    page.open("Once upon").write()
    page.do("retry", options={"max_new_tokens": "8", "seed": "2", "model": "tiny", "min_new_tokens": "8"})
    second, first = page.rest().text, page.state["versions"][1]["run"]
    copied = Page(friend).open(**{"from": {"sheet": page.state["id"]}})
    page.type(3, 1, "e")
    page.type(len(page.text), 0, "!")
    for run in page.state["versions"]:
        assert page.http.post(f"/r/{run['run']}/delete").status_code == 303
    assert page.look()["versions"] == []
    assert page.text == second[:3] + "e" + second[4:] + "!"
    assert not any(one for _, one in page.inks)
    for _ in range(3):
        page.do("undo")
    assert page.text.startswith("Once upon")
    assert page.text != second
    for _ in range(3):
        page.do("redo")
    assert page.text == second[:3] + "e" + second[4:] + "!"
    copied.look()
    assert copied.text == second
    assert first not in str(copied.state)


def test_what_is_typed_while_runs_of_the_sheet_are_deleted_is_kept(page, app):
    page.open("the king")
    for seed in range(12):
        page.write(seed=str(seed), max_new_tokens="2", min_new_tokens="2")
    runs = [version["run"] for version in page.state["versions"]]
    other = Visitor(app)
    other.client.set_cookie("rubric", page.http.client.get_cookie("rubric").value)
    deleting = threading.Thread(target=lambda: [other.post(f"/r/{run}/delete") for run in runs])
    deleting.start()
    typed = 0
    while deleting.is_alive():
        answer = page.http.post(
            f"{page.address}/edits",
            json={"key": secrets.token_urlsafe(16), "rev": page.look()["rev"], "edits": [[0, 0, "x"]]},
            headers=JSON,
        )
        typed += answer.status_code == 200
    deleting.join()
    assert page.look()["versions"] == []
    assert page.text.startswith("x" * typed + "the king")


def test_what_is_kept_in_mind_stands_first_in_every_prompt_and_stays_in_a_full_window(page):
    page.open("and so", memory="a fox, Rei").write(max_new_tokens="90", min_new_tokens="90")
    page.write(max_new_tokens="9", min_new_tokens="9")
    for version in page.state["versions"]:
        run = page.http.get(f"/r/{version['run']}.json").get_json()
        kept, tokens = run["options"]["n_keep"], run["prompt"]["tokens"]
        assert b"".join(bytes(token["bytes"]) for token in tokens[:kept]) == b"a fox, Rei\n"
        count = len(tokens) + len(run["samples"][0]["tokens"])
        for told in range(len(tokens), count):
            first, newest = context_at(told, 64, kept)
            assert newest.start == 0 or list(first) == list(range(kept))
    assert page.state["edge"] > 0
    assert "Rei" not in page.text


def test_where_the_window_begins_is_told_with_the_end_of_a_writing_and_with_what_was_typed_or_set(page, friend):
    page.open("and so").write(max_new_tokens="90", min_new_tokens="90")
    assert page.state["edge"] > 0
    for reader in (page, Page(friend, page.address)):
        heard = parse_events("".join(first_events(reader, 3)))
        over = json.loads(next(one["data"] for one in heard if one["event"] == "over"))
        state = reader.look()
        assert (over["rev"], over["edge"]) == (state["rev"], state["edge"])
    shorter = page.do("edits", edits=[[0, len(page.text) - 10, ""]])
    assert (shorter["edge"], page.state["edge"]) == (None, None)
    longer = page.do("edits", edits=[[0, 0, "the fox and the sea " * 20]])
    assert longer["edge"] == page.state["edge"] > 100
    wider = page.do("settings", options={"model": "storyteller"})
    assert (wider["edge"], page.state["edge"]) == (None, None)
    minded = page.do("settings", options={"model": "tiny"}, memory="a fox, Rei")
    assert minded["edge"] == page.state["edge"] >= longer["edge"]


def test_what_is_kept_in_mind_is_taken_back_and_done_again_as_typing_is(page):
    page.open("one", memory="a fox")
    page.do("settings", memory="a fox, Rei", lens="rank")
    page.type(3, 0, " two")
    seen = []
    while page.state["undo"]:
        page.do("undo")
        seen.append((page.state["memory"], page.text))
    assert seen == [("a fox, Rei", "one"), ("a fox", "one"), ("a fox", ""), ("", "")]
    assert page.state["lens"] == "rank"
    while page.state["redo"]:
        page.do("redo")
    assert (page.state["memory"], page.text) == ("a fox, Rei", "one two")


def test_what_another_window_wants_kept_in_mind_is_not_overwritten_unknown(page):
    page.open("one", memory="a fox")
    told = page.do("settings", memory="a fox, Rei", known_memory="a fox")
    assert (told["rev"], told["undo"]) == (page.state["rev"], True)
    page.do("settings", 409, memory="a hen", known_memory="a fox")
    assert page.look()["memory"] == "a fox, Rei"
    again = page.do("settings", memory="a fox, Rei", known_memory="a fox")
    assert again["rev"] == told["rev"], "the same that comes again changes nothing"
    page.do("settings", lens="rank", known_memory="a fox")
    page.do("settings", memory="", known_memory="a fox, Rei")
    assert page.state["memory"] == ""


def test_what_is_to_be_kept_in_mind_is_news_to_the_owner_s_other_windows_and_to_nobody_else(page, friend):
    page.open("one").write()
    other = Page(friend, page.address)
    before, seen = page.state["rev"], other.look()
    page.do("settings", lens="rank")
    assert page.state["rev"] == before
    page.do("settings", memory="a fox")
    assert page.state["rev"] == before + 1
    assert other.look() == seen


def test_all_versions_of_a_sheet_are_counted_and_the_older_ones_told_when_they_are_asked_for(page, monkeypatch):
    monkeypatch.setattr(versions, "SHOWN", 2)
    page.open("one")
    for _ in range(5):
        page.write(max_new_tokens="1", min_new_tokens="1")
    assert (len(page.state["versions"]), page.state["version_count"]) == (2, 5)
    told = [page.http.get(f"{page.address}/versions?from={n}").get_json()["versions"] for n in (2, 4, 5)]
    assert [len(one) for one in told] == [2, 1, 0]
    runs = [one["run"] for one in [*page.state["versions"], *told[0], *told[1]]]
    exported = page.http.get(f"{page.address}.json").get_json()["versions"]
    assert runs == [one["run"] for one in exported]
    assert page.http.get(f"{page.address}/versions?from=x", headers=JSON).get_json()["field"] == "from"


def test_the_prompt_of_a_writing_knows_where_each_of_its_tokens_is_from(page, app):
    page.open("Once upon").write()
    span = page.state["spans"][1]
    page.type(len(page.text), 0, " and")
    page.write()
    run_id = page.state["versions"][0]["run"]
    until(lambda: saved(app, run_id), what="the saving")
    with app.app_context():
        run = db.session.get(Run, run_id)
        origins, first = run.origins, db.session.get(Run, span["run"])
        assert [one[1:] for one in origins] == [[], [span["run"], 0, 0], []]
        assert origins[1][0] == 8
        assert sum(one[0] for one in origins) == sum(run.authors)
        written = stored_log(first).samples[0].read()
        assert stored_log(run).prompt[origins[0][0] :][:8].tobytes() == written.tobytes()


def saved(app, run_id):
    with app.app_context():
        return db.session.get(Run, run_id).state == "done"


def every_red_character_was_written(page, runs):
    """By the record of the runs, whatever was asked: each cell says what its own tokens say, and is coloured as likely as they
    were. `runs` are those that were looked at before."""
    spans = page.state["spans"]
    for number, span in enumerate(spans):
        if "text" in span:
            continue
        run = runs.get(span["run"]) or page.http.get(f"/r/{span['run']}.json").get_json()
        if run["samples"][0]["finish_reason"]:
            runs[span["run"]] = run
        tokens = run["prompt"]["tokens"] if span["sample"] < 0 else run["samples"][span["sample"]]["tokens"]
        place = span["from"]
        for first, (text, count, look) in enumerate(span["cells"]):
            own, place = tokens[place : place + count], place + count
            data = b"".join(bytes(token["bytes"]) for token in own)
            is_shared = (
                first == 0 and number > 0 and "cells" in spans[number - 1]
            )  # its first half is of the run before
            assert text == data.decode("utf-8", "replace") or (is_shared and text.encode().endswith(data)), (text, own)
            told = [token["logprob"] for token in own]
            if not is_shared and None not in told:
                border = sum(sum(told) < math.log(p) for p in (0.5, 0.2, 0.1, 0.03, 0.01, 0.001))
                assert f"p{border}" in look.split(), (look, told)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 60)
    | st.floats()
    | st.sampled_from(["", "a", "<b>", "\ud800", "\0", "tiny"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["run", "sheet", "sample", "model"]), inner)
    ),
    max_leaves=6,
)
FIELDS = [
    "rev",
    "seen",
    "at",
    "edits",
    "options",
    "run",
    "sample",
    "place",
    "token",
    "to",
    "piece",
    "memory",
    "lens",
    "from",
]
ADDRESSES = ["edits", "write", "retry", "word", "flip", "undo", "redo", "back", "settings", "stop"]


def test_nothing_that_is_asked_makes_a_character_red_that_no_run_wrote(page):
    """Any JSON to any address: a refusal in one sentence that is no fault of ours, or something that a person may do."""
    page.open("Once upon").write()
    span, runs = page.state["spans"][1], {}

    @given(st.data())
    @settings(max_examples=60)
    def ask(data):
        what = data.draw(st.sampled_from([*ADDRESSES, "../sheets"]))
        known = st.sampled_from(
            [page.state["rev"], span["run"], page.state["id"], [[0, 1, "x"]], [[span["run"], 0, 0, 3]]]
        )
        fields = data.draw(st.dictionaries(st.sampled_from(FIELDS), known | json_values, max_size=6))
        fields = {"key": secrets.token_urlsafe(16), "rev": page.state["rev"]} | fields
        address = "/sheets" if what.startswith("..") else f"{page.address}/{what}"
        answer = page.http.post(address, data=json.dumps(fields), content_type="application/json", headers=JSON)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert len(answer.get_json()["problem"]) > 10
        page.rest()
        every_red_character_was_written(page, runs)

    ask()


@pytest.mark.parametrize(
    ("what", "fields", "field"),
    [
        ("edits", {"edits": [[0, 99, ""]]}, "edits"),
        ("edits", {"edits": [[-1, 0, ""]]}, "edits"),
        ("edits", {"edits": [[0, 0, 5]]}, "edits"),
        ("edits", {"edits": "all"}, "edits"),
        ("edits", {"edits": [], "key": "short"}, "key"),
        ("edits", {"edits": [[0, 0, "x" * 30_000]]}, "text"),
        ("edits", {"edits": [], "rev": "new"}, "rev"),
        ("write", {"at": True, "options": {}}, "at"),
        ("write", {"at": 1, "options": {"top_p": "7"}}, "top_p"),
        ("write", {"at": 1, "options": {"model": "nobody"}}, "model"),
        ("word", {"run": "nobody", "sample": 0, "place": 0, "options": {}}, "place"),
        ("flip", {"to": 4}, "to"),
        ("back", {"piece": 0}, "piece"),
        ("settings", {"memory": "x" * 30_000}, "memory"),
        ("write", {"at": 1, "options": {"model": "tiny"}, "memory": "no fox, no sea, and no king at all"}, "memory"),
    ],
)
def test_a_request_that_cannot_be_done_is_refused_by_a_sentence_and_changes_nothing(page, what, fields, field):
    page.open("one", memory=fields["memory"] if what == "write" and "memory" in fields else "")
    told = page.do(what, 422, **fields)
    assert told["field"] == field
    assert page.look() == page.state
    assert page.text == "one"


def test_a_sheet_s_page_is_named_after_its_first_words_and_has_the_picture_of_its_last_version(page, friend):
    page.open("Once <upon>").write()
    page.type(0, 0, "unsent ")
    html = friend.get(page.address).text
    assert "<title>Once &lt;upon&gt;" in html
    assert f'/r/{page.state["versions"][0]["run"]}.png"' in html
    assert "unsent" not in html
    assert "<title>unsent Once" in page.http.get(page.address).text


def test_a_friend_hears_of_each_writing_and_its_tokens_but_not_of_typing(page, friend):
    page.open("Once upon").write()
    quietly = lambda: (page.type(0, 0, "unsent "), page.do("settings", memory="a secret"))  # noqa: E731
    assert names_heard(friend, page, quietly) == []
    heard = names_heard(friend, page, lambda: page.write())
    assert "sheet" in heard
    assert "tokens" in heard
    assert "over" in heard


def test_a_token_that_a_stop_string_cut_is_in_no_event_and_black_in_the_state_to_which_the_last_one_leads(page):
    page.open("Once upon a time").write(model="storyteller", max_new_tokens="20", min_new_tokens="0")
    word = next(text for text, *_ in page.state["spans"][1]["cells"][3:] if len(text) > 4)
    page.open("Once upon a time").write(model="storyteller", max_new_tokens="20", min_new_tokens="0", stop=word[2:4])
    red, black = page.state["spans"][1:]
    assert black == {"text": word[:2]}
    assert re.fullmatch(r"Reached a stop string after [0-9]+ tokens\.", page.state["status"])
    heard = parse_events("".join(first_events(page, 3)))
    tokens, over = (json.loads(one["data"]) for one in heard[1:])
    assert tokens["cells"] == red["cells"]
    assert over["tokens"] == tokens["to"] + 1


def test_a_character_that_never_became_whole_is_sent_once_the_run_is_over(page):
    page.open("Once upon").write(min_new_tokens="1", max_new_tokens="1")
    (cell,) = page.state["spans"][1]["cells"]
    assert cell[0] == "\ufffd"
    tokens = parse_events("".join(first_events(page, 3)))[1]
    assert json.loads(tokens["data"])["cells"] == [cell]


def first_events(page, count):
    """The first events that a new reader is sent."""
    stream = page.http.client.get(f"{page.address}/events")
    parts = stream.iter_encoded()
    found = [next(parts).decode() for _ in range(count)]
    stream.close()
    return found


def names_heard(friend, page, act):
    """The names of the events that somebody hears while something is done, those of the beginning not counted."""
    stream = friend.client.get(f"{page.address}/events")
    parts = stream.iter_encoded()
    heard = lambda: next(parts).decode().split("\n")[0].removeprefix("event: ")  # noqa: E731
    while heard() != "beat":
        pass
    act()
    names = []
    while not names or names[-1] != "beat":
        names.append(heard())
    stream.close()
    return names[:-1]


def test_half_a_character_at_the_end_hides_no_token_before_it():
    """Else a page that is opened just then takes in anew what it has."""
    content = Content((Written("run", 0, 0, None),))
    pieces = [Cell(" fox", (Origin("run", 0, 0),)), Cell("", (Origin("run", 0, 1),))]
    assert open_run(content, pieces)["tokens"] == 1
