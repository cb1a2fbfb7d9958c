"""Runs that are deleted or whose time is over leave nothing behind but a mark."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

from conftest import Visitor, finished
from rounds import copy, cut, go_on
from sqlalchemy import event, func, select
from waiting import until

from webapp.runs import lease, recorder, removal
from webapp.runs.tables import Block, Gone, Run, Sample, Watch, db


def test_a_deleted_run_leaves_no_byte_of_its_text_on_the_disk(a):
    """Of many runs, so that the tables' pages are split and joined meanwhile."""
    secret, others = "xylophones for quokkas", write_many(a)
    run = a.write(f"{secret} and more of it", max_new_tokens=60)
    with a.app.app_context():
        tokens = db.session.scalars(select(Block.tokens).where(Block.run_id == run[3:])).first()[86:172]
    others += write_many(a)
    until(lambda: a.do("index_words") or a.row(run, Run.words), what="the index")
    for other in others[::2]:
        a.visitor.post(f"{other}/delete")
    assert secret in a.row(run, Run.words)
    assert traces(a, secret.encode(), tokens) == [True, True]
    assert a.visitor.post(f"{run}/delete").status_code == 303
    assert traces(a, secret.encode(), tokens) == [False, False]


def write_many(server) -> list[str]:
    """Twelve runs, written together."""
    runs = [server.visitor.start(f"number {n} " * 30, max_new_tokens=60) for n in range(12)]
    for run in runs:
        finished(server.log(run))
    server.do("save")
    return runs


def traces(server, *needles) -> list[bool]:
    """Whether some bytes are anywhere in SQLite's files, or in a table of PostgreSQL."""
    with server.app.app_context():
        if db.engine.dialect.name == "sqlite":
            file = Path(server.app.instance_path) / "rubric.sqlite"
            stored = [part.read_bytes() for part in file.parent.glob("rubric.sqlite*")]
        else:
            stored = list(db.session.scalars(select(Block.tokens)))
            stored += [words.encode() for words in db.session.scalars(select(Run.words)) if words]
    return [any(needle in part for part in stored) for needle in needles]


def test_a_deletion_reaches_what_each_server_has_in_memory(a, b, monkeypatch):
    run, other, asked = a.write(), a.write(), []
    for server in (a, b):
        assert [server.visitor.post(f"{one}/replay").status_code for one in (run, other)] == [303, 303]
        server.do("notice_removed")
        engine = SimpleNamespace(forget=lambda server=server: asked.append(server))
        monkeypatch.setattr(server.state, "engine", engine)
    a.visitor.post(f"{run}/delete")
    assert (asked, a.state.replays.run_ids()) == ([a], {other[3:]})
    b.do("notice_removed", "notice_removed")
    assert (asked, b.state.replays.run_ids()) == ([a, b], {other[3:]})


def test_children_of_a_deleted_run_keep_their_whole_prefix(a):
    run = a.write(max_new_tokens=20)
    child = a.visitor.post(f"{run}/continue", data={"sample": "0"}).headers["Location"]
    a.finish(child)
    before = a.visitor.json(child)
    assert a.visitor.json(run)["samples"][0]["text"] in before["prompt"]["text"]
    a.visitor.post(f"{run}/delete")
    assert a.visitor.json(child) == before
    assert '<span class="quiet">deleted</span>' in a.visitor.get(child).text
    assert a.visitor.post(f"{child}/retry").status_code == 303


def test_a_run_that_is_gone_answers_410_and_one_that_never_was_404(a, b):
    deleted, expired = a.write(), a.write()
    assert b.visitor.post(f"{deleted}/delete").status_code == 422
    assert a.visitor.post(f"{deleted}/delete").status_code == 303
    with a.app.app_context():
        removal.remove(expired[3:], None, "expired")
        db.session.commit()
    for page in ("", ".txt", ".json", "/plain"):
        assert [b.visitor.get(f"{run}{page}").status_code for run in (deleted, expired, "/r/never")] == [410, 410, 404]
    assert "has deleted it" in b.visitor.get(deleted).text
    assert "its time was over" in b.visitor.get(expired).text
    assert a.visitor.post(f"{deleted}/delete").status_code == 410
    with a.app.app_context():
        for table in (Block, Sample, Watch):
            assert db.session.scalar(select(func.count()).where(table.run_id == deleted[3:])) == 0


def test_runs_are_kept_for_some_days_and_only_finished_ones_are_removed(a, serve):
    old, new, unfinished = a.write(), a.write(), a.write()
    cut(a, unfinished, 5)
    for run, days in ((old, 8), (new, 6), (unfinished, 8)):
        a.change(run, created=a.row(run, Run.created) - timedelta(days=days))
    a.do("expire")
    assert a.visitor.get(old).status_code == 200
    serve(RUBRIC_KEEP_DAYS=7).do("expire")
    assert [a.visitor.get(run).status_code for run in (old, new, unfinished)] == [410, 200, 200]
    with a.app.app_context():
        assert db.session.get(Gone, old[3:]).reason == "expired"


def test_a_run_can_be_deleted_while_its_server_stores_what_is_new(a, b):
    """On PostgreSQL the two meet at the run's row; neither may fail for the other."""
    run, log, whole = copy(a, a.write())
    go_on(log, whole, 5)
    asked = []
    with b.app.app_context():
        note = lambda _, __, statement, *rest: asked.append(statement) if "UPDATE run" in statement else None  # noqa: E731
        event.listen(db.engine, "before_cursor_execute", note)
    owner = Visitor(b.app)
    owner.client.set_cookie("rubric", a.visitor.client.get_cookie("rubric").value)
    with ThreadPoolExecutor(1) as pool, a.app.app_context():
        lease.renew(a.state.server, [run[3:]], time.time())
        recorder.store_news(run[3:], a.entry(run))
        answer = pool.submit(owner.post, f"{run}/delete")
        until(lambda: answer.done() or asked, what="a deletion that asks for the run's row")
        db.session.commit()
        assert answer.result(20).status_code == 303
    assert a.visitor.get(run).status_code == 410


def test_a_server_forgets_what_another_has_deleted_once_it_writes_it_no_more(a, b, monkeypatch):
    """What was written until then is remembered as it ends, which may be after that server has noticed the deletion."""
    run, log, whole = copy(a, a.write())
    go_on(log, whole, 5)
    owner = Visitor(b.app)
    owner.client.set_cookie("rubric", a.visitor.client.get_cookie("rubric").value)
    assert owner.post(f"{run}/delete").status_code == 303
    asked = []
    monkeypatch.setattr(a.state.engine, "cancel", lambda run, *_: asked.append(run))
    monkeypatch.setattr(a.state.engine, "forget", lambda: asked.append("forget"))
    a.do("save")
    assert asked == [log, "forget"]
