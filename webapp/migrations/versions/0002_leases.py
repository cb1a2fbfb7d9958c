"""Leases, who watches, runs that are gone, words to search."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade():
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.add_column(sa.Column("holder", sa.String(length=32), nullable=True))
        batch_op.add_column(sa.Column("lease_until", sa.Float(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("stop_asked", sa.String(length=10), nullable=True))
        batch_op.add_column(sa.Column("progress", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("words", sa.Text(), nullable=True))
        batch_op.drop_index("ix_run_owner")
        batch_op.create_index("ix_run_owner_created", ["owner", "created"], unique=False)
    with op.batch_alter_table("block", schema=None) as batch_op:
        batch_op.add_column(sa.Column("released", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "watch",
        sa.Column("run_id", sa.String(length=24), nullable=False),
        sa.Column("server", sa.String(length=32), nullable=False),
        sa.Column("viewers", sa.Integer(), nullable=False),
        sa.Column("seen", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "server"),
    )
    op.create_table(
        "gone",
        sa.Column("id", sa.String(length=24), nullable=False),
        sa.Column("reason", sa.String(length=10), nullable=False),
        sa.Column("parent_id", sa.String(length=24), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("gone", schema=None) as batch_op:
        batch_op.create_index("ix_gone_parent_id", ["parent_id"], unique=False)


def downgrade():
    op.drop_table("gone")
    op.drop_table("watch")
    # a copied table would have to be dropped, which the rows that refer to it forbid
    with op.batch_alter_table("block", schema=None, recreate="never") as batch_op:
        batch_op.drop_column("released")
    with op.batch_alter_table("run", schema=None, recreate="never") as batch_op:
        batch_op.drop_index("ix_run_owner_created")
        batch_op.create_index("ix_run_owner", ["owner"], unique=False)
        for name in ("words", "progress", "stop_asked", "lease_until", "holder"):
            batch_op.drop_column(name)
