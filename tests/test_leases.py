"""Several servers over one database: runs that go on elsewhere, who watches, who may stop, and runs that are gone.

The servers of these tests run no threads: a test calls their rounds itself, so what happens has one order.
"""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import Visitor, finished, make_model, parse_events, pictured, text_of
from engines import until
from flask_migrate import downgrade, upgrade
from sqlalchemy import create_engine, delete, func, insert, select, text, update

from generate import Busy, RunLog, split_half_character, unknown_records
from generate.ending import Ending
from webapp import adopt, create_app, lease, record, remove, tail
from webapp.database import Block, Gone, Run, Sample, Watch, db
from webapp.store import find_vocabulary, new_run, stored_log


class Server:
    """A server whose rounds a test calls, and a visitor of it."""

    def __init__(self, settings, engine):
        self.app = create_app(settings, engine)
        self.live = self.app.extensions["rubric"]
        self.visitor = Visitor(self.app)

    def do(self, *rounds) -> None:
        for work in rounds:
            with self.app.app_context():
                work(self.live)

    def write(self, prompt="the old king", **fields) -> str:
        """A run that nothing disturbs, stored whole; returns its address."""
        run = self.visitor.start(prompt, **({"temperature": 1, "top_k": 0} | fields))
        self.finish(run)
        return run

    def finish(self, run) -> list:
        """Wait until our engine has written a run, and store it; returns what came of it."""
        finished(self.log(run))
        self.do(record.save_round)
        assert not self.knows(run)
        return told(self, run)

    def knows(self, run) -> bool:
        return run[3:] in self.live.entries()

    def entry(self, run):
        return self.live.entries()[run[3:]]

    def log(self, run):
        return self.entry(run).log

    def row(self, run, *columns):
        """Some columns of a run's row, as they are in the database."""
        with self.app.app_context():
            found = db.session.execute(select(*columns).where(Run.id == run[3:])).one()
            return found if len(columns) > 1 else found[0]

    def change(self, run, **values) -> None:
        with self.app.app_context():
            db.session.execute(update(Run).where(Run.id == run[3:]).values(**values))
            db.session.commit()

    def close(self) -> None:
        for run_id in self.live.entries():
            self.live.stop(run_id)
        with self.app.app_context():
            db.engine.dispose()


class Reader:
    """Somebody who watches a run: what their page shows, as htmx would make it of the events so far."""

    def __init__(self, server, run, last=None, visitor=None):
        headers = {"Last-Event-ID": last} if last else {}
        client = (visitor or Visitor(server.app)).client
        self._answer = client.get(f"{run}/events", headers=headers, buffered=False)
        self._parts = iter(self._answer.response)
        self.shown, self.swaps, self.last = {}, [], last

    def read(self) -> dict:
        """The next event."""
        event = parse_events(next(self._parts).decode())[0]
        self.last = event.get("id", self.last)
        for part in event["data"].split("<hx-partial ")[1:]:
            target, swap = part.split('hx-target="')[1].split('"')[0], part.split('hx-swap="')[1].split('"')[0]
            if target.startswith("#sample"):
                self.swaps.append(swap)
            before = self.shown.get(target, "") if swap == "beforeend" else ""
            self.shown[target] = before + text_of(f"<hx-partial {part}", target)
        return event

    def until(self, name=None, **shown) -> "Reader":
        """Read on until an event of that name, or until the page shows these texts (`status="Writing…"`)."""
        deadline = time.time() + 30
        while self.read().get("event") != name or any(self.shown.get(f"#{k}") != v for k, v in shown.items()):
            assert time.time() < deadline, self.shown
        return self

    def close(self) -> None:
        self._answer.close()


