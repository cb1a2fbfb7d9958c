"""What a visitor owns: a list to search, a file to take away, and the right to delete; and nobody else has any of it."""

import json

import pytest
from conftest import TRICKY
from waiting import until


def until_indexed(app, *runs):
    """Wait until these runs are stored whole, and every run can be found by its words."""
    from sqlalchemy import func, select

    from webapp.runs.tables import Run, db

    def unindexed() -> int:
        with app.app_context():
            return db.session.scalar(select(func.count()).where(Run.words.is_(None)))

    unfinished = app.extensions["rubric"].registry.entries
    until(lambda: not {run[3:] for run in runs} & unfinished().keys(), what="the last saving")
    until(lambda: unindexed() == 0, what="the index")


def listed(visitor, query="") -> list[str]:
    """The addresses in the list of runs, in its order."""
    html = visitor.get("/runs", query_string={"q": query} if query else {}).text
    return [piece.split('"')[0] for piece in html.split('class="story small" href="')[1:]]


def test_a_visitor_s_runs_are_listed_newest_first_and_a_stranger_s_are_not(visitor, friend):
    assert "Nothing of yours is here" in visitor.get("/runs").text
    runs = [visitor.start(f"number {n}", max_new_tokens=3) for n in range(3)]
    friend.start("somebody else's", max_new_tokens=3)
    assert listed(visitor) == runs[::-1]


def test_words_are_found_in_prompt_and_continuation_whatever_their_case(app, visitor):
    fox = visitor.start("The FOX of Élan 从前有一只狐狸", max_new_tokens=12, temperature=2)
    bear = visitor.start("a bear_100%", max_new_tokens=3)
    said = visitor.finish(fox)["samples"][0]["text"]
    visitor.finish(bear)
    until_indexed(app, fox, bear)
    for query in ("fox", "éLAN", "一只狐", said[2:7].strip()):
        assert fox in listed(visitor, query), query
    assert listed(visitor, "bear_100%") != []
    assert listed(visitor, "bear%100_") == []
    assert "Nothing of yours has “<bdi>&lt;b&gt;</bdi>” in it" in visitor.get("/runs?q=<b>").text


def test_words_are_found_across_the_seam_between_prompt_and_text_of_every_sample(app, visitor):
    run = visitor.start("the old king said", max_new_tokens=20, samples=2, temperature=2, top_k=0)
    texts = [sample["text"] for sample in visitor.finish(run)["samples"]]
    other = visitor.start("the old king said", max_new_tokens=1)
    until_indexed(app, run, other)
    for text in texts:
        assert listed(visitor, f"king said{text[:9]}".replace("\0", "").strip()) == [run], text
    assert listed(visitor, f"{texts[0][-5:]}the old".replace("\0", "")) == [], (
        "a sample's end does not touch a beginning"
    )


@pytest.mark.parametrize("query", ["%00", "%00king%00", "ki%00ng"])
def test_a_query_with_a_nul_finds_what_it_finds_without(app, visitor, query):
    run = visitor.start("the old king", max_new_tokens=1)
    until_indexed(app, run)
    page = visitor.get(f"/runs?q={query}")
    assert page.status_code == 200
    assert run in page.text


def test_a_run_is_found_by_what_was_written_after_it_began(app, visitor, writer):
    run = visitor.start("x", model="slow", max_new_tokens=100, top_k=0)
    until_indexed(app)  # its prompt alone
    said = visitor.finish(run)["samples"][0]["text"]
    until_indexed(app, run)
    until(lambda: run in listed(visitor, said[-12:].strip()), what="the index of its last words")


def test_long_lists_have_pages(visitor):
    runs = [visitor.start(f"n {n}", max_new_tokens=1) for n in range(23)]
    first, second = visitor.get("/runs").text, visitor.get("/runs?page=2").text
    assert "page=2" in first
    assert "page=1" in second
    assert sum(run in first for run in runs) == 20
    assert sum(run in second for run in runs) == 3
    assert visitor.get("/runs?page=0").status_code == 404


@pytest.mark.parametrize("prompt", [TRICKY, "", "🦊" * 70, "<b>\n\nx"])
def test_the_list_shows_any_text_as_it_is(visitor, prompt):
    visitor.start(prompt, max_new_tokens=20, temperature=3, top_k=0)
    html = visitor.get("/runs").text
    assert "<script>alert" not in html
    assert "\ufffd" not in html


