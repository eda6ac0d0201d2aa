"""What a service needs: principals and their tokens, the state of flows, requests to start and to cancel runs."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "principal",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("name", _KEY, nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["workspace"], ["workspace.id"], name=op.f("fk_principal_workspace_workspace")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_principal")),
        sa.UniqueConstraint("workspace", "name", name=op.f("uq_principal_workspace_name")),
    )
    op.create_table(
        "token",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("principal_id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=True),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.Column("last_used_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["principal_id"], ["principal.id"], name=op.f("fk_token_principal_id_principal")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
    )
    op.create_index(op.f("ix_token_principal_id_id"), "token", ["principal_id", "id"], unique=False)
    op.add_column("flow", sa.Column("applied", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("flow", sa.Column("enabled", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("flow", sa.Column("deleted_at", _TIME, nullable=True))
    op.add_column("run", sa.Column("cancel_requested_at", _TIME, nullable=True))
    op.create_table(
        "start_key",
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("key", _KEY, nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_start_key_run_id_run")),
        sa.ForeignKeyConstraint(["workspace"], ["workspace.id"], name=op.f("fk_start_key_workspace_workspace")),
        sa.PrimaryKeyConstraint("workspace", "key", name=op.f("pk_start_key")),
    )
    op.create_index(op.f("ix_start_key_run_id"), "start_key", ["run_id"], unique=False)


def downgrade() -> None:
    op.drop_table("start_key")
    op.drop_column("run", "cancel_requested_at")
    for name in ("deleted_at", "enabled", "applied"):
        op.drop_column("flow", name)
    op.drop_table("token")
    op.drop_table("principal")
