"""Events, what became of them at each trigger, and where triggers stand."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_PAYLOAD = sa.JSON().with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "event",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=True),
        sa.Column("data", _PAYLOAD, nullable=False),
        sa.Column("causes", _PAYLOAD, nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["workspace"], ["workspace.id"], name=op.f("fk_event_workspace_workspace")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
        sa.UniqueConstraint("workspace", "origin", "key", name=op.f("uq_event_workspace_origin_key")),
    )
    op.create_index(op.f("ix_event_workspace_id"), "event", ["workspace", "id"], unique=False)
    op.create_table(
        "delivery",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("flow", sa.String(), nullable=False),
        sa.Column("flow_version_id", sa.String(), nullable=False),
        sa.Column("trigger_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("error", _PAYLOAD, nullable=True),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["event.id"], name=op.f("fk_delivery_event_id_event")),
        sa.ForeignKeyConstraint(["workspace"], ["workspace.id"], name=op.f("fk_delivery_workspace_workspace")),
        sa.ForeignKeyConstraint(
            ["flow_version_id"], ["flow_version.id"], name=op.f("fk_delivery_flow_version_id_flow_version")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_delivery_run_id_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
        sa.UniqueConstraint("event_id", "flow", "trigger_id", name=op.f("uq_delivery_event_id_flow_trigger_id")),
    )
    for columns in (
        ["status", "due_at"],
        ["workspace", "id"],
        ["workspace", "flow", "id"],
        ["workspace", "status", "id"],
        ["flow_version_id"],
        ["run_id"],
    ):
        op.create_index(op.f(f"ix_delivery_{'_'.join(columns)}"), "delivery", columns, unique=False)
    op.create_table(
        "trigger_state",
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("flow", sa.String(), nullable=False),
        sa.Column("trigger_id", sa.String(), nullable=False),
        sa.Column("moves", sa.Integer(), nullable=False),
        sa.Column("position", _PAYLOAD, nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["workspace"], ["workspace.id"], name=op.f("fk_trigger_state_workspace_workspace")),
        sa.PrimaryKeyConstraint("workspace", "flow", "trigger_id", name=op.f("pk_trigger_state")),
    )
