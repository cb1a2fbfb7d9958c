"""Prompts as they were typed, where their tokens do not say all of them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("run", sa.Column("typed", sa.Text(), nullable=True))


def downgrade():
    op.drop_column("run", "typed")
