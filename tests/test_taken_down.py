"""What the operator hides or deletes is gone for everybody, at every address of every server; what is hidden can come back."""

import json
import re
import secrets

import pytest
from conftest import Visitor
from rounds import Reader, copy, go_on
from sqlalchemy import select
from test_sheets import JSON, Page
from test_suggestions import ask, take
from waiting import until
from workshops import enter

from generate import Example
from webapp.runs.tables import Gone, Run, db
from webapp.sheets.tables import Sheet

SENTENCE = "whoever runs this server has taken it down"
BODY = {"key": "k" * 22, "rev": 0, "at": 0, "sample": 0, "place": 0, "run": "x", "to": 0, "piece": 0, "edits": []}
BODY |= {"suggestion": "x", "from": 0, "memory": "", "options": {}}


@pytest.fixture
def operator(a):
    return enter(a.app)


def take_down(operator, address, what="hide") -> None:
    kind = "run" if address.startswith("/r/") else "sheet"
    answer = operator.post(f"/workshop/written/{kind}/{address[3:]}/{what}")
    assert answer.status_code == 303, answer.text


def addresses(app, part: str, name: str) -> list[tuple[str, str]]:
    """(method, address) of all that is there of a run or a sheet; `part` is what their rules call it."""
    found = []
    for rule in app.url_map.iter_rules():
        if rule.arguments & {part, "first"} == {part} or (part == "run_id" and "first" in rule.arguments):
            address = rule.build(dict.fromkeys(rule.arguments, name), append_unknown=False)[1]
            found += [(method, address) for method in ("GET", "POST") if method in rule.methods]
    return found


def asked(visitor, method: str, address: str):
    if method == "GET":
        return visitor.get(address)
    if address.startswith("/s/") and not address.endswith("/report"):
        return visitor.post(address, json=BODY, headers=JSON)
    return visitor.post(address, data={"sample": "0", "place": "0", "model": "other", "reason": "other"})


@pytest.mark.parametrize("what", ["hide", "delete"])
def test_a_run_is_gone_at_all_its_addresses_for_its_owner_for_others_and_for_the_operator(a, b, operator, what):
    run = a.write("the king of xylophones", max_new_tokens=3)
    of_it = addresses(a.app, "run_id", run[3:])
    assert {f"{run}{end}" for end in ("", ".txt", ".json", ".png", "/embed", "/code", "/share")} <= {
        p for _, p in of_it
    }
    assert b.visitor.get(run).status_code == 200
    take_down(operator, run, what)
    for visitor in (a.visitor, b.visitor, operator):
        for method, address in of_it:
            answer = asked(visitor, method, address)
            if address.endswith("/events"):
                assert answer.status_code == 200
                assert SENTENCE in answer.text
                assert "event: done" in answer.text
            else:
                assert answer.status_code == 410, (method, address, answer.status_code)
        assert SENTENCE in visitor.get(run).text
        assert visitor.get(f"/?parent={run[3:]}").status_code == 410
        assert visitor.post("/runs", data={"prompt": "x", "parent": run[3:], "model": "tiny"}).status_code == 410
        body = {"key": secrets.token_urlsafe(16), "from": {"run": run[3:]}}
        assert visitor.post("/sheets", json=body, headers=JSON).status_code == 410


@pytest.mark.parametrize("what", ["hide", "delete"])
def test_a_run_is_in_no_list_and_is_found_by_no_words(a, b, operator, what):
    run, other = a.write("the king of xylophones"), a.write("the king of trumpets")
    until(lambda: a.do("index_words") or (a.row(run, Run.words) and a.row(other, Run.words)), what="the index")
    lists = ("/runs", "/runs?q=king", "/runs.jsonl")
    assert all(run in a.visitor.get(page).text for page in lists)
    take_down(operator, run, what)
    for page in lists:
        text = a.visitor.get(page).text
        assert (run in text, other in text) == (False, True), page
    assert run not in a.visitor.get("/runs?q=xylophones").text
    assert (run[3:] in operator.get("/workshop/written?q=xylophones").text) == (what == "hide")


