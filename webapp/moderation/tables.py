"""What is kept of reports and of those who are kept out."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import DateTime, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from webapp.runs.moments import now
from webapp.runs.tables import db


class Kind(StrEnum):
    """What can be reported and taken down."""

    RUN = "run"
    SHEET = "sheet"


class Report(db.Model):
    """What a visitor said of a run or a sheet, `name` being its id: one visitor says one thing of each."""

    __table_args__ = (Index("ix_report_reporter_created", "reporter", "created"),)

    kind: Mapped[str] = mapped_column(String(10), primary_key=True)
    name: Mapped[str] = mapped_column(String(24), primary_key=True)
    reporter: Mapped[str] = mapped_column(String(32), primary_key=True)  # the name in the visitor's cookie
    created: Mapped[datetime] = mapped_column(DateTime, default=now)
    reason: Mapped[str] = mapped_column(String(20))
    words: Mapped[str] = mapped_column(Text, default="")


class BlockedAddress(db.Model):
    """An address that may not write until some moment, by its keyed hash."""

    __tablename__ = "blocked_address"

    address: Mapped[str] = mapped_column(String(64), primary_key=True)
    created: Mapped[datetime] = mapped_column(DateTime, default=now)
    until: Mapped[datetime] = mapped_column(DateTime)
