"""A run whose server is gone goes on elsewhere, or ends there; and a server that lost a run lets go of it."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from conftest import Visitor, make_model, pictured
from fake_engine import FakeEngine
from rounds import Reader, copy, cut, go_on, told
from sqlalchemy import func, select, update

from generate import Problem, Refusal
from webapp.runs import follower, lease, models, recorder, repository
from webapp.runs.tables import Block, Run, Watch, db

# A run whose server is gone


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({"max_new_tokens": 30}, [11]),
        ({"max_new_tokens": 30}, [0]),
        ({"max_new_tokens": 30}, [30]),
        ({"max_new_tokens": 30, "samples": 4}, [7, 0, 29, None]),
        ({"max_new_tokens": 100, "repetition_penalty": 1.3}, [70]),  # past the window of 64 tokens
        ({"max_new_tokens": 60, "stop": "e\\n\nking", "samples": 3, "temperature": 0.7}, [3, 0, 1]),
    ],
)
def test_an_orphan_that_somebody_watches_ends_with_the_text_it_would_have_had(a, b, fields, counts):
    run = a.write(**fields)
    whole, prompt = told(a, run), a.visitor.json(run)["prompt"]
    cut(a, run, *counts)
    page = b.visitor.get(run)
    assert "goes on in a moment" in page.text
    b.do("take_over")
    assert b.finish(run) == whole
    again = b.visitor.json(run)["prompt"]
    assert [t["id"] for t in again["tokens"]] == [t["id"] for t in prompt["tokens"]]
    for was, now in zip(prompt["tokens"][1:], again["tokens"][1:], strict=True):
        assert now["logprob"] == pytest.approx(was["logprob"], abs=1e-4)


def test_an_orphan_that_ended_at_a_stop_string_does_so_again(a, b):
    stop = re.findall("[a-z]{2}", told(a, a.write(max_new_tokens=40))[0][1])[-1]
    run = a.write(max_new_tokens=40, stop=stop)
    whole = told(a, run)
    assert whole[0][2] == "stop"
    for count in (0, len(whole[0][0]) // 2, len(whole[0][0]) - 1, len(whole[0][0])):
        cut(a, run, count)
        b.visitor.get(run)
        b.do("take_over")
        assert b.finish(run) == whole


def test_an_orphan_cut_in_the_middle_of_a_character_shows_it_only_when_it_is_whole(a, b):
    run = a.write(seed=4294, max_new_tokens=24, temperature=5)  # by chance this one says 𦃸, four tokens of one byte
    whole = told(a, run)
    place = next(n for n, token in enumerate(a.visitor.json(run)["samples"][0]["tokens"]) if token["bytes"] == [0xF0])
    assert any(ord(character) > 0xFFFF for character in whole[0][1])
    cut(a, run, place + 2)
    assert told(b, run)[0][1] in whole[0][1]
    with closing(Reader(b, run)) as reader:
        reader.until()
        assert pictured(whole[0][1]).startswith(reader.shown["#sample-0"])
        b.do("take_over")
        reader.until("done")
    assert reader.shown["#sample-0"] == pictured(whole[0][1])
    assert b.finish(run) == whole


def test_a_reader_of_an_orphan_is_told_that_it_goes_on_and_then_reads_on(a, b):
    run = a.write(max_new_tokens=30, samples=2)
    whole = told(a, run)
    cut(a, run, 10, 5)
    with closing(Reader(b, run)) as reader:
        reader.until(status="The server that wrote this has stopped; it goes on in a moment.")
        b.do("take_over")
        reader.until("done")
    assert [reader.shown[f"#sample-{n}"] for n in range(2)] == [pictured(sample[1]) for sample in whole]
    assert set(reader.swaps) == {"beforeend"}


def test_a_run_whose_lease_is_valid_is_left_alone(a, b):
    run = a.write()
    cut(a, run, 5, lease_until=time.time() + 60)
    b.visitor.get(run)
    b.state.takeover.born -= 1000
    b.do("take_over", "reap")
    assert not b.entry(run).ours
    assert b.row(run, Run.state, Run.holder) == ("writing", "killed")


def test_of_many_servers_that_want_a_run_exactly_one_gets_it(a, serve):
    run = a.write()
    servers = [serve() for _ in range(6)]

    def take(server):
        with server.app.app_context():
            got = lease.take(server.state.server, run[3:], time.time())
            db.session.commit()
            return got

    with ThreadPoolExecutor(len(servers)) as pool:
        for _ in range(10):
            cut(a, run, 5)
            got = list(pool.map(take, servers))
            assert got.count(True) == 1
            assert a.row(run, Run.holder) == servers[got.index(True)].state.server


def test_of_two_servers_that_both_have_readers_only_one_goes_on(a, b, serve):
    run = a.write(max_new_tokens=40)
    whole = told(a, run)
    cut(a, run, 9)
    others = [b, serve()]
    for server in others:
        server.visitor.get(run)
    for server in others:
        server.do("take_over")
    assert [server.entry(run).ours for server in others] == [True, False]
    assert b.finish(run) == whole
    others[1].do("follow")
    assert told(others[1], run) == whole


def test_an_orphan_that_finds_the_line_full_is_tried_again(a, b, writer):
    run = a.write(max_new_tokens=30)
    whole = told(a, run)
    cut(a, run, 9)
    b.visitor.get(run)
    with closing(FakeEngine(max_waiting=0)) as full:
        b.state.models.engine = full
        b.do("take_over")
    assert not b.entry(run).ours
    assert b.row(run, Run.holder) is None
    assert b.log(run).state == "paused"
    b.state.models.engine = writer.engine
    b.do("follow", "take_over")
    assert b.finish(run) == whole


class Refusing(FakeEngine):
    """One that finds out only when it is asked that it cannot do a thing."""

    def submit(self, request, run):
        raise Refusal("This engine has no such sampler.")


def test_an_orphan_that_the_engine_refuses_ends_at_once_with_one_sentence_and_keeps_its_text(a, b):
    run = a.write(max_new_tokens=30)
    whole = told(a, run)
    cut(a, run, 9)
    b.visitor.get(run)
    with closing(Refusing()) as engine:
        b.state.models.engine = engine
        b.do("take_over", "follow")
    [(ids, _, reason, error)] = told(b, run)
    assert (ids, reason) == (whole[0][0][:9], "error")
    assert error == "This engine has no such sampler. What was written is kept."
    assert b.row(run, Run.holder) is None


def test_an_orphan_whose_model_was_replaced_ends_with_one_sentence_and_keeps_its_text(serve, tmp_path):
    make_model(tmp_path / "tiny", seed=1)
    server = serve(RUBRIC_MODELS=str(tmp_path))
    run = server.write(max_new_tokens=30)
    whole = told(server, run)
    cut(server, run, 9, lease_until=time.time() - 1000)
    make_model(tmp_path / "new", seed=9)
    (tmp_path / "new" / "model.safetensors").replace(tmp_path / "tiny" / "model.safetensors")
    server.visitor.get(run)
    server.do("take_over", "follow")
    [(ids, said, reason, error)] = told(server, run)
    assert (ids, reason) == (whole[0][0][:9], "error")
    assert whole[0][1].startswith(said.rstrip("\ufffd"))
    assert error == "The model tiny was replaced by another while this was being written. What was written is kept."
    assert error in server.visitor.get(run).text.replace("&#39;", "'")


def test_an_orphan_whose_model_is_gone_ends_with_one_sentence(a, serve, tmp_path):
    run = a.write()
    cut(a, run, 9, lease_until=time.time() - 1000)
    server = serve(RUBRIC_MODELS=str(tmp_path))
    server.visitor.get(run)
    server.do("take_over", "follow")
    assert told(server, run)[0][2] == "error"
    assert "What was written is kept." in told(server, run)[0][3]


def test_a_sample_that_ended_just_before_its_server_gave_up_the_run_is_not_written_on(a, b):
    """B looked before A's last saving, and takes over after it, as when A is shut down."""
    run = a.write(max_new_tokens=30, samples=2)
    cut(a, run, 9, 9)
    b.visitor.get(run)
    with a.app.app_context():
        repository.end_sample(
            run[3:], 0, "error", 5, Problem("The model's numbers ran out of range (NaN or infinity).")
        )
        db.session.commit()
    b.do("take_over")
    assert [len(ids) for ids, *_ in b.finish(run)] == [9, 30]