def test_what_is_hidden_can_be_shown_again_as_it_was(a, b, operator):
    run = a.write("the king of xylophones")
    before = b.visitor.json(run)
    take_down(operator, run)
    assert "xylophones" in operator.get(f"/workshop/written/run/{run[3:]}").text
    take_down(operator, run, "show")
    assert b.visitor.json(run) == before
    assert run in a.visitor.get("/runs").text


def test_the_family_of_a_hidden_run_names_it_as_one_that_is_gone_and_keeps_its_text(a, operator):
    run = a.write()
    child = a.visitor.post(f"{run}/continue", data={"sample": "0"}).headers["Location"]
    a.finish(child)
    before = a.visitor.json(child)
    assert f'"{run}"' in a.visitor.get(child).text
    take_down(operator, run)
    assert f'"{run}"' not in a.visitor.get(child).text
    assert '<span class="quiet">deleted</span>' in a.visitor.get(child).text
    assert a.visitor.json(child) == before


def test_what_another_model_read_of_a_text_is_hidden_with_it_and_comes_back_with_it(a, operator):
    run = a.write(max_new_tokens=3)
    shift = a.visitor.post(f"{run}/shift", data={"model": "other"}).headers["Location"]
    read = f"/r/{shift.rsplit('/', 1)[1]}"
    a.finish(read)
    take_down(operator, run)
    assert [a.visitor.get(path).status_code for path in (run, read, shift)] == [410, 410, 410]
    take_down(operator, run, "show")
    assert [a.visitor.get(path).status_code for path in (run, read, shift)] == [200, 200, 200]


@pytest.mark.parametrize("what", ["hide", "delete"])
def test_who_watches_is_cut_off_with_the_sentence_on_every_server_at_its_next_look(a, b, operator, what):
    run, log, whole = copy(a, a.write())
    go_on(log, whole, 5)
    a.do("save")
    here, there = Reader(a, run), Reader(b, run)
    framed = b.app.test_client().get(f"{run}/events?bare", buffered=False)
    plain = b.app.test_client().get(f"{run}/plain", buffered=False)
    growing, told = iter(plain.response), iter(framed.response)
    for reader in (here, there):
        reader.read()
    next(told)
    while b"continuation" not in next(growing):
        pass
    take_down(operator, run, what)
    b.do("follow")
    for reader in (here, there):
        assert SENTENCE in reader.until("done").shown["#main"]
    for rest in (told, growing):
        assert "Taken down by whoever runs this server." in b"".join(rest).decode()
    for answer in (framed, plain):
        answer.close()


def test_a_server_writes_no_more_of_what_another_has_hidden_and_what_was_stored_comes_back(a, b):
    run, log, whole = copy(a, a.write())
    go_on(log, whole, 5)
    a.do("save")
    take_down(enter(b.app), run)
    go_on(log, whole, 5)
    a.do("save")
    assert log.done
    assert not a.knows(run)
    b.do("reap")
    take_down(enter(b.app), run, "show")
    (sample,) = b.visitor.json(run)["samples"]
    assert (len(sample["tokens"]), sample["finish_reason"]) == (5, "cancelled")


def test_servers_look_at_least_once_a_second(a):
    jobs = a.state.scheduler.jobs
    assert all(jobs[name].every <= 0.5 for name in ("follow", "look_at_sheets", "notice_removed", "save"))


