"""Sheets, the changes that made them, and the runs that they refer to."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "sheet",
        sa.Column("id", sa.String(length=24), nullable=False),
        sa.Column("owner", sa.String(length=32), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("changed", sa.DateTime(), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("pointer", sa.Integer(), nullable=False),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.Column("spans", sa.JSON(), nullable=False),
        sa.Column("aside", sa.JSON(), nullable=False),
        sa.Column("tries", sa.JSON(), nullable=False),
        sa.Column("current", sa.Integer(), nullable=False),
        sa.Column("shown", sa.JSON(), nullable=False),
        sa.Column("shown_rev", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=24), nullable=True),
        sa.Column("memory", sa.Text(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("lens", sa.String(length=20), nullable=False),
        sa.Column("keys", sa.JSON(), nullable=False),
        sa.Column("words", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_sheet_owner_changed", "sheet", ["owner", "changed"])
    op.create_table(
        "sheet_change",
        sa.Column("sheet_id", sa.String(length=24), sa.ForeignKey("sheet.id"), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("change", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("sheet_id", "n"),
    )
    op.create_table(
        "sheet_run",
        sa.Column("sheet_id", sa.String(length=24), sa.ForeignKey("sheet.id"), nullable=False),
        sa.Column("run_id", sa.String(length=24), nullable=False),
        sa.PrimaryKeyConstraint("sheet_id", "run_id"),
    )
    op.create_index("ix_sheet_run_run_id", "sheet_run", ["run_id"])
    op.add_column("run", sa.Column("sheet_id", sa.String(length=24), nullable=True))
    op.add_column("run", sa.Column("origins", sa.JSON(), nullable=True))
    op.create_index("ix_run_sheet_id", "run", ["sheet_id"])


def downgrade():
    op.drop_index("ix_run_sheet_id", "run")
    for column in ("origins", "sheet_id"):
        op.drop_column("run", column)
    for table in ("sheet_run", "sheet_change", "sheet"):
        op.drop_table(table)