def test_an_orphan_that_cannot_be_looked_at_does_not_keep_others_from_going_on(a, b, monkeypatch):
    runs = [a.write() for _ in range(2)]
    for run in runs:
        cut(a, run, 5)
        b.visitor.get(run)
    real, failures = models.find_model, [PermissionError("of a model's weights")]

    def find_model(*given):
        if failures:
            raise failures.pop()
        return real(*given)

    monkeypatch.setattr(models, "find_model", find_model)
    b.attempt("take_over")
    assert [b.entry(run).ours for run in runs].count(True) == 1


# Nobody watches


def test_an_orphan_that_nobody_watches_ends_after_the_grace_time_and_keeps_its_text(a, serve):
    run = a.write(max_new_tokens=30, samples=2)
    whole = told(a, run)
    cut(a, run, 9, None, lease_until=time.time() - 8)
    server = serve(RUBRIC_GRACE=10)
    server.state.takeover.born -= 1000
    server.do("reap")
    assert server.row(run, Run.state) == "writing"
    server.change(run, lease_until=time.time() - 11)
    server.do("reap")
    (first, second) = told(server, run)
    assert (first[0], first[2]) == (whole[0][0][:9], "unwatched")
    assert second == whole[1]
    assert "Stopped at token 9: no page was connected to it." in server.visitor.get(run).text