@pytest.fixture(scope="module")
def new_database(app, tmp_path_factory):
    """Makes settings with a new and empty database, of the kind that `app` has, at which no thread looks."""
    settings, made = app.config["SETTINGS"], []

    def make() -> dict:
        address, name = settings["DATABASE_URL"], f"leases_{len(made)}"
        made.append(name)
        if address:
            engine = create_engine(address, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
            engine.dispose()
            address = f"{address.rpartition('/')[0]}/{name}"
        return settings | {"RUBRIC_INSTANCE": str(tmp_path_factory.mktemp(name)), "DATABASE_URL": address}

    return make


@pytest.fixture(scope="module")
def settings(new_database):
    settings = new_database()
    with create_app(settings).app_context():
        upgrade()
        db.engine.dispose()
    return settings


@pytest.fixture
def serve(settings, writer):
    """Makes servers that share the database; they share an engine too, but know nothing of each other's runs."""
    servers = []

    def make(**changes) -> Server:
        servers.append(Server(settings | changes, writer.engine))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def a(serve) -> Server:
    return serve()


@pytest.fixture
def b(serve) -> Server:
    return serve()


def told(server, run) -> list:
    """What a run says, in a form that can be compared."""
    samples = server.visitor.json(run)["samples"]
    return [([t["id"] for t in s["tokens"]], s["text"], s["finish_reason"], s["error"]) for s in samples]


def cut(server, run, *counts, lease_until=None) -> None:
    """Make of a whole run what a killed server would have left: so many tokens of each sample (None: all, ended)."""
    with server.app.app_context():
        row = db.session.get(Run, run[3:])
        whole, vocabulary = stored_log(row), find_vocabulary(row.vocabulary_id)
        for kept, sample, count in zip(row.samples, whole.samples, counts, strict=True):
            if count is None:
                continue
            db.session.execute(delete(Block).where(Block.run_id == row.id, Block.number == kept.number))
            tokens = sample.read(0, count)
            if count:
                shown = released(tokens["id"], vocabulary, whole, row.options["stop"])[-1]
                fields = {"run_id": row.id, "number": kept.number, "start": 0}
                db.session.execute(insert(Block), [fields | {"tokens": tokens.tobytes(), "released": shown}])
            kept.finish_reason = kept.text_end = None
        if not any(count is None or count for count in counts):
            row.prompt = unknown_records(whole.prompt["id"], row.vocab_size).tobytes()
        row.state, row.holder, row.progress = "writing", "killed", {"state": "writing", "watching": 0}
        row.lease_until = time.time() - 1 if lease_until is None else lease_until
        db.session.commit()


def released(ids, vocabulary, log, stops) -> list[int]:
    """How many tokens may be shown after each of some, as the engine counts them."""
    ending, counts = (
        Ending([s.encode() for s in stops], split_half_character(vocabulary.bytes_of(log.prompt["id"]))[1]),
        [],
    )
    for index in ids.tolist():
        ending.feed(vocabulary.tokens[index])
        counts.append(ending.released)
    return counts


def copy(server, run) -> tuple[str, RunLog, RunLog]:
    """A run like `run` that this server writes, though no engine does: the test appends to its log.

    Returns its address, its log, and the log of the model run.
    """
    with server.app.app_context():
        row = db.session.get(Run, run[3:])
        whole, vocabulary = stored_log(row), find_vocabulary(row.vocabulary_id)
        whole.shown = [
            released(sample.read()["id"], vocabulary, whole, row.options["stop"]) for sample in whole.samples
        ]
        fields = {column.name: getattr(row, column.name) for column in Run.__table__.columns}
        changes = {"id": f"copy{time.monotonic_ns()}", "state": "writing", "holder": server.live.server, "words": None}
        changes |= {"lease_until": time.time() + lease.LEASE, "progress": {}, "stop_asked": None}
        changes["prompt"] = unknown_records(whole.prompt["id"], fields["vocab_size"]).tobytes()
        new_run(**(fields | changes))
    log = RunLog(whole.prompt["id"], len(whole.samples), fields["vocab_size"])
    log.prompt = whole.prompt
    log.fingerprint, log.precision, log.device = whole.fingerprint, whole.precision, whole.device
    server.live.add(changes["id"], log)
    return f"/r/{changes['id']}", log, whole


def go_on(log, whole, count) -> None:
    """Append the next `count` tokens of every sample, and end those that are whole."""
    log.set_state("writing")
    for sample, full, shown in zip(log.samples, whole.samples, whole.shown, strict=True):
        for index in range(len(sample), min(len(sample) + count, len(full))):
            with log.changed:
                sample.append(full.read(index, index + 1), shown[index])
                log.touch()
        if len(sample) == len(full):
            log.finish(sample, full.finish_reason, full.text_end, full.error)


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
    b.do(adopt.adopt)
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
        b.do(adopt.adopt)
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
        b.do(adopt.adopt)
        reader.until("done")
    assert reader.shown["#sample-0"] == pictured(whole[0][1])
    assert b.finish(run) == whole


def test_a_reader_of_an_orphan_is_told_that_it_goes_on_and_then_reads_on(a, b):
    run = a.write(max_new_tokens=30, samples=2)
    whole = told(a, run)
    cut(a, run, 10, 5)
    with closing(Reader(b, run)) as reader:
        reader.until(status="The server that wrote this has stopped; it goes on in a moment.")
        b.do(adopt.adopt)
        reader.until("done")
    assert [reader.shown[f"#sample-{n}"] for n in range(2)] == [pictured(sample[1]) for sample in whole]
    assert set(reader.swaps) == {"beforeend"}


def test_a_run_whose_lease_is_valid_is_left_alone(a, b):
    run = a.write()
    cut(a, run, 5, lease_until=time.time() + 60)
    b.visitor.get(run)
    b.live.born -= 1000
    b.do(adopt.adopt, adopt.reap)
    assert not b.entry(run).ours
    assert b.row(run, Run.state, Run.holder) == ("writing", "killed")


def test_of_many_servers_that_want_a_run_exactly_one_gets_it(a, serve):
    run = a.write()
    servers = [serve() for _ in range(6)]

    def take(server):
        with server.app.app_context():
            got = lease.take(server.live.server, run[3:], time.time())
            db.session.commit()
            return got

    with ThreadPoolExecutor(len(servers)) as pool:
        for _ in range(10):
            cut(a, run, 5)
            got = list(pool.map(take, servers))
            assert got.count(True) == 1
            assert a.row(run, Run.holder) == servers[got.index(True)].live.server


def test_of_two_servers_that_both_have_readers_only_one_goes_on(a, b, serve):
    run = a.write(max_new_tokens=40)
    whole = told(a, run)
    cut(a, run, 9)
    others = [b, serve()]
    for server in others:
        server.visitor.get(run)
    for server in others:
        server.do(adopt.adopt)
    assert [server.entry(run).ours for server in others] == [True, False]
    assert b.finish(run) == whole
    others[1].do(tail.follow)
    assert told(others[1], run) == whole


def test_an_orphan_that_finds_the_line_full_is_tried_again(a, b, writer):
    run = a.write(max_new_tokens=30)
    whole = told(a, run)
    cut(a, run, 9)

    class Full:
        def submit(self, request, log):
            raise Busy("The line is full.")

    b.visitor.get(run)
    b.live.engine = Full()
    b.do(adopt.adopt)
    assert not b.entry(run).ours
    assert b.row(run, Run.holder) is None
    assert b.log(run).state == "paused"
    b.live.engine = writer.engine
    b.do(tail.follow, adopt.adopt)
    assert b.finish(run) == whole


def test_an_orphan_whose_model_was_replaced_ends_with_one_sentence_and_keeps_its_text(serve, tmp_path):
    make_model(tmp_path / "tiny", seed=1)
    server = serve(RUBRIC_MODELS=str(tmp_path))
    run = server.write(max_new_tokens=30)
    whole = told(server, run)
    cut(server, run, 9, lease_until=time.time() - 1000)
    make_model(tmp_path / "new", seed=9)
    (tmp_path / "new" / "model.safetensors").replace(tmp_path / "tiny" / "model.safetensors")
    server.visitor.get(run)
    server.do(adopt.adopt, tail.follow)
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
    server.do(adopt.adopt, tail.follow)
    assert told(server, run)[0][2] == "error"
    assert "What was written is kept." in told(server, run)[0][3]


def test_a_sample_that_ended_just_before_its_server_gave_up_the_run_is_not_written_on(a, b):
    """B looked before A's last saving, and takes over after it, as when A is shut down."""
    run = a.write(max_new_tokens=30, samples=2)
    cut(a, run, 9, 9)
    b.visitor.get(run)
    with a.app.app_context():
        record.end_sample(run[3:], 0, "error", 5, "The model's numbers ran out of range (NaN or infinity).")
        db.session.commit()
    b.do(adopt.adopt)
    assert [len(ids) for ids, *_ in b.finish(run)] == [9, 30]


def test_an_orphan_that_cannot_be_looked_at_does_not_keep_others_from_going_on(a, b, monkeypatch):
    runs = [a.write() for _ in range(2)]
    for run in runs:
        cut(a, run, 5)
        b.visitor.get(run)
    real, failures = adopt.find_model, [PermissionError("of a model's weights")]

    def find_model(*given):
        if failures:
            raise failures.pop()
        return real(*given)

    monkeypatch.setattr(adopt, "find_model", find_model)
    b.live._try(adopt.adopt)
    assert [b.entry(run).ours for run in runs].count(True) == 1


# Nobody watches


def test_an_orphan_that_nobody_watches_ends_after_the_grace_time_and_keeps_its_text(a, serve):
    run = a.write(max_new_tokens=30, samples=2)
    whole = told(a, run)
    cut(a, run, 9, None, lease_until=time.time() - 8)
    server = serve(RUBRIC_GRACE=10)
    server.live.born -= 1000
    server.do(adopt.reap)
    assert server.row(run, Run.state) == "writing"
    server.change(run, lease_until=time.time() - 11)
    server.do(adopt.reap)
    (first, second) = told(server, run)
    assert (first[0], first[2]) == (whole[0][0][:9], "unwatched")
    assert second == whole[1]
    assert "Stopped at token 9: nobody was watching." in server.visitor.get(run).text


def test_a_server_that_just_started_gives_readers_time_to_come_back(a, serve):
    run = a.write()
    cut(a, run, 9, lease_until=time.time() - 1000)
    server = serve(RUBRIC_GRACE=10)
    server.do(adopt.reap)
    assert server.row(run, Run.state) == "writing"
    server.visitor.get(run)
    server.live.born -= 1000
    server.do(adopt.reap)
    assert server.row(run, Run.state) == "writing"  # somebody came
    server.entry(run).seen -= 11
    server.do(adopt.reap)
    assert server.row(run, Run.state) == "done"


def test_an_orphan_that_is_watched_on_another_server_is_left_to_that_one(a, b, serve):
    run = a.write()
    cut(a, run, 9, lease_until=time.time() - 1000)
    with closing(Reader(b, run)):
        b.do(tail.tell_viewers)
        server = serve(RUBRIC_GRACE=10)
        server.live.born -= 1000
        server.do(adopt.reap)
        assert server.row(run, Run.state) == "writing"


def test_a_run_of_ours_goes_on_while_anyone_watches_here_or_elsewhere_and_then_for_the_grace_time(a, b):
    run = a.visitor.start(model="slow", max_new_tokens=4096)
    a.do(record.save_round)
    with closing(Reader(b, run)):
        a.entry(run).seen -= 1000
        b.do(tail.tell_viewers)
        a.do(tail.tell_viewers, adopt.stop_unwatched)
        assert a.log(run).cancelled is None
    b.do(tail.tell_viewers)
    a.do(tail.tell_viewers)
    with closing(Reader(a, run)):
        a.entry(run).seen -= 1000
        a.do(adopt.stop_unwatched)
        assert a.log(run).cancelled is None
    a.do(adopt.stop_unwatched)
    assert a.log(run).cancelled is None
    a.entry(run).seen -= 1000
    a.do(adopt.stop_unwatched)
    assert a.finish(run)[0][2] == "unwatched"


def test_viewers_of_a_server_that_was_killed_count_no_more_after_a_while(a, b):
    run = a.visitor.start(model="slow", max_new_tokens=4096)
    a.do(record.save_round)
    with closing(Reader(b, run)):
        b.do(tail.tell_viewers)
    a.do(tail.tell_viewers)
    assert a.live.watching(run[3:]) == 1
    with a.app.app_context():
        db.session.execute(update(Watch).where(Watch.run_id == run[3:]).values(seen=time.time() - tail.AWAY - 1))
        db.session.commit()
    a.do(tail.tell_viewers)
    assert a.live.watching(run[3:]) == 0


def test_a_reader_who_leaves_an_entry_that_was_let_go_is_not_counted_off_the_next_one(a, b):
    run = a.visitor.start(model="slow", max_new_tokens=4096)
    slow = Reader(a, run)
    a.change(run, holder="another", lease_until=time.time() + 60)
    a.do(record.save_round)
    with closing(Reader(a, run)):
        slow.close()
        assert a.entry(run).viewers == 1


# A server that lost its lease


def test_a_server_that_lost_its_lease_stores_nothing_more_and_sends_its_readers_away(a, b):
    run = a.write(max_new_tokens=30)
    run, log, whole = copy(a, run)
    go_on(log, whole, 5)
    a.do(record.save_round)
    with closing(Reader(a, run)) as reader:
        reader.until(status="Writing…")
        a.change(run, lease_until=0.0)
        with b.app.app_context():
            assert lease.take(b.live.server, run[3:], time.time())
            db.session.commit()
        go_on(log, whole, 5)
        a.do(record.save_round)
        assert not a.knows(run)
        reader.until("pause")
        assert list(reader._parts) == []  # and no `done`
    with a.app.app_context():
        stored = db.session.scalar(select(func.sum(func.length(Block.tokens))).where(Block.run_id == run[3:]))
    assert stored == 5 * whole.prompt.dtype.itemsize
    assert a.row(run, Run.holder) == b.live.server


def test_a_reader_of_a_server_that_lost_its_lease_reads_on_there(a, b):
    original = a.write(max_new_tokens=30)
    run, log, whole = copy(a, original)
    go_on(log, whole, 5)
    a.do(record.save_round)
    with closing(Reader(a, run)) as reader:
        reader.until(status="Writing…")
        a.change(run, lease_until=0.0)
        b.visitor.get(run)
        b.do(adopt.adopt)
        a.do(record.save_round)
        reader.until("pause")
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
        record.save_round(a.live)
    go_on(log, whole, 30)
    for _ in range(3):
        a.live._try(record.save_round)
    assert told(a, run) == told(a, original)
    assert a.row(run, Run.state) == "done"


def test_a_run_that_cannot_be_stored_does_not_keep_the_others_from_it(a, monkeypatch):
    original = a.write(max_new_tokens=30)
    (bad, _, _), (good, log, whole) = copy(a, original), copy(a, original)
    real = record.store_news
    monkeypatch.setattr(record, "store_news", lambda name, *rest: real(name, *rest) if name != bad[3:] else 1 / 0)
    go_on(log, whole, 30)
    a.live._try(record.save_round)
    a.live._try(record.save_round)
    assert a.row(good, Run.state) == "done"


# Stopping


def test_stop_reaches_a_run_through_the_database_whichever_server_got_the_click(a, b):
    run = a.visitor.start(model="slow", max_new_tokens=4096)
    owner = Visitor(b.app)
    owner.client.set_cookie("rubric", a.visitor.client.get_cookie("rubric").value)
    refused = b.visitor.post(f"{run}/stop")
    assert refused.status_code == 422
    a.do(record.save_round)
    assert a.log(run).cancelled is None
    assert owner.post(f"{run}/stop").status_code == 303
    a.do(record.save_round)
    assert a.finish(run)[0][2] == "cancelled"


@pytest.mark.parametrize("work", [adopt.adopt, adopt.reap])
def test_stop_ends_an_orphan_where_it_stands(a, b, work):
    run = a.write(max_new_tokens=30)
    whole = told(a, run)
    cut(a, run, 9)
    a.visitor.post(f"{run}/stop")
    with closing(Reader(b, run)) as reader:
        b.do(work, tail.follow)
        reader.until("done")
    assert reader.shown["#status"] == "Stopped by hand after 9 tokens."
    assert [(ids, reason) for ids, _, reason, _ in told(b, run)] == [(whole[0][0][:9], "cancelled")]


def test_stop_of_a_run_that_is_done_changes_nothing(a):
    run = a.write()
    whole = told(a, run)
    a.visitor.post(f"{run}/stop")
    assert told(a, run) == whole
    assert a.row(run, Run.stop_asked) is None


# Watching a run of another server


def test_a_viewer_of_another_server_sees_a_run_in_steps_its_place_in_line_and_its_end(a, b):
    original = a.write(max_new_tokens=30, samples=2)
    run, log, whole = copy(a, original)
    log.set_state("waiting", 2, 62)
    a.do(record.save_round)
    with closing(Reader(b, run)) as reader:
        b.do(tail.follow)
        reader.until(status="Waiting in line: 2nd, about 60 seconds.")
        seen = set()
        for _ in range(10):
            go_on(log, whole, 3)
            a.do(record.save_round)
            b.do(tail.follow)
            reader.until() if not log.done else reader.until("done")
            seen.add(reader.shown["#sample-1"])
    assert len(seen) >= 9
    assert [reader.shown[f"#sample-{n}"] for n in range(2)] == [pictured(s[1]) for s in told(a, original)]
    assert reader.shown["#status"].startswith("Done: 2 samples")
    assert not b.knows(run)
    assert told(b, run) == told(a, run) == told(a, original)
    assert b.visitor.get(f"{run}.json").data == a.visitor.get(f"{run}.json").data


def test_a_viewer_of_another_server_gets_the_prompt_s_statistics_with_the_first_token(a, b, monkeypatch):
    run, log, whole = copy(a, a.write(max_new_tokens=30))
    a.do(record.save_round)
    b.visitor.get(run)
    real = tail.new_blocks

    def late(entries):  # A stores its first tokens between B's two questions
        go_on(log, whole, 5)
        a.do(record.save_round)
        return real(entries)

    with b.app.app_context():
        monkeypatch.setattr(tail, "new_blocks", late)
        tail.follow(b.live)
    monkeypatch.undo()
    b.do(tail.follow)
    assert b.visitor.json(run)["prompt"]["tokens"][1]["logprob"] is not None


def test_a_viewer_of_another_server_is_told_when_the_run_is_deleted(a, b):
    run, log, whole = copy(a, a.write())
    go_on(log, whole, 5)
    a.do(record.save_round)
    with closing(Reader(b, run)) as there, closing(Reader(a, run)) as here:
        there.until(**{"sample-0": here.until(status="Writing…").shown["#sample-0"]})
        a.visitor.post(f"{run}/delete")
        go_on(log, whole, 5)
        a.do(record.save_round)
        b.do(tail.follow)
        for reader in (there, here):
            reader.until("done")
            assert "deleted by the person who started it" in reader.shown["#main"]
    assert not a.knows(run)
    assert not b.knows(run)
    with a.app.app_context():
        assert db.session.scalar(select(func.count()).where(Block.run_id == run[3:])) == 0


def test_three_watching_counts_the_viewers_of_all_servers(a, b):
    run, log, whole = copy(a, a.write())
    go_on(log, whole, 5)
    a.do(record.save_round)
    with closing(Reader(a, run)) as here, closing(Reader(b, run)) as there:
        with closing(Reader(b, run)):
            tell_everybody(a, b)
            here.until(watching="3 watching")
            there.until(watching="3 watching")
        tell_everybody(a, b)
        here.until(watching="2 watching")
        there.until(watching="2 watching")


def tell_everybody(a, b):
    b.do(tail.tell_viewers)
    a.do(tail.tell_viewers, record.save_round)
    b.do(tail.follow)


def test_many_runs_of_many_samples_can_be_followed_at_once(a, b):
    run = a.write(samples=32, max_new_tokens=1)
    runs = [copy(a, run) for _ in range(33)]
    for address, log, whole in runs:
        b.visitor.get(address)
        go_on(log, whole, 1)
    a.do(record.save_round)
    b.do(tail.follow)
    assert not any(b.knows(address) for address, *_ in runs)


# Readers who are ahead of what was stored


def test_a_reader_who_saw_more_than_was_stored_waits_and_then_gets_the_text_anew_once(a, b):
    original = a.write(max_new_tokens=30)
    run, log, whole = copy(a, original)
    go_on(log, whole, 10)
    a.do(record.save_round)
    with closing(Reader(b, run, last="16")) as reader:
        b.do(tail.follow)
        reader.until(status="Writing…")
        for _ in range(5):
            go_on(log, whole, 4)
            a.do(record.save_round)
            b.do(tail.follow)
            if len(log.samples[0]) >= 16:
                reader.until("done" if log.done else None)
    assert reader.swaps[0] == "innerHTML"
    assert set(reader.swaps[1:]) == {"beforeend"}
    assert reader.shown["#sample-0"] == pictured(told(a, original)[0][1])


def test_a_reader_who_saw_more_than_the_run_ever_had_gets_its_text_anew(a, b):
    run = a.write(max_new_tokens=30)
    cut(a, run, 9)
    with closing(Reader(b, run, last="16")) as reader:
        reader.shown["#sample-0"] = "what was never stored"
        a.visitor.post(f"{run}/stop")
        b.do(adopt.reap, tail.follow)
        reader.until("done")
    assert reader.swaps == ["innerHTML"]
    assert reader.shown["#sample-0"] == pictured(told(b, run)[0][1])


def test_a_reader_who_saw_more_than_was_stored_and_is_cut_off_again_sees_nothing_twice(a, b):
    original = a.write(max_new_tokens=30)
    run, log, whole = copy(a, original)
    go_on(log, whole, 10)
    a.do(record.save_round)
    go_on(log, whole, 8)
    with closing(Reader(a, run)) as first:
        first.until(status="Writing…")
    b.visitor.get(run)
    b.do(tail.follow)
    with closing(Reader(b, run, first.last)) as waiting:
        waiting.until(status="Writing…")
    go_on(log, whole, 30)
    a.do(record.save_round)
    b.do(tail.follow)
    with closing(Reader(b, run, waiting.last)) as again:
        again.shown = dict(first.shown)
        again.until("done")
    assert again.shown["#sample-0"] == pictured(told(a, original)[0][1])


# Runs that are gone


def test_a_deleted_run_leaves_no_byte_of_its_text_on_the_disk(a):
    """Of many runs, so that the tables' pages are split and joined meanwhile."""
    secret, others = "xylophones for quokkas", [a.write(f"number {n} " * 30, max_new_tokens=60) for n in range(12)]
    run = a.write(f"{secret} and more of it", max_new_tokens=60)
    with a.app.app_context():
        tokens = db.session.scalars(select(Block.tokens).where(Block.run_id == run[3:])).first()[86:172]
    others += [a.write(f"number {n} " * 30, max_new_tokens=60) for n in range(12)]
    until(lambda: a.do(record.index_words) or a.row(run, Run.words), what="the index")
    for other in others[::2]:
        a.visitor.post(f"{other}/delete")
    assert secret in a.row(run, Run.words)
    assert traces(a, secret.encode(), tokens) == [True, True]
    assert a.visitor.post(f"{run}/delete").status_code == 303
    assert traces(a, secret.encode(), tokens) == [False, False]


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
        remove.remove(expired[3:], None, "expired")
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
    a.do(remove.expire)
    assert a.visitor.get(old).status_code == 200
    serve(RUBRIC_KEEP_DAYS=7).do(remove.expire)
    assert [a.visitor.get(run).status_code for run in (old, new, unfinished)] == [410, 200, 200]
    with a.app.app_context():
        assert db.session.get(Gone, old[3:]).reason == "expired"


def test_a_run_can_be_deleted_while_its_server_stores_what_is_new(a, b):
    """On PostgreSQL the two meet at the run's row; neither may fail for the other."""
    run, log, whole = copy(a, a.write())
    go_on(log, whole, 5)
    owner = Visitor(b.app)
    owner.client.set_cookie("rubric", a.visitor.client.get_cookie("rubric").value)
    with ThreadPoolExecutor(1) as pool, a.app.app_context():
        lease.renew(a.live.server, [run[3:]], time.time())
        record.store_news(run[3:], a.entry(run))
        answer = pool.submit(owner.post, f"{run}/delete")
        time.sleep(0.3)  # for the deletion to get as far as it can
        db.session.commit()
        assert answer.result(20).status_code == 303
    assert a.visitor.get(run).status_code == 410


# The tables


def test_the_tables_of_the_first_version_are_brought_up_to_date_and_back_with_what_is_in_them(new_database, a, writer):
    made, original = new_database(), a.write(max_new_tokens=30, samples=2)
    first = "id created owner state model fingerprint vocabulary_id vocab_size n_positions precision device options"
    first += " prompt authors first_sample relation parent_id parent_sample"
    columns = {
        "vocabulary": ["id", "tokens"],
        "run": first.split(),
        "sample": ["run_id", "number", "finish_reason", "text_end", "error"],
        "block": ["run_id", "number", "start", "tokens"],
    }

    def rows(name, where=""):
        query = f"SELECT {', '.join(columns[name])} FROM {name} {where} ORDER BY 1, 2"
        return [tuple(row) for row in db.session.execute(text(query))]

    with a.app.app_context():
        mine = {"vocabulary": ("id", a.row(original, Run.vocabulary_id)), "run": ("id", original[3:])}
        mine |= dict.fromkeys(("sample", "block"), ("run_id", original[3:]))
        kept = {name: rows(name, f"WHERE {column} = '{value}'") for name, (column, value) in mine.items()}
    app = create_app(made, writer.engine)
    with app.app_context():
        upgrade(revision="0001")
        for name, found in kept.items():
            places = ", ".join(f":{column}" for column in columns[name])
            for row in found:
                values = {
                    k: json.dumps(v) if isinstance(v, dict | list) else v
                    for k, v in zip(columns[name], row, strict=True)
                }
                db.session.execute(text(f"INSERT INTO {name} ({', '.join(columns[name])}) VALUES ({places})"), values)
        db.session.commit()
        upgrade()
        assert {name: rows(name) for name in columns} == kept
        db.session.remove()
    assert told(Server(made, writer.engine), original) == told(a, original)
    with app.app_context():
        downgrade(revision="0001")
        assert {name: rows(name) for name in columns} == kept
        db.session.remove()
        upgrade()
        assert {name: rows(name) for name in columns} == kept
        db.session.remove()
        db.engine.dispose()
    server = Server(made, writer.engine)
    assert told(server, original) == told(a, original)
    server.close()
