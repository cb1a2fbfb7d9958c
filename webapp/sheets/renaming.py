"""A model got another name: sheets that were set to it still are."""

from sqlalchemy import select

from webapp.runs.tables import db
from webapp.sheets.tables import Sheet


def rename_model(old: str, new: str) -> None:
    """Let sheets know a model by its new name; does not commit."""
    for sheet in db.session.scalars(select(Sheet).where(Sheet.options["model"].as_string() == old)):
        sheet.options = sheet.options | {"model": new}