def test_other_servers_keep_nothing_of_it_in_memory(a, b, operator, monkeypatch):
    run, other, asked = a.write(), a.write(), []
    assert [b.visitor.post(f"{one}/replay").status_code for one in (run, other)] == [303, 303]
    b.do("notice_removed")
    monkeypatch.setattr(b.state.cards, "forget", lambda: asked.append("cards"))
    take_down(operator, run)
    b.do("notice_removed")
    assert (asked, b.state.replays.run_ids()) == (["cards"], {other[3:]})
    take_down(operator, run, "show")
    take_down(operator, other)
    b.do("notice_removed")
    assert asked == ["cards", "cards"], "one hidden for one shown again was not noticed"


@pytest.mark.parametrize("what", ["hide", "delete"])
def test_an_example_of_the_server_s_that_is_taken_down_is_not_written_again(a, operator, what):
    def write() -> set[str]:
        with a.app.app_context():
            a.state.examples.write(a.state.models.find("tiny"), [example])
        return set(a.state.registry.entries())

    example = Example(f"the king of {what}")
    (run_id,) = write()
    a.finish(f"/r/{run_id}")
    take_down(operator, f"/r/{run_id}", what)
    assert write() == set()
    with a.app.app_context():
        assert a.state.examples.find(a.state.models.find("tiny"), example) is None


# Sheets


@pytest.fixture
def page(a):
    return written_in(Page(a.visitor).open("the king of xylophones"), a)


def written_in(page, server, **options) -> Page:
    """A sheet in which a model has written."""
    wish = {"max_new_tokens": "8", "seed": "1", "model": "tiny", "min_new_tokens": "8"} | options
    page.do("write", at=len(page.text), options=wish)
    server.finish(f"/r/{page.look()['versions'][0]['run']}")
    page.look()
    return page


@pytest.mark.parametrize("what", ["hide", "delete"])
def test_a_sheet_is_gone_at_all_its_addresses_and_its_versions_with_it(a, b, operator, page, what):
    sheet, version = page.address, f"/r/{page.state['versions'][0]['run']}"
    of_it = addresses(a.app, "sheet_id", sheet[3:])
    assert len(of_it) > 15
    take_down(operator, sheet, what)
    for visitor in (a.visitor, b.visitor, operator):
        for method, address in of_it:
            answer = asked(visitor, method, address)
            if address.endswith("/events"):
                assert answer.text == "event: gone\ndata: {}\n\n"
                continue
            expected = 410 if what == "hide" or address.endswith("/take") else 404
            assert answer.status_code == expected, (method, address, answer.text)
        assert [visitor.get(f"{version}{end}").status_code for end in ("", ".png", "/embed")] == [410] * 3
        assert sheet not in visitor.get("/runs").text
    if what == "hide":
        assert SENTENCE in b.visitor.get(sheet).text


def test_a_sheet_whose_version_is_named_is_hidden_whole_and_comes_back_whole(a, b, operator, page):
    written_in(page, a, seed="2")
    versions = [f"/r/{one['run']}" for one in page.state["versions"]]
    before = [b.visitor.json(version) for version in versions], b.visitor.get(f"{page.address}.txt").text
    take_down(operator, versions[1])
    assert [b.visitor.get(path).status_code for path in (page.address, *versions)] == [410] * 3
    take_down(operator, page.address, "show")
    assert ([b.visitor.json(version) for version in versions], b.visitor.get(f"{page.address}.txt").text) == before
    assert page.type(0, 0, "Well. ")["rev"] > 0


def test_who_watches_a_sheet_is_told_that_it_is_gone_on_every_server(a, b, operator, page):
    readers = [server.app.test_client().get(f"{page.address}/events", buffered=False) for server in (a, b)]
    told = [iter(reader.response) for reader in readers]
    for one in told:
        assert b"event: sheet" in next(one)
    take_down(operator, page.address)
    b.do("look_at_sheets")
    for one in told:
        assert re.findall(rb"event: (\w+)", b"".join(one))[-1] == b"gone"
    for reader in readers:
        reader.close()


