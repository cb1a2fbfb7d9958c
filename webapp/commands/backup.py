"""`backup FILE` and `restore FILE`: all that is stored in one file, and back, for SQLite and PostgreSQL alike.

The file is a SQLite database with the very tables, and one more that says of which version they are; it is read in one
transaction, so that servers may write meanwhile. Runs that were being written are in it as far as they were stored, and go
on when they are restored and somebody watches. Models are not in it: they are folders.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from flask import current_app
from flask_migrate import downgrade, upgrade
from sqlalchemy import JSON, URL, Connection, Engine, MetaData, create_engine, select, text
from sqlalchemy.exc import DatabaseError

from generate import Refusal, files, gettext, write_secret
from webapp.http.visitors import secret_key
from webapp.runs.tables import check_tables, db, reach

FORMAT = 1
NOTE = "rubric_backup"  # the table that says what the file is
OWN = (NOTE, "alembic_version")  # of each database alone
CHUNK = 500  # rows that are handed on at once


# What is asked for


def back_up(path: Path) -> int:
    """Write all that is stored into a new file; how many rows that was. Needs an app context.

    Raises Refusal where there is a file of that name, the database is of an older version, or the file cannot be written.
    """
    check_tables()
    if path.exists():
        raise Refusal("{path} is there already; a backup overwrites nothing.", path=str(path))
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        part.touch(mode=0o600)
        with disposed(create_engine(URL.create(drivername="sqlite", database=str(part.absolute())))) as engine:
            db.metadata.create_all(engine)
            with snapshot() as source, engine.begin() as target:
                count = copy(source, target)
                note(target, source.scalar(text("SELECT version_num FROM alembic_version")))
        os.rename(part, path)
    except OSError as error:
        raise Refusal("{path} cannot be written: {reason}.", path=str(path), reason=error.strerror) from None
    except DatabaseError as error:
        raise Refusal("{path} cannot be written: {reason}.", path=str(path), reason=error.orig) from None
    finally:
        part.unlink(missing_ok=True)
    return count


def restore(path: Path) -> int:
    """Put what `back_up` wrote into the database, which must be empty, and bring it up to date; how many rows that was.

    Needs an app context. Raises Refusal where the file is none, damaged, or of a newer version, and where something is stored
    already.
    """
    if not path.is_file():
        raise Refusal("There is no file {path}.", path=str(path))
    address = URL.create(drivername="sqlite", database=path.absolute().as_uri(), query={"mode": "ro", "uri": "true"})
    with disposed(create_engine(address)) as engine, engine.connect() as source:
        about = noted(source, path)
        check_empty()
        check_readable(source, path)
        downgrade(revision="base")
        try:
            upgrade(revision=about["revision"])
            with db.engine.begin() as target:
                count = copy(source, target)
        finally:
            upgrade()  # also where it breaks off, so that servers find the tables that they know
    if about["secret_key"]:
        write_secret(Path(current_app.instance_path) / "secret_key", about["secret_key"].encode())
    return count


# How it is done


@contextmanager
def disposed(engine: Engine) -> Iterator[Engine]:
    """An engine that holds no file open afterwards."""
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def snapshot() -> Iterator[Connection]:
    """The app's database at one moment, whatever is written meanwhile."""
    with reach(db) as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")  # Python's driver begins with the first writing alone
        else:
            connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


def tables_of(connection: Connection) -> dict:
    """The tables as they are there, those first that others refer to; nothing stands for what is missing in a JSON column."""
    metadata = MetaData()
    metadata.reflect(connection)
    for table in metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, JSON):
                column.type = JSON(none_as_null=True)
    return {table.name: table for table in metadata.sorted_tables if table.name not in OWN}


def copy(source: Connection, target: Connection) -> int:
    """Copy the rows of all tables; how many there were."""
    there, count = tables_of(target), 0
    for name, table in tables_of(source).items():
        rows = source.execution_options(stream_results=True).execute(select(table)).mappings()
        for some in rows.partitions(CHUNK):
            target.execute(there[name].insert(), [dict(row) for row in some])
            count += len(some)
    return count


def note(target: Connection, revision: str) -> None:
    """Write down what the file is; the key that signs cookies is part of it, unless it is kept elsewhere."""
    key = None if current_app.config["SETTINGS"]["SECRET_KEY"] else secret_key(Path(current_app.instance_path)).decode()
    target.execute(text(f"CREATE TABLE {NOTE} (format INTEGER, revision TEXT, created TEXT, secret_key TEXT)"))
    made = {"format": FORMAT, "revision": revision, "created": datetime.now(UTC).isoformat(), "secret_key": key}
    target.execute(text(f"INSERT INTO {NOTE} VALUES (:format, :revision, :created, :secret_key)"), made)


def noted(source: Connection, path: Path) -> dict:
    """What `note` wrote; raises Refusal where it is not to be used."""
    try:
        about = dict(source.execute(text(f"SELECT * FROM {NOTE}")).mappings().one())
    except DatabaseError:
        raise Refusal("{path} is no backup of Rubric.", path=str(path)) from None
    known = {file.name.partition("_")[0] for file in (files.MIGRATIONS / "versions").glob("*.py")}
    if about["format"] > FORMAT or about["revision"] not in known:
        raise Refusal("{path} was made by a newer Rubric; install that first.", path=str(path))
    return about


def check_readable(source: Connection, path: Path) -> None:
    """Raise Refusal unless all rows can be read: a damaged page is noticed before anything is changed."""
    try:
        for table in tables_of(source).values():
            for _ in source.execution_options(stream_results=True).execute(select(table)):
                pass
    except (DatabaseError, ValueError, TypeError) as error:
        raise Refusal(
            "{path} cannot be read: {reason}.", path=str(path), reason=getattr(error, "orig", error)
        ) from None


def check_empty() -> None:
    """Raise Refusal unless nothing is stored."""
    with reach(db) as connection:
        if any(connection.execute(select(table).limit(1)).first() for table in tables_of(connection).values()):
            raise Refusal("Something is stored already; restore into an empty database.")


# On the terminal


def describe(parser: argparse.ArgumentParser) -> None:
    """What either takes."""
    parser.add_argument("file", type=Path, metavar="FILE")


def run_backup(asked: argparse.Namespace) -> None:
    """Back up."""
    rows, size = back_up(asked.file), asked.file.stat().st_size / 1e6
    print(gettext("{rows:,} rows, {size:,.1f} MB. Models are not in it.", rows=rows, size=size))


def run_restore(asked: argparse.Namespace) -> None:
    """Restore."""
    print(gettext("{rows:,} rows.", rows=restore(asked.file)))
