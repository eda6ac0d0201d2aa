"""Principals that can be disabled and granted only some tools and flows, scopes of tokens, and whom runs act for.

What there is keeps acting as before: principals are granted all, and runs and flows act for the local admin.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_PAYLOAD = sa.JSON().with_variant(sa.Text(), "sqlite")
_PRINCIPAL = sa.table("principal", sa.column("id"), sa.column("created_at"))
_GRANT = sa.table("principal_grant", *map(sa.column, ("principal_id", "kind", "pattern", "granted_by", "granted_at")))


def upgrade() -> None:
    op.add_column("principal", sa.Column("kind", sa.String(), nullable=False, server_default="person"))
    op.add_column("principal", sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("principal", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "principal_grant",
        sa.Column("principal_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("pattern", _KEY, nullable=False),
        sa.Column("granted_by", sa.String(), nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["principal_id"], ["principal.id"], name=op.f("fk_principal_grant_principal_id_principal")
        ),
        sa.PrimaryKeyConstraint("principal_id", "kind", "pattern", name=op.f("pk_principal_grant")),
    )
    for kind in ("tool", "flow"):
        granted = sa.select(
            _PRINCIPAL.c.id, sa.literal(kind), sa.literal("*"), sa.literal("local"), _PRINCIPAL.c.created_at
        )
        op.execute(sa.insert(_GRANT).from_select([column.name for column in _GRANT.c], granted))
    op.add_column("token", sa.Column("scopes", _PAYLOAD, nullable=True))
    op.add_column("token", sa.Column("only_flows", _PAYLOAD, nullable=True))
    op.add_column("run", sa.Column("principal", sa.String(), nullable=False, server_default="local"))
    op.add_column("flow_version", sa.Column("applied_by", sa.String(), nullable=True))
    op.execute("UPDATE flow_version SET applied_by = 'local'")


def downgrade() -> None:
    op.drop_column("flow_version", "applied_by")
    op.drop_column("run", "principal")
    op.drop_column("token", "only_flows")
    op.drop_column("token", "scopes")
    op.drop_table("principal_grant")
    op.drop_column("principal", "deleted_at")
    op.drop_column("principal", "disabled_at")
    op.drop_column("principal", "kind")
