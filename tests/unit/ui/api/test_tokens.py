"""Tokens over the API: they open what they should, until they are revoked or have expired."""

from datetime import UTC, datetime, timedelta

from engine.principals import TokenScope
from engine.tokens import issue
from flows.values import Json
from tests.unit.ui.api.conftest import Api


async def status_with(api: Api, token: str) -> int:
    answer = await api.client.get("/api/v1/flows", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code


def without_use(token: Json) -> Json:
    return {name: value for name, value in token.items() if name != "last_used_at"}


async def test_a_token_works_until_it_is_revoked(api: Api) -> None:
    await api.call("POST", "/principals", 201, json={"name": "ci", "role": "editor"})
    made = await api.call("POST", "/tokens", 201, json={"name": "ci"})
    token = made.pop("token")
    assert token.startswith(f"stp_{made['token_id']}_")
    assert await status_with(api, token) == 200
    listed = (await api.call("GET", "/tokens"))["items"]
    assert [one["name"] for one in listed] == ["admin", "ci"]
    assert without_use(listed[1]) == without_use(made)
    assert listed[1]["last_used_at"] is not None
    assert token not in str(listed)
    revoked = await api.call("DELETE", f"/tokens/{made['token_id']}")
    assert revoked["revoked_at"] is not None
    assert await status_with(api, token) == 401
    await api.call("DELETE", "/tokens/nothing", 404)


async def test_neither_half_of_a_token_opens_anything(api: Api) -> None:
    await api.call("POST", "/principals", 201, json={"name": "ci", "role": "editor"})
    token = (await api.call("POST", "/tokens", 201, json={"name": "ci"}))["token"]
    for wrong in (token[:-1], token[:-1] + ("x" if token[-1] != "x" else "y"), token.upper(), token.split("_", 2)[2]):
        assert await status_with(api, wrong) == 401
    assert await status_with(api, token) == 200


async def test_a_token_expires(api: Api) -> None:
    await api.call("POST", "/principals", 201, json={"name": "ci", "role": "editor"})
    store, now = api.serving._store, datetime.now(UTC)
    for expires_at, status in ((now - timedelta(seconds=1), 401), (now + timedelta(hours=1), 200)):
        issued = await issue(store, await store.principals.find("ci"), TokenScope(expires_at=expires_at))
        assert await status_with(api, issued.text) == status
    later = {"name": "ci", "expires_at": "2130-01-01T01:00:00+01:00"}
    assert (await api.call("POST", "/tokens", 201, json=later))["expires_at"] == "2130-01-01T00:00:00Z"
    past = {"name": "ci", "expires_at": "2020-01-01T00:00:00Z"}
    assert (await api.call("POST", "/tokens", 422, json=past))["code"] == "invalid_call"
    for wrong in ({"name": "C I"}, {"name": "ci", "expires_at": "2030-01-01T00:00:00"}, {}):
        await api.call("POST", "/tokens", 422, json=wrong)
