"""Tokens that banned phrases kept out, at the places of a prompt and of what was written."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade():
    for table in ("run", "block"):
        op.add_column(table, sa.Column("blocked", sa.JSON(), nullable=True))


def downgrade():
    for table in ("run", "block"):
        op.drop_column(table, "blocked")