def test_a_server_that_just_started_gives_readers_time_to_come_back(a, serve):
    run = a.write()
    cut(a, run, 9, lease_until=time.time() - 1000)
    server = serve(RUBRIC_GRACE=10)
    server.do("reap")
    assert server.row(run, Run.state) == "writing"
    server.visitor.get(run)
    server.state.takeover.born -= 1000
    server.do("reap")
    assert server.row(run, Run.state) == "writing"  # somebody came
    server.entry(run).seen -= 11
    server.do("reap")
    assert server.row(run, Run.state) == "done"


def test_an_orphan_that_is_watched_on_another_server_is_left_to_that_one(a, b, serve):
    run = a.write()
    cut(a, run, 9, lease_until=time.time() - 1000)
    with closing(Reader(b, run)):
        b.do("tell_viewers")
        server = serve(RUBRIC_GRACE=10)
        server.state.takeover.born -= 1000
        server.do("reap")
        assert server.row(run, Run.state) == "writing"


@pytest.fixture
def asked_to_end(a, monkeypatch) -> list:
    """The logs of the runs that the engine is asked to end."""
    asked, engine = [], a.state.engine
    real = engine.cancel
    monkeypatch.setattr(engine, "cancel", lambda log, *reason: (asked.append(log), real(log, *reason)))
    return asked


def test_a_run_of_ours_goes_on_while_anyone_watches_here_or_elsewhere_and_then_for_the_grace_time(a, b, asked_to_end):
    run = a.visitor.start(model="slow", max_new_tokens=4096)
    a.do("save")
    with closing(Reader(b, run)):
        a.entry(run).seen -= 1000
        b.do("tell_viewers")
        a.do("tell_viewers", "stop_unwatched")
        assert a.log(run) not in asked_to_end
    b.do("tell_viewers")
    a.do("tell_viewers")
    with closing(Reader(a, run)):
        a.entry(run).seen -= 1000
        a.do("stop_unwatched")
        assert a.log(run) not in asked_to_end
    a.do("stop_unwatched")
    assert a.log(run) not in asked_to_end
    a.entry(run).seen -= 1000
    a.do("stop_unwatched")
    assert a.finish(run)[0][2] == "unwatched"


def test_viewers_of_a_server_that_was_killed_count_no_more_after_a_while(a, b):
    run = a.visitor.start(model="slow", max_new_tokens=4096)
    a.do("save")
    with closing(Reader(b, run)):
        b.do("tell_viewers")
    a.do("tell_viewers")
    assert a.state.registry.watching(run[3:]) == 1
    with a.app.app_context():
        db.session.execute(update(Watch).where(Watch.run_id == run[3:]).values(seen=time.time() - follower.AWAY - 1))
        db.session.commit()
    a.do("tell_viewers")
    assert a.state.registry.watching(run[3:]) == 0


