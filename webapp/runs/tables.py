"""What is kept: runs, their samples, their tokens, and the vocabularies that give the tokens their bytes.

Several servers may share one database. Each unfinished run is written by the one that holds its lease; columns that hold
a moment of a lease or of a watch are seconds since 1970 by the database's clock (`Clock.now`):
PostgreSQL has its own, and servers that share a SQLite file share a machine.

Plain column types, so that one migration history serves SQLite and PostgreSQL. Tokens are packed as
`generate.record_dtype` says; the text is a view of them.
"""

from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import JSON, Connection, DateTime, Float, ForeignKey, Index, LargeBinary, String, Text, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from generate import Problem, Refusal, RunLog, RunState, files
from webapp.runs.moments import now

# Another server's machine may freeze while it holds a lock, or lose its network: these bound how long others wait.
POSTGRESQL = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "options": "-c lock_timeout=2s -c idle_in_transaction_session_timeout=5s",
}


BUSY = 4000  # milliseconds that SQLite waits for another's writing


class Base(DeclarativeBase):
    """What all tables have in common: their metadata."""


db = SQLAlchemy(model_class=Base)


class StoredVocabulary(db.Model):
    """The bytes of every token of a tokenizer, so that a run can be read when its model is long gone."""

    __tablename__ = "vocabulary"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)  # sha256 of what `tokens` holds unpacked
    tokens: Mapped[bytes] = mapped_column(LargeBinary)


@dataclass(frozen=True)
class Progress:
    """How far a run is, as the server that writes it tells the others.

    `state` is the log's, `place` the one in line, `seconds` an estimate of the wait (None: not known), `restarts` how
    often it was taken up anew, `watching` how many watch it on all servers, `prompt_known` whether what the model thought
    of the prompt is stored.
    """

    state: str = RunState.WAITING
    place: int = 0
    seconds: float | None = None
    restarts: int = 0
    watching: int = 0
    prompt_known: bool = False

    @classmethod
    def of(cls, log: RunLog, watching: int) -> "Progress":
        """What a log says now; call with `log.changed` held."""
        return cls(log.state, log.place, log.seconds and round(log.seconds), log.restarts, watching, log.prompt_known)

    @classmethod
    def from_json(cls, stored: dict | None) -> "Progress":
        """What was stored in a run's row; what is missing there has its default."""
        stored = stored or {}
        return cls(**{field.name: stored[field.name] for field in fields(cls) if field.name in stored})

    def as_json(self) -> dict:
        """What is stored in a run's row."""
        return asdict(self)


class Run(db.Model):
    """One run: what was asked, of which model, by whom.

    `state` is `writing` until all samples have ended, though nobody may be at it just now, and then `done`.
    `progress` is what the server that writes it tells the others, as `Progress.as_json` gives it.
    """

    __table_args__ = (Index("ix_run_owner_created", "owner", "created"),)

    id: Mapped[str] = mapped_column(String(24), primary_key=True)
    created: Mapped[datetime] = mapped_column(DateTime, default=now)  # UTC
    owner: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(10), index=True, default=RunState.WRITING)
    model: Mapped[str] = mapped_column(String(255))
    fingerprint: Mapped[str] = mapped_column(String(64))
    vocabulary_id: Mapped[str] = mapped_column(ForeignKey("vocabulary.id"))
    vocab_size: Mapped[int]
    n_positions: Mapped[int]
    precision: Mapped[str | None] = mapped_column(String(10))
    device: Mapped[str | None] = mapped_column(String(10))
    options: Mapped[dict] = mapped_column(JSON)
    prompt: Mapped[bytes] = mapped_column(LargeBinary)  # packed tokens
    typed: Mapped[str | None] = mapped_column(
        Text
    )  # the prompt as it was typed, where its tokens need not say all of it
    blocked: Mapped[dict | None] = mapped_column(JSON(none_as_null=True))  # of the prompt, as in Block
    authors: Mapped[list] = mapped_column(JSON)  # token counts of the prompt by turns: the person's, the model's, ...
    first_sample: Mapped[int] = mapped_column(default=0)
    relation: Mapped[str | None] = mapped_column(String(10))  # a Relation to the parent
    parent_id: Mapped[str | None] = mapped_column(String(24), index=True)
    parent_sample: Mapped[int | None]
    holder: Mapped[str | None] = mapped_column(String(32))  # the server that writes it
    lease_until: Mapped[float] = mapped_column(Float, default=0.0)  # past this anyone may take it over
    stop_asked: Mapped[str | None] = mapped_column(String(10))  # the FinishReason it shall have
    progress: Mapped[dict] = mapped_column(JSON, default=dict)
    words: Mapped[str | None] = mapped_column(Text)  # its text in lower case, for searching; None: not yet made
    sheet_id: Mapped[str | None] = mapped_column(String(24), index=True)  # the sheet that it was written in
    origins: Mapped[list | None] = mapped_column(
        JSON(none_as_null=True)
    )  # of the prompt's tokens, as `Origins` packs them
    hidden: Mapped[datetime | None] = mapped_column(DateTime, index=True)  # since when only the operator sees it
    address: Mapped[str | None] = mapped_column(
        String(64), index=True, default=lambda: db.session.info.get("address")
    )  # a keyed hash of where it was asked for, for a while
    samples: Mapped[list["Sample"]] = relationship(order_by="Sample.number", cascade="all, delete-orphan")


