"""How Alembic reaches the app's database: through the app itself, so that there is one address for both."""

from alembic import context
from flask import current_app

database = current_app.extensions["migrate"].db

with database.engine.begin() as connection:
    # batch mode: SQLite cannot alter a table, so a changed one is copied
    context.configure(connection=connection, target_metadata=database.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
