"""What the doors show of policies, as JSON documents."""

from engine.service.policy import PolicyChange
from engine.workspace_policy import PolicyVersion
from flows.values import Json


def policy_document(version: PolicyVersion) -> dict[str, Json]:
    """A version of a policy: ``number`` 0 where nobody has set one; times are ISO 8601 in UTC."""
    return {
        "workspace": version.workspace,
        "number": version.number,
        "policy": dict(version.document),
        "set_by": version.set_by,
        "set_at": None if version.set_at is None else version.set_at.isoformat(),
    }


def policy_change_document(change: PolicyChange) -> dict[str, Json]:
    """What setting a policy did, or would do: ``number`` is then 0."""
    return {
        **policy_document(change.version),
        "previous": change.previous,
        "change": change.change,
        "diff": change.diff,
    }
