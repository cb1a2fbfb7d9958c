"""Suggestions over their routes: they are told as they are written, are nobody else's, and a run only once one is taken."""

import json
import time
from dataclasses import dataclass

import pytest
from sqlalchemy import func, select
from test_replay import verdict_of
from test_sheets import JSON, Page

from webapp.runs.tables import Run, db
from webapp.sheets import suggestions

WISH = {"model": "tiny", "seed": "1", "min_new_tokens": "24"}


@dataclass
class Told:
    """What the answer to one asking has told: the suggestions' name, the cells of each, and how it ended."""

    id: str
    cells: list[list]
    over: str | None

    @property
    def texts(self) -> list[str]:
        return ["".join(text for text, _ in cells) for cells in self.cells]

    def count(self, number: int, words: int | None = None) -> int:
        """How many tokens a suggestion has, or so many of its cells."""
        return sum(count for _, count in self.cells[number][:words])


def told_by(lines: list[dict]) -> Told:
    found = Told(lines[0]["id"], [[], [], []], None)
    for line in lines:
        if "sample" in line:
            found.cells[line["sample"]] += line["cells"]
        found.over = line.get("over", found.over)
    return found


@pytest.fixture
def page(visitor):
    return Page(visitor)


@pytest.fixture
def store(app):
    return app.extensions["rubric"].suggestions


def ask(page, status=200, **fields):
    """Ask at the end of the text, or `at` another place."""
    given = {"rev": page.state["rev"], "at": len(page.text), "options": WISH} | fields
    answer = page.http.post(f"{page.address}/suggest", json=given, headers=JSON)
    assert answer.status_code == status, answer.text
    return told_by([json.loads(line) for line in answer.text.splitlines()]) if status == 200 else answer.get_json()


def take(page, told, status=200, sample=0, start=0, end=None, **fields):
    end = told.count(sample) if end is None else end
    given = {"suggestion": told.id, "sample": sample, "from": start, "to": end, "at": len(page.text)}
    return page.do("take", status, **given | fields)


def runs(app, page) -> int:
    with app.app_context():
        mine = Run.sheet_id == page.state["id"]
        return db.session.scalar(select(func.count()).select_from(Run).where(mine))


def test_three_ways_on_are_told_and_nothing_is_stored(page, app):
    told = ask(page.open("Once upon"))
    assert [told.count(number) for number in range(3)] == [24, 24, 24]
    assert len(set(told.texts)) == 3
    assert told.over == ""
    before = page.state
    assert page.look() == before
    assert runs(app, page) == 0


def test_the_first_is_what_write_on_would_say_with_the_same_seed(page):
    told = ask(page.open("Once upon"))
    page.write(**WISH | {"max_new_tokens": "24"})
    assert page.text == "Once upon" + told.texts[0]


def test_asked_again_there_come_others_though_the_seed_is_the_same(page):
    first, again, others = ask(page.open("Once upon")), ask(page), ask(page, turn=1)
    assert again.texts == first.texts
    assert not set(others.texts) & set(first.texts)


def test_one_that_is_taken_is_a_run_in_the_sheet_which_undo_takes_back(page, app):
    told = ask(page.open("Once upon"))
    take(page, told, sample=2)
    assert page.text == "Once upon" + told.texts[2]
    assert all(page.inks[9:][n][1] is not None for n in range(len(told.texts[2]))), "not all of it is red"
    (version,) = page.state["versions"]
    taken = page.inks
    page.do("undo")
    assert page.text == "Once upon"
    page.do("redo")
    assert page.inks == taken
    answer = page.http.json(f"/r/{version['run']}")
    assert answer["options"]["samples"] == 1
    assert runs(app, page) == 1


def test_the_run_of_one_that_was_taken_is_replayed_exactly(page):
    told = ask(page.open("Once upon"), turn=11, options=WISH | {"temperature": "1.3", "top_k": "0"})
    take(page, told, sample=1)
    assert verdict_of(page.http, f"/r/{page.state['versions'][0]['run']}") == "Identical: 24 tokens."


def test_word_by_word_it_is_the_same_run_and_each_word_a_change_of_its_own(page, app):
    told = ask(page.open("Once upon"))
    first, second = told.count(1, words=1), told.count(1, words=3)
    take(page, told, sample=1, end=first)
    take(page, told, sample=1, start=first, end=second)
    assert page.text == "Once upon" + "".join(text for text, _ in told.cells[1][:3])
    assert runs(app, page) == 1
    whole = page.inks
    take(page, told, sample=1, start=second)
    assert page.text == "Once upon" + told.texts[1]
    page.do("undo")
    assert page.inks == whole
    page.do("undo")
    assert page.text == "Once upon" + told.cells[1][0][0]


def test_it_is_put_in_at_the_caret_and_what_stands_behind_stays(page):
    told = ask(page.open("Once upon, and that was all."), at=9)
    take(page, told, at=9)
    assert page.text == f"Once upon{told.texts[0]}, and that was all."
    assert page.state["aside"] == []


def test_retry_writes_anew_what_was_taken_and_the_first_is_a_try(page):
    told = ask(page.open("Once upon"))
    take(page, told)
    page.do("retry", options={"max_new_tokens": "8", "seed": "2", "model": "tiny"})
    page.rest()
    assert page.state["tries"] == {"current": 1, "count": 2}
    page.do("flip", to=0)
    assert page.text == "Once upon" + told.texts[0]


def test_the_same_request_takes_it_once(page):
    told, again = ask(page.open("Once upon")), {"key": "k" * 22, "rev": page.state["rev"]}
    take(page, told, **again)
    taken = page.text
    take(page, told, at=9, **again)
    assert page.text == taken


