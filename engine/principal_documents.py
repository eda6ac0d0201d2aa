"""Principals, tokens and workspaces as JSON, for every door; times are ISO 8601 in UTC."""

from datetime import datetime

from engine.principals import PrincipalRecord, TokenRecord
from engine.workspaces import Workspace
from flows.values import Json


def principal_document(one: PrincipalRecord) -> dict[str, Json]:
    """Who may act, with what it is granted; an admin isn't limited by that."""
    return {
        "name": one.name,
        "workspace": one.workspace,
        "kind": one.kind,
        "role": one.role,
        "enabled": one.is_enabled,
        "created_at": one.created_at.isoformat(),
        "disabled_at": _time(one.disabled_at),
        "grants": [
            {
                "kind": grant.kind,
                "pattern": grant.pattern,
                "granted_by": grant.granted_by,
                "granted_at": grant.granted_at.isoformat(),
            }
            for grant in one.grants
        ],
    }


def token_document(token: TokenRecord) -> dict[str, Json]:
    """What is known of a token, whose text nobody can read again."""
    return {
        "token_id": token.id,
        "name": token.principal,
        "role": token.role,
        "workspace": token.workspace,
        "scopes": list(token.scopes),
        "only_flows": list(token.only_flows),
        "created_at": token.created_at.isoformat(),
        "expires_at": _time(token.expires_at),
        "revoked_at": _time(token.revoked_at),
        "disabled_at": _time(token.disabled_at),
        "last_used_at": _time(token.last_used_at),
    }


def workspace_document(one: Workspace) -> dict[str, Json]:
    """A workspace."""
    return {"name": one.name, "created_at": one.created_at.isoformat()}


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
