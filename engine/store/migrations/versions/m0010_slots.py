"""The slots that runs of flows with ``concurrency`` take."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("slot", sa.String(), nullable=True))
    op.add_column("run", sa.Column("slot_limit", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("run", "slot_limit")
    op.drop_column("run", "slot")
