"""Which engine drives a run, what the run needs to go on in another one, and calls whose outcome is unknown."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(sa.Text(), "sqlite")
_OWNED = sa.text("owner IS NOT NULL")


def upgrade() -> None:
    op.add_column("run", sa.Column("owner", sa.String(), nullable=True))
    op.add_column("run", sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("run", sa.Column("subflows", _JSON, nullable=True))
    op.add_column("run", sa.Column("directories", _JSON, nullable=True))
    op.create_index(op.f("ix_run_owner"), "run", ["owner"], unique=False, sqlite_where=_OWNED, postgresql_where=_OWNED)
    op.add_column("tool_call", sa.Column("uncertain", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    op.drop_column("tool_call", "uncertain")
    op.drop_index(op.f("ix_run_owner"), table_name="run")
    for name in ("directories", "subflows", "lease_until", "owner"):
        op.drop_column("run", name)
