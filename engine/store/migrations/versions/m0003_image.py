"""The image that an attempt's code ran in, by digest."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("step_run", sa.Column("image", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("step_run", "image")
