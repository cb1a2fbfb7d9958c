"""A visitor's list of sheets, with the runs of before among them: found, taken away, deleted, and past their time."""

import html
import re
from datetime import datetime, timedelta

import pytest
from conftest import TRICKY, pictured
from sqlalchemy import func, select, update
from test_my_runs import listed
from test_sheets import Page
from waiting import until

from webapp.runs import removal
from webapp.runs.removal import remove
from webapp.runs.tables import Gone, Run, db
from webapp.sheets.tables import Change, Reference, Sheet, now


@pytest.fixture
def page(visitor):
    return Page(visitor)


def sheet_of(visitor, text="") -> Page:
    """A visitor's new sheet with some text."""
    return Page(visitor).open(text)


def until_indexed(app, *pages) -> None:
    """Wait until sheets, and the runs that wrote in them, can be found by their words. Others' may still be written."""
    runs = {version["run"] for page in pages for version in page.look()["versions"]}
    sheets = [page.state["id"] for page in pages]

    def unindexed() -> int:
        with app.app_context():
            kinds = ((Sheet, sheets), (Run, runs))
            asked = (select(func.count()).where(kind.words.is_(None), kind.id.in_(ids)) for kind, ids in kinds)
            return sum(db.session.scalar(one) for one in asked)

    until(lambda: runs.isdisjoint(app.extensions["rubric"].registry.entries()), what="the last saving")
    until(lambda: unindexed() == 0, what="the index")


def entry(visitor, sheet) -> str:
    """What the list shows of a sheet, as HTML."""
    return next(item for item in visitor.get("/runs").text.split("<li") if f'"{sheet.address}"' in item)


def longest_word(text: str) -> str:
    return max(text.replace("\0", " ").split(), key=len)


# The list


def test_a_sheet_has_one_entry_however_often_a_model_wrote_in_it(page, visitor, friend):
    page.open("Once upon").write()
    page.type(0, 0, "Well. ")
    page.write()
    assert listed(visitor) == [page.address]
    assert "2 versions" in entry(visitor, page)
    assert "1 sheet, the last changed first" in visitor.get("/runs").text
    assert listed(friend) == []


def test_sheets_and_runs_of_before_stand_in_one_list_the_last_changed_first(visitor):
    first = sheet_of(visitor, "one")
    run = visitor.start("two", max_new_tokens=1)
    second = sheet_of(visitor, "three")
    assert listed(visitor) == [second.address, run, first.address]
    first.type(3, 0, " more")
    assert listed(visitor) == [first.address, second.address, run]
    assert "2 sheets and 1 run, the last changed first" in visitor.get("/runs").text


def test_a_run_that_was_continued_from_a_version_is_listed_by_itself(page, visitor):
    run = page.open("Once upon").write().state["versions"][0]["run"]
    other = visitor.post(f"/r/{run}/continue").headers["Location"]
    assert listed(visitor) == [other, page.address]


def test_pages_of_the_list_hold_both_kinds_each_once(visitor):
    made = []
    for n in range(12):
        made += [sheet_of(visitor, f"sheet {n}").address, visitor.start(f"run {n}", max_new_tokens=1)]
    pages = [re.findall('class="story small" href="([^"]+)"', visitor.get(f"/runs?page={n}").text) for n in (1, 2, 3)]
    assert [len(found) for found in pages] == [20, 4, 0]
    assert pages[0] + pages[1] == made[::-1]


def test_a_sheet_that_nobody_typed_in_is_not_listed_and_one_that_was_emptied_is(page, visitor):
    page.open()
    assert "Nothing of yours is here" in visitor.get("/runs").text
    page.type(0, 0, "a thought")
    page.type(0, 9, "")
    assert "An empty page" in entry(visitor, page)


def test_a_copy_of_a_friend_s_sheet_is_listed_before_anything_is_typed_in_it(page, friend):
    page.open("Once upon").write()
    copied = Page(friend).open(**{"from": {"sheet": page.state["id"]}})
    assert listed(friend) == [copied.address]


def test_an_entry_shows_the_sheet_s_end_in_both_inks(page, visitor):
    page.open("Once upon").write()
    page.type(len(page.text), 0, " and so on")
    inks = re.findall('<span class="(prompt|continuation)">', entry(visitor, page))
    assert inks == ["prompt", "continuation", "prompt"]
    assert " and so on</span></a>" in entry(visitor, page)


def test_of_a_long_sheet_an_entry_shows_the_last_words(page, visitor):
    page.open(" ".join(f"word{n}" for n in range(300)))
    shown = re.search('<span class="prompt">…</span><span class="prompt">(.+?)</span></a>', entry(visitor, page))[1]
    assert shown.endswith("word298 word299")
    assert re.match(r"word\d+ ", shown), "it begins at a word"
    assert 150 < len(shown) <= 200


