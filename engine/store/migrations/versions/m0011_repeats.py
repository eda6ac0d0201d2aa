"""How often an event came again."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("event", sa.Column("repeats", sa.Integer(), server_default="0", nullable=False))
    op.add_column("event", sa.Column("repeated_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("event", "repeated_at")
    op.drop_column("event", "repeats")
