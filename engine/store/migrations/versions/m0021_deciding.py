"""Questions about flow versions, who asks and who may decide, and the notices of questions."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(sa.Text(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_NOT_REVOKED = sa.text("revoked_at IS NULL")
_UNANNOUNCED = sa.text("NOT announced")
_DUE = sa.text("due_at IS NOT NULL")


def upgrade() -> None:
    with op.batch_alter_table("approval") as approval:
        approval.alter_column("run_id", existing_type=sa.String(), nullable=True)
        approval.add_column(sa.Column("kind", sa.String(), nullable=False, server_default="step"))
        approval.add_column(sa.Column("flow", sa.String(), nullable=False, server_default=""))
        approval.add_column(sa.Column("flow_version_id", sa.String(), nullable=True))
        approval.add_column(sa.Column("own", sa.String(), nullable=True))
        approval.add_column(sa.Column("requesters", _JSON, nullable=True))
        approval.add_column(sa.Column("notify", _JSON, nullable=True))
        approval.add_column(sa.Column("announced", sa.Boolean(), nullable=False, server_default=sa.true()))
        approval.add_column(sa.Column("decided_via", sa.String(), nullable=True))
        approval.add_column(sa.Column("revoked_at", _TIME, nullable=True))
        approval.add_column(sa.Column("revoked_by", sa.String(), nullable=True))
        approval.create_foreign_key(
            op.f("fk_approval_flow_version_id_flow_version"), "flow_version", ["flow_version_id"], ["id"]
        )
    op.execute("UPDATE approval SET kind = 'tool' WHERE subject <> ''")
    op.execute("UPDATE approval SET flow = (SELECT run.flow FROM run WHERE run.id = approval.run_id)")
    op.create_index(
        "ix_approval_of_version",
        "approval",
        ["flow_version_id"],
        unique=True,
        sqlite_where=_NOT_REVOKED,
        postgresql_where=_NOT_REVOKED,
    )
    op.create_index(
        "ix_approval_unannounced", "approval", ["id"], sqlite_where=_UNANNOUNCED, postgresql_where=_UNANNOUNCED
    )
    op.create_table(
        "approval_notice",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("approval_id", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("due_at", _TIME, nullable=True),
        sa.Column("sent_at", _TIME, nullable=True),
        sa.Column("dropped", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["approval_id"], ["approval.id"], name=op.f("fk_approval_notice_approval_id_approval")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approval_notice")),
        sa.UniqueConstraint("approval_id", "target", name=op.f("uq_approval_notice_approval_id_target")),
    )
    op.create_index(
        op.f("ix_approval_notice_due_at"), "approval_notice", ["due_at"], sqlite_where=_DUE, postgresql_where=_DUE
    )


def downgrade() -> None:
    op.drop_table("approval_notice")
    op.execute("DELETE FROM approval WHERE run_id IS NULL")
    op.drop_index("ix_approval_unannounced", table_name="approval")
    op.drop_index("ix_approval_of_version", table_name="approval")
    with op.batch_alter_table("approval") as approval:
        approval.drop_constraint(op.f("fk_approval_flow_version_id_flow_version"), type_="foreignkey")
        for column in ("kind", "flow", "flow_version_id", "own", "requesters", "notify", "announced"):
            approval.drop_column(column)
        for column in ("decided_via", "revoked_at", "revoked_by"):
            approval.drop_column(column)
        approval.alter_column("run_id", existing_type=sa.String(), nullable=False)