def test_suggestions_for_a_hidden_sheet_are_gone(a, b, operator, page):
    b.do("notice_removed")
    told = ask(page)
    friend = Page(b.visitor, page.address)
    friend.look()
    theirs = ask(friend)
    take_down(operator, page.address)
    b.do("notice_removed")
    assert take(page, told, status=410)
    copy_of = Page(b.visitor).open("the king")
    assert take(copy_of, theirs, status=410)["problem"].startswith("These suggestions are gone")


def test_a_writing_that_begins_as_its_sheet_is_hidden_is_refused(a, operator, page, monkeypatch):
    """It was looked at a moment before, and is locked a moment after."""
    from webapp.sheets import store

    look = store.find_sheet

    def and_then_hidden(sheet_id):
        found = look(sheet_id)
        monkeypatch.setattr(store, "find_sheet", look)
        with a.app.app_context():
            a.state.taking_down.hide(db.session.get(Sheet, sheet_id))
        return found

    monkeypatch.setattr(store, "find_sheet", and_then_hidden)
    page.do("write", 410, at=3, options={"model": "tiny", "max_new_tokens": "4"})
    with a.app.app_context():
        runs = db.session.scalars(select(Run).where(Run.sheet_id == page.address[3:])).all()
        assert runs
        assert all(run.hidden for run in runs)


def test_an_owner_finds_neither_sheet_nor_version_in_their_list(a, operator, page):
    assert page.address in a.visitor.get("/runs").text
    take_down(operator, page.address)
    text = a.visitor.get("/runs").text + a.visitor.get("/runs.jsonl").text
    assert page.address not in text
    assert page.state["versions"][0]["run"] not in text


# The operator's pages


def test_the_operator_finds_everybody_s_sheets_and_runs_by_their_words_and_reads_them_whole(a, b, operator, page):
    run = b.write("the queen of xylophones <script>")
    version = page.state["versions"][0]["run"]
    both = run, f"/r/{version}"
    until(lambda: a.do("index_words") or all(a.row(one, Run.words) for one in both), what="the index")
    found = operator.get("/workshop/written?q=XYLOPHONES").text
    assert f"/workshop/written/run/{run[3:]}" in found
    assert f"/workshop/written/sheet/{page.address[3:]}" in found
    assert "/workshop/written/run/" not in operator.get("/workshop/written?q=nobodywrotethis").text
    whole = operator.get(f"/workshop/written/run/{run[3:]}").text
    assert "the queen of xylophones &lt;script&gt;" in whole
    mine = operator.get(f"/workshop/written?by=run-{run[3:]}").text
    assert run[3:] in mine
    assert page.address[3:] not in mine
    assert operator.get(f"/workshop/written/run/{version}").headers["Location"].endswith(page.address[3:])


def test_what_a_person_typed_and_nobody_else_sees_is_shown_to_the_operator(a, b, operator):
    page = Page(a.visitor).open("only typed")
    assert "only typed" not in b.visitor.get(page.address).text
    assert "only typed" in operator.get(f"/workshop/written/sheet/{page.address[3:]}").text


def test_for_everybody_else_none_of_this_is_there(a, b, operator):
    run = a.write()
    for rule in a.app.url_map.iter_rules():
        if rule.endpoint.startswith("moderation."):
            parts = {"kind": "run", "name": run[3:]}
            address = rule.build({name: parts[name] for name in rule.arguments}, append_unknown=False)[1]
            for visitor in (a.visitor, b.visitor, Visitor(a.app)):
                for method in ("GET", "POST"):
                    assert visitor.client.open(address, method=method).status_code == 404, address
    assert a.visitor.get(run).status_code == 200


def test_a_run_that_the_operator_deleted_leaves_the_mark_of_that_alone(a, operator):
    run = a.write()
    take_down(operator, run, "delete")
    with a.app.app_context():
        assert (db.session.get(Run, run[3:]), db.session.get(Gone, run[3:]).reason) == (None, "taken")
    assert json.loads(a.visitor.get(run, headers=JSON).text)["problem"].endswith("down.")
