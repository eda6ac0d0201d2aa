"""What steps wait for besides people, and when a parked run is to be continued."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(sa.Text(), "sqlite")
_DUE = sa.text("due_at IS NOT NULL")
_OPEN = sa.text("pattern IS NOT NULL AND ended_at IS NULL")


def upgrade() -> None:
    op.add_column("run", sa.Column("due_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(op.f("ix_run_due_at"), "run", ["due_at"], sqlite_where=_DUE, postgresql_where=_DUE)
    # Runs that were parked before are looked at once: nothing says which of them can go on.
    op.execute("UPDATE run SET due_at = created_at WHERE status = 'waiting' AND parent_id IS NULL")
    op.create_table(
        "wait",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("step_id", sa.String(), nullable=False),
        sa.Column("item", sa.Integer(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("pattern", sa.String(), nullable=True),
        sa.Column("condition", sa.Text(), nullable=True),
        sa.Column("names", _JSON, nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("event_key", sa.String(), nullable=True),
        sa.Column("event", _JSON, nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_wait_run_id_run")),
        sa.ForeignKeyConstraint(["workspace"], ["workspace.id"], name=op.f("fk_wait_workspace_workspace")),
        sa.PrimaryKeyConstraint("run_id", "step_id", "item", name=op.f("pk_wait")),
    )
    op.create_index(
        op.f("ix_wait_workspace_pattern"),
        "wait",
        ["workspace", "pattern"],
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )


def downgrade() -> None:
    op.drop_table("wait")
    op.drop_index(op.f("ix_run_due_at"), "run")
    op.drop_column("run", "due_at")
