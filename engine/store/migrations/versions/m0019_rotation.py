"""Values of secrets that end some time, and which key they are all encrypted by."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_KNOWN = sa.text(
    "INSERT INTO secret_key (id, key_id, changed_at) "
    "SELECT 1, min(key_id), min(created_at) FROM secret_version HAVING count(DISTINCT key_id) = 1"
)


def upgrade() -> None:
    op.add_column("secret_version", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "secret_key",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_secret_key")),
    )
    op.execute(_KNOWN)


def downgrade() -> None:
    op.drop_table("secret_key")
    op.drop_column("secret_version", "expires_at")