def test_nobody_else_can_take_it(page, friend):
    told = ask(page.open("Once upon"))
    other = Page(friend).open("Once upon")
    assert "gone" in take(other, told, 410)["problem"]
    assert other.look()["versions"] == []


def test_after_five_minutes_it_is_gone(page, store, monkeypatch):
    told = ask(page.open("Once upon"))
    monkeypatch.setattr(store, "clock", lambda: time.monotonic() + 299)
    take(page, told, end=1)
    monkeypatch.setattr(store, "clock", lambda: time.monotonic() + 301)
    assert "five minutes" in take(page, told, 410, start=1)["problem"]


def test_it_goes_with_its_sheet(page, store):
    told = ask(page.open("Once upon"))
    page.http.post(f"{page.address}/delete")
    other = Page(page.http).open("Once upon")
    take(other, told, 410)


def test_of_one_visitor_a_few_are_kept_and_of_a_sheet_the_newest_alone(page, store):
    old = ask(page.open("Once upon"))
    new = ask(page)
    take(page, old, 410)
    take(page, new, end=1)
    for _ in range(suggestions.MOST_OF_ONE):
        ask(Page(page.http).open("Once upon"))
    take(page, new, 410, start=1)


def test_long_texts_leave_room_for_few(page, monkeypatch):
    monkeypatch.setattr(suggestions, "MOST_TOKENS", 50)
    old = ask(page.open("Once upon"))
    ask(Page(page.http).open("many words " * 40))
    take(page, old, 410)


def test_where_the_text_before_it_is_another_one_nothing_is_taken(page):
    told = ask(page.open("Once upon"))
    page.type(0, 4, "Twice")
    assert "another one" in take(page, told, 422)["problem"]
    page.type(0, 5, "Once")
    take(page, told)
    assert page.text == "Once upon" + told.texts[0]


@pytest.mark.parametrize("wrong", [{"end": 25}, {"start": 3, "end": 3}, {"sample": 3, "end": 1}])
def test_a_stretch_that_was_not_written_is_refused_by_a_sentence(page, wrong):
    told = ask(page.open("Once upon"))
    assert take(page, told, 422, **wrong)["field"] == "end"
    assert page.look()["versions"] == []


def test_on_a_friend_s_sheet_one_is_suggested_what_becomes_a_sheet_of_one_s_own(page, friend):
    page.open("Once upon").write()
    page.type(0, 0, "secret ")
    guest = Page(friend, page.address)
    guest.look()
    told = ask(guest)
    guest.open(**{"from": {"sheet": page.state["id"]}})
    take(guest, told)
    assert guest.address != page.address
    assert guest.text.endswith(told.texts[0])
    assert "secret" not in guest.text


def test_a_stale_page_is_told_so(page):
    page.open("Once upon").type(0, 0, "x")
    assert ask(page, 409, rev=page.state["rev"] - 1)["field"] == "rev"


def test_while_the_model_writes_in_the_sheet_it_suggests_nothing(page):
    page.open("Once upon")
    page.do("write", at=9, options={"model": "slow", "max_new_tokens": "4096"})
    assert "writing" in ask(page, 422)["problem"]
    page.post(f"{page.address}/stop", 204)
    page.rest()


def test_a_page_that_goes_away_lets_them_end(page, app, store):
    page.open("Once upon")
    given = {"rev": page.state["rev"], "at": 9, "options": {"model": "slow", "seed": "1"}}
    answer = page.http.client.post(f"{page.address}/suggest", json=given)  # a reader who reads one line alone
    first = json.loads(next(answer.response))
    log = store.find(first["id"], owner_of(app, page)).log
    answer.close()
    log.wait_until_done()
    assert {sample.finish_reason for sample in log.samples} == {"cancelled"}


def test_what_is_taken_while_it_is_written_goes_on_in_a_run_that_continues_the_first(page):
    page.open("Once upon")
    slow = {"model": "slow", "seed": "4", "min_new_tokens": "24", "temperature": "1.3", "top_k": "0"}
    given = {"rev": page.state["rev"], "at": 9, "options": slow}
    lines = map(json.loads, page.http.client.post(f"{page.address}/suggest", json=given).response)
    seen = [next(lines)]
    while not (first := told_by(seen).count(2)):
        seen.append(next(lines))
    take(page, told_by(seen), sample=2, end=first)
    told = told_by([*seen, *lines])
    assert told.count(2) == 24
    take(page, told, sample=2, start=first)
    assert page.text == "Once upon" + told.texts[2]
    later, earlier = page.state["versions"]
    parent = page.http.json(f"/r/{later['run']}")["parent"]
    assert parent == {"id": earlier["run"], "sample": 0, "relation": "continue"}
    for version in (earlier, later):
        assert verdict_of(page.http, f"/r/{version['run']}").startswith("Identical")


def test_what_is_kept_in_mind_and_banned_counts_for_suggestions_too(page):
    page.open("Once upon", memory="Reynard the fox")
    options = WISH | {"banned_phrases": "the\na", "temperature": "1.5", "top_k": "0"}
    told = ask(page, options=options)
    assert not any(" the " in text or " a " in text for text in told.texts)
    take(page, told, sample=1)
    run = page.http.json(f"/r/{page.state['versions'][0]['run']}")
    assert run["options"]["n_keep"] > 0
    assert verdict_of(page.http, f"/r/{page.state['versions'][0]['run']}").startswith("Identical")


def owner_of(app, page) -> str:
    from webapp.sheets.tables import Sheet

    with app.app_context():
        return db.session.get(Sheet, page.state["id"]).owner
