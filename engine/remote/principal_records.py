"""The documents of the API on principals, tokens and workspaces as the values that they were made from."""

from collections.abc import Mapping
from datetime import datetime

from engine.principals import Grant, PrincipalRecord, TokenRecord
from engine.workspaces import Workspace
from flows.values import Json


def principal(one: Mapping[str, Json]) -> PrincipalRecord:
    return PrincipalRecord(
        id="",
        workspace=one["workspace"],
        name=one["name"],
        kind=one["kind"],
        role=one["role"],
        created_at=datetime.fromisoformat(one["created_at"]),
        disabled_at=_time(one["disabled_at"]),
        grants=tuple(
            Grant(
                kind=each["kind"],
                pattern=each["pattern"],
                granted_by=each["granted_by"],
                granted_at=datetime.fromisoformat(each["granted_at"]),
            )
            for each in one["grants"]
        ),
    )


def token(one: Mapping[str, Json]) -> TokenRecord:
    return TokenRecord(
        id=one["token_id"],
        workspace=one["workspace"],
        principal_id="",
        principal=one["name"],
        role=one["role"],
        digest="",
        scopes=tuple(one["scopes"]),
        only_flows=tuple(one["only_flows"]),
        disabled_at=_time(one["disabled_at"]),
        created_at=datetime.fromisoformat(one["created_at"]),
        expires_at=_time(one["expires_at"]),
        revoked_at=_time(one["revoked_at"]),
        last_used_at=_time(one["last_used_at"]),
    )


def workspace(one: Mapping[str, Json]) -> Workspace:
    return Workspace(name=one["name"], created_at=datetime.fromisoformat(one["created_at"]))


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