class Sample(db.Model):
    """How one sample ended; all None while it is being written. `text_end` counts bytes.

    `error` is the message of what went wrong, and `error_values` fill its placeholders; None for a plain sentence.
    """

    run_id: Mapped[str] = mapped_column(ForeignKey("run.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    finish_reason: Mapped[str | None] = mapped_column(String(10))  # a FinishReason
    text_end: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    error_values: Mapped[dict | None] = mapped_column(JSON(none_as_null=True))

    @property
    def problem(self) -> Problem | None:
        """What went wrong, if anything did."""
        return None if self.error is None else Problem.from_json(self.error, self.error_values)

    @staticmethod
    def told(problem: Problem | None) -> dict:
        """What a row says of a problem, by the names of its columns."""
        return {"error": problem and problem.message, "error_values": (problem and problem.as_json()) or None}


class Block(db.Model):
    """Some consecutive packed tokens of a sample; `start` is the number of tokens before them.

    `released` counts the sample's tokens that might be shown when these were the last. `blocked` are ids that banned
    phrases kept out, by the index of their place in the sample; None where there are none.
    """

    run_id: Mapped[str] = mapped_column(ForeignKey("run.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True)
    tokens: Mapped[bytes] = mapped_column(LargeBinary)
    released: Mapped[int] = mapped_column(default=0)
    blocked: Mapped[dict | None] = mapped_column(JSON(none_as_null=True))


class Watch(db.Model):
    """How many watch a run on a server that does not write it. `seen` is when that was last true."""

    run_id: Mapped[str] = mapped_column(String(24), primary_key=True)
    server: Mapped[str] = mapped_column(String(32), primary_key=True)
    viewers: Mapped[int]
    seen: Mapped[float] = mapped_column(Float)


class Gone(db.Model):
    """What is left of a run that was removed: that it was, why (a `GoneReason`), and what it came from."""

    id: Mapped[str] = mapped_column(String(24), primary_key=True)
    reason: Mapped[str] = mapped_column(String(10))
    parent_id: Mapped[str | None] = mapped_column(String(24), index=True)


class Press(db.Model):
    """A press of a button that is done once: its name (a hash), whose it is, when it came, and where it led, once known."""

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(32))
    created: Mapped[float] = mapped_column(Float, index=True)
    address: Mapped[str | None] = mapped_column(Text)


def asked_from(address: str | None) -> None:
    """Note the keyed hash of the address that asks, for all runs that this session adds."""
    db.session.info["address"] = address


def connect(app: Flask) -> None:
    """Point the app at its database: DATABASE_URL, or SQLite in the instance folder."""
    address = app.config["SETTINGS"]["DATABASE_URL"]
    if address.startswith("postgres://"):  # as hosts hand it out; SQLAlchemy knows only the full name
        address = "postgresql://" + address.removeprefix("postgres://")
    # not written as an address: a folder's name may hold ?, # or %
    own = make_url("sqlite://").set(database=str(Path(app.instance_path) / "rubric.sqlite"))
    app.config["SQLALCHEMY_DATABASE_URI"] = address or own
    if address.startswith("postgresql"):
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_pre_ping": True, "connect_args": POSTGRESQL}
    try:
        db.init_app(app)
    except (ArgumentError, ImportError) as error:  # no such kind of database, or no driver for it
        raise Refusal("DATABASE_URL cannot be used: {reason}.", reason=error) from None
    Migrate(app, db, directory=str(files.MIGRATIONS))
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            event.listen(db.engine, "connect", prepare_sqlite)


def folder_of_database(app: Flask) -> Path:
    """The folder whose disk the database fills: that of SQLite's file, else the instance, as others' disks are not seen."""
    with app.app_context():
        file = db.engine.url.database if db.engine.dialect.name == "sqlite" else None
    folder = Path(file).parent if file and not file.startswith(":") else Path(app.instance_path)
    return folder if folder.is_dir() else Path(app.instance_path)


def reach(database) -> Connection:
    """A connection to it; raises Refusal when it does not answer."""
    try:
        return database.engine.connect()
    except OperationalError as error:
        raise Refusal("The database does not answer: {reason}.", reason=str(error.orig).splitlines()[0]) from None


def check_tables() -> None:
    """Raise Refusal unless the database has the tables of this version; needs an app context."""
    with reach(db) as connection:
        found = {
            name: {c["name"] for c in columns} for (_, name), columns in inspect(connection).get_multi_columns().items()
        }
    if any(not found.get(table.name, set()).issuperset(table.columns.keys()) for table in db.metadata.tables.values()):
        raise Refusal(
            "The database is of an older version; run `flask --app webapp db upgrade` once (make run does it)."
            if "run" in found
            else "The database is empty; run `flask --app webapp db upgrade` once (make run does it)."
        )


def prepare_sqlite(connection, _record) -> None:
    """Let readers and the one writer work side by side."""
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        f"busy_timeout={BUSY}",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        "secure_delete=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
