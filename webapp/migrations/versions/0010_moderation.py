"""What is hidden, what was reported, where runs came from for a while, and who is blocked."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade():
    for table in ("run", "sheet"):
        op.add_column(table, sa.Column("hidden", sa.DateTime(), nullable=True))
        op.create_index(f"ix_{table}_hidden", table, ["hidden"])
    op.add_column("run", sa.Column("address", sa.String(length=64), nullable=True))
    op.create_index("ix_run_address", "run", ["address"])
    op.add_column("api_key", sa.Column("blocked_until", sa.DateTime(), nullable=True))
    op.create_table(
        "blocked_address",
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("until", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("address"),
    )
    op.create_table(
        "report",
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("name", sa.String(length=24), nullable=False),
        sa.Column("reporter", sa.String(length=32), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("reason", sa.String(length=20), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", "reporter"),
    )
    op.create_index("ix_report_reporter_created", "report", ["reporter", "created"])


def downgrade():
    for table in ("report", "blocked_address"):
        op.drop_table(table)
    op.drop_column("api_key", "blocked_until")
    op.drop_index("ix_run_address", "run")
    op.drop_column("run", "address")
    for table in ("sheet", "run"):
        op.drop_index(f"ix_{table}_hidden", table)
        op.drop_column(table, "hidden")
