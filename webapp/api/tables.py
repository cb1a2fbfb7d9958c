"""What is kept of keys: names, and hashes that no key can be made from."""

from datetime import datetime

from sqlalchemy import DateTime, String
from sqlalchemy.orm import Mapped, mapped_column

from webapp.runs.moments import now
from webapp.runs.tables import db


class ApiKey(db.Model):
    """One key, by the sha256 of it: its name, which is no other key's, and the owner of the runs that it starts."""

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(60), unique=True)
    owner: Mapped[str] = mapped_column(String(32))
    created: Mapped[datetime] = mapped_column(DateTime, default=now)  # UTC
    blocked_until: Mapped[datetime | None] = mapped_column(DateTime)  # until when it is good for nothing
