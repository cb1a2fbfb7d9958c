"""All that is stored goes into one file and comes back byte for byte, also while it is being written."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT
from flask_migrate import downgrade, stamp, upgrade
from rounds import Server, told
from sqlalchemy import text
from waiting import until

from generate import Refusal
from webapp import create_app
from webapp.api.keys import add_key
from webapp.commands.backup import back_up, copy, restore, tables_of
from webapp.jobs.tables import Job
from webapp.moderation import blocks, reports
from webapp.moderation.tables import Kind
from webapp.runs.tables import Watch, db


@pytest.fixture
def house(new_database, writer):
    """Makes a server with a database of its own."""
    servers = []

    def make(tables=True) -> Server:
        servers.append(Server(new_database(), writer.engine))
        if tables:
            with servers[-1].app.app_context():
                upgrade()
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def rows(server) -> dict[str, list]:
    """All that is stored, as the database has it."""
    with server.app.app_context(), db.engine.connect() as connection:
        names = sorted(tables_of(connection))
        return {name: sorted(map(repr, connection.execute(text(f"SELECT * FROM {name}")))) for name in names}


def backed_up(server, path) -> Path:
    with server.app.app_context():
        back_up(path)
    return path


def restored(server, path) -> Server:
    with server.app.app_context():
        restore(path)
        db.session.remove()
    return server


def refusal(server, work, path) -> str:
    with server.app.app_context(), pytest.raises(Refusal) as refused:
        work(path)
    return str(refused.value)


def some_of_everything(server) -> list[str]:
    """Runs with two samples and with bans, one in a sheet, one that is gone, one that is watched and reported; a key, a job, a block."""
    written = [
        server.write(max_new_tokens=30, samples=2),
        server.write("从前 🦊", banned_phrases="a", max_new_tokens=9),
    ]
    sheet = server.visitor.post("/sheets", json={"key": "k" * 22, "edits": [[0, 0, "Once\n"]]}).get_json()
    wish = {"key": "l" * 22, "rev": sheet["rev"], "at": 5, "options": {"model": "tiny", "max_new_tokens": "8"}}
    state = server.visitor.post(f"/s/{sheet['id']}/write", json=wish).get_json()
    server.finish(f"/r/{state['versions'][0]['run']}")
    server.visitor.post(f"{server.write(max_new_tokens=3)}/delete", data={"nonce": "n" * 22})
    with server.app.app_context():
        add_key("somebody")
        db.session.add(Watch(run_id=written[0][3:], server="other", viewers=2, seen=time.time()))
        db.session.add(
            Job(id="job", kind="convert", title="A job", arguments=["a"], makes="b", machine="m", state="done")
        )
        db.session.commit()
        reports.report(Kind.RUN, written[0][3:], "a visitor", "other", "von nebenan 🦊")
        blocks.block("0f" * 32, blocks.span_of("7"))
    return [*written, f"/r/{state['versions'][0]['run']}"]


def test_what_is_stored_comes_back_byte_for_byte(house, tmp_path):
    first = house()
    runs = some_of_everything(first)
    file = backed_up(first, tmp_path / "all.rubric")
    again = restored(house(tables=False), file)
    assert [name for name, found in rows(first).items() if not found] == [], "a table of which nothing is tried here"
    assert rows(again) == rows(first)
    assert [told(again, run) for run in runs] == [told(first, run) for run in runs]
    assert file.stat().st_mode & 0o077 == 0, "it holds the key that signs cookies"
    assert [one.name for one in tmp_path.iterdir()] == ["all.rubric"]


def test_visitors_are_known_again(house, tmp_path):
    first, again = house(), house()
    run = first.write(max_new_tokens=3)
    restored(again, backed_up(first, tmp_path / "all"))
    key = "secret_key"
    assert (Path(again.app.instance_path) / key).read_bytes() == (Path(first.app.instance_path) / key).read_bytes()
    with first.visitor.client.session_transaction() as session:
        owner = session["owner"]
    assert again.row(run, db.Model.metadata.tables["run"].c.owner) == owner


@pytest.mark.long
def test_twenty_runs_that_are_being_written_are_there_as_far_as_they_were_and_go_on(house, tmp_path):
    first, again = house(), house()
    ask = {"max_new_tokens": 1000, "min_new_tokens": 1000, "temperature": 1, "top_k": 0}
    runs = [first.visitor.start("the old king", seed=n, **ask) for n in range(20)]
    stop = threading.Event()

    def save():
        while not stop.is_set():
            first.do("save")

    thread = threading.Thread(target=save)
    thread.start()
    try:
        until(lambda: told(first, runs[0])[0][1], what="some stored text")
        file = backed_up(first, tmp_path / "all")
    finally:
        stop.set()
        thread.join()
    whole = {run: first.finish(run) if first.knows(run) else told(first, run) for run in runs}
    restored(again, file)
    there = {run: told(again, run) for run in runs}
    assert any(there[run] != whole[run] for run in runs), "all had ended when it was made"
    assert all(whole[run][0][1].startswith(there[run][0][1]) for run in runs)
    for run in [run for run in runs if there[run][0][2] is None][:5]:
        again.change(run, lease_until=0)
        again.visitor.get(run)
        again.do("take_over")
        if again.knows(run):
            again.finish(run)
        assert told(again, run) == whole[run]


def test_a_backup_of_an_older_version_is_brought_up_to_date(house, tmp_path, writer):
    first = house()
    run = first.write(max_new_tokens=9)
    file = backed_up(first, tmp_path / "all")
    settings = first.app.config["SETTINGS"] | {"DATABASE_URL": f"sqlite:///{file}"}
    with create_app(settings, writer.engine).app_context():
        stamp()
        downgrade(revision="0005")
        db.engine.dispose()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE rubric_backup SET revision = '0005'")
    again = restored(house(), file)
    assert told(again, run) == told(first, run)


def test_a_backup_of_one_kind_of_database_is_restored_into_another(house, tmp_path, writer, postgresql):
    first = house()
    runs = some_of_everything(first)
    file = backed_up(first, tmp_path / "all")
    other = first.app.config["SETTINGS"] | {"DATABASE_URL": "", "RUBRIC_INSTANCE": str(tmp_path / "other")}
    again = Server(other, writer.engine)
    restored(again, file)
    assert [told(again, run) for run in runs] == [told(first, run) for run in runs]
    again.close()


def test_what_cannot_be_done_is_one_sentence_and_changes_nothing(house, tmp_path):
    first = house()
    first.write(max_new_tokens=3)
    file, before = backed_up(first, tmp_path / "all"), rows(first)
    assert refusal(first, back_up, file) == f"{file} is there already; a backup overwrites nothing."
    nowhere = tmp_path / "no/where"
    assert refusal(first, back_up, nowhere) == f"{nowhere} cannot be written: No such file or directory."
    assert refusal(first, restore, nowhere) == f"There is no file {nowhere}."
    assert refusal(first, restore, file) == "Something is stored already; restore into an empty database."
    other = tmp_path / "other"
    for content in (b"", b"no database", b"SQLite format 3\0"):
        other.write_bytes(content)
        assert refusal(house(), restore, other) == f"{other} is no backup of Rubric."
    other.write_bytes(file.read_bytes())
    for change in ("format = 2", "revision = '9999'"):
        with sqlite3.connect(other) as connection:
            connection.execute(f"UPDATE rubric_backup SET {change}")
        assert refusal(house(), restore, other) == f"{other} was made by a newer Rubric; install that first."
    assert rows(first) == before


def test_a_backup_with_a_damaged_page_is_one_sentence_and_changes_nothing(house, tmp_path):
    """A page with rows of the longest table, in the middle of the file."""
    first, again = house(), house()
    for n in range(20):
        first.write(max_new_tokens=1, prompt=f"{n} the old king " * 20)
    file = backed_up(first, tmp_path / "all")
    with sqlite3.connect(file) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'run'").fetchone()[0]
        connection.execute("UPDATE rubric_backup SET revision = '0005'")
    data = bytearray(file.read_bytes())
    data[(page - 1) * size : page * size] = b"\xff" * size
    file.write_bytes(data)
    before, version = rows(again), version_of(again)
    said = refusal(again, restore, file)
    assert said.startswith(f"{file} cannot be read: ")
    assert "\n" not in said
    assert (rows(again), version_of(again)) == (before, version)


def version_of(server) -> str:
    with server.app.app_context(), db.engine.connect() as connection:
        return connection.scalar(text("SELECT version_num FROM alembic_version"))


@pytest.mark.parametrize("name", ["a?mode=memory", "a#b", "a%41b", "文 件"])
def test_a_backup_may_have_any_name(house, tmp_path, name):
    first = house()
    file = backed_up(first, tmp_path / name)
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert rows(restored(house(), file)) == rows(first)


def test_a_restore_that_breaks_off_leaves_an_empty_database(house, tmp_path, monkeypatch):
    first, again = house(), house()
    first.write(max_new_tokens=3)
    file = backed_up(first, tmp_path / "all")

    def half(source, target):
        copy(source, target)
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("webapp.commands.backup.copy", half)
        with again.app.app_context(), pytest.raises(OSError, match="full"):
            restore(file)
    assert version_of(again) == version_of(first)
    assert rows(restored(again, file)) == rows(first)


@pytest.mark.long
@pytest.mark.whole
def test_the_terminal_backs_up_and_restores(tmp_path):
    environment = {**os.environ, "RUBRIC_INSTANCE": str(tmp_path / "instance"), "DATABASE_URL": ""}

    def run(*words, module="webapp", **changes):
        command = [sys.executable, "-m", module, *words]
        return subprocess.run(
            command, cwd=ROOT, env=environment | changes, capture_output=True, text=True, check=False, timeout=100
        )

    file = str(tmp_path / "all")
    assert "The database is empty" in run("backup", file).stderr
    assert run("restore", file).stderr == f"rubric: There is no file {file}.\n"
    assert run("--app", "webapp", "db", "upgrade", module="flask").returncode == 0
    assert "Models are not in it." in run("backup", file).stdout
    again = run("restore", file, RUBRIC_INSTANCE=str(tmp_path / "again"))
    assert (again.returncode, again.stdout) == (0, "0 rows.\n"), again.stderr
