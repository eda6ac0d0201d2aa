"""The policies of workspaces, the one that each attempt was made under, and the code that waits for its slot."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(sa.Text(), "sqlite")
_CODE_GOES_ON = sa.text("code_workspace IS NOT NULL AND status = 'running'")


def upgrade() -> None:
    op.create_table(
        "workspace_policy",
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("document", _JSON, nullable=False),
        sa.Column("set_by", sa.String(), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["workspace"], ["workspace.id"], name=op.f("fk_workspace_policy_workspace_workspace")),
        sa.PrimaryKeyConstraint("workspace", "number", name=op.f("pk_workspace_policy")),
    )
    op.add_column("step_run", sa.Column("policy", sa.Integer(), nullable=True))
    op.add_column("step_run", sa.Column("code_workspace", sa.String(), nullable=True))
    op.add_column("step_run", sa.Column("code_began_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_step_run_code",
        "step_run",
        ["code_workspace", "id"],
        sqlite_where=_CODE_GOES_ON,
        postgresql_where=_CODE_GOES_ON,
    )


def downgrade() -> None:
    op.drop_index("ix_step_run_code", table_name="step_run")
    op.drop_column("step_run", "code_began_at")
    op.drop_column("step_run", "code_workspace")
    op.drop_column("step_run", "policy")
    op.drop_table("workspace_policy")