def test_a_reader_who_leaves_an_entry_that_was_let_go_is_not_counted_off_the_next_one(a, b):
    run = a.visitor.start(model="slow", max_new_tokens=4096)
    slow = Reader(a, run)
    a.change(run, holder="another", lease_until=time.time() + 60)
    a.do("save")
    with closing(Reader(a, run)):
        slow.close()
        assert a.entry(run).viewers == 1


# A server that lost its lease


def test_a_server_that_lost_its_lease_stores_nothing_more_and_its_readers_read_on_elsewhere(a, b):
    original = a.write(max_new_tokens=30)
    run, log, whole = copy(a, original)
    go_on(log, whole, 5)
    a.do("save")
    with closing(Reader(a, run)) as reader:
        reader.until(status="Writing…")
        a.change(run, lease_until=0.0)
        b.visitor.get(run)
        b.do("take_over")
        go_on(log, whole, 5)
        a.do("save")
        assert not a.knows(run)
        reader.until("pause")
        assert reader.rest() == []  # and no `done`
    with a.app.app_context():
        stored = db.session.scalar(select(func.sum(func.length(Block.tokens))).where(Block.run_id == run[3:]))
    assert stored == 5 * whole.prompt.dtype.itemsize
    assert a.row(run, Run.holder) == b.state.server
    b.finish(run)
    with closing(Reader(a, run, reader.last)) as again:
        again.shown = reader.shown
        again.until("done")
    assert again.shown["#sample-0"] == pictured(told(a, original)[0][1])


# What the database does not take


def test_a_saving_that_was_made_though_the_connection_broke_is_not_made_twice(a, monkeypatch):
    original = a.write(max_new_tokens=30)
    run, log, whole = copy(a, original)
    go_on(log, whole, 5)
    with monkeypatch.context() as patch, a.app.app_context():
        real = db.session.commit
        patch.setattr(db.session, "commit", lambda: real() or 1 / 0)
        a.state.recorder.save_round()
    go_on(log, whole, 30)
    for _ in range(3):
        a.attempt("save")
    assert told(a, run) == told(a, original)
    assert a.row(run, Run.state) == "done"


def test_a_run_that_cannot_be_stored_does_not_keep_the_others_from_it(a, monkeypatch):
    original = a.write(max_new_tokens=30)
    (bad, _, _), (good, log, whole) = copy(a, original), copy(a, original)
    real = recorder.store_news
    monkeypatch.setattr(recorder, "store_news", lambda name, *rest: real(name, *rest) if name != bad[3:] else 1 / 0)
    go_on(log, whole, 30)
    a.attempt("save")
    a.attempt("save")
    assert a.row(good, Run.state) == "done"


# Stopping


def test_stop_reaches_a_run_through_the_database_whichever_server_got_the_click(a, b, asked_to_end):
    run = a.visitor.start(model="slow", max_new_tokens=4096)
    owner = Visitor(b.app)
    owner.client.set_cookie("rubric", a.visitor.client.get_cookie("rubric").value)
    refused = b.visitor.post(f"{run}/stop")
    assert refused.status_code == 422
    a.do("save")
    assert a.log(run) not in asked_to_end
    assert owner.post(f"{run}/stop").status_code == 303
    a.do("save")
    assert a.finish(run)[0][2] == "cancelled"


@pytest.mark.parametrize("work", ["take_over", "reap"])
def test_stop_ends_an_orphan_where_it_stands(a, b, work):
    run = a.write(max_new_tokens=30)
    whole = told(a, run)
    cut(a, run, 9)
    a.visitor.post(f"{run}/stop")
    with closing(Reader(b, run)) as reader:
        b.do(work, "follow")
        reader.until("done")
    assert reader.shown["#status"] == "Stopped after 9 tokens."
    assert [(ids, reason) for ids, _, reason, _ in told(b, run)] == [(whole[0][0][:9], "cancelled")]


def test_stop_of_a_run_that_is_done_changes_nothing(a):
    run = a.write()
    whole = told(a, run)
    a.visitor.post(f"{run}/stop")
    assert told(a, run) == whole
    assert a.row(run, Run.stop_asked) is None
