"""How Alembic reaches the app's database: through the app itself, so that there is one address for both."""

import sys

from alembic import context
from flask import current_app

from generate import Refusal
from webapp.runs.tables import reach

database = current_app.extensions["migrate"].db

try:
    connection = reach(database)
except Refusal as refusal:
    sys.exit(f"rubric: {refusal}")

with connection, connection.begin():
    # batch mode: SQLite cannot alter a table, so a changed one is copied
    context.configure(connection=connection, target_metadata=database.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
