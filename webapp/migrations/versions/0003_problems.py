"""What went wrong with a sample as a fixed message and its values; a sentence that was stored before stays one."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade():
    with op.batch_alter_table("sample", schema=None) as batch_op:
        batch_op.add_column(sa.Column("error_values", sa.JSON(), nullable=True))


def downgrade():
    sample = sa.table(
        "sample",
        sa.column("run_id", sa.String()),
        sa.column("number", sa.Integer()),
        sa.column("error", sa.Text()),
        sa.column("error_values", sa.JSON()),
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(sample).where(sample.c.error_values.is_not(None))).all():
        one = (sample.c.run_id == row.run_id) & (sample.c.number == row.number)
        connection.execute(sa.update(sample).where(one).values(error=sentence(row.error, row.error_values)))
    with op.batch_alter_table("sample", schema=None, recreate="never") as batch_op:
        batch_op.drop_column("error_values")


def sentence(message, values):
    """The message with its values filled in; a value may be a message with values itself."""
    given = {k: sentence(v["message"], v["values"]) if isinstance(v, dict) else v for k, v in (values or {}).items()}
    return message.format_map(given) if given else message