def test_of_a_long_writing_an_entry_shows_the_last_words_and_nothing_from_before_it(page, visitor):
    page.open("zzz").write(max_new_tokens="300", min_new_tokens="300")
    shown = re.search('class="story small" href="[^"]+">(.+?)</a>', entry(visitor, page), re.S)[1]
    assert re.findall('<span class="(.+?)">', shown) == ["continuation"] * 2
    assert "zzz" not in shown
    red = "".join(cell[0] for cell in page.state["spans"][1]["cells"]).replace("\ufffd", "")
    assert html.unescape(shown).endswith(pictured(red[-20:]) + "</span>")


@pytest.mark.parametrize("text", [TRICKY, "🦊" * 300, "<b>\n\nx", "\0"])
def test_the_list_shows_any_text_as_it_is(page, visitor, text):
    page.open(text).write(max_new_tokens="20", temperature="3", top_k="0")
    shown = visitor.get("/runs").text
    assert "<script>alert" not in shown
    assert "<b>\n" not in shown
    assert "\ufffd" not in shown
    assert "\0" not in shown


def test_an_entry_says_that_its_sheet_is_being_written_now(page, visitor):
    page.open("Once upon").do("write", at=9, options={"model": "slow", "max_new_tokens": "400"})
    assert "<b>being written</b>" in entry(visitor, page)
    page.post(f"{page.address}/stop", 204)
    page.rest()
    until(lambda: "<b>being written</b>" not in entry(visitor, page), what="the end of the writing in the list")


# Search


def test_words_are_found_in_what_was_typed_written_and_set_aside(app, page, visitor, friend):
    other = sheet_of(visitor, "nothing to see")
    page.open("The FOX of Élan 从前有一只狐狸 and a bear_100%").write(at=15)
    said = longest_word(page.text[15:])
    until_indexed(app, page, other)
    for query in ("fox", "éLAN", "一只狐", "bear_100%", said):
        assert page.address in listed(visitor, query), query
    assert listed(visitor, "bear%100_") == []
    assert listed(visitor, "to see") == [other.address]
    assert listed(friend, "fox") == []


def test_words_are_found_that_a_version_has_and_the_sheet_has_no_more(app, page, visitor):
    page.open("the quokka said").write()
    said = page.text[11:15] + page.text[15:].rstrip("\ufffd")
    page.do("undo")
    page.type(0, 15, "")
    until_indexed(app, page)
    assert page.text == ""
    assert listed(visitor, "quokka") == [page.address]
    assert listed(visitor, said.replace("\0", "").strip()) == [page.address]


def test_words_are_found_in_a_try_that_is_not_shown(app, page, visitor):
    page.open("Once upon").write()
    page.type(len(page.text), 0, " the wombat")
    page.do("retry", options={"max_new_tokens": "4", "seed": "2", "model": "tiny"})
    page.rest()
    assert "wombat" not in page.text
    until_indexed(app, page)
    assert listed(visitor, "wombat") == [page.address]


def test_words_that_were_typed_since_are_found_and_those_taken_out_are_not(app, page, visitor):
    page.open("a wombat")
    until_indexed(app, page)
    assert listed(visitor, "wombat") == [page.address]
    page.type(2, 6, "numbat")
    until_indexed(app, page)
    assert listed(visitor, "numbat") == [page.address]
    assert listed(visitor, "wombat") == []


def test_a_sheet_that_was_changed_while_it_was_read_is_not_indexed_by_its_older_text(a, monkeypatch):
    from webapp.sheets import search

    page = Page(a.visitor).open("a wombat")
    rest(a, page)
    with a.app.app_context():  # other tests' sheets, which would be read first
        db.session.execute(update(Sheet).where(Sheet.id != page.state["id"]).values(words=""))
        db.session.commit()
    read = search.texts_of

    def meanwhile(content, sources):
        page.type(2, 6, "numbat")
        return read(content, sources)

    monkeypatch.setattr(search, "texts_of", meanwhile)
    a.do("index_sheets")
    assert column(a, page, Sheet.words) is None
    monkeypatch.undo()
    rest(a, page)
    a.do("index_sheets")
    assert column(a, page, Sheet.words) == "a numbat"


def rest(server, page, **longer) -> None:
    """Let a sheet be one that was not changed for a while."""
    longer = timedelta(**longer or {"minutes": 1})
    with server.app.app_context():
        found = db.session.get(Sheet, page.state["id"])
        found.changed -= longer
        db.session.commit()


