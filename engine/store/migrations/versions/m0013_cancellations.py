"""Runs that are to be cancelled: found where no engine drives them, and asked for twice."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_TO_CANCEL = sa.text("cancel_requested_at IS NOT NULL AND ended_at IS NULL")


def upgrade() -> None:
    op.add_column("run", sa.Column("cut_short_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_run_to_cancel", "run", ["workspace", "id"], sqlite_where=_TO_CANCEL, postgresql_where=_TO_CANCEL
    )


def downgrade() -> None:
    op.drop_index("ix_run_to_cancel", table_name="run")
    op.drop_column("run", "cut_short_at")