def test_all_runs_come_as_lines_of_json(visitor, friend):
    runs = [visitor.start(TRICKY, samples=2, max_new_tokens=9), visitor.start("二", max_new_tokens=3)]
    made = [visitor.finish(run) for run in runs]
    answer = visitor.get("/runs.jsonl")
    assert "attachment" in answer.headers["Content-Disposition"]
    lines = [json.loads(line) for line in answer.text.split("\n") if line]
    assert lines == made[::-1]
    assert friend.get("/runs.jsonl").text == ""


def test_an_owner_deletes_a_run_at_once_and_its_children_keep_their_text(visitor, friend):
    root = visitor.start("the old king", max_new_tokens=6)
    text = visitor.finish(root)["samples"][0]["text"]
    child = friend.post(f"{root}/continue").headers["Location"]
    friend.finish(child)
    assert visitor.post(f"{root}/delete").headers["Location"] == "/runs"
    for path in (
        root,
        f"{root}.txt",
        f"{root}.json",
        f"{root}.png",
        f"{root}/embed",
        f"{root}/plain",
        f"{root}/qr.svg",
    ):
        answer = friend.get(path)
        assert answer.status_code == 410, path
        assert "deleted it" in answer.text
    told, done = friend.events(root)  # of a page that was open and comes back
    assert "deleted by the person who started it" in told["data"]
    assert done == {"event": "done", "data": "unknown"}
    assert listed(visitor) == []
    assert friend.json(child)["prompt"]["text"] == "the old king" + text
    page = friend.get(child).text
    assert '<span class="quiet">deleted</span>' in page
    assert '<b aria-current="page">goes on</b>' in page
    assert f'href="{root}"' not in page
    grandchild = friend.post(f"{child}/retry").headers["Location"]
    friend.finish(grandchild)
    friend.post(f"{grandchild}/delete")
    assert friend.get(child).text.count('<span class="quiet">deleted</span>') == 2


def test_deleting_a_run_in_mid_stream_takes_it_from_everybody_s_page(visitor, friend):
    run = visitor.start("the old king", model="slow", max_new_tokens=400)
    stream = friend.client.get(f"{run}/events")
    parts = iter(stream.response)
    next(parts)
    assert visitor.post(f"{run}/delete").status_code == 303
    rest = b"".join(parts).decode()
    stream.close()
    assert rest.endswith("event: done\ndata: deleted\n\n")
    assert "deleted by the person who started it" in rest
    assert friend.get(run).status_code == 410


@pytest.mark.parametrize("action", ["stop", "delete"])
@pytest.mark.parametrize("forged", [{}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site"}])
def test_nobody_stops_or_deletes_another_s_run(visitor, friend, action, forged):
    run = visitor.start("mine", max_new_tokens=3)
    visitor.finish(run)
    asker = visitor if forged else friend  # a forged form comes with the owner's own cookie
    answer = asker.post(f"{run}/{action}", headers=forged)
    assert answer.status_code == (403 if forged else 422)
    assert visitor.get(run).status_code == 200


def test_a_cookie_that_was_changed_owns_nothing(app, visitor):
    visitor.start("mine", max_new_tokens=3)
    cookie = visitor.client.get_cookie("rubric").value
    thief = app.test_client()
    thief.set_cookie("rubric", cookie[:-3] + ("aaa" if not cookie.endswith("aaa") else "bbb"))
    assert "Nothing of yours is here" in thief.get("/runs").text


def test_ids_cannot_be_guessed(visitor):
    ids = {visitor.start("x", max_new_tokens=1)[3:] for _ in range(20)}
    assert len(ids) == 20
    assert all(len(name) * 6 >= 64 for name in ids), "six random bits a letter"


def test_no_page_of_a_run_is_for_search_engines(visitor):
    run = visitor.start("x", max_new_tokens=1)
    for path in (run, f"{run}.txt", f"{run}.png", f"{run}/embed", "/runs"):
        assert visitor.get(path).headers["X-Robots-Tag"] == "noindex"
    assert "X-Robots-Tag" not in visitor.get("/").headers