def column(server, page, name):
    with server.app.app_context():
        return db.session.scalar(select(name).where(Sheet.id == page.state["id"]))


# To take away


def test_a_sheet_s_text_is_taken_away_as_it_is(page, visitor):
    page.open(TRICKY).write()
    answer = visitor.get(f"{page.address}.txt")
    assert answer.mimetype == "text/plain"
    assert answer.get_data() == page.text.encode()
    assert f'href="{page.address}.txt"' in entry(visitor, page)


def test_a_sheet_s_json_tells_who_wrote_what_and_where_its_numbers_are(page, visitor):
    page.open("Once upon").write()
    page.type(4, 0, " more")
    told = visitor.get(f"{page.address}.json").get_json()
    assert told["text"] == page.text == "".join(span["text"] for span in told["spans"])
    typed, written = told["spans"]
    assert typed == {"text": "Once more upon"}
    run = visitor.json(f"/r/{written['run']}")
    assert run["samples"][written["sample"]]["text"] == written["text"]
    assert (written["from"], written["tokens"]) == (0, len(run["samples"][0]["tokens"]))
    (version,) = told["versions"]
    assert (version["run"], version["url"], version["created"]) == (run["id"], run["url"], run["created"])
    assert told["url"].endswith(page.address)


def test_a_sheet_s_json_holds_what_was_set_aside_and_is_kept_in_mind(page, visitor):
    page.open("Once upon a time", memory="A fox.").write(at=4)
    told = visitor.get(f"{page.address}.json").get_json()
    assert told["set_aside"] == [[{"text": " upon a time", "red": False}]]
    assert told["memory"] == "A fox."


def test_a_friend_takes_away_what_was_part_of_a_writing_and_nothing_else(page, friend):
    page.open("Once upon", memory="A secret fox.").write()
    whole = page.text
    page.type(0, 0, "unsent ")
    assert friend.get(f"{page.address}.txt").text == whole
    told = friend.get(f"{page.address}.json")
    assert told.get_json()["text"] == whole
    assert "unsent" not in told.text
    assert "secret" not in told.text


def test_what_is_taken_away_of_no_sheet_is_not_found(visitor):
    for kind in ("txt", "json"):
        assert visitor.get(f"/s/never.{kind}").status_code == 404


def test_all_runs_as_lines_of_json_have_a_sheet_s_versions_too(page, visitor):
    page.open("Once upon").write().write()
    ids = [version["run"] for version in page.state["versions"]]
    lines = visitor.get("/runs.jsonl").text.split("\n")
    assert [re.match('{"id": "([^"]+)"', line)[1] for line in lines if line] == ids


# The end


def test_deleting_a_sheet_removes_its_versions_and_its_entry_says_so(page, visitor, friend):
    page.open("Once upon").write().write()
    runs = [version["run"] for version in page.state["versions"]]
    copied = Page(friend).open(**{"from": {"sheet": page.state["id"]}})
    assert "To delete a sheet is to delete its versions too" in entry(visitor, page)
    assert friend.post(f"{page.address}/delete").status_code == 403
    answer = visitor.post(f"{page.address}/delete")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/runs")
    assert listed(visitor) == []
    assert [visitor.get(f"{page.address}{end}").status_code for end in ("", ".txt", ".json")] == [404] * 3
    assert [friend.get(f"/r/{run}").status_code for run in runs] == [410] * 2
    assert visitor.get("/runs.jsonl").text == ""
    copied.look()
    assert copied.text == page.text


def test_a_server_that_dies_while_a_sheet_is_deleted_leaves_all_of_it_or_nothing(page, visitor, monkeypatch):
    page.open("Once upon").write().write()
    before, removed = page.look(), []

    def dies_at_the_second(run_id, *more):
        removed.append(run_id)
        return remove(run_id, *more) if len(removed) == 1 else 1 / 0

    with monkeypatch.context() as patch:
        patch.setattr(removal, "remove", dies_at_the_second)
        assert visitor.post(f"{page.address}/delete").status_code == 500
    assert len(removed) == 2
    assert page.look() == before
    assert listed(visitor) == [page.address]
    assert visitor.post(f"{page.address}/delete").status_code == 303
    assert listed(visitor) == []


def test_a_sheet_s_delete_button_pressed_twice_deletes_one_sheet(page, visitor):
    other = sheet_of(visitor, "other")
    page.open("Once upon")
    nonce = re.search('name="nonce" value="([^"]+)"', entry(visitor, page))[1]
    for _ in range(2):
        answer = visitor.post(f"{page.address}/delete", data={"nonce": nonce})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/runs")
    assert listed(visitor) == [other.address]


