"""Servers that share a database and run no threads: a test calls their rounds itself, so what happens has one order.

The fixtures `a` and `b` are two of them, and `serve` makes more; conftest.py hands them to all tests.
"""

import secrets
import time

import pytest
from conftest import Visitor, finished, parse_events, text_of
from flask_migrate import upgrade
from sqlalchemy import create_engine, delete, insert, select, text, update

from generate import RunLog, split_half_character, unknown_records
from webapp import create_app
from webapp.runs import lease
from webapp.runs.repository import new_run, stored_log
from webapp.runs.tables import Block, Run, db


class Server:
    """A server whose rounds a test calls, and a visitor of it."""

    def __init__(self, settings, engine):
        self.app = create_app(settings, engine)
        self.state = self.app.extensions["rubric"]
        self.visitor = Visitor(self.app)

    def do(self, *names) -> None:
        """Do some jobs once, in this order; a failure is the test's."""
        for name in names:
            with self.app.app_context():
                self.state.scheduler.jobs[name].work()

    def attempt(self, name) -> None:
        """Do a job as its thread does: a failure is logged."""
        self.state.scheduler.attempt(self.state.scheduler.jobs[name])

    def write(self, prompt="the old king", **fields) -> str:
        """A run that nothing disturbs, stored whole; returns its address."""
        run = self.visitor.start(prompt, **({"temperature": 1, "top_k": 0} | fields))
        self.finish(run)
        return run

    def finish(self, run) -> list:
        """Wait until our engine has written a run, and store it; returns what came of it."""
        finished(self.log(run))
        self.do("save")
        assert not self.knows(run)
        return told(self, run)

    def knows(self, run) -> bool:
        return run[3:] in self.state.registry.entries()

    def entry(self, run):
        return self.state.registry.entries()[run[3:]]

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
        for run_id in self.state.registry.entries():
            self.state.service.cancel(run_id)
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

    def rest(self) -> list[bytes]:
        """What is still sent, until the stream ends."""
        return list(self._parts)

    def close(self) -> None:
        self._answer.close()


@pytest.fixture(scope="session")
def new_database(app, tmp_path_factory):
    """Makes settings with a new and empty database, of the kind that `app` has, at which no thread looks."""
    settings = app.config["SETTINGS"]

    def make() -> dict:
        address, name = settings["DATABASE_URL"], f"shared_{secrets.token_hex(8)}"
        if address:
            engine = create_engine(address, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
            engine.dispose()
            address = f"{address.rpartition('/')[0]}/{name}"
        return settings | {"RUBRIC_INSTANCE": str(tmp_path_factory.mktemp(name)), "DATABASE_URL": address}

    return make


@pytest.fixture(scope="session")
def shared_database(new_database):
    """Settings with a database whose tables are there."""
    settings = new_database()
    with create_app(settings).app_context():
        upgrade()
        db.engine.dispose()
    return settings


@pytest.fixture
def serve(shared_database, writer):
    """Makes servers that share the database; they share an engine too, but know nothing of each other's runs."""
    servers = []

    def make(**changes) -> Server:
        servers.append(Server(shared_database | changes, writer.engine))
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
        whole, vocabulary = stored_log(row), server.state.vocabularies.find(row.vocabulary_id)
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
    """How many tokens may be shown after each of some: those that end a character, before what may become a stop."""
    half, stops = split_half_character(vocabulary.bytes_of(log.prompt["id"]))[1], [stop.encode() for stop in stops]
    texts = [vocabulary.bytes_of(ids[:count]) for count in range(len(ids) + 1)]
    whole = [n for n, text in enumerate(texts) if n == 0 or not split_half_character(half + text)[1]]

    def sure(text: bytes) -> int:
        """How many bytes stand before the first stop string, or else before what may become one."""
        found = [text.find(stop) for stop in stops if stop in text]
        held = (n for n in range(len(text)) if any(stop.startswith(text[n:]) for stop in stops))
        return min(found) if found else next(held, len(text))

    limits = map(sure, texts)
    return [max(n for n in whole if n <= count and len(texts[n]) <= limit) for count, limit in enumerate(limits)][1:]


def copy(server, run) -> tuple[str, RunLog, RunLog]:
    """A run like `run` that this server writes, though no engine does: the test appends to its log.

    Returns its address, its log, and the log of the model run.
    """
    with server.app.app_context():
        row = db.session.get(Run, run[3:])
        whole, vocabulary = stored_log(row), server.state.vocabularies.find(row.vocabulary_id)
        whole.shown = [
            released(sample.read()["id"], vocabulary, whole, row.options["stop"]) for sample in whole.samples
        ]
        fields = {column.name: getattr(row, column.name) for column in Run.__table__.columns}
        changes = {"id": f"copy{time.monotonic_ns()}", "state": "writing", "holder": server.state.server, "words": None}
        changes |= {"lease_until": time.time() + lease.LEASE, "progress": {}, "stop_asked": None}
        changes["prompt"] = unknown_records(whole.prompt["id"], fields["vocab_size"]).tobytes()
        new_run(**(fields | changes))
    log = RunLog(whole.prompt, len(whole.samples))
    log.fingerprint, log.precision, log.device = whole.fingerprint, whole.precision, whole.device
    server.state.registry.add(changes["id"], log)
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
