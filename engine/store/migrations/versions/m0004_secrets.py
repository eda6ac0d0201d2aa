"""Secrets, encrypted, each with its live values."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "secret",
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("name", _KEY, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["workspace"], ["workspace.id"], name=op.f("fk_secret_workspace_workspace")),
        sa.PrimaryKeyConstraint("workspace", "name", name=op.f("pk_secret")),
    )
    op.create_table(
        "secret_version",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("name", _KEY, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace", "name"], ["secret.workspace", "secret.name"], name=op.f("fk_secret_version_workspace_secret")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_secret_version")),
        sa.UniqueConstraint("workspace", "name", "number", name=op.f("uq_secret_version_workspace_name_number")),
    )


def downgrade() -> None:
    op.drop_table("secret_version")
    op.drop_table("secret")
