"""An index of the runs that need a slot, for those that are queued."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0014"
branch_labels = None
depends_on = None

_SLOT = sa.text("slot IS NOT NULL")


def upgrade() -> None:
    columns = ["workspace", "status", "flow", "slot", "id"]
    op.create_index("ix_run_slots", "run", columns, sqlite_where=_SLOT, postgresql_where=_SLOT)


def downgrade() -> None:
    op.drop_index("ix_run_slots", table_name="run")
