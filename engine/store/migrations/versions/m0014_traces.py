"""The trace that an event is a part of, so that the run which it starts is one of its spans."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("event", sa.Column("traceparent", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("event", "traceparent")
