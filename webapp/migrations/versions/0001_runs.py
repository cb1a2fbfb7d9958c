"""Runs, samples, tokens, vocabularies."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "vocabulary",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tokens", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.String(length=24), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("owner", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("vocabulary_id", sa.String(length=64), nullable=False),
        sa.Column("vocab_size", sa.Integer(), nullable=False),
        sa.Column("n_positions", sa.Integer(), nullable=False),
        sa.Column("precision", sa.String(length=10), nullable=True),
        sa.Column("device", sa.String(length=10), nullable=True),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("prompt", sa.LargeBinary(), nullable=False),
        sa.Column("authors", sa.JSON(), nullable=False),
        sa.Column("first_sample", sa.Integer(), nullable=False),
        sa.Column("relation", sa.String(length=10), nullable=True),
        sa.Column("parent_id", sa.String(length=24), nullable=True),
        sa.Column("parent_sample", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["vocabulary_id"],
            ["vocabulary.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_run_owner"), ["owner"], unique=False)
        batch_op.create_index(batch_op.f("ix_run_parent_id"), ["parent_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_run_state"), ["state"], unique=False)

    op.create_table(
        "block",
        sa.Column("run_id", sa.String(length=24), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["run.id"],
        ),
        sa.PrimaryKeyConstraint("run_id", "number", "start"),
    )
    op.create_table(
        "sample",
        sa.Column("run_id", sa.String(length=24), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("finish_reason", sa.String(length=10), nullable=True),
        sa.Column("text_end", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["run.id"],
        ),
        sa.PrimaryKeyConstraint("run_id", "number"),
    )


def downgrade():
    op.drop_table("sample")
    op.drop_table("block")
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_run_state"))
        batch_op.drop_index(batch_op.f("ix_run_parent_id"))
        batch_op.drop_index(batch_op.f("ix_run_owner"))

    op.drop_table("run")
    op.drop_table("vocabulary")
