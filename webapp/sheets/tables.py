"""What is kept of sheets: what each holds now, the changes that led there, and the runs that it refers to."""

from datetime import datetime

from sqlalchemy import JSON, DateTime, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from webapp.runs.moments import now
from webapp.runs.tables import db


class Sheet(db.Model):
    """One sheet: whose it is, what it holds, and where it stands in its history.

    `rev` counts all changes and never goes back; of `changes` made and kept, the first `pointer` are in force, the others
    were undone. `spans`, `aside` and `tries` are what `webapp.sheets.content` says in JSON. `shown` is what others see: the
    text at the last writing, `shown_rev` of which there were. `keys` are of the last requests, each done once, with the
    `rev` that each led to.
    """

    __table_args__ = (Index("ix_sheet_owner_changed", "owner", "changed"),)

    id: Mapped[str] = mapped_column(String(24), primary_key=True)
    owner: Mapped[str] = mapped_column(String(32))
    created: Mapped[datetime] = mapped_column(DateTime, default=now)
    changed: Mapped[datetime] = mapped_column(DateTime, default=now)
    rev: Mapped[int] = mapped_column(default=0)
    pointer: Mapped[int] = mapped_column(default=0)
    changes: Mapped[int] = mapped_column(default=0)
    spans: Mapped[list] = mapped_column(JSON, default=list)
    aside: Mapped[list] = mapped_column(JSON, default=list)
    tries: Mapped[list] = mapped_column(JSON, default=list)
    current: Mapped[int] = mapped_column(default=0)
    shown: Mapped[list] = mapped_column(JSON, default=list)
    shown_rev: Mapped[int] = mapped_column(default=0)
    run_id: Mapped[str | None] = mapped_column(String(24))  # the last that was started from it
    memory: Mapped[str] = mapped_column(Text, default="")
    options: Mapped[dict] = mapped_column(JSON, default=dict)  # the form's fields
    lens: Mapped[str] = mapped_column(String(20), default="")
    keys: Mapped[list] = mapped_column(JSON, default=list)
    words: Mapped[str | None] = mapped_column(Text)  # its text in lower case, for searching; None: not yet made
    hidden: Mapped[datetime | None] = mapped_column(DateTime, index=True)  # since when only the operator sees it


class Change(db.Model):
    """Change number `n` of a sheet, from 1, as `webapp.sheets.history` says it."""

    __tablename__ = "sheet_change"

    sheet_id: Mapped[str] = mapped_column(ForeignKey("sheet.id"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True)
    change: Mapped[dict] = mapped_column(JSON)


class Reference(db.Model):
    """A sheet refers, now or in its history, to tokens of a run."""

    __tablename__ = "sheet_run"

    sheet_id: Mapped[str] = mapped_column(ForeignKey("sheet.id"), primary_key=True)
    run_id: Mapped[str] = mapped_column(String(24), primary_key=True, index=True)