def test_sheets_are_kept_for_some_days_from_their_last_change(a, serve):
    old, new, still = (Page(a.visitor).open(text) for text in ("old", "new", "written in"))
    still.do("write", at=10, options={"model": "slow", "max_new_tokens": "400"})
    for page, days in ((old, 8), (new, 6), (still, 8)):
        rest(a, page, days=days)
    a.do("expire_sheets")
    assert len(listed(a.visitor)) == 3
    serve(RUBRIC_KEEP_DAYS=7).do("expire_sheets")
    assert listed(a.visitor) == [new.address, still.address]
    assert a.visitor.get(old.address).status_code == 404
    with a.app.app_context():
        assert db.session.scalar(select(func.count()).where(Change.sheet_id == old.state["id"])) == 0


def test_a_sheet_s_versions_go_with_it_when_its_time_is_over(a, serve):
    page = Page(a.visitor).open("the old king")
    page.do("write", at=12, options={"model": "tiny", "max_new_tokens": "3"})
    run = page.state["versions"][0]["run"]
    a.finish(f"/r/{run}")
    rest(a, page, days=8)
    with a.app.app_context():
        db.session.execute(update(Run).where(Run.id == run).values(created=now() - timedelta(days=8)))
        db.session.commit()
    serve(RUBRIC_KEEP_DAYS=7).do("expire_sheets", "expire")
    assert a.visitor.get(page.address).status_code == 404
    with a.app.app_context():
        assert db.session.get(Gone, run).reason == "expired"
        assert db.session.scalar(select(func.count()).where(Reference.sheet_id == page.state["id"])) == 0


def test_an_old_version_stays_as_long_as_its_sheet_is_worked_on(a, serve):
    page = Page(a.visitor).open("the old king")
    page.do("write", at=12, options={"model": "tiny", "max_new_tokens": "3"})
    run = page.state["versions"][0]["run"]
    a.finish(f"/r/{run}")
    with a.app.app_context():
        db.session.execute(update(Run).where(Run.id == run).values(created=now() - timedelta(days=8)))
        db.session.commit()
    written = page.look()["spans"]
    serve(RUBRIC_KEEP_DAYS=7).do("expire_sheets", "expire")
    assert page.look()["spans"] == written


# A version's own page


def test_a_version_s_page_leads_to_its_sheet_and_another_run_s_does_not(page, visitor):
    run = page.open("Once upon").write().state["versions"][0]["run"]
    assert f'<a href="{page.address}">a version of a sheet</a>' in visitor.get(f"/r/{run}").text
    other = visitor.start("alone", max_new_tokens=1)
    assert "a version of a sheet" not in visitor.get(other).text


def test_a_version_whose_sheet_is_gone_leads_to_none(a, serve):
    page = Page(a.visitor).open("the old king")
    page.do("write", at=12, options={"model": "tiny", "max_new_tokens": "3"})
    run = page.state["versions"][0]["run"]
    a.finish(f"/r/{run}")
    rest(a, page, days=8)
    serve(RUBRIC_KEEP_DAYS=7).do("expire_sheets")
    assert "a version of a sheet" not in a.visitor.get(f"/r/{run}").text


# In a browser


@pytest.mark.parametrize("window", [{"timezone_id": "Asia/Tokyo"}], ids=["Tokyo"], indirect=True)
@pytest.mark.long
def test_times_are_those_of_the_visitor_s_zone_after_a_search_too(window):
    page, url = window.page, window.server.url
    form = {"prompt": "the old king", "model": "tiny", "max_new_tokens": "1"}
    run = window.context.request.post(f"{url}/runs", form=form, max_redirects=0).headers["location"]
    until(lambda: "the old king" in (window.server.stored(WORDS, run[3:]) or ""), what="the index")
    page.goto(f"{url}/runs")
    assert_local(page)
    page.evaluate("document.querySelector('time').dataset.before = 'yes'")
    page.fill("#q", "old king")
    page.wait_for_selector("time[title]:not([data-before])")
    assert_local(page)
    page.goto(url + run)
    page.click("text=How it was made")
    assert_local(page)


WORDS = "SELECT words FROM run WHERE id = ?"


def assert_local(page) -> None:
    """The page's first time is nine hours later than UTC, which its title says."""
    local, utc = (page.evaluate(f"document.querySelector('time').{name}") for name in ("textContent", "title"))
    there = datetime.strptime(local, "%d %B %Y, %H:%M"), datetime.strptime(utc, "%d %B %Y, %H:%M UTC")
    assert there[0] - there[1] == timedelta(hours=9)
